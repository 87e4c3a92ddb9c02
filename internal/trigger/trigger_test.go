package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
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

// world is triggers and enrollment queries on a real store and coordinator, with
// a clock that the test turns.
type world struct {
	*testing.T
	path        string
	now         time.Time
	store       *store.Store
	registry    *node.Registry
	catalog     *resource.Catalog
	live        *live.Coordinator
	service     *trigger.Service
	enrollments *trigger.Enrollments
	enroller    *node.Enroller
}

const secret = "sesame"

func newWorld(t *testing.T, resources string) *world {
	t.Helper()
	w := &world{T: t, path: filepath.Join(t.TempDir(), "state.db"), now: time.Now().Truncate(time.Second)}
	w.catalog = resource.NewCatalog(&resource.Plan{Base: w.compile(resources)}, slog.New(slog.DiscardHandler))
	w.start()
	keyer := w.keyer()
	if err := w.store.CreateSecret(t.Context(), node.Secret{Name: "s", CreatedAt: w.now}, keyer.Hash(node.PurposeEnrollSecret, secret)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) keyer() node.Keyer { return node.NewKeyer([]byte(strings.Repeat("k", 32))) }

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

// serve makes other resources what nodes have.
func (w *world) serve(text string) {
	w.Helper()
	w.catalog.SetPlan(&resource.Plan{Base: w.compile(text)})
	w.sync()
}

func (w *world) sync() {
	w.Helper()
	if err := w.enrollments.Sync(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// start is what a server does; called again it is one after kill -9: nothing that
// was in memory is kept.
func (w *world) start() {
	w.Helper()
	log := slog.New(slog.DiscardHandler)
	now := func() time.Time { return w.now }
	w.store = storetest.Open(w, w.path)
	w.registry = node.NewRegistry(w.store, w.keyer(), log, now)
	if err := w.registry.Sync(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.live = live.NewCoordinator(w.store, log, now)
	if err := w.live.Load(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.service = trigger.NewService(trigger.Options{
		Store: w.store, Finder: w.store, Registry: w.registry, Live: w.live, Catalog: w.catalog, Policy: shipped(),
		Audit: audit.NewLog(w.store, now), Log: log, Now: now,
	})
	w.enrollments = trigger.NewEnrollments(trigger.EnrollmentOptions{
		Store: w.store, Live: w.live, Registry: w.registry, Catalog: w.catalog, Policy: shipped(), Log: log, Now: now,
	})
	w.enroller = node.NewEnroller(node.EnrollerOptions{
		Store: w.store, Registry: w.registry, Keyer: w.keyer(), Now: now, Admitted: w.enrollments.Enrolled,
	})
	w.sync()
}

func (w *world) enrol(identifier, address string) node.Node {
	w.Helper()
	w.now = w.now.Add(time.Second)
	_, n, err := w.enroller.Enrol(w.Context(), osquery.EnrollRequest{
		EnrollSecret: secret, HostIdentifier: identifier,
		HostDetails: map[string]map[string]string{"system_info": {"hostname": identifier}},
	}, netip.MustParseAddr(address), node.Certificate{})
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *world) fire(name, payload string) (trigger.Result, error) {
	w.Helper()
	p, err := trigger.ParsePayload([]byte(payload))
	if err != nil {
		w.Fatal(err)
	}
	w.now = w.now.Add(time.Millisecond)
	return w.service.Fire(w.Context(), trigger.Request{Trigger: name, Payload: p, Actor: trigger.ActorOf(name), ReceivedAt: w.now})
}

func (w *world) refused(payload string, kind errs.Kind) {
	w.Helper()
	if r, err := w.fire("t", payload); !errs.Is(err, kind) {
		w.Errorf("%s: %+v, %v; want %s", payload, r, err, kind)
	}
}

func (w *world) fired(payload string) trigger.Result {
	w.Helper()
	r, err := w.fire("t", payload)
	if err != nil {
		w.Fatalf("%s: %v", payload, err)
	}
	return r
}

// took returns the texts that a node is given.
func (w *world) took(n node.Node) string {
	w.Helper()
	var texts []string
	for _, task := range w.live.Take(n.ID) {
		texts = append(texts, task.SQL)
	}
	return strings.Join(texts, "; ")
}

func spec(kind, name, text string) string {
	return fmt.Sprintf("apiVersion: muster/v1\nkind: %s\nname: %s\nspec: %s\n---\n", kind, name, text)
}

func TestFire_node(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("Trigger", "t", "{sql: SELECT 1, selector: not hostname = out, node: {match: hostname, path: /h}}"))
	a, b := w.enrol("a", "192.0.2.1"), w.enrol("b", "192.0.2.2")
	w.enrol("out", "192.0.2.3")
	if r := w.fired(`{"h":"a"}`); r.NodeID != a.ID || w.took(a) != "SELECT 1" || w.took(b) != "" {
		t.Error(r)
	}
	w.refused(`{"h":"nobody"}`, errs.NotFound)
	w.refused(`{"h":"`+a.ID+`"}`, errs.NotFound) // an id is no hostname
	w.refused(`{"h":"out"}`, errs.Forbidden)
	w.refused(`{"h":""}`, errs.Invalid)
	w.refused(`{"h":null}`, errs.Invalid)
	w.refused(`{"h":["a"]}`, errs.Invalid)
	w.refused(`[]`, errs.Invalid)
	if _, err := w.fire("none", "{}"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := w.store.SetQuarantine(t.Context(), b.ID, "x", w.now); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.refused(`{"h":"b"}`, errs.Forbidden)
	w.catalog.SetPlan(&resource.Plan{Base: w.catalog.Plan().Base, Safe: func(*node.Identity) bool { return true }})
	w.refused(`{"h":"a"}`, errs.Forbidden)

	w.serve(spec("Trigger", "t", "{sql: SELECT 1, node: {match: id, path: /h}}"))
	if r := w.fired(`{"h":"` + a.ID + `"}`); r.NodeID != a.ID {
		t.Error(r)
	}
	w.refused(`{"h":"a"}`, errs.NotFound)
	if err := w.store.DeleteNode(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	w.registry.Forget(a.ID)
	w.refused(`{"h":"`+a.ID+`"}`, errs.NotFound)
}

// TestFire_address: an address is whoever had it at the time that the payload
// says.
func TestFire_address(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("Trigger", "t", "{sql: SELECT 1, limits: {per_node: 99}, node: {match: address, path: /ip, at: /at}}"))
	a := w.enrol("a", "192.0.2.1")
	then := w.now.Add(time.Minute)
	w.now = w.now.Add(time.Hour)
	w.enrol("a", "192.0.2.9") // it moved
	b := w.enrol("b", "192.0.2.1")
	w.now = w.now.Add(time.Hour)
	later := w.now
	for _, tt := range []struct {
		at   string
		want string
	}{
		{`"` + then.Format(time.RFC3339) + `"`, a.ID},
		{fmt.Sprint(then.Unix()), a.ID},
		{fmt.Sprint(then.UnixMilli()), a.ID},
		{fmt.Sprint(then.UnixNano()), a.ID},
		{fmt.Sprintf(`"%d.25"`, then.Unix()), a.ID},
		{fmt.Sprint(later.Unix()), b.ID},
		{fmt.Sprint(later.Add(24 * time.Hour).Unix()), b.ID}, // a clock before ours
	} {
		if r := w.fired(`{"ip":"192.0.2.1","at":` + tt.at + `}`); r.NodeID != tt.want {
			t.Errorf("%s: %s", tt.at, r.NodeID)
		}
	}
	w.refused(`{"ip":"192.0.2.1","at":"soon"}`, errs.Invalid)
	w.refused(`{"ip":"192.0.2.1","at":-5}`, errs.Invalid)
	w.refused(`{"ip":"none","at":1}`, errs.Invalid)
	w.refused(`{"ip":"192.0.2.1","at":1000000000}`, errs.NotFound)
	w.enrol("c", "192.0.2.1") // behind one gateway
	w.refused(`{"ip":"192.0.2.1","at":`+fmt.Sprint(w.now.Unix()+9)+`}`, errs.Conflict)
}

func TestFire_limits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("Trigger", "t", `{sql: "SELECT :x AS x", parameters: {x: {path: /x}}, dedup: {window: 10m}, limits: {per_node: 2, total: 3}, node: {match: hostname, path: /h}}`))
	for _, h := range []string{"a", "b", "c"} {
		w.enrol(h, "192.0.2.1")
	}
	first := w.fired(`{"h":"a","x":"1"}`)
	w.fired(`{"h":"a","x":"2"}`)
	w.refused(`{"h":"a","x":"3"}`, errs.Busy)
	if again := w.fired(`{"h":"a","x":"1"}`); !again.Duplicate || again.LiveID != first.LiveID {
		t.Error("the same again, over the limit: ", again)
	}
	if other := w.fired(`{"h":"b","x":"1"}`); other.Duplicate {
		t.Error("another node is the same")
	}
	w.refused(`{"h":"c","x":"1"}`, errs.Busy)
	w.start() // kill -9
	w.refused(`{"h":"a","x":"3"}`, errs.Busy)
	if again := w.fired(`{"h":"a","x":"1"}`); !again.Duplicate || again.LiveID != first.LiveID {
		t.Error("the same again, after a restart: ", again)
	}
	w.now = w.now.Add(time.Minute)
	w.fired(`{"h":"a","x":"3"}`)
	w.now = w.now.Add(10 * time.Minute)
	if again := w.fired(`{"h":"a","x":"1"}`); again.Duplicate {
		t.Error("after the window")
	}
	// By a path of the payload, whatever the text.
	w.serve(spec("Trigger", "t", `{sql: "SELECT :x AS x", parameters: {x: {path: /x}}, dedup: {window: 10m, path: /id}, node: {match: hostname, path: /h}}`))
	one := w.fired(`{"h":"a","x":"8","id":5}`)
	if two := w.fired(`{"h":"a","x":"9","id":5}`); two.LiveID != one.LiveID {
		t.Error("one id, two queries")
	}
	w.refused(`{"h":"a","x":"9"}`, errs.Invalid)
}

// TestFire_together: none of many at once gets past a limit beside another.
func TestFire_together(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("Trigger", "t", `{sql: "SELECT :x AS x", parameters: {x: {path: /x}}, limits: {per_node: 5}, node: {match: hostname, path: /h}}`))
	a := w.enrol("a", "192.0.2.1")
	var all sync.WaitGroup
	for i := range 20 {
		p, err := trigger.ParsePayload(fmt.Appendf(nil, `{"h":"a","x":%d}`, i))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			_, _ = w.service.Fire(context.Background(), trigger.Request{Trigger: "t", Payload: p, Actor: "x", ReceivedAt: w.now})
		})
	}
	all.Wait()
	if n := len(w.live.Take(a.ID)); n != 5 {
		t.Errorf("%d queries", n)
	}
}

