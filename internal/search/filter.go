package search

import (
	"bytes"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/musterhq/muster/internal/event"
)

// filter is an event.Filter made ready.
type filter struct {
	query        string
	prefix       bool
	node, action string
	nodes        map[string]struct{} // nil for all
	since, until int64               // microseconds; until is exclusive
	where        *event.Expr
	needles      []*event.Condition      // that every event found passes, by their values
	readable     func(query string) bool // nil for all
	oldest       bool                    // comes first
	before       place
	continues    bool // before counts
}

func newFilter(f event.Filter) *filter {
	r := &filter{node: f.NodeID, action: f.Action, since: math.MinInt64, until: math.MaxInt64, where: f.Where, readable: f.Readable, oldest: f.Oldest}
	r.query, r.prefix = strings.CutSuffix(f.Query, "*")
	if f.Query == "" {
		r.prefix = true
	}
	if f.Nodes != nil {
		r.nodes = make(map[string]struct{}, len(f.Nodes))
		for _, n := range f.Nodes {
			r.nodes[n] = struct{}{}
		}
	}
	if !f.Since.IsZero() {
		r.since = ceilMicros(f.Since)
	}
	if !f.Until.IsZero() {
		r.until = ceilMicros(f.Until)
	}
	if !f.Before.IsZero() {
		r.before, r.continues = placeOf(f.Before), true
	}
	terms := []*event.Expr{r.where}
	if r.where != nil && r.where.Kind == event.And {
		terms = r.where.Terms
	}
	for _, t := range terms {
		if t != nil && t.Kind == event.Test && !event.IsStamp(t.Test.Column) {
			r.needles = append(r.needles, &t.Test)
		}
	}
	return r
}

// ceilMicros rounds up, so that an event, whose time is in whole microseconds,
// compares with the result as with t.
func ceilMicros(t time.Time) int64 {
	micros := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		micros++
	}
	return micros
}

func (f *filter) matchesQuery(query string) bool {
	if f.readable != nil && !f.readable(query) {
		return false
	}
	if f.prefix {
		return strings.HasPrefix(query, f.query)
	}
	return query == f.query
}

// latest is the latest time that an event found can have.
func (f *filter) latest() int64 {
	latest := f.until
	if latest != math.MinInt64 {
		latest--
	}
	if !f.continues || f.oldest {
		return latest
	}
	if f.before.seq == 0 && f.before.index == 0 { // no event of that time follows
		return min(latest, f.before.time-1)
	}
	return min(latest, f.before.time)
}

// earliest is the earliest time that an event found can have.
func (f *filter) earliest() int64 {
	if !f.continues || !f.oldest {
		return f.since
	}
	if f.before.seq == math.MaxUint64 && f.before.index == math.MaxUint32 { // no event of that time follows
		return max(f.since, f.before.time+1)
	}
	return max(f.since, f.before.time)
}

// overlaps reports whether events between the times may pass.
func (f *filter) overlaps(minTime, maxTime int64) bool {
	return maxTime >= f.earliest() && minTime <= f.latest() && f.since < f.until
}

// onlyTime reports whether nothing but query and time restricts.
func (f *filter) onlyTime() bool {
	return f.node == "" && f.nodes == nil && f.action == "" && f.where == nil && !f.continues
}

// order is negative when p comes before q in the order wanted.
func (f *filter) order(p, q place) int {
	if f.oldest {
		return q.compare(p)
	}
	return p.compare(q)
}

// follows reports whether a place comes after where the search continues.
func (f *filter) follows(p place) bool { return !f.continues || f.order(p, f.before) > 0 }

// matches reports whether an event of the memtable passes. The query's name is
// the caller's business. The row is for its use.
func (f *filter) matches(p *part, e *entry, r *event.Row) bool {
	if e.time < f.since || e.time >= f.until || !f.follows(e.place()) {
		return false
	}
	if f.node != "" && string(e.nodeID) != f.node || f.action != "" && string(e.action) != f.action {
		return false
	}
	if f.nodes != nil {
		if _, ok := f.nodes[string(e.nodeID)]; !ok {
			return false
		}
	}
	if f.where == nil {
		return true
	}
	for _, c := range f.needles {
		if !mayMatch(e.columns, c) {
			return false
		}
	}
	e.fill(r, p.query)
	return f.where.Match(r)
}

// mayMatch reports, without reading the object, whether its columns can pass
// the condition: unless there are escapes, name and value are in the text.
func mayMatch(columns []byte, c *event.Condition) bool {
	switch c.Op {
	case event.Equal, event.Contains, event.Prefix, event.Suffix:
	default:
		return true
	}
	return bytes.Contains(columns, []byte(c.Value)) || bytes.IndexByte(columns, '\\') >= 0 || strings.Contains(c.Value, "\uFFFD")
}

