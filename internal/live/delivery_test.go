package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// many returns nodes n0, n1, ….
func many(n int) []*node.Identity {
	list := make([]*node.Identity, n)
	for i := range list {
		list[i] = &node.Identity{ID: fmt.Sprintf("n%d", i)}
	}
	return list
}

// begin starts a query on so many nodes.
func (w *world) begin(q Query, nodes int) Query {
	w.Helper()
	q.SQL = "SELECT '" + q.ID + "'"
	q, err := w.c.Start(w.Context(), q, many(nodes))
	if err != nil {
		w.Fatal(err)
	}
	return q
}

// taken counts the nodes from first up to last that are given something.
func (w *world) taken(first, last int) int {
	n := 0
	for i := first; i < last; i++ {
		n += len(w.c.Take(fmt.Sprintf("n%d", i)))
	}
	return n
}

func (w *world) held(id string) string {
	q, _ := w.c.Running(id)
	return q.Held
}

func (w *world) number(what string, got, want int) {
	w.Helper()
	if got != want {
		w.Errorf("%s: %d, want %d", what, got, want)
	}
}

// TestWave_window: at most so many nodes have the query unanswered, and each good
// answer makes room for one more.
func TestWave_window(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.begin(Query{ID: "a", Waves: Waves{First: 10, MaxBadPercent: 100}}, 40) // never held
		w.begin(Query{ID: "few", Waves: Waves{First: 40}}, 40)
		w.number("both at first, the small one to all", w.taken(0, 40), 10+40)
		w.answer("a", "n0", Answered, 1)
		w.answer("a", "n1", Empty, 0)
		w.number("two answered: their places and two more", w.taken(10, 40), 4)
		w.answer("a", "n2", Failed, 0)
		w.number("one failed: its place only", w.taken(14, 40), 1)
		w.wait(Lease)
		w.number("after the lease all places are free", w.taken(15, 40), 12+25) // and the small one again
		w.number("and taken", w.taken(3, 15), 12)                               // the small one
	})
}

// TestWave_hold: who goes wrong spares the others, also after a restart, until
// somebody resumes.
func TestWave_hold(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		var told []string
		tell := func() {
			w.c.Tell(func(_ context.Context, q Query) error {
				told = append(told, q.Held)
				return w.store.err
			})
		}
		tell()
		w.begin(Query{ID: "a", Waves: Waves{First: 20}}, 100)
		w.begin(Query{ID: "small"}, 20)
		w.number("the first", w.taken(0, 20), 40)
		for i := range 5 {
			if w.held("a") != "" {
				w.Fatalf("held after %d", i)
			}
			for _, id := range []string{"a", "small"} {
				err := w.c.Accept(w.Context(), []Answer{{LiveID: id, NodeID: fmt.Sprintf("n%d", i), State: Failed, Message: "no such table: x"}})
				if err != nil {
					w.Fatal(err)
				}
			}
		}
		const why = "5 of 5 nodes failed, refused it or did not answer (100 %, the limit is 5 %); most often: no such table: x"
		w.want("held", w.held("a"), why)
		w.want("a small one", w.held("small"), "")
		w.number("delivered while held", w.taken(20, 100), 0)
		w.wait(tick)
		w.want("told", strings.Join(told, "|"), why)
		w.restart()
		tell()
		w.want("held after a restart", w.held("a"), why)
		w.number("delivered after a restart", w.taken(20, 100), 0)

		if _, err := w.c.Resume(w.Context(), "small"); !errs.Is(err, errs.Conflict) {
			w.Error("resumed what is not held:", err)
		}
		if q, err := w.c.Resume(w.Context(), "a"); err != nil || q.Held != "" || q.Waves.Bad != 5 {
			w.Errorf("%+v %v", q, err)
		}
		w.number("resumed", w.taken(20, 100), 5) // 15 are in flight
		w.restart()
		tell()
		w.want("a restart does not forget that", w.held("a"), "")

		// Silence counts, and an answer after it counts as an answer.
		w.wait(Lease - 2*tick)
		w.want("still within the lease", w.held("a"), "")
		w.wait(2 * tick)
		if held := w.held("a"); !strings.Contains(held, "15 of 15 nodes") || !strings.Contains(held, "no answer within 2m0s") {
			w.Error(held)
		}
		if err := w.c.Stop(w.Context(), "a"); err != nil {
			w.Fatal(err)
		}
		w.want("stopped", w.store.state("a")[:7], "stopped")
	})
}

