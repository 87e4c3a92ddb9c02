package live

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// Timing of delivery.
const (
	// DefaultExpiry is how long a live query waits for nodes, unless asked
	// otherwise.
	DefaultExpiry = 10 * time.Minute
	// Lease is how long a node has to answer before it may be asked again. It is
	// longer than a slow query takes; the text is never out twice at once.
	Lease = 2 * time.Minute
	// maxAttempts bounds how often a node takes one query. A query that kills
	// the worker is denylisted by the agent itself from the second time on.
	maxAttempts = 3
	// maxPerRead bounds the queries in one answer to a poll: an agent runs them
	// one after another and answers all at once.
	maxPerRead = 8
	// maxAccelerated bounds the nodes of a query that are told to poll faster.
	// Each poll of a real agent is a TLS handshake, so a whole fleet that polls
	// every 5 s would starve itself and everybody else (seen with 10,000 nodes).
	maxAccelerated = 500
	// Accelerate is how long an agent that took a query polls every 5 s, so that
	// a person's next question is answered soon (seconds).
	Accelerate = 60

	tick = 500 * time.Millisecond
)

// Store keeps live queries. Every method is one transaction.
type Store interface {
	// CreateLive keeps a new query with its targets.
	CreateLive(ctx context.Context, q Query, targets []Target) error
	// RunningLive returns the queries in phase Running with their targets,
	// without rows.
	RunningLive(ctx context.Context) (map[string]Query, map[string][]Target, error)
	// MarkSent keeps that nodes took queries.
	MarkSent(ctx context.Context, sent []Delivery) error
	// SaveAnswers keeps answers and returns those that were new: a node answers
	// a query once, and only one that it was asked. A late answer to a query
	// that ended is kept, too.
	SaveAnswers(ctx context.Context, answers []Answer) ([]Answer, error)
	// EndLive keeps that a query ended: its open targets get the state open,
	// and the query the counts of its targets.
	EndLive(ctx context.Context, id string, phase Phase, open State, at time.Time) error
}

// Delivery says that a node took a query.
type Delivery struct {
	LiveID   string
	NodeID   string
	At       time.Time
	Attempts int
}

// Task is one query for one node to run.
type Task struct {
	ID, SQL string
	// Accelerate says that the node shall poll faster for a while.
	Accelerate bool
}

// Coordinator delivers live queries and takes their answers in. Safe for
// concurrent use.
type Coordinator struct {
	store Store
	log   *slog.Logger
	now   func() time.Time

	mu      sync.RWMutex
	running map[string]*run
	pending map[string][]*run // by node: runs in which it is open
	sent    []Delivery        // not kept yet
	changed map[string]*watch

	observers []Observer
}

// Observer hears of each new answer to a query that runs, after it is in the
// stream and before it is kept. It hears of one at least once, again after a
// crash, so it must be idempotent. An error makes the answer come again.
type Observer func(ctx context.Context, q Query, a Answer) error

type run struct {
	query   Query
	targets map[string]*Target
	open    int
	stopped bool // by somebody, but the store did not take it yet
}

// watch wakes everybody who looks at one query.
type watch struct {
	wake  chan struct{} // closed at a change
	count int
}

// NewCoordinator returns a Coordinator without queries; Load takes up those
// that run.
func NewCoordinator(store Store, log *slog.Logger, now func() time.Time) *Coordinator {
	return &Coordinator{
		store: store, log: log, now: now,
		running: map[string]*run{}, pending: map[string][]*run{}, changed: map[string]*watch{},
	}
}

