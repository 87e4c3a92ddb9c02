// Package adminapi is the REST API for people and programs, and its Go client.
// OpenAPI comes from the code. Every operation declares its permission where
// it is registered, and one middleware checks it; Routes lists them all.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/doctor"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/signon"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/transparency"
	"github.com/musterhq/muster/internal/trigger"
)

// NodeStore keeps nodes.
type NodeStore interface {
	NodeReader
	NodeWriter
}

// NodeReader finds nodes, and what they were.
type NodeReader interface {
	Nodes(ctx context.Context, f node.Filter) (node.Page, error)
	// FindNode returns a node with its attributes and details by its id, host
	// identifier or hostname; NotFound without one, Conflict if several have
	// that hostname.
	FindNode(ctx context.Context, name string) (node.Node, error)
	// NodeFacets counts the nodes with these ids; all for nil.
	NodeFacets(ctx context.Context, nodes []string, now time.Time) (node.Facets, error)
	// NodeHistory returns what a node's attributes were, also of one that is
	// gone.
	NodeHistory(ctx context.Context, id string) ([]node.Sighting, error)
	// TagHistory returns what gives and gave a node its tags, also of one that is
	// gone.
	TagHistory(ctx context.Context, id string) ([]node.TagSpan, error)
	// Who returns the nodes that had a value of an attribute at a time.
	Who(ctx context.Context, w node.Who) ([]node.Sighting, error)
}

// NodeWriter changes nodes. What it returns has no details.
type NodeWriter interface {
	// SetNodeTags sets a node's tags by hand; what rules and queries give stays.
	SetNodeTags(ctx context.Context, id string, tags []string) (node.Node, error)
	// SetQuarantine puts a node under quarantine; the zero time releases it.
	SetQuarantine(ctx context.Context, id, reason string, at time.Time) (node.Node, error)
	// RevokeNode takes a node's keys away. The node stays, and may enrol again.
	RevokeNode(ctx context.Context, id string) error
	// DeleteNode removes a node; its key is refused from then on.
	DeleteNode(ctx context.Context, id string) error
	// ImportNodes keeps up to 1,000 nodes with keys that they have already, and
	// says of each, in order, what became of it.
	ImportNodes(ctx context.Context, nodes []node.Import) ([]node.Imported, error)
}

// SecretStore keeps enroll secrets.
type SecretStore interface {
	CreateSecret(ctx context.Context, s node.Secret, hash node.KeyHash) error
	Secrets(ctx context.Context) ([]node.Secret, error)
	// RotateSecret gives a secret the value with that hash. The value before
	// works until then too; the zero time ends it at once.
	RotateSecret(ctx context.Context, name string, hash node.KeyHash, oldUntil time.Time) (node.Secret, error)
	RevokeSecret(ctx context.Context, name string, now time.Time) error
}

// LiveStore reads what the coordinator keeps.
type LiveStore interface {
	Live(ctx context.Context, id string) (live.Query, error)
	LiveList(ctx context.Context, f live.Filter) (queries []live.Query, next string, err error)
	// LiveOf returns the live queries that a node was meant by, the newest first.
	LiveOf(ctx context.Context, nodeID string, limit int) ([]live.Asked, error)
	LiveAnswers(ctx context.Context, id string, f live.AnswerFilter) (targets []live.Target, next string, err error)
	// LiveLatency returns when the first answer came, and by when half of them and
	// 95 of 100 had; zero times without one.
	LiveLatency(ctx context.Context, id string) (first, p50, p95 time.Time, err error)
}

// ChangeStore reads changes and revisions.
type ChangeStore interface {
	change.Changes
	change.Revisions
	change.ServedStore
	Rollouts(ctx context.Context, before int64, limit int) ([]rollout.Rollout, error)
}

// Evidence is what nodes told of themselves; see rollout.Monitor.
type Evidence interface {
	// Evidence returns what a node showed since the server started.
	Evidence(nodeID string) rollout.Evidence
	// Cost returns what a run of a query costs, by its name on agents and the hash
	// of its text; false without evidence.
	Cost(agentName, sqlHash string) (rollout.Cost, bool)
}

