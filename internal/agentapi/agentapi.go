// Package agentapi is the API that agents speak: osquery's TLS plugins. An
// agent looks at bodies only, whatever the status: an empty body is success and
// an empty config wipes its schedule. So every answer here is a JSON object,
// every failure holds "error", which makes the agent keep its data and try
// again, and node_invalid, which makes it enrol again, is said of unknown keys
// alone and never because a part of the server failed.
//
// Source: osquery's remote and plugins directories at commit a5b14f63d; the
// tests replay what a real agent sent.
package agentapi

import (
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
)

// Enroller admits agents; see node.Enroller.
type Enroller interface {
	Enrol(ctx context.Context, req osquery.EnrollRequest, from netip.Addr, cert node.Certificate) (key string, n node.Node, err error)
}

// Nodes knows who a key belongs to; see node.Registry.
type Nodes interface {
	Authenticate(key string) *node.Identity
}

// Configs knows what a node is to run; see resource.Catalog.
type Configs interface {
	Config(*node.Identity) *resource.Config
}

// Queries hands out live queries; see live.Coordinator.
type Queries interface {
	Take(nodeID string) []live.Task
	// Limits returns what one node may answer to a query.
	Limits(liveID string) live.Limits
	// Received is told of answers that are on disk.
	Received(answers []live.Answer)
}

// Stream keeps what agents sent. Both methods return when it is on disk.
type Stream interface {
	AppendEvents(ctx context.Context, batch []byte) error
	AppendAnswers(ctx context.Context, answers []byte) error
}

// Peers tells who sent a request; see agentconn.Peers.
type Peers interface {
	Of(r *http.Request) (agentconn.Peer, error)
}

// Metrics counts requests; see Observe's caller.
type Metrics interface {
	// Observe is called once per request, when it was answered. Kind is the
	// error's, or "ok".
	Observe(endpoint, kind string, took time.Duration)
	// Lines counts log lines: kept ones, and ones that were there already.
	Lines(kept, repeated int)
}

// Options of an API. All but the last group are required.
type Options struct {
	Enroller Enroller
	Nodes    Nodes
	Configs  Configs
	Queries  Queries
	Stream   Stream
	Redactor Redactor
	// Lines makes the hashes of log lines keyed, see hideLines; AES.
	Lines   cipher.Block
	Seen    *event.Seen
	Peers   Peers
	Metrics Metrics
	Limits  Limits
	Log     *slog.Logger
	Now     func() time.Time

	// Carves takes archives; nil refuses them.
	Carves  Carves
	Aliases []Alias
	// SecretName is how agents call their enroll secret, if it is not
	// osquery.EnrollSecretName.
	SecretName string
	// Certificate says that agents need one, and how it is bound to a node.
	Certificate CertificatePolicy
}

// CertificatePolicy is what is asked of agents' certificates beyond what TLS
// checks.
type CertificatePolicy struct {
	Required bool // here, because a proxy may tell of it
	Binding  node.CertBinding
}

// API is the handler of the agents' listener.
type API struct {
	Options

	paths    *paths
	routes   map[Endpoint]*route
	bodies   httpx.Bodies
	blocks   httpx.Bodies // of carves, which are nearly all of a size
	decoders event.Decoders

	refusals *rate.Limiter // of lines in the log
	unlogged atomic.Int64
}

// How many refusals are logged: anybody can cause them, and a fleet whose server
// is in trouble does by the thousand, just when its disk may be full.
const (
	refusalsPerSecond = 20
	refusalsAtOnce    = 200
)

// route is how an endpoint's requests are taken.
type route struct {
	endpoint Endpoint
	seen     node.Endpoint
	limits   httpx.Limits
	gate     *gate // nil for what waits for nothing
	handle   func(*API, http.ResponseWriter, request, []byte) error
}

// request is one request of an agent.
type request struct {
	*http.Request

	route  *route
	peer   agentconn.Peer
	sender *node.Identity // by the Authorization header; nil without one
}

