package agenttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Caller calls the server's REST API, as adminapi.Client does.
type Caller interface {
	Call(ctx context.Context, method, path string, query url.Values, in, out any) error
}

// LiveLoad makes a load of live queries besides what the fleet does at its
// intervals. It runs until each query ended.
type LiveLoad struct {
	API        Caller
	Queries    int
	Concurrent int           // at a time; all of them if 0
	Nodes      int           // asked by each query, in turn; all nodes of the server if 0
	SQL        string        // a question about the system if empty
	Reason     string        // told to the server if not empty
	Expiry     time.Duration // 5 min if 0
}

const (
	liveSQL    = "SELECT name, version FROM os_version"
	liveExpiry = 5 * time.Minute
	// liveLook is how often the server is asked whether a query ended that not
	// every node answered, and liveEnd how often after the last answer.
	liveLook = 2 * time.Second
	liveEnd  = 100 * time.Millisecond
)

// LiveReport is the outcome of a LiveLoad. Times, in milliseconds, begin before
// the query is sent to the API and end when the node has the server's word that
// it has the answer.
type LiveReport struct {
	Queries    int `json:"queries"`
	Concurrent int `json:"concurrent"`
	// Asked and Answered count targets: a node once for each query.
	Asked    int64      `json:"asked"`
	Answered int64      `json:"answered"`
	First    Times      `json:"first_answer"` // one of each query
	All      Times      `json:"all_answered"` // one of each query that every node answered
	Answer   Times      `json:"answer"`       // one of each answer
	Ended    Times      `json:"ended"`        // one of each query: the API says that it ended
	Poll     float64    `json:"poll_interval_ms"`
	Seconds  float64    `json:"duration_s"`
	States   stateCount `json:"states"`  // of the queries, in the end
	Targets  stateCount `json:"targets"` // of their nodes, in the end, as the API says
	// Quiet is what the same fleet saw before, without live queries.
	Quiet map[string]OperationReport `json:"quiet"`
}

type stateCount map[string]int

// Times are percentiles in milliseconds.
type Times struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func times(h *Histogram) Times {
	return Times{
		Count: h.Count(), P50: milliseconds(h.Quantile(0.50)), P95: milliseconds(h.Quantile(0.95)),
		P99: milliseconds(h.Quantile(0.99)), Max: milliseconds(h.Max()),
	}
}

// asker keeps when each node answered what. Answers may be in before the API
// said the query's id.
type asker struct {
	mu      sync.Mutex
	queries map[string]*asked
}

type asked struct {
	answers map[*Node]time.Time // the first of each
	want    int                 // 0 before it is known
	done    chan struct{}       // closed when all answered
}

// of needs a.mu.
func (a *asker) of(id string) *asked {
	q := a.queries[id]
	if q == nil {
		q = &asked{answers: map[*Node]time.Time{}, done: make(chan struct{})}
		a.queries[id] = q
	}
	return q
}

func (a *asker) answered(n *Node, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.of(id)
	if _, again := q.answers[n]; again {
		return
	}
	q.answers[n] = time.Now()
	if len(q.answers) == q.want {
		close(q.done)
	}
}

// expect says how many nodes were asked; the channel is closed when they all
// answered.
func (a *asker) expect(id string, nodes int) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.of(id)
	q.want = nodes
	if nodes > 0 && len(q.answers) >= nodes {
		close(q.done)
	}
	return q.done
}

// take returns the times of the answers and forgets the query.
func (a *asker) take(id string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []time.Time
	for _, at := range a.of(id).answers {
		all = append(all, at)
	}
	delete(a.queries, id)
	return all
}

// The documents of the API, as far as they are needed here.
type (
	liveInput struct {
		SQL      string       `json:"sql"`
		Selector liveSelector `json:"selector"`
		Expires  int          `json:"expires_seconds"`
		Reason   string       `json:"reason,omitempty"`
	}
	liveSelector struct {
		All   bool     `json:"all,omitempty"`
		Nodes []string `json:"nodes,omitempty"`
	}
	liveDocument struct {
		ID     string     `json:"id"`
		State  string     `json:"state"`
		Nodes  int        `json:"nodes"`
		Counts stateCount `json:"counts"`
	}
)

// live runs the fleet, quiet at first, and then with live queries.
func (l *load) live(ctx context.Context) error {
	return l.beside(ctx, l.fleet.Run, func(ctx context.Context) error {
		_ = wait(ctx, l.o.Warmup)
		l.fleet.forget()
		l.o.Fleet.Logger.InfoContext(ctx, "measuring without live queries", "for", l.o.Duration)
		begin := time.Now()
		_ = wait(ctx, l.o.Duration)
		r := &liveRun{load: l, o: *l.o.Live}
		quiet := l.operations(time.Since(begin))
		l.fleet.forget()
		start, err := l.mark()
		if err != nil {
			return err
		}
		l.o.Fleet.Logger.InfoContext(ctx, "asking", "queries", r.o.Queries, "concurrent", r.concurrent())
		err = r.ask(ctx)
		end, failed := l.mark()
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		l.fill(start, end, end.at.Sub(start.at))
		l.report.Mode, l.report.Live = "live", r.fill(end.at.Sub(start.at))
		l.report.Live.Quiet = quiet
		return nil
	})
}

