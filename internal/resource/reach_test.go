package resource_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

func reach(t *testing.T, kind, spec string) *resource.Set {
	t.Helper()
	objects, err := resource.Parse("r.yaml", []byte("{apiVersion: muster/v1, kind: "+kind+", name: x, spec: "+spec+"}"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCheck_reach(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	const host = "node: {match: hostname, path: /h}"
	tests := []struct{ kind, spec, refused string }{
		{"EnrollmentQuery", "{sql: SELECT 1}", ""},
		{"EnrollmentQuery", "{sql: SELECT 1, expires: 1s}", "1m to 720h"},
		{"EnrollmentQuery", "{sql: SELECT 1, selector: tga = x}", "tga"},
		{"EnrollmentQuery", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\"}", "curl"},
		{"EnrollmentQuery", "{sql: \"SELECT 1 WHERE :a\"}", "parameter"},
		{"EnrollmentQuery", "{sql: DELETE FROM users}", "may not be modified"},
		{"Trigger", "{sql: SELECT 1, " + host + "}", ""},
		{"Trigger", "{sql: \"SELECT uid FROM users WHERE uid = :u\", parameters: {u: {path: /u, type: integer}}, " + host + "}", ""},
		{"Trigger", "{sql: \"SELECT size FROM file WHERE path = :u\", parameters: {u: {path: /u}}, " + host + "}", "comes from outside"},
		{"LivePolicy", "{rules: [{kinds: [carve], require: reason}]}", ""},
		{"LivePolicy", "{rules: [{kinds: [carve], require: approval}]}", "nobody can approve a carve"},
		{"LivePolicy", "{rules: [{kinds: [person, trigger], require: reason}]}", "by no person"},
		{"Trigger", "{sql: SELECT 1, node: {match: mac, path: /h}}", "host_identifier"},
		{"Trigger", "{sql: SELECT 1, node: {match: hostname, path: h}}", "JSON pointer"},
		{"Trigger", "{sql: SELECT 1, node: {match: hostname, path: /h~2}}", "means nothing"},
		{"Trigger", "{sql: SELECT 1, node: {match: id, path: /h, at: /t}}", "always the same"},
		{"Trigger", "{sql: \"SELECT :u\", " + host + "}", "not among"},
		{"Trigger", "{sql: SELECT 1, parameters: {u: {path: /u}}, " + host + "}", "not used"},
		{"Trigger", "{sql: \"SELECT :u\", parameters: {u: {path: /u, type: float}}, " + host + "}", "text or integer"},
		{"Trigger", "{sql: \"SELECT :u\", parameters: {u: {path: /u, pattern: '('}}, " + host + "}", "RE2"},
		{"Trigger", "{sql: \"SELECT :u\", parameters: {u: {path: /u, pattern: 'a)(b'}}, " + host + "}", "RE2"},
		{"Trigger", "{sql: \"SELECT :u\", parameters: {u: {path: /u, max_length: 5000}}, " + host + "}", "4096"},
		{"Trigger", "{sql: SELECT 1, limits: {per_node: -1}, " + host + "}", "a minute"},
		{"Trigger", "{sql: SELECT 1, dedup: {path: /x}, " + host + "}", "no-window"},
		{"Trigger", "{sql: SELECT 1, dedup: {window: 48h}, " + host + "}", "24h"},
	}
	for _, tt := range tests {
		report, err := resource.Check(reach(t, tt.kind, tt.spec), engine, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		refused, err := json.Marshal(report.Refused(policy.Sensitive))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(refused); (got == "[]") != (tt.refused == "") || !strings.Contains(got, tt.refused) {
			t.Errorf("%s %s: %s", tt.kind, tt.spec, got)
		}
	}
}

// TestSnapshot_reach: what asks nodes by itself is in no config.
func TestSnapshot_reach(t *testing.T) {
	t.Parallel()
	n := &node.Identity{ID: "n", Tags: []string{"web"}}
	empty, err := resource.NewSet(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := resource.Compile(1, empty)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plain.Config(n)
	if err != nil {
		t.Fatal(err)
	}
	for kind, spec := range map[string]string{
		"EnrollmentQuery": "{sql: SELECT 1, selector: tag = web}",
		"Trigger":         "{sql: SELECT 1, selector: tag = web, node: {match: id, path: /h}}",
	} {
		s, err := resource.Compile(1, reach(t, kind, spec))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Config(n)
		if err != nil || string(got.JSON) != string(want.JSON) {
			t.Errorf("%s: %s, %v", kind, got.JSON, err)
		}
		if other := (&node.Identity{ID: "o"}); !plain.AsksOther(n, s, n) || plain.AsksOther(other, s, other) || s.AsksOther(n, s, n) {
			t.Errorf("%s: whom it reaches", kind)
		}
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	var document any
	if err := json.Unmarshal([]byte(`{"a":{"b.c":[10,{"d/e":"x","~":1}]},"":2,"n":null}`), &document); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[resource.Pointer]any{
		"/a/b.c/0": 10.0, "/a/b.c/1/d~1e": "x", "/a/b.c/1/~0": 1.0, "/": 2.0, "/n": nil,
	} {
		if got, ok := at.In(document); !ok || got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
	for _, at := range []resource.Pointer{"/b", "/a/b.c/2", "/a/b.c/-1", "/a/b.c/01", "/a/b.c/-", "/a/b.c/0/x", "/n/x", "/a/b"} {
		if got, ok := at.In(document); ok {
			t.Errorf("%s: %v", at, got)
		}
	}
}

func TestConfig_Polling(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]resource.Polling{
		"{}":                                     {Every: time.Minute},
		"{options: {distributed_interval: 7}}":   {Every: 7 * time.Second},
		"{options: {distributed_interval: 0}}":   {Every: time.Minute},
		"{options: {disable_distributed: true}}": {Every: time.Minute, Off: true},
	} {
		s, err := resource.Compile(1, reach(t, "Profile", spec))
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Config(&node.Identity{ID: "n"})
		if err != nil || c.Polling() != want {
			t.Errorf("%s: %+v, %v", spec, c.Polling(), err)
		}
	}
}

// TestConfig_Logging: how late a row may be, by the options of its node.
func TestConfig_Logging(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]time.Duration{
		"{}": 66*time.Second + 4*time.Second,
		"{options: {logger_tls_period: 10, schedule_splay_percent: 0}}":  70 * time.Second,
		"{options: {logger_tls_period: 0, schedule_splay_percent: 400}}": 124 * time.Second,
	} {
		s, err := resource.Compile(1, reach(t, "Profile", spec))
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Config(&node.Identity{ID: "n"})
		if err != nil || c.Logging().Bound(60) != want {
			t.Errorf("%s: %s, want %s, %v", spec, c.Logging().Bound(60), want, err)
		}
	}
}
