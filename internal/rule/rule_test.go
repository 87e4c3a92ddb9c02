package rule_test

import (
	"context"
	"encoding/json"
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
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
	"github.com/musterhq/muster/internal/trigger"
)

// shipped is made once: it takes some tens of milliseconds.
var shipped = sync.OnceValue(func() *policy.Engine {
	e, err := policy.New(policy.Rules{})
	if err != nil {
		panic(err) //nolint:forbidigo // there is no test to fail
	}
	return e
})

// migrated is a database with its tables, which take most of a test's time.
var migrated = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "rule")
	if err != nil {
		panic(err) //nolint:forbidigo // there is no test to fail
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "state.db")
	s, err := store.Open(context.Background(), store.Options{URL: path, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err == nil {
		err = s.Close()
	}
	b, errRead := os.ReadFile(path)
	if err := errors.Join(err, errRead); err != nil {
		panic(err) //nolint:forbidigo // there is no test to fail
	}
	return b
})

// raised stands for alerts: it keeps each rule, key and event once.
type raised struct {
	firings []alert.Firing
	calls   int
	fail    error
}

func (r *raised) Raise(_ context.Context, firings []alert.Firing) error {
	r.calls++
	if r.fail != nil {
		return r.fail
	}
	for _, f := range firings {
		if !slices.ContainsFunc(r.firings, func(g alert.Firing) bool {
			return f.Event != "" && g.Rule == f.Rule && g.Key == f.Key && g.Event == f.Event && g.Resolved == f.Resolved
		}) {
			r.firings = append(r.firings, f)
		}
	}
	return nil
}

// world is rules on a real store, registry, triggers and live queries, with a
// clock that the test turns.
type world struct {
	testing.TB
	path     string
	now      time.Time
	tick     time.Duration // by which the clock goes on whenever it is read
	seq      uint64
	store    *store.Store
	registry *node.Registry
	catalog  *resource.Catalog
	live     *live.Coordinator
	engine   *rule.Engine
	alerts   raised
}

