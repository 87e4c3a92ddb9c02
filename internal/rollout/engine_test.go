package rollout_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// thousands is the size of a fleet in which each signal is injected.
const thousands = 3000

const bake = 12 * time.Minute

func stages(onFailure string, stages ...resource.Stage) *resource.RolloutPolicy {
	for i := range stages {
		stages[i].Bake = resource.Duration(bake)
	}
	return &resource.RolloutPolicy{Stages: stages, OnFailure: onFailure}
}

func usual(onFailure string) *resource.RolloutPolicy {
	return stages(onFailure, resource.Stage{Name: "canary", Nodes: 2}, resource.Stage{Percent: 5}, resource.Stage{Percent: 50}, resource.Stage{Selector: "all"})
}

// TestEngine_healthy: a good revision reaches all nodes, stage by stage.
func TestEngine_healthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, thousands, "SELECT 1", usual(""))
		var sizes []int
		for stage := range 4 {
			if !f.until(time.Minute+bake+rollout.Patience, func() bool { return f.rollout().Stage == stage && f.rollout().Stages[stage].BeganAt != (time.Time{}) }) {
				t.Fatalf("stage %d does not begin", stage)
			}
			f.run(2 * poll)
			if len(f.served) != f.admitted() {
				t.Errorf("stage %d: %d nodes are served it, %d are admitted", stage, len(f.served), f.admitted())
			}
			sizes = append(sizes, len(f.served))
		}
		if !f.until(bake+rollout.Patience, f.in(rollout.Done)) {
			t.Errorf("after all stages it is %s", f.rollout().State)
		}
		// Two of each of three platforms; of 3,000 by a hash: 150 and 1,500, each
		// give or take four standard deviations.
		for i, want := range [][2]int{{6, 6}, {102, 198}, {1390, 1610}, {thousands, thousands}} {
			if sizes[i] < want[0] || sizes[i] > want[1] {
				t.Errorf("stage %d has %d nodes, want %v", i, sizes[i], want)
			}
		}
		if c, ok := f.monitor.Cost("pack_new_question", policy.Hash("SELECT 1")); !ok || c.Nodes < thousands*9/10 || c.CPUMillis <= 0 {
			t.Errorf("the cost of its query: %+v, %t", c, ok)
		}
		want := "system rollout.start 2, system rollout.stage 2, system rollout.stage 2, system rollout.stage 2, system rollout.done 2"
		if got := strings.Join(f.audit, ", "); got != want {
			t.Errorf("audit log: %s", got)
		}
	})
}

// TestEngine_signals injects each signal: no node but the first stage's ever gets
// the revision, and it goes back within a minute of the evidence.
func TestEngine_signals(t *testing.T) {
	t.Parallel()
	tests := map[agenttest.Signal]struct {
		gate  string
		early bool          // at once, not at the end of the bake time
		after time.Duration // the end of the bake time, that the evidence comes
	}{
		agenttest.Crash:     {gate: "query_failures", early: true},
		agenttest.Denied:    {gate: "denylisted", early: true},
		agenttest.Refused:   {gate: "evidence", early: true},
		agenttest.Errors:    {gate: "errors"},
		agenttest.Volume:    {gate: "rows"},
		agenttest.CPU:       {gate: "cpu", after: 2 * time.Minute}, // costs are told every ten minutes, or eleven
		agenttest.WrongHash: {gate: "evidence"},
		agenttest.Silence:   {gate: "silent", after: time.Minute}, // the last line came a minute after the stage began
	}
	for _, signal := range agenttest.Signals() {
		tt := tests[signal]
		t.Run(string(signal), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, thousands, "SELECT 1 /* simulate:"+string(signal)+" */", usual(resource.FailureRollback))
				f.until(bake+rollout.Patience+2*time.Minute, f.in(rollout.RolledBack))
				r := f.rollout()
				if r.State != rollout.RolledBack || !strings.Contains(r.Reason, tt.gate+": ") {
					t.Fatalf("it is %s: %s", r.State, r.Reason)
				}
				known := f.told // when the evidence was there
				if !tt.early {
					known = r.StageAt.Add(bake + tt.after)
				}
				if known.IsZero() || r.EndedAt.Sub(known) > time.Minute {
					t.Errorf("it went back at %v, %v after the evidence", r.EndedAt, r.EndedAt.Sub(known))
				}
				f.run(5 * time.Minute)
				if len(f.served) == 0 || len(f.served) > 6 {
					t.Errorf("%d nodes ever got the revision; the stage has 6", len(f.served))
				}
				for _, n := range f.nodes {
					if f.served[n.identity.ID] && n.worker.Hash() != f.catalog.Config(n.identity).Hash {
						t.Errorf("node %s runs the bad revision still", n.identity.ID)
					}
				}
			})
		})
	}
}