// rows returns the rows of a row group that pass, ascending; all but the place
// of a search that continues, which it only bounds by time.
func (f *filter) rows(o *openFile, g *rowGroup) (rows []int32, err error) {
	defer guard(&err, o.segment)
	if may, err := f.mayHave(o, g); err != nil || !may {
		return nil, err
	}
	if rows, err = f.inTime(o, g); err != nil || len(rows) == 0 {
		return nil, err
	}
	node := g.chunks[o.fixed.node]
	if f.node != "" {
		if rows, err = equalRows(node, rows, f.node); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	if f.nodes != nil {
		rows, err = matchingRows(node, rows, func(b []byte) bool { _, ok := f.nodes[string(b)]; return ok })
		if err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	if f.action != "" {
		if rows, err = equalRows(g.chunks[o.fixed.action], rows, f.action); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	if f.where == nil {
		return rows, nil
	}
	return o.passing(g, rows, f.where)
}

// bounds returns the times of a row group's rows.
func bounds(o *openFile, g *rowGroup) (minTime, maxTime int64) {
	low, high, ok := g.chunks[o.fixed.time].Bounds()
	if !ok {
		return o.segment.MinTime, o.segment.MaxTime
	}
	return low.Int64(), high.Int64()
}

// maxBlooms is how many values are looked up in bloom filters; with more of them
// one is there as a rule.
const maxBlooms = 32

// mayHave reports whether a row group can have rows that pass, by statistics
// and bloom filters alone.
func (f *filter) mayHave(o *openFile, g *rowGroup) (bool, error) {
	if !f.overlaps(bounds(o, g)) {
		return false, nil
	}
	node := g.chunks[o.fixed.node]
	if f.node != "" {
		if may, err := mayContain(node, f.node); err != nil || !may {
			return false, err
		}
	}
	if f.nodes != nil && len(f.nodes) <= maxBlooms {
		if may, err := mayContain(node, slices.Collect(maps.Keys(f.nodes))...); err != nil || !may {
			return false, err
		}
	}
	return o.mayPass(g, f.where)
}

func hasValues(chunk *parquet.FileColumnChunk) bool { return chunk.NullCount() < chunk.NumValues() }

// mayContain reports whether a chunk can have one of the values.
func mayContain(chunk *parquet.FileColumnChunk, values ...string) (bool, error) {
	bloom := chunk.BloomFilter()
	if bloom == nil {
		return true, nil
	}
	for _, v := range values {
		if may, err := bloom.Check(parquet.ByteArrayValue([]byte(v))); err != nil || may {
			return may, err
		}
	}
	return false, nil
}

// inTime returns the rows within the times wanted. Rows are sorted by time, so
// that they are together.
func (f *filter) inTime(o *openFile, g *rowGroup) ([]int32, error) {
	minTime, maxTime := bounds(o, g)
	earliest, latest := f.earliest(), f.latest()
	if minTime >= earliest && maxTime <= latest {
		return allRows(0, g.rows), nil
	}
	times, err := readInts(g.chunks[o.fixed.time], allRows(0, g.rows), nil)
	if err != nil {
		return nil, err
	}
	from, to := 0, len(times)
	for from < to && times[from] > latest {
		from++
	}
	for to > from && times[to-1] < earliest {
		to--
	}
	return allRows(from, to), nil
}

// equalRows returns those of rows whose value is the one given.
func equalRows(chunk *parquet.FileColumnChunk, rows []int32, value string) ([]int32, error) {
	return matchingRows(chunk, rows, func(b []byte) bool { return string(b) == value })
}

// matchingRows returns those of rows whose value passes. Each value is tested
// once however many rows have it.
func matchingRows(chunk *parquet.FileColumnChunk, rows []int32, match func([]byte) bool) ([]int32, error) {
	const untested, yes, no = 0, 1, 2
	var verdicts []byte
	generation := 0
	var passing []int32
	err := eachText(chunk, rows, func(i int, d *dictionary, code int32) error {
		if code == absent {
			return nil
		}
		if d.generation != generation {
			generation = d.generation
			verdicts = make([]byte, d.len())
		}
		if verdicts[code] == untested {
			verdicts[code] = no
			if match(d.at(code)) {
				verdicts[code] = yes
			}
		}
		if verdicts[code] == yes {
			passing = append(passing, rows[i])
		}
		return nil
	})
	return passing, err
}
