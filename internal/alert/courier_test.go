package alert_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// TestCourier_groups: alerts of a group wait for one another, and are one message.
func TestCourier_groups(t *testing.T) {
	t.Parallel()
	w := newWorld(t,
		&alert.Route{Name: "chat", Default: true, GroupWait: 10 * time.Second, Resolved: true},
		&alert.Route{Name: "pager", Default: true, MinSeverity: alert.High, Resolved: true, Acked: true, Single: true},
	)
	high := fire("b", "1-1")
	high.Severity = "critical"
	w.raise(fire("a", "1-0"), high)
	w.tells(0, "pager: opened b(1)")
	w.now = w.now.Add(8 * time.Second)
	w.raise(fire("c", "2-0"), fire("a", "2-1"))
	w.tells(2*time.Second, "chat: opened a(2), opened b(1), opened c(1)")
	w.check(w.act("b", alert.Act{Action: alert.Acked}))
	w.raise(over(fire("a", "3-0")), fire("d", "3-1"), over(fire("d", "3-2")))
	w.tells(10*time.Second, "chat: resolved a(2), resolved d(1)", "pager: acknowledged b(1)")
	low := fire("c", "4-0")
	low.Severity = "low"
	w.raise(low)
	low.Severity, low.Event = "high", "4-1"
	w.raise(low)
	w.tells(time.Minute, "chat: escalated c(3)", "pager: escalated c(3)")
	w.tells(time.Hour)
}

// TestCourier_routes: who is told of what.
func TestCourier_routes(t *testing.T) {
	t.Parallel()
	match, err := alert.ParseMatchers("match", []string{"label.team = we*", "severity >= low"})
	if err != nil {
		t.Fatal(err)
	}
	who, err := node.ParseWhere("selector", "tag = on-n1")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t,
		&alert.Route{Name: "default", Default: true},
		&alert.Route{Name: "named"},
		&alert.Route{Name: "team", Default: true, Match: match},
		&alert.Route{Name: "node", Default: true, Selector: &who},
	)
	w.raise(
		alert.Firing{Rule: "r", Key: "1", Title: "plain", Severity: "low"},
		alert.Firing{Rule: "r", Key: "2", Title: "web", Labels: map[string]string{"Team": "Web"}},
		alert.Firing{Rule: "r", Key: "3", Title: "n1", NodeID: "n1"},
		alert.Firing{Rule: "r", Key: "4", Title: "n2", NodeID: "n2"},
		alert.Firing{Rule: "r", Key: "5", Title: "for named", Notifiers: []string{"named", "typo"}},
		alert.Firing{Rule: "r", Key: "6", Title: "lost", Notifiers: []string{"typo"}},
		alert.Firing{Rule: alert.RuleNotifier, Key: "default", Title: "default fails"},
	)
	w.tells(0,
		"default: opened plain(1), opened web(1), opened n1(1), opened n2(1), opened lost(1)",
		"named: opened for named(1)",
		"team: opened web(1)",
		"node: opened n1(1)",
	)
	w.check(w.act("5", alert.Act{Action: alert.Ended})) // nobody asked to be told of ends
	w.tells(time.Hour)
}

// TestCourier_fails: what cannot be told is tried again, others are not disturbed,
// and people hear of it; after the notifier's time it is a dead letter.
func TestCourier_fails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "down", Default: true, GiveUp: time.Hour, Single: true}, &alert.Route{Name: "up", Default: true, Resolved: true})
	w.fail["down"] = errDown
	w.raise(fire("a", "1-0"), fire("b", "1-1"))
	w.tells(0, "up: opened a(1), opened b(1)")
	var heard []string
	for range 12 {
		heard = append(heard, w.pass(30*time.Second)...)
	}
	if len(heard) != 1 || !strings.Contains(heard[0], "the notifier down fails") {
		t.Errorf("heard %q", heard)
	}
	w.fail["down"] = nil
	heard = w.pass(30 * time.Minute)
	slices.Sort(heard)
	if got := strings.Join(heard, "; "); got != "down: opened a(1); down: opened b(1); up: resolved the notifier down fails(1)" {
		t.Errorf("heard %s", got)
	}

	w.fail["down"] = errDown
	w.raise(fire("c", "2-0"))
	for range 10 {
		w.pass(10 * time.Minute)
	}
	dead, err := w.store.Notifications(t.Context(), alert.NotificationFilter{State: alert.Dead})
	w.check(err)
	if len(dead) != 1 || dead[0].Alert.Key != "c" || dead[0].Error != "connection refused" || dead[0].Notifier != "down" {
		t.Fatalf("%+v", dead)
	}
	w.fail["down"] = nil
	w.tells(time.Hour)
	n, err := w.store.RetryNotifications(t.Context(), "down", nil, w.now)
	w.check(err)
	if n != 1 {
		t.Errorf("%d are told again", n)
	}
	w.tells(10*time.Minute, "down: opened c(1)", "up: resolved the notifier down fails(3)")
}

// TestCourier_refused: what the other side refuses keeps nothing else from being
// told, and is given up soon.
func TestCourier_refused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true, Single: true})
	w.fail["n"] = &alert.SendError{Refused: true, Err: errs.New(errs.Invalid, "it answered 400: bad\u202e key")}
	w.raise(fire("a", "1-0"))
	tries := 0
	for range 100 {
		w.pass(5 * time.Minute)
		list, err := w.store.Notifications(t.Context(), alert.NotificationFilter{Notifier: "n"})
		w.check(err)
		if tries = list[0].Attempts; list[0].State == alert.Dead {
			if list[0].Error != `it answered 400: bad\u202e key` {
				t.Errorf("%q", list[0].Error)
			}
			break
		}
	}
	if tries != alert.MaxTried {
		t.Errorf("%d tries", tries)
	}
}

