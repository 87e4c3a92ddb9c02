package rollout_test

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// good is a node that fares well, in the stage or not, an hour into it.
func good(i int, admitted bool) rollout.Subject {
	s := rollout.Subject{
		Node: node.IdentityOf(node.Node{ID: fmt.Sprintf("n%02d", i), Platform: "linux"}), Online: true, Admitted: admitted,
		Hash: "new", Former: "old",
	}
	s.Evidence = rollout.Evidence{
		LastLog: at(3590), HashAt: at(3000), Hash: "old", Rows: 100, Lines: 1, Priced: true, Day: rollout.Day{CPUSeconds: 50, Rows: 2000, Bytes: 1e6},
	}
	s.Evidence.Before.Rows, s.Evidence.Before.Lines, s.Evidence.Before.Day = 100, 1, rollout.Day{CPUSeconds: 50, Rows: 2000, Bytes: 1e6}
	if admitted {
		s.Evidence.Hash = "new"
	}
	return s
}

// fleetOf is ten nodes in the stage, of which each gets edit, and others.
func fleetOf(others int, edit func(i int, s *rollout.Subject)) iter.Seq[rollout.Subject] {
	return func(yield func(rollout.Subject) bool) {
		for i := range 10 + others {
			s := good(i, i < 10)
			edit(i, &s)
			if !yield(s) {
				return
			}
		}
	}
}

