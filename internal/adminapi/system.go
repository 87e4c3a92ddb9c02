package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/doctor"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

func (a *API) registerSystem() {
	registerScoped(a, account.SystemRead, http.MethodGet, "/overview", "The figures of the first page", a.overview)
	register(a, account.SystemRead, http.MethodGet, "/doctor", "How the server fares: what is wrong, and what to do", a.doctor)
	register(a, account.Self, http.MethodGet, "/schema", "All osquery tables with their columns", a.schema)
}

func selectorOf(name string) node.Selector { return node.Selector{Nodes: []string{name}} }

func (a *API) overview(ctx context.Context, _ *none) (*body[Overview], error) {
	nodes := a.scope(ctx, account.NodeRead)
	facets, err := a.Nodes.NodeFacets(ctx, nodes, a.Now())
	if err != nil {
		return nil, err
	}
	f := event.Filter{Since: a.Now().Add(-23 * time.Hour).Truncate(time.Hour)}
	if f.Nodes, f.Readable, err = a.visible(ctx, nil); err != nil {
		return nil, err
	}
	_, buckets, err := a.Search.Queries(ctx, f, 24)
	if err != nil {
		return nil, err
	}
	stats := a.Search.Stats()
	out := Overview{
		Nodes:    facetsOf(facets),
		NewNodes: facets.New24h, LiveRunning: a.Live.Count(),
		EventsStored: stats.Events, BytesStored: stats.Bytes, EventsPerHour: bucketsOf(buckets),
		RequestsTotal: a.Requests(), UptimeSeconds: int64(a.Now().Sub(a.started).Seconds()),
		Version: a.Version, AgentURL: a.AgentURL,
	}
	if nodes == nil {
		_, out.Nodes.Online = a.Registry.Len()
	}
	return &body[Overview]{out}, nil
}

func (a *API) doctor(ctx context.Context, _ *none) (*body[Diagnosis], error) {
	checks := append([]doctor.Check{}, a.Diagnose(ctx)...)
	return &body[Diagnosis]{Diagnosis{Time: a.Now(), Version: a.Version, Status: doctor.Worst(checks), AgentURL: a.AgentURL, Checks: checks}}, nil
}

type schemaOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         json.RawMessage
}

func (a *API) schema(context.Context, *none) (*schemaOutput, error) {
	return &schemaOutput{CacheControl: "private, max-age=3600", Body: osquery.SchemaJSON()}, nil
}

// healthz says that the process answers.
func (a *API) healthz(w http.ResponseWriter, _ *http.Request) error {
	_, err := w.Write([]byte("ok\n"))
	return err
}

// readyz says whether every part works.
func (a *API) readyz(w http.ResponseWriter, r *http.Request) error {
	if err := a.Ready(r.Context()); err != nil {
		return errs.Wrap(errs.Busy, err, "not ready")
	}
	_, err := w.Write([]byte("ready\n"))
	return err
}

func (a *API) metrics(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}

// profile answers one of the Go runtime's profiles (heap, goroutine, allocs …)
// for go tool pprof.
func (a *API) profile(w http.ResponseWriter, r *http.Request) error {
	p := pprof.Lookup(r.PathValue("profile"))
	if p == nil {
		return errs.New(errs.NotFound, "no such profile; use heap, allocs, goroutine, block or mutex")
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	return p.WriteTo(w, 0)
}

// caFile answers the certificate that agents pin.
func (a *API) caFile(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="ca.pem"`)
	_, err := w.Write(a.CA)
	return err
}

func (a *API) openapi(w http.ResponseWriter, _ *http.Request) error {
	b, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json")
	_, err = w.Write(b)
	return err
}