// TestCourier_silence: what is silenced opens, and is told when the silence is over,
// if it is still open.
func TestCourier_silence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true, Resolved: true})
	silence := func(match string, d time.Duration) alert.Silence {
		t.Helper()
		s, err := w.service.Silence(t.Context(), alert.Silence{Match: []string{match}, Comment: "planned", CreatedBy: "ann", ExpiresAt: w.now.Add(d)})
		w.check(err)
		return s
	}
	w.raise(fire("before", "1-0"))
	w.tells(0, "n: opened before(1)")
	s := silence("rule = R*", time.Hour)
	w.raise(fire("stays", "2-0"), fire("goes", "2-1"), alert.Firing{Rule: "other", Key: "x", Title: "x"})
	w.tells(time.Minute, "n: opened x(1)")
	w.raise(over(fire("goes", "3-0")), over(fire("before", "3-1")))
	w.tells(time.Minute, "n: resolved before(1)")
	w.tells(time.Hour, "n: opened stays(1)")
	if _, err := w.service.EndSilence(t.Context(), s.ID, "ann"); !errs.Is(err, errs.NotFound) {
		t.Errorf("ended what was over: %v", err)
	}

	s = silence("key = early", time.Hour)
	w.raise(fire("early", "4-0"))
	w.tells(time.Minute)
	_, err := w.service.EndSilence(t.Context(), s.ID, "bob")
	w.check(err)
	w.tells(0, "n: opened early(1)")

	for _, bad := range []alert.Silence{
		{Match: []string{"rule = a"}, Comment: "c"},
		{Match: []string{"rule = a"}, ExpiresAt: w.now.Add(time.Hour)},
		{Comment: "c", ExpiresAt: w.now.Add(time.Hour)},
		{Match: []string{"rules = a"}, Comment: "c", ExpiresAt: w.now.Add(time.Hour)},
		{Match: []string{"rule = a"}, Comment: "c", ExpiresAt: w.now},
		{Match: []string{"rule = a"}, Comment: "c", ExpiresAt: w.now.AddDate(1, 0, 0)},
	} {
		_, err := w.service.Silence(t.Context(), bad)
		wantKind(t, err, errs.Invalid)
	}
}

// TestCourier_repeats: what nobody looks after is told again.
func TestCourier_repeats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true, Repeat: time.Hour})
	w.raise(fire("a", "1-0"), fire("b", "1-1"))
	w.tells(0, "n: opened a(1), opened b(1)")
	w.tells(30 * time.Minute)
	w.check(w.act("b", alert.Act{Action: alert.Acked}))
	w.tells(30*time.Minute, "n: reminded a(1)")
	w.tells(time.Hour, "n: reminded a(1)")
	w.check(w.act("a", alert.Act{Action: alert.Ended}))
	w.tells(time.Hour)
	if list, err := w.store.Backlogs(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestCourier_crash: what was in the outbox when a server was killed is told by the
// next, and what was told is not.
func TestCourier_crash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true, Single: true})
	w.raise(fire("a", "1-0"))
	w.tells(0, "n: opened a(1)")
	w.raise(fire("b", "1-1"))
	w.check(w.store.Close())
	w.open()
	w.tells(0, "n: opened b(1)")
}

// TestCourier_gone: what is for a notifier that is no more becomes dead letters, and
// people hear of it.
func TestCourier_gone(t *testing.T) {
	t.Parallel()
	gone, stays := &alert.Route{Name: "gone", Default: true}, &alert.Route{Name: "stays", Default: true}
	w := newWorld(t, gone, stays)
	w.raise(fire("a", "1-0"))
	w.routes = w.routes[1:]
	w.courier.Look(t.Context())
	w.tells(0, "stays: opened a(1)", "stays: opened the notifier gone fails(1)")
}

// TestCourier_many: a large group is several messages, and one that comes again has
// the same id.
func TestCourier_many(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &alert.Route{Name: "n", Default: true})
	w.policy.FloodMax = 1000
	for i := range alert.MaxItems + 10 {
		w.raise(fire(fmt.Sprintf("k%d", i), fmt.Sprintf("1-%d", i)))
	}
	w.pass(0)
	if len(w.sent) != 2 || len(w.sent[0].Items) != alert.MaxItems || w.sent[0].More != 10 || len(w.sent[1].Items) != 10 || w.sent[0].ID == w.sent[1].ID {
		t.Errorf("%d messages", len(w.sent))
	}
	spans, err := w.store.ToldSpans(t.Context(), w.now.Add(-time.Hour))
	w.check(err)
	if l := alert.Measure(spans); len(l) != 1 || l[0].Told != alert.MaxItems+10 || l[0].Rule != "r" || l[0].Notifier != "n" {
		t.Errorf("%+v", l)
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var list []alert.Told
	for i := range 100 {
		list = append(list, alert.Told{Rule: "r", Notifier: "n", Span: alert.Span{
			EventTime: at, Received: at.Add(time.Second), Matched: at.Add(2 * time.Second), Delivered: at.Add(time.Duration(3+i) * time.Second),
		}})
	}
	list = append(list, alert.Told{Rule: "r", Notifier: "n", Span: alert.Span{EventTime: at.Add(time.Hour), Received: at, Matched: at, Delivered: at.Add(time.Second)}})
	l := alert.Measure(list)[0]
	if l.Told != 101 || l.Total.P50 != 52*time.Second || l.Total.P99 != 101*time.Second || l.Total.Worst != 102*time.Second || l.Received.P50 != time.Second || l.Delivered.Worst != 100*time.Second {
		t.Errorf("%+v", l)
	}
}
