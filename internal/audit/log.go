package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// Bounds of an entry, in bytes: people and agents choose what is in it, and it
// is kept for ever.
const (
	maxField     = 1 << 10  // names, ids and reasons are shorter
	maxDetail    = 64 << 10 // of JSON; a query's text is rarely a tenth of it
	maxApprovals = 16
)

// Caller is who makes a request, as far as its listener knows.
type Caller struct {
	Session string // short id, never the secret
	Address string
}

type callerKey struct{}

// WithCaller returns a context whose entries tell the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller in a context; the zero one if there is none.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Log writes entries. Safe for concurrent use.
type Log struct {
	store    Store
	now      func() time.Time
	refusals refusals

	flushing sync.Mutex
	due      []Entry // counts of refusals that are to be kept; under flushing
}

// NewLog returns a Log on a store.
func NewLog(store Store, now func() time.Time) *Log { return &Log{store: store, now: now} }

// Record keeps one entry durably; detail may be nil. Do not act when it fails.
func (l *Log) Record(ctx context.Context, actor, action, target string, detail any) error {
	_, err := l.Append(ctx, Entry{Actor: actor, Action: action, Target: target}, detail)
	return err
}

// Append is Record for entries with an object, a reason or approvals. Time,
// session and address are filled in; detail, which may be nil, becomes
// e.Detail. Do not act when it fails.
func (l *Log) Append(ctx context.Context, e Entry, detail any) (Entry, error) {
	e, err := l.entry(ctx, e, detail)
	if err != nil {
		return Entry{}, err
	}
	return l.store.AppendAudit(ctx, e)
}

// Refused keeps that an action was refused, by permission, by policy, by a
// freeze or because nobody approved it. What is refused again and again is
// counted instead; see refusals. The refusal stands, whether or not it can be
// kept.
func (l *Log) Refused(ctx context.Context, actor, action, target, reason string, detail any) error {
	e, err := l.entry(ctx, Entry{Actor: actor, Action: action, Target: target, Outcome: Refused, Reason: reason}, detail)
	if err != nil {
		return err
	}
	if !l.refusals.admit(e) {
		return nil
	}
	_, err = l.store.AppendAudit(ctx, e)
	return err
}

// Flush keeps the counts of refusals that are a minute old. Call it every few
// seconds.
func (l *Log) Flush(ctx context.Context) error {
	return l.flush(ctx, l.refusals.since(l.now().Add(-refusalWindow)))
}

// Close keeps the counts of all refusals.
func (l *Log) Close(ctx context.Context) error {
	return l.flush(ctx, l.refusals.since(l.now()))
}

// maxDue bounds the counts that wait while the log cannot be written.
const maxDue = 1000

func (l *Log) flush(ctx context.Context, counts []Entry) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.due = append(l.due, counts...)
	l.due = l.due[:min(len(l.due), maxDue)]
	for len(l.due) > 0 {
		e := l.due[0]
		e.Time = l.moment()
		if _, err := l.store.AppendAudit(ctx, e); err != nil {
			return err
		}
		l.due = l.due[1:]
	}
	return nil
}

// moment is the time of an entry, as precise as it is kept.
func (l *Log) moment() time.Time { return l.now().UTC().Truncate(time.Microsecond) }

// entry completes an entry and keeps it within its bounds.
func (l *Log) entry(ctx context.Context, e Entry, detail any) (Entry, error) {
	caller := CallerOf(ctx)
	e.Time, e.Session, e.Address = l.moment(), caller.Session, caller.Address
	e.Outcome = cmp.Or(e.Outcome, Done)
	for _, f := range []*string{&e.Actor, &e.Session, &e.Address, &e.Action, &e.Target, &e.Object, &e.ContentHash, &e.Reason} {
		*f = clip(*f)
	}
	if len(e.Approvals) > maxApprovals {
		return e, errs.Field("approvals", "are more than %d; an action needs no more", maxApprovals)
	}
	approvals := make([]string, 0, len(e.Approvals))
	for _, name := range e.Approvals {
		approvals = append(approvals, clip(name))
	}
	e.Approvals = approvals
	if detail == nil {
		return e, nil
	}
	b, err := json.Marshal(detail)
	if err != nil {
		return e, err
	}
	e.lift(b)
	e.ContentHash = cmp.Or(e.ContentHash, hashOf(b))
	if e.Detail = string(b); len(b) > maxDetail {
		e.Detail = fmt.Sprintf(`{"omitted_bytes":%d,"sha256":%q}`, len(b), hashOf(b))
	}
	return e, nil
}

// lift takes what a detail says under the names of the entry's own fields, so
// that people find it there: a reason, the hash of the content, and who approved.
func (e *Entry) lift(detail []byte) {
	var said struct {
		Reason    string `json:"reason"`
		Hash      string `json:"hash"`
		Approvals []struct {
			By string `json:"by"`
		} `json:"approvals"`
	}
	if json.Unmarshal(detail, &said) != nil {
		return // it says something else by these names
	}
	e.Reason, e.ContentHash = cmp.Or(e.Reason, clip(said.Reason)), cmp.Or(e.ContentHash, clip(said.Hash))
	for _, a := range said.Approvals {
		if len(e.Approvals) < maxApprovals {
			e.Approvals = append(e.Approvals, clip(a.By))
		}
	}
}

// clip makes UTF-8 of s, as in JSON, which is hashed, all bytes that are not
// look alike, and shortens it to what an entry holds.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxField {
		return s
	}
	const mark = "…"
	end := maxField - len(mark)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