// TestFire_policy: what a payload makes of a template is judged again, by the
// rules of the moment.
func TestFire_policy(t *testing.T) {
	t.Parallel()
	const trig = `{sql: "SELECT size FROM file WHERE path = :p", parameters: {p: {path: /p}}, limits: {per_node: 99}, node: {match: hostname, path: /h}}`
	w := newWorld(t, spec("Trigger", "t", trig))
	w.enrol("a", "192.0.2.1")
	w.fired(`{"h":"a","p":"/etc/hosts"}`)
	for _, p := range []string{"/etc/shadow", "/etc/./shadow", "/root/.ssh/id_rsa", "/proc/1/environ"} {
		w.refused(`{"h":"a","p":"`+p+`"}`, errs.Forbidden)
	}
	w.serve(spec("Trigger", "t", trig) + spec("TablePolicy", "p", "{tables: {file: {tier: 3, reason: no}}}"))
	w.refused(`{"h":"a","p":"/etc/hosts"}`, errs.Forbidden)
}

type brokenAudit struct{ trigger.Recorder }

func (brokenAudit) Record(context.Context, string, string, string, any) error {
	return errors.New("the disk is full")
}

func TestFire_unaudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("Trigger", "t", "{sql: SELECT 1, dedup: {window: 1h}, node: {match: hostname, path: /h}}"))
	a := w.enrol("a", "192.0.2.1")
	good := w.service.Audit
	w.service.Audit = brokenAudit{good}
	w.refused(`{"h":"a"}`, errs.Internal)
	if w.took(a) != "" {
		t.Error("a query that is not in the log")
	}
	w.service.Audit = good
	if w.fired(`{"h":"a"}`).Duplicate {
		t.Error("what failed counts as the same")
	}
}

