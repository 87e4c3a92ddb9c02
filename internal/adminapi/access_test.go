package adminapi_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
)

var update = flag.Bool("update", false, "write the golden files")

// tokenOf makes and logs in a further person in.
func (w *world) tokenOf(name string, roles ...string) string {
	w.t.Helper()
	w.person(name, roles...)
	var s adminapi.Session
	in := adminapi.LoginInput{Username: name, Password: password, Kind: "bearer"}
	if err := adminapi.NewClient(w.url, "", w.http).Call(w.t.Context(), "POST", "/session", nil, in, &s); err != nil {
		w.t.Fatal(err)
	}
	return s.Token
}

// request sends a request, and returns the status and what is there of the answer
// within a moment: streams do not end.
func (w *world) request(token, method, path string) (status int, body string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		return answer.StatusCode, ""
	}
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// TestRoles holds every route against every role of Muster's own. The golden file
// is for people to read: it says who gets in.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var roles []string
	tokens := map[string]string{}
	for _, r := range account.Builtin() {
		roles = append(roles, r.Name)
		tokens[r.Name] = w.tokenOf(r.Name+"-person", r.Name)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-10s %-58s %s\n", "", "", strings.Join(roles, " "))
	for _, route := range w.api.Routes() {
		if route.Permission == account.Public || route.Method+" "+route.Path == "DELETE /api/v1/session" { // which ends it
			continue
		}
		fmt.Fprintf(&table, "%-10s %-58s", route.Method, route.Path)
		path := strings.NewReplacer("{id}", "none", "{name}", "none", "{number}", "7", "{seq}", "1", "{profile}", "heap").Replace(route.Path)
		for _, role := range roles {
			status, body := w.request(tokens[role], route.Method, path)
			sign := "yes"
			if status == http.StatusForbidden && strings.Contains(body, "this needs the permission") {
				sign = "-"
			}
			fmt.Fprintf(&table, " %-*s", len(role), sign)
			if status == http.StatusUnauthorized {
				t.Errorf("%s %s: the session of %s is gone", route.Method, route.Path, role)
			}
		}
		table.WriteString("\n")
	}
	lines := strings.Split(table.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	golden(t, "access.txt", strings.Join(lines, "\n"))
	var log adminapi.AuditPage
	if err := w.call("GET", "/audit", url.Values{"limit": {"1000"}, "outcome": {"refused"}}, nil, &log); err != nil {
		t.Fatal(err)
	}
	refused := map[string]int{} // of many at once, some are counted instead
	for _, e := range log.Entries {
		refused[e.Actor]++
	}
	for _, role := range roles {
		if refused[role+"-person"] == 0 {
			t.Errorf("no refusal of %s is in the audit log", role)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; write it with -update):\n%s", path, diff)
	}
}

const edgeRole = `
apiVersion: muster/v1
kind: Role
name: edge
spec:
  permissions: ["node.*", event.read, live.read, live.run, carve.*, alert.read, alert.write, resource.read, system.read]
  selector: tag = edge
  live_tier: 2
  row_tier: 2
`

// TestScope: who may see some nodes alone sees nothing of others, by any route.
func TestScope(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(edgeRole + "---\n" + packDocument("times", "600"))
	inside, outside := w.enrol("inner"), w.enrol("outer")
	if err := w.call("PUT", "/nodes/"+inside.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"edge"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{inside.ID: "", outside.ID: ""} // of a carve of each
	for i, n := range []string{inside.ID, outside.ID} {
		b := event.Batch{NodeID: n, HostIdentifier: w.registry.Lookup(n).HostIdentifier, Received: time.Now(), LogType: "result"}
		b.Events = []event.Event{{Time: time.Now(), Query: "pack_times_q", Action: event.Added, Columns: json.RawMessage(fmt.Sprintf(`{"of":%q}`, n))}}
		if err := w.engine.Add(uint64(i+1), []event.Batch{b}); err != nil {
			t.Fatal(err)
		}
		w.raise(alert.Firing{Rule: "r", Key: n, Title: "about " + n, NodeID: n, HostIdentifier: b.HostIdentifier})
		var c adminapi.Carve
		if err := w.call("POST", "/carves", nil, adminapi.CarveInput{Node: n, Paths: []string{"/etc/hosts"}}, &c); err != nil {
			t.Fatal(err)
		}
		ids[n] = w.carved(c, []byte("of "+n)).ID
	}
	row := func(n string) []json.RawMessage {
		return []json.RawMessage{json.RawMessage(fmt.Sprintf(`{"of":%q}`, n))}
	}
	asked := w.asked("SELECT version AS of FROM osquery_info",
		live.Answer{NodeID: inside.ID, State: live.Answered, Rows: row(inside.ID)}, live.Answer{NodeID: outside.ID, State: live.Answered, Rows: row(outside.ID)})
	var alerts adminapi.AlertPage
	if err := w.call("GET", "/alerts", nil, nil, &alerts); err != nil {
		t.Fatal(err)
	}
	alertOf := map[string]string{}
	for _, a := range alerts.Alerts {
		alertOf[a.NodeID] = a.ID
	}
	token := w.tokenOf("edgar", "edge")
	shown := 0
	for _, route := range w.api.Routes() {
		if route.Permission == account.Public || route.Permission == account.Self {
			continue
		}
		for _, of := range []string{inside.ID, outside.ID} {
			id := of
			switch {
			case strings.HasPrefix(route.Path, "/api/v1/live/"):
				id = asked
			case strings.HasPrefix(route.Path, "/api/v1/alerts/"):
				id = alertOf[of]
			case strings.HasPrefix(route.Path, "/api/v1/carves/"):
				id = ids[of]
			}
			if of == inside.ID && route.Method != http.MethodGet {
				continue // it would work
			}
			path := strings.NewReplacer("{id}", id, "{name}", "none", "{number}", "1", "{seq}", "1", "{profile}", "heap").Replace(route.Path)
			switch route.Path { // what they need
			case "/api/v1/events/state":
				path += "?query=pack_times_q"
			case "/api/v1/events/count":
				path += "?by=of&by=@node"
			case "/api/v1/live/{id}/groups":
				path += "?by=of"
			case "/api/v1/live/{id}/compare":
				path += "?with=" + asked
			case "/api/v1/nodes/who":
				path += "?ip=192.0.2.7"
			}
			status, body := w.request(token, route.Method, path)
			switch {
			case !route.Scoped && status != http.StatusForbidden:
				t.Errorf("%s %s reaches every node, and answers %d: %s", route.Method, path, status, body)
			case strings.Contains(body, outside.ID) || strings.Contains(body, "outer"):
				t.Errorf("%s %s: %d: %s", route.Method, path, status, body)
			case route.Scoped && strings.Contains(route.Path, "{id}") && of == outside.ID && !strings.HasPrefix(route.Path, "/api/v1/live/") &&
				status != http.StatusNotFound && status != http.StatusUnprocessableEntity && status != http.StatusBadRequest:
				t.Errorf("%s %s: %d: %s", route.Method, path, status, body)
			case route.Scoped && strings.Contains(body, inside.ID):
				shown++
			case status >= http.StatusInternalServerError:
				t.Errorf("%s %s: %d: %s", route.Method, path, status, body)
			}
		}
	}
	if shown < 25 {
		t.Errorf("%d answers show the node that may be seen", shown)
	}
	edgar := adminapi.NewClient(w.url, token, w.http)
	for who, status := range map[string]int{inside.ID: 200, outside.ID: 400} {
		in := adminapi.LiveInput{SQL: "SELECT version FROM osquery_info", Selector: adminapi.Selector{Nodes: []string{who}}}
		if err := edgar.Call(t.Context(), "POST", "/live", nil, in, nil); adminapi.Status(err) != status && (err != nil || status != 200) {
			t.Errorf("%s: %v", who, err)
		}
	}
	var all adminapi.Live
	in := adminapi.LiveInput{SQL: "SELECT version FROM osquery_info", Selector: adminapi.Selector{All: true}}
	if err := edgar.Call(t.Context(), "POST", "/live", nil, in, &all); err != nil || all.Nodes != 1 {
		t.Errorf("all that may be asked: %+v, %v", all, err)
	}
	if n := w.registry.Lookup(outside.ID); n == nil || n.Quarantined || len(n.Tags) != 1 {
		t.Errorf("it was changed: %+v", n)
	}
}

// TestRowTier: rows of a query of a high tier are for who may read that tier.
func TestRowTier(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(`
apiVersion: muster/v1
kind: Pack
name: people
spec:
  queries:
    logins: {query: SELECT username FROM last, interval: 600}
    time: {query: SELECT hour FROM time, interval: 600}
`)
	n := w.enrol("h1")
	b := event.Batch{NodeID: n.ID, Received: time.Now(), LogType: "result"}
	for _, q := range []string{"pack_people_logins", "pack_people_time", "pack_gone_q"} {
		b.Events = append(b.Events, event.Event{Time: time.Now(), Query: q, Action: event.Added, Columns: json.RawMessage(`{"a":"1"}`)})
	}
	if err := w.engine.Add(1, []event.Batch{b}); err != nil {
		t.Fatal(err)
	}
	q := w.asked("SELECT username FROM last", live.Answer{NodeID: n.ID, State: live.Answered, Rows: []json.RawMessage{json.RawMessage(`{"username":"ada"}`)}})
	for role, want := range map[string]struct{ events, rows int }{"operator": {3, 1}, "analyst": {2, 1}, "auditor": {1, 0}} {
		c := w.person(role+"-person", role)
		var page adminapi.EventPage
		if err := c.Call(t.Context(), "GET", "/events", nil, nil, &page); err != nil || len(page.Events) != want.events {
			t.Errorf("%s: %+v, %v", role, page.Events, err)
		}
		var queries adminapi.EventQueries
		if err := c.Call(t.Context(), "GET", "/events/queries", nil, nil, &queries); err != nil || len(queries.Queries) != want.events {
			t.Errorf("%s: %+v, %v", role, queries, err)
		}
		var results adminapi.LiveResults
		if err := c.Call(t.Context(), "GET", "/live/"+q+"/results", nil, nil, &results); err != nil || len(results.Rows) != want.rows {
			t.Errorf("%s: %+v, %v", role, results, err)
		}
	}
}

// TestRoleLimits: what a role does not let one do is refused, at once when it is
// taken away.
func TestRoleLimits(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("h1")
	if err := w.call("PUT", "/saved-queries/up", nil, adminapi.SavedQueryInput{SQL: "SELECT days FROM uptime"}, nil); err != nil {
		t.Fatal(err)
	}
	analyst := w.person("ana", "analyst")
	run := func(sql string) error {
		return analyst.Call(t.Context(), "POST", "/live", nil, adminapi.LiveInput{SQL: sql, Selector: adminapi.Selector{All: true}}, nil)
	}
	wantStatus(t, run("SELECT 1"), 403, "saved queries alone")
	if err := run("SELECT days FROM uptime"); err != nil {
		t.Error(err)
	}
	propose := func(c *adminapi.Client, document string) error {
		in := adminapi.ChangeInput{Message: "why", Files: []adminapi.File{{Name: "f", Content: document}}}
		return c.Call(t.Context(), "POST", "/changes", nil, in, nil)
	}
	operator := w.person("opa", "operator")
	wantStatus(t, propose(operator, edgeRole), 403, "govern.write")
	if err := propose(operator, packDocument("mine", "600")); err != nil {
		t.Error(err)
	}
	w.apply("apiVersion: muster/v1\nkind: Role\nname: careful\nspec: {permissions: [change.write, resource.read], schedule_tier: 0}\n")
	careful := w.person("cara", "careful")
	wantStatus(t, propose(careful, "apiVersion: muster/v1\nkind: Pack\nname: p\nspec: {queries: {q: {query: SELECT username FROM last, interval: 600}}}\n"), 403, "your roles let you bring agents")
	if err := propose(careful, packDocument("hers", "600")); err != nil {
		t.Error(err)
	}

	for _, c := range []struct {
		in     adminapi.UserRolesInput
		status int
		say    string
	}{
		{adminapi.UserRolesInput{Roles: []string{"auditor"}, Own: "wrong"}, 403, "password is wrong"},
		{adminapi.UserRolesInput{Roles: []string{"boss"}, Own: password}, 400, "no role boss"},
	} {
		wantStatus(t, w.call("PUT", "/users/ana/roles", nil, c.in, nil), c.status, c.say)
	}
	wantStatus(t, w.call("PUT", "/users/admin/roles", nil, adminapi.UserRolesInput{Roles: []string{"operator"}, Own: password}, nil), 409, "nobody would have")
	wantStatus(t, w.call("POST", "/users/admin/disable", nil, nil, nil), 409, "nobody would have")
	if err := w.call("PUT", "/users/ana/roles", nil, adminapi.UserRolesInput{Roles: []string{}, Own: password}, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, analyst.Call(t.Context(), "GET", "/nodes", nil, nil, nil), 403, "node.read")
	if err := w.call("POST", "/users/ana/disable", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, analyst.Call(t.Context(), "GET", "/session", nil, nil, nil), 401, "log in")
	login := adminapi.LoginInput{Username: "ana", Password: password}
	wantStatus(t, adminapi.NewClient(w.url, "", w.http).Call(t.Context(), "POST", "/session", nil, login, nil), 401, "wrong")
}
