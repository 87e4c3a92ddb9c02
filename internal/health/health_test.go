package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// world is a monitor on a real store, registry and catalog, with a clock that the
// test turns.
type world struct {
	*testing.T
	path     string
	now      time.Time
	store    *store.Store
	registry *node.Registry
	enroller *node.Enroller
	catalog  *resource.Catalog
	evidence *rollout.Monitor
	monitor  *health.Monitor
	told     []string
	broken   error // that telling fails with
}

const secret = "sesame"

func (w *world) keyer() node.Keyer { return node.NewKeyer([]byte(strings.Repeat("k", 32))) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, path: filepath.Join(t.TempDir(), "state.db"), now: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)}
	objects, err := resource.Defaults()
	w.check(err)
	set, err := resource.NewSet(objects)
	w.check(err)
	snapshot, err := resource.Compile(1, set)
	w.check(err)
	w.catalog = resource.NewCatalog(&resource.Plan{Base: snapshot}, slog.New(slog.DiscardHandler))
	w.start()
	w.check(w.store.CreateSecret(t.Context(), node.Secret{Name: "s", CreatedAt: w.now}, w.keyer().Hash(node.PurposeEnrollSecret, secret)))
	return w
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// start is what a server does; called again it is one after kill -9.
func (w *world) start() {
	w.Helper()
	log, now := slog.New(slog.DiscardHandler), func() time.Time { return w.now }
	w.store = storetest.Open(w, w.path)
	w.registry = node.NewRegistry(w.store, w.keyer(), log, now)
	w.check(w.registry.Sync(w.Context()))
	w.enroller = node.NewEnroller(node.EnrollerOptions{Store: w.store, Registry: w.registry, Keyer: w.keyer(), Now: now})
	w.evidence = rollout.NewMonitor(nil, log, now)
	w.monitor = health.NewMonitor(health.Options{
		Store: w.store, Teller: w, Fleet: w.registry, Configs: w.catalog, Evidence: w.evidence,
		OfflineAfter: time.Hour, SilentAfter: time.Hour, Log: log, Now: now,
	})
	w.check(w.monitor.Load(w.Context()))
}

// TellFindings keeps what it is told as lines.
func (w *world) TellFindings(_ context.Context, findings []health.Finding) error {
	if w.broken != nil {
		return w.broken
	}
	for _, f := range findings {
		line := "open"
		switch {
		case f.Closed.Equal(f.Opened):
			line = "moment"
		case !f.Closed.IsZero():
			line = "closed"
		}
		w.told = append(w.told, strings.TrimSpace(fmt.Sprintf("%s %s %s", line, f.Kind, f.Subject)))
	}
	return nil
}

func (w *world) want(lines ...string) {
	w.Helper()
	if got, want := strings.Join(w.told, "\n"), strings.Join(lines, "\n"); got != want {
		w.Errorf("told:\n%s\nwant:\n%s", got, want)
	}
	w.told = nil
}

func (w *world) enrol(identifier string) *node.Identity {
	w.Helper()
	w.now = w.now.Add(time.Second)
	_, n, err := w.enroller.Enrol(w.Context(), osquery.EnrollRequest{
		EnrollSecret: secret, HostIdentifier: identifier, HostDetails: map[string]map[string]string{
			"system_info": {"hostname": identifier, "cpu_logical_cores": "16"}, "osquery_info": {"version": "5.23.1"},
			"os_version": {"platform": "linux"},
		},
	}, netip.MustParseAddr("192.0.2.1"), node.Certificate{})
	w.check(err)
	return w.registry.Lookup(n.ID)
}

// wait lets time pass, in which the node polls, and everybody is looked at.
func (w *world) wait(d time.Duration, polling ...*node.Identity) {
	w.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Minute)
		for _, n := range polling {
			n.Touch(w.now, netip.MustParseAddr("192.0.2.1"), node.EndpointRead)
		}
		w.judge()
	}
}

func (w *world) judge() {
	w.Helper()
	w.check(w.monitor.Judge(w.Context()))
}

func batch(n *node.Identity, at time.Time, events ...event.Event) []event.Batch {
	return []event.Batch{{NodeID: n.ID, HostIdentifier: n.HostIdentifier, Received: at, LogType: osquery.LogTypeResult, Events: events}}
}

func row(query, action string, columns map[string]string) event.Event {
	b, _ := json.Marshal(columns)
	return event.Event{Query: query, Action: action, Columns: b}
}

func (w *world) says(n *node.Identity, messages ...string) {
	w.Helper()
	var events []event.Event
	for _, m := range messages {
		events = append(events, row(event.StatusQuery, event.Status, map[string]string{"severity": "1", "message": m}))
	}
	w.now = w.now.Add(time.Second)
	w.check(w.monitor.Handle(w.Context(), batch(n, w.now, events...)))
}

