package search

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// Limits of a state, whose rows of all nodes are in memory together.
const (
	// MaxStateRows is the most rows that an answer has.
	MaxStateRows = 10_000

	maxStateNodes = 500_000
	maxStateKept  = 1_000_000 // changes of rows, of some 150 bytes and their columns
	maxStateText  = 96 << 20  // bytes of columns
)

// State returns what the nodes' last results of a query were: of a query that logs
// snapshots, the rows of each node's last one; of one that logs differences, the
// rows that were added and not removed since the node began anew, which its agent
// says by the counter 0. The rows have to pass f.Where; f.Query is an exact name.
// f.Until gives the state as it was then. Pages have whole nodes, in the order of
// their ids; after is the last node of the page before.
//
// What a node said longest ago may not be kept anymore: such rows are Partial. An
// agent that begins anew says nothing while a query has no rows: it keeps the rows
// of before until one is added. An error is returned when time or memory does not
// suffice, as a part of a state would be wrong.
func (e *Engine) State(ctx context.Context, f event.Filter, after string) (event.State, error) {
	if f.Query == "" || strings.HasSuffix(f.Query, "*") {
		return event.State{}, errs.Field("query", "is needed: the name of one query, as pack_base_listening_ports")
	}
	leave, err := e.admit(ctx)
	if err != nil {
		return event.State{}, err
	}
	defer leave()
	limit := f.Limit
	if limit <= 0 || limit > MaxStateRows {
		limit = MaxStateRows
	}
	if f.Where.HasStamp() { // a row may be added under one and removed under another
		return event.State{}, errs.Field("where", "has a stamp; the rows of a state are chosen by their columns, and its nodes by a selector")
	}
	where := f.Where
	f.Before, f.Oldest, f.Action, f.Where = event.Position{}, false, "", nil
	all := newFilter(f)
	v, err := e.look(all)
	if err != nil {
		return event.State{}, err
	}
	defer v.release()
	st := &stater{e: e, over: e.deadline(f.MaxTime), nodes: map[string]*nodeState{}}
	if err := st.scan(ctx, v, all); err != nil {
		return event.State{}, err
	}
	f.Where, st.learned = where, true
	if err := st.scan(ctx, v, newFilter(f)); err != nil {
		return event.State{}, err
	}
	out := event.State{Known: len(st.nodes), Progress: event.Progress{Done: len(v.segments), Total: len(v.segments)}}
	page, partial := st.page(&out, after, limit)
	records, err := e.materialise(ctx, page)
	if err != nil {
		return event.State{}, err
	}
	for i, r := range records {
		out.Rows = append(out.Rows, event.StateRow{Record: r, Partial: partial[i]})
	}
	return out, nil
}

// nodeState is how a node's last results are told from those before.
type nodeState struct {
	id   string
	last arrival // the newest row of all
	// snapshots is that the newest row is one of a snapshot, which has line; else
	// base is the run that the node began anew with, if it is kept.
	snapshots bool
	line      uint64
	epoch     int64
	base      run
	changes   []stateChange
}

// run is one execution of a query that logged all rows as added.
type run struct {
	known       bool
	epoch, time int64
	end         arrival // of its last row
}

// arrival is a place in the stream, which is the order in which a node said things.
type arrival struct {
	seq   uint64
	index uint32
}

func (p arrival) compare(q arrival) int {
	return cmp.Or(cmp.Compare(p.seq, q.seq), cmp.Compare(p.index, q.index))
}

// stateRow is what decides whether a row is in a state, and where it is.
type stateRow struct {
	candidate

	node                 string
	action               string
	epoch, counter, time int64
	line                 uint64
}

// stateChange is a row that a node added or removed.
type stateChange struct {
	candidate

	removed bool
	columns string
}

// stater reads all rows twice: to learn where each node's last results begin, and
// to collect them.
type stater struct {
	e       *Engine
	over    func() bool
	learned bool
	nodes   map[string]*nodeState
	kept    int // changes
	text    int // bytes of their columns
}