// New returns the agents' API.
func New(o Options) *API {
	if o.SecretName == "" {
		o.SecretName = osquery.EnrollSecretName
	}
	l := o.Limits
	enrolling, logging, writing := newGate(l.Enrolling, l.Queue), newGate(l.Logging, l.Queue), newGate(l.Writing, l.Queue)
	starting, carving := newGate(carveStarts, l.Queue), newGate(l.Carving, l.Queue)
	a := &API{
		Options: o, paths: newPaths(o.Aliases), routes: map[Endpoint]*route{},
		refusals: rate.NewLimiter(refusalsPerSecond, refusalsAtOnce),
	}
	for _, r := range []route{
		{endpoint: Enroll, seen: node.EndpointEnroll, gate: enrolling, handle: (*API).enroll},
		{endpoint: Config, seen: node.EndpointConfig, handle: (*API).config},
		{endpoint: Log, seen: node.EndpointLog, gate: logging, handle: (*API).logs},
		{endpoint: Read, seen: node.EndpointRead, handle: (*API).read},
		{endpoint: Write, seen: node.EndpointWrite, gate: writing, handle: (*API).write},
		{endpoint: CarveStart, seen: node.EndpointWrite, gate: starting, handle: (*API).carveStart},
		{endpoint: CarveContinue, seen: node.EndpointWrite, gate: carving, handle: (*API).carveContinue},
	} {
		r.limits = l.of(r.endpoint)
		a.routes[r.endpoint] = &r
	}
	a.bodies.Memory, a.bodies.Rate = semaphore.NewWeighted(l.Memory), l.Rate
	a.blocks.Memory, a.blocks.Rate, a.blocks.Announced = semaphore.NewWeighted(max(blockMemory, l.blockBody())), l.Rate, true
	return a
}

// ServeHTTP answers one request of an agent.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := a.Now()
	req := request{Request: r, route: &route{endpoint: "unknown"}}
	kind := "ok"
	if err := a.serve(w, &req); err != nil {
		kind = errs.KindOf(err).String()
		a.refuse(w, req, err)
	}
	a.Metrics.Observe(string(req.route.endpoint), kind, a.Now().Sub(started))
}

// serve answers, unless something is wrong. What can be refused before the body
// is read is.
func (a *API) serve(w http.ResponseWriter, r *request) (err error) {
	defer httpx.Recover(&err)
	if r.peer, err = a.Peers.Of(r.Request); r.peer.Direct {
		// A real agent opens a connection for every request, and leaves this one
		// open until its next: memory for nothing. In lower case, or it does not
		// understand.
		w.Header().Set("Connection", "close")
	}
	if err != nil {
		return err
	}
	if err := a.route(r); err != nil {
		return err
	}
	if a.Certificate.Required && r.peer.Certificate.IsZero() {
		return errs.New(errs.Forbidden, "a client certificate is needed here; set --tls_client_cert and --tls_client_key")
	}
	if r.sender, err = a.sender(r.Request); err != nil {
		return err
	}
	bodies := &a.bodies
	if r.route.endpoint == CarveContinue {
		bodies = &a.blocks
	}
	return bodies.Read(r.Request, r.route.limits, func(body []byte) error { return a.work(w, r, body) })
}

// work handles a request whose body was read.
func (a *API) work(w http.ResponseWriter, r *request, body []byte) error {
	if r.route.gate != nil {
		if err := r.route.gate.enter(r.Context()); err != nil {
			return err
		}
		defer r.route.gate.leave()
		ctx, cancel := context.WithTimeout(r.Context(), workTime)
		defer cancel()
		r.Request = r.WithContext(ctx)
	}
	err := r.route.handle(a, w, *r, body)
	if errors.Is(err, context.DeadlineExceeded) {
		return errs.Wrap(errs.Busy, err, "it took too long; try again later")
	}
	return err
}

// route finds the endpoint of a request.
func (a *API) route(r *request) error {
	at := r.URL.Path
	if strings.IndexByte(at, '&') >= 0 { // see nodeKey
		at, _, _ = strings.Cut(at, "&")
	}
	found, ok := a.routes[a.paths.find(at)]
	if !ok {
		return errs.New(errs.NotFound, "no such endpoint; agents use "+Canonical+"enroll, config, log, distributed/read and distributed/write")
	}
	r.route = found
	switch {
	case r.Method == http.MethodPost, r.Method == http.MethodPut:
	case r.Method == http.MethodGet && found.endpoint == Config: // --tls_node_api
	default:
		return errs.New(errs.Invalid, "method %s is not understood; agents use POST", r.Method)
	}
	return nil
}

// errNodeInvalid is for keys that are not known or were revoked, and for
// nothing else.
var errNodeInvalid = errs.New(errs.Unauthenticated, "node key is not known")

// refuse answers so that the agent keeps its data.
func (a *API) refuse(w http.ResponseWriter, r request, err error) {
	a.logRefusal(r, err)
	if errs.Is(err, errs.Busy) {
		w.Header().Set("Retry-After", retryAfter())
	}
	if e := r.route.endpoint; e == CarveStart || e == CarveContinue {
		// The carver takes any JSON for success; text makes it try again.
		answer(w, httpx.Status(err), "text/plain; charset=utf-8", []byte("refused: "+httpx.Message(err)))
		return
	}
	body := map[string]any{"error": httpx.Message(err)}
	if errors.Is(err, errNodeInvalid) {
		body["node_invalid"] = true
	}
	b, _ := json.Marshal(body) // cannot fail: texts and a boolean
	answer(w, httpx.Status(err), jsonType, b)
}