// TestWave_slow: a fleet that answers late, yet answers, is not held in the end.
func TestWave_slow(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.begin(Query{ID: "a", Waves: Waves{First: 4}}, 10)
		w.number("first", w.taken(0, 10), 4)
		w.wait(Lease + tick)
		w.want("four are silent", w.held("a"), "")
		for i := range 4 {
			w.answer("a", fmt.Sprintf("n%d", i), Empty, 0)
		}
		w.number("all the others", w.taken(4, 10), 6)
		r := w.c.running["a"]
		if r.wave.bad != 0 || r.wave.good != 4 || r.wave.inFlight != 6 {
			w.Errorf("%+v", r.wave)
		}
	})
}

func TestCoordinator_heavy(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.begin(Query{ID: "h1", Tier: 2}, 1)
		w.begin(Query{ID: "h2", Tier: 3}, 1)
		w.begin(Query{ID: "l1"}, 1)
		w.want("one heavy one, and the light one", w.take("n0"), "h1 l1")
		w.want("none more", w.take("n0"), "")
		w.answer("h1", "n0", Empty, 0)
		w.want("then the other", w.take("n0"), "h2")
		w.begin(Query{ID: "h3", Tier: 2}, 1)
		w.wait(Lease)
		w.want("after its lease, it again", w.take("n0"), "h2 l1")
		w.wait(Lease)
		w.want("a third time", w.take("n0"), "h2 l1")
		w.wait(Lease)
		w.want("who does not answer blocks nobody for ever", w.take("n0"), "h3")
	})
}

func TestCoordinator_notBefore(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		q := w.begin(Query{ID: "a", NotBefore: time.Now().Add(time.Hour)}, 2)
		if !q.ExpiresAt.Equal(q.NotBefore.Add(DefaultExpiry)) {
			w.Error(q.ExpiresAt)
		}
		w.wait(time.Hour - time.Second)
		w.restart()
		w.want("a second before", w.take("n0"), "")
		w.wait(time.Second)
		w.want("then", w.take("n0"), "a")
		w.wait(DefaultExpiry)
		w.want("after its time", w.take("n1"), "")
		w.wait(tick)
		w.want("ended", w.store.state("a"), "expired n0=expired n1=expired")
	})
}

func TestCoordinator_approval(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		ask := func(id string) { w.begin(Query{ID: id, CreatedBy: "ada", Approval: Approval{Needed: true}}, 1) }
		ask("a")
		w.want("before", w.take("n0"), "")
		w.answer("a", "n0", Answered, 1) // from nowhere
		w.wait(time.Hour)                // longer than it runs
		w.restart()
		w.want("after a restart", w.take("n0"), "")
		if _, err := w.c.Approve(w.Context(), "a", "ada"); !errs.Is(err, errs.Forbidden) {
			w.Error("approved her own:", err)
		}
		q, err := w.c.Approve(w.Context(), "a", "bob")
		if err != nil || q.Approval.By != "bob" || !q.ExpiresAt.Equal(time.Now().Add(DefaultExpiry)) {
			w.Errorf("%+v %v", q, err)
		}
		if _, err := w.c.Approve(w.Context(), "a", "bob"); !errs.Is(err, errs.Conflict) {
			w.Error("twice:", err)
		}
		w.want("after it", w.take("n0"), "a")

		ask("b")
		if err := w.c.Reject(w.Context(), "b", "bob"); err != nil {
			w.Error(err)
		}
		w.want("rejected", w.store.state("b"), "rejected n0=stopped")
		ask("c")
		w.wait(ApprovalTime + tick)
		w.want("nobody decided", w.store.state("c"), "expired n0=expired")
		w.want("nothing", w.take("n0"), "")
	})
}

func TestCoordinator_caps(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		var told []Phase
		w.c.Tell(func(_ context.Context, q Query) error { told = append(told, q.Phase); return nil })
		w.begin(Query{ID: "a", Limits: Limits{Rows: 10, RowsPerNode: 6}}, 4)
		w.number("per node", w.c.Limits("a").RowsPerNode, 6)
		w.number("of one that is not there", w.c.Limits("x").RowsPerNode, 0)
		w.answer("a", "n0", Answered, 5)
		w.answer("a", "n1", Answered, 5)
		q, ok := w.c.Running("a")
		if !ok || q.Rows != 10 || q.Truncated {
			w.Errorf("exactly as much as it may: %+v", q)
		}
		w.answer("a", "n2", Answered, 1)
		w.want("over", w.store.state("a"), "over_limit n0=answered n1=answered n2=over_limit n3=stopped")
		w.want("delivered", w.take("n3"), "")
		w.answer("a", "n3", Answered, 3) // late
		w.want("also late answers", w.store.state("a"), "over_limit n0=answered n1=answered n2=over_limit n3=over_limit")
		w.want("told", fmt.Sprint(told), "[over_limit]")

		w.begin(Query{ID: "b", Limits: Limits{Bytes: 5}}, 2)
		w.answer("b", "n0", Answered, 3) // of two bytes
		w.want("by bytes", w.store.state("b"), "over_limit n0=over_limit n1=stopped")
		w.number("rows that are kept", w.store.targets["b"][0].RowCount, 2)
	})
}