// Load takes up the queries that were running when the server stopped.
func (c *Coordinator) Load(ctx context.Context) error {
	queries, targets, err := c.store.RunningLive(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, q := range queries {
		c.arm(q, targets[id])
	}
	return nil
}

// Start keeps a query for the given nodes and begins to deliver it. The caller
// has chosen q.ID, so that the audit log can name it first.
func (c *Coordinator) Start(ctx context.Context, q Query, nodes []*node.Identity) (Query, error) {
	if len(nodes) == 0 {
		return Query{}, errs.Field("selector", "no node matches; choose nodes, tags or all")
	}
	now := c.now()
	q.Phase, q.CreatedAt, q.Kind = Running, now, cmp.Or(q.Kind, Person)
	if q.ExpiresAt.IsZero() {
		q.ExpiresAt = now.Add(DefaultExpiry)
	}
	targets := make([]Target, 0, len(nodes))
	for _, n := range nodes {
		targets = append(targets, Target{NodeID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, State: Waiting})
	}
	q.Counts = map[State]int{Waiting: len(targets)}
	if err := c.store.CreateLive(ctx, q, targets); err != nil {
		return Query{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arm(q, targets)
	return c.running[q.ID].snapshot(), nil
}

func (c *Coordinator) arm(q Query, targets []Target) {
	r := &run{query: q, targets: make(map[string]*Target, len(targets))}
	for i := range targets {
		t := &targets[i]
		r.targets[t.NodeID] = t
		if t.State.open() {
			r.open++
			c.pending[t.NodeID] = append(c.pending[t.NodeID], r)
		}
	}
	c.running[q.ID] = r
}

// Take returns the queries that a node shall run now. Each is out at most once
// per Lease. It is one look into a map when there are none.
func (c *Coordinator) Take(nodeID string) []Task {
	c.mu.RLock()
	none := len(c.pending[nodeID]) == 0
	c.mu.RUnlock()
	if none {
		return nil
	}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var tasks []Task
	for _, r := range c.pending[nodeID] {
		t := r.targets[nodeID]
		// One that was sent in the future, before the clock went back, is no lease.
		leased := t.State == Sent && now.Sub(t.SentAt).Abs() < Lease
		if leased || t.Attempts >= maxAttempts || !now.Before(r.query.ExpiresAt) || len(tasks) == maxPerRead {
			continue
		}
		t.State, t.SentAt, t.Attempts = Sent, now, t.Attempts+1
		c.sent = append(c.sent, Delivery{LiveID: r.query.ID, NodeID: nodeID, At: now, Attempts: t.Attempts})
		tasks = append(tasks, Task{ID: r.query.ID, SQL: r.query.SQL, Accelerate: len(r.targets) <= maxAccelerated})
		c.wake(r.query.ID)
	}
	return tasks
}

// Accept keeps answers, which are in the stream already. The same answer may
// come again.
func (c *Coordinator) Accept(ctx context.Context, answers []Answer) error {
	if err := c.observe(ctx, answers); err != nil {
		return err
	}
	fresh, err := c.store.SaveAnswers(ctx, answers)
	if err != nil {
		return err
	}
	c.mu.Lock()
	var done []string
	for _, a := range fresh {
		if r := c.running[a.LiveID]; r != nil {
			c.answered(r, a)
			if r.open == 0 && !r.stopped {
				done = append(done, a.LiveID)
			}
		}
		c.wake(a.LiveID)
	}
	c.mu.Unlock()
	for _, id := range done {
		if err := c.end(ctx, id, Done, Expired); err != nil {
			return err
		}
	}
	return nil
}

// Observe registers somebody who hears of answers. Call it before Run.
func (c *Coordinator) Observe(o Observer) { c.observers = append(c.observers, o) }

// observe tells the observers of the answers that queries which run wait for.
func (c *Coordinator) observe(ctx context.Context, answers []Answer) error {
	if len(c.observers) == 0 {
		return nil
	}
	for _, a := range answers {
		c.mu.RLock()
		r := c.running[a.LiveID]
		if r == nil || r.targets[a.NodeID] == nil || !r.targets[a.NodeID].State.open() {
			c.mu.RUnlock()
			continue
		}
		q := r.query
		c.mu.RUnlock()
		for _, o := range c.observers {
			if err := o(ctx, q, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Coordinator) answered(r *run, a Answer) {
	t := r.targets[a.NodeID]
	if t == nil {
		return
	}
	if t.State.open() {
		r.open--
		c.unpend(a.NodeID, r)
	}
	t.State, t.AnsweredAt = a.State, a.ReceivedAt
	r.query.Rows += len(a.Rows)
}

func (c *Coordinator) unpend(nodeID string, r *run) {
	left := c.pending[nodeID][:0:0]
	for _, other := range c.pending[nodeID] {
		if other != r {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(c.pending, nodeID)
		return
	}
	c.pending[nodeID] = left
}

// Stop ends a running query; no node takes it from then on. Stopping one that
// has ended is no error.
func (c *Coordinator) Stop(ctx context.Context, id string) error {
	return c.end(ctx, id, StoppedBy, Halted)
}

// end takes the query out of memory first, so that nothing is delivered any
// more even when the store fails; then it is noted again, to be ended later.
func (c *Coordinator) end(ctx context.Context, id string, phase Phase, open State) error {
	c.mu.Lock()
	r := c.running[id]
	if r == nil {
		c.mu.Unlock()
		return nil
	}
	delete(c.running, id)
	if phase == StoppedBy {
		r.stopped = true
	}
	for nodeID, t := range r.targets {
		if t.State.open() {
			c.unpend(nodeID, r)
		}
	}
	c.mu.Unlock()
	err := c.store.EndLive(ctx, id, phase, open, c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.running[id] = r // the next tick tries again; nothing is pending in it
	}
	c.wake(id)
	return err
}

// Running returns a query that runs, with its counts of this moment.
func (c *Coordinator) Running(id string) (Query, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r := c.running[id]
	if r == nil {
		return Query{}, false
	}
	return r.snapshot(), true
}

// Count returns how many queries run.
func (c *Coordinator) Count() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.running)
}

func (r *run) snapshot() Query {
	q := r.query
	q.Counts = map[State]int{}
	for _, t := range r.targets {
		q.Counts[t.State]++
	}
	return q
}

// Watch returns a channel that is closed at the next change of a query, and a
// function to call when it is not needed any more.
func (c *Coordinator) Watch(id string) (changed <-chan struct{}, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.changed[id]
	if w == nil {
		w = &watch{wake: make(chan struct{})}
		c.changed[id] = w
	}
	w.count++
	return w.wake, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if w.count--; w.count == 0 && c.changed[id] == w {
			delete(c.changed, id)
		}
	}
}

func (c *Coordinator) wake(id string) {
	if w := c.changed[id]; w != nil {
		close(w.wake)
		delete(c.changed, id)
	}
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
		err := c.keepSent(ctx)
		if e := c.endDue(ctx); err == nil {
			err = e
		}
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "live queries could not be kept; retrying", "error", err)
		}
	}
}

func (c *Coordinator) keepSent(ctx context.Context) error {
	c.mu.Lock()
	sent := c.sent
	c.sent = nil
	c.mu.Unlock()
	if len(sent) == 0 {
		return nil
	}
	err := c.store.MarkSent(ctx, sent)
	if err != nil {
		c.mu.Lock()
		c.sent = append(sent, c.sent...)
		c.mu.Unlock()
	}
	return err
}

func (c *Coordinator) endDue(ctx context.Context) error {
	now := c.now()
	due := map[string]Phase{}
	c.mu.RLock()
	for id, r := range c.running {
		switch {
		case r.stopped:
			due[id] = StoppedBy
		case r.open == 0:
			due[id] = Done
		case !now.Before(r.query.ExpiresAt):
			due[id] = TimedOut
		}
	}
	c.mu.RUnlock()
	for id, phase := range due {
		open := Expired
		if phase == StoppedBy {
			open = Halted
		}
		if err := c.end(ctx, id, phase, open); err != nil {
			return err
		}
	}
	return nil
}