// Search finds events. What was acknowledged to an agent before a call is
// found by it.
type Search interface {
	Search(ctx context.Context, f event.Filter) (event.Page, error)
	Count(ctx context.Context, c event.Counting) (event.Groups, error)
	// State returns what nodes' last results of a query are, after a node.
	State(ctx context.Context, f event.Filter, after string) (event.State, error)
	// Queries counts events per query, and over time in about that many
	// buckets.
	Queries(ctx context.Context, f event.Filter, buckets int) ([]event.Summary, []event.Bucket, error)
	Stats() event.Stats
	QueryStats() []event.QueryStats
}

// Options of an API. All are required.
type Options struct {
	Accounts *account.Accounts
	Setup    *account.Setup
	Keyer    node.Keyer
	Registry *node.Registry
	Nodes    NodeStore
	Secrets  SecretStore
	Live     *live.Coordinator
	LiveList LiveStore
	Results  ResultStore
	Saved    SavedStore
	Search   Search
	Tails    *event.Tails
	Catalog  *resource.Catalog

	Triggers     *trigger.Service
	TriggerStore TriggerStore
	Rules        *rule.Engine

	Health   NodeHealth
	Findings FindingStore

	Alerts     *alert.Service
	Courier    *alert.Courier
	AlertStore AlertStore

	Changes     *change.Service
	ChangeStore ChangeStore
	Publisher   *change.Publisher
	Freezer     *change.Freezer
	Rollouts    *rollout.Engine
	Evidence    Evidence
	Policy      *policy.Engine
	Redactor    *redact.Redactor
	Redactions  *redact.Counts
	Carves      *carve.Service
	Sinks       *sink.Manager
	CarveList   CarveStore
	Vault       Vault // nil without one
	Once        OnceStore
	SignOn      *signon.Service
	Audit       *audit.Log
	AuditLog    AuditStore
	Links       LinkStore
	Kept        []transparency.KeptFor // how long what nodes send and are asked is kept
	PublicURL   string                 // under which people reach the server; "" if that is not known
	Notary      AuditNotary
	Metrics     prometheus.Gatherer
	Requests    func() int64 // agents' requests so far
	Diagnose    func(ctx context.Context) []doctor.Check
	// Backup writes all that the server needs to go on; see app.Backup.
	Backup   func(ctx context.Context, w io.Writer) error
	Ready    func(ctx context.Context) error
	UI       http.Handler
	Secure   bool // people reach the API over TLS
	AgentURL string
	CA       []byte // PEM that agents pin
	Version  string
	// CallsPerMinute bounds the calls of one caller; DefaultCallsPerMinute if it is 0.
	CallsPerMinute int
	Stopping       <-chan struct{} // closed when the server stops: streams end
	Log            *slog.Logger
	Now            func() time.Time
}

// API is the handler of the admin listener.
type API struct {
	Options

	huma    huma.API
	routes  []Route
	mux     *http.ServeMux
	handler http.Handler
	calls   *callLimits
	edits   editLocks
	started time.Time
	large   largeTurns
	hooks   hookLimits
	results results
	tiers   queryTiers
	pages   *pages

	ruleTests chan struct{} // taken while a rule is tested
}

// Route is one line of the route table.
type Route struct {
	Method     string
	Path       string
	Permission account.Permission
	Scoped     bool // its answer is about the nodes that the caller's roles mean
}

// Limits of what people send.
const (
	maxBody      = 1 << 20
	maxLargeBody = 10 << 20 // a fleet's whole set of resources
)

