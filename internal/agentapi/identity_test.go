package agentapi_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

const logBody = `{"data":[{"name":"q","unixTime":1795250724,"decorations":{"rack":"r1"},"columns":{"a":"1"},"action":"added"}],"log_type":"result","node_key":"`

// certificate is one that was verified.
func certificate(name string) node.Certificate {
	return node.Certificate{Fingerprint: "of " + name, Names: []string{name}}
}

// TestCertificate: who gets in with which certificate, by policy.
func TestCertificate(t *testing.T) {
	t.Parallel()
	type use struct {
		cert string // of the request; "" is none
		path string
		ok   bool
	}
	for _, tt := range []struct {
		name       string
		policy     agentapi.CertificatePolicy
		enrolsWith string
		uses       []use
	}{
		{"off", agentapi.CertificatePolicy{}, "", []use{{"", "/config", true}, {"h1", "/log", true}}},
		{"required", agentapi.CertificatePolicy{Required: true}, "x", []use{
			{"x", "/config", true}, {"y", "/config", true}, {"", "/config", false}, {"", "/log", false}, {"", "/enroll", false}, {"", "/nothing", false},
		}},
		{"bound by fingerprint", agentapi.CertificatePolicy{Binding: node.BindFingerprint}, "x", []use{
			{"x", "/config", true},
			{"x", "/log", true},
			{"x", "/distributed/read", true},
			{"x", "/distributed/write", true},
			{"y", "/config", false},
			{"y", "/log", false},
			{"y", "/distributed/read", false},
			{"y", "/distributed/write", false},
			{"", "/config", false},
		}},
		{"bound by name", agentapi.CertificatePolicy{Binding: node.BindSAN}, "h1", []use{
			{"h1", "/config", true}, {"H1", "/config", true}, {"h2", "/config", false}, {"", "/config", false}, {"h2", "/enroll", false}, {"", "/enroll", false},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			o := w.options
			o.Certificate = tt.policy
			o.Enroller = node.NewEnroller(node.EnrollerOptions{
				Store: w.store, Registry: w.registry, Keyer: w.keyer, Binding: tt.policy.Binding, Now: time.Now,
			})
			w.api = agentapi.New(o)
			w.peer.Certificate = certificate(tt.enrolsWith)
			key := w.enroll()
			for _, u := range tt.uses {
				w.peer.Certificate = node.Certificate{}
				if u.cert != "" {
					w.peer.Certificate = certificate(u.cert)
				}
				body := strings.Replace(logBody, `"data"`, `"enroll_secret":"`+secret+`","host_identifier":"h1","queries":{},"data"`, 1) + key + `"}`
				answer := w.object(w.send(http.MethodPost, u.path, body))
				if (answer["error"] == nil) != u.ok || answer["node_invalid"] == true || !u.ok && answer["node_key"] != nil {
					t.Errorf("%s with the certificate of %q: %v", u.path, u.cert, answer)
				}
			}
			if err := w.registry.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			page, err := w.store.Nodes(t.Context(), node.Filter{Now: time.Now()})
			if err != nil || len(page.Nodes) != 1 {
				t.Fatal(page, err)
			}
			stolen := tt.policy.Binding == node.BindFingerprint || tt.policy.Binding == node.BindSAN
			if n := page.Nodes[0]; (n.Clashes > 0) != stolen {
				t.Errorf("%d clashes: %s", n.Clashes, n.ClashReason)
			}
		})
	}
}

