package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

// store keeps live queries as the contract says.
type store struct {
	mu      sync.Mutex
	queries map[string]Query
	targets map[string][]Target
	err     error
}

func newStore() *store { return &store{queries: map[string]Query{}, targets: map[string][]Target{}} }

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *store) CreateLive(_ context.Context, q Query, targets []Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.queries[q.ID], s.targets[q.ID] = q, append([]Target(nil), targets...)
	return nil
}

func (s *store) RunningLive(context.Context) (map[string]Query, map[string][]Target, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queries, targets := map[string]Query{}, map[string][]Target{}
	for id, q := range s.queries {
		if !q.Phase.Open() {
			continue
		}
		queries[id] = s.counted(q)
		for _, t := range s.targets[id] {
			if t.State.open() {
				targets[id] = append(targets[id], t)
			}
		}
	}
	return queries, targets, s.err
}

func (s *store) counted(q Query) Query {
	q.Counts, q.Rows, q.Bytes = map[State]int{}, 0, 0
	for _, t := range s.targets[q.ID] {
		q.Counts[t.State]++
		q.Rows += t.RowCount
	}
	return q
}

func (s *store) each(id, nodeID string, f func(*Target)) {
	for i := range s.targets[id] {
		if t := &s.targets[id][i]; t.NodeID == nodeID {
			f(t)
		}
	}
}

func (s *store) AlterLive(_ context.Context, q Query, from Phase) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	kept := s.queries[q.ID]
	if kept.Phase != from {
		return errs.New(errs.Conflict, "it is %s", kept.Phase)
	}
	kept.Phase, kept.ExpiresAt, kept.Waves, kept.Held, kept.Approval = q.Phase, q.ExpiresAt, q.Waves, q.Held, q.Approval
	s.queries[q.ID] = kept
	return nil
}

func (s *store) MarkSent(_ context.Context, sent []Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for _, d := range sent {
		s.each(d.LiveID, d.NodeID, func(t *Target) {
			if t.State.open() {
				t.State, t.SentAt, t.Attempts = Sent, d.At, d.Attempts
			}
		})
	}
	return nil
}

func (s *store) Awaited(_ context.Context, answers []Answer) (list []Answer, queries map[string]Query, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queries = map[string]Query{}
	for _, a := range answers {
		s.each(a.LiveID, a.NodeID, func(t *Target) {
			if t.AnsweredAt.IsZero() {
				a.Late, a.EnrolledAt = s.late(a.LiveID, t), t.EnrolledAt
				list = append(list, a)
				queries[a.LiveID] = s.counted(s.queries[a.LiveID])
			}
		})
	}
	return list, queries, s.err
}

func (s *store) late(id string, t *Target) bool {
	return s.queries[id].Phase != Running || t.State == Expired || t.State == Halted
}

func (s *store) SaveAnswers(_ context.Context, answers []Answer) (fresh []Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	for _, a := range answers {
		s.each(a.LiveID, a.NodeID, func(t *Target) {
			if t.AnsweredAt.IsZero() {
				t.Late = s.late(a.LiveID, t)
				t.State, t.AnsweredAt, t.RowCount, t.Cut = a.State, a.ReceivedAt, len(a.Rows), a.Cut
				fresh = append(fresh, a)
			}
		})
	}
	return fresh, nil
}

func (s *store) EndLive(_ context.Context, id string, phase Phase, open State, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	q := s.queries[id]
	if !q.Phase.Open() {
		return nil
	}
	q.Phase, q.EndedAt = phase, at
	s.queries[id] = q
	for i := range s.targets[id] {
		if t := &s.targets[id][i]; t.State.open() {
			t.State = open
		}
	}
	return nil
}

func (s *store) StandLive(_ context.Context, q Query) (Query, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Query{}, s.err
	}
	kept, ok := s.queries[q.ID]
	if !ok {
		kept = q
	}
	if kept.Phase == Done {
		kept.Phase = Running
	}
	s.queries[q.ID] = kept
	return s.counted(kept), nil
}

func (s *store) AddTargets(_ context.Context, joining []Joining) (joined []Joined, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	for _, j := range joining {
		out, known := Joined{Asked: s.queries[j.LiveID].Phase == Running}, false
		s.each(j.LiveID, j.Target.NodeID, func(t *Target) {
			known = true
			if out.Asked = out.Asked && j.Target.EnrolledAt.After(t.EnrolledAt); out.Asked {
				out.Was, out.Rows = t.State, t.RowCount
				*t = j.Target
			}
		})
		if out.Asked && !known {
			s.targets[j.LiveID] = append(s.targets[j.LiveID], j.Target)
		}
		joined = append(joined, out)
	}
	return joined, nil
}