// New returns the admin API with the UI at /.
func New(o Options) *API {
	a := &API{
		Options: o, started: o.Now(), large: newLargeTurns(), hooks: newHookLimits(o.Now), results: newResults(o.Results),
		ruleTests: make(chan struct{}, testAtOnce), pages: newPages(o),
	}
	mux := http.NewServeMux()
	a.mux, a.calls = mux, newCallLimits(o.CallsPerMinute, o.Now)
	config := huma.DefaultConfig("Muster", APIVersion)
	config.CreateHooks = nil // no links to schemas in every answer
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer"},
		"cookie": {Type: "apiKey", In: "cookie", Name: a.cookieName()},
	}
	a.huma = humago.New(mux, config)
	aliases(a.huma.OpenAPI().Components.Schemas)
	a.huma.UseMiddleware(a.permit)
	a.registerSession()
	a.registerNodes()
	a.registerTransparency(mux)
	a.registerImport()
	a.registerSecrets()
	a.registerLive()
	a.registerTriggers(mux)
	a.registerRules()
	a.registerCarves()
	a.registerAlerts()
	a.registerSinks()
	a.registerLivePreview()
	a.registerLiveResults()
	a.registerSavedQueries()
	a.registerEvents()
	a.registerRedactions()
	a.registerChanges()
	a.registerRollouts()
	a.registerFreeze()
	a.registerPolicy()
	a.registerUsers()
	a.registerInvitations()
	a.registerRoles()
	a.registerTokens()
	a.registerFactors()
	a.registerPasskeys()
	a.registerSignOn(mux)
	a.registerSystem()
	a.registerHealth()
	a.registerAudit()
	a.plain(mux, "POST /file_request", account.Public, a.fileRequest)
	a.plain(mux, "GET /healthz", account.Public, a.healthz)
	a.plain(mux, "GET /readyz", account.Public, a.readyz)
	a.plain(mux, "GET /metrics", account.SystemRead, a.metrics)
	a.plain(mux, "GET "+BackupPath, account.SystemBackup, a.backup)
	a.describe(BackupPath, "Make a backup, and read it: a tar, compressed with zstd", "200", "The backup; it is whole if its manifest is at its end", "application/zstd", nil)
	a.plain(mux, "GET /debug/pprof/{profile}", account.SystemRead, a.profile)
	a.plain(mux, "GET /api/openapi.json", account.Self, a.openapi)
	a.plain(mux, "GET /api/v1/ca.pem", account.Self, a.caFile)
	a.describe("/api/v1/ca.pem", "The CA that agents pin", "200", "Certificates in PEM", "application/x-pem-file", nil)
	a.complete()
	mux.Handle("/api/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, errs.New(errs.NotFound, "no such path in the API; see /api/openapi.json"))
	}))
	mux.Handle("/", o.UI) // the UI's files are public; what they show is not
	a.handler = a.record(http.NewCrossOriginProtection().Handler(http.MaxBytesHandler(mux, maxLargeBody)))
	return a
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Routes returns the route table.
func (a *API) Routes() []Route { return slices.Clone(a.routes) }

// routeKey is where an operation's metadata holds its route.
const routeKey = "route"

// base is where the API's operations begin.
const base = "/api/v1"

// register adds an operation: how it is called, what it needs, what it does.
func register[I, O any](a *API, permission account.Permission, method, path, summary string, handle func(context.Context, *I) (*O, error)) {
	registerLimited(a, Route{method, base + path, permission, false}, summary, maxBody, handle)
}

// registerLarge is register for an operation that takes whole sets of files.
func registerLarge[I, O any](a *API, permission account.Permission, method, path, summary string, handle func(context.Context, *I) (*O, error)) {
	registerLimited(a, Route{method, base + path, permission, false}, summary, maxLargeBody, handle)
}

