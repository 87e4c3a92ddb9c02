package foreign

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

var update = flag.Bool("update", false, "write the golden files")

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func readFiles(t *testing.T, pattern string) []File {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	var files []File
	for _, name := range names {
		files = append(files, File{filepath.Base(name), readFile(t, name)})
	}
	return files
}

// TestImport_packs compares what is made of osquery's own packs with what they
// say, key by key.
func TestImport_packs(t *testing.T) {
	t.Parallel()
	files := readFiles(t, "../osquery/testdata/packs/*.conf")
	got, err := Import(OsqueryPack, "", files)
	if err != nil || len(got.Objects) != 10 || len(files) != 10 {
		t.Fatalf("%d packs of %d files: %v", len(got.Objects), len(files), err)
	}
	// The one name that agents or their log lines have trouble with.
	const spaced = "Nano Defender "
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0].Message, spaced) {
		t.Errorf("notes: %v", got.Notes)
	}
	set, err := resource.NewSet(got.Objects)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, f := range files {
		if Detect(f.Name, f.Bytes) != OsqueryPack {
			t.Errorf("%s is %q", f.Name, Detect(f.Name, f.Bytes))
		}
		var raw struct {
			Platform, Version string
			Queries           map[string]map[string]any
		}
		if err := json.Unmarshal(bytes.ReplaceAll(f.Bytes, []byte("\\\n"), nil), &raw); err != nil {
			t.Fatal(f.Name, err)
		}
		o, ok := set.Get(resource.Key{Kind: "Pack", Name: strings.TrimSuffix(f.Name, ".conf")})
		if !ok {
			t.Fatalf("no pack for %s", f.Name)
		}
		p := o.Spec.(*resource.Pack)
		if p.Platform != raw.Platform || p.Version != raw.Version || len(p.Queries) != len(raw.Queries) {
			t.Errorf("%s: %d queries of %d", f.Name, len(p.Queries), len(raw.Queries))
		}
		for name, want := range raw.Queries {
			if name == spaced {
				name = strings.TrimSpace(name)
			}
			if diff := cmp.Diff(plain(want), plain(said(t, p.Queries[name]))); diff != "" {
				t.Errorf("%s: %s:\n%s", f.Name, name, diff)
			}
			total++
		}
	}
	if total != 306 {
		t.Errorf("%d queries", total)
	}
}

// said returns a query's keys and values.
func said(t *testing.T, q resource.Query) map[string]any {
	t.Helper()
	b, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// plain writes values as text, without those that say what is so anyway.
func plain(m map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		s := fmt.Sprint(v)
		if s == "" || k == "snapshot" && s == "false" || (k == "removed" || k == "denylist") && s == "true" {
			continue
		}
		out[k] = s
	}
	return out
}

// TestImport_cases compares objects and notes with golden files; each case is a
// directory, whose name begins with its format.
func TestImport_cases(t *testing.T) {
	t.Parallel()
	formats := map[string]Format{
		"osquery-config": OsqueryConfig, "osquery-pack": OsqueryPack, "fleet-kinds": Fleet, "fleet-gitops": Fleet,
		"doorman": Doorman, "osctrl": Osctrl, "osctrl-many": Osctrl,
	}
	for name, format := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := readFiles(t, "testdata/cases/"+name+"/*.*")
			for _, f := range files {
				if got := Detect(f.Name, f.Bytes); got != format && (format != OsqueryConfig || got != OsqueryPack) {
					t.Errorf("%s is %q", f.Name, got)
				}
			}
			got, err := Import(format, "", files)
			if err != nil {
				t.Fatal(err)
			}
			checkImported(t, got)
			text, err := resource.YAML(got.Objects)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/cases/"+name+".golden.yaml", text)
			var notes bytes.Buffer
			for _, n := range got.Notes {
				fmt.Fprintln(&notes, n)
			}
			golden(t, "testdata/cases/"+name+".golden.notes", notes.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readFile(t, name)), string(got)); diff != "" {
		t.Errorf("%s (write it with -update):\n%s", name, diff)
	}
}

