package search

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// Limits of what is counted: memory for values that a hostile node may make up.
const (
	// MaxBy is the most columns that events are grouped by.
	MaxBy = 3
	// MaxGroups is the most groups that an answer has.
	MaxGroups = 1000

	maxKept      = 500_000  // groups, of some 100 bytes
	maxKeptText  = 64 << 20 // bytes of values
	maxNodeWords = 8 << 20  // of 8 bytes, for the nodes of groups
	maxKeptTimes = 1 << 20  // buckets of groups
)

// Count counts the events that pass by the values of columns and stamps: the
// groups with the most events, the rest together, and their number over time. An
// event whose node has several tags counts in the group of each. What has no room
// in memory is counted with the rest, and Cut says so; so it does when the time is
// over, and the figures are of what was read by then.
func (e *Engine) Count(ctx context.Context, c event.Counting) (event.Groups, error) {
	if len(c.By) > MaxBy {
		return event.Groups{}, errs.Field("by", "has %d columns; %d are the most", len(c.By), MaxBy)
	}
	if c.Width != 0 && c.Width < time.Microsecond {
		return event.Groups{}, errs.Field("width", "must be at least a microsecond")
	}
	leave, err := e.admit(ctx)
	if err != nil {
		return event.Groups{}, err
	}
	defer leave()
	c.Before, c.Oldest = event.Position{}, false
	f := newFilter(c.Filter)
	v, err := e.look(f)
	if err != nil {
		return event.Groups{}, err
	}
	defer v.release()
	gr := newGrouper(c)
	if c.Width > 0 {
		// What agents whose clock is ahead say of later is of now; see counter.last.
		gr.lastBucket = floorDiv(e.now().UnixMicro(), gr.width)
	}
	if err := gr.countParts(ctx, v.parts, f); err != nil {
		return event.Groups{}, err
	}
	out := event.Groups{Progress: event.Progress{Total: len(v.segments)}}
	over := e.deadline(c.MaxTime)
	for _, s := range v.segments {
		done, err := e.groupSegment(ctx, s, f, gr, over)
		if err != nil {
			return event.Groups{}, e.failed(ctx, s, err)
		}
		if !done {
			out.Cut = true
			break
		}
		out.Done++
	}
	gr.result(&out, c.Limit)
	return out, nil
}

// key is the values of a group, as codes of the grouper; absent for none.
type key [MaxBy]int32

type group struct {
	key    key
	events int64
	last   int64
	nodes  nodeSet
}

// nodeSet is the numbers of a group's nodes: a list of the first few, then a bit for
// each number.
type nodeSet struct {
	n    int
	few  []uint32
	bits []uint64
}

const fewNodes = 16

// add adds a number and returns by how many words the set grew.
func (s *nodeSet) add(node uint32) (words int) {
	if s.bits == nil {
		if slices.Contains(s.few, node) {
			return 0
		}
		if len(s.few) < fewNodes {
			s.few = append(s.few, node)
			s.n++
			return 1
		}
		for _, old := range s.few {
			words += s.set(old)
		}
		s.n = len(s.few)
		s.few = nil
	}
	return words + s.set(node)
}

func (s *nodeSet) set(node uint32) (words int) {
	i, bit := int(node/64), uint64(1)<<(node%64)
	if i >= len(s.bits) {
		words = i + 1 - len(s.bits)
		s.bits = append(s.bits, make([]uint64, words)...)
	}
	if s.bits[i]&bit == 0 {
		s.bits[i] |= bit
		s.n++
	}
	return words
}

// grouper counts events by values.
type grouper struct {
	by         []string
	width      int64
	lastBucket int64
	withNodes  bool

	codes  []map[string]int32 // by column: of values
	values [][]string         // by column and code
	text   int                // bytes of values
	groups []group
	byCode []int32       // group + 1 by code + 1, when there is one column
	byKey  map[key]int32 // group, when there are more
	others group         // without room
	full   bool          // something had no room

	nodes map[string]uint32   // number of each node
	words int                 // of the groups' sets of nodes
	times map[bucketKey]int64 // events
	total int64
}

