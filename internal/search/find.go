package search

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// MaxResults is the most events that one search returns, whatever its limit
// says; Filter.Before continues it.
const MaxResults = 10_000

// view is what a search sees: the memtables and segments of one moment.
type view struct {
	parts    []part
	segments []*segment
}

// look takes a view, of what can pass the filter only. The caller releases it.
func (e *Engine) look(f *filter) (*view, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, errClosed
	}
	v := &view{parts: e.mem.snapshot(nil, f.matchesQuery)}
	if e.frozen != nil {
		v.parts = e.frozen.snapshot(v.parts, f.matchesQuery)
	}
	for _, s := range e.segments {
		if f.overlaps(s.MinTime, s.MaxTime) && f.matchesQuery(string(s.Query)) {
			s.retain()
			v.segments = append(v.segments, s)
		}
	}
	return v, nil
}

func (v *view) release() {
	for _, s := range v.segments {
		s.release()
	}
}

// candidate is an event found: in a memtable, or in a row group.
type candidate struct {
	place place
	part  *part
	entry int
	seg   *segment
	group int
	row   int32
}

// newest keeps the newest candidates seen, the oldest of them at the root.
type newest struct {
	limit int
	kept  []candidate
}

func (n *newest) Len() int           { return len(n.kept) }
func (n *newest) Less(i, j int) bool { return n.kept[i].place.compare(n.kept[j].place) > 0 }
func (n *newest) Swap(i, j int)      { n.kept[i], n.kept[j] = n.kept[j], n.kept[i] }

// Push implements heap.Interface.
func (n *newest) Push(x any) {
	if c, ok := x.(candidate); ok {
		n.kept = append(n.kept, c)
	}
}

// Pop implements heap.Interface.
func (n *newest) Pop() any {
	last := n.kept[len(n.kept)-1]
	n.kept = n.kept[:len(n.kept)-1]
	return last
}

func (n *newest) full() bool { return len(n.kept) == n.limit }

// offer keeps the candidate if it is among the newest; false means that it was
// not and that no older one will be.
func (n *newest) offer(c candidate) bool {
	if !n.full() {
		heap.Push(n, c)
		return true
	}
	if c.place.compare(n.kept[0].place) >= 0 {
		return false
	}
	n.kept[0] = c
	heap.Fix(n, 0)
	return true
}

// wants reports whether an event at the time could still be kept.
func (n *newest) wants(micros int64) bool { return !n.full() || micros >= n.kept[0].place.time }

// cursor is a segment and the next of its row groups to be searched.
type cursor struct {
	seg    *segment
	group  int
	latest int64 // the latest time that the rows to come can have
}

// cursors has the one with the latest rows at the root.
type cursors []cursor

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return c[i].latest > c[j].latest }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push implements heap.Interface.
func (c *cursors) Push(x any) {
	if v, ok := x.(cursor); ok {
		*c = append(*c, v)
	}
}

// Pop implements heap.Interface.
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// Search returns the events that pass, newest first by time and then by place
// in the stream, as of the moment of the call. A limit of 0, or one above
// MaxResults, means MaxResults; the last record's Position continues the search
// as Filter.Before. Times have microseconds. Columns come back with their names
// sorted.
//
// If a segment turns out to be damaged, the search fails with ErrCorrupt and
// the segment is taken out of service, so that the next search works without.
//
// It reads no more row groups than can hold a wanted event, only the columns
// that the filter names, and the rest for the events returned.
func (e *Engine) Search(ctx context.Context, f event.Filter) ([]event.Record, error) {
	r := newFilter(f)
	top := &newest{limit: f.Limit}
	if f.Limit <= 0 || f.Limit > MaxResults {
		top.limit = MaxResults
	}
	v, err := e.look(r)
	if err != nil {
		return nil, err
	}
	defer v.release()
	if err := searchParts(ctx, v.parts, r, top); err != nil {
		return nil, err
	}
	pending := make(cursors, 0, len(v.segments))
	for _, s := range v.segments {
		pending = append(pending, cursor{s, 0, min(s.MaxTime, r.latest())})
	}
	heap.Init(&pending)
	for len(pending) > 0 && top.wants(pending[0].latest) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := &pending[0]
		more, err := e.searchGroup(c, r, top)
		if err != nil {
			return nil, e.failed(ctx, c.seg, err)
		}
		if more {
			heap.Fix(&pending, 0)
		} else {
			heap.Pop(&pending)
		}
	}
	return e.materialise(ctx, top.kept)
}

func searchParts(ctx context.Context, parts []part, f *filter, top *newest) error {
	var o object
	for i := range parts {
		p := &parts[i]
		for j := range p.entries {
			if j%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			en := &p.entries[j]
			if top.wants(en.time) && f.matches(en, &o) {
				top.offer(candidate{place: en.place(), part: p, entry: j})
			}
		}
	}
	return nil
}

// searchGroup searches the cursor's next row group and moves on; it reports
// whether there is another.
func (e *Engine) searchGroup(c *cursor, f *filter, top *newest) (more bool, err error) {
	o, err := e.files.get(c.seg)
	if err != nil {
		return false, err
	}
	defer e.files.put(o)
	defer guard(&err, c.seg)
	g := &o.groups[c.group]
	rows, err := f.rows(o, g)
	if err != nil {
		return false, err
	}
	const batch = 128
	size := min(top.limit, batch) // what is read for nothing is at most as much again
	for len(rows) > 0 {
		n := min(size, len(rows))
		size *= 2
		places, err := readPlaces(o, g, rows[:n])
		if err != nil {
			return false, err
		}
		for i, p := range places {
			if f.follows(p) && !top.offer(candidate{place: p, seg: c.seg, group: c.group, row: rows[i]}) {
				return false, nil // all later rows are older
			}
		}
		rows = rows[n:]
	}
	c.latest, _ = bounds(o, g)
	c.group++
	return c.group < len(o.groups) && c.latest >= f.since, nil
}

