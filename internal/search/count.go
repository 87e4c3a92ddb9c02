package search

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// maxBuckets bounds a histogram.
const maxBuckets = 10_000

// Queries counts the events that pass by query, sorted by its name, and by
// time in buckets of the given width. Buckets begin at multiples of the width
// since 1970, ascend, and leave none out between the first and the last with
// events; a width of 0 makes none. Limit and Before of the filter do not
// count. It refuses widths that make too many buckets.
func (e *Engine) Queries(ctx context.Context, f event.Filter, width time.Duration) ([]event.Summary, []event.Bucket, error) {
	f.Before, f.Limit = event.Position{}, 0
	r := newFilter(f)
	if width < 0 || width > 0 && width < time.Microsecond {
		return nil, nil, errs.Field("bucket", "must be at least a microsecond")
	}
	v, err := e.look(r)
	if err != nil {
		return nil, nil, err
	}
	defer v.release()
	c := &counter{width: width.Microseconds(), queries: map[string]*event.Summary{}, buckets: map[int64]int64{}, last: math.MaxInt64}
	if f.Until.IsZero() && width > 0 {
		c.last = floorDiv(e.now().UnixMicro(), c.width)
	}
	var row event.Row
	for i := range v.parts {
		p := &v.parts[i]
		for j := range p.entries {
			if j%4096 == 0 && ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if en := &p.entries[j]; r.matches(p, en, &row) {
				c.add(p.query, en.time, en.time, 1)
			}
		}
	}
	for _, s := range v.segments {
		if err := e.countSegment(ctx, s, r, c); err != nil {
			return nil, nil, e.failed(ctx, s, err)
		}
	}
	return c.result()
}

// counter sums up events.
type counter struct {
	width   int64
	queries map[string]*event.Summary
	buckets map[int64]int64 // by number
	// last is the bucket of now, which takes what agents whose clock is ahead
	// say of later: one of them must not stretch everybody's histogram.
	last int64
}

// fits reports whether times are counted alike.
func (c *counter) fits(minTime, maxTime int64) bool {
	return c.width == 0 || floorDiv(minTime, c.width) == floorDiv(maxTime, c.width)
}

// add counts n events between the times, which fit.
func (c *counter) add(query string, minTime, maxTime, n int64) {
	s := c.queries[query]
	if s == nil {
		s = &event.Summary{Query: query, Last: time.UnixMicro(maxTime).UTC()}
		c.queries[query] = s
	}
	s.Count += n
	if last := time.UnixMicro(maxTime).UTC(); last.After(s.Last) {
		s.Last = last
	}
	if c.width > 0 {
		c.buckets[min(floorDiv(minTime, c.width), c.last)] += n
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (c *counter) result() ([]event.Summary, []event.Bucket, error) {
	summaries := make([]event.Summary, 0, len(c.queries))
	for _, s := range c.queries {
		summaries = append(summaries, *s)
	}
	slices.SortFunc(summaries, func(a, b event.Summary) int { return cmp.Compare(a.Query, b.Query) })
	if len(c.buckets) == 0 {
		return summaries, nil, nil
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for b := range c.buckets {
		first, last = min(first, b), max(last, b)
	}
	if uint64(last-first) >= maxBuckets {
		return nil, nil, errs.Field("bucket", "makes more than %d buckets; take a wider one or a shorter time", maxBuckets)
	}
	buckets := make([]event.Bucket, 0, last-first+1)
	for b := first; b <= last; b++ {
		buckets = append(buckets, event.Bucket{Start: time.UnixMicro(b * c.width).UTC(), Count: c.buckets[b]})
	}
	return summaries, buckets, nil
}

// countSegment counts a segment's events, without reading rows where the
// statistics suffice.
func (e *Engine) countSegment(ctx context.Context, s *segment, f *filter, c *counter) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := func(minTime, maxTime int64) bool {
		return f.onlyTime() && minTime >= f.since && maxTime < f.until && c.fits(minTime, maxTime)
	}
	if whole(s.MinTime, s.MaxTime) {
		c.add(string(s.Query), s.MinTime, s.MaxTime, s.Rows)
		return nil
	}
	o, err := e.files.get(s)
	if err != nil {
		return err
	}
	defer e.files.put(o)
	defer guard(&err, s)
	for i := range o.groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		g := &o.groups[i]
		if minTime, maxTime := bounds(o, g); whole(minTime, maxTime) {
			c.add(string(s.Query), minTime, maxTime, int64(g.rows))
			continue
		}
		rows, err := f.rows(o, g)
		if err != nil {
			return err
		}
		times, err := readInts(g.chunks[o.fixed.time], rows, make([]int64, 0, len(rows)))
		if err != nil {
			return err
		}
		for len(times) > 0 { // they descend: runs of one bucket
			n := 1
			for n < len(times) && c.fits(times[n], times[0]) {
				n++
			}
			c.add(string(s.Query), times[n-1], times[0], int64(n))
			times = times[n:]
		}
	}
	return nil
}
