package live

import (
	"context"
	"log/slog"
	"maps"
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
	// ApprovalTime is how long a query waits for a second person.
	ApprovalTime = 24 * time.Hour
	// Lease is how long a node has to answer before it may be asked again. It is
	// longer than a slow query takes; the text is never out twice at once.
	Lease = 2 * time.Minute
	// maxAttempts bounds how often a node takes one query. A query that kills
	// the worker is denylisted by the agent itself from the second time on.
	maxAttempts = 3
	// maxPerRead bounds the queries in one answer to a poll. An agent runs them
	// one after another and answers all at once, so the last must be done within
	// its lease: 25 leave nearly 5 s to each. With fewer, 200 queries at once
	// need more polls than their expiry has.
	maxPerRead = 25
	// maxAccelerated bounds the nodes of a query that are told to poll faster.
	// Each poll of a real agent is a TLS handshake, so a whole fleet that polls
	// every 5 s would starve itself and everybody else (seen with 10,000 nodes).
	maxAccelerated = 500
	// Accelerate is how long an agent that took a query polls every 5 s, so that
	// a person's next question is answered soon (seconds).
	Accelerate = 60

	tick = 500 * time.Millisecond
)

// Task is one query for one node to run.
type Task struct {
	ID, SQL string
	// Accelerate says that the node shall poll faster for a while.
	Accelerate bool
}

// Coordinator delivers live queries and takes their answers in. It holds in
// memory what is open: the queries that have not ended, and their nodes that
// have not answered. Safe for concurrent use.
type Coordinator struct {
	store Store
	log   *slog.Logger
	now   func() time.Time

	mu      sync.RWMutex
	running map[string]*run
	pending map[string][]*target // by node: what it may take, the oldest first
	sent    []Delivery           // not kept yet
	joining []Joining            // likewise
	changed map[string]*watch

	keeping sync.Mutex // held while joining nodes are kept

	observers []Observer
	witness   Witness
}

// Observer hears of each new answer, after it is in the stream and before it is
// kept; also of a late one (Answer.Late), when its query may have ended. It hears
// of one at least once, again after a crash, so it must be idempotent. An error
// makes the answer come again.
type Observer func(ctx context.Context, q Query, a Answer) error

// Witness hears of what the Coordinator does to a query by itself: Held says why
// nobody gets it any more, or it is Full.
type Witness func(ctx context.Context, q Query) error

// run is a query that has not ended.
type run struct {
	query  Query // Counts are those of this moment
	open   map[string]*target
	size   int         // nodes at its start
	wave   *wave       // nil if all may have it at once
	ending Phase       // it ended so, but the store did not take it yet
	untold bool        // it is held, and neither store nor witness know
	look   time.Time   // when the next target of a standing one expires; zero if none does
	coming int         // open targets whose answer was received
	times  []time.Time // of the answers since the server started, as they were kept
}

// target is a node that has not answered a query.
type target struct {
	run      *run
	node     string
	state    State
	attempts int
	sentAt   time.Time
	flying   bool // see wave
	received bool // its answer is in the stream, and not kept yet
	lapsedIn int  // the round of its wave in which it did not answer
	enrolled time.Time
	expires  time.Time // zero if it expires with the query
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
		running: map[string]*run{}, pending: map[string][]*target{}, changed: map[string]*watch{},
	}
}

// Observe registers somebody who hears of answers. Call it before Run.
func (c *Coordinator) Observe(o Observer) { c.observers = append(c.observers, o) }

// Tell sets who hears of what the Coordinator does by itself. Call it before Run.
func (c *Coordinator) Tell(w Witness) { c.witness = w }