type bucketKey struct {
	group  int32
	bucket int64
}

func newGrouper(c event.Counting) *grouper {
	gr := &grouper{by: c.By, width: c.Width.Microseconds(), lastBucket: math.MaxInt64, withNodes: c.Nodes, byKey: map[key]int32{}, others: group{last: math.MinInt64}}
	for range c.By {
		gr.codes = append(gr.codes, map[string]int32{})
		gr.values = append(gr.values, nil)
	}
	if gr.withNodes {
		gr.nodes = map[string]uint32{}
	}
	if gr.width > 0 {
		gr.times = map[bucketKey]int64{}
	}
	return gr
}

// noRoom is the group of events whose values have no room in memory.
const noRoom = -1

// code returns the code of a column's value, or noRoom-1.
func (gr *grouper) code(column int, value string) int32 {
	if c, ok := gr.codes[column][value]; ok {
		return c
	}
	if gr.text+len(value) > maxKeptText || len(gr.values[column]) >= maxKept {
		gr.full = true
		return noRoom - 1
	}
	gr.text += len(value)
	c := int32(len(gr.values[column])) //nolint:gosec // at most maxKept
	value = strings.Clone(value)
	gr.values[column] = append(gr.values[column], value)
	gr.codes[column][value] = c
	return c
}

// group returns the number of the group of a key, or noRoom.
func (gr *grouper) group(k key) int32 {
	if slices.Contains(k[:len(gr.by)], noRoom-1) {
		return noRoom
	}
	if len(gr.by) == 1 {
		i := int(k[0]) + 1
		for i >= len(gr.byCode) {
			gr.byCode = append(gr.byCode, 0)
		}
		if gr.byCode[i] == 0 {
			gr.byCode[i] = gr.newGroup(k) + 1
		}
		return gr.byCode[i] - 1
	}
	n, ok := gr.byKey[k]
	if !ok {
		if n = gr.newGroup(k); n != noRoom {
			gr.byKey[k] = n
		}
	}
	return n
}

func (gr *grouper) newGroup(k key) int32 {
	if len(gr.groups) >= maxKept {
		gr.full = true
		return noRoom
	}
	gr.groups = append(gr.groups, group{key: k, last: math.MinInt64})
	return int32(len(gr.groups) - 1) //nolint:gosec // at most maxKept
}

// add counts events of a group, the newest of which is of that time.
func (gr *grouper) add(n int32, events, last int64) {
	g := &gr.others
	if n != noRoom {
		g = &gr.groups[n]
	}
	g.events += events
	g.last = max(g.last, last)
}

// addTime counts an event of a group in its bucket.
func (gr *grouper) addTime(n int32, micros int64) {
	if gr.width == 0 {
		return
	}
	k := bucketKey{n, min(floorDiv(micros, gr.width), gr.lastBucket)}
	if _, ok := gr.times[k]; !ok && len(gr.times) >= maxKeptTimes {
		gr.full = true
		return
	}
	gr.times[k]++
}

// addNode notes that a group has an event of a node, given by its number.
func (gr *grouper) addNode(n int32, node uint32) {
	if n == noRoom {
		return
	}
	if gr.words > maxNodeWords {
		gr.full = true
		return
	}
	gr.words += gr.groups[n].nodes.add(node)
}

// node returns the number of a node.
func (gr *grouper) node(id string) uint32 {
	n, ok := gr.nodes[id]
	if !ok {
		n = uint32(len(gr.nodes)) //nolint:gosec // far fewer nodes
		gr.nodes[strings.Clone(id)] = n
	}
	return n
}

