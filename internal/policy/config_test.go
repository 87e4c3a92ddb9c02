package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// outcomes shows items as "path: outcome".
func outcomes(items []Item) []string {
	list := []string{}
	for _, i := range items {
		list = append(list, i.Path+": "+outcome(i.Verdict))
	}
	return list
}

func parseConfig(tb testing.TB, text string) Config {
	tb.Helper()
	var c Config
	if err := yaml.UnmarshalWithOptions([]byte(text), &c, yaml.Strict()); err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestConfig has every key, used well and used badly.
func TestConfig(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	tests := []struct {
		name, config string
		want         []string
	}{
		{"nothing", ``, []string{}},
		{"options", `options: {verbose: true, disable_watchdog: true, logger_tls_period: 10, nonsense: 1, pack_delimiter: null}`, []string{
			"options.disable_watchdog: x flagfile-only", "options.logger_tls_period: 0", "options.nonsense: x unknown-option",
			"options.pack_delimiter: x option-type", "options.verbose: 2",
		}},
		{"two names", `options: {logger_tls_max: 2000000, logger_tls_max_linesize: 1048576, osquery_log_dir: /x}`, []string{
			"options.logger_tls_max: x option-alias option-twice", "options.logger_tls_max_linesize: 0", "options.osquery_log_dir: 3 option-alias",
		}},
		{"files", `
file_paths:
  etc: [/etc/%%, /etc/../%%]
  all: [/%%]
  "a:b": [/opt/a/%]
  none: []
exclude_paths:
  etc: [/etc/tmp/%%, /etc/%%]
  gone: [/x/%%]
file_accesses: [etc, gone]
`, []string{
			"exclude_paths.etc[0]: 1", "exclude_paths.etc[1]: 3",
			"exclude_paths.gone: 0 unknown-category", "exclude_paths.gone[0]: 1",
			"file_accesses[0]: 2", "file_accesses[1]: 2 unknown-category",
			"file_paths.a:b: x bad-name", "file_paths.a:b[0]: 1",
			"file_paths.all[0]: x whole-disk",
			"file_paths.etc[0]: 1", "file_paths.etc[1]: x bad-path",
			"file_paths.none: 0 empty-category",
		}},
		{"exclusions alone", `exclude_paths: {etc: [/etc/%%]}`, []string{"exclude_paths.etc: 0 unknown-category", "exclude_paths.etc[0]: 1"}},
		{"yara", `
file_paths: {etc: [/etc/%%]}
yara:
  signatures: {grp: [/etc/osquery/a.yar, /tmp/b.yar], none: []}
  file_paths: {etc: [grp, other], gone: [grp]}
  signature_urls: ["https://rules.example.net/yara/[a-z]+\\.yar", "http://rules.example.net/yara/a.yar"]
`, []string{
			"file_paths.etc[0]: 1",
			"yara.file_paths.etc[0]: 2", "yara.file_paths.etc[1]: x unknown-group",
			"yara.file_paths.gone: x unknown-category", "yara.file_paths.gone[0]: 2",
			"yara.signature_urls[0]: 3", "yara.signature_urls[1]: x bad-url",
			"yara.signatures.grp[0]: 2", "yara.signatures.grp[1]: x bad-path",
			"yara.signatures.none: 0 empty-category",
		}},
		{"events", `
events:
  disable_subscribers: [file_events, users]
  enable_subscribers: [process_events, file_events, nonsense]
`, []string{
			"events.disable_subscribers[0]: 3", "events.disable_subscribers[1]: 3 unknown-subscriber",
			"events.enable_subscribers[0]: 2", "events.enable_subscribers[1]: 2 disabled-too", "events.enable_subscribers[2]: 2 unknown-subscriber",
		}},
		{"prometheus", `
prometheus_targets:
  timeout: 3600
  urls: ["http://localhost:9100/metrics", "ftp://x/", "https://u:p@example.com/"]
`, []string{
			"prometheus_targets.urls[0]: 3", "prometheus_targets.urls[1]: x bad-url", "prometheus_targets.urls[2]: x bad-url",
			"prometheus_targets.timeout: x out-of-range",
		}},
		{"automatic tables", `
auto_table_construction:
  tcc: {path: /Library/%/TCC.db, query: SELECT service FROM access, columns: [service], platform: darwin}
  users: {path: /opt/x.db, query: SELECT a FROM b, columns: [a]}
  "bad name": {path: /%%, query: DROP TABLE x, columns: []}
  again: {path: /opt/x.db, query: SELECT a FROM b; SELECT c FROM d, columns: [a, path, A, "b c"], platform: amiga}
`, []string{
			"auto_table_construction.again: x bad-query path-column bad-columns bad-columns no-platform",
			`auto_table_construction."bad name": x bad-name whole-disk bad-query bad-columns`,
			"auto_table_construction.tcc: 3",
			"auto_table_construction.users: x bad-name",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, outcomes(e.Config(parseConfig(t, tt.config)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestConfig_texts has the keys that hold SQL, of which the other half of the
// package says more.
func TestConfig_texts(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	items := e.Config(parseConfig(t, `
decorators:
  load: [SELECT uuid AS host_uuid FROM system_info, SELECT * FROM curl WHERE url = 'http://169.254.169.254/']
  always: [SELECT 1 AS a, SELECT 2 AS a, SELECT 3 AS a, SELECT 4 AS a, SELECT 5 AS a, SELECT 6 AS a, SELECT total_seconds FROM up_time]
  interval:
    "3600": [SELECT total_seconds FROM uptime]
    "0": [SELECT 1]
    "90": [SELECT 1]
    " 60": [SELECT 1]
    "060": [SELECT 1]
    "-60": [SELECT 1]
    "1e3": [SELECT 1]
    "604860": [SELECT 1]
file_paths_query: {homes: ["SELECT directory || '/.ssh/%%' AS path FROM users", SELECT username FROM users]}
views:
  up_time: SELECT total_seconds FROM uptime
  users: SELECT 1 AS a
  Processes: SELECT 1 AS a
  order: SELECT 1 AS a
  "x; DROP TABLE y": SELECT 1 AS a
  sqlite_x: SELECT 1 AS a
  other: SELECT 1 AS a
  OTHER: SELECT 2 AS a
`))
	byPath := map[string]Item{}
	for _, i := range items {
		byPath[i.Path] = i
	}
	for path, want := range map[string]bool{
		"decorators.load[0]": true, "decorators.load[1]": false,
		"decorators.always[0]": true, "decorators.always[6]": true, // by a view of the same config
		"decorators.interval.3600[0]": true, "decorators.interval.604860": true,
		`decorators.interval.0`: false, `decorators.interval.90`: false, `decorators.interval." 60"`: false, `decorators.interval.060`: false,
		`decorators.interval.-60`: false, `decorators.interval.1e3`: false,
		"file_paths_query.homes[0]": true, "file_paths_query.homes[1]": false,
		"views.OTHER": true, "views.other": false, // they are one
		"views.up_time": true, "views.users": false, "views.Processes": false, "views.order": false, `views."x; DROP TABLE y"`: false, "views.sqlite_x": false,
	} {
		i, ok := byPath[path]
		if !ok || i.Allowed(Sensitive) != want {
			t.Errorf("%s (%t): %s %+v", path, ok, outcome(i.Verdict), i.Findings)
		}
	}
	if got := outcome(byPath["decorators.always"].Verdict); got != "0 many-decorators" {
		t.Errorf("seven texts before every query: %s", got)
	}
	if byPath["decorators.interval.3600"].Path != "" {
		t.Error("something is wrong with a good interval")
	}
}

// TestConfig_automaticPin allows one automatic table, and no other.
func TestConfig_automaticPin(t *testing.T) {
	t.Parallel()
	table := AutoTable{Path: "/opt/app/x.db", Query: "SELECT a FROM b", Columns: []string{"a"}}
	config := Config{AutoTables: map[string]AutoTable{"app": table}}
	hash := Hash(table.Path + "\n" + table.Query)
	e := profiles(t, Rules{Pins: map[string]string{hash: "app-db"}})
	if i := e.Config(config)[0]; !i.Allowed(Sensitive) || i.Hash != hash || i.Exception != "app-db" {
		t.Errorf("%+v", i)
	}
	table.Path = "/home/%/x.db"
	config.AutoTables["app"] = table
	if i := e.Config(config)[0]; i.Allowed(Sensitive) {
		t.Errorf("another path is allowed: %+v", i)
	}
}

// TestConfig_automaticTable has a text that reads an automatic table of the same
// config: it is understood, and as dangerous as the table.
func TestConfig_automaticTable(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	items := e.Config(parseConfig(t, `
auto_table_construction: {App: {path: /opt/app/x.db, query: SELECT a FROM b, columns: [a, path]}}
decorators: {load: [SELECT a FROM app, SELECT path FROM app, SELECT c FROM app]}
views: {app: SELECT 1 AS x}
`))
	want := []string{"auto_table_construction.App: 3 path-column", "decorators.load[0]: 3 decorator-tier", "decorators.load[1]: 3 decorator-tier", "decorators.load[2]: x unknown-column", "views.app: x bad-name"}
	if diff := cmp.Diff(want, outcomes(items)); diff != "" {
		t.Error(diff)
	}
}

// TestConfig_limits has more of everything than anybody needs.
func TestConfig_limits(t *testing.T) {
	t.Parallel()
	const many = 5000
	options, patterns, views := map[string]any{}, map[string][]string{}, map[string]string{}
	for i := range many {
		options[fmt.Sprint("custom_", i)] = i
		patterns[fmt.Sprint("c", i)] = []string{"/etc/%%"}
		views[fmt.Sprint("users", i)] = "nonsense"
	}
	e := profiles(t, Rules{})
	items := e.Config(Config{
		Options: options, FilePaths: patterns, ExcludePaths: patterns, FileAccesses: slices.Repeat([]string{"c1"}, many),
		Yara:              Yara{SignatureURLs: slices.Repeat([]string{"x"}, many), Signatures: patterns, FilePaths: patterns},
		Decorators:        Decorators{Always: slices.Repeat([]string{"SELECT 1"}, many), Load: slices.Repeat([]string{"SELECT 1"}, many)},
		Events:            Events{DisableSubscribers: slices.Repeat([]string{"x"}, many)},
		PrometheusTargets: PrometheusTargets{URLs: slices.Repeat([]string{"x"}, many)},
		Views:             views,
	})
	lists, texts := 0, 0
	for _, i := range items {
		for _, f := range i.Findings {
			if f.Code == "too-many" && strings.Contains(f.Message, "entries") {
				lists++
			} else if f.Code == "too-many" {
				texts++
			}
		}
	}
	if lists != 12 || texts != 2*maxNames {
		t.Errorf("%d lists and %d texts are too many", lists, texts)
	}
	for category := range patterns {
		patterns[category] = slices.Repeat([]string{"/etc/%%"}, 100)
	}
	items = e.Config(Config{FilePaths: patterns, ExcludePaths: patterns, Options: map[string]any{"verbose": true}})
	if n := len(items); n != maxItems+1 || outcome(items[n-1].Verdict) != "x too-many" {
		t.Errorf("%d parts", n)
	}
	path := e.Config(Config{Options: map[string]any{strings.Repeat("a", 1<<16): 1}})[0].Path
	if len(path) > 200 {
		t.Errorf("a path of %d bytes", len(path))
	}
}

// TestConfig_keys writes a config and reads it back: the keys are osquery's, in
// order, and what is empty differs from what is absent.
func TestConfig_keys(t *testing.T) {
	t.Parallel()
	const document = `{"auto_table_construction":{"a":{"columns":["x"],"path":"/p","platform":"linux","query":"q"}},` +
		`"decorators":{"always":["a"],"interval":{"60":["i"]},"load":["l"]},` +
		`"events":{"disable_subscribers":["d"],"enable_subscribers":["e"]},` +
		`"exclude_paths":{"c":["/e"]},"file_accesses":["c"],"file_paths":{"c":["/f"]},"file_paths_query":{"c":["q"]},` +
		`"options":{"verbose":true},"prometheus_targets":{"timeout":1,"urls":["u"]},"views":{},` +
		`"yara":{"file_paths":{"c":["g"]},"signature_urls":["s"],"signatures":{"g":["/y"]}}}`
	var fromJSON Config
	if err := json.Unmarshal([]byte(document), &fromJSON); err != nil {
		t.Fatal(err)
	}
	fromYAML := parseConfig(t, document) // JSON is YAML
	if diff := cmp.Diff(fromJSON, fromYAML); diff != "" {
		t.Error(diff)
	}
	b, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(document, string(b)); diff != "" {
		t.Error(diff)
	}
	if b, err := json.Marshal(Config{}); err != nil || string(b) != "{}" {
		t.Errorf("%s %v", b, err)
	}
	b, err = json.Marshal(profiles(t, Rules{}).Config(Config{Options: map[string]any{"verbose": true}}))
	const want = `[{"path":"options.verbose","tier":2,"reasons":[{"kind":"option","name":"verbose","tier":2,`
	if err != nil || !strings.HasPrefix(string(b), want) || strings.Contains(string(b), "null") {
		t.Errorf("%s %v", b, err)
	}
}

func TestConfig_signatureURL(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, want string }{
		{"https://rules.example.net/yara/a.yar", "3"},
		{`https://rules.example.net:8443/yara/[a-z0-9]+\.yar`, "3"},
		{`https://rules.example.net/yara/\w{1,20}[.]yar`, "3"},
		{"http://rules.example.net/yara/a.yar", "x bad-url"},
		{"HTTPS://rules.example.net/a", "x bad-url"},
		{"file:///etc/passwd", "x bad-url"},
		{"https://", "x bad-url"},
		{"https://user@rules.example.net/a", "x bad-url"},
		{"https://[a-z]+.example.net/a", "x bad-url"},
		{"https://*/a", "x bad-url"},
		{"https://x:/a", "x bad-url"},
		{"https://rules.example.net", "x wide-pattern"},
		{"https://rules.example.net/", "x wide-pattern"},
		{"https://rules.example.net/.*", "x wide-pattern"},
		{"https://rules.example.net/.+", "x wide-pattern"},
		{"https://rules.example.net/yara/.*", "x wide-pattern"},
		{"https://rules.example.net/yara/(.|x)*", "x wide-pattern"},
		{`https://rules.example.net/yara/\S+`, "x wide-pattern"},
		{`https://rules.example.net/yara/[^x]+`, "x wide-pattern"},
		{`https://rules.example.net/yara/[\s\S]*`, "x wide-pattern"},
		{`https://rules.example.net/yara/[!-~]*`, "x wide-pattern"},
		{"https://rules.example.net/yara/a|.", "x wide-pattern"},
		{"https://rules.example.net/yara/.{9}", "x wide-pattern"},
		{"https://rules.example.net/yara/((.)?)+", "x wide-pattern"},
		{"https://rules.example.net/[a-z]+", "x wide-pattern"},
		{"https://rules.example.net/^a", "x wide-pattern"},
		{"https://rules.example.net/yara/(", "x wide-pattern"},
		{"https://rules.example.net/yara/a{1,1000}{1,1000}", "x wide-pattern"},
		{"https://rules.example.net/yara/\x00", "x bad-url"},
		{"", "x bad-url"},
	}
	for _, tt := range tests {
		if got := outcome(signatureURL(tt.url)); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.url, got, tt.want)
		}
	}
}

// TestConfig_hosts finds the places inside a node's network.
func TestConfig_hosts(t *testing.T) {
	t.Parallel()
	for host, word := range map[string]string{
		"localhost": "itself", "LOCALHOST.": "itself", "a.localhost": "itself", "127.0.0.1": "itself", "127.9.9.9": "itself", "0.0.0.0": "itself",
		"[::1]": "itself", "[::ffff:127.0.0.1]": "itself", "[::]": "itself",
		"169.254.169.254": "metadata", "[fe80::1]": "metadata", "[fd00:ec2::254]": "metadata", "metadata.google.internal": "metadata", "100.100.100.200": "metadata",
		"10.0.0.1": "own network", "192.168.1.1": "own network", "172.16.0.1": "own network", "[fd12::1]": "own network",
		"2130706433": "odd form", "0x7f000001": "odd form", "127.1": "odd form", "0177.0.0.1": "odd form",
		"example.com": "", "8.8.8.8": "", "face.example": "", "[2001:db8::1]": "",
	} {
		v := prometheusURL("http://" + host + "/metrics")
		said := fmt.Sprint(v.Reasons)
		if v.Tier != Dangerous || !v.Provable() || !strings.Contains(said, word) || word == "" && len(v.Reasons) != 1 {
			t.Errorf("%s: %+v", host, v)
		}
	}
	for _, bad := range []string{"", "example.com", "http://", "http:///x", "//x", "ftp://x", "http://x y/", "http://x\\@y/", "http://u:p@x/", "http://x\r\n/", "http://[::1/"} {
		if v := prometheusURL(bad); v.Provable() {
			t.Errorf("%q: %+v", bad, v)
		}
	}
	for _, v := range []Verdict{prometheusURL("http://u:hunter2@x/"), prometheusURL("u:hunter2@x/"), prometheusURL("http://u:hunter2@x y/"), signatureURL("https://u:hunter2@x/a")} {
		if v.Provable() || strings.Contains(fmt.Sprint(v), "hunter2") {
			t.Errorf("a password is shown, or allowed: %+v", v)
		}
	}
}

func BenchmarkOption(b *testing.B) {
	e := profiles(b, Rules{})
	b.ReportAllocs()
	for b.Loop() {
		if !e.Option("distributed_interval", 10).Provable() {
			b.Fatal("refused")
		}
	}
}

func BenchmarkOption_unknown(b *testing.B) {
	e := profiles(b, Rules{})
	b.ReportAllocs()
	for b.Loop() {
		if e.Option("distributed_intervall", 10).Provable() {
			b.Fatal("allowed")
		}
	}
}

func BenchmarkPath_worst(b *testing.B) {
	pattern := strings.Repeat("/"+strings.Repeat("a*b?", 3), maxDepth)
	b.ReportAllocs()
	for b.Loop() {
		if monitored(pattern).Tier < Dangerous {
			b.Fatal("allowed")
		}
	}
}

// BenchmarkConfig judges what a real profile has: options, file paths, and
// decorators, which are prepared.
func BenchmarkConfig(b *testing.B) {
	e := profiles(b, Rules{})
	c := parseConfig(b, `
options: {disable_distributed: false, distributed_plugin: tls, distributed_interval: 10, logger_tls_period: 10, schedule_splay_percent: 10,
  pack_delimiter: _, logger_tls_endpoint: /api/osquery/log, enable_file_events: true, verbose: false, events_max: 50000}
decorators: {load: [SELECT uuid AS host_uuid FROM system_info, SELECT hostname FROM system_info]}
file_paths: {etc: [/etc/%%], bin: [/usr/bin/%%, /usr/sbin/%%], ssh: [/home/%/.ssh/%%]}
exclude_paths: {etc: [/etc/mtab]}
`)
	b.ReportAllocs()
	for b.Loop() {
		if len(e.Config(c)) == 0 {
			b.Fatal("no items")
		}
	}
}
