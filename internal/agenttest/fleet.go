package agenttest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

// FleetOptions of a Fleet. URL, RootCAs, Secret and Nodes are required.
type FleetOptions struct {
	URL         string
	RootCAs     *x509.CertPool
	Secret      string
	Certificate *tls.Certificate
	KeyExchange agentwire.KeyExchange // agentwire.X25519 if empty
	Conn        agentwire.Conn        // agentwire.Full if empty
	Paths       Paths

	Nodes    int
	First    int    // number of the first node; 1 if 0
	Platform string // of all nodes; by their numbers if empty

	// How often each node asks for its config, sends its log and asks for live
	// queries. 0 is never.
	ConfigInterval, LogInterval, ReadInterval time.Duration
	Rows                                      int // log lines made for each flush
	// Numbered makes numbered lines instead, for reconciling with what a
	// server stored; see Fleet.Ledgers.
	Numbered bool
	// Follow makes the nodes run their config, see Worker: they tell what the pack
	// muster-health asks for, and do what bad queries do, besides their Rows.
	Follow bool
	// Misbehave says which nodes treat live queries badly.
	Misbehave Misbehaviour
	// Carve makes the nodes send files when they are asked to; nil is never.
	Carve *CarveOptions
	// Answered, if set, is called for each answer to a live query that the server
	// acknowledged.
	Answered func(n *Node, id string)
	// Asked, if set, is called after each poll with the live queries that it got,
	// by id. A node's polls come one after another.
	Asked func(n *Node, queries map[string]string)
	// StatusEvery sends a status line with every so many flushes; 0 is never.
	StatusEvery int

	// LogRetry says when a failed flush is tried again; osquery's rule is
	// {LogInterval, an hour}, which is used if it is zero. EnrollRetry is the
	// same for Fleet.Enroll; {1 s, 10 min} if zero.
	LogRetry, EnrollRetry Backoff
	EnrollAttempts        int     // for each node in Fleet.Enroll; 12 as osquery if 0
	EnrollRate            float64 // enrolments started per second; 0 is no limit
	EnrollConcurrency     int     // enrolments under way; 32 if 0

	// MaxBusy bounds the nodes that wait for an answer at one time, 4,096 if
	// 0. Above it requests start late, which Fleet.Lag shows.
	MaxBusy int
	// Grace is how long requests under way may take after Run is told to end;
	// 2 s if 0.
	Grace  time.Duration
	Logger *slog.Logger // nothing is logged if nil
}

// Backoff is osquery's rule for waiting: Base times the square of the number
// of failures in a row, at most Max (no limit if 0).
type Backoff struct{ Base, Max time.Duration }

// After returns the wait after that many failures in a row.
func (b Backoff) After(failures int) time.Duration {
	n := min(int64(failures), 1000)
	wait := time.Duration(n * n * int64(b.Base))
	if b.Max > 0 && (wait > b.Max || wait < 0) {
		return b.Max
	}
	return wait
}

// Fleet is many nodes in one process. Their clocks share one goroutine, so
// that a node between two requests costs only its state and, with kept-alive
// connections, its connection.
type Fleet struct {
	o           FleetOptions
	nodes       []*Node
	stats       Stats
	lag         Histogram
	connections atomic.Int64
	carver      *Carver // nil without FleetOptions.Carve

	mu         sync.Mutex
	handshakes map[handshake]int64
}

// handshake is a kind of TLS handshake.
type handshake struct {
	version uint16
	group   tls.CurveID
}

