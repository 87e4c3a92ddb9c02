package alert_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
)

// TestRaise_states: one alert for a rule and key, counted, over, opened again.
func TestRaise_states(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.raise(fire("a", "5-0"), fire("b", "5-1"), fire("a", "5-2"))
	w.lists("b open 1×1; a open 2×1")
	w.raise(fire("a", "6-0"))
	w.raise(over(fire("b", "6-1")), over(fire("none", "6-2")))
	w.lists("b resolved 1×1; a open 3×1")

	w.now = w.now.Add(time.Minute)
	w.raise(fire("b", "7-0"))
	w.lists("b open 2×2; a open 3×1")
	w.raise(over(fire("b", "8-0")))
	w.now = w.now.Add(25 * time.Hour)
	w.raise(fire("b", "9-0"))
	w.lists("b open 1×1; b resolved 2×2; a open 3×1")
	if got := w.history("b"); got != "opened by rule" {
		t.Error(got)
	}
}

// TestRaise_again: what was taken is taken once, however often it is raised, and
// after a restart; a stream that began anew is no repeat.
func TestRaise_again(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	received := w.now.Add(-time.Second)
	f := func(key, event string, at time.Time) alert.Firing {
		out := fire(key, event)
		out.Received = at
		return out
	}
	batch := []alert.Firing{f("a", "1-0", received), f("a", "1-1", received), over(f("b", "1-2", received)), f("b", "1-3", received), over(f("b", "1-4", received))}
	for range 3 {
		w.raise(batch...)
		w.lists("b resolved 1×1; a open 2×1")
		w.check(w.store.Close())
		w.open()
	}
	w.raise(f("a", "1-10", received)) // by number, not by text
	w.raise(f("a", "0-1", received.Add(time.Second)), f("a", "0-2", received.Add(2*time.Second)))
	w.lists("b resolved 1×1; a open 5×1")

	health := alert.Firing{Rule: "r", Key: "offline", Title: "offline", EventTime: received}
	w.raise(health)
	w.raise(health)
	health.EventTime = received.Add(time.Minute)
	w.raise(health)
	w.lists("offline open 2×1; b resolved 1×1; a open 5×1")
}

// TestRaise_flood: beyond the limit alerts are counted by one; nothing is lost, and
// what is open goes on.
func TestRaise_flood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true, Resolved: true})
	w.policy = alert.Policy{FloodMax: 3, FloodPeriod: time.Minute}
	var batch []alert.Firing
	for i := range 10 {
		batch = append(batch, fire(fmt.Sprintf("k%d", i), fmt.Sprintf("1-%d", i)))
	}
	for range 2 { // the second time after a crash
		w.raise(batch...)
		w.lists("r open 7×1; k2 open 1×1; k1 open 1×1; k0 open 1×1")
	}
	w.raise(fire("k0", "2-0"), fire("k9", "2-1"))
	w.lists("r open 8×1; k2 open 1×1; k1 open 1×1; k0 open 2×1")
	w.tells(0, "n: opened k0(2), opened k1(1), opened k2(1)", "n: opened too many alerts of the rule r(8)")
	samples, err := w.store.AlertSamples(t.Context(), w.find("r").ID)
	w.check(err)
	if len(samples) != alert.MaxSamples || samples[0].Title != "k9" || samples[0].Number != 8 {
		t.Errorf("%+v", samples)
	}
	w.now = w.now.Add(time.Minute)
	w.check(w.service.Sweep(t.Context()))
	w.raise(fire("k9", "3-0"))
	w.lists("k9 open 1×1; r resolved 8×1; k2 open 1×1; k1 open 1×1; k0 open 2×1")
}