// countParts counts what is in memory.
func (gr *grouper) countParts(ctx context.Context, parts []part, f *filter) error {
	var row event.Row
	for i := range parts {
		p := &parts[i]
		for j := range p.entries {
			if j%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			en := &p.entries[j]
			if !f.matches(p, en, &row) {
				continue
			}
			en.fill(&row, p.query)
			gr.total++
			gr.countRow(&row, key{}, 0)
		}
	}
	return nil
}

// countRow counts a row in each of its groups: of those whose first values are in
// the key.
func (gr *grouper) countRow(r *event.Row, k key, column int) {
	if column < len(gr.by) {
		rowValues(r, gr.by[column], func(value string, found bool) {
			k[column] = absent
			if found {
				k[column] = gr.code(column, event.ValidText(value))
			}
			gr.countRow(r, k, column+1)
		})
		return
	}
	n := gr.group(k)
	gr.add(n, 1, r.Time)
	gr.addTime(n, r.Time)
	if gr.withNodes {
		gr.addNode(n, gr.node(r.NodeID))
	}
}

// groupSegment counts a segment's events. It reports false if the time was over
// before the end.
func (e *Engine) groupSegment(ctx context.Context, s *segment, f *filter, gr *grouper, over func() bool) (done bool, err error) {
	o, err := e.files.get(s)
	if err != nil {
		return false, err
	}
	defer e.files.put(o)
	defer guard(&err, s)
	for i := range o.groups {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if over() {
			return false, nil
		}
		g := &o.groups[i]
		rows, err := f.rows(o, g)
		if err != nil {
			return false, err
		}
		if len(rows) == 0 {
			continue
		}
		if err := gr.countRows(o, g, rows); err != nil {
			return false, err
		}
	}
	return true, nil
}

// countRows counts the listed rows of a row group.
func (gr *grouper) countRows(o *openFile, g *rowGroup, rows []int32) error {
	gr.total += int64(len(rows))
	columns := make([]*values, len(gr.by))
	codes := make([][]int32, len(gr.by)) // of the grouper by code of the row group, once it is known
	for i, name := range gr.by {
		v, err := o.values(g, rows, name)
		if err != nil {
			return err
		}
		columns[i] = v
		codes[i] = make([]int32, len(v.offsets))
	}
	if len(columns) == 1 && columns[0].lists == nil && !gr.withNodes && gr.width == 0 {
		return gr.countColumn(o, g, rows, columns[0])
	}
	times, err := readInts(g.chunks[o.fixed.time], rows, make([]int64, 0, len(rows)))
	if err != nil {
		return err
	}
	var nodes *values
	var numbers []uint32 // of nodes by code, once known, plus 1
	if gr.withNodes {
		if nodes, err = readValues(g, rows, o.fixed.node); err != nil {
			return err
		}
		numbers = make([]uint32, len(nodes.offsets))
	}
	for i, at := range times {
		gr.countValues(columns, codes, i, key{}, 0, func(n int32) {
			gr.add(n, 1, at)
			gr.addTime(n, at)
			if nodes == nil {
				return
			}
			code := nodes.codes[i]
			if numbers[code] == 0 {
				numbers[code] = gr.node(string(nodes.text(code))) + 1
			}
			gr.addNode(n, numbers[code]-1)
		})
	}
	return nil
}

// countColumn is countRows for the values of one column, of which nothing but their
// number is wanted: each distinct one is looked at once.
func (gr *grouper) countColumn(o *openFile, g *rowGroup, rows []int32, v *values) error {
	counts := make([]int64, len(v.offsets)) // by code + 1
	var firsts []int32                      // rows, each the newest with its value
	var codes []int32
	for i, code := range v.codes {
		if counts[code+1]++; counts[code+1] == 1 {
			firsts, codes = append(firsts, rows[i]), append(codes, code)
		}
	}
	times, err := readInts(g.chunks[o.fixed.time], firsts, make([]int64, 0, len(firsts)))
	if err != nil {
		return err
	}
	for i, code := range codes {
		k := key{absent}
		if code != absent {
			k[0] = gr.code(0, event.ValidText(event.Peek(v.text(code))))
		}
		gr.add(gr.group(k), counts[code+1], times[i])
	}
	return nil
}

