package agentapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
)

// send is post for any method, and returns the answer as it is.
func (w *world) send(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	if rec.Body.Len() == 0 {
		w.t.Errorf("%s %s: an empty answer means success to an agent", method, target)
	}
	if rec.Code >= 300 && rec.Code < 400 {
		w.t.Errorf("%s %s: redirects to %s", method, target, rec.Header().Get("Location"))
	}
	return rec
}

// object reads an answer that must be a JSON object.
func (w *world) object(rec *httptest.ResponseRecorder) (m map[string]any) {
	w.t.Helper()
	if err := json.Unmarshal(rec.Body.Bytes(), &m); err != nil || m == nil {
		w.t.Fatalf("no JSON object: %d %q", rec.Code, rec.Body)
	}
	return m
}

// TestEnroll_forms: what agents of all ages and managers send to enrol.
func TestEnroll_forms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tagged := node.Secret{Name: "tagged", Tags: []string{"base"}, AgentTags: []string{"web", "dc-*"}, CreatedAt: time.Now()}
	if err := w.store.CreateSecret(t.Context(), tagged, w.keyer.Hash(node.PurposeEnrollSecret, "with-tags")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, target, body string
		platform, tags     string
	}{
		{"osquery 5", "/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$","platform_type":"9","host_details":{"system_info":{"hostname":"x"}}}`, "linux", "linux"},
		{"before 4.2: no platform_type", "/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$","host_details":{"os_version":{"platform":"rhel"}}}`, "linux", "linux"},
		{"before 2.8: no host_details", "/v1/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$"}`, "", "linux"},
		{"a number as platform_type", "/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$","platform_type":2}`, "windows", "linux"},
		{"details null", "/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$","host_details":null}`, "", "linux"},
		{"SGT sends its former key", "/node/enroll", `{"enroll_secret":"` + secret + `","node_key":"old","host_identifier":"$","platform_type":"21"}`, "darwin", "linux"},
		{"white space around the secret", "/dev/enroll", `{"enroll_secret":" ` + secret + `\r\n","host_identifier":"$"}`, "", "linux"},
		{"Zentral's specified identifier", "/public/osquery/enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$/EC2-i-0abc"}`, "", "linux"},
		{"--tls_secret_always", "/enroll?enroll_secret=" + secret, `{"host_identifier":"$"}`, "", "linux"},
		{"the secret twice", "/enroll?enroll_secret=" + secret, `{"enroll_secret":"` + secret + `","host_identifier":"$"}`, "", "linux"},
		{"secret with tags", "/enroll", `{"enroll_secret":"with-tags:web:dc-1","host_identifier":"$"}`, "", "base dc-1 web"},
		{"tags that it does not allow", "/enroll", `{"enroll_secret":"with-tags:web:admin","host_identifier":"$"}`, "", "base web"},
		{"--tls_node_api, before it has a key", "//enroll", `{"enroll_secret":"` + secret + `","host_identifier":"$"}`, "", "linux"},
	} {
		body := strings.ReplaceAll(tt.body, "$", tt.name)
		answer := w.object(w.send(http.MethodPost, tt.target, body))
		key, _ := answer["node_key"].(string)
		i := w.registry.Authenticate(key)
		if i == nil || answer["node_invalid"] != false {
			t.Errorf("%s: %v", tt.name, answer)
			continue
		}
		if got := strings.Join(i.Tags, " "); got != tt.tags || i.Platform != tt.platform {
			t.Errorf("%s: tags %q on %q", tt.name, got, i.Platform)
		}
	}
	// An agent that renames its secret, and a manager that knows.
	o := w.options
	o.SecretName = "doorman_secret"
	w.api = agentapi.New(o)
	if a := w.object(w.send(http.MethodPost, "/enroll", `{"doorman_secret":"`+secret+`","host_identifier":"renamed"}`)); a["node_key"] == nil {
		t.Errorf("--tls_enroll_override: %v", a)
	}
	if a := w.object(w.send(http.MethodPost, "/enroll", `{"enroll_secret":"`+secret+`","host_identifier":"not renamed"}`)); a["node_key"] != nil {
		t.Errorf("the other name works, too: %v", a)
	}
}