func errStateLimit(what string) error {
	return errs.New(errs.TooLarge, "the state of all these nodes takes more %s than one search may have; ask for fewer nodes, a shorter time, or rows with a condition", what)
}

// learn notes what a row says of where the node's last results begin.
func (st *stater) learn(r *stateRow) error {
	n := st.nodes[r.node]
	at := arrival{r.place.seq, r.place.index}
	if n == nil {
		if len(st.nodes) >= maxStateNodes {
			return errStateLimit("memory")
		}
		n = &nodeState{id: strings.Clone(r.node)}
		st.nodes[n.id] = n
		n.last = at
		n.newest(r)
	} else if at.compare(n.last) > 0 {
		n.last = at
		n.newest(r)
	}
	if r.action == event.Added && r.counter == 0 && (!n.base.known || at.compare(n.base.end) > 0) {
		n.base = run{true, r.epoch, r.time, at}
	}
	return nil
}

func (n *nodeState) newest(r *stateRow) {
	n.snapshots, n.line, n.epoch = r.action == event.Snapshot, r.line, r.epoch
}

// partial reports whether rows may be missing.
func (n *nodeState) partial() bool { return !n.snapshots && (!n.base.known || n.base.epoch != n.epoch) }

// has reports whether a row is one of the last results, or changes them.
func (n *nodeState) has(r *stateRow) bool {
	switch {
	case n.snapshots:
		return r.action == event.Snapshot && r.line == n.line && r.place.seq == n.last.seq
	case r.action != event.Added && r.action != event.Removed || r.epoch != n.epoch:
		return false
	case n.partial():
		return true
	}
	at := arrival{r.place.seq, r.place.index}
	return at.compare(n.base.end) > 0 || r.counter == 0 && r.time == n.base.time
}

// collect keeps a row that is one of the last results.
func (st *stater) collect(r *stateRow, columns []byte) error {
	if len(columns) <= len("{}") { // an empty snapshot has no row
		return nil
	}
	st.kept++
	st.text += len(columns)
	if st.kept > maxStateKept || st.text > maxStateText {
		return errStateLimit("memory")
	}
	n := st.nodes[r.node]
	n.changes = append(n.changes, stateChange{r.candidate, r.action == event.Removed, string(columns)})
	return nil
}

// wants reports whether a row is to be collected.
func (st *stater) wants(r *stateRow) bool {
	n := st.nodes[r.node]
	return n != nil && n.has(r)
}

// rows returns where the rows are that the node has now.
func (n *nodeState) rows() []candidate {
	slices.SortFunc(n.changes, func(a, b stateChange) int {
		return cmp.Or(cmp.Compare(a.place.seq, b.place.seq), cmp.Compare(a.place.index, b.place.index))
	})
	had := map[string][]int{} // by columns: the numbers of changes that added them
	gone := make([]bool, len(n.changes))
	for i, c := range n.changes {
		switch before := had[c.columns]; {
		case !c.removed:
			had[c.columns] = append(before, i)
		default:
			gone[i] = true
			if len(before) > 0 {
				gone[before[len(before)-1]] = true
				had[c.columns] = before[:len(before)-1]
			}
		}
	}
	var rows []candidate
	for i, c := range n.changes {
		if !gone[i] {
			rows = append(rows, c.candidate)
		}
	}
	return rows
}

// page chooses the rows of a page of whole nodes, but for a node that alone has too
// many.
func (st *stater) page(out *event.State, after string, limit int) (page []candidate, partial []bool) {
	ids := make([]string, 0, len(st.nodes))
	for id := range st.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	last, full := "", false
	for _, id := range ids {
		n := st.nodes[id]
		if len(n.changes) == 0 {
			continue
		}
		rows := n.rows()
		if len(rows) == 0 {
			continue
		}
		out.Nodes++
		if id <= after && after != "" || full {
			continue
		}
		if len(page) > 0 && len(page)+len(rows) > limit {
			full, out.Next = true, last
			continue
		}
		if len(rows) > limit {
			rows, out.Cut = rows[:limit], true
		}
		last = id
		for _, r := range rows {
			page, partial = append(page, r), append(partial, n.partial())
		}
	}
	return page, partial
}

