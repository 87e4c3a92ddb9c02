package adminapi_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/resource"
)

// apply makes resources what is served.
func (w *world) apply(text string) {
	w.t.Helper()
	objects, err := resource.Parse("test.yaml", []byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := w.changes.Propose(w.t.Context(), change.Proposal{Author: "admin", Message: "test", Objects: objects})
	if err != nil || c.State != change.Applied {
		w.t.Fatalf("%s %v: %v", c.State, c.Refusals, err)
	}
}

const triggers = `
apiVersion: muster/v1
kind: Trigger
name: seen
spec:
  selector: tag = web
  node: {match: host_identifier, path: /host}
  sql: SELECT name FROM processes WHERE pid = :pid AND name != :name
  parameters:
    pid: {path: /p/0, type: integer}
    name: {path: /name}
  dedup: {window: 1h}
---
apiVersion: muster/v1
kind: EnrollmentQuery
name: birth
spec: {sql: SELECT 1 AS one, selector: tag = web}
`

// hook sends a payload and returns the status and the answer.
func (w *world) hook(name, header, token, payload string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/api/v1/hooks/"+name, strings.NewReader(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set(header, token)
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func TestHook(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(triggers)
	n := w.enrol("web-1")
	if err := w.call("POST", "/triggers/none/token", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Error(err)
	}
	var old, made adminapi.TriggerToken
	for _, out := range []*adminapi.TriggerToken{&old, &made} {
		if err := w.call("POST", "/triggers/seen/token", nil, nil, out); err != nil || len(out.Token) < 40 {
			t.Fatal(out, err)
		}
	}
	const header = "X-Muster-Token"
	good := `{"host":"web-1","p":["42"],"name":"it's"}`
	_, wrong := w.hook("seen", header, "wrong", good)
	for what, c := range map[string]struct {
		name, header, token, payload string
		status                       int
		want                         string
	}{
		"no token":           {"seen", header, "", good, 401, wrong},
		"a former token":     {"seen", header, old.Token, good, 401, wrong},
		"no such trigger":    {"none", header, "wrong", good, 401, wrong},
		"another's token":    {"none", header, made.Token, good, 401, wrong},
		"another scheme":     {"seen", "Authorization", "Basic " + made.Token, good, 401, wrong},
		"no JSON":            {"seen", header, made.Token, `{`, 400, "no JSON"},
		"two values":         {"seen", header, made.Token, good + good, 400, "more than one"},
		"deep":               {"seen", header, made.Token, strings.Repeat("[", 33) + strings.Repeat("]", 33), 400, "levels"},
		"large":              {"seen", header, made.Token, `"` + strings.Repeat("x", 64<<10) + `"`, 413, "limit"},
		"unknown node":       {"seen", header, made.Token, `{"host":"web-2","p":[1],"name":"x"}`, 404, "no node"},
		"no number":          {"seen", header, made.Token, `{"host":"web-1","p":["1 OR 1"],"name":"x"}`, 400, "whole number"},
		"nothing there":      {"seen", header, made.Token, `{"host":"web-1","name":"x"}`, 400, "/p/0"},
		"an object":          {"seen", header, made.Token, `{"host":"web-1","p":[1],"name":{}}`, 400, "neither text nor number"},
		"a control":          {"seen", header, made.Token, `{"host":"web-1","p":[1],"name":"a\u0000"}`, 400, "control"},
		"a session's token":  {"seen", "Authorization", "Bearer x", good, 401, wrong},
		"a name with a line": {"a%0Ab", header, made.Token, good, 401, wrong},
	} {
		if status, got := w.hook(c.name, c.header, c.token, c.payload); status != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: %d %s; want %d %s", what, status, got, c.status, c.want)
		}
	}
	if tasks := w.live.Take(n.ID); len(tasks) != 0 {
		t.Errorf("what was refused is asked: %v", tasks)
	}
	status, got := w.hook("seen", "Authorization", "Bearer "+made.Token, good)
	var fired adminapi.Fired
	if err := json.Unmarshal([]byte(got), &fired); err != nil || status != 202 || fired.NodeID != n.ID || fired.Duplicate {
		t.Fatal(status, got, err)
	}
	if _, again := w.hook("seen", header, made.Token, `{"name":"it's","p":[42],"host":"web-1"}`); !strings.Contains(again, fired.LiveID) || !strings.Contains(again, `"duplicate":true`) {
		t.Error("the same again: ", again)
	}
	tasks := w.live.Take(n.ID)
	if len(tasks) != 1 || tasks[0].SQL != "SELECT name FROM processes WHERE pid = 42 AND name != 'it''s'" || !tasks[0].Accelerate {
		t.Fatalf("%+v", tasks)
	}
	if e := w.audited(); e[0].Actor != "trigger:seen" || e[0].Action != "trigger.fire" || e[0].Target != fired.LiveID || e[0].Address == "" {
		t.Errorf("%+v", e[0])
	}
	if err := w.live.Accept(t.Context(), []live.Answer{{LiveID: fired.LiveID, NodeID: n.ID, State: live.Empty, ReceivedAt: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	var list []adminapi.TriggerStatus
	if err := w.call("GET", "/triggers", nil, nil, &list); err != nil || len(list) != 1 || list[0].Fired != 1 || list[0].Answered != 1 || !list[0].HasToken {
		t.Errorf("%+v, %v", list, err)
	}
	var bounds []adminapi.LiveBound
	if err := w.call("GET", "/live/bound", nil, nil, &bounds); err != nil || len(bounds) != 3 || bounds[0].Group != "all" || bounds[0].Nodes != 1 ||
		bounds[0].Guaranteed != bounds[0].Poll+2 || bounds[0].Observed.Answered != 1 || bounds[2].Group != "tag = web" {
		t.Errorf("%+v, %v", bounds, err)
	}
	var enrollments []adminapi.EnrollmentStatus
	if err := w.call("GET", "/enrollment-queries", nil, nil, &enrollments); err != nil || len(enrollments) != 1 || enrollments[0].Name != "birth" || enrollments[0].Asked != 0 {
		t.Errorf("%+v, %v", enrollments, err)
	}
	if err := w.call("DELETE", "/triggers/seen/token", nil, nil, nil); err != nil {
		t.Error(err)
	}
	if status, got := w.hook("seen", header, made.Token, good); status != 401 {
		t.Error("a revoked token: ", got)
	}
}

// TestHook_person: a person fires a trigger as themselves, and no failing audit
// log lets it through.
func TestHook_person(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(triggers)
	n := w.enrol("web-1")
	in := adminapi.FireInput{Payload: json.RawMessage(`{"host":"web-1","p":[7],"name":"x"}`)}
	w.mute.Store(true)
	if err := w.call("POST", "/triggers/seen/token", nil, nil, nil); adminapi.Status(err) != 500 {
		t.Error("a token that nobody knows of: ", err)
	}
	if tokens, err := w.store.TriggerTokens(t.Context()); err != nil || len(tokens) != 0 {
		t.Error(tokens, err)
	}
	if err := w.call("POST", "/triggers/seen/fire", nil, in, nil); adminapi.Status(err) != 500 || len(w.live.Take(n.ID)) != 0 {
		t.Error("not audited, and yet: ", err)
	}
	w.mute.Store(false)
	var fired adminapi.Fired
	if err := w.call("POST", "/triggers/seen/fire", nil, in, &fired); err != nil || fired.Duplicate || len(w.live.Take(n.ID)) != 1 {
		t.Error(fired, err)
	}
	if e := w.audited()[0]; e.Actor != "admin" || e.Action != "trigger.fire" {
		t.Errorf("%+v", e)
	}
}

// TestHook_rates: one address cannot try tokens for ever.
func TestHook_rates(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	busy := 0
	for range 1300 { // two minutes' worth, should the minute end within
		if status, _ := w.hook("seen", "X-Muster-Token", "guess", "{}"); status == 503 {
			busy++
		} else if status != 401 {
			t.Fatal(status)
		}
	}
	if busy < 50 {
		t.Errorf("%d were refused", busy)
	}
	refused := 0
	for _, e := range w.audited() {
		if e.Action == "trigger.fire" {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d entries of one refusal", refused)
	}
}