// TestJudge changes one thing of a good stage at a time, an hour after its
// begin.
func TestJudge(t *testing.T) {
	t.Parallel()
	type subject = rollout.Subject
	one := func(edit func(e *rollout.Evidence)) func(int, *subject) {
		return func(i int, s *subject) {
			if i == 0 {
				edit(&s.Evidence)
			}
		}
	}
	staged := func(edit func(s *subject)) func(int, *subject) {
		return func(i int, s *subject) {
			if i < 10 {
				edit(s)
			}
		}
	}
	both := func(edit func(e *rollout.Evidence)) func(int, *subject) {
		return func(_ int, s *subject) { edit(&s.Evidence) }
	}
	tests := []struct {
		name   string
		edit   func(i int, s *subject)
		alone  bool          // there are no other nodes
		before time.Duration // watched before; a day if 0
		gate   string        // that is not OK; "" if all are
		state  string        // final, waiting or ""
		says   string
		nodes  string // that it names, if given
	}{
		{name: "good"},
		{name: "good and alone", alone: true},

		{name: "one has not told", edit: one(func(e *rollout.Evidence) { e.Hash = "old" }), gate: "evidence cpu", state: "waiting", says: "9 of 10 (90 %) online nodes", nodes: "n00"},
		{name: "one told nothing", edit: one(func(e *rollout.Evidence) { e.Hash, e.HashAt = "", time.Time{} }), gate: "evidence cpu", state: "waiting"},
		{name: "one runs another", edit: one(func(e *rollout.Evidence) { e.Hash = "x" }), gate: "evidence cpu", says: "1 run another config", nodes: "n00"},
		{name: "one ran another before", edit: one(func(e *rollout.Evidence) { e.Hash, e.HashAt = "x", at(-5) }), gate: "evidence cpu", state: "waiting"},
		{name: "one refused", edit: one(func(e *rollout.Evidence) { e.Refused = 1 }), gate: "evidence", state: "final", nodes: "n00"},
		{name: "one is offline for long", edit: func(i int, s *subject) {
			if i == 0 {
				s.Online, s.Evidence = false, rollout.Evidence{}
			}
		}},
		{name: "all are offline for long", edit: staged(func(s *subject) { s.Online, s.Evidence = false, rollout.Evidence{} }), gate: "evidence cpu", state: "waiting", says: "none of the 10 nodes"},
		{name: "nothing changes", edit: func(_ int, s *subject) { s.Hash, s.Evidence = "old", rollout.Evidence{} }},

		{name: "one restarted", edit: one(func(e *rollout.Evidence) { e.Restarts = 1 }), gate: "restarts", state: "final", says: "1 of 10 (10 %) nodes restarted their worker", nodes: "n00"},
		{name: "all restart", edit: both(func(e *rollout.Evidence) { e.Restarts = 1 })},
		{name: "one rebooted", edit: one(func(e *rollout.Evidence) { e.DaemonRestarts = 1 })},
		{name: "one's daemon restarts again and again", edit: one(func(e *rollout.Evidence) { e.DaemonRestarts = 2 }), gate: "restarts", state: "final"},
		{name: "a query failed", edit: one(func(e *rollout.Evidence) { e.Failed, e.Queries = 1, []string{"q"} }), gate: "query_failures", state: "final", says: "the most: q", nodes: "n00"},
		{name: "everywhere a query failed", edit: both(func(e *rollout.Evidence) { e.Failed = 1 }), gate: "query_failures", state: "final"},
		{name: "denied", edit: one(func(e *rollout.Evidence) { e.Denied, e.Queries = 1, []string{"q"} }), gate: "denylisted", state: "final", nodes: "n00"},

		{name: "errors", edit: staged(func(s *subject) { s.Evidence.Lines = 3 }), gate: "errors", says: "3 status lines in a node's hour, and 1 on other nodes; 2 is the most"},
		{name: "errors everywhere", edit: both(func(e *rollout.Evidence) { e.Lines = 300 })},
		{name: "errors, alone", edit: staged(func(s *subject) { s.Evidence.Lines = 100; s.Evidence.Before.Lines = 24 }), alone: true, gate: "errors", says: "1 on these nodes before"},
		{name: "errors, alone as before", edit: staged(func(s *subject) { s.Evidence.Lines = 100; s.Evidence.Before.Lines = 1201 }), alone: true},
		{name: "errors, alone and new", edit: staged(func(s *subject) { s.Evidence.Lines = 21 }), alone: true, before: time.Minute, gate: "errors", says: "too few to compare; 20 is the most"},
		{name: "lost lines", edit: one(func(e *rollout.Evidence) { e.Purged = 1 }), gate: "errors", state: "final", says: "lost log lines"},

		{name: "one is silent", edit: one(func(e *rollout.Evidence) { e.LastLog = at(60) }), gate: "silent", nodes: "n00"},
		{name: "one went offline", edit: func(i int, s *subject) { s.Online = i != 0 }, gate: "silent", nodes: "n00"},
		{name: "all are silent", edit: both(func(e *rollout.Evidence) { e.LastLog = at(60) })},

		{name: "rows", edit: staged(func(s *subject) { s.Evidence.Rows = 301 }), gate: "rows", says: "301 rows in a node's hour, and 100 on other nodes; 300 is the most"},
		{name: "few rows", edit: func(i int, s *subject) { s.Evidence.Rows = 1 + 190*min(1, max(0, 10-i)) }},
		{name: "first results", edit: staged(func(s *subject) { s.Evidence.FirstRows = 3000 })},
		{name: "too many first results", edit: staged(func(s *subject) { s.Evidence.FirstRows = 30_000 }), gate: "rows", state: "final"},

		{name: "cpu", edit: staged(func(s *subject) { s.Evidence.Day.CPUSeconds = 101 }), gate: "cpu", says: "101 CPU seconds in a node's day, and 50 on other nodes; 100 is the most"},
		{name: "cpu of one", edit: one(func(e *rollout.Evidence) { e.Day.CPUSeconds = 600 }), gate: "cpu", nodes: "n00 n09 n08 n07 n06 n05 n04 n03 n02 n01"},
		{name: "cpu, alone", edit: staged(func(s *subject) { s.Evidence.Day.CPUSeconds = 101 }), alone: true, gate: "cpu", says: "50 on these nodes before"},
		{name: "cpu is not known", edit: staged(func(s *subject) { s.Evidence.Priced = false }), gate: "cpu", state: "waiting"},
		{name: "queries that have not run", edit: staged(func(s *subject) { s.Evidence.Idle, s.Evidence.Day.CPUSeconds = 3, 101 }), gate: "cpu", says: "up to 3 queries of a node have not run yet"},

		{name: "over budget", edit: staged(func(s *subject) { s.Evidence.Day.Bytes = 3e6 }), gate: "budget/linux", says: "10 of 10 (100 %) nodes are over the budget"},
		{name: "over budget already", edit: both(func(e *rollout.Evidence) { e.Day.Bytes, e.Before.Day.Bytes = 3e6, 3e6 })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			others, edit := 20, tt.edit
			if tt.alone {
				others = 0
			}
			if edit == nil {
				edit = func(int, *subject) {}
			}
			if tt.before == 0 {
				tt.before = 24 * time.Hour
			}
			r := &rollout.Rollout{Revision: 2, StageAt: epoch()}
			v := rollout.View{Nodes: fleetOf(others, edit), Before: tt.before, Budgets: []rollout.Budget{{
				Name: "linux", Spec: &resource.Budget{Bytes: 2e6}, Means: func(n *node.Identity) bool { return n.Platform == "linux" },
			}}}
			var failed []string
			for _, g := range rollout.Judge(r, v, at(3600)) {
				if g.Message == "" || g.Gate == "" {
					t.Errorf("a result without words: %+v", g)
				}
				if g.OK {
					if g.Waiting || g.Final {
						t.Errorf("it is OK and not: %+v", g)
					}
					continue
				}
				failed = append(failed, g.Gate)
				if state := map[bool]string{g.Waiting: "waiting", g.Final: "final"}[true]; len(failed) == 1 && state != tt.state {
					t.Errorf("%s is %q, want %q", g.Gate, state, tt.state)
				}
				if len(failed) == 1 && !strings.Contains(g.Message, tt.says) {
					t.Errorf("%s says %q, want %q", g.Gate, g.Message, tt.says)
				}
				if len(failed) == 1 && tt.nodes != "" && strings.Join(g.Nodes, " ") != tt.nodes {
					t.Errorf("%s names %v, want %s", g.Gate, g.Nodes, tt.nodes)
				}
			}
			if got := strings.Join(failed, " "); got != tt.gate {
				t.Errorf("%q are not OK, want %q", got, tt.gate)
			}
		})
	}
}

// TestJudge_skip: each gate of resource.GateNames is judged, unless the policy
// skips it.
func TestJudge_skip(t *testing.T) {
	t.Parallel()
	v := rollout.View{Nodes: fleetOf(20, func(int, *rollout.Subject) {})}
	for _, skip := range append(resource.GateNames(), "") {
		r := &rollout.Rollout{StageAt: epoch(), Gates: resource.Gates{Skip: []string{skip}}}
		var names []string
		for _, g := range rollout.Judge(r, v, at(3600)) {
			names = append(names, g.Gate)
		}
		want := slices.DeleteFunc(resource.GateNames(), func(name string) bool { return name == skip })
		if !slices.Equal(names, want) {
			t.Errorf("without %q: %v", skip, names)
		}
	}
}