func (s *store) ExpireTargets(_ context.Context, id string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.targets[id] {
		if t := &s.targets[id][i]; t.State.open() && !t.ExpiresAt.IsZero() && !t.ExpiresAt.After(now) {
			t.State = Expired
		}
	}
	return s.err
}

// state is the phase of a query and the states of its nodes, as kept.
func (s *store) state(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts := []string{string(s.queries[id].Phase)}
	for _, t := range s.targets[id] {
		parts = append(parts, t.NodeID+"="+string(t.State))
	}
	return strings.Join(parts, " ")
}

var errStore = errors.New("the database is gone")

// world is a running coordinator.
type world struct {
	*testing.T
	store *store
	c     *Coordinator
	stop  func()
}

// run calls f with a coordinator that runs, on synctest's clock.
func run1(t *testing.T, f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, store: newStore()}
		w.restart()
		defer func() { w.stop() }()
		f(w)
	})
}

// restart begins anew with what is in the store.
func (w *world) restart() {
	w.Helper()
	if w.stop != nil {
		w.stop()
	}
	w.c = NewCoordinator(w.store, slog.New(slog.NewTextHandler(w.Output(), nil)), time.Now)
	if err := w.c.Load(w.Context()); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.c.Run(ctx)
	}()
	w.stop = func() {
		cancel()
		<-done
	}
}

func (w *world) start(id string, nodes ...string) {
	w.Helper()
	var list []*node.Identity
	for _, n := range nodes {
		list = append(list, &node.Identity{ID: n})
	}
	if _, err := w.c.Start(w.Context(), Query{ID: id, SQL: "SELECT '" + id + "'"}, list); err != nil {
		w.Fatal(err)
	}
}

// take returns the ids that a node is given.
func (w *world) take(nodeID string) string {
	w.Helper()
	var ids []string
	for _, task := range w.c.Take(nodeID) {
		if want := "SELECT '" + task.ID + "'"; task.SQL != want {
			w.Errorf("the text of %s is %s", task.ID, task.SQL)
		}
		ids = append(ids, task.ID)
	}
	return strings.Join(ids, " ")
}

func (w *world) answer(id, nodeID string, state State, rows int) {
	w.Helper()
	a := Answer{LiveID: id, NodeID: nodeID, State: state, ReceivedAt: time.Now()}
	for range rows {
		a.Rows = append(a.Rows, json.RawMessage(`{}`))
	}
	if err := w.c.Accept(w.Context(), []Answer{a}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) want(what, got, want string) {
	w.Helper()
	if got != want {
		w.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (w *world) wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // synctest's clock
	synctest.Wait()
}

func TestCoordinator_lease(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.store.queries["old"] = Query{Phase: Done}
		if _, err := w.c.Start(w.Context(), Query{ID: "x"}, nil); !errs.Is(err, errs.Invalid) {
			w.Error("a query for no node:", err)
		}
		w.start("a", "1", "2")
		q, _ := w.c.Running("a")
		q.Counts, q.SQL = nil, ""
		want := Query{
			ID: "a", Kind: Person, Phase: Running, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(DefaultExpiry),
			Limits: Limits{RowsPerNode: MaxRows, BytesPerNode: MaxBytes, Rows: DefaultTotalRows, Bytes: DefaultTotalBytes},
			Waves:  Waves{First: firstLight, MaxBadPercent: maxBadPercent},
		}
		if d := cmp.Diff(want, q); d != "" {
			w.Error(d)
		}
		w.want("a node that was not asked", w.take("3"), "")
		w.want("first poll", w.take("1"), "a")
		w.want("second poll", w.take("1"), "")
		w.want("another node", w.take("2"), "a")
		w.wait(Lease - time.Nanosecond)
		w.want("within the lease", w.take("1"), "")
		w.wait(time.Nanosecond)
		w.want("after the lease", w.take("1"), "a")
		w.wait(Lease)
		w.want("third attempt", w.take("1"), "a")
		w.wait(Lease)
		w.want("fourth attempt", w.take("1"), "")
		w.want("kept", w.store.state("a"), "running 1=sent 2=sent")
	})
}