func registerLimited[I, O any](a *API, r Route, summary string, limit int64, handle func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: operationID(r.Method, r.Path), Method: r.Method, Path: r.Path, Summary: summary,
		Metadata: map[string]any{routeKey: r}, MaxBodyBytes: limit,
		Description:                  r.needs(),
		RejectUnknownQueryParameters: true,
	}
	a.routes = append(a.routes, r)
	if r.doneOnce() {
		handle = once(a, r, handle)
	}
	if r.tagged() {
		handle = withTag(handle)
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.humaError(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

// needs says what a caller needs.
func (r Route) needs() string {
	if r.Scoped {
		return "Needs the permission " + string(r.Permission) + " for the nodes that it is about; others are left out."
	}
	return "Needs the permission " + string(r.Permission) + "."
}

// operationID makes get-nodes-id of GET /api/v1/nodes/{id}.
func operationID(method, path string) string {
	words := strings.FieldsFunc(strings.TrimPrefix(path, base), func(r rune) bool { return strings.ContainsRune("/{}", r) })
	return strings.ToLower(method) + "-" + strings.Join(words, "-")
}

// plain adds a route that has no JSON document.
func (a *API) plain(mux *http.ServeMux, pattern string, permission account.Permission, handle func(http.ResponseWriter, *http.Request) error) {
	method, path, _ := strings.Cut(pattern, " ")
	route := Route{method, path, permission, false}
	a.routes = append(a.routes, route)
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if permission != account.Public {
			ctx, err := a.authorize(r, route)
			if err == nil {
				err = a.calls.take(w.Header(), session(ctx))
			}
			if err != nil {
				problem(w, err)
				return
			}
			r = r.WithContext(ctx)
		}
		if err := handle(w, r); err != nil {
			a.report(r.Context(), pattern, err)
			problem(w, err)
		}
	})
}

// describe adds a plain GET to the description of the API.
func (a *API) describe(path, summary, status, answer, content string, parameters []*huma.Param) {
	r := &huma.Response{Description: answer}
	if content != "" {
		r.Content = map[string]*huma.MediaType{content: {}}
	}
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: operationID(http.MethodGet, path), Method: http.MethodGet, Path: path, Summary: summary,
		Parameters: parameters, Responses: map[string]*huma.Response{status: r},
	})
}

// sessionKey is where a request's context holds its session.
type sessionKey struct{}

// session returns who calls. Only operations that are not public have one.
func session(ctx context.Context) account.Session {
	s, _ := ctx.Value(sessionKey{}).(account.Session)
	return s
}

// permit is the one place where an operation's permission is checked. An
// operation that declares none is refused.
func (a *API) permit(ctx huma.Context, next func(huma.Context)) {
	route, declared := ctx.Operation().Metadata[routeKey].(Route)
	if declared && route.Permission == account.Public {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	c, err := a.authorize(r, route)
	if err == nil {
		err = a.calls.take(w.Header(), session(c))
	}
	if err != nil {
		problem(w, err)
		return
	}
	c = context.WithValue(c, headersKey{}, headers{r.Header, w.Header()})
	a.matched(huma.WithContext(ctx, c), r, w, route, next)
}

// authorize returns a request's context with its session, if that has the
// permission that the route needs.
func (a *API) authorize(r *http.Request, route Route) (context.Context, error) {
	if route.Permission == account.CarveDownload {
		if ctx, ok, err := a.byVault(r); ok {
			return ctx, err
		}
	}
	kind, secret := account.Cookie, ""
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		kind, secret = account.Bearer, token
	} else if c, err := r.Cookie(a.cookieName()); err == nil {
		secret = c.Value
	}
	s, err := a.Accounts.Session(r.Context(), kind, secret)
	ctx := withSession(r.Context(), s)
	if err != nil {
		if s.ID != "" { // a token that somebody has where it should not be
			a.refused(ctx, s.UserName, string(route.Permission), r.Method+" "+r.URL.Path, err)
		}
		return nil, err
	}
	if err := permitted(s, route); err != nil {
		a.Log.WarnContext(r.Context(), "permission refused", "user", s.UserName, "permission", string(route.Permission), "path", r.URL.Path)
		a.refused(ctx, s.UserName, string(route.Permission), r.Method+" "+r.URL.Path, err)
		return nil, err
	}
	again := func(ctx context.Context) error {
		now, err := a.Accounts.Session(ctx, kind, secret)
		if err == nil {
			err = permitted(now, route)
		}
		if err == nil && !reflect.DeepEqual(now.Access, s.Access) {
			err = errs.New(errs.Busy, "your roles changed; ask again")
		}
		return err
	}
	return context.WithValue(ctx, againKey{}, again), nil
}

