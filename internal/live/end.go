package live

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Stop ends a query; no node takes it from then on. Stopping one that has ended
// is no error.
func (c *Coordinator) Stop(ctx context.Context, id string) error { return c.end(ctx, id, StoppedBy) }

// StopAll ends the given queries. Nothing of them is delivered from the first
// moment on, whatever the store does.
func (c *Coordinator) StopAll(ctx context.Context, ids []string) error {
	c.mu.Lock()
	for _, id := range ids {
		if r := c.running[id]; r != nil {
			r.ending = StoppedBy
			c.disarm(r)
		}
	}
	c.mu.Unlock()
	var failed []error
	for _, id := range ids {
		failed = append(failed, c.end(ctx, id, StoppedBy))
	}
	return errors.Join(failed...)
}

// Approve lets a query run that waits for a second person, which is never who
// asked for it. Its time begins now.
func (c *Coordinator) Approve(ctx context.Context, id, by string) (Query, error) {
	q, err := c.waits(id, by)
	if err != nil {
		return Query{}, err
	}
	lifetime := q.ExpiresAt.Sub(q.Begins())
	q.Phase, q.Approval.By, q.Approval.At = Running, by, c.now()
	q.ExpiresAt = q.Begins().Add(lifetime)
	if err := c.store.AlterLive(ctx, q, Pending); err != nil {
		return Query{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil || r.ending != "" || r.query.Phase != Pending {
		return q, nil // stopped meanwhile
	}
	r.query.Phase, r.query.Approval, r.query.ExpiresAt = q.Phase, q.Approval, q.ExpiresAt
	for _, t := range r.open {
		c.pending[t.node] = append(c.pending[t.node], t)
	}
	c.wake(id)
	return r.snapshot(), nil
}

// Reject ends a query that waits for a second person.
func (c *Coordinator) Reject(ctx context.Context, id, by string) error {
	q, err := c.waits(id, "")
	if err != nil {
		return err
	}
	q.Approval.By, q.Approval.At = by, c.now()
	if err := c.store.AlterLive(ctx, q, Pending); err != nil {
		return err
	}
	return c.end(ctx, id, Rejected)
}

// waits returns a query that waits for a second person.
func (c *Coordinator) waits(id, by string) (Query, error) {
	q, ok := c.Running(id)
	switch {
	case !ok || q.Phase != Pending:
		return Query{}, errs.New(errs.Conflict, "the query does not wait for a second person any more")
	case q.CreatedBy == by:
		return Query{}, errs.New(errs.Forbidden, "somebody else must approve it: %s asked for it", by)
	}
	return q, nil
}

// Resume lets a query that is held go on; nodes are judged anew from here.
func (c *Coordinator) Resume(ctx context.Context, id string) (Query, error) {
	c.mu.Lock()
	r := c.running[id]
	if r == nil || r.ending != "" || r.query.Held == "" {
		c.mu.Unlock()
		return Query{}, errs.New(errs.Conflict, "the query is not held")
	}
	held := r.query.Held
	next := r.snapshot()
	next.Held = ""
	if r.wave != nil {
		again := *r.wave
		again.resume()
		next.Waves = again.Waves
	}
	c.mu.Unlock()
	if err := c.store.AlterLive(ctx, next, Running); err != nil {
		return Query{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.query.Held == held {
		r.query.Held, r.untold = "", false
		if r.wave != nil {
			r.wave.resume()
			r.query.Waves = r.wave.Waves
		}
	}
	c.wake(id)
	return r.snapshot(), nil
}

// openBecome is the state of nodes that have not answered when a query ends.
func openBecome(p Phase) State {
	if p == Done || p == TimedOut {
		return Expired
	}
	return Halted
}

// disarm lets no node take the query any more.
func (c *Coordinator) disarm(r *run) {
	for _, t := range r.open {
		c.unpend(t)
	}
}

// end takes the query out of memory first, so that nothing is delivered any
// more even when the store fails; then it is noted again, to be ended later.
func (c *Coordinator) end(ctx context.Context, id string, phase Phase) error {
	c.mu.Lock()
	r := c.running[id]
	if r == nil {
		c.mu.Unlock()
		return nil
	}
	delete(c.running, id)
	r.ending = phase
	c.disarm(r)
	c.mu.Unlock()
	open := openBecome(phase)
	if r.query.Standing {
		open = Halted
	}
	err := c.store.EndLive(ctx, id, phase, open, c.now())
	if err == nil && phase == Full {
		err = c.tell(ctx, r, phase)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.running[id] = r // the next tick tries again; nothing is pending in it
	}
	c.wake(id)
	return err
}

// tell lets the log and the witness know what is done without anybody's wish.
func (c *Coordinator) tell(ctx context.Context, r *run, phase Phase) error {
	c.mu.RLock()
	q := r.snapshot()
	c.mu.RUnlock()
	q.Phase = phase
	c.log.WarnContext(ctx, "live query is not delivered any more", "id", q.ID, "phase", string(q.Phase), "held", q.Held, "rows", q.Rows, "bytes", q.Bytes)
	if c.witness == nil {
		return nil
	}
	return c.witness(ctx, q)
}

// Run keeps what was sent and ends queries whose time is over, until ctx ends.
// A store that fails is logged and tried again.
func (c *Coordinator) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return c.keepSent(context.WithoutCancel(ctx))
		case <-t.C:
		}
		err := errors.Join(c.keepSent(ctx), c.expireStanding(ctx), c.keepHeld(ctx), c.endDue(ctx))
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "live queries could not be kept; retrying", "error", err)
		}
	}
}

