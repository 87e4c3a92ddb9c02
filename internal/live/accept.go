package live

import (
	"context"
	"maps"
	"time"
)

// Received notes answers of a node that are in the stream, and that Accept gets
// sooner or later: the node is not asked again, nor taken for silent, however far
// behind the reader is, and what went wrong holds the query at once.
func (c *Coordinator) Received(answers []Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		r := c.running[a.LiveID]
		if r == nil || r.query.Phase == Pending {
			continue
		}
		t := r.open[a.NodeID]
		if t == nil || t.received {
			continue
		}
		t.received = true
		r.coming++
		if r.wave != nil {
			r.wave.done(t, a)
			r.judge()
		}
	}
}

// Accept keeps answers, which are in the stream already. The same answer may
// come again.
func (c *Coordinator) Accept(ctx context.Context, answers []Answer) error {
	if err := c.keepJoining(ctx); err != nil { // else the store knows of no question
		return err
	}
	awaited, queries, err := c.awaited(ctx, answers)
	if err != nil {
		return err
	}
	full := c.cut(awaited, queries)
	for _, a := range awaited {
		for _, o := range c.observers {
			if err := o(ctx, queries[a.LiveID], a); err != nil {
				return err
			}
		}
	}
	if _, err := c.store.SaveAnswers(ctx, awaited); err != nil {
		return err
	}
	for id, phase := range c.takeIn(awaited, full) {
		if err := c.end(ctx, id, phase); err != nil {
			return err
		}
	}
	return nil
}

// awaited returns the answers that were asked for and did not come before, each
// once, and their queries. Only for what is not open in memory the store is asked.
func (c *Coordinator) awaited(ctx context.Context, answers []Answer) (list []Answer, queries map[string]Query, err error) {
	seen := make(map[[2]string]bool, len(answers))
	queries = map[string]Query{}
	var others []Answer
	c.mu.RLock()
	for _, a := range answers {
		key := [2]string{a.LiveID, a.NodeID}
		if seen[key] {
			continue
		}
		seen[key] = true
		r := c.running[a.LiveID]
		if r == nil || r.open[a.NodeID] == nil {
			if r == nil || r.query.Standing { // whose targets end one by one
				others = append(others, a)
			}
			continue
		}
		if r.query.Phase == Pending {
			continue // nobody was asked
		}
		if _, ok := queries[a.LiveID]; !ok {
			queries[a.LiveID] = r.snapshot()
		}
		a.EnrolledAt = r.open[a.NodeID].enrolled
		list = append(list, a)
	}
	c.mu.RUnlock()
	if len(others) == 0 {
		return list, queries, nil
	}
	late, ended, err := c.store.Awaited(ctx, others)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(queries, ended)
	return append(list, late...), queries, nil
}

// cut cuts what is over a query's limits in all, and returns those that gave
// more.
func (c *Coordinator) cut(answers []Answer, queries map[string]Query) (full map[string]bool) {
	full = map[string]bool{}
	for i := range answers {
		a := &answers[i]
		q := queries[a.LiveID]
		limits := q.Limits.orDefaults()
		a.keep(limits.RowsPerNode, int64(limits.BytesPerNode)) // which who received it knew only if the query ran
		if a.keep(max(limits.Rows-q.Rows, 0), max(limits.Bytes-q.Bytes, 0)) {
			full[q.ID] = true
		}
		q.Rows, q.Bytes = q.Rows+len(a.Rows), q.Bytes+a.Bytes()
		queries[a.LiveID] = q
	}
	return full
}

// keep cuts the answer to so many rows and bytes, and reports whether it had
// more.
func (a *Answer) keep(rows int, size int64) bool {
	n := 0
	for _, r := range a.Rows {
		if size -= int64(len(r)); n == rows || size < 0 {
			a.Rows, a.State, a.Cut = a.Rows[:n], OverLimit, true
			return true
		}
		n++
	}
	return false
}

// takeIn notes answers that are kept, and returns the queries that are over.
func (c *Coordinator) takeIn(answers []Answer, full map[string]bool) map[string]Phase {
	over := map[string]Phase{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		c.wake(a.LiveID)
		r := c.running[a.LiveID]
		if r == nil {
			continue
		}
		r.query.Rows, r.query.Bytes = r.query.Rows+len(a.Rows), r.query.Bytes+a.Bytes()
		r.query.Truncated = r.query.Truncated || a.Cut
		if t := r.open[a.NodeID]; t != nil {
			c.close(t, a.State)
			r.times = append(r.times, a.ReceivedAt)
			if r.wave != nil && !t.received {
				r.wave.done(t, a)
				r.judge()
			}
		} else if a.Late {
			r.count(Expired, -1)
			r.count(a.State, 1)
		}
		switch {
		case r.ending != "":
		case full[a.LiveID]:
			over[a.LiveID] = Full
		case len(r.open) == 0 && !r.query.Standing:
			over[a.LiveID] = Done
		}
	}
	return over
}

// Latency returns when the first answer to a query that runs came, and by when
// half of them and 95 of 100 had. It is known if all answers came since the server
// started; else, and of what ended, the store knows.
func (c *Coordinator) Latency(id string) (first, p50, p95 time.Time, known bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r := c.running[id]
	if r == nil || r.query.Standing || len(r.times) == 0 || len(r.times) != r.query.Nodes()-len(r.open) {
		return first, p50, p95, false
	}
	last := len(r.times) - 1
	return r.times[0], r.times[last*50/100], r.times[last*95/100], true
}