func TestEnrollments(t *testing.T) {
	t.Parallel()
	birth := spec("EnrollmentQuery", "birth", "{sql: SELECT 1, selector: not hostname = out, expires: 1h}")
	w := newWorld(t, "")
	before := w.enrol("before", "192.0.2.1")
	w.now = w.now.Add(time.Second)
	w.serve(birth)
	a, out := w.enrol("a", "192.0.2.2"), w.enrol("out", "192.0.2.3")
	if w.took(a) != "SELECT 1" || w.took(out) != "" || w.took(before) != "" {
		t.Error("the first read of a new node")
	}
	id := resource.EnrollmentID("birth", "SELECT 1")
	answer := live.Answer{LiveID: id, NodeID: a.ID, State: live.Empty, ReceivedAt: w.now}
	keep(w)
	if err := w.live.Accept(t.Context(), []live.Answer{answer}); err != nil {
		t.Fatal(err)
	}
	w.sync()
	if w.took(a) != "" {
		t.Error("it answered, and is asked again")
	}
	w.enrol("a", "192.0.2.2")
	if w.took(a) != "SELECT 1" {
		t.Error("it enrolled again, and is not asked")
	}
	// A server that is killed before it kept who joined asks after its start.
	c := w.enrol("c", "192.0.2.4")
	w.start()
	if w.took(c) != "SELECT 1" || w.took(out) != "" || w.took(before) != "" {
		t.Error("after kill -9")
	}
	// Not for ever.
	d := w.enrol("d", "192.0.2.5")
	w.start()
	w.now = w.now.Add(time.Hour)
	w.start()
	if w.took(d) != "" {
		t.Error("after its time")
	}
	// Another text is another question; those who enrolled before are not asked.
	w.now = w.now.Add(time.Second)
	w.serve(spec("EnrollmentQuery", "birth", "{sql: SELECT 2}"))
	e := w.enrol("e", "192.0.2.6")
	if w.took(e) != "SELECT 2" || w.took(d) != "" {
		t.Error("another text")
	}
	if _, ok := w.live.Running(id); ok {
		t.Error("the former text stands")
	}
	// Gone, and back.
	w.serve("")
	if f := w.enrol("f", "192.0.2.7"); w.took(f) != "" || w.live.Count() != 0 {
		t.Error("a query that is gone is asked")
	}
	w.now = w.now.Add(time.Second)
	w.serve(birth)
	if g := w.enrol("g", "192.0.2.8"); w.took(g) != "SELECT 1" {
		t.Error("a query that came back is not asked")
	}
	// Existing nodes, where the resource says so.
	w.serve(spec("EnrollmentQuery", "all", "{sql: SELECT 3, existing: true}"))
	if w.took(before) != "SELECT 3" || w.took(out) != "SELECT 3" {
		t.Error("existing nodes")
	}
	keep(w)
	w.start()
	if w.took(before) != "" {
		t.Error("asked twice within a lease")
	}
}

