package agentapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// world is an API on a real store, with a stream that the test can read and
// break.
type world struct {
	t        testing.TB
	api      http.Handler
	store    *store.Store
	registry *node.Registry
	live     *live.Coordinator
	stream   *memoryStream
	keyer    node.Keyer
	peer     peer
	log      *bytes.Buffer
	options  agentapi.Options // to make another API of
}

// memoryStream stands for the stream: what is durable is another package's
// business, and failing on demand is what matters here.
type memoryStream struct {
	mu      sync.Mutex
	batches []event.Batch
	answers []live.Answer
	err     error
}

func (m *memoryStream) AppendEvents(_ context.Context, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	batch, err := event.DecodeBatch(bytes.Clone(b))
	m.batches = append(m.batches, batch)
	return err
}

func (m *memoryStream) AppendAnswers(_ context.Context, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	var answers []live.Answer
	err := json.Unmarshal(b, &answers)
	m.answers = append(m.answers, answers...)
	return err
}

func (m *memoryStream) events() (all []event.Event) {
	for _, b := range m.batches {
		all = append(all, b.Events...)
	}
	return all
}

type noMetrics struct{}

func (noMetrics) Observe(string, string, time.Duration) {}
func (noMetrics) Lines(int, int)                        {}

const secret = "s3cret-enroll" // what the captured agents showed

// defaultCatalog serves what comes with Muster.
func defaultCatalog(tb testing.TB) *resource.Catalog {
	tb.Helper()
	objects, err := resource.Defaults()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		tb.Fatal(err)
	}
	snapshot, err := resource.Compile(1, set)
	if err != nil {
		tb.Fatal(err)
	}
	return resource.NewCatalog(&resource.Plan{Base: snapshot}, slog.New(slog.DiscardHandler))
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &world{t: tb, store: storetest.New(tb), stream: &memoryStream{}, keyer: node.NewKeyer([]byte(strings.Repeat("k", 32)))}
	w.registry = node.NewRegistry(w.store, w.keyer, log, time.Now)
	w.live = live.NewCoordinator(w.store, log, time.Now)
	catalog := defaultCatalog(tb)
	s := node.Secret{Name: "test", Tags: []string{"linux"}, CreatedAt: time.Now()}
	if err := w.store.CreateSecret(tb.Context(), s, w.keyer.Hash(node.PurposeEnrollSecret, secret)); err != nil {
		tb.Fatal(err)
	}
	aliases, err := agentapi.ParseAliases(agentapi.Presets())
	if err != nil {
		tb.Fatal(err)
	}
	w.log = new(bytes.Buffer)
	w.options = agentapi.Options{
		Enroller: node.NewEnroller(node.EnrollerOptions{
			Store: w.store, Registry: w.registry, Keyer: w.keyer, Clash: node.ClashQuarantine, Now: time.Now,
		}),
		Nodes: w.registry, Configs: catalog, Queries: w.live, Stream: w.stream, Seen: event.NewSeen(), Peers: &w.peer,
		Metrics: noMetrics{}, Limits: limits, Log: slog.New(slog.NewTextHandler(w.log, nil)), Now: time.Now,
		Aliases: aliases,
	}
	w.api = agentapi.New(w.options)
	return w
}

// limits are the settings' defaults.
var limits = agentapi.Limits{
	Small: 256 << 10, Log: 64 << 20, Write: 64 << 20, Block: 16 << 20, Memory: 64 << 20, Rate: 4 << 10, Enrolling: 64, Logging: 1024, Writing: 256, Carving: 8, Queue: 64,
}

// peer is who seems to send the requests of a test.
type peer struct{ agentconn.Peer }

func (p *peer) Of(*http.Request) (agentconn.Peer, error) { return p.Peer, nil }

// post sends a body and returns the status and the answer, which must be a
// JSON object whatever happened: anything else hurts agents.
func (w *world) post(path string, body []byte, headers ...string) (int, map[string]any) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, path, bytes.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	var answer map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || answer == nil {
		w.t.Fatalf("POST %s: the answer is no JSON object: %q", path, rec.Body)
	}
	return rec.Code, answer
}

func (w *world) enroll() (key string) {
	w.t.Helper()
	_, answer := w.post("/api/osquery/enroll", []byte(`{"enroll_secret":"`+secret+`","host_identifier":"h1","platform_type":"9"}`))
	key, _ = answer["node_key"].(string)
	if key == "" {
		w.t.Fatalf("not enrolled: %v", answer)
	}
	return key
}

// sample is one request of a real agent.
type sample struct {
	Label   string      `json:"label"`
	Kind    string      `json:"kind"`
	Headers [][2]string `json:"headers"`
	Body    string      `json:"body_base64"`
}