// TestNodeKey_places: where agents put their key.
func TestNodeKey_places(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.enroll()
	for _, tt := range []struct {
		name, method, target, body, header string
		known                              bool
	}{
		{"body", "POST", "/config", `{"node_key":"` + key + `"}`, "", true},
		{"body, with others", "POST", "/config", `{"a":[{}],"node_key":"` + key + `","b":1}`, "", true},
		{"header, since 5.23.0", "POST", "/config", `{"node_key":"` + key + `"}`, key, true},
		{"header alone", "POST", "/config", `{}`, key, true},
		{"PUT", "PUT", "/config", `{"node_key":"` + key + `"}`, "", true},
		{"--tls_node_api", "GET", "/" + key + "/config&node_key=" + key, "", "", true},
		{"--tls_node_api --tls_secret_always", "GET", "/" + key + "/config?enroll_secret=x&node_key=" + key, "", "", true},
		{"--tls_node_api for the rest", "POST", "/" + key + "/distributed/read", `{"node_key":"` + key + `"}`, "", true},
		{"unknown header", "POST", "/config", `{"node_key":"` + key + `"}`, "other", false},
		{"not enrolled", "POST", "/config", `{"node_key":""}`, "", false},
		{"not enrolled, --tls_node_api", "GET", "//config&node_key=", "", "", false},
	} {
		var headers []string
		if tt.header != "" {
			headers = []string{"Authorization", "NodeKey " + tt.header}
		}
		rec := w.send(tt.method, tt.target, tt.body, headers...)
		answer := w.object(rec)
		if tt.known && (rec.Code != 200 || answer["error"] != nil) || !tt.known && answer["node_invalid"] != true {
			t.Errorf("%s: %d %v", tt.name, rec.Code, answer)
		}
		if text, ok := answer["config"].(string); tt.known && tt.method == "GET" {
			if config := map[string]any{}; !ok || json.Unmarshal([]byte(text), &config) != nil || config["packs"] == nil {
				t.Errorf("%s: the config is no text that holds one: %v", tt.name, answer)
			}
		}
	}
	if strings.Contains(w.log.String(), key) {
		t.Error("the key is in the log")
	}
}

// TestConfig_etag: the exchange of osquery's pull request 9033, and agents that
// know nothing of it.
func TestConfig_etag(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.enroll()
	ask := func(more string) map[string]any {
		t.Helper()
		rec := w.send(http.MethodPost, "/config", `{"node_key":"`+key+`"`+more+`}`)
		if rec.Body.Len() > 1<<10 && rec.Header().Get("Content-Length") == "" { // net/http says that of small ones
			t.Error("no Content-Length")
		}
		return w.object(rec)
	}
	plain := ask("")
	if plain["etag"] != nil || plain["packs"] == nil {
		t.Errorf("an agent that sent no etag: %v", plain)
	}
	first := ask(`,"etag":""`)
	etag, _ := first["etag"].(string)
	if etag == "" || etag == "ok" {
		t.Fatalf("etag %v", first["etag"])
	}
	delete(first, "etag")
	if d := cmp.Diff(plain, first); d != "" {
		t.Errorf("the config with an etag is another: %s", d)
	}
	if d := cmp.Diff(map[string]any{"etag": "ok"}, ask(`,"etag":"`+etag+`"`)); d != "" {
		t.Error(d)
	}
	for _, old := range []string{`"ok"`, `"other"`, `null`, `5`, `{}`} {
		if got := ask(`,"etag":` + old); got["etag"] != etag || got["packs"] == nil {
			t.Errorf("etag %s: %v", old, got["etag"])
		}
	}
}