// TestCoordinator_clock: a lease from before the clock went back does not last
// until it comes there again.
func TestCoordinator_clock(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1")
		w.want("first poll", w.take("1"), "a")
		w.c.now = func() time.Time { return time.Now().Add(-time.Hour) }
		w.want("an hour earlier", w.take("1"), "a")
		w.want("and once more", w.take("1"), "")
	})
}

func TestCoordinator_manyPending(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		var ids []string
		for i := range maxPerRead + 2 {
			ids = append(ids, fmt.Sprintf("q%02d", i))
			w.start(ids[i], "1")
		}
		w.want("the oldest first", w.take("1"), strings.Join(ids[:maxPerRead], " "))
		w.want("then the rest", w.take("1"), strings.Join(ids[maxPerRead:], " "))
		w.want("then none", w.take("1"), "")
	})
}

// A question to few nodes makes them poll faster; one to a fleet does not.
func TestCoordinator_accelerate(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		var fleet []string
		for i := range maxAccelerated + 1 {
			fleet = append(fleet, fmt.Sprint(i))
		}
		w.start("few", fleet[1:]...)
		w.start("many", fleet...)
		tasks := w.c.Take("1")
		if len(tasks) != 2 || !tasks[0].Accelerate || tasks[1].Accelerate {
			w.Errorf("%+v", tasks)
		}
	})
}

func TestCoordinator_answers(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2", "3")
		_, _ = w.take("1"), w.take("2")
		w.answer("a", "1", Answered, 3)
		w.answer("a", "1", Answered, 3) // again
		w.answer("a", "9", Answered, 3) // was not asked
		w.answer("z", "1", Answered, 3) // no such query
		q, ok := w.c.Running("a")
		if d := cmp.Diff(map[State]int{Answered: 1, Sent: 1, Waiting: 1}, q.Counts); !ok || d != "" || q.Rows != 3 || q.Nodes() != 3 {
			w.Error(d, q.Rows)
		}
		w.wait(Lease)
		w.want("who answered", w.take("1"), "")
		w.answer("a", "2", Failed, 0)
		w.answer("a", "3", Empty, 0) // without taking it, as after a restart
		if _, ok := w.c.Running("a"); ok || w.c.Count() != 0 {
			w.Error("all answered, and it still runs")
		}
		w.want("ended", w.store.state("a"), "done 1=answered 2=failed 3=empty")
		w.want("after its end", w.take("3"), "")
		if len(w.c.pending) != 0 {
			w.Errorf("pending: %v", w.c.pending)
		}
	})
}

func TestCoordinator_expiry(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2", "3")
		w.take("1")
		w.answer("a", "1", Empty, 0)
		w.wait(DefaultExpiry - time.Second)
		w.want("a second before", w.take("2"), "a")
		w.wait(time.Second)
		w.want("in time", w.take("3"), "")
		w.wait(tick)
		w.want("ended", w.store.state("a"), "expired 1=empty 2=expired 3=expired")
		w.answer("a", "2", Answered, 1)
		w.want("a late answer", w.store.state("a"), "expired 1=empty 2=answered 3=expired")
	})
}

func TestCoordinator_stop(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2")
		w.start("b", "1")
		w.want("both", w.take("1"), "a b")
		if err := w.c.Stop(w.Context(), "a"); err != nil {
			w.Fatal(err)
		}
		w.want("stopped", w.take("2"), "")
		w.want("kept", w.store.state("a"), "stopped 1=stopped 2=stopped")
		w.want("the other", w.store.state("b"), "running 1=waiting")
		if err := errors.Join(w.c.Stop(w.Context(), "a"), w.c.Stop(w.Context(), "none")); err != nil {
			w.Error("stopping what has ended:", err)
		}
		w.wait(Lease)
		w.want("the other goes on", w.take("1"), "b")
	})
}

