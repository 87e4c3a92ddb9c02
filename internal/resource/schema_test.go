package resource_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

var update = flag.Bool("update", false, "write docs/schema and docs/resources.md")

const (
	schemaFile   = "../../docs/schema/muster-v1.json"
	docsFile     = "../../docs/resources.md"
	exampleFiles = "../../docs/examples/resources/*.yaml"
	// generated begins what TestReference writes; what is before is written by
	// hand.
	generated = "<!-- From here on, this file is generated: go test ./internal/resource -run TestReference -update -->\n"
)

// schema is the subset of JSON Schema that is emitted; anything else in a
// schema is an error.
type schema struct {
	Schema      string            `json:"$schema"`
	ID          string            `json:"$id"`
	Ref         string            `json:"$ref"`
	Defs        map[string]schema `json:"$defs"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Format      string            `json:"format"`
	Pattern     string            `json:"pattern"`
	Const       any               `json:"const"`
	Enum        []any             `json:"enum"`
	OneOf       []schema          `json:"oneOf"`
	Items       *schema           `json:"items"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Additional  json.RawMessage   `json:"additionalProperties"`
}

func parseSchema(t *testing.T, b []byte) schema {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var s schema
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// validate returns what in v does not fit.
func (s schema) validate(root schema, path string, v any) []string {
	if s.Ref != "" {
		def, ok := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if !ok {
			return []string{path + ": no definition " + s.Ref}
		}
		return def.validate(root, path, v)
	}
	var wrong []string
	add := func(format string, args ...any) {
		wrong = append(wrong, path+": "+fmt.Sprintf(format, args...))
	}
	if s.Const != nil && !reflect.DeepEqual(v, s.Const) {
		add("is %v, not %v", v, s.Const)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		add("%v is none of %v", v, s.Enum)
	}
	if s.OneOf != nil {
		wrong = append(wrong, s.oneOf(root, path, v)...)
	}
	switch v := v.(type) {
	case string:
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			add("%q does not fit %s", v, s.Pattern)
		}
	case []any:
		for i, item := range v {
			if s.Items != nil {
				wrong = append(wrong, s.Items.validate(root, fmt.Sprintf("%s[%d]", path, i), item)...)
			}
		}
	case map[string]any:
		wrong = append(wrong, s.object(root, path, v)...)
	}
	if s.Type != "" && typeOf(v) != s.Type && (s.Type != "number" || typeOf(v) != "integer") {
		add("is a %s, not a %s", typeOf(v), s.Type)
	}
	return wrong
}

func (s schema) oneOf(root schema, path string, v any) []string {
	var fits int
	var wrong []string
	for _, one := range s.OneOf {
		if w := one.validate(root, path, v); len(w) == 0 {
			fits++
		} else if m, ok := v.(map[string]any); ok && m["kind"] == one.Title {
			wrong = w
		}
	}
	if fits == 1 {
		return nil
	}
	return append(wrong, fmt.Sprintf("%s: fits %d schemas", path, fits))
}

func (s schema) object(root schema, path string, m map[string]any) []string {
	var wrong []string
	for _, key := range s.Required {
		if _, ok := m[key]; !ok {
			wrong = append(wrong, path+": no "+key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := path + "." + key
		if p, ok := s.Properties[key]; ok {
			wrong = append(wrong, p.validate(root, at, m[key])...)
			continue
		}
		var rest schema
		switch {
		case string(s.Additional) == "false":
			wrong = append(wrong, at+": is no key")
		case s.Additional != nil && json.Unmarshal(s.Additional, &rest) == nil:
			wrong = append(wrong, rest.validate(root, at, m[key])...)
		}
	}
	return wrong
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	}
	return fmt.Sprintf("%T", v)
}

// yamlDocuments reads the documents of a file as JSON has them.
func yamlDocuments(t *testing.T, b []byte) []any {
	t.Helper()
	var docs []any
	d := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var v any
		if err := d.Decode(&v); err != nil {
			return docs
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(text, &plain); err != nil {
			t.Fatal(err)
		}
		docs = append(docs, plain)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func current(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, name)), string(want)); diff != "" {
		t.Errorf("%s is old; write it with -update:\n%s", name, diff)
	}
}

