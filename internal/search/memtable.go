package search

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// memtable holds the events that no segment has yet. One goroutine at a time
// appends; what was handed out by parts stays valid and unchanged, so that
// searches read it without a lock.
type memtable struct {
	parts map[partition]*part
	// last is the stream sequence of the last message, be it without events.
	last        uint64
	since       time.Time // when the first message came
	rows        int
	bytes       int64
	minReceived int64
	arena       []byte // the current chunk
	texts       map[string][]byte
	tags        map[string]*tagSet // by the JSON array
}

// tagSet is tags in both forms.
type tagSet struct {
	words []string
	array []byte // JSON
}

func (t *tagSet) list() []string {
	if t == nil {
		return nil
	}
	return t.words
}

// partition is what one segment is of.
type partition struct {
	day   string
	query string
}

// part is the events of one partition, in order of arrival.
type part struct {
	partition
	entries []entry
}

// stamp is what events in a row share, which those of one log line do. Times
// are in microseconds.
type stamp struct {
	nodeID         []byte
	host           []byte
	decorations    []byte  // nil for none
	tags           *tagSet // nil for none
	action         []byte
	received       int64
	revision       int64
	seq            uint64
	time           int64
	agentTime      int64
	epoch, counter int64
	line           uint64
}

// entry is an event.
type entry struct {
	*stamp
	columns []byte
	index   uint32
}

const (
	arenaChunk = 256 << 10
	// entryOverhead and stampOverhead are about what they cost beside texts.
	entryOverhead = 64
	stampOverhead = 160
	// maxTexts bounds how many texts are kept to share them.
	maxTexts = 4096
)

func newMemtable() *memtable {
	return &memtable{parts: map[partition]*part{}, texts: map[string][]byte{}, tags: map[string]*tagSet{}}
}

// add copies the events of a message.
func (m *memtable) add(seq uint64, batches []event.Batch, now time.Time) {
	if m.last == 0 {
		m.since = now
	}
	m.last = seq
	var index uint32
	for i := range batches {
		b := &batches[i]
		if len(b.Events) == 0 {
			continue
		}
		s := &stamp{nodeID: m.share(b.NodeID), host: m.share(b.HostIdentifier), tags: m.shareTags(b.Tags), received: b.Received.UnixMicro(), revision: b.Revision, seq: seq}
		if m.rows == 0 || s.received < m.minReceived {
			m.minReceived = s.received
		}
		day := dayOf(s.received)
		var p *part
		for j := range b.Events {
			ev := &b.Events[j]
			if p == nil || p.query != ev.Query {
				p = m.part(day, ev.Query)
			}
			if j == 0 || !s.fits(ev) {
				s = m.stamp(s, ev)
			}
			p.entries = append(p.entries, entry{stamp: s, columns: m.keep(ev.Columns), index: index})
			index++
			m.rows++
			m.bytes += int64(len(ev.Columns)) + entryOverhead
		}
	}
}

// fits reports whether the stamp is the event's.
func (s *stamp) fits(ev *event.Event) bool {
	return s.line == ev.Line && s.agentTime == ev.AgentTime && s.time == ev.Time.UnixMicro() && s.epoch == ev.Epoch && s.counter == ev.Counter &&
		string(s.action) == ev.Action && bytes.Equal(s.decorations, ev.Decorations)
}

// stamp returns one for the event, of the same batch as another.
func (m *memtable) stamp(of *stamp, ev *event.Event) *stamp {
	m.bytes += stampOverhead
	return &stamp{
		nodeID: of.nodeID, host: of.host, tags: of.tags, received: of.received, revision: of.revision, seq: of.seq,
		time: ev.Time.UnixMicro(), agentTime: ev.AgentTime, epoch: ev.Epoch, counter: ev.Counter, line: ev.Line,
		action: m.share(ev.Action), decorations: m.shareBytes(ev.Decorations),
	}
}

func (m *memtable) part(day, query string) *part {
	key := partition{day, query}
	p := m.parts[key]
	if p == nil {
		key.query = strings.Clone(query)
		p = &part{partition: key}
		m.parts[key] = p
	}
	return p
}

// keep copies b into the arena, whose chunks are never moved.
func (m *memtable) keep(b []byte) []byte {
	if len(b) > arenaChunk/4 {
		return bytes.Clone(b)
	}
	if len(m.arena)+len(b) > cap(m.arena) {
		m.arena = make([]byte, 0, arenaChunk)
	}
	from := len(m.arena)
	m.arena = append(m.arena, b...)
	return m.arena[from:len(m.arena):len(m.arena)]
}