// results logs a snapshot of each query that the node is to run.
func (w *world) results(n *node.Identity, leave string) {
	w.Helper()
	var events []event.Event
	for _, q := range w.catalog.Snapshot(n).Schedule(n) {
		if q.Snapshot && q.Name != leave {
			events = append(events, row(q.Name, event.Snapshot, map[string]string{"x": "1"}))
		}
	}
	w.check(w.monitor.Handle(w.Context(), batch(n, w.now, events...)))
}

// TestOffline: what is offline for long is a finding, once, and what an outage of
// the server hides is not.
func TestOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.judge()
	n := w.enrol("web-1")
	w.judge()
	w.want("moment enrolled")
	w.wait(59 * time.Minute)
	w.want()
	w.wait(3 * time.Minute)
	w.want("open offline")
	w.wait(2 * time.Hour)
	w.start() // kill -9
	w.judge()
	w.want()
	n = w.registry.Lookup(n.ID)
	w.wait(time.Minute, n)
	w.want("closed offline")

	w.check(w.registry.Flush(w.Context()))
	w.now = w.now.Add(12 * time.Hour)
	w.start() // nobody could reach it for half a day
	w.wait(30 * time.Minute)
	w.want()
	w.wait(31 * time.Minute)
	w.want("open offline")
}

// TestMoments: an enrolment is told once, also if the server dies before it is.
func TestMoments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol("web-1")
	w.judge()
	w.want("moment enrolled")
	w.enrol("web-1")
	w.enrol("web-2")
	w.check(w.registry.Flush(w.Context()))
	w.start()
	w.judge()
	w.judge()
	if len(w.told) != 2 || !strings.Contains(strings.Join(w.told, " "), "reenrolled") {
		t.Errorf("told %q", w.told)
	}
	w.told = nil
	w.start()
	w.judge()
	w.want()
	list, _, err := w.store.Findings(t.Context(), health.Filter{Kind: health.Enrolled})
	w.check(err)
	if len(list) != 2 || !list[0].Closed.Equal(list[0].Opened) || list[0].Text != "it enrolled with the secret s" {
		t.Errorf("%+v", list)
	}
}

// TestSays: what the agent's log says, and how long that holds.
func TestSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.enrol("web-1")
	w.judge()
	w.told = nil
	w.says(n, "Scheduled query may have failed: pack_base_users",
		"The caller does not want denied queries, skipping denied scheduled query: pack_base_users",
		"Purging buffered logs limit (1000) exceeded: 7", "The CLI only flag --disable_watchdog set via config file will be ignored",
		"Cannot set unknown or invalid flag: nonsense", "updateSource failed to parse config, of source: tls and content: {", "Authorizer denied action 24",
		"Registering extension (evil, 4711, version=1)", "something else")
	w.want("open query_failed pack_base_users", "open query_denylisted pack_base_users", "open lines_lost", "open unknown_option disable_watchdog",
		"open unknown_option nonsense", "open config_refused", "moment statement_denied", "moment extension evil")
	w.says(n, "Purging buffered logs limit (1000) exceeded: 7")
	w.want()
	w.results(n, "")
	w.wait(61*time.Minute, n)
	w.results(n, "")
	if got := strings.Join(w.told, " "); !strings.Contains(got, "closed lines_lost") || !strings.Contains(got, "closed config_refused") {
		t.Errorf("told %q", w.told)
	}
	w.told = nil
	w.says(n, "Scheduled denylisted query has expired: pack_base_users")
	w.want("closed query_denylisted pack_base_users")
	for _, f := range w.monitor.Open(n.ID) {
		if f.Kind == health.LinesLost || f.Kind == health.Denylisted {
			t.Errorf("still open: %+v", f)
		}
	}
}

// TestSilent: a node that polls and logs nothing, and one that leaves one query
// out.
func TestSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.enrol("web-1")
	const query = "pack_base_uptime" // every 10 minutes
	w.judge()
	w.told = nil
	w.wait(56*time.Minute, n)
	w.told = nil // snapshots that never came
	w.wait(20*time.Minute, n)
	if got := strings.Join(w.told, "\n"); !strings.HasPrefix(got, "open silent") || !strings.Contains(got, "closed missing_results") {
		t.Errorf("told %q", got)
	}
	w.told = nil
	w.results(n, query)
	w.wait(6*time.Minute, n)
	w.want("closed silent", "open missing_results "+query)
	w.results(n, "")
	w.wait(6*time.Minute, n)
	w.want("closed missing_results " + query)
}

