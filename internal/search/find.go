package search

import (
	"cmp"
	"container/heap"
	"context"
	"math"
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

// best keeps the first candidates seen in the order wanted, the last of them at
// the root.
type best struct {
	f     *filter
	limit int
	kept  []candidate
}

func (n *best) Len() int           { return len(n.kept) }
func (n *best) Less(i, j int) bool { return n.f.order(n.kept[i].place, n.kept[j].place) > 0 }
func (n *best) Swap(i, j int)      { n.kept[i], n.kept[j] = n.kept[j], n.kept[i] }

// Push implements heap.Interface.
func (n *best) Push(x any) {
	if c, ok := x.(candidate); ok {
		n.kept = append(n.kept, c)
	}
}

// Pop implements heap.Interface.
func (n *best) Pop() any {
	last := n.kept[len(n.kept)-1]
	n.kept = n.kept[:len(n.kept)-1]
	return last
}

func (n *best) full() bool { return len(n.kept) == n.limit }

// offer keeps the candidate if it is among the first; false means that it was
// not and that none after it will be.
func (n *best) offer(c candidate) bool {
	if !n.full() {
		heap.Push(n, c)
		return true
	}
	if n.f.order(c.place, n.kept[0].place) >= 0 {
		return false
	}
	n.kept[0] = c
	heap.Fix(n, 0)
	return true
}

// wants reports whether an event at the time could still be kept.
func (n *best) wants(micros int64) bool {
	if !n.full() {
		return true
	}
	if n.f.oldest {
		return micros <= n.kept[0].place.time
	}
	return micros >= n.kept[0].place.time
}

// sorted returns the candidates in the order wanted.
func (n *best) sorted() []candidate {
	slices.SortFunc(n.kept, func(a, b candidate) int { return n.f.order(a.place, b.place) })
	return n.kept
}

// cursor is a segment and the next of its row groups to be searched.
type cursor struct {
	seg   *segment
	group int   // how many row groups were searched
	next  int64 // no row to come has a time before it in the order wanted
}

// cursors has the one whose rows may come first at the root.
type cursors struct {
	oldest bool
	list   []cursor
}

func (c *cursors) Len() int { return len(c.list) }
func (c *cursors) Less(i, j int) bool {
	if c.oldest {
		return c.list[i].next < c.list[j].next
	}
	return c.list[i].next > c.list[j].next
}
func (c *cursors) Swap(i, j int) { c.list[i], c.list[j] = c.list[j], c.list[i] }

// Push implements heap.Interface.
func (c *cursors) Push(x any) {
	if v, ok := x.(cursor); ok {
		c.list = append(c.list, v)
	}
}

// Pop implements heap.Interface.
func (c *cursors) Pop() any {
	last := c.list[len(c.list)-1]
	c.list = c.list[:len(c.list)-1]
	return last
}

// begin returns the cursors of a view's segments.
func (v *view) begin(f *filter) *cursors {
	c := &cursors{oldest: f.oldest, list: make([]cursor, 0, len(v.segments))}
	for _, s := range v.segments {
		next := min(s.MaxTime, f.latest())
		if f.oldest {
			next = max(s.MinTime, f.earliest())
		}
		c.list = append(c.list, cursor{s, 0, next})
	}
	heap.Init(c)
	return c
}

// Search returns the events that pass, newest first by time and then by place
// in the stream, or the other way round, as of the moment of the call. A limit of
// 0, or one above MaxResults, means MaxResults. Times have microseconds. Columns
// come back with their names sorted.
//
// When its time is over, the page has what is known to be complete, be it nothing,
// and goes on from there. It reads at least what may have the first instant, so that
// each page gets further.
//
// If a segment turns out to be damaged, the search fails with ErrCorrupt and
// the segment is taken out of service, so that the next search works without.
//
// It reads no more row groups than can hold a wanted event, only the columns
// that the filter names, and the rest for the events returned.
func (e *Engine) Search(ctx context.Context, f event.Filter) (event.Page, error) {
	r := newFilter(f)
	top := &best{f: r, limit: f.Limit}
	if f.Limit <= 0 || f.Limit > MaxResults {
		top.limit = MaxResults
	}
	v, err := e.look(r)
	if err != nil {
		return event.Page{}, err
	}
	defer v.release()
	if err := searchParts(ctx, v.parts, r, top); err != nil {
		return event.Page{}, err
	}
	page := event.Page{Progress: event.Progress{Total: len(v.segments)}}
	over := e.deadline(f.MaxTime)
	pending := v.begin(r)
	first := int64(0)
	if pending.Len() > 0 {
		first = pending.list[0].next
	}
	for pending.Len() > 0 && top.wants(pending.list[0].next) {
		if err := ctx.Err(); err != nil {
			return event.Page{}, err
		}
		c := &pending.list[0]
		if c.next != first && over() {
			page.Cut = true
			break
		}
		more, err := e.searchGroup(c, r, top)
		if err != nil {
			return event.Page{}, e.failed(ctx, c.seg, err)
		}
		if more {
			heap.Fix(pending, 0)
		} else {
			heap.Pop(pending)
		}
	}
	page.Done = page.Total - pending.Len()
	found := top.sorted()
	if page.Cut {
		found, page.Next = complete(found, r, pending.list[0].next)
	}
	if page.Records, err = e.materialise(ctx, found); err != nil {
		return event.Page{}, err
	}
	if !page.Cut && top.full() {
		page.Next = page.Records[len(page.Records)-1].Position()
	}
	return page, nil
}

// complete returns those of the candidates, in the order wanted, that come before
// all that was not searched, whose time is next or after it; and where the search
// is to go on.
func complete(found []candidate, f *filter, next int64) ([]candidate, event.Position) {
	n := 0
	for n < len(found) && (f.oldest && found[n].place.time < next || !f.oldest && found[n].place.time > next) {
		n++
	}
	// The place just before the first at that time.
	from := event.Position{Time: time.UnixMicro(next - 1).UTC(), Seq: math.MaxUint64, Index: math.MaxUint32}
	if !f.oldest {
		from = event.Position{Time: time.UnixMicro(next + 1).UTC()}
	}
	if f.continues && f.order(f.before, placeOf(from)) > 0 {
		from = event.Position{Time: time.UnixMicro(f.before.time).UTC(), Seq: f.before.seq, Index: f.before.index}
	}
	return found[:n], from
}

// deadline returns what tells whether a time is over; 0 never is.
func (e *Engine) deadline(limit time.Duration) (over func() bool) {
	if limit <= 0 {
		return func() bool { return false }
	}
	started := e.steady()
	return func() bool { return e.steady()-started >= limit }
}

func searchParts(ctx context.Context, parts []part, f *filter, top *best) error {
	var row event.Row
	for i := range parts {
		p := &parts[i]
		for j := range p.entries {
			if j%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			en := &p.entries[j]
			if top.wants(en.time) && f.matches(p, en, &row) {
				top.offer(candidate{place: en.place(), part: p, entry: j})
			}
		}
	}
	return nil
}

// searchGroup searches the cursor's next row group and moves on; it reports
// whether there is another.
func (e *Engine) searchGroup(c *cursor, f *filter, top *best) (more bool, err error) {
	o, err := e.files.get(c.seg)
	if err != nil {
		return false, err
	}
	defer e.files.put(o)
	defer guard(&err, c.seg)
	n := c.group
	if f.oldest {
		n = len(o.groups) - 1 - c.group
	}
	g := &o.groups[n]
	rows, err := f.rows(o, g)
	if err != nil {
		return false, err
	}
	const batch = 128
	size := min(top.limit, batch) // what is read for nothing is at most as much again
	for len(rows) > 0 {
		some := rows[:min(size, len(rows))]
		if f.oldest {
			some = rows[len(rows)-len(some):]
		}
		size *= 2
		places, err := readPlaces(o, g, some)
		if err != nil {
			return false, err
		}
		if f.oldest {
			slices.Reverse(places)
		}
		for i, p := range places {
			row := some[i]
			if f.oldest {
				row = some[len(some)-1-i]
			}
			if f.follows(p) && !top.offer(candidate{place: p, seg: c.seg, group: n, row: row}) {
				return false, nil // no row to come is better
			}
		}
		if f.oldest {
			rows = rows[:len(rows)-len(some)]
		} else {
			rows = rows[len(some):]
		}
	}
	c.group++
	low, high := bounds(o, g)
	if f.oldest {
		c.next = max(high, f.earliest())
		return c.group < len(o.groups) && high <= f.latest(), nil
	}
	c.next = min(low, f.latest())
	return c.group < len(o.groups) && low >= f.since, nil
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
	records := make([]event.Record, len(found))
	type key struct {
		seg   *segment
		group int
	}
	groups := map[key][]int{} // numbers of the candidates
	var o event.Object
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
		slices.SortFunc(numbers, func(a, b int) int { return cmp.Compare(found[a].row, found[b].row) })
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
		o.fixed.tags:   func(r *event.Record, v []byte) { r.Tags = event.DecodeTags(v) },
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
	pairs := make([][]event.Pair, len(rows))
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
				pairs[i] = append(pairs[i], event.Pair{Name: name, Value: v})
			}
		}
	}
	rest, err := readTexts(g.chunks[o.fixed.rest], rows)
	if err != nil {
		return err
	}
	var object event.Object
	for i := range rows {
		text := rest.at(i)
		if text != nil {
			more, ok := object.Read(text)
			if !ok && len(pairs[i]) == 0 { // never an object of strings: as it was
				records[i].Columns = slices.Clone(text)
				continue
			}
			pairs[i] = append(pairs[i], more...)
		}
		records[i].Columns = event.AppendObject(nil, pairs[i])
	}
	return nil
}
