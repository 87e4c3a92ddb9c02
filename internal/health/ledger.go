package health

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Bounds of what one node can make the server keep.
const (
	maxOpen    = 64  // findings of one node; queries and flags have a finding each
	maxSubject = 256 // bytes
	maxText    = 512 // bytes
)

// ledger holds what is open. Not safe for concurrent use.
type ledger struct {
	open    map[Key]*Finding
	of      map[string]map[Key]*Finding // the same by node
	dirty   map[Key]Finding             // to be kept: transitions, and what was seen again
	changed []Finding                   // that opened or closed, in order
}

func newLedger() *ledger {
	return &ledger{open: map[Key]*Finding{}, of: map[string]map[Key]*Finding{}, dirty: map[Key]Finding{}}
}

// take takes up a finding that is kept.
func (l *ledger) take(f Finding) {
	if f.Closed.IsZero() {
		l.add(&f)
	}
	if !f.Told {
		l.changed = append(l.changed, f)
	}
}

func (l *ledger) add(f *Finding) {
	k := f.Key()
	l.open[k] = f
	if l.of[k.NodeID] == nil {
		l.of[k.NodeID] = map[Key]*Finding{}
	}
	l.of[k.NodeID][k] = f
}

// see opens a finding, or notes that it was seen again. Without a hold it is open
// until clear; with one it closes so long after it was seen last.
func (l *ledger) see(k Key, text string, at time.Time, hold time.Duration) {
	k.Subject = bounded(k.Subject, maxSubject)
	f, known := l.open[k]
	switch {
	case known && !at.After(f.Last):
		return // a message that comes again, or more of the same
	case !known && len(l.of[k.NodeID]) >= maxOpen:
		return
	case !known:
		f = &Finding{NodeID: k.NodeID, Kind: k.Kind, Subject: k.Subject, Severity: k.Kind.severity(), Text: bounded(text, maxText), Opened: at}
		l.add(f)
	}
	f.Last, f.Count = at, f.Count+1
	if hold > 0 {
		f.Until = at.Add(hold)
	}
	if known {
		l.dirty[k] = *f
		return
	}
	l.changed = append(l.changed, *f)
}

// moment notes what is over as it happens.
func (l *ledger) moment(k Key, text string, at time.Time) {
	k.Subject = bounded(k.Subject, maxSubject)
	f := Finding{
		NodeID: k.NodeID, Kind: k.Kind, Subject: k.Subject, Severity: k.Kind.severity(), Text: bounded(text, maxText),
		Opened: at, Last: at, Count: 1, Closed: at,
	}
	l.changed = append(l.changed, f)
}

// clear closes a finding, if it is open.
func (l *ledger) clear(k Key, at time.Time) {
	f := l.open[k]
	if f == nil {
		return
	}
	if !at.After(f.Opened) {
		at = f.Opened.Add(time.Microsecond) // else it looks like a moment
	}
	f.Closed, f.Told = at, false
	l.changed = append(l.changed, *f)
	delete(l.dirty, k)
	delete(l.open, k)
	delete(l.of[k.NodeID], k)
	if len(l.of[k.NodeID]) == 0 {
		delete(l.of, k.NodeID)
	}
}

// lapse closes what was not seen for its time.
func (l *ledger) lapse(now time.Time) {
	for k, f := range l.open {
		if !f.Until.IsZero() && !now.Before(f.Until) {
			l.clear(k, now)
		}
	}
}

// set opens or closes by a condition that is looked at again and again, without
// counting.
func (l *ledger) set(k Key, holds bool, text string, now time.Time) {
	switch {
	case !holds:
		l.clear(k, now)
	case l.open[k] == nil:
		l.see(k, text, now, 0)
	}
}

// flush keeps what changed and tells of it: kept first, so that nobody is told of
// what is forgotten by a crash; told at least once. After an error all of it is
// still to be done.
func (l *ledger) flush(ctx context.Context, s Store, t Teller) error {
	changed := l.changed
	keep := slices.Clone(changed)
	for _, k := range slices.SortedFunc(maps.Keys(l.dirty), compareKeys) {
		keep = append(keep, l.dirty[k])
	}
	if len(keep) == 0 {
		return nil
	}
	if err := s.SaveFindings(ctx, newest(keep)); err != nil {
		return err
	}
	clear(l.dirty)
	if len(changed) == 0 {
		return nil
	}
	if err := t.TellFindings(ctx, changed); err != nil {
		if errs.Is(err, errs.Busy) {
			return nil // the stream is full: they are told later, and it is emptied meanwhile
		}
		return err
	}
	told := make([]Finding, len(changed))
	for i, c := range changed {
		if f := l.open[c.Key()]; f != nil && f.Opened.Equal(c.Opened) {
			f.Told = true
			c = *f
		}
		c.Told = true
		told[i] = c
	}
	l.changed = nil
	return s.SaveFindings(ctx, newest(told))
}

// newest leaves out what a later one of the same finding replaces.
func newest(findings []Finding) []Finding {
	type id struct {
		Key

		opened int64
	}
	last := make(map[id]int, len(findings))
	for i, f := range findings {
		last[id{f.Key(), f.Opened.UnixMicro()}] = i
	}
	list := make([]Finding, 0, len(last))
	for i, f := range findings {
		if last[id{f.Key(), f.Opened.UnixMicro()}] == i {
			list = append(list, f)
		}
	}
	return list
}

func compareKeys(a, b Key) int {
	if c := strings.Compare(a.NodeID, b.NodeID); c != 0 {
		return c
	}
	if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
		return c
	}
	return strings.Compare(a.Subject, b.Subject)
}

// bounded returns a text of at most so many bytes.
func bounded(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