// keepSent keeps what nodes took; before, that they joined.
func (c *Coordinator) keepSent(ctx context.Context) error {
	c.mu.Lock()
	sent := c.sent
	c.sent = nil
	c.mu.Unlock()
	err := c.keepJoining(ctx)
	if err == nil && len(sent) > 0 {
		err = c.store.MarkSent(ctx, sent)
	}
	if err != nil {
		c.mu.Lock()
		c.sent = append(sent, c.sent...)
		c.mu.Unlock()
	}
	return err
}

// keepHeld ends leases and keeps which queries are held.
func (c *Coordinator) keepHeld(ctx context.Context) error {
	now := c.now()
	var held []*run
	c.mu.Lock()
	for _, r := range c.running {
		if r.wave != nil && r.ending == "" {
			r.lapse(now)
		}
		if r.untold && r.ending == "" {
			held = append(held, r)
		}
	}
	c.mu.Unlock()
	var failed []error
	for _, r := range held {
		failed = append(failed, c.keepOneHeld(ctx, r))
	}
	return errors.Join(failed...)
}

func (c *Coordinator) keepOneHeld(ctx context.Context, r *run) error {
	c.mu.RLock()
	q := r.snapshot()
	c.mu.RUnlock()
	if err := c.tell(ctx, r, q.Phase); err != nil {
		return err
	}
	if err := c.store.AlterLive(ctx, q, Running); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.query.Held == q.Held {
		r.untold = false
	}
	c.wake(q.ID)
	return nil
}

func (c *Coordinator) endDue(ctx context.Context) error {
	now := c.now()
	due := map[string]Phase{}
	c.mu.RLock()
	for id, r := range c.running {
		switch {
		case r.ending != "":
			due[id] = r.ending
		case r.query.Standing:
		case len(r.open) == 0:
			due[id] = Done
		case !now.Before(r.deadline()) && (r.coming == 0 || !now.Before(r.deadline().Add(comingTime))):
			due[id] = TimedOut
		}
	}
	c.mu.RUnlock()
	for id, phase := range due {
		if err := c.end(ctx, id, phase); err != nil {
			return err
		}
	}
	return nil
}

// comingTime bounds how long a query whose time is over waits for answers that
// came in time and are not kept yet. No node gets it meanwhile.
const comingTime = 5 * time.Minute

// deadline is when the query ends by itself.
func (r *run) deadline() time.Time {
	if r.query.Phase == Pending {
		return r.query.CreatedAt.Add(ApprovalTime)
	}
	return r.query.ExpiresAt
}

func oldestFirst(queries map[string]Query) []Query {
	list := make([]Query, 0, len(queries))
	for _, q := range queries {
		list = append(list, q)
	}
	slices.SortFunc(list, func(a, b Query) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return list
}
