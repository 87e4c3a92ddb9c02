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
	"github.com/musterhq/muster/internal/trigger"
)

func testTriggerToken(t *testing.T, s *store.Store) {
	ctx := t.Context()
	a := trigger.Token{Trigger: "a", CreatedAt: start, CreatedBy: "ann"}
	ok(t, s.SetTriggerToken(ctx, a, keyHash("1")))
	ok(t, s.SetTriggerToken(ctx, trigger.Token{Trigger: "b\x00", CreatedAt: start, CreatedBy: "ann"}, keyHash("2")))
	wantKind(t, s.SetTriggerToken(ctx, trigger.Token{Trigger: "c"}, keyHash("1")), errs.Conflict)
	of := func(secret string) string { return must(s.TriggerOfToken(ctx, keyHash(secret)))(t) }
	if of("1") != "a" || of("2") != `b\x00` || of("3") != "" || must(s.TriggerOfToken(ctx, node.KeyHash{}))(t) != "" {
		t.Error(of("1"), of("2"), of("3"))
	}
	ok(t, s.SetTriggerToken(ctx, a, keyHash("4")))
	if of("1") != "" || of("4") != "a" {
		t.Error("after another token:", of("1"), of("4"))
	}
	if list := must(s.TriggerTokens(ctx))(t); len(list) != 2 || list[0] != a {
		t.Errorf("%+v", list)
	}
	ok(t, s.RevokeTriggerToken(ctx, "a"))
	wantKind(t, s.RevokeTriggerToken(ctx, "a"), errs.NotFound)
	if of("4") != "" {
		t.Error("a token works that was revoked")
	}
}

func testTriggerFiring(t *testing.T, s *store.Store) {
	ctx := t.Context()
	fire := func(id, name, dedup string, at time.Time, started bool) {
		t.Helper()
		ok(t, s.SaveFiring(ctx, trigger.Firing{Trigger: name, NodeID: "n0", LiveID: id, Dedup: dedup, ReceivedAt: at}))
		if started {
			ask(t, s, id, 1)
		}
	}
	fire("l1", "a", "x", start, true)
	fire("l2", "a", "y", start.Add(time.Second), true)
	fire("l3", "a", "x", start.Add(2*time.Second), false) // the server was killed before it started
	fire("l4", "b", "x", start.Add(3*time.Second), true)
	ids := func(f trigger.FiredFilter) (list []string) {
		t.Helper()
		for _, f := range must(s.Fired(ctx, f))(t) {
			list = append(list, f.LiveID)
		}
		return list
	}
	for _, tt := range []struct {
		f    trigger.FiredFilter
		want []string
	}{
		{trigger.FiredFilter{Trigger: "a", Limit: 9}, []string{"l2", "l1"}},
		{trigger.FiredFilter{Trigger: "a", Limit: 1}, []string{"l2"}},
		{trigger.FiredFilter{Trigger: "a", Dedup: "x", Limit: 9}, []string{"l1"}},
		{trigger.FiredFilter{Trigger: "a", Since: start, Limit: 9}, []string{"l2"}},
		{trigger.FiredFilter{Trigger: "c", Limit: 9}, nil},
	} {
		if d := cmp.Diff(tt.want, ids(tt.f)); d != "" {
			t.Errorf("%+v: %s", tt.f, d)
		}
	}
	sent, answered := start.Add(5*time.Second), start.Add(7*time.Second)
	ok(t, s.MarkSent(ctx, []live.Delivery{{LiveID: "l1", NodeID: "n0", At: sent, Attempts: 1}}))
	must(s.SaveAnswers(ctx, []live.Answer{{LiveID: "l1", NodeID: "n0", State: live.Empty, ReceivedAt: answered}}))(t)
	spans := must(s.TriggerSpans(ctx, start))(t)
	want := trigger.Span{Name: "a", NodeID: "n0", State: live.Empty, Began: start, Sent: sent, Answered: answered}
	if len(spans) != 3 || spans[2] != want {
		t.Errorf("%+v", spans)
	}
	counts := must(s.FiringsPerTrigger(ctx))(t)
	if counts["a"] != (trigger.Count{Fired: 2, Answered: 1, Last: start.Add(time.Second)}) || counts["b"].Fired != 1 {
		t.Errorf("%+v", counts)
	}
	ok(t, s.PruneFirings(ctx, start.Add(time.Second)))
	if d := cmp.Diff([]string{"l2"}, ids(trigger.FiredFilter{Trigger: "a", Limit: 9})); d != "" {
		t.Error(d)
	}
}

func testEnrollment(t *testing.T, s *store.Store) {
	ctx := t.Context()
	if since := must(s.StandEnrollment(ctx, "e1", "one", start))(t); !since.Equal(start) {
		t.Error(since)
	}
	if since := must(s.StandEnrollment(ctx, "e1", "one", start.Add(time.Hour)))(t); !since.Equal(start) {
		t.Error("after a restart:", since)
	}
	if d := cmp.Diff(map[string]string{"e1": "one"}, must(s.StandingEnrollments(ctx))(t)); d != "" {
		t.Error(d)
	}
	ok(t, s.EndEnrollment(ctx, "e1"))
	if since := must(s.StandEnrollment(ctx, "e1", "one", start.Add(time.Hour)))(t); !since.Equal(start.Add(time.Hour)) {
		t.Error("made anew:", since)
	}
	ok(t, s.CreateSecret(ctx, node.Secret{Name: "sesame", CreatedAt: start}, keyHash("sesame")))
	first, second := enrol(t, s, enrolment("h1", "sesame", start)), enrol(t, s, enrolment("h2", "sesame", start.Add(time.Minute)))
	if got := must(s.EnrolledSince(ctx, start.Add(time.Second)))(t); len(got) != 1 || !got[second.ID].Equal(start.Add(time.Minute)) {
		t.Errorf("%v", got)
	}
	if got := must(s.EnrolledSince(ctx, time.Time{}))(t); len(got) != 2 {
		t.Errorf("%v", got)
	}
	ok(t, s.DeleteNode(ctx, first.ID))
	if got := must(s.EnrolledSince(ctx, time.Time{}))(t); len(got) != 1 {
		t.Errorf("with one that is gone: %v", got)
	}
}