// TestAnswers_gzip: compressed for those alone that say they understand it.
func TestAnswers_gzip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.enroll()
	nodes, _, _ := w.registry.Select(node.Selector{All: true})
	sql := "SELECT '" + strings.Repeat("x", 5000) + "'"
	q := live.Query{ID: "q1", SQL: sql, Selector: node.Selector{All: true}, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
	if _, err := w.live.Start(t.Context(), q, nodes); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, body string }{
		{"/config", `{"node_key":"` + key + `"}`},
		{"/config", `{"node_key":"` + key + `","etag":""}`},
		{"/distributed/read", `{"node_key":"` + key + `"}`},
	} {
		rec := w.send(http.MethodPost, tt.path, tt.body, "Accept-Encoding", "gzip")
		if rec.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf("%s is not compressed", tt.path)
			continue
		}
		z, err := gzip.NewReader(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil || len(b) < 1000 {
			t.Fatal(len(b), err)
		}
		if tt.path == "/distributed/read" {
			if !bytes.Contains(b, []byte(sql)) {
				t.Errorf("%.100s", b)
			}
			continue
		}
		if plain := w.send(http.MethodPost, tt.path, tt.body); plain.Header().Get("Content-Encoding") != "" || !bytes.Equal(plain.Body.Bytes(), b) {
			t.Errorf("%s: plain and compressed are not the same", tt.path)
		}
	}
	if rec := w.send(http.MethodPost, "/distributed/read", `{"node_key":"`+key+`"}`, "Accept-Encoding", "gzip"); rec.Body.String() != `{"queries":{}}` {
		t.Errorf("nothing pending: %q", rec.Body)
	}
}