// unproved reports whether a route is for who must show a second factor first: it tells
// who they are, takes the proof, or ends the session.
func (r Route) unproved() bool {
	return r.Path == base+"/session" || strings.HasPrefix(r.Path, base+"/session/prove")
}

// permitted reports why a session may not use a route; nil if it may.
func permitted(s account.Session, r Route) error {
	switch {
	case s.MustProve && !r.unproved():
		return errs.New(errs.Forbidden, "show your second factor first: POST /session/prove, or the login page")
	case s.MustEnrol && !s.May(r.Permission):
		return errs.New(errs.Forbidden, "add an authenticator first: muster user factor add, or the account page")
	case !s.May(r.Permission):
		return errs.New(errs.Forbidden, "this needs the permission %s", r.Permission)
	case !r.Scoped && !s.Everywhere(r.Permission):
		return errs.New(errs.Forbidden, "this reaches every node, and your roles give you %s for some alone", r.Permission)
	}
	return nil
}

// againKey is where a request's context holds how to ask once more.
type againKey struct{}

// stillPermitted reports why an answer that takes long must end: its session
// ended, or its caller lost the permission.
func stillPermitted(ctx context.Context) error {
	again, ok := ctx.Value(againKey{}).(func(context.Context) error)
	if !ok {
		return errs.New(errs.Unauthenticated, "log in first")
	}
	return again(ctx)
}

// cookieName has the prefix that binds a cookie to this very host, where
// browsers allow it: over TLS.
func (a *API) cookieName() string {
	if a.Secure {
		return "__Host-muster"
	}
	return "muster"
}

// humaError makes a problem document of an error.
func (a *API) humaError(ctx context.Context, where string, err error) error {
	if said, ok := errors.AsType[*huma.ErrorModel](err); ok {
		return said
	}
	a.report(ctx, where, err)
	p := problemOf(err)
	if after := retryAfter(err); after != "" {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {after}})
	}
	return p
}

// report logs what the client is not told.
func (a *API) report(ctx context.Context, where string, err error) {
	if errs.Is(err, errs.Internal) && ctx.Err() == nil {
		a.Log.ErrorContext(ctx, "request failed", "operation", where, "error", err)
	}
}

// retryAfter returns the seconds after which to try again; "" if an error does not
// say.
func retryAfter(err error) string {
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.After <= 0 {
		return ""
	}
	return strconv.Itoa(int(math.Ceil(e.After.Seconds())))
}

func problemOf(err error) *huma.ErrorModel {
	status := httpx.Status(err)
	p := &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: httpx.Message(err)}
	var e *errs.Error
	if errors.As(err, &e) && e.Field != "" {
		p.Errors = []*huma.ErrorDetail{{Message: e.Message, Location: e.Field}}
	}
	return p
}

// problem writes a problem document (RFC 9457).
func problem(w http.ResponseWriter, err error) {
	if after := retryAfter(err); after != "" {
		w.Header().Set("Retry-After", after)
	}
	writeProblem(w, problemOf(err))
}

func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// record logs each request once, and sets what every answer needs.
func (a *API) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := a.Now()
		r = withAddress(r)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		if a.Secure {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		if strings.HasPrefix(r.URL.Path, "/api/") {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		}
		recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
		if err := protected(next, recorder, r); err != nil {
			a.report(r.Context(), r.Method+" "+loggedPath(r), err)
			problem(recorder, err)
		}
		a.Log.DebugContext(r.Context(), "admin request", "method", r.Method, "path", loggedPath(r),
			"status", recorder.status, "remote", httpx.Remote(r), "took_ms", a.Now().Sub(started).Milliseconds())
	})
}

// protected makes an error of a panic.
func protected(next http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer httpx.Recover(&err)
	next.ServeHTTP(w, r)
	return nil
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