// TestEngine_pause: without a policy that goes back, a failed gate pauses, and
// the nodes keep what they have until somebody decides.
func TestEngine_pause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1 /* simulate:crash */", usual(resource.FailurePause))
		if !f.until(bake, f.in(rollout.Paused)) {
			t.Fatal("it is not paused")
		}
		r := f.rollout()
		if !strings.Contains(r.Reason, "query_failures: ") || len(r.Results) == 0 {
			t.Errorf("reason %q, results %v", r.Reason, r.Results)
		}
		f.run(time.Hour)
		if got := f.rollout(); got.State != rollout.Paused || got.Stage != 0 || len(f.served) != 6 {
			t.Errorf("an hour later it is %s at %d, and %d nodes got it", got.State, got.Stage, len(f.served))
		}
		if last := f.audit[len(f.audit)-1]; last != "system rollout.pause 2" {
			t.Errorf("audit: %v", f.audit)
		}
	})
}

// small is the size of other fleets.
const small = 60

// TestEngine_missing: a revision that takes the evidence away fails, as does one
// whose nodes are offline.
func TestEngine_missing(t *testing.T) {
	t.Parallel()
	t.Run("no health pack", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, small, "SELECT 1", usual(""))
			f.store.next = compile(t, next, shipped(t)[:2])
			f.store.open(f.rollout())
			f.until(2*time.Hour, f.in(rollout.Paused, rollout.Done))
			if r := f.rollout(); r.State != rollout.Paused || r.Stage != 0 {
				t.Errorf("it is %s at stage %d: %s", r.State, r.Stage, r.Reason)
			}
		})
	})
	t.Run("offline", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			policy := stages("", resource.Stage{Selector: "platform = darwin"})
			policy.Gates.Skip = []string{"silent"}
			f := newFleet(t, small, "SELECT 1", policy)
			for _, n := range f.nodes {
				n.gone = n.identity.Platform == "darwin"
			}
			f.until(2*time.Hour, f.in(rollout.Paused, rollout.Done))
			if r := f.rollout(); r.State != rollout.Paused || r.Stage != 0 || !strings.Contains(r.Reason, "evidence: none of the") {
				t.Errorf("it is %s at stage %d: %s", r.State, r.Stage, r.Reason)
			}
		})
	})
	t.Run("canary untouched", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, small, "SELECT 1", stages("", resource.Stage{Selector: "platform = darwin"}))
			f.store.next = compile(t, next, append(shipped(t), pack("new", "platform = linux", map[string]string{"q": "SELECT 1"})))
			f.store.open(f.rollout())
			f.until(2*time.Hour, f.in(rollout.Paused, rollout.Done))
			if r := f.rollout(); r.State != rollout.Paused || r.Stage != 0 {
				t.Errorf("a stage of nodes that the revision does not change: %s at stage %d: %s", r.State, r.Stage, r.Reason)
			}
		})
	})
	t.Run("nothing changes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, small, "SELECT 1", usual(""))
			f.store.next = compile(t, next, append(shipped(t), pack("new", "none", map[string]string{"q": "SELECT 1"})))
			f.store.open(f.rollout())
			if !f.until(2*time.Hour, f.in(rollout.Done)) {
				t.Errorf("it is %s: %s", f.rollout().State, f.rollout().Reason)
			}
		})
	})
}

// TestEngine_restart: a server that starts in the middle of a stage watches it
// anew, and neither forgets the stage nor trusts what it did not see.
func TestEngine_restart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", usual(""))
		f.run(bake - 2*time.Minute)
		before := f.rollout()
		f.stop()
		f.run(time.Minute)
		f.start()
		f.run(time.Minute)
		r := f.rollout()
		if r.Stage != 0 || !r.StageAt.After(before.StageAt) || !r.Stages[0].BeganAt.Equal(before.Stages[0].BeganAt) {
			t.Fatalf("after the start: stage %d of %v, began %v", r.Stage, r.StageAt, r.Stages[0].BeganAt)
		}
		if !f.until(bake+rollout.Patience, func() bool { return f.rollout().Stage == 1 }) {
			t.Fatalf("it does not go on: %s", f.rollout().Reason)
		}
		if waited := f.rollout().StageAt.Sub(r.StageAt); waited < bake {
			t.Errorf("the stage was watched for %v after the start", waited)
		}
		if !slices.Contains(f.audit, "system rollout.watch_again 2") {
			t.Errorf("audit: %v", f.audit)
		}
	})
}