// TestLog_forms: what agents of all ages log, one row of the reference each.
func TestLog_forms(t *testing.T) {
	t.Parallel()
	const stamp = `"name":"pack/osquery/users","hostIdentifier":"h","calendarTime":"Sat Nov 21 08:45:24 2026 UTC","unixTime":1795250724`
	for _, tt := range []struct {
		name, kind, line string
		want             []string // action and columns of each event
	}{
		{"event", "result", `{` + stamp + `,"columns":{"a":"1"},"action":"added"}`, []string{`added {"a":"1"}`}},
		{"numbers as text, before 3.0", "result", `{"name":"q","unixTime":"1795250724","epoch":"0","counter":"4","columns":{"a":"1"},"action":"added"}`, []string{`added {"a":"1"}`}},
		{"numbers in columns", "result", `{` + stamp + `,"numerics":true,"columns":{"a":1,"b":1.5},"action":"removed"}`, []string{`removed {"a":"1","b":"1.5"}`}},
		{"batch", "result", `{` + stamp + `,"diffResults":{"added":[{"a":"1"},{"a":"2"}],"removed":[{"a":"0"}]}}`, []string{`removed {"a":"0"}`, `added {"a":"1"}`, `added {"a":"2"}`}},
		{"batch with \"\"", "result", `{` + stamp + `,"diffResults":{"added":"","removed":[{"a":"0"}]}}`, []string{`removed {"a":"0"}`}},
		{"snapshot", "result", `{` + stamp + `,"snapshot":[{"a":"1"},{"a":"2"}],"action":"snapshot"}`, []string{`snapshot {"a":"1"}`, `snapshot {"a":"2"}`}},
		{"snapshot \"\", of 1.5", "result", `{` + stamp + `,"snapshot":"","action":"snapshot"}`, []string{`snapshot {}`}},
		{"snapshot without rows", "result", `{` + stamp + `,"snapshot":[],"action":"snapshot"}`, []string{`snapshot {}`}},
		{"a time that nobody can read", "result", `{"name":"q","calendarTime":"gestern","columns":{"a":"1"},"action":"added"}`, []string{`added {"a":"1"}`}},
		{"decorations within", "result", `{` + stamp + `,"decorations":{"d":"x"},"columns":{"a":"1"},"action":"added"}`, []string{`added {"a":"1"}`}},
		{"decorations at the top", "result", `{` + stamp + `,"d":"x","columns":{"a":"1"},"action":"added"}`, []string{`added {"a":"1"}`}},
		{
			"status", "status", `{"hostIdentifier":"h","unixTime":1795250724,"severity":2,"filename":"a.cpp","line":7,"message":"m","version":"5.23.1"}`,
			[]string{`status {"severity":"2","filename":"a.cpp","line":"7","message":"m","version":"5.23.1"}`},
		},
		{
			"status with text for numbers", "status", `{"severity":"0","filename":"a.cpp","line":"7","message":"m","unixTime":"1795250724"}`,
			[]string{`status {"severity":"0","filename":"a.cpp","line":"7","message":"m"}`},
		},
		{"NUL and bytes that are no UTF-8", "result", "{" + stamp + `,"columns":{"a":"x\u0000` + "\xff" + `"},"action":"added"}`, []string{`added {"a":"x\u0000\\xFF"}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			key := w.enroll()
			body := `{"data":[` + tt.line + `],"log_type":"` + tt.kind + `","node_key":"` + key + `"}`
			for i, send := range []func() *httptest.ResponseRecorder{
				func() *httptest.ResponseRecorder { return w.send(http.MethodPost, "/log", body) },
				func() *httptest.ResponseRecorder { // logger_tls_compress
					return w.send(http.MethodPost, "/8f1b9a52/log", string(zip(t, []byte(body))), "Content-Encoding", "gzip")
				},
			} {
				w.options.Seen, w.stream.batches = event.NewSeen(), nil
				w.api = agentapi.New(w.options)
				if rec := send(); rec.Code != 200 || rec.Body.String() != "{}" {
					t.Fatalf("%d: %d %s", i, rec.Code, rec.Body)
				}
				var got []string
				for _, e := range w.stream.events() {
					got = append(got, e.Action+" "+string(e.Columns))
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("%d: %s", i, d)
				}
			}
		})
	}
}

// TestWrite_forms: what agents of all ages answer to live queries.
func TestWrite_forms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       live.State
	}{
		{"osquery 5.8", `{"queries":{"q":[{"a":"1"}]},"statuses":{"q":0},"messages":{"q":""},"stats":{"q":{"wall_time_ms":3,"user_time":1,"system_time":0,"memory":5}}`, live.Answered},
		{"before 5.8: no stats", `{"queries":{"q":[{"a":"1"}]},"statuses":{"q":0},"messages":{"q":""}`, live.Answered},
		{"before 4.4: no messages", `{"queries":{"q":[]},"statuses":{"q":1}`, live.Failed},
		{"before 3.0: text for numbers", `{"queries":{"q":[{"a":"1"}]},"statuses":{"q":"0"}`, live.Answered},
		{"before 3.0: \"\" for no rows", `{"queries":{"q":""},"statuses":{"q":"0"}`, live.Empty},
		{"no statuses", `{"queries":{"q":[{"a":"1"}]}`, live.Answered},
		{"denylisted", `{"queries":{"q":[]},"statuses":{"q":1},"messages":{"q":"distributed query is denylisted"},"stats":{"q":{}}`, live.Denylisted},
	} {
		w := newWorld(t)
		body := tt.body + `,"node_key":"` + w.enroll() + `"}`
		if rec := w.send(http.MethodPost, "/distributed_write", body); rec.Code != 200 || rec.Body.String() != "{}" {
			t.Errorf("%s: %d %s", tt.name, rec.Code, rec.Body)
		}
		if len(w.stream.answers) != 1 || w.stream.answers[0].State != tt.want {
			t.Errorf("%s: %+v", tt.name, w.stream.answers)
		}
	}
}

// TestCarve_refused: the carver takes any JSON, and nothing at all, for a block
// that arrived; so a refusal is text.
func TestCarve_refused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/start_uploads", `{"block_count":1,"block_size":10,"carve_size":10,"carve_id":"c","request_id":"","node_key":"` + w.enroll() + `"}`},
		{"POST", "/start_uploads%20", `{}`},
		{"POST", "/upload_blocks", `{"block_id":"0","session_id":"s","request_id":"","data":"YQ=="}`},
		{"POST", "/carve/continue", strings.Repeat("x", 65<<20)},
		{"GET", "/dev/block", ""},
		{"POST", "/api/v1/osquery/carve/block", "not JSON"},
	} {
		rec := w.send(tt.method, tt.path, tt.body)
		if rec.Code < 400 || json.Valid(rec.Body.Bytes()) || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %s %q", tt.path, rec.Code, rec.Header().Get("Content-Type"), rec.Body)
		}
	}
}

// TestUserAgent: nothing depends on it, as proxies change it.
func TestUserAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.enroll()
	for _, agent := range []string{"", "osquery/1.7.4", "curl/8", "\x01"} {
		if rec := w.send(http.MethodPost, "/config", `{"node_key":"`+key+`"}`, "User-Agent", agent, "Content-Type", agent); rec.Code != 200 {
			t.Errorf("%q: %d", agent, rec.Code)
		}
	}
}