// TestWorker: workers that come and go, and a watchdog that cannot bite.
func TestWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.enrol("web-1")
	w.judge()
	w.told = nil
	worker := resource.AgentName(resource.HealthPack, "worker")
	start := func(pid, at, watcher string) {
		t.Helper()
		w.now = w.now.Add(time.Minute)
		w.check(w.monitor.Handle(t.Context(), batch(n, w.now, row(worker, event.Added, map[string]string{"pid": pid, "start_time": at, "watcher": watcher}))))
	}
	start("10", "1000", "7")
	start("10", "1000", "7")
	w.want()
	start("11", "1100", "7")
	start("10", "1000", "7") // buffered from before
	start("20", "1200", "8")
	w.want("moment watchdog_suspected")
	start("21", "1300", "8")
	w.want("moment watchdog_suspected", "open crash_loop")
	w.wait(16*time.Minute, n)
	w.want("closed crash_loop")

	flags := resource.AgentName(resource.HealthPack, "flags")
	w.check(w.monitor.Handle(t.Context(), batch(n, w.now,
		row(flags, event.Snapshot, map[string]string{"name": "watchdog_level", "value": "0"}),
		row(flags, event.Snapshot, map[string]string{"name": "watchdog_utilization_limit", "value": "0"}))))
	w.wait(time.Minute, n)
	w.want("open watchdog_weak")
	l, known := w.monitor.Watchdog(n)
	if !known || l.Bites || l.Threshold != 1.6 || !strings.Contains(l.Why, "--watchdog_utilization_limit=3") {
		t.Errorf("%+v", l)
	}
	w.check(w.monitor.Handle(t.Context(), batch(n, w.now, row(flags, event.Snapshot, map[string]string{"name": "watchdog_utilization_limit", "value": "3"}))))
	w.wait(time.Minute, n)
	w.want("closed watchdog_weak")
}

// TestOutdated: what most nodes of a platform run is usual.
func TestOutdated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.enrol(fmt.Sprintf("web-%d", i))
	}
	_, _, err := w.enroller.Enrol(t.Context(), osquery.EnrollRequest{EnrollSecret: secret, HostIdentifier: "old", HostDetails: map[string]map[string]string{
		"osquery_info": {"version": "5.9.1"}, "os_version": {"platform": "linux"},
	}}, netip.MustParseAddr("192.0.2.2"), node.Certificate{})
	w.check(err)
	w.judge()
	if got := w.monitor.Counts()[health.Outdated]; got != 1 || !strings.Contains(strings.Join(w.told, " "), "open osquery_outdated") {
		t.Errorf("%d outdated, told %q", got, w.told)
	}
}

// TestNotApplied: a node that goes on telling of another config.
func TestNotApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.enrol("web-1")
	w.judge()
	w.told = nil
	agent := resource.AgentName(resource.HealthPack, "agent")
	tell := func(hash string) {
		t.Helper()
		b := batch(n, w.now, row(agent, event.Snapshot, map[string]string{"pid": "1", "start_time": "5", "watcher": "2", "config_hash": hash}))
		b[0].Events[0].Time = w.now
		w.evidence.Note(&b[0])
		w.results(n, "")
	}
	tell("other")
	w.wait(10*time.Minute, n)
	w.want()
	tell("other")
	w.wait(10*time.Minute, n)
	w.want()
	tell("other")
	w.wait(time.Minute, n)
	w.want("open config_not_applied")
	tell(w.catalog.Expected(n).Hash)
	w.wait(time.Minute, n)
	w.want("closed config_not_applied")
}

// TestTold: what could not be told is told later, also after a crash; what is gone
// is closed.
func TestTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.enrol("web-1")
	w.broken = errors.New("the disk is gone")
	if err := w.monitor.Judge(t.Context()); !errors.Is(err, w.broken) {
		t.Error(err)
	}
	w.start()
	w.broken = nil
	w.judge()
	w.want("moment enrolled")
	w.says(n, "Purging buffered logs limit (1000) exceeded: 7")
	w.registry.Forget(n.ID)
	w.told = nil
	w.judge()
	w.want("closed lines_lost")
	list, next, err := w.store.Findings(t.Context(), health.Filter{NodeID: n.ID, Limit: 1})
	w.check(err)
	if len(list) != 1 || list[0].Kind != health.LinesLost || list[0].Closed.IsZero() || next == "" {
		t.Errorf("%+v %q", list, next)
	}
	more, err := w.store.PruneFindings(t.Context(), w.now.Add(time.Minute))
	w.check(err)
	if list, _, _ = w.store.Findings(t.Context(), health.Filter{}); more || len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}
