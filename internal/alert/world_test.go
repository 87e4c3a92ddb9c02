package alert_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// world is alerts on a real store, with a clock that stands, and a Sender that
// notes what it is told.
type world struct {
	t       *testing.T
	now     time.Time
	path    string
	store   *store.Store
	service *alert.Service
	courier *alert.Courier
	routes  []*alert.Route
	policy  alert.Policy
	fail    map[string]error // by notifier
	told    []string         // "notifier: action title(count), …"
	sent    []alert.Message
}

func newWorld(t *testing.T, routes ...*alert.Route) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC), path: filepath.Join(t.TempDir(), "state.db"), routes: routes, fail: map[string]error{},
	}
	for _, r := range routes {
		if r.MinSeverity == "" {
			r.MinSeverity = alert.Info
		}
		if r.GroupBy == nil {
			r.GroupBy = []string{"rule"}
		}
		if r.GiveUp == 0 {
			r.GiveUp = alert.DefaultGiveUp
		}
	}
	if err := os.WriteFile(w.path, empty(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	return w
}

// empty returns a store without anything in it, as a file: making the tables is
// most of what these tests would cost.
var empty = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "muster-alert-")
	if err == nil {
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "state.db")
		var s *store.Store
		if s, err = store.Open(context.Background(), store.Options{URL: path, Log: slog.New(slog.DiscardHandler), Now: time.Now}); err == nil {
			err = s.Close() // nothing is left in its log then
		}
		if err == nil {
			var b []byte
			if b, err = os.ReadFile(path); err == nil {
				return b
			}
		}
	}
	panic(err) //nolint:forbidigo // there is no test to fail
})

// open makes what a server has after a start.
func (w *world) open() {
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	now := func() time.Time { return w.now }
	w.store = storetest.Open(w.t, w.path)
	w.service = alert.NewService(alert.Options{
		Store: w.store, Silences: w.store, Routes: w, Nodes: w, Policy: func(string) alert.Policy { return w.policy }, Retention: time.Hour, Log: log, Now: now,
	})
	w.courier = alert.NewCourier(alert.CourierOptions{
		Outbox: w.store, Silences: w.store, Routes: w, Sender: w, Raise: w.service.Raise, Log: log, Now: now,
	})
}

func (w *world) Routes() []*alert.Route { return w.routes }

func (w *world) Lookup(id string) *node.Identity {
	if id == "gone" || id == "" {
		return nil
	}
	return node.IdentityOf(node.Node{ID: id, Tags: []string{"on-" + id}})
}

// Send implements [alert.Sender].
func (w *world) Send(_ context.Context, notifier string, m alert.Message) (string, error) {
	if err := w.fail[notifier]; err != nil {
		return "", err
	}
	var items []string
	for _, i := range m.Items {
		items = append(items, fmt.Sprintf("%s %s(%d)", i.Action, i.Alert.Title, i.Alert.Count))
	}
	w.told = append(w.told, notifier+": "+strings.Join(items, ", "))
	w.sent = append(w.sent, m)
	return "fine", nil
}

func (w *world) raise(firings ...alert.Firing) {
	w.t.Helper()
	w.check(w.service.Raise(w.t.Context(), firings))
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass lets time go by and notifiers be told; it returns what was told.
func (w *world) pass(d time.Duration) []string {
	w.t.Helper()
	w.now = w.now.Add(d)
	w.told = nil
	for _, r := range w.routes {
		for range 20 {
			next, err := w.courier.Step(w.t.Context(), r.Name)
			w.check(err)
			if next.IsZero() || next.After(w.now) {
				break
			}
		}
	}
	return w.told
}

func (w *world) tells(d time.Duration, want ...string) {
	w.t.Helper()
	if got := w.pass(d); !slices.Equal(got, want) {
		w.t.Errorf("after %s:\n got %q\nwant %q", d, got, want)
	}
}

// list returns all alerts as "key state count×episodes", sorted.
func (w *world) list() string {
	w.t.Helper()
	list, _, err := w.store.Alerts(w.t.Context(), alert.Filter{Limit: 1000})
	w.check(err)
	var words []string
	for _, a := range list {
		words = append(words, fmt.Sprintf("%s %s %d×%d", a.Key, a.State, a.Count, a.Episodes))
	}
	slices.Sort(words)
	return strings.Join(words, "; ")
}

func (w *world) lists(want string) {
	w.t.Helper()
	sorted := strings.Split(want, "; ")
	slices.Sort(sorted)
	want = strings.Join(sorted, "; ")
	if got := w.list(); got != want {
		w.t.Errorf("alerts:\n got %s\nwant %s", got, want)
	}
}

// find returns the newest alert of a key.
func (w *world) find(key string) alert.Alert {
	w.t.Helper()
	list, _, err := w.store.Alerts(w.t.Context(), alert.Filter{Text: key, Limit: 1})
	w.check(err)
	if len(list) == 0 {
		w.t.Fatalf("no alert %s", key)
	}
	return list[0]
}

func (w *world) act(key string, act alert.Act) error {
	w.t.Helper()
	act.Actor = "ann"
	_, err := w.service.Act(w.t.Context(), w.find(key).ID, act)
	return err
}

// history returns what happened to an alert.
func (w *world) history(key string) string {
	w.t.Helper()
	entries, err := w.store.AlertHistory(w.t.Context(), w.find(key).ID)
	w.check(err)
	var words []string
	for _, e := range entries {
		words = append(words, strings.TrimSuffix(fmt.Sprintf("%s by %s: %s", e.Action, e.Actor, e.Detail), ": "))
	}
	return strings.Join(words, "; ")
}

// fire is a firing of the rule r at an event.
func fire(key, event string) alert.Firing {
	return alert.Firing{Rule: "r", Key: key, Severity: "medium", Title: key, Event: event}
}

func over(f alert.Firing) alert.Firing {
	f.Resolved = true
	return f
}

var errDown = errors.New("connection refused")

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}