// NewFleet makes the nodes; it does not connect.
func NewFleet(o FleetOptions) (*Fleet, error) {
	switch {
	case o.Nodes < 1:
		return nil, errors.New("simulated fleet: Nodes must be 1 or more")
	case o.RootCAs == nil:
		return nil, errors.New("simulated fleet: RootCAs is missing")
	}
	if o.First == 0 {
		o.First = 1
	}
	if o.LogRetry == (Backoff{}) {
		o.LogRetry = Backoff{o.LogInterval, time.Hour}
	}
	if o.EnrollRetry == (Backoff{}) {
		o.EnrollRetry = Backoff{time.Second, 10 * time.Minute}
	}
	if o.EnrollAttempts <= 0 {
		o.EnrollAttempts = 12
	}
	if o.EnrollConcurrency <= 0 {
		o.EnrollConcurrency = 32
	}
	if o.MaxBusy <= 0 {
		o.MaxBusy = 4096
	}
	if o.Grace <= 0 {
		o.Grace = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o, nodes: make([]*Node, o.Nodes), handshakes: map[handshake]int64{}}
	shared, err := clientTLS(Options{
		URL: o.URL, RootCAs: o.RootCAs, Certificate: o.Certificate, KeyExchange: o.KeyExchange,
	})
	if err != nil {
		return nil, err
	}
	// No TCP keep-alive probes: three system calls less for each connection.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		f.connections.Add(1)
		return dialer.DialContext(ctx, network, address)
	}
	if o.Carve != nil {
		if f.carver, err = NewCarver(*o.Carve); err != nil {
			return nil, err
		}
	}
	tables, good := new(Tables), new(goodAnswer)
	var schedules *Schedules
	if o.Follow {
		schedules = new(Schedules)
	}
	for i := range f.nodes {
		f.nodes[i], err = New(Options{
			URL: o.URL, Secret: o.Secret, Conn: o.Conn, Paths: o.Paths, Number: o.First + i, Platform: o.Platform,
			Stats: &f.stats, Tables: tables, Schedules: schedules,
			Behaviour: o.Misbehave.Of(o.First + i), Carver: f.carver, Answered: o.Answered, Asked: o.Asked, tls: shared, dial: dial, connected: f.connected, good: good,
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Nodes returns the nodes in the order of their numbers. Do not write to it.
func (f *Fleet) Nodes() []*Node { return f.nodes }

// Stats returns the counts of all nodes' requests.
func (f *Fleet) Stats() *Stats { return &f.stats }

// Lag returns how late requests started, which shows when this process, not
// the server, is the limit.
func (f *Fleet) Lag() *Histogram { return &f.lag }

// Connections returns how many connections were dialled so far.
func (f *Fleet) Connections() int64 { return f.connections.Load() }

func (f *Fleet) connected(s tls.ConnectionState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handshakes[handshake{s.Version, s.CurveID}]++
}

// Handshakes returns the kinds of TLS handshakes that took place so far, the
// most frequent first.
func (f *Fleet) Handshakes() []Handshake {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Handshake, 0, len(f.handshakes))
	for h, count := range f.handshakes {
		group := "none"
		if h.group != 0 {
			group = h.group.String()
		}
		all = append(all, Handshake{Version: tls.VersionName(h.version), KeyExchange: group, Count: count})
	}
	slices.SortFunc(all, func(a, b Handshake) int { return cmp.Compare(b.Count, a.Count) })
	return all
}

// forget drops the counts and times of requests, as at the end of a warm-up.
func (f *Fleet) forget() {
	f.stats.Reset()
	f.lag.Reset()
}

// Ledgers returns what became of every node's numbered lines.
func (f *Fleet) Ledgers() []Ledger {
	ledgers := make([]Ledger, len(f.nodes))
	for i, n := range f.nodes {
		ledgers[i] = n.Ledger()
	}
	return ledgers
}

// Close drops all kept connections.
func (f *Fleet) Close() {
	for _, n := range f.nodes {
		n.Close()
	}
}

// Enroll enrols all nodes that have no key, each with EnrollAttempts tries. It
// returns how many have a key at the end, and the error of one that has none.
func (f *Fleet) Enroll(ctx context.Context) (int, error) {
	limit := rate.Inf
	if f.o.EnrollRate > 0 {
		limit = rate.Limit(f.o.EnrollRate)
	}
	limiter := rate.NewLimiter(limit, 1)
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		mu     sync.Mutex
		failed error
	)
	for range min(f.o.EnrollConcurrency, len(f.nodes)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(f.nodes) || ctx.Err() != nil {
					return
				}
				if err := f.enrollOne(ctx, f.nodes[i], limiter); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	enrolled := 0
	for _, n := range f.nodes {
		if n.Key() != "" {
			enrolled++
		}
	}
	if failed == nil {
		failed = context.Cause(ctx)
	}
	if enrolled == len(f.nodes) {
		failed = nil
	}
	return enrolled, failed
}

func (f *Fleet) enrollOne(ctx context.Context, n *Node, limiter *rate.Limiter) error {
	if n.Key() != "" {
		return nil
	}
	for failures := 1; ; failures++ {
		if err := limiter.Wait(ctx); err != nil {
			return err
		}
		err := n.Enroll(ctx)
		if err == nil || failures >= f.o.EnrollAttempts || ctx.Err() != nil {
			return err
		}
		f.o.Logger.DebugContext(ctx, "enrolment failed", "host_identifier", n.HostIdentifier(), "error", err)
		if err := wait(ctx, f.o.EnrollRetry.After(failures)); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run keeps all nodes busy at their intervals until ctx ends, then waits for
// the requests under way for Grace and returns nil. Nodes without a key enrol
// first. Each node's phase within its intervals follows from its number, so
// that the load is even and the same in every run. Run it once at a time.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.waitCarves()
	requests, cancel := f.graceful(ctx)
	defer cancel()
	f.schedule(ctx, requests)
	return nil
}

// waitCarves waits for the uploads under way, whose context has ended.
func (f *Fleet) waitCarves() {
	if f.carver != nil {
		f.carver.Wait()
	}
}

// graceful returns a context for requests, which ends Grace after ctx, or when
// cancel is called.
func (f *Fleet) graceful(ctx context.Context) (requests context.Context, cancel func()) {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		_ = wait(requests, f.o.Grace)
		end()
	})
	return requests, func() {
		stop()
		end()
	}
}

// task is the next request of a node: due counts from the start of the run.
type task struct {
	due      time.Duration
	node     int32
	op       Op
	failures int16 // in a row
}

// schedule hands every task to a worker when it is due and takes it back with
// its next time.
func (f *Fleet) schedule(ctx, requests context.Context) {
	var (
		start   = time.Now()
		todo    = f.firstTasks()
		ready   = make(chan task)
		done    = make(chan task, 1024)
		timer   = time.NewTimer(0)
		workers sync.WaitGroup
		started int
	)
	defer timer.Stop()
	defer workers.Wait()
	defer close(ready)
	work := func() {
		for t := range ready {
			t = f.perform(requests, start, t)
			select {
			case done <- t:
			case <-ctx.Done():
			}
		}
	}
	for {
		for len(todo) > 0 && todo[0].due <= time.Since(start) {
			t := todo.pop()
			select {
			case ready <- t:
				continue
			default:
			}
			if started < f.o.MaxBusy {
				started++
				workers.Go(work)
			}
			for handed := false; !handed; {
				select {
				case ready <- t:
					handed = true
				case d := <-done:
					todo.push(d)
				case <-ctx.Done():
					return
				}
			}
		}
		if len(todo) > 0 {
			timer.Reset(todo[0].due - time.Since(start))
		}
		select {
		case d := <-done:
			todo.push(d)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// firstTasks spreads the nodes over their intervals.
func (f *Fleet) firstTasks() tasks {
	var todo tasks
	for i := range f.nodes {
		for _, op := range []Op{OpConfig, OpLog, OpRead} {
			interval := f.interval(op)
			if interval <= 0 {
				continue
			}
			phase := mix(uint64(f.o.First+i)<<8|uint64(op)) >> 11 //nolint:gosec // any bits will do
			due := time.Duration(float64(phase) / (1 << 53) * float64(interval))
			todo.push(task{due: due, node: int32(i), op: op})
		}
	}
	return todo
}

func (f *Fleet) interval(op Op) time.Duration {
	switch op {
	case OpConfig:
		return f.o.ConfigInterval
	case OpLog:
		return f.o.LogInterval
	case OpRead:
		return f.o.ReadInterval
	case OpEnroll, OpWrite, OpCarveStart, OpCarveBlock, opCount:
	}
	return 0
}

// perform makes a task's request and returns the task with its next time.
func (f *Fleet) perform(ctx context.Context, start time.Time, t task) task {
	n := f.nodes[t.node]
	f.lag.Observe(time.Since(start) - t.due)
	var err error
	interval := f.interval(t.op)
	switch t.op {
	case OpConfig:
		_, err = n.Config(ctx)
	case OpLog:
		if err = f.flush(ctx, n); err != nil {
			t.failures++
			interval = f.o.LogRetry.After(int(t.failures))
		}
	case OpRead:
		_, err = n.Poll(ctx)
		interval = n.readInterval(interval, time.Now())
	case OpEnroll, OpWrite, OpCarveStart, OpCarveBlock, opCount:
	}
	if err == nil {
		t.failures = 0
	} else {
		f.o.Logger.DebugContext(ctx, "request failed", "op", t.op.String(), "host_identifier", n.HostIdentifier(), "error", err)
	}
	now := time.Since(start)
	if t.due += interval; t.due < now {
		t.due = now + interval // it took longer than the interval: leave one out
	}
	return t
}

// flush makes log lines and sends what is buffered.
func (f *Fleet) flush(ctx context.Context, n *Node) error {
	now := time.Now()
	if f.o.Numbered {
		n.BufferNumbered(f.o.Rows, now)
	} else {
		n.BufferRows(f.o.Rows, now)
	}
	if err := n.Work(ctx, now); err != nil {
		return err
	}
	if err := n.Flush(ctx); err != nil {
		return err
	}
	if f.o.StatusEvery <= 0 || n.batches()%int64(f.o.StatusEvery) != 0 {
		return nil
	}
	line, err := statusLine(n.Host(), n.HostIdentifier(), now)
	if err != nil {
		return fmt.Errorf("status line: %w", err)
	}
	return n.Log(ctx, []json.RawMessage{line}, osquery.LogTypeStatus)
}

// tasks is a heap with the earliest first.
type tasks []task

func (h *tasks) push(t task) {
	s := append(*h, t)
	i := len(s) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if s[parent].due <= t.due {
			break
		}
		s[i] = s[parent]
		i = parent
	}
	s[i] = t
	*h = s
}

// pop needs a task.
func (h *tasks) pop() task {
	s := *h
	first, last := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(s) {
			if len(s) > 0 {
				s[i] = last
			}
			return first
		}
		if child+1 < len(s) && s[child+1].due < s[child].due {
			child++
		}
		if last.due <= s[child].due {
			s[i] = last
			return first
		}
		s[i] = s[child]
		i = child
	}
}