// countValues calls count with each group of the i-th row whose first values are in
// the key.
func (gr *grouper) countValues(columns []*values, codes [][]int32, i int, k key, column int, count func(group int32)) {
	if column == len(columns) {
		count(gr.group(k))
		return
	}
	v := columns[column]
	v.each(i, func(code int32) {
		k[column] = absent
		if code != absent {
			known := &codes[column][code]
			if *known == 0 {
				*known = gr.code(column, event.ValidText(event.Peek(v.text(code)))) + noCode
			}
			k[column] = *known - noCode
		}
		gr.countValues(columns, codes, i, k, column+1, count)
	})
}

// noCode makes codes of the grouper, which begin at noRoom-1, greater than 0.
const noCode = 3

// result fills in the answer: the largest groups first.
func (gr *grouper) result(out *event.Groups, limit int) {
	if limit <= 0 || limit > MaxGroups {
		limit = MaxGroups
	}
	out.Events, out.Nodes, out.Cut = gr.total, len(gr.nodes), out.Cut || gr.full
	order := make([]int32, len(gr.groups))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(gr.groups[b].events, gr.groups[a].events), gr.compare(gr.groups[a].key, gr.groups[b].key))
	})
	shown := min(limit, len(order))
	place := make(map[int32]int, shown)
	for i, n := range order[:shown] {
		place[n] = i
		out.Groups = append(out.Groups, gr.export(&gr.groups[n]))
	}
	others := gr.others
	for _, n := range order[shown:] {
		others.events += gr.groups[n].events
		others.last = max(others.last, gr.groups[n].last)
	}
	out.OtherGroups = len(order) - shown
	if gr.others.events > 0 {
		out.OtherGroups++
	}
	if others.events > 0 {
		out.Others = event.Group{Events: others.events, Last: time.UnixMicro(others.last).UTC()}
	}
	gr.buckets(out, place)
}

func (gr *grouper) compare(a, b key) int {
	for i := range gr.by {
		switch {
		case a[i] == b[i]:
			continue
		case a[i] == absent:
			return -1
		case b[i] == absent:
			return 1
		}
		return strings.Compare(gr.values[i][a[i]], gr.values[i][b[i]])
	}
	return 0
}

func (gr *grouper) export(g *group) event.Group {
	out := event.Group{Events: g.events, Nodes: g.nodes.n, Last: time.UnixMicro(g.last).UTC()}
	for i := range gr.by {
		if g.key[i] == absent {
			out.Values = append(out.Values, event.Value{Absent: true})
		} else {
			out.Values = append(out.Values, event.Value{Text: gr.values[i][g.key[i]]})
		}
	}
	return out
}

// buckets fills in the buckets of the groups shown, and of the others together.
func (gr *grouper) buckets(out *event.Groups, place map[int32]int) {
	if gr.width == 0 {
		return
	}
	others := map[int64]int64{}
	for k, n := range gr.times {
		if i, ok := place[k.group]; ok {
			g := &out.Groups[i]
			g.Buckets = append(g.Buckets, event.Bucket{Start: time.UnixMicro(k.bucket * gr.width).UTC(), Count: n})
		} else {
			others[k.bucket] += n
		}
	}
	for b, n := range others {
		out.Others.Buckets = append(out.Others.Buckets, event.Bucket{Start: time.UnixMicro(b * gr.width).UTC(), Count: n})
	}
	byStart := func(a, b event.Bucket) int { return a.Start.Compare(b.Start) }
	for i := range out.Groups {
		slices.SortFunc(out.Groups[i].Buckets, byStart)
	}
	slices.SortFunc(out.Others.Buckets, byStart)
}