// TestEngine_freeze: while frozen no stage begins, and going back is possible.
func TestEngine_freeze(t *testing.T) {
	t.Parallel()
	t.Run("in the middle", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, small, "SELECT 1", usual(""))
			f.run(2 * time.Minute)
			f.frozen = "holidays"
			f.run(2 * time.Hour)
			if r := f.rollout(); r.Stage != 0 || r.State != rollout.Running {
				t.Fatalf("frozen, it is %s at stage %d", r.State, r.Stage)
			}
			if err := f.engine.Advance(t.Context(), "ann", "hurry"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "holidays") {
				t.Errorf("advancing while frozen: %v", err)
			}
			s, err := f.engine.Status(t.Context())
			if err != nil || s.Frozen != "holidays" || !s.Served || s.Nodes != small || s.Admitted != 6 || s.Online != 6 || s.Applied != 6 || s.Control != small-6 {
				t.Errorf("status %+v, %v", s, err)
			}
			f.frozen = ""
			if !f.until(time.Minute, func() bool { return f.rollout().Stage == 1 }) {
				t.Error("it does not go on after the freeze")
			}
			f.frozen = "again"
			if err := f.engine.Rollback(t.Context(), "ann", "enough"); err != nil || f.rollout().State != rollout.RolledBack {
				t.Errorf("going back while frozen: %v, %s", err, f.rollout().State)
			}
		})
	})
	t.Run("before the first stage", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, small, "SELECT 1", stages("", resource.Stage{Selector: "all"}), "linux")
			f.frozen = "now" // newFleet opened the rollout, and no look has passed since
			f.run(time.Hour)
			if len(f.served) != 0 {
				t.Errorf("%d nodes got it", len(f.served))
			}
		})
	})
}

// TestEngine_strata: a platform with one node has a canary, too.
func TestEngine_strata(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]resource.Stage{"count": {Nodes: 1}, "percentage": {Percent: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 40, "SELECT 1", stages("", first), "linux")
				lone := f.join("windows")
				f.run(2 * poll)
				if !f.served[lone.identity.ID] {
					t.Error("the only node of its platform is not in the first stage")
				}
				if n := len(f.served); n < 2 || n > 5 {
					t.Errorf("%d nodes of 41 are in it", n)
				}
			})
		})
	}
}

// TestEngine_join: a node that joins gets what its place says, and nothing else.
func TestEngine_join(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", stages("", resource.Stage{Percent: 20}))
		f.run(time.Minute)
		began := len(f.served)
		for range 200 {
			f.join()
		}
		f.run(2 * poll)
		admits, err := f.rollout().Admission()
		if err != nil {
			t.Fatal(err)
		}
		joined := 0
		for _, n := range f.nodes[small:] {
			if f.served[n.identity.ID] != admits(n.identity) {
				t.Errorf("node %s: served %t", n.identity.ID, f.served[n.identity.ID])
			}
			if admits(n.identity) {
				joined++
			}
		}
		if joined < 15 || joined > 65 || began == 0 {
			t.Errorf("%d of 200 new nodes are in a stage of 20 %%", joined)
		}
		if !f.until(bake+rollout.Patience, func() bool { return f.rollout().Stage == 1 }) {
			t.Errorf("it does not go on: %s %s", f.rollout().State, f.rollout().Reason)
		}
	})
}

// TestEngine_clock: a clock that jumps ends no bake time early, and hangs none.
func TestEngine_clock(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"forward": 26 * time.Hour, "back": -26 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, small, "SELECT 1", usual(""))
				f.run(3 * time.Minute)
				f.skew += jump
				jumped := time.Now()
				if !f.until(bake+rollout.Patience+time.Minute, func() bool { return f.rollout().Stage == 1 || f.rollout().State != rollout.Running }) {
					t.Fatal("it hangs")
				}
				if r := f.rollout(); r.State != rollout.Running || time.Since(jumped) < bake {
					t.Errorf("%v after the jump it is %s: %s", time.Since(jumped), r.State, r.Reason)
				}
			})
		})
	}
}