// scan reads every row that passes.
func (st *stater) scan(ctx context.Context, v *view, f *filter) error {
	var row event.Row
	var columns []byte
	for i := range v.parts {
		p := &v.parts[i]
		for j := range p.entries {
			if j%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			en := &p.entries[j]
			if !f.matches(p, en, &row) {
				continue
			}
			r := stateRow{
				candidate: candidate{place: en.place(), part: p, entry: j}, node: string(en.nodeID), action: string(en.action),
				epoch: en.epoch, counter: en.counter, time: en.time, line: en.line,
			}
			var err error
			switch {
			case !st.learned:
				err = st.learn(&r)
			case st.wants(&r):
				en.fill(&row, p.query)
				columns = event.AppendObject(columns[:0], row.Pairs())
				err = st.collect(&r, columns)
			}
			if err != nil {
				return err
			}
		}
	}
	for _, s := range v.segments {
		if err := st.scanSegment(ctx, s, f); errs.Is(err, errs.TooLarge) {
			return err
		} else if err != nil {
			return st.e.failed(ctx, s, err)
		}
	}
	return nil
}

func (st *stater) scanSegment(ctx context.Context, s *segment, f *filter) (err error) {
	o, err := st.e.files.get(s)
	if err != nil {
		return err
	}
	defer st.e.files.put(o)
	defer guard(&err, s)
	for i := range o.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if st.over() {
			return errStateLimit("time")
		}
		rows, err := f.rows(o, &o.groups[i])
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			continue
		}
		if err := st.scanGroup(o, i, rows); err != nil {
			return err
		}
	}
	return nil
}

// scanGroup reads of the listed rows what a state depends on, and the columns of
// those alone that are in it.
func (st *stater) scanGroup(o *openFile, number int, rows []int32) error {
	g := &o.groups[number]
	all, err := readStateRows(o, number, rows)
	if err != nil {
		return err
	}
	if !st.learned {
		for i := range all {
			if err := st.learn(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}
	all = slices.DeleteFunc(all, func(r stateRow) bool { return !st.wants(&r) })
	if len(all) == 0 {
		return nil
	}
	wanted := make([]int32, len(all))
	for i := range all {
		wanted[i] = all[i].row
	}
	records := make([]event.Record, len(all))
	if err := readColumns(o, g, wanted, records); err != nil {
		return err
	}
	for i := range all {
		if err := st.collect(&all[i], records[i].Columns); err != nil {
			return err
		}
	}
	return nil
}

func readStateRows(o *openFile, number int, rows []int32) ([]stateRow, error) {
	g := &o.groups[number]
	places, err := readPlaces(o, g, rows)
	if err != nil {
		return nil, err
	}
	all := make([]stateRow, len(rows))
	for i, p := range places {
		all[i].candidate = candidate{place: p, seg: o.segment, group: number, row: rows[i]}
		all[i].time = p.time
	}
	for place, set := range map[int]func(r *stateRow, v int64){
		o.fixed.epoch:   func(r *stateRow, v int64) { r.epoch = v },
		o.fixed.counter: func(r *stateRow, v int64) { r.counter = v },
		o.fixed.line:    func(r *stateRow, v int64) { r.line = uint64(v) }, //nolint:gosec // the bits are what counts
	} {
		values, err := readInts(g.chunks[place], rows, make([]int64, 0, len(rows)))
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			set(&all[i], v)
		}
	}
	for place, set := range map[int]func(r *stateRow, v string){
		o.fixed.node:   func(r *stateRow, v string) { r.node = v },
		o.fixed.action: func(r *stateRow, v string) { r.action = v },
	} {
		values, err := readTexts(g.chunks[place], rows)
		if err != nil {
			return nil, err
		}
		for i := range all {
			set(&all[i], event.Peek(values.at(i))) // as long as all is kept
		}
	}
	return all, nil
}
