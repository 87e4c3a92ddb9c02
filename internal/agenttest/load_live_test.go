package agenttest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

// api stands in for the server's API for people: it hands queries to the agents
// of a server and says how far they are. It shows that the loads ask and count
// as they should; how fast Muster is, only Muster can tell.
type api struct {
	mu      sync.Mutex
	queries []*apiQuery
	carves  *receiver
	ended   string // state of a query whose nodes all answered
	calls   map[string]int
}

type apiQuery struct {
	id, sql, reason string
	nodes           []string
	sent, answered  map[string]bool
	row             map[string]string // of a carve
}

// newAPI starts an API for s, all of whose nodes are known.
func newAPI(t *testing.T, s *server) (*api, *adminapi.Client) {
	t.Helper()
	a := &api{calls: map[string]int{}, ended: "done", carves: new(receiver)}
	h := httptest.NewServer(a.routes(s))
	t.Cleanup(h.Close)
	s.readOf, s.wrote, s.carve = a.read, a.wrote, a.carves.serve
	return a, adminapi.NewClient(h.URL, "token", h.Client())
}

func (a *api) routes(s *server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/live", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			SQL      string
			Reason   string
			Selector struct {
				All   bool
				Nodes []string
			}
			Expires int `json:"expires_seconds"`
		}
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Expires == 0 {
			http.Error(w, "{}", http.StatusUnprocessableEntity)
			return
		}
		if in.Selector.All {
			for _, e := range s.enrolments() {
				in.Selector.Nodes = append(in.Selector.Nodes, e.HostIdentifier)
			}
		}
		a.add(w, in.SQL, in.Reason, in.Selector.Nodes)
	})
	mux.HandleFunc("POST /api/v1/carves", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Node, Reason string
			Paths        []string
		}
		if json.NewDecoder(r.Body).Decode(&in) != nil || len(in.Paths) != 1 {
			http.Error(w, "{}", http.StatusUnprocessableEntity)
			return
		}
		a.add(w, "SELECT * FROM carves WHERE path = '"+in.Paths[0]+"' AND carve = 1", in.Reason, []string{in.Node})
	})
	mux.HandleFunc("GET /api/v1/live/{id}", func(w http.ResponseWriter, r *http.Request) { a.show(w, r.PathValue("id")) })
	mux.HandleFunc("GET /api/v1/carves/{id}", func(w http.ResponseWriter, r *http.Request) { a.show(w, r.PathValue("id")) })
	return mux
}

func (a *api) add(w http.ResponseWriter, sql, reason string, nodes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := &apiQuery{id: fmt.Sprintf("q-%d", len(a.queries)), sql: sql, reason: reason, nodes: nodes, sent: map[string]bool{}, answered: map[string]bool{}}
	a.queries = append(a.queries, q)
	_ = json.NewEncoder(w).Encode(map[string]any{"id": q.id, "state": "running", "nodes": len(nodes)})
}

func (a *api) show(w http.ResponseWriter, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[id]++
	for _, q := range a.queries {
		if q.id != id {
			continue
		}
		state := "running"
		if len(q.answered) == len(q.nodes) {
			state = a.ended
		}
		if q.row != nil { // a carve: it is done when all of it is there
			state = "uploading"
			a.carves.mu.Lock()
			for _, start := range a.carves.starts {
				if start.ID == q.row["carve_guid"] && int64(len(a.carves.archives[start.ID])) == start.Size {
					state = "done"
				}
			}
			a.carves.mu.Unlock()
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"id": id, "state": state, "nodes": len(q.nodes),
			"counts": map[string]int{"answered": len(q.answered), "waiting": len(q.nodes) - len(q.answered)},
		})
		return
	}
	http.NotFound(w, nil)
}

func (a *api) read(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	queries := map[string]string{}
	for _, q := range a.queries {
		if slices.Contains(q.nodes, host) && !q.sent[host] {
			q.sent[host], queries[q.id] = true, q.sql
		}
	}
	b, _ := json.Marshal(map[string]any{"queries": queries})
	return string(b)
}

func (a *api) wrote(host string, answers []osquery.QueryAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, answer := range answers {
		for _, q := range a.queries {
			if q.id != answer.ID {
				continue
			}
			q.answered[host] = true
			if strings.Contains(q.sql, "carve = 1") {
				q.row = map[string]string{}
				for _, c := range answer.Rows[0] {
					q.row[c.Name] = c.Value
				}
			}
		}
	}
}

func loadOf(s *server) agenttest.LoadOptions {
	return agenttest.LoadOptions{
		Duration: 100 * time.Millisecond, ServerPID: os.Getpid(),
		Fleet: agenttest.FleetOptions{
			URL: s.url(), RootCAs: s.pool, Secret: secret, Nodes: 20, Conn: agentwire.KeepAlive,
			ConfigInterval: 20 * time.Millisecond, ReadInterval: 20 * time.Millisecond,
		},
	}
}