// TestEngine_actions are those of people.
func TestEngine_actions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", usual(""))
		f.run(time.Minute)
		e, ctx := f.engine, t.Context()
		for _, act := range []func(reason string) error{
			func(r string) error { return e.Advance(ctx, "ann", r) },
			func(r string) error { return e.Pause(ctx, "ann", r) },
			func(r string) error { return e.Resume(ctx, "ann", r) },
			func(r string) error { return e.Rollback(ctx, "ann", r) },
		} {
			if err := act(" "); !errs.Is(err, errs.Invalid) {
				t.Errorf("without a reason: %v", err)
			}
		}
		if err := e.Resume(ctx, "ann", "go"); !errs.Is(err, errs.Conflict) {
			t.Errorf("resuming what runs: %v", err)
		}
		must(t, e.Pause(ctx, "ann", "lunch"))
		if err := e.Pause(ctx, "ben", "dinner"); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "lunch (ann)") {
			t.Errorf("pausing twice: %v", err)
		}
		f.run(time.Hour)
		if r := f.rollout(); r.Stage != 0 || r.State != rollout.Paused || r.Reason != "lunch (ann)" {
			t.Errorf("paused for an hour: %s at %d, %s", r.State, r.Stage, r.Reason)
		}
		must(t, e.Resume(ctx, "ann", "lunch is over"))
		f.run(bake / 2)
		if r := f.rollout(); r.Stage != 0 || r.State != rollout.Running {
			t.Errorf("resumed: %s at %d", r.State, r.Stage)
		}
		for range 3 {
			must(t, e.Advance(ctx, "ann", "hurry"))
		}
		f.run(2 * poll)
		if r := f.rollout(); r.Stage != 3 || len(f.served) != small {
			t.Errorf("advanced: stage %d, %d nodes", r.Stage, len(f.served))
		}
		must(t, e.Advance(ctx, "ann", "hurry"))
		if r := f.rollout(); r.State != rollout.Done || r.EndedAt.IsZero() {
			t.Errorf("advanced at the end: %s", r.State)
		}
		if err := e.Advance(ctx, "ann", "more"); !errs.Is(err, errs.NotFound) {
			t.Errorf("nothing is open: %v", err)
		}
		if _, err := e.Status(ctx); !errs.Is(err, errs.NotFound) {
			t.Errorf("status of nothing: %v", err)
		}
		want := "system rollout.start 2, ann rollout.pause 2, ann rollout.resume 2, ann rollout.stage 2, ann rollout.stage 2, ann rollout.stage 2, ann rollout.done 2"
		if got := strings.Join(f.audit, ", "); got != want {
			t.Errorf("audit: %s", got)
		}
	})
}

// TestEngine_audit: what cannot be recorded is not done.
func TestEngine_audit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", usual(""))
		f.unrecorded = true
		f.run(time.Hour)
		if len(f.served) != 0 {
			t.Errorf("%d nodes got it", len(f.served))
		}
		f.unrecorded = false
		f.run(3 * poll)
		if len(f.served) != 6 {
			t.Errorf("%d nodes got it once it can be recorded", len(f.served))
		}
	})
}

// TestEngine_cannotRevert: a rollout that cannot go back stops at least, and goes
// back as soon as it can.
func TestEngine_cannotRevert(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1 /* simulate:crash */", usual(resource.FailureRollback))
		f.store.irreversible = true
		if !f.until(bake, f.in(rollout.Paused)) || !strings.Contains(f.rollout().Reason, "going back failed") {
			t.Errorf("it is %s: %s", f.rollout().State, f.rollout().Reason)
		}
		f.run(10 * time.Minute)
		if tries := len(f.audit); tries < 5 || tries > 20 {
			t.Errorf("in ten minutes it tried as often as %d entries say", tries)
		}
		f.store.irreversible = false
		if !f.until(2*time.Minute, f.in(rollout.RolledBack)) || len(f.served) != 6 {
			t.Errorf("it is %s, and %d nodes got it", f.rollout().State, len(f.served))
		}
	})
}

// TestEngine_lostJump: a clock that jumps while the store fails is not forgotten.
func TestEngine_lostJump(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", usual(""))
		f.run(3 * time.Minute)
		f.store.failing = true
		f.skew = 26 * time.Hour
		f.run(2 * time.Minute)
		f.store.failing = false
		f.run(bake / 2)
		if r := f.rollout(); r.Stage != 0 || r.State != rollout.Running {
			t.Errorf("it is %s at %d: %s", r.State, r.Stage, r.Reason)
		}
	})
}

// TestEngine_two: of two servers one makes each move.
func TestEngine_two(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, small, "SELECT 1", usual(""))
		f.start() // another engine, with the monitor of a server that starts
		if !f.until(3*time.Hour, f.in(rollout.Done, rollout.Paused)) || f.rollout().State != rollout.Done {
			t.Errorf("it is %s: %s", f.rollout().State, f.rollout().Reason)
		}
		if v := f.rollout().Version; v > 8 {
			t.Errorf("it was moved %d times", v)
		}
	})
}

// TestEngine_lastStage: with nobody left to compare with, a bad revision is found
// all the same.
func TestEngine_lastStage(t *testing.T) {
	t.Parallel()
	for _, signal := range []agenttest.Signal{agenttest.Volume, agenttest.Errors, agenttest.CPU} {
		t.Run(string(signal), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, small, "SELECT 1 /* simulate:"+string(signal)+" */", stages(resource.FailureRollback, resource.Stage{Selector: "all"}))
				if !f.until(bake+3*time.Minute, f.in(rollout.RolledBack, rollout.Done)) || f.rollout().State != rollout.RolledBack {
					t.Errorf("it is %s", f.rollout().State)
				}
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