// checkImported is what holds for everything that is imported: it makes a set,
// its names are taken by agents, and its YAML reads back as it is.
func checkImported(t *testing.T, got Imported) {
	t.Helper()
	set, err := resource.NewSet(got.Objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range got.Objects {
		if p, ok := o.Spec.(*resource.Pack); ok {
			for name := range p.Queries {
				if err := policy.QueryName(name); err != nil {
					t.Errorf("%s: %q: %v", o.Key, name, err)
				}
			}
		}
	}
	text, err := resource.YAML(got.Objects)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		return
	}
	objects, err := resource.Parse("imported", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	again, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	edits, err := set.Diff(again)
	if err != nil || len(edits) > 0 {
		t.Fatalf("YAML says something else: %+v, %v\n%s", edits, err, text)
	}
}

func TestImport_errors(t *testing.T) {
	t.Parallel()
	pack := `{"queries":{"q":{"query":"SELECT 1","interval":60}}}`
	label := "apiVersion: v1\nkind: label\nspec: {name: x, query: SELECT 1}\n"
	tests := []struct {
		name   string
		format Format
		files  []File
		want   string
	}{
		{"format", "nagios", []File{{"a", nil}}, "nagios"},
		{"none", OsqueryPack, nil, "files: are missing"},
		{"no JSON", OsqueryPack, []File{{"a.conf", []byte("{\n\"queries\": {,}\n}")}}, "a.conf: is no JSON at line 2"},
		{"trailing comma", OsqueryConfig, []File{{"a.conf", []byte(`{"options":{"a":1,}}`)}}, "is no JSON"},
		{"comment behind a value", OsqueryConfig, []File{{"a.conf", []byte("{\"options\":{\"a\":1 // one\n}}")}}, "is no JSON"},
		{"two documents", OsqueryConfig, []File{{"a.conf", []byte(`{} {}`)}}, "is no JSON"},
		{"a list", OsqueryConfig, []File{{"a.conf", []byte(`[]`)}}, "is a list"},
		{"no UTF-8", OsqueryConfig, []File{{"a.conf", []byte("{\"\xff\":1}")}}, "is no UTF-8"},
		{"twice", OsqueryConfig, []File{{"a.conf", []byte(`{"views":{"a":"SELECT 1","a":"SELECT 2"}}`)}}, "key a twice"},
		{"levels", OsqueryConfig, []File{{"a.conf", []byte(strings.Repeat("[", 40) + strings.Repeat("]", 40))}}, "over 32 levels"},
		{"out of range", OsqueryConfig, []File{{"a.conf", []byte(`{"options":{"a":1e999}}`)}}, "out of range"},
		{"same pack", OsqueryPack, []File{{"a/p.conf", []byte(pack)}, {"b/p.conf", []byte(pack)}}, "b/p.conf: the pack p is also in a/p.conf"},
		{"pack in config and in a file", OsqueryConfig, []File{{"o.conf", []byte(`{"packs":{"p":` + pack + `}}`)}, {"p.conf", []byte(pack)}}, "p.conf: the pack p is also in o.conf"},
		{"large", OsqueryPack, []File{{"a", make([]byte, maxFile+1)}}, "over 8388608 bytes"},
		{"no YAML", Fleet, []File{{"a.yml", []byte("a: [")}}, "a.yml: is no YAML"},
		{"YAML's levels", Fleet, []File{{"a.yml", []byte(strings.Repeat("- ", 40) + "a")}}, "over 32 levels at line 1"},
		{"references", Fleet, []File{{"a.yml", []byte("queries:\n" + strings.Repeat("- path: b.yml\n", 6000))}}, "refer to others over 5000 times"},
		{"objects", OsqueryConfig, []File{{"a.conf", []byte(`{"packs":{` + packs(5001) + `}}`)}}, "over 5000 objects"},
		{"a version", Fleet, []File{{"a.yml", []byte("queries:\n- name: a\n  min_osquery_version: 5.10\n")}}, "a.yml: has the number 5.10 at line 3; write it as 5.1, or quote it"},
		{"a mode", Fleet, []File{{"a.yml", []byte("queries:\n- name: 0777\n")}}, "write it as 511"},
		{"a tab", Fleet, []File{{"a.yml", []byte("queries:\n- name: a\n  query: SELECT\t1\n")}}, "a.yml: [3:10] has a tab in a text without quotes"},
		{"anchor", Fleet, []File{{"a.yml", []byte("a: &x 1\nb: *x\n")}}, "anchor"},
		{"same label", Fleet, []File{{"a.yml", []byte(label)}, {"b.yml", []byte(label)}}, "b.yml: the label x is also in a.yml"},
		{"same query", Fleet, []File{{"a.yml", []byte("queries: [{name: q, query: SELECT 1, interval: 60}, {name: q, query: SELECT 1, interval: 60}]")}}, "query fleet/q is also in a.yml"},
		{"same key", Fleet, []File{{"a.yml", []byte("queries: []\nqueries: []")}}, "a.yml"},
		{"a text", Fleet, []File{{"a.yml", []byte("hello")}}, "holds a text"},
		{"osctrl's inner JSON", Osctrl, []File{{"a.json", []byte(`{"name":"x","options":"{"}`)}}, "options holds no JSON object"},
		{"same environment", Osctrl, []File{{"a.json", []byte(`[{"name":"x"},{"name":"x"}]`)}}, "environment x is also in"},
		{"same row", Doorman, []File{{"a.json", []byte(`{"packs":[{"name":"p","queries":[{"name":"q"},{"name":"q"}]}]}`)}}, "query q is twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Import(tt.format, "", tt.files)
			if err == nil || !strings.Contains(err.Error(), tt.want) || errs.KindOf(err) == errs.Internal {
				t.Errorf("%v, want %q; %d objects", err, tt.want, len(got.Objects))
			}
		})
	}
}

