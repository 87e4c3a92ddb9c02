package search

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

const (
	// retainEvery is how often the clocks are compared and expired days dropped.
	retainEvery = time.Minute
	// clockJump is how far the wall clock may drift from the steady one from one
	// look to the next; more is a jump, of the clock or of a machine that slept.
	clockJump = time.Hour
	// clockPause is how long the server may have been off before nobody can tell
	// that from a clock that is wrong.
	clockPause = 48 * time.Hour
	// clockDoubt is how long it takes until a jump ahead is believed. Somebody
	// may read the warning meanwhile and put the clock right.
	clockDoubt = 24 * time.Hour
)

// clock is the wall clock as far as retention believes it: the earliest of
// those that were in force within clockDoubt. So days do not expire because a
// clock jumped over them, and expire at their usual pace meanwhile.
type clock struct {
	settings []setting // the earliest first, the one in force last
}

// setting is the wall clock from one jump to the next.
type setting struct {
	zero  time.Time     // what it shows when the steady clock is at 0
	until time.Duration // when it was in force last, by the steady clock
}

// doubt is what a manifest tells the next Open of a clock that is not believed,
// as the stamps of the last events may be wrong by then. Both are in microseconds.
type doubt struct {
	AsOf int64 `json:"as_of"` // the time that retention goes by, since 1970
	Left int64 `json:"left"`  // for how long, by the steady clock
}

// look takes what both clocks show and returns how far the wall clock jumped
// since the last look, 0 if it did not.
func (c *clock) look(steady time.Duration, wall time.Time) (jumped time.Duration) {
	last := &c.settings[len(c.settings)-1]
	last.until = steady
	zero := wall.Add(-steady)
	if by := zero.Sub(last.zero); by.Abs() > clockJump {
		jumped = by
	}
	c.settings = slices.DeleteFunc(c.settings, func(s setting) bool {
		// Those later than this one cannot be the earliest anymore.
		return zero.Sub(s.zero) <= clockJump || steady-s.until >= clockDoubt
	})
	c.settings = append(c.settings, setting{zero, steady})
	return jumped
}

// read returns the wall clock's time as far as it is believed.
func (c *clock) read(steady time.Duration) time.Time { return c.settings[0].zero.Add(steady) }

// doubt returns nil if the clock is believed.
func (c *clock) doubt(steady time.Duration) *doubt {
	if len(c.settings) == 1 {
		return nil
	}
	left := c.settings[0].until + clockDoubt - steady
	return &doubt{AsOf: c.read(steady).UnixMicro(), Left: left.Microseconds()}
}

// wall returns the wall clock's time without the monotonic one that Go keeps
// beside it and would compare instead.
func (e *Engine) wall() time.Time { return e.now().Round(0) }

// startClock begins with the time of the last event, if the wall clock is so
// far ahead of it that it may be wrong.
func (e *Engine) startClock(ctx context.Context, m *manifest) {
	wall := e.wall()
	e.clock = clock{[]setting{{zero: wall}}}
	if len(m.Segments) == 0 {
		return
	}
	// The last by the stream, as a clock that was ahead for an hour has left
	// stamps that are later than any.
	last := slices.MaxFunc(m.Segments, func(a, b meta) int { return cmp.Compare(a.MaxSeq, b.MaxSeq) })
	asOf, left := time.UnixMicro(last.MaxReceived), clockDoubt
	if m.Doubt != nil {
		asOf, left = time.UnixMicro(m.Doubt.AsOf), time.Duration(m.Doubt.Left)*time.Microsecond
	}
	if ahead := wall.Sub(asOf); ahead > clockPause {
		e.clock.settings = slices.Insert(e.clock.settings, 0, setting{asOf, left - clockDoubt})
		e.log.WarnContext(ctx, "the server was off for long, or its clock is wrong: for a while events expire as if no time had passed",
			"since", asOf.UTC(), "now", wall.UTC(), "for", left)
	}
}

// watchClock compares the clocks and returns the time that retention goes by.
// The caller holds writing.
func (e *Engine) watchClock() time.Time {
	steady, wall := e.steady(), e.wall()
	if by := e.clock.look(steady, wall); by != 0 {
		e.log.Warn("the wall clock jumped: for a while events expire by the earlier of the two times",
			"by", by.Round(time.Second), "now", wall.UTC(), "for", clockDoubt)
	}
	return e.clock.read(steady)
}

// retain drops the days that are wholly older than the retention, and the oldest
// segments if all together are too large.
func (e *Engine) retain(ctx context.Context) error {
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.yield()
	now := e.watchClock() // also if there is nothing to drop: a jump that nobody sees is believed
	remove := map[*segment]bool{}
	var rows int64
	e.mu.RLock()
	segments := slices.Clone(e.segments)
	e.mu.RUnlock()
	for _, s := range segments {
		if keep := e.keeps(string(s.Query)); keep > 0 && s.Day < oldestDay(now, keep) {
			remove[s] = true
			rows += s.Rows
		}
	}
	tooMuch := e.tooMuch(segments, remove)
	if tooMuch > 0 {
		e.log.WarnContext(ctx, "dropping the oldest events, as all together take more than retention_bytes", "rows", tooMuch, "limit", e.maxBytes)
	}
	if len(remove) == 0 {
		return nil
	}
	c := change{remove: remove, expired: true}
	if e.retention > 0 { // losses of days that are over are no news anymore
		c.forget = func(l loss) bool { return l.Segment.Day < oldestDay(now, e.retention) }
	}
	if err := e.commit(c); err != nil {
		return err
	}
	e.removeEmptyDays()
	e.log.InfoContext(ctx, "dropped expired events", "rows", rows+tooMuch, "segments", len(remove))
	return nil
}

// keeps returns how long the events of a query are kept; 0 is for ever.
func (e *Engine) keeps(query string) time.Duration {
	for _, r := range e.queries {
		if name, prefix := strings.CutSuffix(r.Query, "*"); query == r.Query || prefix && strings.HasPrefix(query, name) {
			return r.Keep
		}
	}
	return e.retention
}

// oldestDay returns the first day that is kept: a day is kept until its last moment
// is old enough.
func oldestDay(now time.Time, keep time.Duration) string { return dayOf(now.Add(-keep).UnixMicro()) }

// tooMuch adds to remove the segments that arrived first, until the others have no
// more than the most bytes, and returns how many rows those have.
func (e *Engine) tooMuch(segments []*segment, remove map[*segment]bool) (rows int64) {
	if e.maxBytes <= 0 {
		return 0
	}
	var size int64
	segments = slices.DeleteFunc(segments, func(s *segment) bool { return remove[s] })
	for _, s := range segments {
		size += s.Bytes
	}
	slices.SortFunc(segments, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.MaxReceived, b.MaxReceived), strings.Compare(a.File, b.File))
	})
	for _, s := range segments {
		if size <= e.maxBytes {
			break
		}
		size -= s.Bytes
		remove[s] = true
		rows += s.Rows
	}
	return rows
}