// keep lets the coordinator keep who joined.
func keep(w *world) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	if err := w.live.Run(ctx); err != nil { // which keeps all as it ends
		w.Fatal(err)
	}
}

// TestEnrollments_tag: a node that begins to match soon after it enrolled is
// asked by the next sweep.
func TestEnrollments_tag(t *testing.T) {
	t.Parallel()
	w := newWorld(t, spec("EnrollmentQuery", "gpu", "{sql: SELECT 1, selector: tag = gpu}"))
	a := w.enrol("a", "192.0.2.1")
	if w.took(a) != "" {
		t.Error("it has no such tag")
	}
	if _, err := w.store.SetNodeTags(t.Context(), a.ID, []string{"gpu"}); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.sync()
	if w.took(a) != "SELECT 1" {
		t.Error("it has the tag now")
	}
}

func FuzzParsePayload(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"c"}]}`, `[[[[`, `"\u0000"`, `1e999`, `{"a":1}{}`, ``, `null`, "\"\\", `{"a":"`} {
		f.Add([]byte(s), "/a/1/b")
	}
	f.Fuzz(func(t *testing.T, b []byte, at string) {
		p, err := trigger.ParsePayload(b)
		if err != nil {
			if errs.KindOf(err) == errs.Internal {
				t.Error(err)
			}
			return
		}
		_ = p
		if strings.HasPrefix(at, "/") {
			resource.Pointer(at).In(map[string]any{"a": []any{1, map[string]any{"b": "c"}}})
		}
	})
}

// BenchmarkEnrolled: what an enrolment costs more.
func BenchmarkEnrolled(b *testing.B) {
	objects, err := resource.Parse("r.yaml", []byte(spec("EnrollmentQuery", "one", "{sql: SELECT 1, selector: tag = web}")+spec("EnrollmentQuery", "two", "{sql: SELECT 2}")))
	if err != nil {
		b.Fatal(err)
	}
	set, _ := resource.NewSet(objects)
	snapshot, _ := resource.Compile(1, set)
	s := storetest.New(b)
	log := slog.New(slog.DiscardHandler)
	coordinator := live.NewCoordinator(s, log, time.Now)
	e := trigger.NewEnrollments(trigger.EnrollmentOptions{
		Store: s, Live: coordinator, Registry: node.NewRegistry(s, node.NewKeyer(make([]byte, 32)), log, time.Now),
		Catalog: resource.NewCatalog(&resource.Plan{Base: snapshot}, log), Policy: shipped(), Log: log, Now: time.Now,
	})
	if err := e.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	n := node.IdentityOf(node.Node{ID: "n", Tags: []string{"web"}})
	at := time.Now()
	for b.Loop() {
		at = at.Add(time.Second)
		e.Enrolled(n, at)
	}
}

// TestLivePolicy holds triggers and enrollment queries to the rules about them.
func TestLivePolicy(t *testing.T) {
	t.Parallel()
	asks := spec("Trigger", "t", "{sql: SELECT 2, node: {match: hostname, path: /h}}") +
		spec("EnrollmentQuery", "e", "{sql: SELECT 3, existing: true}")
	rules := func(kinds string) string {
		return spec("LivePolicy", "p", "{rules: [{kinds: ["+kinds+"], require: refuse}]}")
	}
	w := newWorld(t, asks+rules("person, carve"))
	a := w.enrol("a", "192.0.2.1")
	w.fired(`{"h":"a"}`)
	if got := w.took(a); !strings.Contains(got, "SELECT 2") || !strings.Contains(got, "SELECT 3") {
		t.Error(got)
	}
	w.serve(asks + rules("trigger"))
	w.refused(`{"h":"a"}`, errs.Forbidden)
	if b := w.enrol("b", "192.0.2.2"); w.took(b) != "SELECT 3" {
		t.Error("the enrollment query ended")
	}
	w.serve(asks + rules("enrollment"))
	w.fired(`{"h":"a"}`)
	c := w.enrol("c", "192.0.2.3")
	if got := w.took(c); got != "" {
		t.Error(got)
	}
	w.start() // the next server keeps to it, too
	if got := w.took(c); got != "" {
		t.Error(got)
	}
	w.serve(asks)
	if got := w.took(c); got != "SELECT 3" {
		t.Error(got)
	}
}
