package live

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// Stand keeps a standing query: it runs until EndStanding, and nodes join it by
// Add. The caller chooses q.ID, by what the query is, so that to call it again
// is harmless, also after a restart. One that EndStanding ended stands again; one
// that a person stopped does not, under this id.
func (c *Coordinator) Stand(ctx context.Context, q Query) error {
	if _, ok := c.Running(q.ID); ok {
		return nil
	}
	q.Standing = true
	if q.Kind == "" {
		q.Kind = Enrollment
	}
	kept, err := c.store.StandLive(ctx, c.prepare(q))
	if err != nil || kept.Phase != Running {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[q.ID] == nil {
		c.arm(kept, nil)
	}
	return nil
}

// EndStanding ends a standing query; who has not answered never will be asked.
func (c *Coordinator) EndStanding(ctx context.Context, id string) error {
	return c.end(ctx, id, Done)
}

// Add lets a node join a standing query, once per enrolment: its next poll takes
// it, if that comes before expires. A later enrolment asks anew, and what the
// node answered before is gone. It is kept by the next tick. Without such a
// query it does nothing.
func (c *Coordinator) Add(queryID string, n *node.Identity, enrolledAt, expires time.Time) {
	enrolledAt, expires = enrolledAt.UTC().Truncate(time.Microsecond), expires.UTC().Truncate(time.Microsecond) // as they are kept
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[queryID]
	if r == nil || r.ending != "" || !r.query.Standing {
		return
	}
	t := r.open[n.ID]
	if t != nil && !enrolledAt.After(t.enrolled) {
		return
	}
	if t != nil {
		r.count(t.state, -1)
		t.state, t.attempts, t.sentAt, t.enrolled, t.expires = Waiting, 0, time.Time{}, enrolledAt, expires
	} else {
		t = &target{run: r, node: n.ID, state: Waiting, enrolled: enrolledAt, expires: expires}
		r.open[n.ID] = t
		c.pending[n.ID] = append(c.pending[n.ID], t)
	}
	r.count(Waiting, 1)
	if !expires.IsZero() && (r.look.IsZero() || expires.Before(r.look)) {
		r.look = expires
	}
	c.joining = append(c.joining, Joining{LiveID: queryID, Target: Target{
		NodeID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, State: Waiting, EnrolledAt: enrolledAt, ExpiresAt: expires,
	}})
	c.wake(queryID)
}

// keepJoining keeps the nodes that joined. When it returns, all who joined
// before the call are kept.
func (c *Coordinator) keepJoining(ctx context.Context) error {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	c.mu.Lock()
	joining := c.joining
	c.joining = nil
	c.mu.Unlock()
	if len(joining) == 0 {
		return nil
	}
	joined, err := c.store.AddTargets(ctx, joining)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.joining = append(joining, c.joining...)
		return err
	}
	for i, j := range joined {
		r := c.running[joining[i].LiveID]
		if r == nil {
			continue
		}
		if j.Asked {
			if j.Was != "" && !j.Was.open() {
				r.count(j.Was, -1)
				r.query.Rows, r.query.Bytes = r.query.Rows-j.Rows, r.query.Bytes-j.Bytes
			}
			continue
		}
		// It was asked for that enrolment before, and answered, or ran out of time.
		if t := r.open[joining[i].Target.NodeID]; t != nil && t.enrolled.Equal(joining[i].Target.EnrolledAt) {
			delete(r.open, t.node)
			c.unpend(t)
			r.count(t.state, -1)
		}
	}
	return nil
}

// expireStanding gives up nodes of standing queries whose time is over.
func (c *Coordinator) expireStanding(ctx context.Context) error {
	now := c.now()
	var due []string
	c.mu.Lock()
	for id, r := range c.running {
		if r.query.Standing && r.ending == "" && r.expire(c, now) {
			due = append(due, id)
		}
	}
	c.mu.Unlock()
	for _, id := range due {
		if err := c.store.ExpireTargets(ctx, id, now); err != nil {
			return err // look is unchanged, so it is tried again
		}
		c.mu.Lock()
		if r := c.running[id]; r != nil {
			r.look = r.nextLook()
		}
		c.wake(id)
		c.mu.Unlock()
	}
	return nil
}

// expire gives up the nodes whose time is over. It looks at all only when the
// first of them may be due.
func (r *run) expire(c *Coordinator, now time.Time) bool {
	if r.look.IsZero() || now.Before(r.look) {
		return false
	}
	for _, t := range r.open {
		if !t.expires.IsZero() && !now.Before(t.expires) {
			c.close(t, Expired)
		}
	}
	return true
}

// nextLook returns when the next node's time is over; zero if none's ever is.
func (r *run) nextLook() time.Time {
	var next time.Time
	for _, t := range r.open {
		if !t.expires.IsZero() && (next.IsZero() || t.expires.Before(next)) {
			next = t.expires
		}
	}
	return next
}