// canonical is where each captured request goes.
func canonical(kind string) string {
	switch path, _, _ := strings.Cut(kind, ":"); path {
	case "/enroll":
		return "/api/osquery/enroll"
	case "/config":
		return "/api/osquery/config"
	case "/read":
		return "/api/osquery/distributed/read"
	case "/write":
		return "/api/osquery/distributed/write"
	case "/log":
		return "/api/osquery/log"
	}
	return "" // carves
}

// TestSamples replays every request that a real agent sent, with the node key
// that it would have got here, and looks at what was answered and kept.
func TestSamples(t *testing.T) {
	raw, err := os.ReadFile("../osquery/testdata/wire-samples.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Requests []sample `json:"requests"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	keys := map[string]string{} // of the capture, to ours
	replayed := 0
	for i, s := range file.Requests {
		path := canonical(s.Kind)
		if path == "" {
			continue
		}
		replayed++
		body, err := base64.StdEncoding.DecodeString(s.Body)
		if err != nil {
			t.Fatal(err)
		}
		status, answer := w.replay(path, s, body, keys)
		if status != http.StatusOK || answer["error"] != nil || answer["node_invalid"] == true {
			t.Errorf("sample %d %s: %d %v", i, s.Kind, status, answer)
		}
		switch path {
		case "/api/osquery/enroll":
			key, _ := answer["node_key"].(string)
			keys["nk-1"], keys["nk-2"], keys["nk-3"] = key, key, key
		case "/api/osquery/config":
			if _, ok := answer["packs"]; !ok {
				t.Errorf("sample %d: a config without packs wipes the schedule: %v", i, answer)
			}
		case "/api/osquery/distributed/read":
			if diff := cmp.Diff(map[string]any{"queries": map[string]any{}}, answer); diff != "" {
				t.Errorf("sample %d: %s", i, diff)
			}
		}
	}
	if replayed < 18 {
		t.Errorf("only %d of the samples were replayed", replayed)
	}
	w.checkSamples()
}

// replay sends a captured request with our key instead of the captured one.
func (w *world) replay(path string, s sample, body []byte, keys map[string]string) (int, map[string]any) {
	w.t.Helper()
	var headers []string
	zipped := false
	for _, h := range s.Headers {
		switch h[0] {
		case "Content-Encoding":
			zipped = h[1] == "gzip"
			headers = append(headers, h[0], h[1])
		case "Authorization":
			headers = append(headers, h[0], "NodeKey "+keys[strings.TrimPrefix(h[1], "NodeKey ")])
		case "Content-Type", "Accept", "User-Agent":
			headers = append(headers, h[0], h[1])
		}
	}
	if zipped {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		if body, err = io.ReadAll(z); err != nil {
			w.t.Fatal(err)
		}
	}
	for old, key := range keys {
		body = bytes.ReplaceAll(body, []byte(`"node_key":"`+old+`"`), []byte(`"node_key":"`+key+`"`))
	}
	if zipped {
		body = zip(w.t, body)
	}
	return w.post(path, body, headers...)
}

func zip(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// checkSamples looks at what the samples left behind.
func (w *world) checkSamples() {
	w.t.Helper()
	page, err := w.store.Nodes(w.t.Context(), node.Filter{Now: time.Now()})
	if err != nil || page.Total != 1 {
		w.t.Fatalf("%d nodes, %v; three enrolments of one host are one node", page.Total, err)
	}
	n := page.Nodes[0]
	if n.HostIdentifier != "example-host-1" || n.Platform != "linux" || n.OS != "Debian GNU/Linux 12 (bookworm)" ||
		n.OsqueryVersion != "5.23.0-38-ga5b14f63d" || n.Enrolments != 3 {
		w.t.Errorf("the node is not what the agent said: %+v", n)
	}
	actions := map[string]int{}
	raw := 0
	for _, e := range w.stream.events() {
		actions[e.Action]++
		var columns map[string]string
		if err := json.Unmarshal(e.Columns, &columns); err != nil {
			w.t.Errorf("columns are no object of strings: %s", e.Columns)
		}
		if columns["raw"] == `ab\xFF` {
			raw++
		}
	}
	if actions[event.Added] == 0 || actions[event.Removed] == 0 || actions[event.Snapshot] == 0 || actions[event.Status] < 7 {
		w.t.Errorf("not every kind of line became an event: %v", actions)
	}
	if raw == 0 {
		w.t.Error("the row with a byte that is not UTF-8 is lost")
	}
	states := map[string]live.State{}
	for _, a := range w.stream.answers {
		states[a.LiveID] = a.State
	}
	want := map[string]live.State{
		"q-empty": live.Empty, "q-err": live.Failed, "q-ok": live.Answered, "q-raw": live.Answered, "q-req": live.Failed, "carve": live.Answered,
	}
	if diff := cmp.Diff(want, states); diff != "" {
		w.t.Error(diff)
	}
}

// TestRefusals checks that whatever is wrong, the agent keeps its data.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	log := `{"data":[{"name":"q","unixTime":1795250724,"columns":{"a":"1"},"action":"added"}],"log_type":"result","node_key":"` + key + `"}`
	cases := []struct {
		name, path, body string
		headers          []string
		status           int
		invalid          bool
	}{
		{name: "unknown key", path: "/api/osquery/config", body: `{"node_key":"nope"}`, status: 401, invalid: true},
		{name: "no key", path: "/api/osquery/config", body: `{"node_key":""}`, status: 401, invalid: true},
		{name: "key is no string", path: "/api/osquery/distributed/read", body: `{"node_key":[1]}`, status: 401, invalid: true},
		{name: "not JSON", path: "/api/osquery/log", body: `{"data":[`, status: 400},
		{name: "scalar", path: "/api/osquery/config", body: `"x"`, status: 400},
		{name: "empty", path: "/api/osquery/log", body: ``, status: 400},
		{name: "data is no array", path: "/api/osquery/log", body: `{"data":{},"log_type":"result","node_key":"` + key + `"}`, status: 400},
		{name: "unknown log type", path: "/api/osquery/log", body: strings.Replace(log, `"result"`, `"else"`, 1), status: 400},
		{name: "deep", path: "/api/osquery/log", body: strings.Repeat("[", 100_000), status: 400},
		{name: "not gzip", path: "/api/osquery/log", body: log, headers: []string{"Content-Encoding", "gzip"}, status: 400},
		{name: "unknown encoding", path: "/api/osquery/log", body: log, headers: []string{"Content-Encoding", "br"}, status: 400},
		{name: "large", path: "/api/osquery/config", body: strings.Repeat(" ", 300<<10), status: 413},
		{name: "unknown path", path: "/api/osquery/nothing", body: `{}`, status: 404},
		{name: "wrong secret", path: "/api/osquery/enroll", body: `{"enroll_secret":"wrong","host_identifier":"h2"}`, status: 401},
		{name: "no host identifier", path: "/api/osquery/enroll", body: `{"enroll_secret":"` + secret + `"}`, status: 400},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, answer := w.post(c.path, []byte(c.body), c.headers...)
			if text, _ := answer["error"].(string); status != c.status || text == "" {
				t.Errorf("%d %v; want %d and an error", status, answer, c.status)
			}
			if invalid, _ := answer["node_invalid"].(bool); invalid != c.invalid {
				t.Errorf("node_invalid is %v", answer["node_invalid"])
			}
			if answer["node_key"] != nil {
				t.Errorf("a refusal holds a node key: %v", answer)
			}
		})
	}
	if n := len(w.stream.events()); n != 0 {
		t.Errorf("%d events of refused requests were kept", n)
	}
}

