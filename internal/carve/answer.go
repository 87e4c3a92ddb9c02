package carve

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/osquery"
)

// Observe takes in what a node answered to the queries of carves; it is a
// live.Observer. What it hears twice changes nothing.
func (s *Service) Observe(ctx context.Context, q live.Query, a live.Answer) error {
	if q.Kind != live.Carve {
		return nil
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c := s.get(q.Source)
	if c == nil || c.NodeID != a.NodeID {
		return nil
	}
	switch q.ID {
	case c.LiveID:
		if c.State.Open() && c.AnsweredAt.IsZero() {
			return s.answered(ctx, c, a)
		}
	case c.CheckID:
		return s.checked(ctx, c, a)
	}
	return nil
}

// told is one row of the table carves, by the node's word.
type told struct {
	path, guid, request, status, sha256 string
	size                                int64
}

// maxTold bounds the rows that are looked at: the table may hold all that a node
// ever carved.
const maxTold = 1000

func rowsOf(a live.Answer) []told {
	rows := make([]told, 0, min(len(a.Rows), maxTold))
	for _, raw := range a.Rows[:min(len(a.Rows), maxTold)] {
		var r osquery.Row
		if json.Unmarshal(raw, &r) != nil {
			continue
		}
		m := r.Map()
		t := told{path: m["path"], guid: m["carve_guid"], request: m["request_id"], status: m["status"], sha256: strings.ToLower(m["sha256"])}
		t.size, _ = strconv.ParseInt(m["size"], 10, 64)
		if t.guid == "" || !goodName(t.guid) || !goodName(t.request) {
			continue
		}
		rows = append(rows, t)
	}
	return rows
}

// Messages that people read.
const (
	nothingThere = "the node found nothing there that it can read"
	noAnswer     = "the node answered nothing: there is no such file, or its carver is off (--disable_carver=false turns it on)"
)

// answered ties the archives to the names that the node gave them.
func (s *Service) answered(ctx context.Context, c *Carve, a live.Answer) error {
	c.AnsweredAt = a.ReceivedAt
	b := binding{s: s, c: c, changed: map[string]*Carve{c.ID: c}, named: map[int]bool{}}
	if a.State == live.Failed || a.State == live.Denylisted {
		why := "the node answered: " + clip(a.Message)
		for i := range c.Archives {
			if c.Archives[i].State == Asked {
				c.Archives[i].State, c.Archives[i].Message = Failed, why
			}
		}
		return s.save(ctx, c)
	}
	rows := rowsOf(a)
	for _, r := range rows {
		b.take(r)
	}
	for i := range c.Archives {
		if ar := &c.Archives[i]; ar.State == Asked && len(rows) > 0 {
			ar.State, ar.Message = Failed, nothingThere
		}
	}
	if len(rows) == 0 && c.State == Asked {
		c.State = Sent // old agents say nothing, and send
	}
	for _, id := range b.dropped {
		s.discard(ctx, id)
	}
	carves := make([]*Carve, 0, len(b.changed))
	for _, changed := range b.changed {
		carves = append(carves, changed)
	}
	return s.save(ctx, carves...)
}

// clip bounds what a node says before people read it.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " …"
	}
	return s
}

// binding ties rows to archives, and undoes guesses that were wrong.
type binding struct {
	s       *Service
	c       *Carve
	others  []*Carve // the node's other open ones, once they are needed
	changed map[string]*Carve
	named   map[int]bool // archives of c that a row was for
	dropped []string     // uploads that turned out to be nobody's
}

func (b *binding) take(r told) {
	i := b.slot(r)
	if i < 0 {
		return
	}
	b.named[i] = true
	a := &b.c.Archives[i]
	if a.GUID != r.guid {
		b.move(a, r.guid)
	}
	a.GUID, a.RequestID, a.Guessed = r.guid, r.request, false
	if a.State == Asked {
		a.State = Scheduled
	}
	if strings.Contains(r.status, "FAILED") && a.State == Scheduled {
		a.State, a.Message = Failed, "the node says: "+clip(r.status)
	}
}

// slot returns which archive a row is for: by its name if that is known, by
// path, or else the first that no row was for; -1 for none.
func (b *binding) slot(r told) int {
	byPath, left := -1, -1
	for i, a := range b.c.Archives {
		switch {
		case b.named[i]:
		case a.GUID == r.guid && !a.Guessed:
			return i
		case byPath < 0 && fits(a.Path, r.path):
			byPath = i
		case left < 0:
			left = i
		}
	}
	if byPath >= 0 {
		return byPath
	}
	return left
}

// move brings what came under a name to the archive that it is for, and what
// was there by a guess to where it may be for.
func (b *binding) move(to *Archive, guid string) {
	if b.others == nil {
		for _, c := range b.s.of(b.c.NodeID) {
			if c.ID != b.c.ID {
				b.others = append(b.others, c)
			}
		}
	}
	all := append([]*Carve{b.c}, b.others...)
	c, from := find(all, func(a *Archive) bool { return a != to && a.GUID == guid })
	if from == nil && to.GUID != "" {
		all = slices.DeleteFunc(all, b.s.untaken)
		c, from = find(all, func(a *Archive) bool { return a != to && a.GUID == "" })
	}
	if from != nil {
		b.changed[c.ID] = c
		*from, *to = swapped(*from, *to)
		return
	}
	if to.GUID != "" { // what came there is nobody's
		b.dropped = append(b.dropped, to.ID)
		*to = Archive{ID: ident.New(), N: to.N, Path: to.Path, State: Asked}
	}
}

// swapped exchanges the content of two archives; which path they are for stays.
func swapped(a, b Archive) (Archive, Archive) {
	a, b = b, a
	a.N, b.N, a.Path, b.Path = b.N, a.N, b.Path, a.Path
	return a, b
}

// checked compares archives with what the node says it sent, and fails those of
// which it says that it could not send them.
func (s *Service) checked(ctx context.Context, c *Carve, a live.Answer) error {
	rows := map[string]told{}
	for _, r := range rowsOf(a) {
		rows[r.guid] = r
	}
	c.CheckID = ""
	var failed []string
	for i := range c.Archives {
		ar := &c.Archives[i]
		r, known := rows[ar.GUID]
		switch {
		case ar.State == Done && ar.Verification == "":
			ar.compare(r, known)
		case known && strings.Contains(r.status, "FAILED") && (ar.State == Scheduled || ar.State == Uploading && !s.whole(ar.ID)):
			ar.State, ar.Message = Failed, "the node says: "+clip(r.status)
			failed = append(failed, ar.ID)
		}
	}
	if err := s.save(ctx, c); err != nil {
		return err
	}
	for _, id := range failed {
		s.discard(ctx, id)
	}
	return nil
}

func (s *Service) whole(archive string) bool {
	s.mu.RLock()
	u := s.uploads[archive]
	s.mu.RUnlock()
	return u != nil && u.received.Load() == u.sealed.Blocks()
}

// compare judges an archive by the node's row. The node does not hash what is
// larger than its --read_max, and says "-1".
func (a *Archive) compare(r told, known bool) {
	a.Verification = Unavailable
	if !known {
		return
	}
	if len(r.sha256) == len(a.SHA256) {
		a.AgentSHA256 = clip(r.sha256)
		a.Verification = Mismatch
		if r.sha256 == a.SHA256 {
			a.Verification = Matched
		}
	}
	if r.size > 0 && r.size != a.Size {
		a.Verification = Mismatch
	}
	if a.Verification == Mismatch {
		a.Message = "what came is not what the node says it sent"
	}
}