func ownSchema(t *testing.T) (schema, []byte) {
	t.Helper()
	b, err := resource.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return parseSchema(t, b), append(b, '\n')
}

func TestSchema(t *testing.T) {
	t.Parallel()
	s, text := ownSchema(t)
	current(t, schemaFile, text)
	for name, def := range s.Defs {
		for key, p := range def.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no doc tag", name, key)
			}
		}
	}
	tests := []struct{ text, want string }{
		{"{apiVersion: muster/v1, kind: Pack, name: a, spec: {queries: {q: {query: SELECT 1, interval: 60}}}}", ""},
		{"{apiVersion: muster/v1, kind: Profile, name: a, spec: {}}", ""},
		{"{apiVersion: muster/v1, kind: Profile, name: a, spec: {options: {a: 1, b: x, c: true}, priority: 3}}", ""},
		{"{apiVersion: v1, kind: Profile, name: a, spec: {}}", "apiVersion"},
		{"{apiVersion: muster/v1, kind: Pak, name: a, spec: {}}", "fits 0"},
		{"{apiVersion: muster/v1, kind: Profile, name: a b, spec: {}}", "name"},
		{"{apiVersion: muster/v1, kind: Profile, name: a, spec: {}, more: 1}", "more: is no key"},
		{"{apiVersion: muster/v1, kind: Profile, name: a, spec: {option: {}}}", "option: is no key"},
		{"{apiVersion: muster/v1, kind: Pack, name: a, spec: {}}", "no queries"},
		{"{apiVersion: muster/v1, kind: Pack, name: a, spec: {queries: {q: {query: SELECT 1}}}}", "no interval"},
		{"{apiVersion: muster/v1, kind: Pack, name: a, spec: {queries: {q: {query: SELECT 1, interval: often}}}}", "not a integer"},
		{"{apiVersion: muster/v1, kind: RolloutPolicy, name: a, spec: {on_failure: panic, stages: []}}", "none of"},
		{"{apiVersion: muster/v1, kind: RolloutPolicy, name: a, spec: {stages: [{nodes: 1, bake: 30m}, {percent: 12.5, bake: 1h30m}]}}", ""},
		{"{apiVersion: muster/v1, kind: RolloutPolicy, name: a, spec: {stages: [{nodes: 1, bake: soon}]}}", "does not fit"},
	}
	for _, tt := range tests {
		wrong := s.validate(s, "", yamlDocuments(t, []byte(tt.text))[0])
		if got := strings.Join(wrong, "; "); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestSchema_examples holds the shipped resources and the examples against the
// schema and the parser.
func TestSchema_examples(t *testing.T) {
	t.Parallel()
	s, _ := ownSchema(t)
	names, err := filepath.Glob(exampleFiles)
	if err != nil || len(names) < 5 {
		t.Fatalf("%d examples, %v", len(names), err)
	}
	var all []resource.Object
	kinds := map[string]bool{}
	for _, name := range names {
		objects := fits(t, s, name)
		all = append(all, objects...)
		for _, o := range objects {
			kinds[o.Kind] = true
		}
	}
	// They are applied to what comes with Muster.
	shipped, err := resource.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	base, err := resource.NewSet(shipped)
	if err != nil {
		t.Fatal(err)
	}
	set, err := base.With(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	permitted(t, set)
	for _, k := range []string{"Pack", "Profile", "TagRule", "RolloutPolicy", "ApprovalPolicy", "FreezeWindow", "Budget", "EnrollmentQuery", "Trigger", "Notifier"} {
		if !kinds[k] {
			t.Errorf("there is no example of a %s", k)
		}
	}
	fits(t, s, "default.yaml")
}

// permitted judges objects as a change of them is judged.
func permitted(t *testing.T, set *resource.Set) {
	t.Helper()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	report, err := resource.Check(set, engine, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range report.Refused(policy.Sensitive) {
		t.Errorf("%s: %s is refused: %+v", i.Key, i.Path, i.Verdict)
	}
	for _, i := range report.Items {
		for _, f := range i.Verdict.Findings {
			if f.Severity == policy.Warning && i.Name != resource.HealthPack { // one of whose queries runs often on purpose
				t.Errorf("%s: %s: %s", i.Key, i.Path, f.Message)
			}
		}
	}
}

func fits(t *testing.T, s schema, name string) []resource.Object {
	t.Helper()
	text := read(t, name)
	objects, err := resource.Parse(name, text)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	docs := yamlDocuments(t, text)
	if len(docs) != len(objects) || len(docs) == 0 {
		t.Errorf("%s: %d documents, %d objects", name, len(docs), len(objects))
	}
	for _, doc := range docs {
		for _, wrong := range s.validate(s, "", doc) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
	return objects
}

// TestReference keeps the reference of kinds and fields current.
func TestReference(t *testing.T) {
	t.Parallel()
	s, _ := ownSchema(t)
	intro, _, ok := strings.Cut(string(read(t, docsFile)), generated)
	if !ok {
		t.Fatalf("%s has no line that says where it is generated", docsFile)
	}
	var b strings.Builder
	b.WriteString(intro + generated)
	for _, kind := range s.OneOf {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", kind.Title, kind.Description)
		seen := map[string]bool{}
		s.writeFields(&b, strings.TrimPrefix(kind.Properties["spec"].Ref, "#/$defs/"), "spec", seen)
	}
	current(t, docsFile, []byte(b.String()))
}

// writeFields writes the table of a struct's keys, and of those below.
func (s schema) writeFields(b *strings.Builder, name, path string, seen map[string]bool) {
	if seen[name] {
		return
	}
	seen[name] = true
	def := s.Defs[name]
	fmt.Fprintf(b, "\n`%s`\n\n| key | type | required | meaning |\n|---|---|---|---|\n", path)
	for _, key := range slices.Sorted(maps.Keys(def.Properties)) {
		p := def.Properties[key]
		required := ""
		if slices.Contains(def.Required, key) {
			required = "yes"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, p.typeName(), required, p.meaning())
	}
	for _, key := range slices.Sorted(maps.Keys(def.Properties)) {
		if ref, at := def.Properties[key].below(path + "." + key); ref != "" {
			s.writeFields(b, ref, at, seen)
		}
	}
}

func (s schema) meaning() string {
	text := strings.ReplaceAll(s.Description, "|", `\|`)
	if s.Enum != nil {
		text += fmt.Sprintf(" (one of %v)", s.Enum)
	}
	return text
}

// rest returns the schema of an object's values, if its keys are free.
func (s schema) rest() *schema {
	var rest schema
	if s.Additional == nil || string(s.Additional) == "false" || json.Unmarshal(s.Additional, &rest) != nil {
		return nil
	}
	return &rest
}

func (s schema) typeName() string {
	switch rest := s.rest(); {
	case s.Ref != "":
		return "object"
	case s.Type == "":
		return "any"
	case s.Format == "date-time":
		return "time (RFC 3339)"
	case s.Pattern != "":
		return "duration"
	case s.Items != nil:
		return "list of " + s.Items.typeName()
	case rest != nil:
		return "map of " + rest.typeName()
	}
	return s.Type
}

// below returns the struct that a key leads to, and its path.
func (s schema) below(path string) (ref, at string) {
	switch rest := s.rest(); {
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/$defs/"), path
	case s.Items != nil:
		return s.Items.below(path + "[]")
	case rest != nil:
		return rest.below(path + ".NAME")
	}
	return "", ""
}