// TestCoordinator_stopAll: what is stopped is stopped at once, whatever the store
// does.
func TestCoordinator_stopAll(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.begin(Query{ID: "a"}, 2)
		w.begin(Query{ID: "b"}, 2)
		var ids []string
		for _, q := range w.c.Open() {
			ids = append(ids, q.ID)
		}
		w.store.fail(errStore)
		if err := w.c.StopAll(w.Context(), ids); !errors.Is(err, errStore) {
			w.Error(err)
		}
		w.number("delivered", w.taken(0, 2), 0)
		w.store.fail(nil)
		w.wait(2 * tick)
		w.want("kept", w.store.state("a")+" "+w.store.state("b"), "stopped n0=stopped n1=stopped stopped n0=stopped n1=stopped")
	})
}

// TestCoordinator_observe: observers hear of each answer that was asked for, late
// ones too, before it is kept.
func TestCoordinator_observe(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		var heard []string
		w.c.Observe(func(_ context.Context, q Query, a Answer) error {
			heard = append(heard, fmt.Sprintf("%s %s %v", q.ID, a.NodeID, a.Late))
			if len(heard) == 1 {
				return errStore
			}
			return nil
		})
		w.begin(Query{ID: "a"}, 2)
		w.take("n0")
		a := Answer{LiveID: "a", NodeID: "n0", State: Empty, ReceivedAt: time.Now()}
		if err := w.c.Accept(w.Context(), []Answer{a}); !errors.Is(err, errStore) {
			w.Error(err)
		}
		w.want("not kept", w.store.state("a"), "running n0=waiting n1=waiting")
		w.answer("a", "n0", Empty, 0)
		w.answer("a", "n0", Empty, 0)
		w.answer("a", "stranger", Empty, 0)
		if err := w.c.Stop(w.Context(), "a"); err != nil {
			w.Fatal(err)
		}
		w.answer("a", "n1", Empty, 0)
		w.answer("a", "n1", Empty, 0)
		w.answer("a", "stranger", Empty, 0)
		w.want("heard", strings.Join(heard, ", "), "a n0 false, a n0 false, a n1 true")
	})
}

// stand keeps the standing query s.
func (w *world) stand() {
	w.Helper()
	if err := w.c.Stand(w.Context(), Query{ID: "s", Source: "inventory", SQL: "SELECT 's'"}); err != nil {
		w.Fatal(err)
	}
}

// add lets a node join it.
func (w *world) add(nodeID string, enrolled time.Time) {
	w.c.Add("s", &node.Identity{ID: nodeID}, enrolled, enrolled.Add(time.Hour))
}

func TestStanding(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		first := time.Now()
		w.add("1", first) // there is none
		w.stand()
		w.stand()
		w.want("nobody joined", w.take("1"), "")
		w.add("1", first)
		tasks := w.c.Take("1")
		if len(tasks) != 1 || !tasks[0].Accelerate {
			w.Errorf("the very next read: %v", tasks)
		}
		w.add("1", first)
		w.want("once per enrolment", w.take("1"), "")
		w.answer("s", "1", Answered, 2) // before the next tick
		w.want("kept", w.store.state("s"), "running 1=answered")
		if r := w.c.running["s"]; len(r.open) != 0 || len(w.c.pending) != 0 || r.query.Rows != 2 {
			w.Errorf("%d open, %d pending, %d rows", len(r.open), len(w.c.pending), r.query.Rows)
		}
		w.add("1", first) // as a sweep may that looked before
		w.wait(tick)
		if q, _ := w.c.Running("s"); q.Nodes() != 1 || q.Counts[Answered] != 1 {
			w.Errorf("%+v", q.Counts)
		}

		w.add("2", first)
		w.wait(tick)
		w.add("2", first.Add(time.Second)) // enrolled again before it polled
		w.wait(tick)
		w.want("asked once", w.take("2"), "s")
		w.restart()
		w.stand()
		w.want("within its lease", w.take("2"), "")
		w.wait(Lease)
		w.want("after it", w.take("2"), "s")

		w.add("1", first.Add(time.Minute))
		w.wait(tick)
		if q, _ := w.c.Running("s"); q.Counts[Waiting] != 1 || q.Counts[Answered] != 0 || q.Rows != 0 || q.Nodes() != 2 {
			w.Errorf("%+v, %d rows", q.Counts, q.Rows)
		}
		w.want("asked anew", w.take("1"), "s")
		w.answer("s", "1", Answered, 1)
		w.wait(time.Hour + tick)
		w.want("its time is over", w.store.state("s"), "running 1=answered 2=expired")
		w.want("and it is not asked", w.take("2"), "")
		w.answer("s", "2", Answered, 1)
		w.want("late", w.store.state("s"), "running 1=answered 2=answered")
		if q, _ := w.c.Running("s"); q.Counts[Answered] != 2 || q.Nodes() != 2 || !w.store.targets["s"][1].Late {
			w.Errorf("%+v", q.Counts)
		}
	})
}

