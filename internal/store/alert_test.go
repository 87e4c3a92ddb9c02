//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

// oneRoute is a notifier that is told of everything.
type oneRoute struct{}

func (oneRoute) Routes() []*alert.Route {
	return []*alert.Route{{Name: "n", Default: true, MinSeverity: alert.Info, GroupBy: []string{"rule"}, GroupWait: time.Minute, Resolved: true}}
}
func (oneRoute) Lookup(string) *node.Identity { return nil }

func alerts(s *store.Store, now *time.Time) *alert.Service {
	return alert.NewService(alert.Options{
		Store: s, Silences: s, Routes: oneRoute{}, Nodes: oneRoute{}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return *now },
		Policy: func(string) alert.Policy { return alert.Policy{FloodMax: 100} },
	})
}

func firing(key, event string) alert.Firing {
	return alert.Firing{
		Rule: "r", Key: key, Severity: "high", Title: "title of " + key, Text: "a\nb", Labels: map[string]string{"team": "web"}, NodeID: "n1", HostIdentifier: "Host-1",
		Query: "q", Columns: []byte(`{"a":"\u0000"}`), Notifiers: []string{"n"}, Event: event, EventTime: start.Add(-time.Minute), Received: start,
	}
}

func testAlert(t *testing.T, s *store.Store) {
	ctx := t.Context()
	now := start
	service := alerts(s, &now)
	ok(t, service.Raise(ctx, []alert.Firing{firing("a", "1-0"), firing("b\x00", "1-1"), firing("a", "1-2")}))
	list, next, err := s.Alerts(ctx, alert.Filter{Text: "TITLE of a"})
	ok(t, err)
	if len(list) != 1 || next != "" {
		t.Fatalf("%+v", list)
	}
	a := list[0]
	want := alert.Alert{
		ID: a.ID, Rule: "r", Key: "a", State: alert.Open, Severity: alert.High, Title: "title of a", Text: "a\nb", Labels: map[string]string{"team": "web"},
		NodeID: "n1", HostIdentifier: "Host-1", Query: "q", Notifiers: []string{"n"}, Count: 2, Episodes: 1, Entries: 1, Current: true,
		FirstAt: start, OpenedAt: start, LastAt: start, Event: "1-2", EventAt: start,
	}
	if d := cmp.Diff(want, a); d != "" {
		t.Error(d)
	}
	samples := must(s.AlertSamples(ctx, a.ID))(t)
	if len(samples) != 2 || samples[0].Number != 2 || string(samples[0].Columns) != `{"a":"\u0000"}` || !samples[0].EventTime.Equal(start.Add(-time.Minute)) {
		t.Errorf("%+v", samples)
	}

	now = now.Add(time.Minute)
	a, err = service.Act(ctx, a.ID, alert.Act{Actor: "ann", Action: alert.Acked, Comment: "mine"})
	ok(t, err)
	if d := cmp.Diff(a, must(s.Alert(ctx, a.ID))(t)); d != "" || a.AcknowledgedBy != "ann" {
		t.Error(d)
	}
	_, err = service.Act(ctx, a.ID, alert.Act{Actor: "ann", Action: alert.Ended})
	ok(t, err)
	history := must(s.AlertHistory(ctx, a.ID))(t)
	if len(history) != 3 || history[1].Detail != "mine" || history[2].Action != alert.Ended || history[1].Seq >= history[2].Seq {
		t.Errorf("%+v", history)
	}
	after := must(s.AlertEntries(ctx, history[0].Seq, 10))(t)
	if len(after) != 3 || must(s.LastAlertEntry(ctx))(t) != after[2].Seq { // with the one of b
		t.Errorf("%+v", after)
	}
	counts := must(s.AlertCounts(ctx, nil))(t)
	if counts.States[alert.Open] != 1 || counts.Open[alert.High] != 1 || counts.States[alert.Acknowledged] != 0 {
		t.Errorf("%+v", counts)
	}
	_, err = s.Alert(ctx, "none")
	wantKind(t, err, errs.NotFound)

	if more := must(s.PruneAlerts(ctx, now.Add(time.Second)))(t); more {
		t.Error("there is more to prune")
	}
	list, _, err = s.Alerts(ctx, alert.Filter{})
	ok(t, err)
	if len(list) != 1 || len(must(s.AlertHistory(ctx, a.ID))(t)) != 0 || len(must(s.Notifications(ctx, alert.NotificationFilter{}))(t)) != 1 {
		t.Errorf("after pruning: %+v", list)
	}

	// A change that fails keeps nothing.
	wrong := errors.New("wrong")
	err = s.ChangeAlerts(ctx, alert.Wanted{IDs: []string{list[0].ID}}, func(c *alert.Current) (*alert.Change, error) {
		c.ByID[list[0].ID].Title = "changed"
		return nil, wrong
	})
	if !errors.Is(err, wrong) || must(s.Alert(ctx, list[0].ID))(t).Title == "changed" {
		t.Errorf("got %v", err)
	}
}