// Load takes up the queries that were running when the server stopped.
func (c *Coordinator) Load(ctx context.Context) error {
	queries, targets, err := c.store.RunningLive(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range oldestFirst(queries) {
		c.arm(q, targets[q.ID])
	}
	return nil
}

// Start keeps a query for the given nodes and begins to deliver it, or waits for
// a second person if q.Approval says so. The caller has chosen q.ID, so that the
// audit log can name it first.
func (c *Coordinator) Start(ctx context.Context, q Query, nodes []*node.Identity) (Query, error) {
	if len(nodes) == 0 {
		return Query{}, errs.Field("selector", "no node matches; choose nodes, tags or all")
	}
	q = c.prepare(q)
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
	return c.arm(q, targets).snapshot(), nil
}

// prepare fills in what the caller left to us.
func (c *Coordinator) prepare(q Query) Query {
	q.CreatedAt, q.Phase = c.now(), Running
	if q.Kind == "" {
		q.Kind = Person
	}
	if q.Approval.Needed {
		q.Phase = Pending
	}
	if q.ExpiresAt.IsZero() && !q.Standing {
		q.ExpiresAt = q.Begins().Add(DefaultExpiry)
	}
	q.Limits, q.Waves = q.Limits.orDefaults(), q.Waves.orDefaults(q.Heavy())
	return q
}

func (c *Coordinator) arm(q Query, targets []Target) *run {
	q.Limits, q.Waves = q.Limits.orDefaults(), q.Waves.orDefaults(q.Heavy()) // of one from before there were any
	r := &run{query: q, open: make(map[string]*target, len(targets)), size: q.Nodes(), wave: newWave(q)}
	r.query.Counts = maps.Clone(q.Counts)
	if r.query.Counts == nil {
		r.query.Counts = map[State]int{}
	}
	all := make([]target, len(targets)) // in one piece: there may be 100,000
	for i := range targets {
		t := &all[i]
		*t = target{
			run: r, node: targets[i].NodeID, state: targets[i].State, attempts: targets[i].Attempts,
			sentAt: targets[i].SentAt, enrolled: targets[i].EnrolledAt, expires: targets[i].ExpiresAt,
		}
		r.open[t.node] = t
		if r.wave != nil && t.state == Sent && leased(t.sentAt, c.now()) {
			r.wave.took(t)
		}
		if q.Phase == Running {
			c.pending[t.node] = append(c.pending[t.node], t)
		}
	}
	r.look = r.nextLook()
	c.running[q.ID] = r
	return r
}

// leased reports whether a lease that began then runs. One that began in the
// future, before the clock went back, does not.
func leased(began, now time.Time) bool { return now.Sub(began).Abs() < Lease }

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
	list := c.pending[nodeID]
	busy := false // with a heavy query
	for _, t := range list {
		busy = busy || t.run.query.Heavy() && t.out(now)
	}
	var tasks []Task
	for _, t := range list {
		r := t.run
		heavy := r.query.Heavy()
		if heavy && busy || !t.due(now) {
			continue
		}
		busy = busy || heavy
		r.count(t.state, -1)
		t.state, t.sentAt, t.attempts = Sent, now, t.attempts+1
		r.count(Sent, 1)
		if r.wave != nil {
			r.wave.took(t)
		}
		c.sent = append(c.sent, Delivery{LiveID: r.query.ID, NodeID: nodeID, At: now, Attempts: t.attempts})
		tasks = append(tasks, Task{ID: r.query.ID, SQL: r.query.SQL, Accelerate: r.accelerates()})
		c.wake(r.query.ID)
		if len(tasks) == maxPerRead {
			break
		}
	}
	return tasks
}

// out reports whether the node is at work on the query.
func (t *target) out(now time.Time) bool {
	return t.state == Sent && !t.received && leased(t.sentAt, now)
}

// due reports whether the node may take the query now.
func (t *target) due(now time.Time) bool {
	r := t.run
	switch {
	case t.out(now), t.received, t.attempts >= maxAttempts, r.query.Held != "", now.Before(r.query.NotBefore):
		return false
	case !r.query.ExpiresAt.IsZero() && !now.Before(r.query.ExpiresAt), !t.expires.IsZero() && !now.Before(t.expires):
		return false
	case r.wave == nil:
		return true
	}
	r.lapse(now)
	return r.query.Held == "" && !r.wave.full()
}

// lapse ends leases, and holds the query if too many did not answer.
func (r *run) lapse(now time.Time) {
	r.wave.lapse(now)
	r.judge()
}

// judge holds the query if too many nodes went wrong.
func (r *run) judge() {
	if r.wave == nil || r.query.Held != "" {
		return
	}
	if why := r.wave.alarm(); why != "" {
		r.query.Held, r.untold = why, true
	}
}

// accelerates reports whether somebody waits for the answers, and the nodes are
// few enough. What is no person's is about one node at a time.
func (r *run) accelerates() bool { return r.query.Kind != Person || r.size <= maxAccelerated }

func (c *Coordinator) unpend(t *target) {
	list := c.pending[t.node]
	for i, other := range list {
		if other != t {
			continue
		}
		if len(list) == 1 {
			delete(c.pending, t.node)
			return
		}
		copy(list[i:], list[i+1:])
		list[len(list)-1] = nil
		c.pending[t.node] = list[:len(list)-1]
		return
	}
}

// close takes a target that is done out of memory.
func (c *Coordinator) close(t *target, state State) {
	r := t.run
	if r.open[t.node] != t {
		return
	}
	delete(r.open, t.node)
	if t.received {
		r.coming--
	}
	c.unpend(t)
	r.count(t.state, -1)
	r.count(state, 1)
}

func (r *run) count(s State, n int) {
	if r.query.Counts[s] += n; r.query.Counts[s] == 0 {
		delete(r.query.Counts, s)
	}
}

// Running returns a query that has not ended, with its counts of this moment.
func (c *Coordinator) Running(id string) (Query, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r := c.running[id]
	if r == nil {
		return Query{}, false
	}
	return r.snapshot(), true
}

// Open returns the queries that have not ended, the oldest first.
func (c *Coordinator) Open() []Query {
	c.mu.RLock()
	defer c.mu.RUnlock()
	open := make(map[string]Query, len(c.running))
	for id, r := range c.running {
		open[id] = r.snapshot()
	}
	return oldestFirst(open)
}

// Count returns how many queries run that have an end.
func (c *Coordinator) Count() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := 0
	for _, r := range c.running {
		if r.query.Phase == Running && !r.query.Standing {
			n++
		}
	}
	return n
}

// Limits returns what one node may answer to a query.
func (c *Coordinator) Limits(id string) Limits {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if r := c.running[id]; r != nil {
		return r.query.Limits
	}
	return Limits{}
}

func (r *run) snapshot() Query {
	q := r.query
	q.Counts = maps.Clone(q.Counts)
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