// TestBrokenParts checks that a failing part never makes an agent enrol again
// or delete its data, and that it goes on when the part works again.
func TestBrokenParts(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	log := []byte(`{"data":[{"name":"q","unixTime":1795250724,"columns":{"a":"1"},"action":"added"}],"log_type":"result","node_key":"` + key + `"}`)
	for _, broken := range []error{errs.New(errs.Busy, "the server's disk is full"), errors.New("secret detail")} {
		w.stream.err = broken
		status, answer := w.post("/api/osquery/log", log)
		if answer["error"] == nil || answer["node_invalid"] != nil || status < 500 {
			t.Errorf("%v: %d %v", broken, status, answer)
		}
		if text, _ := answer["error"].(string); strings.Contains(text, "secret detail") {
			t.Error("the agent was told an internal error")
		}
	}
	w.stream.err = nil
	if status, answer := w.post("/api/osquery/log", log); status != 200 || len(w.stream.events()) != 1 {
		t.Errorf("after the failure: %d %v, %d events", status, answer, len(w.stream.events()))
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	keyed := []byte(`{"node_key":"` + key + `"}`)
	if status, answer := w.post("/api/osquery/config", keyed); status != 200 || answer["packs"] == nil {
		t.Errorf("config without a database: %d %v", status, answer)
	}
	if status, answer := w.post("/api/osquery/distributed/read", keyed); status != 200 {
		t.Errorf("read without a database: %d %v", status, answer)
	}
	if status, answer := w.post("/api/osquery/enroll", []byte(`{"enroll_secret":"`+secret+`","host_identifier":"h3"}`)); status < 500 || answer["error"] == nil || answer["node_invalid"] != nil {
		t.Errorf("enrolment without a database: %d %v", status, answer)
	}
}

// TestRepeats tells the story of an answer that was lost.
func TestRepeats(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	line := func(n string) string {
		return `{"name":"q","unixTime":1795250724,"columns":{"n":"` + n + `"},"action":"added"}`
	}
	send := func(lines ...string) {
		t.Helper()
		status, answer := w.post("/api/osquery/log", []byte(`{"data":[`+strings.Join(lines, ",")+`],"log_type":"result","node_key":"`+key+`"}`))
		if status != 200 {
			t.Fatalf("%d %v", status, answer)
		}
	}
	send(line("1"), line("2"))
	send(line("1"), line("2"), line("3")) // the answer was lost; a newer line joined
	send(line("1"), line("2"), line("3"), line("4"))
	send(line("5"), line("5")) // two equal lines are two
	send(line("5"), line("5"))
	send(line("6"))
	var got []string
	for _, e := range w.stream.events() {
		got = append(got, string(e.Columns))
	}
	want := []string{`{"n":"1"}`, `{"n":"2"}`, `{"n":"3"}`, `{"n":"4"}`, `{"n":"5"}`, `{"n":"5"}`, `{"n":"6"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestStamps: what is logged carries the revision that the node was served, and
// what a clock said that cannot be right.
func TestStamps(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	log := func(n string) event.Batch {
		t.Helper()
		status, answer := w.post("/api/osquery/log", []byte(`{"data":[{"name":"q","unixTime":12,"columns":{"n":"`+n+`"},"action":"added"}],"log_type":"result","node_key":"`+key+`"}`))
		if status != 200 {
			t.Fatalf("%d %v", status, answer)
		}
		return w.stream.batches[len(w.stream.batches)-1]
	}
	if b := log("1"); b.Revision != 0 || b.Events[0].AgentTime != 12 || b.Events[0].Time.Year() == 1970 {
		t.Errorf("before any config: %+v", b)
	}
	w.post("/api/osquery/config", []byte(`{"node_key":"`+key+`"}`))
	if b := log("2"); b.Revision != 1 {
		t.Errorf("after a config: %+v", b)
	}
}

// TestBomb sends 80 MiB of zeros in a few hundred kilobytes of gzip; what that
// takes of memory is measured in httpx.
func TestBomb(t *testing.T) {
	w := newWorld(t)
	w.enroll()
	status, answer := w.post("/api/osquery/log", zip(t, make([]byte, 80<<20)), "Content-Encoding", "gzip")
	if status != http.StatusRequestEntityTooLarge || answer["error"] == nil {
		t.Errorf("%d %v", status, answer)
	}
}

// TestLiveQuery asks a node and takes its answer.
func TestLiveQuery(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	nodes, _, _ := w.registry.Select(node.Selector{All: true})
	q := live.Query{ID: "q1", SQL: "SELECT 1", Selector: node.Selector{All: true}}
	if _, err := w.live.Start(t.Context(), q, nodes); err != nil {
		t.Fatal(err)
	}
	keyed := []byte(`{"node_key":"` + key + `"}`)
	_, answer := w.post("/api/osquery/distributed/read", keyed)
	want := map[string]any{"queries": map[string]any{"q1": "SELECT 1"}, "accelerate": float64(live.Accelerate)}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Error(diff)
	}
	if _, answer = w.post("/api/osquery/distributed/read", keyed); len(answer["queries"].(map[string]any)) != 0 {
		t.Errorf("delivered twice within a lease: %v", answer)
	}
	w.post("/api/osquery/distributed/write", []byte(`{"queries":{"q1":[{"1":"1"}]},"statuses":{"q1":0},"node_key":"`+key+`"}`))
	if len(w.stream.answers) != 1 || w.stream.answers[0].State != live.Answered || w.stream.answers[0].NodeID != nodes[0].ID {
		t.Errorf("the answer was not kept: %+v", w.stream.answers)
	}
}

// TestForms checks forms of a path and a method that agents in the field use.
func TestForms(t *testing.T) {
	w := newWorld(t)
	key := w.enroll()
	for _, path := range []string{"/api/osquery/config", "//api//osquery/config", "/api/osquery/config/", "/api/osquery/config%20"} {
		if status, answer := w.post(path, []byte(`{"node_key":"`+key+`"}`)); status != 200 {
			t.Errorf("%s: %d %v", path, status, answer)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/api/osquery/config", strings.NewReader(`{"node_key":"`+key+`"}`))
	rec := httptest.NewRecorder()
	if w.api.ServeHTTP(rec, r); rec.Code != 200 {
		t.Errorf("PUT: %d %s", rec.Code, rec.Body)
	}
	r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/osquery/config", nil)
	rec = httptest.NewRecorder()
	if w.api.ServeHTTP(rec, r); rec.Code != 400 || !strings.Contains(rec.Body.String(), `"error"`) {
		t.Errorf("GET: %d %s", rec.Code, rec.Body)
	}
}