// liveRun is what was seen of a LiveLoad so far.
type liveRun struct {
	load                      *load
	o                         LiveLoad
	first, all, answer, ended Histogram

	mu     sync.Mutex
	report LiveReport
	next   int // query
	failed error
}

func (r *liveRun) concurrent() int {
	if r.o.Concurrent <= 0 || r.o.Concurrent > r.o.Queries {
		return r.o.Queries
	}
	return r.o.Concurrent
}

// ask starts all queries, so many at a time. One that cannot be started ends the
// load.
func (r *liveRun) ask(ctx context.Context) error {
	r.report.States, r.report.Targets = stateCount{}, stateCount{}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range r.concurrent() {
		wg.Go(func() {
			for number := r.turn(); number < r.o.Queries && ctx.Err() == nil; number = r.turn() {
				if err := r.one(ctx, number); err != nil && ctx.Err() == nil {
					r.fail(err)
					stop()
				}
			}
		})
	}
	wg.Wait()
	return r.failed
}

// turn returns the number of the next query.
func (r *liveRun) turn() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.next - 1
}

func (r *liveRun) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = fmt.Errorf("live query: %w", err)
}

// selector means the nodes of one query.
func (r *liveRun) selector(number int) liveSelector {
	nodes := r.load.fleet.Nodes()
	if r.o.Nodes <= 0 {
		return liveSelector{All: true}
	}
	var s liveSelector
	for i := range min(r.o.Nodes, len(nodes)) {
		s.Nodes = append(s.Nodes, nodes[(number*r.o.Nodes+i)%len(nodes)].HostIdentifier())
	}
	return s
}

// one asks one query and waits for its end.
func (r *liveRun) one(ctx context.Context, number int) error {
	in := liveInput{
		SQL: cmp.Or(r.o.SQL, liveSQL), Selector: r.selector(number), Reason: r.o.Reason,
		Expires: int(cmp.Or(r.o.Expiry, liveExpiry) / time.Second),
	}
	start := time.Now()
	var q liveDocument
	if err := r.o.API.Call(ctx, http.MethodPost, "/live", nil, in, &q); err != nil {
		return err
	}
	if q.State != "running" && q.State != "done" { // by then it may be
		return fmt.Errorf("%s is %s; choose another text or fewer nodes", q.ID, q.State)
	}
	r.await(ctx, &q)
	r.count(q, start, time.Now(), r.load.asker.take(q.ID))
	return nil
}

// await looks at a query until it ended.
func (r *liveRun) await(ctx context.Context, q *liveDocument) {
	done, every := r.load.asker.expect(q.ID, q.Nodes), liveLook
	for ctx.Err() == nil {
		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-done:
			done, every = nil, liveEnd
		}
		timer.Stop()
		var seen liveDocument
		err := r.o.API.Call(ctx, http.MethodGet, "/live/"+url.PathEscape(q.ID), nil, nil, &seen)
		if err == nil {
			*q = seen
		}
		if err == nil && seen.State != "running" {
			return
		}
	}
}

func (r *liveRun) count(q liveDocument, start, end time.Time, answers []time.Time) {
	r.ended.Observe(end.Sub(start))
	var first, last time.Duration
	for _, at := range answers {
		took := at.Sub(start)
		r.answer.Observe(took)
		if first == 0 || took < first {
			first = took
		}
		last = max(last, took)
	}
	if len(answers) > 0 {
		r.first.Observe(first)
	}
	if len(answers) >= q.Nodes {
		r.all.Observe(last)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Asked += int64(q.Nodes)
	r.report.Answered += int64(len(answers))
	r.report.States[q.State]++
	for state, n := range q.Counts {
		if n > 0 {
			r.report.Targets[state] += n
		}
	}
}

func (r *liveRun) fill(took time.Duration) *LiveReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.report
	out.Queries, out.Concurrent = min(r.next, r.o.Queries), r.concurrent()
	out.States, out.Targets = maps.Clone(out.States), maps.Clone(out.Targets)
	out.First, out.All, out.Answer, out.Ended = times(&r.first), times(&r.all), times(&r.answer), times(&r.ended)
	out.Poll, out.Seconds = milliseconds(r.load.o.Fleet.ReadInterval), round(took.Seconds())
	return &out
}
