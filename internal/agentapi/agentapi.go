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
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
)

// Enroller admits agents; see node.Enroller.
type Enroller interface {
	Enrol(ctx context.Context, req osquery.EnrollRequest, from netip.Addr) (key string, n node.Node, err error)
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
}

// Stream keeps what agents sent. Both methods return when it is on disk.
type Stream interface {
	AppendEvents(ctx context.Context, batch []byte) error
	AppendAnswers(ctx context.Context, answers []byte) error
}

// Metrics counts requests; see Observe's caller.
type Metrics interface {
	// Observe is called once per request, when it was answered. Kind is the
	// error's, or "ok".
	Observe(endpoint, kind string, took time.Duration)
	// Lines counts log lines: kept ones, and ones that were there already.
	Lines(kept, repeated int)
}

// Options of an API. All are required.
type Options struct {
	Enroller Enroller
	Nodes    Nodes
	Configs  Configs
	Queries  Queries
	Stream   Stream
	Seen     *event.Seen
	Metrics  Metrics
	Log      *slog.Logger
	Now      func() time.Time
}

// API is the handler of the agents' listener.
type API struct {
	Options

	routes   map[string]route
	bodies   httpx.Bodies
	decoders event.Decoders
}

type route struct {
	name   string
	limits httpx.Limits
	handle func(*API, http.ResponseWriter, request, []byte) error
}

// request is one request of an agent.
type request struct {
	*http.Request

	sender *node.Identity // by the Authorization header; nil without one
}

// Limits of bodies.
const (
	// smallBody is for requests that hold little more than a key; an enroll
	// request of a real agent has under 2 KB.
	smallBody = 256 << 10
	// logBody: an agent sends up to 1,024 lines of up to 1 MiB each and repeats
	// what was refused for ever, so the limit is far above what is sane.
	logBody = 64 << 20
	// answerBody: an agent puts all rows of all its queries into one body
	// without any limit (11 MB for 111,000 rows were seen).
	answerBody = 64 << 20
)

// maxLarge bounds the bodies over httpx.LargeBody that are in memory at once; a
// body of 64 MiB takes some hundreds of MiB while it is read and parsed.
const maxLarge = 4

// New returns the agents' API.
func New(o Options) *API {
	small := httpx.Limits{Wire: smallBody, Inflated: smallBody}
	a := &API{Options: o, routes: map[string]route{
		"/api/osquery/enroll":            {"enroll", small, (*API).enroll},
		"/api/osquery/config":            {"config", small, (*API).config},
		"/api/osquery/log":               {"log", httpx.Limits{Wire: logBody, Inflated: logBody}, (*API).logs},
		"/api/osquery/distributed/read":  {"distributed_read", small, (*API).read},
		"/api/osquery/distributed/write": {"distributed_write", httpx.Limits{Wire: answerBody, Inflated: answerBody}, (*API).write},
	}}
	a.bodies.Large = make(chan struct{}, maxLarge)
	return a
}

// ServeHTTP answers one request of an agent.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := a.Now()
	route, err := a.route(r)
	req := request{Request: r}
	if err == nil {
		req.sender, err = a.sender(r)
	}
	if err == nil {
		err = a.bodies.Read(r, route.limits, func(body []byte) error { return route.handle(a, w, req, body) })
	}
	kind := "ok"
	if err != nil {
		kind = errs.KindOf(err).String()
		a.refuse(w, r, route.name, err)
	}
	a.Metrics.Observe(route.name, kind, a.Now().Sub(started))
}

// route finds the endpoint; doubled slashes and white space at the end are
// forgiven, as flagfiles have them.
func (a *API) route(r *http.Request) (route, error) {
	found, ok := a.routes[r.URL.Path]
	if !ok {
		found, ok = a.routes[path.Clean("/"+strings.TrimSpace(r.URL.Path))]
	}
	if !ok {
		return route{name: "unknown"}, errs.New(errs.NotFound, "no such endpoint; agents use /api/osquery/enroll, config, log, distributed/read and distributed/write")
	}
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		return found, errs.New(errs.Invalid, "method %s is not understood; agents use POST", r.Method)
	}
	return found, nil
}