// logRefusal says in the log who was refused and why, up to refusalsPerSecond; the
// next line tells how many were left out.
func (a *API) logRefusal(r request, err error) {
	level := slog.LevelInfo
	if errs.Is(err, errs.Internal) && r.Context().Err() == nil {
		level = slog.LevelError
	}
	if !a.refusals.AllowN(a.Now(), 1) {
		a.unlogged.Add(1)
		return
	}
	a.Log.Log(r.Context(), level, "agent refused", "endpoint", string(r.route.endpoint), "path", shown(r.URL.Path),
		"remote", r.peer.Address, "kind", errs.KindOf(err).String(), "error", a.Redactor.Text(redact.Source{}, err.Error()), "not_logged_before", a.unlogged.Swap(0))
}

// shown returns a path for the log, without what may be a node key; see
// nodeKey.
func shown(path string) string {
	const longest = 20 // of a segment; keys are longer
	path, _, _ = strings.Cut(path, "&")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if len(s) > longest {
			segments[i] = "…"
		}
	}
	return strings.Join(segments, "/")
}

const jsonType = "application/json"

// chunked is the size above which net/http would send an answer in chunks unless
// its length is said.
const chunked = 1 << 10

func answer(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	if len(body) > chunked {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	_, _ = w.Write(body) // the agent went away: it will ask again
}

func write(w http.ResponseWriter, body []byte) { answer(w, http.StatusOK, jsonType, body) }

// gzipFrom is the size from which an answer is worth compressing.
const gzipFrom = 1 << 10

// takesGzip reports whether an agent said that it understands gzip, as osquery
// does with --tls_accept_gzip since 5.21.0.
func takesGzip(r request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}

// sender returns who the Authorization header names, which agents send since
// 5.23.0, or nil without one. A key that is not known is refused before the
// body is read.
func (a *API) sender(r *http.Request) (*node.Identity, error) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "NodeKey ")
	if !ok {
		return nil, nil //nolint:nilnil // older agents send none
	}
	n := a.Nodes.Authenticate(key)
	if n == nil {
		return nil, errNodeInvalid
	}
	return n, nil
}

// authenticate returns who sent the request: by the header, else by node_key
// in the body, or in the URL of those agents that send no body.
func (a *API) authenticate(r request, body []byte) (*node.Identity, error) {
	n := r.sender
	if n == nil {
		key, err := nodeKey(r, body)
		if err != nil {
			return nil, err
		}
		if n = a.Nodes.Authenticate(key); n == nil {
			return nil, errNodeInvalid
		}
	}
	if err := a.bound(n, r.peer.Certificate); err != nil {
		return nil, err
	}
	n.Touch(a.Now(), r.peer.Address, r.route.seen)
	return n, nil
}

// nodeKey returns the key of a request. With --tls_node_api an agent sends
// "GET /<key>/config&node_key=<key>", the rest of its requests as ever but for
// the key before their path.
func nodeKey(r request, body []byte) (string, error) {
	if r.Method != http.MethodGet {
		return osquery.DecodeNodeKey(body)
	}
	_, suffix, _ := strings.Cut(r.URL.Path, "&")
	for _, query := range []string{suffix, r.URL.RawQuery} {
		if values, err := url.ParseQuery(query); err == nil && values.Has("node_key") {
			return values.Get("node_key"), nil
		}
	}
	return "", errs.New(errs.Invalid, "method GET is not understood without node_key; agents use POST")
}

// bound refuses a key that comes with another certificate than it may. The key
// is known, so the answer is not node_invalid: that would make the agent that
// stole it ask for another.
func (a *API) bound(n *node.Identity, cert node.Certificate) error {
	switch a.Certificate.Binding {
	case node.BindFingerprint:
		if n.Certificate == "" || n.Certificate == cert.Fingerprint {
			return nil
		}
	case node.BindSAN:
		if cert.For(n.HostIdentifier) {
			return nil
		}
	case node.BindOff, "":
		return nil
	}
	if cert.IsZero() {
		return errs.New(errs.Forbidden, "this node key works together with its client certificate only")
	}
	n.Clash("its key came with the certificate of another: " + strings.Join(cert.Names, ", "))
	return errs.New(errs.Forbidden, "this node key belongs to another client certificate; remove the node, and it can enrol with this one")
}