// share returns a copy of s as valid UTF-8, the same for equal texts.
func (m *memtable) share(s string) []byte {
	if t, ok := m.texts[s]; ok {
		return t
	}
	t := []byte(event.ValidText(s))
	m.bytes += int64(len(t))
	if len(m.texts) < maxTexts {
		m.texts[strings.Clone(s)] = t
	}
	return t
}

// shareBytes is share for b; nil for nothing.
func (m *memtable) shareBytes(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if t, ok := m.texts[string(b)]; ok {
		return t
	}
	return m.share(string(b))
}

// shareTags returns the same for equal tags; nil for none.
func (m *memtable) shareTags(tags []string) *tagSet {
	array := event.EncodeTags(tags)
	if array == nil {
		return nil
	}
	if t, ok := m.tags[string(array)]; ok {
		return t
	}
	t := &tagSet{words: event.DecodeTags(array), array: array}
	m.bytes += 2 * int64(len(array))
	if len(m.tags) < maxTexts {
		m.tags[string(array)] = t
	}
	return t
}

// snapshot returns the parts whose query passes, as they are now.
func (m *memtable) snapshot(dst []part, query func(string) bool) []part {
	for _, p := range m.parts {
		if query(p.query) {
			dst = append(dst, *p)
		}
	}
	return dst
}

// sorted returns the parts in the order of their files.
func (m *memtable) sorted() []*part {
	parts := make([]*part, 0, len(m.parts))
	for _, p := range m.parts {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b *part) int {
		return cmp.Or(strings.Compare(a.day, b.day), strings.Compare(a.query, b.query))
	})
	return parts
}

// order returns the entries' numbers in the order of a search, newest first.
// The entries stay where they are, since searches may be reading them.
func (p *part) order() []int32 {
	order := make([]int32, len(p.entries))
	for i := range order {
		order[i] = int32(len(order) - 1 - i) //nolint:gosec // a memtable is far smaller
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return p.entries[a].place().compare(p.entries[b].place())
	})
	return order
}

// place is an event.Position in microseconds.
type place struct {
	time  int64
	seq   uint64
	index uint32
}

func placeOf(p event.Position) place { return place{p.Time.UnixMicro(), p.Seq, p.Index} }

// compare is negative when p comes before q in a search, newest first.
func (p place) compare(q place) int {
	if c := cmp.Compare(q.time, p.time); c != 0 {
		return c
	}
	if c := cmp.Compare(q.seq, p.seq); c != 0 {
		return c
	}
	return cmp.Compare(q.index, p.index)
}

func (e *entry) place() place { return place{e.time, e.seq, e.index} }

// fill makes a row of the event.
func (e *entry) fill(r *event.Row, query string) {
	r.Reset()
	r.NodeID, r.HostIdentifier, r.Query, r.Action = event.Peek(e.nodeID), event.Peek(e.host), query, event.Peek(e.action)
	r.Time, r.Received, r.AgentTime, r.Epoch, r.Counter, r.Revision = e.time, e.received, e.agentTime, e.epoch, e.counter, e.revision
	r.Tags, r.Columns, r.Decorations = e.tags.list(), e.columns, e.decorations
}

// record returns the event as a search gives it.
func (e *entry) record(query string, o *event.Object) event.Record {
	columns := []byte("{}")
	if pairs, ok := o.Read(e.columns); ok {
		columns = event.AppendObject(make([]byte, 0, len(e.columns)), pairs)
		o.Reset()
	} else if len(e.columns) > 0 {
		columns = bytes.Clone(e.columns)
	}
	r := event.Record{
		Event: event.Event{
			Time: time.UnixMicro(e.time).UTC(), AgentTime: e.agentTime, Query: query, Action: string(e.action),
			Epoch: e.epoch, Counter: e.counter, Line: e.line, Columns: columns,
		},
		NodeID: string(e.nodeID), HostIdentifier: string(e.host), Received: time.UnixMicro(e.received).UTC(),
		Tags: slices.Clone(e.tags.list()), Revision: e.revision, Seq: e.seq, Index: e.index,
	}
	if e.decorations != nil {
		r.Decorations = bytes.Clone(e.decorations)
	}
	return r
}