// readPlaces reads where the listed rows stand.
func readPlaces(o *openFile, g *rowGroup, rows []int32) ([]place, error) {
	times, err := readInts(g.chunks[o.fixed.time], rows, make([]int64, 0, len(rows)))
	if err != nil {
		return nil, err
	}
	seqs, err := readInts(g.chunks[o.fixed.seq], rows, make([]int64, 0, len(rows)))
	if err != nil {
		return nil, err
	}
	indexes, err := readInts(g.chunks[o.fixed.index], rows, make([]int64, 0, len(rows)))
	if err != nil {
		return nil, err
	}
	places := make([]place, len(rows))
	for i := range rows {
		places[i] = place{times[i], uint64(seqs[i]), uint32(indexes[i])} //nolint:gosec // the bits are what counts
	}
	return places, nil
}

// materialise reads the candidates' events. Those of one row group are read
// together.
func (e *Engine) materialise(ctx context.Context, found []candidate) ([]event.Record, error) {
	slices.SortFunc(found, func(a, b candidate) int { return a.place.compare(b.place) })
	records := make([]event.Record, len(found))
	type key struct {
		seg   *segment
		group int
	}
	groups := map[key][]int{} // numbers of the candidates, ascending as their rows
	var o object
	for i, c := range found {
		if c.part != nil {
			records[i] = c.part.entries[c.entry].record(c.part.query, &o)
			continue
		}
		k := key{c.seg, c.group}
		groups[k] = append(groups[k], i)
	}
	for k, numbers := range groups {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rows := make([]int32, len(numbers))
		for i, n := range numbers {
			rows[i] = found[n].row
		}
		got, err := e.readRecords(k.seg, k.group, rows)
		if err != nil {
			return nil, e.failed(ctx, k.seg, err)
		}
		for i, n := range numbers {
			records[n] = got[i]
		}
	}
	return records, nil
}

// readRecords reads whole rows of a row group.
func (e *Engine) readRecords(s *segment, group int, rows []int32) (_ []event.Record, err error) {
	o, err := e.files.get(s)
	if err != nil {
		return nil, err
	}
	defer e.files.put(o)
	defer guard(&err, s)
	g := &o.groups[group]
	records := make([]event.Record, len(rows))
	places, err := readPlaces(o, g, rows)
	if err != nil {
		return nil, err
	}
	for i, p := range places {
		r := &records[i]
		r.Query = string(s.Query)
		r.Time, r.Seq, r.Index = time.UnixMicro(p.time).UTC(), p.seq, p.index
	}
	for place, set := range map[int]func(r *event.Record, v int64){
		o.fixed.received:  func(r *event.Record, v int64) { r.Received = time.UnixMicro(v).UTC() },
		o.fixed.epoch:     func(r *event.Record, v int64) { r.Epoch = v },
		o.fixed.counter:   func(r *event.Record, v int64) { r.Counter = v },
		o.fixed.line:      func(r *event.Record, v int64) { r.Line = uint64(v) }, //nolint:gosec // the bits are what counts
		o.fixed.revision:  func(r *event.Record, v int64) { r.Revision = v },
		o.fixed.agentTime: func(r *event.Record, v int64) { r.AgentTime = v },
	} {
		if place == missing {
			continue
		}
		values, err := readInts(g.chunks[place], rows, make([]int64, 0, len(rows)))
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			set(&records[i], v)
		}
	}
	for place, set := range map[int]func(r *event.Record, v []byte){
		o.fixed.node:   func(r *event.Record, v []byte) { r.NodeID = string(v) },
		o.fixed.host:   func(r *event.Record, v []byte) { r.HostIdentifier = string(v) },
		o.fixed.action: func(r *event.Record, v []byte) { r.Action = string(v) },
		o.fixed.tags:   func(r *event.Record, v []byte) { r.Tags = decodeTags(v) },
		o.fixed.decorations: func(r *event.Record, v []byte) {
			if v != nil {
				r.Decorations = slices.Clone(v)
			}
		},
	} {
		if place == missing {
			continue
		}
		values, err := readTexts(g.chunks[place], rows)
		if err != nil {
			return nil, err
		}
		for i := range records {
			set(&records[i], values.at(i))
		}
	}
	return records, readColumns(o, g, rows, records)
}

// readColumns restores the osquery columns of the rows.
func readColumns(o *openFile, g *rowGroup, rows []int32, records []event.Record) error {
	pairs := make([][]pair, len(rows))
	for c, place := range o.places {
		if !hasValues(g.chunks[place]) {
			continue
		}
		values, err := readTexts(g.chunks[place], rows)
		if err != nil {
			return err
		}
		name := []byte(o.columns[c])
		for i := range rows {
			if v := values.at(i); v != nil {
				pairs[i] = append(pairs[i], pair{name, v})
			}
		}
	}
	rest, err := readTexts(g.chunks[o.fixed.rest], rows)
	if err != nil {
		return err
	}
	var object object
	for i := range rows {
		text := rest.at(i)
		if text != nil {
			more, ok := object.read(text)
			if !ok && len(pairs[i]) == 0 { // never an object of strings: as it was
				records[i].Columns = slices.Clone(text)
				continue
			}
			pairs[i] = append(pairs[i], more...)
		}
		records[i].Columns = appendObject(nil, pairs[i])
	}
	return nil
}