func testAlertList(t *testing.T, s *store.Store) {
	ctx := t.Context()
	now := start
	service := alerts(s, &now)
	for i := range 25 {
		if i%5 == 0 {
			now = now.Add(time.Second)
		}
		f := firing(fmt.Sprintf("k%02d", i), fmt.Sprintf("1-%d", i))
		if i%2 == 0 {
			f.NodeID, f.Severity, f.Rule = "n2", "low", "other"
		}
		ok(t, service.Raise(ctx, []alert.Firing{f}))
	}
	seen := map[string]bool{}
	var last time.Time
	f := alert.Filter{Limit: 7}
	for {
		list, next, err := s.Alerts(ctx, f)
		ok(t, err)
		for _, a := range list {
			if seen[a.ID] || !last.IsZero() && a.OpenedAt.After(last) {
				t.Errorf("%s comes again, or too late", a.Key)
			}
			seen[a.ID], last = true, a.OpenedAt
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d alerts", len(seen))
	}
	for _, c := range []struct {
		f    alert.Filter
		want int
	}{
		{alert.Filter{NodeID: "n2"}, 13},
		{alert.Filter{Rule: "r"}, 12},
		{alert.Filter{MinSeverity: alert.Medium}, 12},
		{alert.Filter{State: alert.Resolved}, 0},
		{alert.Filter{Unresolved: true, Text: "K0"}, 10},
		{alert.Filter{Text: "host-1"}, 25},
		{alert.Filter{Text: "%"}, 0},
		{alert.Filter{Assignee: "ann"}, 0},
	} {
		list, _, err := s.Alerts(ctx, c.f)
		ok(t, err)
		if len(list) != c.want {
			t.Errorf("%+v: %d, want %d", c.f, len(list), c.want)
		}
	}
	_, _, err := s.Alerts(ctx, alert.Filter{Cursor: "?"})
	wantKind(t, err, errs.Invalid)
}

// testAlertRace: what is raised at once opens one alert, and counts all.
func testAlertRace(t *testing.T, s *store.Store) {
	now := start
	service := alerts(s, &now)
	for _, err := range together(8, func(i int) error {
		return service.Raise(context.Background(), []alert.Firing{{Rule: "r", Key: "k"}, {Rule: "r", Key: fmt.Sprint(i)}})
	}) {
		ok(t, err)
	}
	list, _, err := s.Alerts(t.Context(), alert.Filter{})
	ok(t, err)
	var total int64
	for _, a := range list {
		total += a.Count
	}
	if len(list) != 9 || total != 16 {
		t.Errorf("%d alerts, %d firings", len(list), total)
	}
}

func testSilence(t *testing.T, s *store.Store) {
	ctx := t.Context()
	now := start
	service := alerts(s, &now)
	made, err := service.Silence(ctx, alert.Silence{Match: []string{"rule=R*", "label.team != x"}, Comment: "c\x00", CreatedBy: "ann", ExpiresAt: now.Add(time.Hour)})
	ok(t, err)
	if d := cmp.Diff([]alert.Silence{made}, must(s.Silences(ctx, now))(t)); d != "" {
		t.Error(d)
	}
	ok(t, service.Raise(ctx, []alert.Firing{firing("a", "1-0")}))
	n := must(s.Notifications(ctx, alert.NotificationFilter{State: alert.Waiting, Notifier: "n"}))(t)[0]
	ok(t, s.SettleNotifications(ctx, []alert.Outcome{{Seq: n.Seq, State: alert.Waiting, Due: made.ExpiresAt, Silence: made.ID}}))
	if _, next, err := s.DueNotifications(ctx, "n", now, 10); err != nil || !next.Equal(made.ExpiresAt) {
		t.Errorf("held until %v, %v", next, err)
	}
	now = now.Add(time.Minute)
	ended, err := service.EndSilence(ctx, made.ID, "bob")
	ok(t, err)
	if ended.EndedBy != "bob" || !ended.ExpiresAt.Equal(now) || len(must(s.Silences(ctx, now))(t)) != 0 {
		t.Errorf("%+v", ended)
	}
	_, err = service.EndSilence(ctx, made.ID, "bob")
	wantKind(t, err, errs.NotFound)
	due, _, err := s.DueNotifications(ctx, "n", now, 10)
	ok(t, err)
	if len(due) != 1 || due[0].Silence != made.ID {
		t.Errorf("%+v", due)
	}
}

func testNotification(t *testing.T, s *store.Store) {
	ctx := t.Context()
	now := start
	service := alerts(s, &now)
	ok(t, service.Raise(ctx, []alert.Firing{firing("a", "1-0")}))
	now = now.Add(30 * time.Second)
	ok(t, service.Raise(ctx, []alert.Firing{firing("b", "1-1")})) // joins the group
	if due, next, err := s.DueNotifications(ctx, "n", now, 10); err != nil || len(due) != 0 || !next.Equal(start.Add(time.Minute)) {
		t.Errorf("%v, next %v, %v", due, next, err)
	}
	now = start.Add(time.Minute)
	due, _, err := s.DueNotifications(ctx, "n", now, 10)
	ok(t, err)
	if len(due) != 2 || due[0].Alert.Key != "a" || due[0].Told || !due[1].EventTime.Equal(start.Add(-time.Minute)) || !due[1].DueAt.Equal(now) {
		t.Fatalf("%+v", due)
	}
	ok(t, s.SettleNotifications(ctx, []alert.Outcome{
		{Seq: due[0].Seq, State: alert.Delivered, At: now, Remind: now.Add(time.Hour)},
		{Seq: due[1].Seq, State: alert.Dead, At: now, Failed: true, Error: "no\x00"},
	}))
	spans := must(s.ToldSpans(ctx, start))(t)
	if len(spans) != 1 || !spans[0].Delivered.Equal(now) || !spans[0].Received.Equal(start) {
		t.Errorf("%+v", spans)
	}
	backlogs := must(s.Backlogs(ctx))(t)
	if len(backlogs) != 1 || backlogs[0].Waiting != 1 || backlogs[0].Dead != 1 || !backlogs[0].Oldest.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", backlogs)
	}
	dead := must(s.Notifications(ctx, alert.NotificationFilter{State: alert.Dead}))(t)
	if len(dead) != 1 || dead[0].Error != `no\x00` || dead[0].Attempts != 1 || !dead[0].TriedAt.Equal(now) {
		t.Errorf("%+v", dead)
	}
	if n := must(s.RetryNotifications(ctx, "", []int64{due[0].Seq, due[1].Seq}, now))(t); n != 1 {
		t.Errorf("%d are told again", n)
	}
	now = now.Add(2 * time.Hour)
	due, _, err = s.DueNotifications(ctx, "n", now, 10)
	ok(t, err)
	if len(due) != 2 || due[0].Attempts != 0 || due[1].Action != alert.Reminded || !due[1].Told {
		t.Errorf("%+v", due)
	}
	ok(t, s.SettleNotifications(ctx, []alert.Outcome{{Seq: due[1].Seq}}))
	if names := must(s.AbandonNotifications(ctx, []string{"n"}, now))(t); len(names) != 0 {
		t.Error(names)
	}
	if names := must(s.AbandonNotifications(ctx, nil, now))(t); strings.Join(names, "") != "n" {
		t.Error(names)
	}
	dead = must(s.Notifications(ctx, alert.NotificationFilter{State: alert.Dead, AlertID: due[0].AlertID}))(t)
	if len(dead) != 1 {
		t.Errorf("%+v", dead)
	}
}
