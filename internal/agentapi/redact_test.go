package agentapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
)

// TestRedaction sends a secret wherever an agent can say something, and looks for
// it in all that is kept and logged.
func TestRedaction(t *testing.T) {
	const canary = "Zq7-canary-9Xw"
	w := newWorld(t)
	key := w.enroll()
	send := func(path, body string) {
		t.Helper()
		body = strings.ReplaceAll(body, "%c", canary)
		if status, answer := w.post(path, []byte(strings.ReplaceAll(body, "%k", key))); status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	result := `{"node_key":"%k","log_type":"result","data":[
		{"name":"a","unixTime":1764530000,"action":"added","columns":{"cmdline":"mysql -p%c db"},"decorations":{"owner":"https://a:%c@b/"}},
		{"name":"b","unixTime":1764530000,"action":"snapshot","snapshot":[{"key":"DB_PASSWORD","value":"%c"},{"x":"y"}]},
		{"name":"c","unixTime":1764530000,"diffResults":{"added":[{"x":"password=%c"}],"removed":[{"x":"token=%c"}]},"password":"%c"}]}`
	send("/api/osquery/log", result)
	send("/api/osquery/log", result) // its answer was lost
	send("/api/osquery/log", `{"node_key":"%k","log_type":"status","data":[{"severity":"1","filename":"f","line":"1","message":"no: Authorization: Bearer %c"}]}`)
	q, err := w.live.Start(t.Context(), live.Query{ID: "l1", SQL: "SELECT 1"}, slices.Collect(w.registry.All))
	if err != nil {
		t.Fatal(err)
	}
	send("/api/osquery/distributed/write", `{"node_key":"%k","queries":{"`+q.ID+`":[{"cmdline":"curl -u a:%c https://b"}]},"statuses":{"`+q.ID+`":0},"messages":{"`+q.ID+`":""}}`)
	send("/api/osquery/distributed/write", `{"node_key":"%k","queries":{"x":[]},"statuses":{"x":1},"messages":{"x":"near password=%c"}}`)
	w.post("/api/osquery/log", []byte(`{"node_key":"`+key+`","log_type":"result","data":[{"columns":{"password":"`+canary+`"}},oops]}`))
	w.post("/api/osquery/log", []byte(`{"node_key":"`+key+`","log_type":"result","data":[{"columns":{"password":"`+canary+`"}},1x]}`))

	batches, err := json.Marshal(w.stream.events())
	if err != nil {
		t.Fatal(err)
	}
	answers, err := json.Marshal(w.stream.answers)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := w.store.FindNode(t.Context(), slices.Collect(w.registry.All)[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	attributes := fmt.Sprint(n)
	for what, kept := range map[string]string{"events": string(batches), "answers": string(answers), "log": w.log.String(), "attributes": attributes} {
		if strings.Contains(kept, canary) || strings.Contains(kept, canary[4:]) {
			t.Errorf("%s hold the secret: %s", what, kept)
		}
		if what != "log" && !strings.Contains(kept, "‹redacted:") {
			t.Errorf("%s hold no placeholder: %s", what, kept)
		}
	}
	if n := len(w.stream.events()); n != 6 {
		t.Errorf("%d events; repeated lines must still be known", n)
	}
	lineHidden(t, w.stream.events())
}

// lineHidden wants the hash of a line not to be one that everybody can make.
func lineHidden(t *testing.T, events []event.Event) {
	t.Helper()
	const line = `{"log_type":"status","data":[{"severity":"1","filename":"f","line":"1","message":"no: Authorization: Bearer Zq7-canary-9Xw"}]}`
	log, err := new(event.Decoders).Get().Decode([]byte(line), events[0].Time)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Line == log.Events[0].Line {
			t.Error("a guess of the secret can be tried against the hash of its line")
		}
	}
}