// TestRaise_hostile: what agents say is bounded and commands nothing.
func TestRaise_hostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 10_000)
	labels := map[string]string{"evil\u202e": "\x1b[2J"}
	for i := range 100 {
		labels[fmt.Sprintf("l%03d", i)] = long
	}
	w.raise(
		alert.Firing{Rule: "r", Key: long + "1", Severity: "dire", Title: "a\r\nBcc: x\u202e\x00\xff" + long, Text: long + "\n\tx", Labels: labels, Columns: []byte(`{"a":`)},
		alert.Firing{Rule: "r", Key: long + "2", Columns: []byte(`{"a":"` + long + `"}`)},
	)
	list, _, err := w.store.Alerts(t.Context(), alert.Filter{})
	w.check(err)
	if len(list) != 2 {
		t.Fatalf("%d alerts", len(list))
	}
	for _, a := range list {
		if len(a.Key) > alert.MaxKey || len(a.Title) > alert.MaxTitle || len(a.Text) > 4<<10 || len(a.Labels) > 16 || a.Severity != alert.Medium {
			t.Errorf("%+v", a)
		}
		if strings.ContainsAny(a.Title, "\r\n\x00\u202e") {
			t.Errorf("%q", a.Title)
		}
		samples, err := w.store.AlertSamples(t.Context(), a.ID)
		w.check(err)
		if len(samples) != 1 || samples[0].Columns != nil {
			t.Errorf("%+v", samples)
		}
	}
	if want := `a\u000d\u000aBcc: x\u202e\u0000` + "\ufffdxxx"; !strings.HasPrefix(list[0].Title+list[1].Title, want) && !strings.HasPrefix(list[1].Title, want) {
		t.Errorf("%q", list[0].Title)
	}
	if _, ok := list[1].Labels[`evil\u202e`]; !ok && list[0].Labels[`evil\u202e`] != `\u001b[2J` {
		t.Errorf("%+v", list)
	}
}

// TestAct: what people do, and what they cannot.
func TestAct(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.raise(fire("a", "1-0"))
	w.check(w.act("a", alert.Act{Action: alert.Acked, Comment: "mine\u202e"}))
	w.check(w.act("a", alert.Act{Action: alert.Acked}))
	w.check(w.act("a", alert.Act{Action: alert.Assigned, Assignee: "bob"}))
	w.check(w.act("a", alert.Act{Action: alert.Commented, Comment: "two\nlines"}))
	wantKind(t, w.act("a", alert.Act{Action: alert.Commented, Comment: " "}), errs.Invalid)
	wantKind(t, w.act("a", alert.Act{Action: alert.Opened}), errs.Invalid)
	_, err := w.service.Act(t.Context(), "nothing", alert.Act{Actor: "ann", Action: alert.Acked})
	wantKind(t, err, errs.NotFound)
	w.raise(fire("a", "2-0"))
	w.lists("a acknowledged 2×1")
	if a := w.find("a"); a.AcknowledgedBy != "ann" || a.Assignee != "bob" {
		t.Errorf("%+v", a)
	}
	w.check(w.act("a", alert.Act{Action: alert.Ended, Comment: "fixed"}))
	wantKind(t, w.act("a", alert.Act{Action: alert.Acked}), errs.Conflict)
	w.check(w.act("a", alert.Act{Action: alert.Reopened}))
	w.lists("a open 2×2")
	want := `opened by rule; acknowledged by ann: mine\u202e; assigned by ann: to bob; commented by ann: two` + "\nlines; resolved by ann: fixed; reopened by ann"
	if got := w.history("a"); got != want {
		t.Errorf("got %s", got)
	}
	w.raise(over(fire("a", "3-0")))
	w.now = w.now.Add(25 * time.Hour)
	old := w.find("a").ID
	w.raise(fire("a", "4-0"))
	_, err = w.service.Act(t.Context(), old, alert.Act{Actor: "ann", Action: alert.Reopened})
	wantKind(t, err, errs.Conflict)
}

// TestRaise_selfResolve: a rule's time ends what did not fire again.
func TestRaise_selfResolve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.ResolveAfter = time.Minute
	w.raise(fire("a", "1-0"), fire("b", "1-1"))
	w.now = w.now.Add(40 * time.Second)
	w.raise(fire("b", "2-0"))
	w.now = w.now.Add(30 * time.Second)
	w.check(w.service.Sweep(t.Context()))
	w.lists("b open 2×1; a resolved 1×1")
	more, err := w.store.PruneAlerts(t.Context(), w.now.Add(time.Second))
	w.check(err)
	w.lists("b open 2×1")
	if more {
		t.Error("there is more")
	}
}
