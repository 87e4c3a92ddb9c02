package search

import (
	"github.com/parquet-go/parquet-go"

	"github.com/musterhq/muster/internal/event"
)

// mayPass reports whether a row group can have rows that pass an expression, by
// statistics and bloom filters alone.
func (o *openFile) mayPass(g *rowGroup, x *event.Expr) (bool, error) {
	if x == nil {
		return true, nil
	}
	switch x.Kind {
	case event.Test:
		return o.mayPassTest(g, &x.Test)
	case event.And, event.Or:
		for _, t := range x.Terms {
			if may, err := o.mayPass(g, t); err != nil || may == (x.Kind == event.Or) {
				return may, err
			}
		}
		return x.Kind == event.And, nil
	case event.Not:
	}
	return true, nil
}

func (o *openFile) mayPassTest(g *rowGroup, c *event.Condition) (bool, error) {
	var chunk *parquet.FileColumnChunk
	switch {
	case c.Column == event.StampNode:
		chunk = g.chunks[o.fixed.node]
	case c.Column == event.AnyColumn, event.IsStamp(c.Column), hasValues(g.chunks[o.fixed.rest]):
		return true, nil
	default:
		place, ok := o.place(c.Column)
		if !ok || !hasValues(g.chunks[place]) {
			return false, nil
		}
		chunk = g.chunks[place]
	}
	switch {
	case c.Op == event.Equal:
		return mayContain(chunk, c.Value)
	case c.Op == event.In && len(c.Values) <= maxBlooms:
		return mayContain(chunk, c.Values...)
	}
	return true, nil
}

// passing returns those of rows that pass an expression. Rows ascend.
func (o *openFile) passing(g *rowGroup, rows []int32, x *event.Expr) (passing []int32, err error) {
	switch x.Kind {
	case event.Test:
		return o.passingTest(g, rows, &x.Test)
	case event.Not:
		passing, err = o.passing(g, rows, x.Terms[0])
		return without(rows, passing), err
	case event.And:
		passing = rows
		for _, t := range x.Terms {
			if passing, err = o.passing(g, passing, t); err != nil || len(passing) == 0 {
				return nil, err
			}
		}
	case event.Or:
		for _, t := range x.Terms { // those that pass already need no further test
			more, err := o.passing(g, rows, t)
			if err != nil {
				return nil, err
			}
			passing, rows = union(passing, more), without(rows, more)
		}
	}
	return passing, nil
}

func (o *openFile) passingTest(g *rowGroup, rows []int32, c *event.Condition) ([]int32, error) {
	if event.IsStamp(c.Column) {
		return o.passingStamp(g, rows, c)
	}
	match := func(b []byte) bool { return c.Match(event.Peek(b), true) }
	var passing []int32
	for i, place := range o.places {
		if c.Column != event.AnyColumn && c.Column != o.columns[i] || !hasValues(g.chunks[place]) {
			continue
		}
		more, err := matchingRows(g.chunks[place], rows, match)
		if err != nil {
			return nil, err
		}
		passing, rows = union(passing, more), without(rows, more)
	}
	rest := g.chunks[o.fixed.rest]
	if !hasValues(rest) {
		return passing, nil
	}
	// What is not an object of strings has no columns.
	var row event.Row
	x := event.Expr{Test: *c}
	more, err := matchingRows(rest, rows, func(b []byte) bool {
		row.Reset()
		row.Columns = b
		return x.Match(&row)
	})
	return union(passing, more), err
}

func (o *openFile) passingStamp(g *rowGroup, rows []int32, c *event.Condition) ([]int32, error) {
	match := func(b []byte) bool { return c.Match(event.Peek(b), true) }
	var row event.Row
	x := event.Expr{Test: *c}
	switch c.Column {
	case event.StampNode:
		return matchingRows(g.chunks[o.fixed.node], rows, match)
	case event.StampHost:
		return matchingRows(g.chunks[o.fixed.host], rows, match)
	case event.StampAction:
		return matchingRows(g.chunks[o.fixed.action], rows, match)
	case event.StampQuery:
		if !c.Match(string(o.segment.Query), true) {
			return nil, nil
		}
		return rows, nil
	case event.StampTag:
		if o.fixed.tags == missing {
			return nil, nil
		}
		return matchingRows(g.chunks[o.fixed.tags], rows, func(b []byte) bool {
			row.Tags = event.DecodeTags(b)
			return x.Match(&row)
		})
	}
	if _, ok := event.Decoration(c.Column); ok {
		return matchingRows(g.chunks[o.fixed.decorations], rows, func(b []byte) bool {
			row.Reset()
			row.Decorations = b
			return x.Match(&row)
		})
	}
	place, set := o.number(c.Column)
	if set == nil || place == missing {
		return nil, nil
	}
	return matchingInts(g.chunks[place], rows, func(v int64) bool {
		set(&row, v)
		return x.Match(&row)
	})
}

// number returns the place of the column of a stamp that is a number, and how it
// is put into a row. set is nil for other stamps.
func (o *openFile) number(stamp string) (place int, set func(r *event.Row, v int64)) {
	switch stamp {
	case event.StampTime:
		return o.fixed.time, func(r *event.Row, v int64) { r.Time = v }
	case event.StampReceived:
		return o.fixed.received, func(r *event.Row, v int64) { r.Received = v }
	case event.StampEpoch:
		return o.fixed.epoch, func(r *event.Row, v int64) { r.Epoch = v }
	case event.StampCounter:
		return o.fixed.counter, func(r *event.Row, v int64) { r.Counter = v }
	case event.StampRevision:
		return o.fixed.revision, func(r *event.Row, v int64) { r.Revision = v }
	case event.StampAgentTime:
		return o.fixed.agentTime, func(r *event.Row, v int64) { r.AgentTime = v }
	}
	return missing, nil
}

// matchingInts returns those of rows whose number passes. Numbers of stamps come
// in runs, of which each is tested once.
func matchingInts(chunk *parquet.FileColumnChunk, rows []int32, match func(int64) bool) ([]int32, error) {
	values, err := readInts(chunk, rows, make([]int64, 0, len(rows)))
	if err != nil {
		return nil, err
	}
	var passing []int32
	var verdict bool
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			verdict = match(v)
		}
		if verdict {
			passing = append(passing, rows[i])
		}
	}
	return passing, nil
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

// without returns the ascending rows that are not in another such list, which is
// a part of them.
func without(rows, other []int32) []int32 {
	if len(other) == 0 {
		return rows
	}
	kept := make([]int32, 0, len(rows)-len(other))
	for _, r := range rows {
		if len(other) > 0 && other[0] == r {
			other = other[1:]
			continue
		}
		kept = append(kept, r)
	}
	return kept
}
