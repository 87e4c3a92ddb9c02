package adminapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/doctor"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/signon"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
	"github.com/musterhq/muster/internal/transparency"
	"github.com/musterhq/muster/internal/trigger"
)

const (
	setupToken = "the-setup-token"
	password   = "correct horse battery"
	site       = "https://muster.example.com"
)

// world is the API on a real store and search engine.
type world struct {
	calls    int            // a minute, of one caller
	checks   []doctor.Check // of /doctor
	signOn   *signon.Service
	require  account.Requirement
	t        *testing.T
	api      *adminapi.API
	url      string
	client   *adminapi.Client // logged in
	store    *store.Store
	engine   *search.Engine
	health   *health.Monitor
	registry *node.Registry
	live     *live.Coordinator
	enroller *node.Enroller
	voided   int
	mute     *atomic.Bool     // the audit log fails
	clock    func() time.Time // of the API alone
	log      *slog.Logger
	http     *http.Client

	redactor   *redact.Redactor
	redactions *redact.Counts

	carves    *carve.Service
	sinks     *sink.Manager
	events    lateStream
	vault     *tokens
	freezer   *change.Freezer
	publisher *change.Publisher
	changes   *change.Service
	monitor   *rollout.Monitor
	tails     *event.Tails
	rollouts  *rollout.Engine
	rules     *rule.Engine
	alerts    *alert.Service
	courier   *alert.Courier
	secrets   string // directory of notifiers' secrets
}

// auditStore fails when told to.
type auditStore struct {
	*store.Store

	mute *atomic.Bool
}

func (s auditStore) AppendAudit(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	if s.mute.Load() {
		return audit.Entry{}, errors.New("the disk is full")
	}
	return s.Store.AppendAudit(ctx, e)
}

// engineSearch counts with a fixed width, which the server chooses by range.
type engineSearch struct{ *search.Engine }

func (e engineSearch) Queries(ctx context.Context, f event.Filter, _ int) ([]event.Summary, []event.Bucket, error) {
	return e.Engine.Queries(ctx, f, time.Hour)
}