// TestCoordinator_failing: a stop that could not be kept holds at once, and is
// kept as soon as the store works; also one that nobody repeats.
func TestCoordinator_failing(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2")
		w.start("b", "1")
		w.start("c", "1", "2")
		w.want("all", w.take("1"), "a b c")
		w.store.fail(errStore)
		if _, err := w.c.Start(w.Context(), Query{ID: "d"}, []*node.Identity{{ID: "1"}}); !errors.Is(err, errStore) || w.c.Count() != 3 {
			w.Error("a query that was not kept is delivered:", err)
		}
		if err := w.c.Accept(w.Context(), []Answer{{LiveID: "b", NodeID: "1", State: Empty}}); !errors.Is(err, errStore) {
			w.Error(err)
		}
		if err := w.c.Stop(w.Context(), "a"); !errors.Is(err, errStore) {
			w.Error(err)
		}
		if err := w.c.Stop(w.Context(), "a"); !errors.Is(err, errStore) {
			w.Error("a second stop does not say that the first was not kept:", err)
		}
		w.want("stopped, though not kept", w.take("2"), "c")
		w.wait(3 * tick)
		w.want("not kept", w.store.state("a"), "running 1=waiting 2=waiting")
		w.store.fail(nil)
		w.wait(2 * tick)
		w.want("kept later", w.store.state("a"), "stopped 1=stopped 2=stopped")
		w.want("so is what was sent", w.store.state("c"), "running 1=sent 2=sent")
		w.answer("b", "1", Empty, 0)
		w.want("the answer that came again", w.store.state("b"), "done 1=empty")

		w.store.fail(errStore)
		w.wait(DefaultExpiry)
		w.want("expired, though not kept", w.take("1"), "")
		w.store.fail(nil)
		w.wait(2 * tick)
		w.want("expiry is kept later", w.store.state("c"), "expired 1=expired 2=expired")
		if w.c.Count() != 0 {
			w.Errorf("%d run", w.c.Count())
		}
	})
}

func TestCoordinator_restart(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2", "3")
		w.start("b", "1")
		w.want("taken", w.take("1"), "a b")
		w.take("2")
		w.answer("a", "2", Answered, 2)
		if err := w.c.Stop(w.Context(), "b"); err != nil {
			w.Fatal(err)
		}
		w.restart() // keeps what was sent as it stops
		w.want("within the lease", w.take("1"), "")
		w.want("who answered", w.take("2"), "")
		w.want("who was not asked", w.take("3"), "a")
		w.wait(Lease)
		w.want("after the lease", w.take("1"), "a")
		w.answer("a", "1", Empty, 0)
		w.answer("a", "3", Empty, 0)
		w.want("ended", w.store.state("a"), "done 1=empty 2=answered 3=empty")
	})
}

func TestCoordinator_loadExpired(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1")
		w.stop()
		w.wait(2 * DefaultExpiry)
		w.restart()
		w.want("after a long stop", w.take("1"), "")
		w.wait(tick)
		w.want("ended", w.store.state("a"), "expired 1=expired")
	})
}

func TestCoordinator_Watch(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.start("a", "1", "2")
		w.start("b", "1")
		woken := func(id string, f func()) bool {
			w.Helper()
			changed, release := w.c.Watch(id)
			second, releaseSecond := w.c.Watch(id)
			defer release()
			releaseSecond() // one that goes must not take the other along
			f()
			select {
			case <-changed:
				<-second
				return true
			default:
				return false
			}
		}
		if !woken("a", func() { w.take("1") }) {
			w.Error("not woken when a node takes it")
		}
		if woken("a", func() { w.take("1") }) {
			w.Error("woken by nothing")
		}
		if woken("b", func() { w.answer("a", "1", Empty, 0) }) {
			w.Error("woken by another query")
		}
		if !woken("a", func() { w.answer("a", "2", Empty, 0) }) {
			w.Error("not woken at its end")
		}
		if !woken("b", func() { _ = w.c.Stop(w.Context(), "b") }) {
			w.Error("not woken when stopped")
		}
		if len(w.c.changed) != 0 {
			w.Errorf("%d watches are left", len(w.c.changed))
		}
	})
}

// TestCoordinator_WatchLoop: a reader who watches, then looks, sees the last
// state however changes and looks fall.
func TestCoordinator_WatchLoop(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		const nodes = 200
		var names []string
		for i := range nodes {
			names = append(names, fmt.Sprint(i))
		}
		w.start("a", names...)
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for {
					changed, release := w.c.Watch("a")
					if _, ok := w.c.Running("a"); !ok {
						release()
						return
					}
					<-changed // a lost wake-up is a deadlock, which synctest reports
					release()
				}
			})
		}
		for _, n := range names {
			readers.Go(func() {
				w.c.Take(n)
				_ = w.c.Accept(context.Background(), []Answer{{LiveID: "a", NodeID: n, State: Empty, ReceivedAt: time.Now()}})
			})
		}
		readers.Wait()
	})
}