func newWorld(tb testing.TB, resources string) *world {
	tb.Helper()
	w := &world{TB: tb, path: filepath.Join(tb.TempDir(), "state.db"), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if err := os.WriteFile(w.path, migrated(), 0o600); err != nil {
		tb.Fatal(err)
	}
	w.catalog = resource.NewCatalog(&resource.Plan{Base: w.compile(resources)}, slog.New(slog.DiscardHandler))
	w.start()
	return w
}

// start is what a server does; called again it is one after kill -9.
func (w *world) start() {
	w.Helper()
	log := slog.New(slog.DiscardHandler)
	now := func() time.Time {
		w.now = w.now.Add(w.tick)
		return w.now
	}
	w.store = storetest.Open(w, w.path)
	w.registry = node.NewRegistry(w.store, node.NewKeyer([]byte(strings.Repeat("k", 32))), log, now)
	w.live = live.NewCoordinator(w.store, log, now)
	if err := w.live.Load(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.sync()
	w.engine = rule.NewEngine(rule.Options{
		Catalog: w.catalog, Registry: w.registry, Alerts: &w.alerts, Tags: w.store, Store: w.store, Policy: shipped(), Log: log, Now: now,
		Asker: trigger.NewService(trigger.Options{
			Store: w.store, Finder: w.store, Registry: w.registry, Live: w.live, Catalog: w.catalog, Policy: shipped(),
			Audit: audit.NewLog(w.store, now), Log: log, Now: now,
		}),
	})
	if err := w.engine.Load(w.Context(), w.seq); err != nil {
		w.Fatal(err)
	}
}

func (w *world) sync() {
	w.Helper()
	if err := w.registry.Sync(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func (w *world) compile(text string) *resource.Snapshot {
	w.Helper()
	objects, err := resource.Parse("r.yaml", []byte(text))
	if err != nil {
		w.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		w.Fatal(err)
	}
	s, err := resource.Compile(1, set)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// enrol makes a node of that host identifier and returns its id.
func (w *world) enrol(identifier string) string {
	w.Helper()
	_, err := w.store.ImportNodes(w.Context(), []node.Import{{
		Node: node.Node{ID: "id-" + identifier, HostIdentifier: identifier, Hostname: identifier, Platform: "linux"}, Key: node.KeyHash{identifier[len(identifier)-1]},
	}})
	if err != nil {
		w.Fatal(err)
	}
	w.sync()
	n, err := w.store.FindNode(w.Context(), identifier)
	if err != nil {
		w.Fatal(err)
	}
	return n.ID
}

// batch returns rows of a query of a node.
func (w *world) batch(nodeID, query string, rows ...string) event.Batch {
	b := event.Batch{NodeID: nodeID, HostIdentifier: "host-" + nodeID, Received: w.now, LogType: osquery.LogTypeResult, Tags: []string{"prod"}}
	for _, r := range rows {
		b.Events = append(b.Events, event.Event{Time: w.now.Add(-time.Second), Query: query, Action: event.Added, Columns: json.RawMessage(r)})
	}
	return b
}

// handle gives the engine the next message.
func (w *world) handle(batches ...event.Batch) {
	w.Helper()
	w.seq++
	w.again(batches...)
}

// again gives it the message once more, as after a crash.
func (w *world) again(batches ...event.Batch) {
	w.Helper()
	if err := w.engine.Handle(w.Context(), w.seq, batches); err != nil {
		w.Fatal(err)
	}
}

func (w *world) counts(name string) rule.Counts {
	w.Helper()
	return w.status(name).Counts
}

func (w *world) status(name string) rule.Status {
	w.Helper()
	for _, s := range w.engine.Status(w.Context()) {
		if s.Plan.Name == name {
			return s
		}
	}
	w.Fatalf("no rule %s", name)
	return rule.Status{}
}

// keys returns rule and key of what was raised.
func (w *world) keys() string {
	list := make([]string, 0, len(w.alerts.firings))
	for _, f := range w.alerts.firings {
		s := f.Rule + "/" + f.Key
		if f.Resolved {
			s += "!"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func (w *world) raised(want string) {
	w.Helper()
	if got := w.keys(); got != want {
		w.Errorf("raised %q, want %q", got, want)
	}
}

// document returns a Rule.
func document(name, spec string) string {
	return "apiVersion: muster/v1\nkind: Rule\nname: " + name + "\nspec: {" + spec + "}\n---\n"
}

const pack = `apiVersion: muster/v1
kind: Pack
name: p
spec:
  queries:
    procs: {query: "SELECT name, path FROM processes", interval: 60}
    users: {query: "SELECT username FROM users", interval: 60}
---
`

// TestLooksAt is about which events a rule gets to see.
func TestLooksAt(t *testing.T) {
	w := newWorld(t, pack+
		document("exact", `events: {queries: [pack_p_procs]}`)+
		document("some", `events: {queries: ["pack_*_users", live]}`)+
		document("all", `events: {queries: ["*"]}`)+
		document("removed", `events: {queries: ["*"], actions: [removed]}`)+
		document("table", `events: {tables: [processes]}`)+
		document("errors", `events: {severities: [error]}`)+
		document("answers", `events: {queries: ["trigger/*"]}`)+
		document("ours", `events: {queries: ["muster:health"]}`)+
		document("windows", `events: {queries: ["*"], selector: platform = windows}`)+
		document("off", `events: {queries: ["*"]}, enabled: false`))
	id := w.enrol("a")
	names := []string{"exact", "some", "all", "removed", "table", "errors", "answers", "ours", "windows", "off"}
	for _, c := range []struct {
		logType, query, action, columns, want string
	}{
		{"result", "pack_p_procs", "added", `{}`, "exact all table"},
		{"result", "pack_p_users", "snapshot", `{}`, "some all"},
		{"result", "pack_p_users", "removed", `{}`, "removed"},
		{"result", "other", "added", `{}`, "all"},
		{"status", event.StatusQuery, "status", `{"severity":"2"}`, "errors"},
		{"status", event.StatusQuery, "status", `{"severity":"1"}`, ""},
		{event.LiveLog, "live", "snapshot", `{}`, "some"},
		{event.LiveLog, "trigger/x", "snapshot", `{}`, "answers"},
		{event.ServerLog, "muster:health", "added", `{}`, "ours"},
		// What an agent only calls so.
		{"result", "trigger/x", "added", `{}`, ""},
		{"result", "live", "added", `{}`, ""},
		{"result", "muster:health", "added", `{}`, ""},
		{"result", event.StatusQuery, "added", `{"severity":"2"}`, ""},
	} {
		before := map[string]int64{}
		for _, n := range names {
			before[n] = w.counts(n).Fired
		}
		b := w.batch(id, c.query, c.columns)
		b.LogType, b.Events[0].Action = c.logType, c.action
		w.handle(b)
		var got []string
		for _, n := range names {
			if w.counts(n).Fired > before[n] {
				got = append(got, n)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s %s: %v, want %q", c.logType, c.query, c.action, got, c.want)
		}
	}
}

func TestFiring(t *testing.T) {
	w := newWorld(t, document("tmp", `
  events: {queries: [q]}, severity: high, condition: 'columns.path startsWith "/tmp/"',
  title: "{{columns.name}} on {{node.hostname}}", text: "{{columns.path}} {{columns.none}}", key: "{{node.id}} {{columns.path}}",
  labels: {team: "t-{{columns.name}}"}, actions: {alert: {notifiers: [pager]}}`))
	id := w.enrol("web-1")
	w.handle(w.batch(id, "other", `{"path":"/tmp/x"}`), w.batch(id, "q", `{"path":"/usr/x"}`, `{"name":"a\u202eb","path":"/tmp/x"}`, `{"name":"no path"}`, `"odd"`))
	want := []alert.Firing{{
		Rule: "tmp", Key: id + " /tmp/x", Event: "1-2", Severity: "high", Title: "a�b on web-1", Text: "/tmp/x -",
		Labels: map[string]string{"team": "t-a�b"}, NodeID: id, HostIdentifier: "host-" + id, Query: "q",
		Columns: json.RawMessage(`{"name":"a\u202eb","path":"/tmp/x"}`), Notifiers: []string{"pager"},
		EventTime: w.now.Add(-time.Second), Received: w.now, Matched: w.now,
	}}
	if got, _ := json.Marshal(w.alerts.firings); string(got) != string(must(json.Marshal(want))) {
		t.Errorf("got %s", got)
	}
	c := w.counts("tmp")
	if c.Evaluated != 4 || c.Matched != 1 || c.Unknown != 2 || c.Alerted != 1 {
		t.Errorf("%+v", c)
	}
	if s := w.status("tmp"); s.ToMatch.P50 != time.Second || s.ToMatch.Samples != 1 || s.Queued.Worst != 0 {
		t.Errorf("%+v", s)
	}
	// A key that is too long is no other's that begins as it does.
	long := strings.Repeat("x", 500)
	w.alerts.firings = nil
	w.handle(w.batch(id, "q", `{"path":"/tmp/`+long+`1"}`, `{"path":"/tmp/`+long+`2"}`))
	if f := w.alerts.firings; len(f) != 2 || f[0].Key == f[1].Key || len(f[0].Key) > 250 {
		t.Errorf("%q", w.keys())
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // a test's constant
	}
	return v
}

func TestThreshold(t *testing.T) {
	w := newWorld(t, document("three", `events: {queries: [q]}, condition: 'columns.bad == "1"', threshold: {count: 3, window: 10m}`)+
		document("users", `events: {queries: [q]}, key: all, threshold: {count: 2, distinct: columns.user, window: 10m}`))
	a, b := w.enrol("a"), w.enrol("b")
	bad := func(id, user string) event.Batch { return w.batch(id, "q", `{"bad":"1","user":"`+user+`"}`) }
	w.handle(bad(a, "u"), bad(b, "u"))
	w.handle(bad(a, "u"))
	w.raised("")
	w.now = w.now.Add(9 * time.Minute)
	w.handle(bad(a, "u"))
	w.raised("three/" + a)
	w.handle(bad(a, "u"), bad(a, "u")) // it began anew
	w.raised("three/" + a)
	w.now = w.now.Add(10 * time.Minute) // those are too old
	w.handle(bad(a, "u"))
	w.raised("three/" + a)
	w.handle(bad(a, "v"))
	w.raised("three/" + a + " users/all")
	w.handle(bad(a, "v"))
	w.raised("three/" + a + " users/all three/" + a)
}

func TestPercent(t *testing.T) {
	w := newWorld(t, document("many", `events: {queries: [q], selector: platform = linux}, threshold: {percent: 50, window: 15m}`))
	ids := []string{w.enrol("a"), w.enrol("b"), w.enrol("c"), w.enrol("d")}
	w.handle(w.batch(ids[0], "q", `{}`, `{}`, `{}`), w.batch(ids[1], "q", `{}`))
	w.raised("") // half of them is not more than half
	w.handle(w.batch(ids[2], "q", `{}`))
	w.raised("many/fleet")
}

func TestSuppressAndResolve(t *testing.T) {
	w := newWorld(t, document("fw", `events: {queries: [q]}, condition: 'columns.on == "0"', resolve: 'columns.on == "1"', suppress: 1h, actions: {alert: {}, tag: [no-firewall]}`))
	id := w.enrol("a")
	off, on := `{"on":"0"}`, `{"on":"1"}`
	tags := func() string {
		w.sync()
		return strings.Join(w.registry.Lookup(id).Tags, " ")
	}
	w.handle(w.batch(id, "q", on))
	w.raised("") // what is not open is not resolved
	w.handle(w.batch(id, "q", off, off))
	w.now = w.now.Add(59 * time.Minute)
	w.handle(w.batch(id, "q", off))
	w.raised("fw/" + id)
	if tags() != "no-firewall" {
		t.Error(tags())
	}
	w.now = w.now.Add(time.Minute)
	w.handle(w.batch(id, "q", off))
	w.raised("fw/" + id + " fw/" + id)
	w.handle(w.batch(id, "q", on, on))
	w.raised("fw/" + id + " fw/" + id + " fw/" + id + "!")
	if tags() != "" {
		t.Error(tags())
	}
	w.handle(w.batch(id, "q", off))
	w.raised("fw/" + id + " fw/" + id + " fw/" + id + "! fw/" + id)
	if c := w.counts("fw"); c.Suppressed != 2 || c.Fired != 3 || c.Resolved != 1 || c.Tagged != 4 {
		t.Errorf("%+v", c)
	}
}

// TestCrash: what was counted is counted once, and what was to be done is done,
// wherever the server is killed.
func TestCrash(t *testing.T) {
	w := newWorld(t, document("three", `events: {queries: [q]}, threshold: {count: 3, window: 10m}, suppress: 1h`)+document("each", `events: {queries: [q]}`))
	id := w.enrol("a")
	one := w.batch(id, "q", `{}`)
	each := strings.TrimSpace(strings.Repeat("each/"+id+" ", 2))
	w.handle(one)
	w.start()
	w.again(one) // the acknowledgement was lost
	w.handle(one)
	w.start()
	w.again(one)
	w.raised(each)
	// The alerts do not take it, and the server is killed while it waits.
	w.alerts.fail = errors.New("full")
	w.seq++
	for range 2 {
		if err := w.engine.Handle(t.Context(), w.seq, []event.Batch{one}); err == nil {
			t.Fatal("it went on without the alerts")
		}
	}
	w.start()
	w.alerts.fail = nil
	w.again(one)
	w.again(one)
	w.raised(each + " each/" + id + " three/" + id)
	// Another stream, which begins anew, is not taken for what was read before.
	w.seq = 0
	w.start()
	w.now = w.now.Add(2 * time.Hour)
	one = w.batch(id, "q", `{}`)
	w.alerts.firings = nil
	w.handle(one)
	w.handle(one)
	w.handle(one)
	w.raised(each + " each/" + id + " three/" + id)
}

const asks = `events: {queries: [q, "trigger/*"]}, actions: {query: {sql: "SELECT path FROM processes WHERE pid = :pid", parameters: {pid: {value: columns.pid, type: integer}}}}`

// TestAsk: an event starts one live query on its node, however often it is read,
// and none on account of its own answers.
func TestAsk(t *testing.T) {
	w := newWorld(t, document("ask", asks))
	id := w.enrol("a")
	one := w.batch(id, "q", `{"pid":"42"}`, `{"pid":"4 OR 1"}`, `{}`)
	w.handle(one)
	w.again(one)
	w.start()
	w.again(one)
	list, _, err := w.store.LiveList(t.Context(), live.Filter{Limit: 10})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d queries, %v", len(list), err)
	}
	q := list[0]
	if q.Kind != live.Trigger || q.Source != "rule:ask" || q.CreatedBy != "rule:ask" || q.Nodes() != 1 || !strings.Contains(q.SQL, "pid = 42") {
		t.Errorf("%+v", q)
	}
	if c := w.counts("ask"); c.Asked != 1 || c.Refused != 2 || c.Alerted != 0 {
		t.Errorf("%+v", c)
	}
	if s := w.status("ask"); s.LastError == "" {
		t.Error("a refusal is not told")
	}
	answerOf := func(query string) {
		b := w.batch(id, query, `{"pid":"43"}`)
		b.LogType = event.LiveLog
		w.handle(b)
	}
	answerOf("trigger/rule:ask")
	answerOf("trigger/rule:other>ask")
	answerOf("trigger/rule:ask>other")
	answerOf("trigger/rule:a>b>c")
	if c := w.counts("ask"); c.Asked != 1 || c.Evaluated != 4 || c.Refused != 3 {
		t.Errorf("%+v", c)
	}
	answerOf("trigger/rule:a>b")
	list, _, err = w.store.LiveList(t.Context(), live.Filter{Limit: 10})
	if err != nil || len(list) != 2 || list[0].Source != "rule:a>b>ask" && list[1].Source != "rule:a>b>ask" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestAsk_limits: what is over the limits is left out, and holds up nothing.
func TestAsk_limits(t *testing.T) {
	w := newWorld(t, document("ask", strings.Replace(asks, "sql:", "limits: {per_node: 2, total: 3}, sql:", 1)))
	a, b := w.enrol("a"), w.enrol("b")
	w.handle(w.batch(a, "q", `{"pid":"1"}`, `{"pid":"2"}`, `{"pid":"3"}`), w.batch(b, "q", `{"pid":"1"}`, `{"pid":"2"}`))
	if c := w.counts("ask"); c.Asked != 3 || c.Refused != 2 {
		t.Errorf("%+v", c)
	}
}

// TestAsk_rollout: a rule looks at all events at once, but asks only nodes whose
// own revision has it.
func TestAsk_rollout(t *testing.T) {
	w := newWorld(t, pack)
	a, b := w.enrol("a"), w.enrol("b")
	w.catalog.SetPlan(&resource.Plan{
		Base: w.catalog.Plan().Base, Next: w.compile(document("ask", asks)), Admits: func(n *node.Identity) bool { return n.ID == a },
	})
	w.handle(w.batch(a, "q", `{"pid":"1"}`), w.batch(b, "q", `{"pid":"1"}`))
	if c := w.counts("ask"); c.Matched != 2 || c.Asked != 1 || c.Refused != 1 {
		t.Errorf("%+v", c)
	}
}

func TestShadow(t *testing.T) {
	w := newWorld(t, document("ask", asks+", shadow: true"))
	w.handle(w.batch(w.enrol("a"), "q", `{"pid":"1"}`))
	if c := w.counts("ask"); c.Fired != 1 || c.Asked != 0 || w.alerts.calls != 0 {
		t.Errorf("%+v", c)
	}
}

func TestUntag(t *testing.T) {
	w := newWorld(t, document("on", `events: {queries: [on]}, actions: {tag: [seen, kept]}`)+document("off", `events: {queries: [off]}, actions: {untag: [seen, hand]}`))
	id := w.enrol("a")
	if _, err := w.store.SetNodeTags(t.Context(), id, []string{"hand"}); err != nil {
		t.Fatal(err)
	}
	tags := func() string {
		w.sync()
		return strings.Join(w.registry.Lookup(id).Tags, " ")
	}
	w.handle(w.batch(id, "on", `{}`))
	if got := tags(); got != "hand kept seen" {
		t.Error(got)
	}
	w.handle(w.batch(id, "off", `{}`))
	if got := tags(); got != "hand kept" {
		t.Error(got) // what a person gave stays
	}
	if _, err := w.store.SetNodeTags(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if got := tags(); got != "" {
		t.Error("a person cannot take a tag that a rule gave:", got)
	}
}

// TestSetAside: a rule that breaks is left out alone, which is told once, until
// it changes.
func TestSetAside(t *testing.T) {
	w := newWorld(t, document("bad", `events: {queries: [q]}`)+document("good", `events: {queries: [q]}`))
	id := w.enrol("a")
	w.engine.Break("bad")
	w.handle(w.batch(id, "q", `{}`))
	w.handle(w.batch(id, "q", `{}`))
	w.raised("muster:rule/bad good/" + id + " good/" + id)
	if s := w.status("bad"); s.State != rule.SetAside || !strings.Contains(s.Why, "panicked") {
		t.Errorf("%+v", s)
	}
	w.alerts.firings = nil
	w.catalog.SetPlan(&resource.Plan{Base: w.compile(document("bad", `events: {queries: [q]}, severity: low`))})
	w.handle(w.batch(id, "q", `{}`))
	w.raised("muster:rule/bad! bad/" + id)
}

// TestTooDear: so is one that takes too long. The clock goes on whenever it is
// read.
func TestTooDear(t *testing.T) {
	w := newWorld(t, document("dear", `events: {queries: [q]}, condition: 'columns.a == "x"'`))
	id := w.enrol("a")
	w.tick = 100 * time.Millisecond
	for range 10 {
		w.handle(w.batch(id, "q", slices.Repeat([]string{`{}`}, 64)...))
	}
	if s := w.status("dear"); s.State != rule.SetAside || !strings.Contains(s.Why, "for an event") {
		t.Errorf("%+v", s)
	}
	w.raised("muster:rule/dear")
}

// TestGivenUp: an action that fails for good holds up the others for a while, not
// for ever.
func TestGivenUp(t *testing.T) {
	w := newWorld(t, document("tag", `events: {queries: [q]}, actions: {alert: {}, tag: [x]}`))
	id := w.enrol("a")
	w.engine.Tags = broken{}
	w.seq++
	tries := 0
	for err := errors.New(""); err != nil; tries++ {
		err = w.engine.Handle(t.Context(), w.seq, []event.Batch{w.batch(id, "q", `{}`)})
	}
	if c := w.counts("tag"); tries != rule.Tries || c.Failed != 1 {
		t.Errorf("%d tries, %+v", tries, c)
	}
	w.raised("tag/" + id)
}

type broken struct{}

func (broken) SetTags(context.Context, []node.Tagging, time.Time) ([]string, error) {
	return nil, errors.New("no")
}

// TestMany: what one message may give for one key, and what is remembered of keys
// that agents choose, are bounded.
func TestMany(t *testing.T) {
	w := newWorld(t, document("each", `events: {queries: [q]}`)+document("keys", `events: {queries: [k]}, key: "{{columns.k}}", threshold: {count: 1000, window: 1h}`))
	id := w.enrol("a")
	rows := slices.Repeat([]string{`{}`}, 1000)
	w.handle(w.batch(id, "q", rows...))
	if c := w.counts("each"); c.Fired != 1000 || c.Alerted != 10 || c.Merged != 990 {
		t.Errorf("%+v", c)
	}
	rows = rows[:400]
	for i := range 2 {
		for j := range rows {
			rows[j] = fmt.Sprintf(`{"k":"%d-%d"}`, i, j)
		}
		w.handle(w.batch(id, "k", rows...))
	}
	if s := w.status("keys"); s.Keys != 500 || s.Counts.Evicted != 300 {
		t.Errorf("%d keys, %+v", s.Keys, s.Counts)
	}
	kept, err := w.store.Windows(t.Context(), 10_000)
	if err != nil || len(kept) != 500 {
		t.Errorf("%d windows are kept, %v", len(kept), err)
	}
	// What is over is forgotten.
	w.now = w.now.Add(2 * time.Hour)
	w.handle(w.batch(id, "q", `{}`))
	if s := w.status("keys"); s.Keys != 0 {
		t.Errorf("%d keys", s.Keys)
	}
}

// FuzzHandle: no row sets a rule aside, and no text of a host commands a terminal.
func FuzzHandle(f *testing.F) {
	f.Add("q", `{"a":"1","b":"x"}`, `{"d":"y"}`)
	f.Add("trigger/rule:x>y", `{"a":1,"a":[],"b":"\u202e\u0000"}`, "")
	f.Add("q", "\xff", "[]")
	w := newWorld(f, document("x", `
  events: {queries: [q, "trigger/*", live]}, condition: 'int(columns.a) > 0 or columns.b matches "^x+$" or cidr(columns.b, "10.0.0.0/8") or has(decorations.d)',
  key: "{{columns.a}}", title: "{{columns.b}}", text: "{{decorations.d}}", threshold: {count: 2, distinct: columns.b, window: 1m}, resolve: 'columns.b == ""'`))
	id := w.enrol("a")
	f.Fuzz(func(t *testing.T, query, columns, decorations string) {
		b := w.batch(id, query, columns, columns)
		b.Events[0].Decorations = json.RawMessage(decorations)
		b.LogType = []string{"result", event.LiveLog}[len(query)%2]
		w.TB = t
		w.handle(b)
		if s := w.status("x"); s.State != rule.On {
			t.Fatal(s.Why)
		}
		for _, f := range w.alerts.firings {
			if strings.ContainsAny(f.Key+f.Title+f.Text, "\n\x00\x1b\u202e\u009b") {
				t.Fatalf("%+v", f)
			}
		}
		w.alerts.firings = nil
	})
}

// BenchmarkHandle: batches of ten rows of one query, of a hundred rules.
func BenchmarkHandle(b *testing.B) {
	row := `{"pid":"4242","name":"nginx","path":"/usr/sbin/nginx","cmdline":"nginx: worker process","cwd":"/","uid":"33","gid":"33","parent":"1","start_time":"1767225600","state":"S"}`
	rules := func(same int) string {
		var s strings.Builder
		for i := range 100 {
			query := fmt.Sprintf("pack_p_q%d", i)
			if i < same {
				query = "pack_p_procs"
			}
			s.WriteString(document(fmt.Sprintf("r%d", i), fmt.Sprintf(`events: {queries: [%s]}, condition: 'columns.path startsWith "/tmp/%d" and int(columns.uid) == %d and not (columns.name in ["a", "b"])'`, query, i, i)))
		}
		return s.String()
	}
	for _, same := range []int{0, 5, 100} {
		b.Run(fmt.Sprintf("%d of 100 rules look at it", same), func(b *testing.B) {
			w := newWorld(b, rules(same))
			batch := []event.Batch{w.batch(w.enrol("a"), "pack_p_procs", slices.Repeat([]string{row}, 10)...)}
			b.ReportAllocs()
			for b.Loop() {
				w.handle(batch...)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10, "ns/event")
		})
	}
}