func newWorld(t *testing.T, change ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, log: slog.New(slog.DiscardHandler), store: storetest.New(t), mute: new(atomic.Bool), tails: event.NewTails(), http: &http.Client{Timeout: time.Minute}, require: account.NoFactor, clock: time.Now}
	for _, f := range change {
		f(w)
	}
	log := w.log
	keyer := node.NewKeyer([]byte(strings.Repeat("k", 32)))
	w.registry = node.NewRegistry(w.store, keyer, log, time.Now)
	w.live = live.NewCoordinator(w.store, log, time.Now)
	w.enroller = node.NewEnroller(node.EnrollerOptions{Store: w.store, Registry: w.registry, Keyer: keyer, Now: time.Now})
	var err error
	if w.engine, err = search.Open(search.Options{Dir: t.TempDir(), Log: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.engine.Close() })
	trail := audit.NewLog(auditStore{w.store, w.mute}, time.Now)
	w.resources(trail, log)
	w.carving(trail, keyer, log)
	w.redactions = redact.NewCounts(time.Now)
	w.redactor = redact.New(redact.Options{Hash: func(s string) [32]byte { return keyer.Hash(node.PurposeRedaction, s) }, Counts: w.redactions})
	w.rules = rule.NewEngine(rule.Options{
		Catalog: w.publisher.Catalog(), Registry: w.registry, Tags: w.store, Store: w.store, Policy: shippedPolicy(), Log: log, Now: time.Now,
	})
	w.alerting(log)
	w.sinking(log)
	passkeys, err := account.NewPasskeys(site, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.New(w.store, w.publisher.Catalog(), keyer, passkeys, w.require, time.Now)
	if w.signOn == nil {
		if w.signOn, err = signon.New(signon.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	w.health = w.watching()
	w.api = adminapi.New(adminapi.Options{
		Accounts: accounts, Setup: account.NewSetup(accounts, trail, setupToken, func() error { w.voided++; return nil }),
		Keyer: keyer, Registry: w.registry, Nodes: w.store, Secrets: w.store, Live: w.live, LiveList: w.store, Results: w.store, Saved: w.store, Once: w.store, CallsPerMinute: w.calls,
		Search: engineSearch{w.engine}, Tails: w.tails, Catalog: w.publisher.Catalog(), Audit: trail, AuditLog: w.store, Notary: newNotary(t, w), Metrics: prometheus.NewRegistry(),
		Requests: func() int64 { return 7 }, Ready: func(context.Context) error { return nil }, Backup: func(context.Context, io.Writer) error { return nil }, SignOn: w.signOn, Diagnose: func(context.Context) []doctor.Check { return w.checks },
		UI: http.NotFoundHandler(), AgentURL: "localhost:8443", Version: "test",
		Stopping: make(chan struct{}), Log: log, Now: w.clock,
		Carves: w.carves, CarveList: w.store, Vault: w.vault, Sinks: w.sinks, Redactor: w.redactor, Redactions: w.redactions,
		Changes: w.changes, ChangeStore: w.store, Publisher: w.publisher, Freezer: w.freezer, Rollouts: w.rollouts,
		Rules:  w.rules,
		Health: w.health, Findings: w.store, TriggerStore: w.store, Triggers: trigger.NewService(trigger.Options{
			Store: w.store, Finder: w.store, Registry: w.registry, Live: w.live, Catalog: w.publisher.Catalog(), Policy: shippedPolicy(),
			Audit: trail, Log: log, Now: time.Now,
		}),
		Alerts: w.alerts, Courier: w.courier, AlertStore: w.store,
		Evidence: w.monitor, Policy: shippedPolicy(),
		Links: w.store, PublicURL: "https://muster.example.com/", Kept: []transparency.KeptFor{{What: "What the schedule finds", Seconds: 90 * 24 * 3600}, {What: "Alerts"}},
	})
	s := httptest.NewServer(w.api)
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

// shippedPolicy is made once: it takes some tens of milliseconds.
var shippedPolicy = sync.OnceValue(func() *policy.Engine {
	e, err := policy.New(policy.Rules{})
	if err != nil {
		panic(err) //nolint:forbidigo // there is no test to fail
	}
	return e
})

// afterBegin leaves out the entry of the first revision, so that the tests of
// the log begin with an empty one.
type afterBegin struct{ *audit.Log }

func (l afterBegin) Record(ctx context.Context, actor, action, target string, detail any) error {
	if action == "revision.begin" {
		return nil
	}
	return l.Log.Record(ctx, actor, action, target, detail)
}

// resources makes what decides about what agents run.
func (w *world) resources(trail *audit.Log, log *slog.Logger) {
	w.t.Helper()
	first, err := resource.Defaults()
	if err != nil {
		w.t.Fatal(err)
	}
	w.freezer = change.NewFreezer(w.store, trail, nil, time.Now)
	if w.publisher, err = change.NewPublisher(w.t.Context(), change.PublisherOptions{
		Store: w.store, Freezer: w.freezer, Audit: afterBegin{trail}, Log: log, Now: time.Now,
	}, first); err != nil {
		w.t.Fatal(err)
	}
	w.monitor = rollout.NewMonitor(w.store, log, time.Now)
	w.changes = change.NewService(change.Options{
		Store: w.store, Engine: shippedPolicy(), Nodes: w.registry, Pricer: w.monitor, Freezer: w.freezer, Publisher: w.publisher, Audit: trail, Now: time.Now,
		People: func(ctx context.Context) (int, error) { users, err := w.store.Users(ctx); return len(users), err },
	})
	w.rollouts = rollout.NewEngine(rollout.Options{
		Store: w.store, Fleet: w.registry, Catalog: w.publisher.Catalog(), Monitor: w.monitor, Audit: trail, Freezer: w.freezer, Reverter: w.changes, Log: log, Now: time.Now,
	})
}

// setUp makes the administrator and logs the client in.
func (w *world) setUp() {
	w.t.Helper()
	var s adminapi.Session
	in := adminapi.SetupInput{Token: setupToken, Username: "admin", Password: password, Kind: "bearer"}
	if err := adminapi.NewClient(w.url, "", w.http).Call(w.t.Context(), "POST", "/setup", nil, in, &s); err != nil {
		w.t.Fatal(err)
	}
	w.client = adminapi.NewClient(w.url, s.Token, w.http)
}

func (w *world) call(method, path string, query url.Values, in, out any) error {
	w.t.Helper()
	return w.client.Call(w.t.Context(), method, path, query, in, out)
}

// enrol makes a node.
func (w *world) enrol(identifier string) node.Node {
	w.t.Helper()
	_, n := w.enrolFrom("192.0.2.7", w.secret(identifier), identifier)
	return n
}

// enrolFrom enrols a node, maybe again, and returns its new key.
func (w *world) enrolFrom(address, secret, identifier string) (key string, n node.Node) {
	w.t.Helper()
	key, n, err := w.tryEnrol(address, secret, identifier)
	if err != nil {
		w.t.Fatal(err)
	}
	return key, n
}

func (w *world) tryEnrol(address, secret, identifier string) (key string, n node.Node, err error) {
	w.t.Helper()
	return w.enroller.Enrol(w.t.Context(), osquery.EnrollRequest{
		EnrollSecret: secret, HostIdentifier: identifier,
		HostDetails: map[string]map[string]string{"system_info": {"hostname": identifier + ".example.com"}},
	}, netip.MustParseAddr(address), node.Certificate{})
}

// audited returns the audit log, newest first.
func (w *world) audited() []adminapi.AuditEntry {
	w.t.Helper()
	var page adminapi.AuditPage
	if err := w.call("GET", "/audit", nil, nil, &page); err != nil {
		w.t.Fatal(err)
	}
	return page.Entries
}

func (w *world) secret(name string) string {
	w.t.Helper()
	var s adminapi.NewSecret
	if err := w.call("POST", "/secrets", nil, adminapi.SecretInput{Name: name, Tags: []string{"web"}}, &s); err != nil {
		w.t.Fatal(err)
	}
	return s.Value
}

// TestRoutes walks the route table: without a session nothing but the public
// routes answers, and every route declares a permission that exists.
func TestRoutes(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	public := map[string]bool{
		"GET /api/v1/setup": true, "POST /api/v1/setup": true, "POST /api/v1/session": true, "POST /api/v1/session/passkey": true, "POST /api/v1/invitations/look": true, "POST /api/v1/invitations/accept": true,
		"GET /api/v1/sign-on": true, "GET /api/v1/sign-on/{name}": true, "GET /api/v1/sign-on/{name}/callback": true,
		"POST /api/v1/hooks/{name}": true, // which has tokens of its own
		"POST /file_request":        true, // which asks Vault
		"GET /transparency/{token}": true, // which is for who has a link
		"GET /healthz":              true, "GET /readyz": true,
	}
	known := map[account.Permission]bool{account.Public: true, account.Self: true}
	for _, p := range account.Permissions() {
		known[p] = true
	}
	if len(w.api.Routes()) < 35 {
		t.Errorf("only %d routes", len(w.api.Routes()))
	}
	for _, r := range w.api.Routes() {
		name := r.Method + " " + r.Path
		if !known[r.Permission] {
			t.Errorf("%s needs %q, which is no permission", name, r.Permission)
		}
		if (r.Permission == account.Public) != public[name] {
			t.Errorf("%s needs %q; this test lists the public routes", name, r.Permission)
		}
		if r.Permission == account.Public {
			continue
		}
		// Counting what a selector means takes a body; it changes nothing. So do a long search, and
		// trying what is redacted, or what a rule means.
		asks := []string{"POST /api/v1/live/preview", "POST /api/v1/carves/check", "POST /api/v1/events/search", "POST /api/v1/redactions/test", "POST /api/v1/rules/test"}
		if r.Method != http.MethodGet && strings.HasSuffix(string(r.Permission), ".read") && !slices.Contains(asks, name) {
			t.Errorf("%s needs %q only, though it changes something", name, r.Permission)
		}
		path := strings.NewReplacer("{id}", "x", "{name}", "x", "{profile}", "heap").Replace(r.Path)
		for what, header := range map[string]string{"nothing": "", "a wrong token": "Bearer muster_wrong", "a wrong scheme": "Basic eDp5"} {
			req, err := http.NewRequestWithContext(t.Context(), r.Method, w.url+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			answer, err := w.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized || answer.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s with %s: %d %s", name, what, answer.StatusCode, b)
			}
		}
	}
}

// TestOpenAPI checks that the description covers the route table.
func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var s adminapi.Session
	if err := w.call("POST", "/session", nil, adminapi.LoginInput{Username: "admin", Password: password, Kind: "bearer"}, &s); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/api/openapi.json", nil)
	req.Header.Set("Authorization", "Bearer "+s.Token)
	answer, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var doc struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]map[string]any `json:"paths"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	for _, r := range w.api.Routes() {
		if strings.HasPrefix(r.Path, "/api/v1") && r.Path != "/api/v1/ca.pem" && doc.Paths[r.Path][strings.ToLower(r.Method)] == nil {
			t.Errorf("%s %s is not described", r.Method, r.Path)
		}
	}
}

func TestSetup(t *testing.T) {
	w := newWorld(t)
	anonymous := adminapi.NewClient(w.url, "", w.http)
	set := func(in adminapi.SetupInput) error {
		return anonymous.Call(t.Context(), "POST", "/setup", nil, in, nil)
	}
	for name, c := range map[string]struct {
		in     adminapi.SetupInput
		status int
	}{
		"wrong token":    {adminapi.SetupInput{Token: "guess", Username: "admin", Password: password}, 403},
		"short password": {adminapi.SetupInput{Token: setupToken, Username: "admin", Password: "short"}, 400},
		"odd name":       {adminapi.SetupInput{Token: setupToken, Username: "<b>", Password: password}, 400},
		"unknown kind":   {adminapi.SetupInput{Token: setupToken, Username: "admin", Password: password, Kind: "else"}, 422},
	} {
		if err := set(c.in); adminapi.Status(err) != c.status {
			t.Errorf("%s: %v; want status %d", name, err, c.status)
		}
	}
	var state adminapi.SetupState
	if err := anonymous.Call(t.Context(), "GET", "/setup", nil, nil, &state); err != nil || !state.Needed {
		t.Errorf("setup is needed: %v %v", state, err)
	}
	w.setUp()
	if w.voided != 1 {
		t.Errorf("the token was voided %d times", w.voided)
	}
	if err := set(adminapi.SetupInput{Token: setupToken, Username: "second", Password: password}); adminapi.Status(err) != 409 {
		t.Errorf("the token worked twice: %v", err)
	}
	var page adminapi.AuditPage
	if err := w.call("GET", "/audit", nil, nil, &page); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range page.Entries {
		actions = append(actions, e.Actor+" "+e.Action+" "+e.Target)
	}
	if diff := cmp.Diff([]string{"admin session.open admin", "setup user.create admin", "setup user.create admin"}, actions); diff != "" {
		t.Error(diff)
	}
}

// TestCookie checks the browser's way in: attributes of the cookie, and that
// other sites cannot use it.
func TestCookie(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	post := func(path, body string, headers ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		answer, err := w.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	wrong := post("/api/v1/session", `{"username":"admin","password":"wrong wrong wrong"}`)
	if wrong.StatusCode != 401 || len(wrong.Cookies()) != 0 {
		t.Errorf("wrong password: %d %v", wrong.StatusCode, wrong.Cookies())
	}
	login := post("/api/v1/session", `{"username":"admin","password":"`+password+`"}`)
	if login.StatusCode != 200 || len(login.Cookies()) != 1 {
		t.Fatalf("login: %d %v", login.StatusCode, login.Cookies())
	}
	c := login.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.Expires.IsZero() {
		t.Errorf("cookie %+v", c)
	}
	var body map[string]any
	if err := json.NewDecoder(login.Body).Decode(&body); err != nil || body["token"] != nil {
		t.Errorf("a cookie session shows a token: %v %v", body, err)
	}
	cookie := c.Name + "=" + c.Value
	if own := post("/api/v1/live/preview", `{"selector":{"all":true}}`, "Cookie", cookie, "Sec-Fetch-Site", "same-origin"); own.StatusCode != 200 {
		t.Errorf("own page: %d", own.StatusCode)
	}
	for name, headers := range map[string][]string{
		"cross-site":   {"Sec-Fetch-Site", "cross-site"},
		"other origin": {"Origin", "https://evil.example"},
	} {
		if other := post("/api/v1/live/preview", `{"selector":{"all":true}}`, append(headers, "Cookie", cookie)...); other.StatusCode != 403 {
			t.Errorf("%s: %d", name, other.StatusCode)
		}
	}
	if asBearer := post("/api/v1/live/preview", `{"selector":{"all":true}}`, "Authorization", "Bearer "+c.Value); asBearer.StatusCode != 401 {
		t.Errorf("a cookie as bearer token: %d", asBearer.StatusCode)
	}
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var s adminapi.Session
	if err := w.call("GET", "/session", nil, nil, &s); err != nil || s.Username != "admin" || len(s.Permissions) == 0 || s.Token != "" {
		t.Errorf("%+v %v", s, err)
	}
	if err := w.call("DELETE", "/session", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("GET", "/session", nil, nil, nil); adminapi.Status(err) != 401 {
		t.Errorf("after logging out: %v", err)
	}
}

func TestNodes(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	w.enrol("h2")
	var page adminapi.NodePage
	if err := w.call("GET", "/nodes", url.Values{"limit": {"1"}, "sort": {"hostname"}, "order": {"desc"}}, nil, &page); err != nil {
		t.Fatal(err)
	}
	if page.Total != 2 || len(page.Nodes) != 1 || page.Nodes[0].Hostname != "h2.example.com" || page.NextCursor == "" {
		t.Errorf("%+v", page)
	}
	got := page.Nodes[0]
	if got.Status != "online" || got.Address != "192.0.2.7" || got.EnrollSecret != "h2" || !cmp.Equal(got.Tags, []string{"web"}) {
		t.Errorf("%+v", got)
	}
	var tagged adminapi.Node
	if err := w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"db", "web", "db"}}, &tagged); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"db", "web"}, tagged.Tags); diff != "" {
		t.Error(diff)
	}
	for what, err := range map[string]error{
		"odd tag":      w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"No Tag"}}, nil),
		"odd sort":     w.call("GET", "/nodes", url.Values{"sort": {"secret"}}, nil, nil),
		"odd cursor":   w.call("GET", "/nodes", url.Values{"cursor": {"%%%"}}, nil, nil),
		"unknown key":  w.call("GET", "/nodes", url.Values{"filter": {"x"}}, nil, nil),
		"large limit":  w.call("GET", "/nodes", url.Values{"limit": {"100000"}}, nil, nil),
		"unknown body": w.call("PUT", "/nodes/"+n.ID+"/tags", nil, map[string]any{"tagz": []string{}}, nil),
	} {
		if s := adminapi.Status(err); s != 400 && s != 422 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.call("DELETE", "/nodes/"+n.ID, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("GET", "/nodes/h1", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("a deleted node: %v", err)
	}
	var gone adminapi.NodeDetail
	if err := w.call("GET", "/nodes/"+n.ID, nil, nil, &gone); err != nil || gone.Status != "gone" || gone.GoneAt == nil || gone.Details == nil || gone.Attributes == nil {
		t.Errorf("what was a node: %+v %v", gone, err)
	}
	for what, err := range map[string]error{
		"tagging":    w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"x"}}, nil),
		"quarantine": w.call("POST", "/nodes/"+n.ID+"/quarantine", nil, adminapi.QuarantineInput{Reason: "x"}, nil),
		"release":    w.call("DELETE", "/nodes/"+n.ID+"/quarantine", nil, nil, nil),
		"revoking":   w.call("POST", "/nodes/"+n.ID+"/revoke", nil, nil, nil),
		"deleting":   w.call("DELETE", "/nodes/"+n.ID, nil, nil, nil),
	} {
		if adminapi.Status(err) != 404 {
			t.Errorf("%s what was a node: %v", what, err)
		}
	}
	if w.registry.Lookup(n.ID) != nil {
		t.Error("the deleted node's key still works")
	}
}

func TestSecrets(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	value := w.secret("servers")
	if len(value) < 40 {
		t.Errorf("the secret %q is short", value)
	}
	if err := w.call("POST", "/secrets", nil, adminapi.SecretInput{Name: "servers"}, nil); adminapi.Status(err) != 409 {
		t.Errorf("the same name twice: %v", err)
	}
	past := time.Now().Add(-time.Hour)
	if err := w.call("POST", "/secrets", nil, adminapi.SecretInput{Name: "old", ExpiresAt: &past}, nil); adminapi.Status(err) != 400 {
		t.Errorf("expiry in the past: %v", err)
	}
	if err := w.call("DELETE", "/secrets/servers", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("DELETE", "/secrets/unknown", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("revoking what is not there: %v", err)
	}
	var list adminapi.SecretList
	if err := w.call("GET", "/secrets", nil, nil, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Secrets) != 1 || list.Secrets[0].RevokedAt == nil {
		t.Errorf("%+v", list)
	}
	if _, _, err := w.tryEnrol("192.0.2.7", value, "h"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a revoked secret: %v", err)
	}
}

// TestLive follows a live query from its start to its end.
func TestLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b := w.enrol("h1"), w.enrol("h2")
	for what, in := range map[string]adminapi.LiveInput{
		"no target":    {SQL: "SELECT 1"},
		"unknown node": {SQL: "SELECT 1", Selector: adminapi.Selector{Nodes: []string{"h1", "nobody"}}},
		"no SELECT":    {SQL: "DELETE FROM x", Selector: adminapi.Selector{All: true}},
		"two":          {SQL: "SELECT 1; SELECT 2", Selector: adminapi.Selector{All: true}},
	} {
		if err := w.call("POST", "/live", nil, in, nil); adminapi.Status(err) != 400 {
			t.Errorf("%s: %v", what, err)
		}
	}
	var preview adminapi.LivePreview
	if err := w.call("POST", "/live/preview", nil, adminapi.PreviewInput{Selector: adminapi.Selector{Tags: []string{"web"}}}, &preview); err != nil || preview.Matching != 2 || preview.Online != 2 {
		t.Errorf("%+v %v", preview, err)
	}
	var q adminapi.Live
	if err := w.call("POST", "/live", nil, adminapi.LiveInput{SQL: "SELECT minutes AS b, hour AS a FROM time", Selector: adminapi.Selector{All: true}}, &q); err != nil {
		t.Fatal(err)
	}
	if q.State != "running" || q.Nodes != 2 || q.Counts["waiting"] != 2 {
		t.Errorf("%+v", q)
	}
	w.live.Take(a.ID)
	answered := make(chan error, 1)
	followed := make(chan []string, 1)
	go func() {
		var seen []string
		err := w.client.Follow(t.Context(), q.ID, func(u adminapi.LiveUpdate) error {
			if u.Answer != nil {
				b, _ := json.Marshal(u.Answer.Rows)
				seen = append(seen, u.Answer.HostIdentifier+" "+u.Answer.State+" "+string(b)+u.Answer.Message)
			} else {
				seen = append(seen, u.Live.State)
			}
			if len(seen) == 1 { // the stream is open: now answer
				answered <- w.answer(q.ID, a.ID, b.ID)
			}
			return nil
		})
		if err != nil {
			seen = append(seen, err.Error())
		}
		followed <- seen
	}()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	seen := strings.Join(<-followed, "\n")
	for _, want := range []string{`h1 answered [{"b":"2","a":"1"}]`, `h2 failed []no such table: t`, "done"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the stream lacks %q:\n%s", want, seen)
		}
	}
	if err := w.call("GET", "/live/"+q.ID, nil, nil, &q); err != nil || q.State != "done" || q.Counts["answered"] != 1 || q.Counts["failed"] != 1 || q.Rows != 1 {
		t.Errorf("%+v %v", q, err)
	}
	var answers adminapi.LiveAnswers
	if err := w.call("GET", "/live/"+q.ID+"/answers", url.Values{"state": {"failed"}}, nil, &answers); err != nil || len(answers.Answers) != 1 {
		t.Errorf("%+v %v", answers, err)
	}
	if err := w.call("GET", "/live/nothing", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("a query that is not there: %v", err)
	}
}

// answer answers for both nodes: one with a row, one with an error.
func (w *world) answer(id, a, b string) error {
	row, err := osquery.Row{{Name: "b", Value: "2"}, {Name: "a", Value: "1"}}.MarshalJSON()
	if err != nil {
		return err
	}
	return errors.Join(
		w.live.Accept(w.t.Context(), []live.Answer{{LiveID: id, NodeID: a, State: live.Answered, ReceivedAt: time.Now(), Rows: []json.RawMessage{row}}}),
		w.live.Accept(w.t.Context(), []live.Answer{{LiveID: id, NodeID: b, State: live.Failed, Message: "no such table: t", ReceivedAt: time.Now()}}),
	)
}

func TestStopLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	var q adminapi.Live
	if err := w.call("POST", "/live", nil, adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{Nodes: []string{"h1.example.com"}}}, &q); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/live/"+q.ID+"/stop", nil, nil, &q); err != nil || q.State != "stopped" || q.Counts["stopped"] != 1 {
		t.Errorf("%+v %v", q, err)
	}
	if tasks := w.live.Take(n.ID); len(tasks) != 0 {
		t.Errorf("delivered after the stop: %v", tasks)
	}
}
