//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

// testTransparency: each node has an epoch of its own, which ends with it, and
// nothing else of the node changes by it.
func testTransparency(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	a, b := enrol(t, s, enrolment("a", "servers", start)), enrol(t, s, enrolment("b", "servers", start))
	before := must(s.FindNode(t.Context(), a.ID))(t)
	ok(t, s.RevokeTransparency(t.Context(), a.ID))
	ok(t, s.RevokeTransparency(t.Context(), a.ID))
	for id, want := range map[string]int64{a.ID: 2, b.ID: 0} {
		if got := must(s.TransparencyEpoch(t.Context(), id))(t); got != want {
			t.Errorf("%s is in epoch %d, not %d", id, got, want)
		}
	}
	if diff := cmp.Diff(before, must(s.FindNode(t.Context(), a.ID))(t)); diff != "" {
		t.Error(diff)
	}
	ok(t, s.DeleteNode(t.Context(), a.ID))
	for _, id := range []string{a.ID, "nobody"} {
		if _, err := s.TransparencyEpoch(t.Context(), id); !errs.Is(err, errs.NotFound) {
			t.Errorf("the epoch of %s: %v", id, err)
		}
		if err := s.RevokeTransparency(t.Context(), id); !errs.Is(err, errs.NotFound) {
			t.Errorf("revoke links of %s: %v", id, err)
		}
	}
}

// testLiveOf: a node's history says all about a question but its rows.
func testLiveOf(t *testing.T, s *store.Store) {
	q := live.Query{
		ID: "q1", Kind: live.Trigger, Source: "edr", SQL: "SELECT 1", Selector: node.Selector{Nodes: []string{"n0"}}, Phase: live.Running,
		CreatedBy: "trigger:edr", CreatedAt: start, ExpiresAt: start.Add(time.Hour), Reason: "case 7", Tier: 2,
		Approval: live.Approval{Needed: true, By: "bob", At: start.Add(time.Minute)},
	}
	ok(t, s.CreateLive(t.Context(), q, []live.Target{{NodeID: "n0", State: live.Waiting}, {NodeID: "n1", State: live.Waiting}}))
	want := []live.Asked{{
		LiveID: "q1", Kind: live.Trigger, Source: "edr", SQL: "SELECT 1", Reason: "case 7", Tier: 2, Approval: q.Approval,
		CreatedBy: "trigger:edr", CreatedAt: start, State: live.Waiting,
	}}
	if diff := cmp.Diff(want, must(s.LiveOf(t.Context(), "n0", 10))(t)); diff != "" {
		t.Error(diff)
	}
	if got := must(s.LiveOf(t.Context(), "n2", 10))(t); len(got) != 0 {
		t.Errorf("a node that was not asked: %+v", got)
	}
}
