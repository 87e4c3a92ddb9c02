package search

import (
	"bytes"
	"math"
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
	since, until int64 // microseconds; until is exclusive
	where        []event.Condition
	before       place
	continues    bool // before counts
}

func newFilter(f event.Filter) *filter {
	r := &filter{node: f.NodeID, action: f.Action, since: math.MinInt64, until: math.MaxInt64, where: f.Where}
	r.query, r.prefix = strings.CutSuffix(f.Query, "*")
	if f.Query == "" {
		r.prefix = true
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
	if f.prefix {
		return strings.HasPrefix(query, f.query)
	}
	return query == f.query
}

// latest is the latest time that an event found can have.
func (f *filter) latest() int64 {
	if f.continues && f.before.time < f.until-1 {
		return f.before.time
	}
	if f.until == math.MinInt64 {
		return f.until
	}
	return f.until - 1
}

// overlaps reports whether events between the times may pass.
func (f *filter) overlaps(minTime, maxTime int64) bool {
	return maxTime >= f.since && minTime <= f.latest() && f.since < f.until
}

// onlyTime reports whether nothing but query and time restricts.
func (f *filter) onlyTime() bool {
	return f.node == "" && f.action == "" && len(f.where) == 0 && !f.continues
}

// follows reports whether a place comes after where the search continues.
func (f *filter) follows(p place) bool { return !f.continues || p.compare(f.before) > 0 }

// matches reports whether an event of the memtable passes. The query's name is
// the caller's business.
func (f *filter) matches(e *entry, o *object) bool {
	if e.time < f.since || e.time >= f.until || !f.follows(e.place()) {
		return false
	}
	if f.node != "" && string(e.nodeID) != f.node || f.action != "" && string(e.action) != f.action {
		return false
	}
	if len(f.where) == 0 {
		return true
	}
	for i := range f.where {
		if !mayMatch(e.columns, &f.where[i]) {
			return false
		}
	}
	o.reset()
	pairs, ok := o.read(e.columns)
	if !ok {
		return false
	}
	for i := range f.where {
		value, found := lookup(pairs, f.where[i].Column)
		if !f.where[i].Match(peek(value), found) {
			return false
		}
	}
	return true
}

// mayMatch reports, without reading the object, whether its columns can pass
// the condition: unless there are escapes, name and value are in the text.
func mayMatch(columns []byte, c *event.Condition) bool {
	switch c.Op {
	case event.Equal, event.Contains, event.Prefix:
	default:
		return true
	}
	return bytes.Contains(columns, []byte(c.Value)) || bytes.IndexByte(columns, '\\') >= 0 || strings.Contains(c.Value, "\uFFFD")
}

// rows returns the rows of a row group that pass, ascending; all but the place
// of a search that continues, which it only bounds by time. The row group's
// times are returned if they were read.
func (f *filter) rows(o *openFile, g *rowGroup) (rows []int32, err error) {
	defer guard(&err, o.segment)
	if may, err := f.mayHave(o, g); err != nil || !may {
		return nil, err
	}
	if rows, err = f.inTime(o, g); err != nil || len(rows) == 0 {
		return nil, err
	}
	if f.node != "" {
		if rows, err = equalRows(g.chunks[o.fixed.node], rows, f.node); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	if f.action != "" {
		if rows, err = equalRows(g.chunks[o.fixed.action], rows, f.action); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	for i := range f.where {
		if rows, err = f.passing(o, g, rows, &f.where[i]); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	return rows, nil
}

// bounds returns the times of a row group's rows.
func bounds(o *openFile, g *rowGroup) (minTime, maxTime int64) {
	low, high, ok := g.chunks[o.fixed.time].Bounds()
	if !ok {
		return o.segment.MinTime, o.segment.MaxTime
	}
	return low.Int64(), high.Int64()
}

// mayHave reports whether a row group can have rows that pass, by statistics
// and bloom filters alone.
func (f *filter) mayHave(o *openFile, g *rowGroup) (bool, error) {
	if !f.overlaps(bounds(o, g)) {
		return false, nil
	}
	if f.node != "" {
		if may, err := mayContain(g.chunks[o.fixed.node], f.node); err != nil || !may {
			return false, err
		}
	}
	rest := hasValues(g.chunks[o.fixed.rest])
	for i := range f.where {
		c := &f.where[i]
		place, ok := o.place(c.Column)
		if rest {
			continue // it may be there
		}
		if !ok || !hasValues(g.chunks[place]) {
			return false, nil
		}
		if c.Op == event.Equal {
			if may, err := mayContain(g.chunks[place], c.Value); err != nil || !may {
				return false, err
			}
		}
	}
	return true, nil
}

func hasValues(chunk *parquet.FileColumnChunk) bool { return chunk.NullCount() < chunk.NumValues() }

func mayContain(chunk *parquet.FileColumnChunk, value string) (bool, error) {
	bloom := chunk.BloomFilter()
	if bloom == nil {
		return true, nil
	}
	return bloom.Check(parquet.ByteArrayValue([]byte(value)))
}

// inTime returns the rows within the times wanted. Rows are sorted by time, so
// that they are together.
func (f *filter) inTime(o *openFile, g *rowGroup) ([]int32, error) {
	minTime, maxTime := bounds(o, g)
	if minTime >= f.since && maxTime <= f.latest() {
		return allRows(0, g.rows), nil
	}
	times, err := readInts(g.chunks[o.fixed.time], allRows(0, g.rows), nil)
	if err != nil {
		return nil, err
	}
	from, to := 0, len(times)
	latest := f.latest()
	for from < to && times[from] > latest {
		from++
	}
	for to > from && times[to-1] < f.since {
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

// passing returns those of rows that pass a condition, whether its column has
// one of its own or is among the rest.
func (f *filter) passing(o *openFile, g *rowGroup, rows []int32, c *event.Condition) ([]int32, error) {
	var own, rest []int32
	var err error
	if place, ok := o.place(c.Column); ok && hasValues(g.chunks[place]) {
		own, err = matchingRows(g.chunks[place], rows, func(b []byte) bool { return c.Match(peek(b), true) })
		if err != nil {
			return nil, err
		}
	}
	if chunk := g.chunks[o.fixed.rest]; hasValues(chunk) {
		var object object
		rest, err = matchingRows(chunk, rows, func(b []byte) bool {
			object.reset()
			pairs, _ := object.read(b)
			value, found := lookup(pairs, c.Column)
			return c.Match(peek(value), found)
		})
		if err != nil {
			return nil, err
		}
	}
	return union(own, rest), nil
}

// union merges two ascending lists.
func union(a, b []int32) []int32 {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	merged := make([]int32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			merged, a = append(merged, a[0]), a[1:]
		case a[0] > b[0]:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged, a, b = append(merged, a[0]), a[1:], b[1:]
		}
	}
	return append(append(merged, a...), b...)
}