// TestClash: a second machine with the first one's identifier is kept apart,
// and the first works on.
func TestClash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	enrol := func(instance, address string) string {
		t.Helper()
		w.peer.Address = netip.MustParseAddr(address)
		answer := w.object(w.send(http.MethodPost, "/enroll", `{"enroll_secret":"`+secret+`","host_identifier":"golden-image",
			"host_details":{"osquery_info":{"instance_id":"`+instance+`"}}}`))
		key, _ := answer["node_key"].(string)
		if key == "" {
			t.Fatal(answer)
		}
		return key
	}
	first := enrol("i-1", "192.0.2.1")
	second := enrol("i-2", "192.0.2.2")
	id := func(key string) *node.Identity {
		t.Helper()
		i := w.registry.Authenticate(key)
		if i == nil {
			t.Fatal("a key is not known")
		}
		return i
	}
	if id(first).ID == id(second).ID || id(first).Quarantined || !id(second).Quarantined {
		t.Fatalf("%+v, %+v", id(first), id(second))
	}
	third := enrol("i-2", "192.0.2.2")
	if id(third).ID != id(second).ID || id(first).Quarantined {
		t.Error("the clone is not the same again")
	}
	all, _, _ := w.registry.Select(node.Selector{All: true})
	if len(all) != 1 || all[0].ID != id(first).ID {
		t.Errorf("%d nodes are asked", len(all))
	}
	q := live.Query{ID: "q1", SQL: "SELECT 1", Selector: node.Selector{All: true}, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
	if _, err := w.live.Start(t.Context(), q, []*node.Identity{id(first), id(third)}); err != nil {
		t.Fatal(err)
	}
	for key, quarantined := range map[string]bool{first: false, third: true} {
		config := w.object(w.send(http.MethodPost, "/config", `{"node_key":"`+key+`"}`))
		packs, _ := config["packs"].(map[string]any)
		if (len(packs) == 0) != quarantined || config["options"] == nil {
			t.Errorf("quarantine %v: config %v", quarantined, config)
		}
		read := w.object(w.send(http.MethodPost, "/distributed/read", `{"node_key":"`+key+`"}`))
		if queries, ok := read["queries"].(map[string]any); !ok || (len(queries) == 0) != quarantined {
			t.Errorf("quarantine %v: queries %v", quarantined, read)
		}
		w.stream.batches = nil
		if rec := w.send(http.MethodPost, "/log", logBody+key+`"}`); rec.Code != 200 {
			t.Fatal(rec.Body)
		}
		events := w.stream.events()
		var decorations map[string]string
		if len(events) != 1 || json.Unmarshal(events[0].Decorations, &decorations) != nil {
			t.Fatalf("%+v", events)
		}
		if (decorations[event.Quarantined] == "true") != quarantined || decorations["rack"] != "r1" {
			t.Errorf("quarantine %v: %s", quarantined, events[0].Decorations)
		}
	}
	page, err := w.store.Nodes(t.Context(), node.Filter{Now: time.Now(), Search: "golden-image"})
	if err != nil || page.Total != 2 {
		t.Fatal(page.Total, err)
	}
	for _, n := range page.Nodes {
		if n.ID == id(first).ID && (n.Clashes != 1 || n.ClashReason == "") || n.ID == id(third).ID && n.CloneOf != id(first).ID {
			t.Errorf("%+v", n)
		}
	}
}

// TestDirect: an agent's own connection is closed after its request, and a
// proxy's is not.
func TestDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, direct := range []bool{true, false} {
		w.peer.Direct = direct
		for _, body := range []string{`{"node_key":"` + w.enroll() + `"}`, `{}`} {
			// In lower case: the agent compares.
			if got := w.send(http.MethodPost, "/config", body).Header().Get("Connection"); (got == "close") != direct || got != "" && !direct {
				t.Errorf("direct %v: Connection %q", direct, got)
			}
		}
	}
}

// TestSeen: every endpoint leaves its own trace, and the address that the peer
// has.
func TestSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.peer = peer{agentconn.Peer{Address: netip.MustParseAddr("2001:db8::7")}}
	key := w.enroll()
	for _, path := range []string{"/config", "/log"} {
		if rec := w.send(http.MethodPost, path, logBody+key+`"}`); rec.Code != 200 {
			t.Fatal(rec.Body)
		}
	}
	if err := w.registry.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := w.store.FindNode(t.Context(), "h1")
	if err != nil || n.Address != "2001:db8::7" || n.Attributes["rack"] != "r1" {
		t.Errorf("%+v, %v", n, err)
	}
	for e, want := range map[node.Endpoint]bool{
		node.EndpointEnroll: true, node.EndpointConfig: true, node.EndpointLog: true, node.EndpointRead: false, node.EndpointWrite: false,
	} {
		if n.Seen[e].IsZero() == want {
			t.Errorf("endpoint %d was seen at %s", e, n.Seen[e])
		}
	}
}

// broken is a catalog with a defect.
type broken struct{}

func (broken) Config(*node.Identity) *resource.Config { panic("a defect") } //nolint:forbidigo // on purpose

// TestPanic: a defect is an error that an agent understands, and the log says
// where it is.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.enroll()
	w.options.Configs = broken{}
	w.api = agentapi.New(w.options)
	rec := w.send(http.MethodPost, "/config", `{"node_key":"`+key+`"}`)
	if answer := w.object(rec); rec.Code != 500 || answer["error"] == nil || answer["node_invalid"] != nil || strings.Contains(rec.Body.String(), "defect") {
		t.Errorf("%d %v", rec.Code, answer)
	}
	if log := w.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "a defect") || !strings.Contains(log, "identity_test.go") {
		t.Errorf("the log: %s", log)
	}
}

// TestRefusals_log: a flood of refusals is no flood in the log, which says how
// many it left out; and everybody is answered.
func TestRefusals_log(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := time.Now()
	w.options.Now = func() time.Time { return now }
	w.api = agentapi.New(w.options)
	flood := func(n int) (lines int) {
		t.Helper()
		w.log.Reset()
		for range n {
			if rec := w.send(http.MethodPost, "/config", `{"node_key":"unknown"}`); rec.Code != 401 {
				t.Fatal(rec.Code)
			}
		}
		return strings.Count(w.log.String(), "agent refused")
	}
	if n := flood(1000); n != 200 {
		t.Errorf("%d lines of 1000", n)
	}
	now = now.Add(time.Second)
	if n := flood(30); n != 20 || !strings.Contains(w.log.String(), "not_logged_before=800") {
		t.Errorf("a second later: %d lines: %.300s", n, w.log)
	}
}