// TestTake_cost: a poll with nothing pending allocates nothing, however much
// runs elsewhere.
func TestTake_cost(t *testing.T) {
	c := NewCoordinator(newStore(), slog.New(slog.DiscardHandler), time.Now)
	var nodes []*node.Identity
	for i := range 10_000 {
		nodes = append(nodes, &node.Identity{ID: fmt.Sprint(i)})
	}
	if _, err := c.Start(t.Context(), Query{ID: "a"}, nodes); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { c.Take("idle") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTake_none(b *testing.B) {
	c := NewCoordinator(newStore(), slog.New(slog.DiscardHandler), time.Now)
	for b.Loop() {
		c.Take("idle")
	}
}

func TestReceive(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	rows := func(n int) []osquery.Row {
		list := make([]osquery.Row, n)
		for i := range list {
			list[i] = osquery.Row{{Name: "b", Value: fmt.Sprint(i)}, {Name: "a", Value: "<"}}
		}
		return list
	}
	wide := func(n int, text string) []osquery.Row {
		list := make([]osquery.Row, n)
		for i := range list {
			list[i] = osquery.Row{{Name: "a", Value: text}}
		}
		return list
	}
	mega := strings.Repeat("x", 1<<20)
	tests := []struct {
		name  string
		in    osquery.QueryAnswer
		state State
		kept  int
	}{
		{"rows", osquery.QueryAnswer{Rows: rows(2)}, Answered, 2},
		{"none", osquery.QueryAnswer{Rows: []osquery.Row{}}, Empty, 0},
		{"error", osquery.QueryAnswer{Status: 1, Message: "no such table: x"}, Failed, 0},
		{"another code", osquery.QueryAnswer{Status: 14}, Failed, 0},
		{"denylisted", osquery.QueryAnswer{Status: 1, Message: osquery.DenylistedMessage}, Denylisted, 0},
		{"as many as may be", osquery.QueryAnswer{Rows: rows(MaxRows)}, Answered, MaxRows},
		{"one row too many", osquery.QueryAnswer{Rows: rows(MaxRows + 1)}, OverLimit, MaxRows},
		{"nearly the bytes", osquery.QueryAnswer{Rows: wide(7, mega)}, Answered, 7},
		{"too many bytes", osquery.QueryAnswer{Rows: wide(9, mega)}, OverLimit, 7},
		{"one huge row", osquery.QueryAnswer{Rows: wide(1, strings.Repeat(mega, 9))}, OverLimit, 0},
		{"characters that grow in JSON", osquery.QueryAnswer{Rows: wide(7, strings.Repeat("<", 1<<20))}, OverLimit, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.in.ID = "live"
			got, err := Receive("node", tt.in, Limits{}, now)
			if err != nil || got.State != tt.state || len(got.Rows) != tt.kept {
				t.Fatalf("%s with %d rows, %v; want %s with %d", got.State, len(got.Rows), err, tt.state, tt.kept)
			}
			if got.LiveID != "live" || got.NodeID != "node" || !got.ReceivedAt.Equal(now) || got.Message != tt.in.Message {
				t.Errorf("%.300v", got)
			}
			b, err := json.Marshal(got)
			if err != nil || len(b) > got.Size() || len(b) > MaxBytes+1000 {
				t.Errorf("%d bytes in the stream, Size says %d; %v", len(b), got.Size(), err)
			}
		})
	}
	t.Run("a row keeps its order", func(t *testing.T) {
		t.Parallel()
		got, err := Receive("node", osquery.QueryAnswer{Rows: rows(1)}, Limits{}, now)
		if err != nil || string(got.Rows[0]) != `{"b":"0","a":"\u003c"}` {
			t.Errorf("%s, %v", got.Rows, err)
		}
	})
	t.Run("a huge message is cut", func(t *testing.T) {
		t.Parallel()
		got, err := Receive("node", osquery.QueryAnswer{Status: 1, Message: "x" + strings.Repeat("ä", 1<<20)}, Limits{}, now)
		if err != nil || len(got.Message) > maxMessage+10 || !strings.HasPrefix(got.Message, "xää") || !strings.HasSuffix(got.Message, "ä …") {
			t.Errorf("%d bytes, %v", len(got.Message), err)
		}
	})
}

func TestStates(t *testing.T) {
	t.Parallel()
	seen := map[State]bool{}
	for _, s := range States() {
		if seen[s] {
			t.Errorf("%s comes twice", s)
		}
		seen[s] = true
	}
	for _, s := range []State{Waiting, Sent, Answered, Empty, Failed, Denylisted, OverLimit, Expired, Halted} {
		if !seen[s] {
			t.Errorf("%s is missing", s)
		}
	}
}