func TestLoad_live(t *testing.T) {
	for _, nodes := range []int{0, 7} {
		s := newServer(t)
		api, client := newAPI(t, s)
		o := loadOf(s)
		o.Live = &agenttest.LiveLoad{API: client, Queries: 9, Concurrent: 3, Nodes: nodes, Reason: "because"}
		r, err := agenttest.Load(t.Context(), o)
		must(t, err)
		each := int64(nodes)
		if nodes == 0 {
			each = 20
		}
		l := r.Live
		if r.Mode != "live" || l.Queries != 9 || l.Concurrent != 3 || l.Asked != 9*each || l.Answered != 9*each {
			t.Errorf("%s: %+v", r.Mode, l)
		}
		if l.First.Count != 9 || l.All.Count != 9 || l.Answer.Count != 9*each || l.Ended.Count != 9 {
			t.Errorf("counts: %+v", l)
		}
		if l.First.P50 <= 0 || l.All.P50 < l.First.P50 || l.Answer.Max > l.All.Max || l.Ended.Max < l.All.Max {
			t.Errorf("times: %+v", l)
		}
		if l.States["done"] != 9 || l.Targets["answered"] != int(9*each) || len(l.Targets) != 1 {
			t.Errorf("states %v, targets %v", l.States, l.Targets)
		}
		if l.Quiet["read"].Count == 0 || l.Quiet["config"].P99 <= 0 || r.Operations["read"].Count == 0 || r.Operations["write"].Count == 0 {
			t.Errorf("quiet %v, asked %v", l.Quiet, r.Operations)
		}
		if api.queries[0].reason != "because" {
			t.Errorf("reason %q", api.queries[0].reason)
		}
		asked := map[string]int{}
		for _, q := range api.queries {
			for _, n := range q.nodes {
				asked[n]++
			}
		}
		if len(asked) != 20 { // 63 targets in turn over 20 nodes, or all
			t.Errorf("%d nodes were asked", len(asked))
		}
	}
}

// TestLoad_liveUnanswered: what nodes never answer ends when the server says so.
func TestLoad_liveUnanswered(t *testing.T) {
	s := newServer(t)
	_, client := newAPI(t, s)
	o := loadOf(s)
	m, err := agenttest.ParseMisbehaviour("die=30%,fail=20%")
	must(t, err)
	o.Fleet.Misbehave = m
	o.Live = &agenttest.LiveLoad{API: client, Queries: 1}
	// This API sends nothing twice, so that the dead never answer.
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	r, err := agenttest.Load(ctx, o)
	must(t, err)
	l := r.Live
	if l.Asked != 20 || l.Answered < 13 || l.Answered > 15 || l.All.Count != 0 || l.First.Count != 1 || l.States["running"] != 1 {
		t.Errorf("%+v", l)
	}
}

func TestLoad_liveRefused(t *testing.T) {
	s := newServer(t)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_ = json.NewEncoder(w).Encode(map[string]any{"id": "x", "state": "pending", "nodes": 20})
		}
	}))
	t.Cleanup(h.Close)
	o := loadOf(s)
	o.Live = &agenttest.LiveLoad{API: adminapi.NewClient(h.URL, "t", h.Client()), Queries: 5}
	if _, err := agenttest.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "x is pending") {
		t.Errorf("%v", err)
	}
	h.Close()
	if _, err := agenttest.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "cannot reach the server") {
		t.Errorf("%v", err)
	}
}

func TestLoad_carves(t *testing.T) {
	s := newServer(t)
	_, client := newAPI(t, s)
	o := loadOf(s)
	o.Fleet.Nodes = 4
	o.Fleet.Carve = &agenttest.CarveOptions{Size: 300_000, BlockSize: 50_000, Concurrency: 3}
	o.Carves = &agenttest.CarveLoad{API: client, Carves: 6, Reason: "because"}
	r, err := agenttest.Load(t.Context(), o)
	must(t, err)
	c := r.Carves
	if r.Mode != "carves" || c.Carves != 6 || c.Uploaded != 6 || c.Failed != 0 || c.Blocks != 36 || c.States["done"] != 6 || c.Concurrent != 3 {
		t.Errorf("%s: %+v", r.Mode, c)
	}
	if c.Rate <= 0 || c.Bytes <= 0 || c.Settled < c.Seconds || c.CPU == nil || c.IdleRSS <= 0 || c.PeakRSS <= 0 || c.OverIdle != c.PeakRSS-c.IdleRSS {
		t.Errorf("figures: %+v", c)
	}
	if starts, blocks := r.Operations["carve_start"], r.Operations["carve_block"]; starts.Count != 6 || blocks.Count != 36 || blocks.P99 <= 0 {
		t.Errorf("operations: %+v", r.Operations)
	}
}

func TestLoad_options(t *testing.T) {
	s := newServer(t)
	for name, change := range map[string]func(*agenttest.LoadOptions){
		"both":       func(o *agenttest.LoadOptions) { o.Live, o.Carves = &agenttest.LiveLoad{}, &agenttest.CarveLoad{} },
		"no size":    func(o *agenttest.LoadOptions) { o.Carves = &agenttest.CarveLoad{} },
		"live alone": func(o *agenttest.LoadOptions) { o.Live, o.Alone = &agenttest.LiveLoad{}, true },
	} {
		o := loadOf(s)
		change(&o)
		if _, err := agenttest.Load(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