// errNodeInvalid is for keys that are not known or were revoked, and for
// nothing else.
var errNodeInvalid = errs.New(errs.Unauthenticated, "node key is not known")

// refuse answers so that the agent keeps its data.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, endpoint string, err error) {
	level := slog.LevelInfo
	if errs.Is(err, errs.Internal) && r.Context().Err() == nil {
		level = slog.LevelError
	}
	a.Log.Log(r.Context(), level, "agent refused", "endpoint", endpoint, "path", r.URL.Path,
		"remote", httpx.Remote(r), "kind", errs.KindOf(err).String(), "error", err)
	answer := map[string]any{"error": httpx.Message(err)}
	if errors.Is(err, errNodeInvalid) {
		answer["node_invalid"] = true
	}
	if errs.Is(err, errs.Busy) {
		w.Header().Set("Retry-After", "30")
	}
	body, _ := json.Marshal(answer) // cannot fail: texts and a boolean
	write(w, httpx.Status(err), body)
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	_, _ = w.Write(body) // the agent went away: it will ask again
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
// in the body.
func (a *API) authenticate(r request, body []byte) (*node.Identity, error) {
	n := r.sender
	if n == nil {
		key, err := osquery.DecodeNodeKey(body)
		if err != nil {
			return nil, err
		}
		if n = a.Nodes.Authenticate(key); n == nil {
			return nil, errNodeInvalid
		}
	}
	n.Touch(a.Now(), httpx.Remote(r.Request))
	return n, nil
}

func (a *API) enroll(w http.ResponseWriter, r request, body []byte) error {
	req, err := osquery.DecodeEnroll(body)
	if err != nil {
		return err
	}
	key, n, err := a.Enroller.Enrol(r.Context(), req, httpx.Remote(r.Request))
	if err != nil {
		return err
	}
	a.Log.InfoContext(r.Context(), "node enrolled", "node", n.ID, "host_identifier", n.HostIdentifier,
		"hostname", n.Hostname, "secret", n.Secret, "enrolments", n.Enrolments, "remote", httpx.Remote(r.Request))
	answer, err := json.Marshal(osquery.EnrollResponse{NodeKey: key})
	if err != nil {
		return err
	}
	write(w, http.StatusOK, answer)
	return nil
}

func (a *API) config(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	write(w, http.StatusOK, a.Configs.Config(n).JSON)
	return nil
}

// noQueries answers a poll with nothing pending.
const noQueries = `{"queries":{}}`

func (a *API) read(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	tasks := a.Queries.Take(n.ID)
	if len(tasks) == 0 {
		write(w, http.StatusOK, []byte(noQueries))
		return nil
	}
	answer := osquery.DistributedReadResponse{Queries: make(map[string]string, len(tasks))}
	for _, t := range tasks {
		answer.Queries[t.ID] = t.SQL
		if t.Accelerate {
			answer.Accelerate = live.Accelerate
		}
	}
	b, err := answer.Encode()
	if err != nil {
		return err
	}
	write(w, http.StatusOK, b)
	return nil
}

// accepted tells an agent that its data is kept.
const accepted = `{}`

// answerBytes bounds one record of answers.
const answerBytes = 12 << 20

func (a *API) write(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	answers, err := osquery.DecodeDistributedWrite(body)
	if err != nil {
		return err
	}
	var kept []live.Answer
	size := 0
	for _, answer := range answers {
		k, err := live.Receive(n.ID, answer, a.Now())
		if err != nil {
			return err
		}
		if size += k.Size(); size > answerBytes {
			if err := a.keepAnswers(r.Context(), kept); err != nil {
				return err
			}
			kept, size = nil, k.Size()
		}
		kept = append(kept, k)
	}
	if err := a.keepAnswers(r.Context(), kept); err != nil {
		return err
	}
	write(w, http.StatusOK, []byte(accepted))
	return nil
}

func (a *API) keepAnswers(ctx context.Context, answers []live.Answer) error {
	if len(answers) == 0 {
		return nil
	}
	b, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	return a.Stream.AppendAnswers(ctx, b)
}