func TestStanding_end(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.stand()
		w.add("1", time.Now())
		if err := w.c.EndStanding(w.Context(), "s"); err != nil {
			w.Fatal(err)
		}
		w.want("ended", w.take("1"), "")
		w.add("1", time.Now())
		w.want("nobody joins", w.take("1"), "")
		w.stand()
		w.add("2", time.Now())
		w.want("stands again", w.take("2"), "s")
		if err := w.c.Stop(w.Context(), "s"); err != nil {
			w.Fatal(err)
		}
		w.stand()
		w.add("3", time.Now())
		w.want("what a person stopped stays so", w.take("3"), "")
		w.restart()
		w.stand()
		w.add("3", time.Now())
		w.want("also after a restart", w.take("3"), "")
	})
}

func TestStanding_failing(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		w.stand()
		now := time.Now()
		w.store.fail(errStore)
		w.add("1", now)
		w.want("delivered all the same", w.take("1"), "s")
		a := Answer{LiveID: "s", NodeID: "1", State: Answered, Rows: []json.RawMessage{[]byte(`{}`)}, ReceivedAt: now}
		if err := w.c.Accept(w.Context(), []Answer{a}); !errors.Is(err, errStore) {
			w.Error("an answer to what is not kept yet must come again:", err)
		}
		w.wait(2 * time.Hour)
		w.store.fail(nil)
		w.wait(2 * tick)
		w.want("kept later", w.store.state("s"), "running 1=expired")
		w.answer("s", "1", Answered, 1)
		w.want("and its answer", w.store.state("s"), "running 1=answered")
	})
}

// TestReceived: who answered is done, however late the answer is kept.
func TestReceived(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		q := w.begin(Query{ID: "a", Waves: Waves{First: 10}}, 30)
		w.number("the first", w.taken(0, 30), 10)
		var answers []Answer
		for i := range 10 {
			answers = append(answers, Answer{LiveID: "a", NodeID: fmt.Sprintf("n%d", i), State: Empty, ReceivedAt: w.c.now()})
		}
		w.c.Received(answers)
		w.c.Received(answers) // a node whose answer was lost sends it again
		w.number("their places and ten more", w.taken(10, 30), 20)
		w.wait(Lease)
		w.number("who answered is not asked again", w.taken(0, 10), 0)
		w.want("those who did not hold it", w.held("a"), "20 of 30 nodes failed, refused it or did not answer (67 %, the limit is 5 %); most often: no answer within 2m0s")
		if _, err := w.c.Resume(w.Context(), "a"); err != nil {
			w.Fatal(err)
		}
		w.number("and are asked again", w.taken(0, 15), 5)
		w.wait(q.ExpiresAt.Sub(w.c.now()) + 2*tick)
		w.number("delivered after its time", w.taken(0, 30), 0)
		if q, running := w.c.Running("a"); !running || q.Counts[Expired] != 0 {
			t.Errorf("it did not wait for answers that came in time: %+v", q)
		}
		if err := w.c.Accept(w.Context(), answers); err != nil {
			w.Fatal(err)
		}
		if first, _, last, known := w.c.Latency("a"); !known || !first.Equal(answers[0].ReceivedAt) || !last.Equal(first) {
			t.Error("latency:", first, last, known)
		}
		w.wait(2 * tick)
		w.want("in the end", w.store.state("a")[:len("expired n0=empty n1=empty")], "expired n0=empty n1=empty")
	})
}

// TestReceived_hold: what went wrong holds the query before it is kept, and one
// whose answers do not come any more ends all the same.
func TestReceived_hold(t *testing.T) {
	t.Parallel()
	run1(t, func(w *world) {
		q := w.begin(Query{ID: "a", Waves: Waves{First: 10}}, 30)
		w.taken(0, 30)
		for i := range 5 {
			w.c.Received([]Answer{{LiveID: "a", NodeID: fmt.Sprintf("n%d", i), State: Failed, Message: "no such table: x"}})
		}
		w.want("held", w.held("a"), "5 of 5 nodes failed, refused it or did not answer (100 %, the limit is 5 %); most often: no such table: x")
		w.wait(q.ExpiresAt.Sub(w.c.now()) + comingTime + 2*tick)
		if _, running := w.c.Running("a"); running {
			t.Error("it waits for ever")
		}
	})
}