// packs returns n packs whose names become the same.
func packs(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"%s":{"queries":{"q":{"query":"SELECT 1","interval":60}}}`, strings.Repeat("é", i+1)[:min(2*i+2, 100)]+fmt.Sprint(i))
	}
	return strings.Join(list, ",")
}

// TestImport_long reads what is long and still fits: lists, documents.
func TestImport_long(t *testing.T) {
	t.Parallel()
	list, docs := "queries:\n", ""
	for i := range 1500 {
		list += fmt.Sprintf("- name: q%d\n  query: SELECT 1\n  interval: 60\n", i)
		docs += fmt.Sprintf("apiVersion: v1\nkind: query\nspec: {name: d%d, query: SELECT 1, interval: 60}\n---\n", i)
	}
	got, err := Import(Fleet, "", []File{{"a.yml", []byte(list)}, {"b.yml", []byte(docs)}})
	if err != nil || len(got.Objects) != 1 || len(got.Objects[0].Spec.(*resource.Pack).Queries) != 3000 {
		t.Errorf("%d objects, %v", len(got.Objects), err)
	}
}

// TestImport_numbers takes numbers for texts as they are written.
func TestImport_numbers(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"5", "5.1", "1234567.25", "0.5", "-1", "9223372036854775808", "1e999", "true"} {
		got, err := Import(Fleet, "", []File{{"a.yml", []byte("queries:\n- name: a\n  query: SELECT 1\n  interval: 60\n  min_osquery_version: " + n + "\n")}})
		if err != nil || len(got.Objects) != 1 || got.Objects[0].Spec.(*resource.Pack).Queries["a"].Version != n {
			t.Errorf("%s: %+v, %v", n, got.Objects, err)
		}
	}
}

// TestImport_itself leaves out files that refer to themselves.
func TestImport_itself(t *testing.T) {
	t.Parallel()
	got, err := Import(Fleet, "", []File{{"a.yml", []byte("queries: [{path: b.yml}]")}, {"b.yml", []byte("[{path: b.yml}]")}})
	if err != nil || len(got.Objects) != 0 || len(got.Notes) == 0 {
		t.Errorf("%d objects, %v, %v", len(got.Objects), got.Notes, err)
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want Format
	}{
		{`{"queries":{}}`, OsqueryPack},
		{`{"schedule":{}}`, OsqueryConfig},
		{"# a comment\n{\"options\":{}}", OsqueryConfig},
		{`{"file_paths":{}}`, OsqueryConfig},
		{`{"file_paths":[]}`, Doorman},
		{`{"queries":{"a":{"tags":[]}}}`, Doorman},
		{`{"options":"{}"}`, Osctrl},
		{`[{"Options":"{}"}]`, Osctrl},
		{`{"apiVersion":"v1","kind":"pack","spec":{}}`, Fleet},
		{"apiVersion: v1\nkind: query\n", Fleet},
		{"apiVersion: muster/v1\nkind: Pack\n", Unknown},
		{"- name: x\n  query: SELECT 1\n", Fleet},
		{"config:\n  options: {}\n", Fleet},
		{"agent_options:\n", Fleet},
		{"", Unknown},
		{"[]", Unknown},
		{"hello", Unknown},
		{`{"a":1}`, Unknown},
		{"\xff", Unknown},
	}
	for _, tt := range tests {
		if got := Detect("f", []byte(tt.text)); got != tt.want {
			t.Errorf("%s is %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	tests := []struct{ kind, name, want string }{
		{"Pack", "it-compliance", "it-compliance"},
		{"Pack", "main", "main-pack"},
		{"Pack", "My pack (2)", "My-pack-2"},
		{"Pack", "☁️ Servers", "Servers"},
		{"Pack", "../../etc", "etc"},
		{"Pack", "", "pack"},
		{"Profile", "***", "profile"},
		{"Pack", long, long[:63]},
		{"Pack", "a\x00b", "a-b"},
	}
	for _, tt := range tests {
		if got := cleanName(tt.kind, tt.name); got != tt.want {
			t.Errorf("%q is called %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestAdd_unique finds a free name for names that become the same.
func TestAdd_unique(t *testing.T) {
	t.Parallel()
	c := newCollector()
	for range 12 {
		c.add("f", strings.Repeat("y", 70), "", "Pack", &resource.Pack{})
	}
	got, err := c.result()
	if err != nil || len(got.Objects) != 12 || len(got.Notes) != 12 {
		t.Errorf("%d objects, %d notes, %v", len(got.Objects), len(got.Notes), err)
	}
}

func TestQueryName(t *testing.T) {
	t.Parallel()
	taken := map[string]resource.Query{"have": {}}
	tests := map[string]string{
		"usb": "usb", "have": "have-2", "a:b": "a-b", "query.x": "q-query.x", "boot_counter": "boot_counter-q",
		"": "query", "  x ": "x", ":": "-", "a\nb": "a-b", "cache.epoch": "q-cache.epoch-q",
	}
	for name, want := range tests {
		if got := newCollector().queryName(name, taken); got != want {
			t.Errorf("%q is called %q, want %q", name, got, want)
		}
	}
}

// TestFlagfileOnly compares the list with what the policy knows of flags.
func TestFlagfileOnly(t *testing.T) {
	t.Parallel()
	e, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	want := map[string]bool{}
	for _, f := range e.Flags() {
		if f.Kind == "cli" {
			want[f.Name] = true
		}
	}
	for name := range strings.FieldsSeq(flagfileOnly) {
		if _, ok := e.Flag(name); !ok {
			t.Errorf("osquery has no flag %s", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("also for the flagfile alone: %v", slices.Sorted(maps.Keys(want)))
	}
}

// TestTagRules splits a label's hosts into selectors that parse.
func TestTagRules(t *testing.T) {
	t.Parallel()
	var hosts []string
	for i := range 500 {
		hosts = append(hosts, fmt.Sprintf("  - host-%03d.a-rather-long-domain.example.net\n", i))
	}
	text := "apiVersion: v1\nkind: label\nspec:\n  name: Many hosts\n  label_membership_type: manual\n  hosts:\n" + strings.Join(indent(hosts), "")
	got, err := Import(Fleet, "", []File{{"l.yml", []byte(text)}})
	if err != nil || len(got.Objects) < 10 {
		t.Fatalf("%d objects, %v", len(got.Objects), err)
	}
	checkImported(t, got)
	all := ""
	for _, o := range got.Objects {
		all += o.Spec.(*resource.TagRule).Selector
	}
	for i := range 500 {
		if n := strings.Count(all, fmt.Sprintf("host-%03d.", i)); n != 3 {
			t.Fatalf("host %d is there %d times", i, n)
		}
	}
}

func indent(lines []string) []string {
	for i, l := range lines {
		lines[i] = "  " + l
	}
	return lines
}

func fuzzImport(f *testing.F, format Format, pattern string) {
	f.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, name := range names {
		f.Add(readFile(f, name), readFile(f, names[0]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		Detect("a", a)
		got, err := Import(format, "", []File{{"dir/a.queries.yml", a}, {"b.conf", b}})
		if err != nil {
			if errs.KindOf(err) == errs.Internal {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		checkImported(t, got)
	})
}

func FuzzImport_osquery(f *testing.F) {
	fuzzImport(f, OsqueryConfig, "testdata/cases/osquery-*/*.conf")
}
func FuzzImport_fleet(f *testing.F)   { fuzzImport(f, Fleet, "testdata/cases/fleet-*/*.yml") }
func FuzzImport_doorman(f *testing.F) { fuzzImport(f, Doorman, "testdata/cases/doorman/*.json") }
func FuzzImport_osctrl(f *testing.F)  { fuzzImport(f, Osctrl, "testdata/cases/osctrl*/*.json") }

// FuzzImport_texts puts one text everywhere where a text can be.
func FuzzImport_texts(f *testing.F) {
	for _, seed := range []string{"a", "", " a ", "a:b", "- x", "# y", "null", "1e3", "0x1f", "\"", "'", "a\nb\n", "\ta", "\r", "é☁️", "\x00", "\u2028", "%", "{}", "~", "*", "tag = a", "|", "a\n  b\n", "main", "true", "2026-01-01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		texts := []string{s}
		query := map[string]any{"query": s, "interval": 60, "description": s, "value": s, "platform": s, "version": s, "tags": texts, "name": s, "sql": s}
		lists := map[string]any{s: texts}
		config := map[string]any{
			"options": map[string]any{s: s}, "decorators": map[string]any{"load": texts, "interval": lists}, "file_paths": lists, "views": map[string]any{s: s},
			"auto_table_construction": map[string]any{s: map[string]any{"path": s, "query": s, "columns": texts}},
			"schedule":                map[string]any{s: query}, "packs": map[string]any{s: map[string]any{"queries": map[string]any{s: query}, "description": s}},
		}
		label := map[string]any{"name": s, "hosts": texts, "query": s, "description": s}
		scheduled := map[string]any{"name": s, "query": s, "interval": 60, "labels_include_any": texts, "labels_exclude_any": texts}
		for format, doc := range map[Format]any{
			OsqueryConfig: config,
			Osctrl:        []any{map[string]any{"name": s, "options": config["options"], "schedule": config["schedule"]}, map[string]any{"name": s + "2", "packs": config["packs"]}},
			Doorman:       map[string]any{"queries": []any{query}, "packs": []any{map[string]any{"name": s, "queries": []any{query}, "tags": texts}}, "file_paths": []any{map[string]any{"category": s, "target_paths": texts, "tags": texts}}},
			Fleet:         map[string]any{"name": s, "labels": []any{label}, "queries": []any{scheduled}, "agent_options": map[string]any{"config": config}},
		} {
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Import(format, s, []File{{s, b}})
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			checkImported(t, got)
		}
	})
}
