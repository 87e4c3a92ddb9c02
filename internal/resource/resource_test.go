package resource

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

func defaults(tb testing.TB) *Set {
	tb.Helper()
	objects, err := Defaults()
	if err != nil {
		tb.Fatal(err)
	}
	set, err := NewSet(objects)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func compiled(tb testing.TB, set *Set) *Snapshot {
	tb.Helper()
	s, err := Compile(7, set)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func defaultConfig(tb testing.TB) *Config {
	tb.Helper()
	c, err := compiled(tb, defaults(tb)).Config(&node.Identity{})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// shipped is the policy without rules of one's own.
func shipped(tb testing.TB) *policy.Engine {
	tb.Helper()
	e, err := policy.New(policy.Rules{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	return e
}

// sorted reports the first object whose keys are not in order.
func sorted(d *json.Decoder, path string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		last := ""
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := fmt.Sprint(key)
			if name <= last {
				return fmt.Errorf("%s: %s comes after %s", path, name, last)
			}
			last = name
			if err := sorted(d, path+"/"+name); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('['):
		for d.More() {
			if err := sorted(d, path+"[]"); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := defaultConfig(t)
	var compact bytes.Buffer
	if err := json.Compact(&compact, c.JSON); err != nil || !bytes.Equal(compact.Bytes(), c.JSON) {
		t.Errorf("not compact: %v", err)
	}
	if err := sorted(json.NewDecoder(bytes.NewReader(c.JSON)), ""); err != nil {
		t.Error(err)
	}
	if bytes.Contains(c.JSON, []byte(`\u00`)) || bytes.Contains(c.JSON, []byte(`"description":`)) {
		t.Errorf("escapes, or words for people: %s", c.JSON)
	}
	for range 20 {
		if again := defaultConfig(t); !bytes.Equal(again.JSON, c.JSON) || again.Hash != c.Hash {
			t.Fatal("another config each time")
		}
	}
	var d struct {
		Options map[string]any
		Packs   map[string]struct {
			Queries map[string]struct {
				Interval any
			}
		}
	}
	if err := json.Unmarshal(c.JSON, &d); err != nil {
		t.Fatal(err)
	}
	for name, q := range d.Packs["base"].Queries {
		if n, ok := q.Interval.(float64); !ok || n < 60 || n != float64(int(n)) {
			t.Errorf("%s runs every %v", name, q.Interval)
		}
	}
	// 0 makes an agent poll without pause, and a key error any answer a failure.
	for _, name := range []string{"distributed_interval", "logger_tls_period"} {
		if n, ok := d.Options[name].(float64); !ok || n < 1 {
			t.Errorf("%s is %v", name, d.Options[name])
		}
	}
}

// TestDefaults_policy holds what comes with Muster to its own policy.
func TestDefaults_policy(t *testing.T) {
	t.Parallel()
	report, err := Check(defaults(t), shipped(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range report.Items {
		if !i.Allowed(policy.Sensitive) {
			t.Errorf("%s %s: %+v", i.Key, i.Path, i.Verdict)
		}
		for _, f := range i.Verdict.Findings {
			if f.Severity == policy.Warning && i.Path != "queries.worker.query" { // often on purpose: it emits a row only when something happened
				t.Errorf("%s %s: %s", i.Key, i.Path, f.Message)
			}
		}
	}
}

// TestHash follows osquery: SHA-1 over the hex digests of the sources, of which
// there is one. The first value was computed with sha1sum.
func TestHash(t *testing.T) {
	t.Parallel()
	c, err := newConfig(1, map[string]any{"options": map[string]any{"a": "<ä>"}})
	if err != nil || string(c.JSON) != `{"options":{"a":"<ä>"}}` {
		t.Fatalf("%s, %v", c.JSON, err)
	}
	if want := "97a8e40ef4549712f6708cdd0ff733701d1e77a6"; c.Hash != want {
		t.Errorf("hash %s, want %s", c.Hash, want)
	}
	d := defaultConfig(t)
	inner, outer := sha1.New(), sha1.New()
	inner.Write(d.JSON)
	_, _ = io.WriteString(outer, hex.EncodeToString(inner.Sum(nil)))
	if want := hex.EncodeToString(outer.Sum(nil)); d.Hash != want {
		t.Errorf("hash %s, want %s", d.Hash, want)
	}
	if !json.Valid(d.Tagged) || !bytes.Contains(d.Tagged, []byte(`{"etag":"`+d.ETag+`",`)) {
		t.Errorf("tagged: %.80s", d.Tagged)
	}
	if e := emptyConfig(1); string(e.JSON) != "{}" || !json.Valid(e.Tagged) {
		t.Errorf("empty: %s, %s", e.JSON, e.Tagged)
	}
	if _, err := newConfig(1, map[string]any{"a": strings.Repeat("x", maxConfig)}); err == nil {
		t.Error("a config that osquery does not take")
	}
}

// parse reads documents that must be right.
func parse(tb testing.TB, text string) *Set {
	tb.Helper()
	objects, err := Parse("test.yaml", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	set, err := NewSet(objects)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// doc writes a document.
func doc(kind, name, spec string) string {
	return "apiVersion: muster/v1\nkind: " + kind + "\nname: " + name + "\nspec: " + spec + "\n---\n"
}

func TestParse_errors(t *testing.T) {
	t.Parallel()
	pack := "{queries: {q: {query: SELECT 1, interval: 60}}}"
	tests := []struct{ text, problem string }{
		{"apiVersion: muster/v2\nkind: Pack\nname: p\nspec: " + pack, "muster/v1"},
		{doc("Pak", "p", pack), "kind"},
		{doc("Pack", "p", "{querys: {}}"), "querys"},
		{doc("Pack", "p", "{queries: {q: {query: SELECT 1, intervall: 5}}}"), "intervall"},
		{doc("Pack", "p", "{queries: {q: {query: SELECT 1, interval: often}}}"), "[4:"},
		{doc("Pack", "main", pack), "main"},
		{doc("Pack", "a/b", pack), "name"},
		{doc("Pack", "''", pack), "name"},
		{"apiVersion: muster/v1\nkind: Pack\nname: p\n", "spec"},
		{"apiVersion: muster/v1\nkind: Pack\nname: p\nnamee: q\nspec: " + pack, "namee"},
		{doc("Profile", "p", "{options: []}"), "sequence"},
		{doc("Profile", "p", "{options: {a: b, a: c}}"), "a"},
		{"a: [", ""},
		{"- 1", ""},
		{"just words", ""},
		{doc("Profile", "p", "{options: {a: &x 1, b: *x}}"), "anchor"},
		{doc("Pack", "p", pack) + doc("Pack", "q", "{querys: {}}") + doc("Pak", "r", pack), "Pak"}, // tells of each
		{doc("RolloutPolicy", "p", "{stages: [{percent: 5, bake: soon}]}"), "soon"},
		{doc("PolicyException", "p", "{sql: SELECT 1, reason: r, expires: tomorrow}"), "tomorrow"},
		{doc("PolicyException", "p", "{sql: SELECT 1, reason: r, expires: 2026-13-45T00:00:00Z}"), "2026-13"},
		{doc("PolicyException", "p", "{sql: SELECT 1, reason: r, expires: 2026-11-25 10:00}"), "2026-11-25 10:00"},
		{doc("PolicyException", "p", "{sql: SELECT 1, reason: r, expires: 99999-01-01T00:00:00Z}"), "99999"},
		{doc("FreezeWindow", "p", "{from: now, until: 2027-01-01T00:00:00Z}"), "now"},
		{doc("Pack", "p", "{queries: {q: {query: SELECT 1, interval: 1.9}}}"), "1.9"},
		{doc("Pack", "p", "{shard: 2.7, queries: {q: {query: SELECT 1, interval: 60}}}"), "2.7"},
		{doc("ApprovalPolicy", "p", "{rules: [{approvals: 0.9}]}"), "0.9"},
	}
	for _, tt := range tests {
		if _, err := Parse("test.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%.90s: %v", tt.text, err)
		}
	}
	for _, text := range []string{"", "---\n---\n", "# nothing\n"} {
		if objects, err := Parse("test.yaml", []byte(text)); err != nil || len(objects) != 0 {
			t.Errorf("%q: %v, %v", text, objects, err)
		}
	}
	if _, err := NewSet(append(slices.Collect(parse(t, doc("Pack", "p", pack)).All()), slices.Collect(parse(t, doc("Pack", "p", pack)).All())...)); err == nil {
		t.Error("two of one name")
	}
}

const fleet = `
apiVersion: muster/v1
kind: Profile
name: a-low
spec:
  options: {verbose: false, logger_tls_period: 30, distributed_interval: 20}
  decorators: {load: [SELECT 1 AS one, SELECT 2 AS two]}
  file_paths: {etc: [/etc/hosts], bin: [/usr/local/bin/%]}
---
apiVersion: muster/v1
kind: Profile
name: b-high
spec:
  selector: tag = web
  priority: 5
  options: {logger_tls_period: 10}
  decorators: {load: [SELECT 2 AS two, SELECT 3 AS three]}
  file_paths: {etc: [/etc/nginx/%]}
---
apiVersion: muster/v1
kind: Pack
name: web
description: for web servers
spec:
  selector: tag = web
  discovery: [SELECT pid FROM processes WHERE name = 'nginx']
  queries:
    ports: {query: SELECT port FROM listening_ports, interval: 300, description: what listens, removed: false}
    busy: {query: "SELECT pid FROM processes WHERE name = 'stress'", interval: 600, snapshot: true, tag_if_rows: busy}
---
apiVersion: muster/v1
kind: TagRule
name: databases
spec:
  selector: hostname = "db-*"
  tags: [db]
---
apiVersion: muster/v1
kind: OnDisk
name: vault
spec:
  selector: tag = vault
`

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := compiled(t, parse(t, fleet))
	web, plain := &node.Identity{ID: "w", Tags: []string{"web"}}, &node.Identity{ID: "p", Hostname: "DB-1"}
	for _, tt := range []struct {
		n    *node.Identity
		want string
	}{
		{plain, `{"decorators":{"load":["SELECT 1 AS one","SELECT 2 AS two"]},"file_paths":{"bin":["/usr/local/bin/%"],"etc":["/etc/hosts"]},` +
			`"options":{"distributed_interval":20,"logger_tls_period":30,"verbose":false},"packs":{}}`},
		{web, `{"decorators":{"load":["SELECT 2 AS two","SELECT 3 AS three","SELECT 1 AS one"]},"file_paths":{"bin":["/usr/local/bin/%"],"etc":["/etc/nginx/%"]},` +
			`"options":{"distributed_interval":20,"logger_tls_period":10,"verbose":false},"packs":{"web":{"discovery":["SELECT pid FROM processes WHERE name = 'nginx'"],` +
			`"queries":{"busy":{"interval":600,"query":"SELECT pid FROM processes WHERE name = 'stress'","snapshot":true},` +
			`"ports":{"interval":300,"query":"SELECT port FROM listening_ports","removed":false}}}}}`},
	} {
		c, err := s.Config(tt.n)
		if err != nil || string(c.JSON) != tt.want || c.Revision != 7 {
			t.Errorf("%s: %v\n got %s\nwant %s", tt.n.ID, err, c.JSON, tt.want)
		}
	}
	if tags := s.RuleTags(plain); len(tags) != 1 || tags[0] != (node.RuleTag{Rule: "databases", Tag: "db"}) {
		t.Errorf("tags by rule: %v", tags)
	}
	if tags := s.RuleTags(web); len(tags) != 0 {
		t.Errorf("tags by rule: %v", tags)
	}
	if tag := s.TagOf("pack_web_busy"); tag != "busy" || s.TagOf("pack_web_ports") != "" {
		t.Errorf("tag of a query: %q", tag)
	}
	if q := s.Schedule(web); len(q) != 2 || q[0].Name != "pack_web_busy" || q[1].Interval != 300 || len(s.Schedule(plain)) != 0 {
		t.Errorf("schedule: %v", q)
	}
}

// TestSnapshot_sources shows which profile wins.
func TestSnapshot_sources(t *testing.T) {
	t.Parallel()
	s := compiled(t, parse(t, fleet))
	entries, err := s.Sources(&node.Identity{Tags: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Path] = fmt.Sprint(e.Source, e.Lost)
	}
	for path, want := range map[string]string{
		"options.logger_tls_period": "Profile/b-high [Profile/a-low]", "options.verbose": "Profile/a-low []", "file_paths.etc": "Profile/b-high [Profile/a-low]",
		"decorators.load[0]": "Profile/b-high []", "decorators.load[2]": "Profile/a-low []", "packs.web": "Pack/web []",
	} {
		if got[path] != want {
			t.Errorf("%s comes from %q, want %q", path, got[path], want)
		}
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	set := parse(t, fleet)
	base := compiled(t, set)
	next, err := set.With(slices.Collect(parse(t, doc("Pack", "new", "{queries: {q: {query: SELECT 1, interval: 60}}}")).All()), nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Compile(8, next)
	if err != nil {
		t.Fatal(err)
	}
	catalog := NewCatalog(&Plan{Base: base}, slog.New(slog.DiscardHandler))
	var served []string
	catalog.Served = func(n *node.Identity, c *Config) { served = append(served, fmt.Sprint(n.ID, c.Revision)) }
	a, b := &node.Identity{ID: "a"}, &node.Identity{ID: "b"}
	vault, outcast := &node.Identity{ID: "v", Tags: []string{"vault"}}, &node.Identity{ID: "q", Quarantined: true}
	if one := catalog.Config(a); one != catalog.Config(a) || one != catalog.Config(b) {
		t.Error("two nodes alike have two configs")
	}
	if c := catalog.Config(vault); string(c.JSON) != "{}" {
		t.Errorf("a node that takes its config from files is served %s", c.JSON)
	}
	if files, err := base.Files(vault); err != nil || files.Hash != catalog.Config(a).Hash {
		t.Errorf("files: %v, %v", files, err)
	}
	if c := catalog.Config(outcast); string(c.JSON) != `{"options":{"distributed_interval":20,"logger_tls_period":30,"verbose":false},"packs":{}}` {
		t.Errorf("under quarantine: %s", c.JSON)
	}
	catalog.SetPlan(&Plan{Base: base, Next: after, Admits: func(n *node.Identity) bool { return n.ID == "a" }})
	if catalog.Config(a).Revision != 8 || catalog.Config(b).Revision != 7 {
		t.Error("the stage does not hold")
	}
	catalog.SetPlan(&Plan{Base: after, Safe: func(n *node.Identity) bool { return n.ID == "b" }})
	if c := catalog.Config(b); bytes.Contains(c.JSON, []byte("new")) || c.Revision != 8 || !bytes.Contains(catalog.Config(a).JSON, []byte("new")) {
		t.Errorf("safe config: %s", c.JSON)
	}
	if want := "[a7 b7 v7 q7 a8 b7 b8 a8]"; fmt.Sprint(served) != want {
		t.Errorf("served %v, want %s", served, want)
	}
}

func TestSet_Diff(t *testing.T) {
	t.Parallel()
	before := parse(t, fleet)
	changed := strings.Replace(strings.Replace(fleet, "interval: 300", "interval: 900", 1), "name: databases", "name: dbs", 1)
	edits, err := before.Diff(parse(t, changed))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range edits {
		got += fmt.Sprintln(e.Op, e.Key, e.Fields)
	}
	want := "change Pack/web [{queries.ports.interval 300 900}]\n" +
		"delete TagRule/databases [{selector hostname = \"db-*\" } {tags[0] db }]\ncreate TagRule/dbs [{selector  hostname = \"db-*\"} {tags[0]  db}]\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if edits, err := before.Diff(parse(t, fleet)); err != nil || len(edits) != 0 {
		t.Errorf("the same: %v, %v", edits, err)
	}
}

// TestYAML writes what was read, and reads it as it was.
func TestYAML(t *testing.T) {
	t.Parallel()
	odd := doc("Pack", "odd", `{queries: {"a b": {query: "SELECT '{{x}}: #y', 1.0\n  -- why\n", interval: 60, description: "yes"}}}`) +
		doc("PolicyException", "e", `{path: options.verbose, value: true, reason: "because: it's #1", expires: 2030-01-02T03:04:05Z}`) +
		doc("RolloutPolicy", "r", "{stages: [{percent: 0.5, bake: 90m}, {nodes: 3}], gates: {silent: 2.5, skip: [rows]}, on_failure: rollback}") +
		doc("FreezeWindow", "f", `{weekly: {from: "fri 16:00", until: "mon 08:00"}, timezone: Europe/Berlin}`)
	for _, set := range []*Set{defaults(t), parse(t, fleet), parse(t, odd)} {
		b, err := YAML(slices.Collect(set.All()))
		if err != nil {
			t.Fatal(err)
		}
		if again := parse(t, string(b)); again.Hash() != set.Hash() {
			edits, err := set.Diff(again)
			t.Errorf("another after a round trip: %+v, %v\n%s", edits, err, b)
		}
		for o := range set.All() {
			canonical, err := o.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			kept, err := Decode(canonical)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := kept.Canonical(); err != nil || !bytes.Equal(canonical, again) {
				t.Errorf("%s: kept as another: %s, %v", o.Key, again, err)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	engine := shipped(t)
	tests := []struct {
		name, text string
		refused    string // a part of what is said; "" if all is allowed
	}{
		{"fleet", fleet, ""},
		{"curl", doc("Pack", "p", "{queries: {q: {query: \"SELECT * FROM curl WHERE url = 'http://a'\", interval: 60}}}"), "curl"},
		{"curl in discovery", doc("Pack", "p", "{discovery: [\"SELECT 1 FROM curl WHERE url = 'http://a'\"], queries: {q: {query: SELECT 1, interval: 60}}}"), "curl"},
		{"pinned", doc("Pack", "p", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://a'\", interval: 60}}}") +
			doc("PolicyException", "e", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: health check}"), ""},
		{"pinned, one letter off", doc("Pack", "p", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://b'\", interval: 60}}}") +
			doc("PolicyException", "e", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: health check}"), "curl"},
		{"expired pin", doc("Pack", "p", "{queries: {q: {query: \"SELECT result FROM curl WHERE url = 'http://a'\", interval: 60}}}") +
			doc("PolicyException", "e", "{sql: \"SELECT result FROM curl WHERE url = 'http://a'\", reason: health check, expires: 2020-01-01T00:00:00Z}"), "curl"},
		{"stricter table policy", doc("Pack", "p", "{queries: {q: {query: SELECT uid FROM users, interval: 60}}}") +
			doc("TablePolicy", "t", "{tables: {users: {tier: 3, reason: privacy}}}"), "privacy"},
		{"extension", doc("Pack", "p", "{queries: {q: {query: SELECT a FROM our_table, interval: 60}}}") +
			doc("TablePolicy", "t", "{extensions: {our_table: {columns: [a], tier: 1}}}"), ""},
		{"unknown table", doc("Pack", "p", "{queries: {q: {query: SELECT a FROM our_table, interval: 60}}}"), "our_table"},
		{"redirect", doc("Profile", "p", "{options: {logger_tls_endpoint: '@evil.example/log'}}"), "logger_tls_endpoint"},
		{"unknown option", doc("Profile", "p", "{options: {verbos: true}}"), "verbos"},
		{"flagfile only", doc("Profile", "p", "{options: {disable_watchdog: true}}"), "disable_watchdog"},
		{"alias", doc("Profile", "p", "{options: {config_tls_refresh: 3000000000}}"), "config_tls_refresh"},
		{"option with exception", doc("Profile", "p", "{options: {disable_events: true}}") + doc("PolicyException", "e", "{path: options.disable_events, value: true, reason: no kernel support}"), ""},
		{"other value than the exception's", doc("Profile", "p", "{options: {read_max: 99999999999}}") + doc("PolicyException", "e", "{path: options.read_max, value: 5, reason: small}"), "read_max"},
		{"view", doc("Profile", "p", "{views: {mine: SELECT uid FROM users}}") + doc("Pack", "p", "{queries: {q: {query: SELECT uid FROM mine, interval: 60}}}"), ""},
		{"view of curl", doc("Profile", "p", "{views: {mine: \"SELECT result FROM curl WHERE url = 'http://a'\"}}"), "curl"},
		{"view that shadows", doc("Profile", "p", "{views: {users: SELECT 1}}"), "users"},
		{"two views of one name", doc("Profile", "a", "{views: {vv: SELECT path FROM file WHERE path LIKE '/tmp/%'}}") + doc("Profile", "z", "{selector: none, views: {VV: SELECT 1 AS path}}"), "VV"},
		{"one view twice", doc("Profile", "a", "{views: {vv: SELECT uid FROM users}}") + doc("Profile", "z", "{views: {vv: SELECT uid FROM users}}"), ""},
		{"negative gate", doc("RolloutPolicy", "r", "{stages: [{percent: 5}], gates: {evidence: -5}}"), "gates.evidence"},
		{"too much evidence", doc("RolloutPolicy", "r", "{stages: [{percent: 5}], gates: {evidence: 101}}"), "gates.evidence"},
		{"collision", doc("Pack", "a", "{queries: {b_c: {query: SELECT 1, interval: 60}}}") + doc("Pack", "a_b", "{queries: {c: {query: SELECT 1, interval: 60}}}"), "pack_a_b_c"},
		{"bad selector", doc("Pack", "p", "{selector: tga = x, queries: {q: {query: SELECT 1, interval: 60}}}"), "tga"},
		{"no interval", doc("Pack", "p", "{queries: {q: {query: SELECT 1}}}"), "interval"},
		{"tag without snapshot", doc("Pack", "p", "{queries: {q: {query: SELECT 1, interval: 60, tag_if_rows: x}}}"), "snapshot"},
		{"rule on a rule's tag", doc("TagRule", "a", "{selector: platform = linux, tags: [x]}") + doc("TagRule", "b", "{selector: tag = x, tags: [y]}"), "tag x"},
		{"bad stages", doc("RolloutPolicy", "r", "{stages: [{percent: 5, nodes: 3}]}"), "exactly one"},
		{"live rule of no kind", doc("LivePolicy", "l", "{rules: [{kinds: [robot], require: run}]}"), "robot"},
		{"live rule that nobody can meet", doc("LivePolicy", "l", "{rules: [{kinds: [trigger], require: approval}]}"), "trigger is started by no person"},
		{"live rule for danger", doc("LivePolicy", "l", "{rules: [{min_tier: 3, require: run}]}"), "needs a reason"},
		{"live rule of no effect", doc("LivePolicy", "l", "{rules: [{require: ask}]}"), "reason, approval"},
		{"live rule of no tier", doc("LivePolicy", "l", "{rules: [{min_tier: 4, min_nodes: -1, require: run}]}"), "must not be negative"},
		{"live rules", doc("LivePolicy", "l", "{rules: [{min_tier: 3, require: approval}, {kinds: [trigger, carve], require: refuse}, {min_nodes: 10, require: reason}, {require: run}]}"), ""},
		{"bad window", doc("FreezeWindow", "f", "{weekly: {from: friday, until: mon 08:00}}"), "friday"},
		{"exception without a reason", doc("PolicyException", "e", "{sha256: abc}"), "SHA-256"},
		{"exception for two things", doc("PolicyException", "e", "{sql: SELECT 1, path: options.verbose, reason: x}"), "exactly one"},
		{"FIM on everything", doc("Profile", "p", "{file_paths: {all: [/%%]}}"), "/%%"},
		{"decorator that crashes", doc("Profile", "p", "{decorators: {interval: {'0': [SELECT 1]}}}"), "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			report, err := Check(parse(t, tt.text), engine, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			refused, err := json.Marshal(report.Refused(policy.Sensitive))
			if err != nil {
				t.Fatal(err)
			}
			if ok := string(refused) == "[]"; ok != (tt.refused == "") || !strings.Contains(string(refused), tt.refused) {
				t.Errorf("refused: %s", refused)
			}
		})
	}
}

func TestCheck_conflict(t *testing.T) {
	t.Parallel()
	text := doc("Profile", "a", "{options: {verbose: false}}") + doc("Profile", "b", "{options: {verbose: true}}") + doc("Profile", "c", "{priority: 1, options: {verbose: true}}")
	report, err := Check(parse(t, text), shipped(t), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var conflicts []string
	for _, i := range report.Items {
		for _, f := range i.Verdict.Findings {
			if f.Code == "conflict" {
				conflicts = append(conflicts, i.String()+" "+f.Message)
			}
		}
	}
	if len(conflicts) != 1 || !strings.Contains(conflicts[0], "Profile/a wins") {
		t.Errorf("conflicts: %v", conflicts)
	}
}

func TestFreezeWindow(t *testing.T) {
	t.Parallel()
	weekend := &FreezeWindow{Weekly: &Weekly{From: "fri 16:00", Until: "mon 08:00"}, Timezone: "Europe/Berlin"}
	night := &FreezeWindow{Weekly: &Weekly{From: "wed 09:00", Until: "wed 10:00"}}
	fixed := &FreezeWindow{From: Moment{time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC)}, Until: Moment{time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)}}
	for _, tt := range []struct {
		w    *FreezeWindow
		at   string
		want bool
	}{
		{weekend, "2026-11-20T14:59:00Z", false}, // Friday 15:59 in Berlin
		{weekend, "2026-11-20T15:00:00Z", true},
		{weekend, "2026-11-22T12:00:00Z", true},
		{weekend, "2026-11-23T06:59:00Z", true},
		{weekend, "2026-11-23T07:00:00Z", false},
		{weekend, "2026-07-17T14:00:00Z", true}, // summer time
		{night, "2026-11-18T09:30:00Z", true},
		{night, "2026-11-18T10:00:00Z", false},
		{fixed, "2026-12-20T00:00:00Z", true},
		{fixed, "2027-01-02T00:00:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := tt.w.Holds(at); got != tt.want {
			t.Errorf("%+v at %s: %v", tt.w, tt.at, got)
		}
	}
}
