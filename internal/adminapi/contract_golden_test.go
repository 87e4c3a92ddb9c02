package adminapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// promise is what callers rely on of a description: normalised, without words.
type promise struct {
	Version    string             `json:"version"`
	Operations map[string]offered `json:"operations"`
	Schemas    map[string]shape   `json:"schemas"`
}

// offered is one operation.
type offered struct {
	Parameters map[string]shape `json:"parameters,omitempty"` // by place and name
	Body       *shape           `json:"body,omitempty"`
	Answers    map[string]shape `json:"answers,omitempty"` // by status and content; of success
}

// shape is a schema. The limits bind what callers send.
type shape struct {
	Ref      string           `json:"ref,omitempty"` // to one of the schemas
	Type     []string         `json:"type,omitempty"`
	Enum     []string         `json:"enum,omitempty"`
	Format   string           `json:"format,omitempty"`
	Pattern  string           `json:"pattern,omitempty"`
	Most     map[string]int   `json:"most,omitempty"`
	Least    map[string]int   `json:"least,omitempty"`
	Items    *shape           `json:"items,omitempty"`
	Fields   map[string]shape `json:"fields,omitempty"`
	Values   *shape           `json:"values,omitempty"` // of a map
	Required bool             `json:"required,omitempty"`
}

func shapeOf(s object) shape {
	out := shape{}
	if ref, ok := s["$ref"].(string); ok {
		out.Ref = ref[strings.LastIndex(ref, "/")+1:]
		return out
	}
	switch t := s["type"].(type) {
	case string:
		out.Type = []string{t}
	case []any:
		for _, one := range t {
			out.Type = append(out.Type, one.(string))
		}
	}
	enum, _ := s["enum"].([]any)
	for _, v := range enum {
		out.Enum = append(out.Enum, fmt.Sprint(v))
	}
	out.Format, _ = s["format"].(string)
	out.Pattern, _ = s["pattern"].(string)
	limits := func(keys ...string) map[string]int {
		found := map[string]int{}
		for _, k := range keys {
			if n, ok := number(s, k); ok {
				found[k] = n
			}
		}
		return found
	}
	out.Most = limits("maximum", "maxLength", "maxItems")
	out.Least = limits("minimum", "minLength", "minItems")
	if items, ok := s["items"].(object); ok {
		out.Items = new(shapeOf(items))
	}
	if values, ok := s["additionalProperties"].(object); ok {
		out.Values = new(shapeOf(values))
	}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(object)
	for name, p := range properties {
		if out.Fields == nil {
			out.Fields = map[string]shape{}
		}
		f := shapeOf(p.(object))
		f.Required = slices.Contains(required, any(name))
		out.Fields[name] = f
	}
	return out
}

// promised normalises a description.
func promised(d *description) promise {
	out := promise{Operations: map[string]offered{}, Schemas: map[string]shape{}}
	out.Version, _ = d.at("#/info")["version"].(string)
	for name := range d.at("#/components/schemas") {
		out.Schemas[name] = shapeOf(d.at("#/components/schemas/" + name))
	}
	for _, o := range d.operations() {
		one := offered{Parameters: map[string]shape{}, Answers: map[string]shape{}}
		for _, in := range []string{"path", "query", "header"} {
			for _, p := range o.parameters(in) {
				s := shapeOf(p["schema"].(object))
				s.Required, _ = p["required"].(bool)
				one.Parameters[in+" "+p["name"].(string)] = s
			}
		}
		if s := d.at(o.pointer() + "/requestBody/content/application~1json/schema"); s != nil {
			one.Body = new(shapeOf(s))
			one.Body.Required, _ = d.at(o.pointer() + "/requestBody")["required"].(bool)
		}
		for status := range d.at(o.pointer() + "/responses") {
			if status >= "4" {
				continue // refusals are all alike, see TestDescription
			}
			contents := d.at(o.pointer() + "/responses/" + status + "/content")
			if len(contents) == 0 {
				one.Answers[status] = shape{}
			}
			for kind, content := range contents {
				s, _ := content.(object)["schema"].(object)
				one.Answers[status+" "+kind] = shapeOf(s)
			}
		}
		out.Operations[o.String()] = one
	}
	return out
}

// text writes a promise with a line for each operation and schema, so that a
// difference is read at a glance.
func (p promise) text(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"version\": %q,\n", p.Version)
	block(t, &b, "operations", p.Operations)
	b.WriteString(",\n")
	block(t, &b, "schemas", p.Schemas)
	b.WriteString("\n}\n")
	return b.Bytes()
}

func block[T any](t *testing.T, b *bytes.Buffer, name string, of map[string]T) {
	t.Helper()
	fmt.Fprintf(b, "%q: {", name)
	comma := "\n"
	for _, key := range slices.Sorted(maps.Keys(of)) {
		line, err := json.Marshal(of[key])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, "%s%q: %s", comma, key, line)
		comma = ",\n"
	}
	b.WriteString("\n}")
}

// comparison finds what breaks callers between two promises.
type comparison struct {
	was, is promise
	seen    map[string]bool // pairs of schemas, since some contain themselves
	breaks  []string
}

func broken(was, is promise) []string {
	c := &comparison{was: was, is: is, seen: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(was.Operations)) {
		now, ok := is.Operations[name]
		if !ok {
			c.say(name, "is gone")
			continue
		}
		c.operation(name, was.Operations[name], now)
	}
	return c.breaks
}

func (c *comparison) say(where, format string, args ...any) {
	if s := where + " " + fmt.Sprintf(format, args...); !slices.Contains(c.breaks, s) {
		c.breaks = append(c.breaks, s)
	}
}

func (c *comparison) operation(name string, was, is offered) {
	for key, old := range was.Parameters {
		now, ok := is.Parameters[key]
		if !ok {
			c.say(name, "%s is gone", key)
			continue
		}
		if now.Required && !old.Required {
			c.say(name, "%s is required newly", key)
		}
		c.sent(name+" "+key, old, now)
	}
	for key, now := range is.Parameters {
		if _, ok := was.Parameters[key]; !ok && now.Required {
			c.say(name, "%s is required newly", key)
		}
	}
	switch {
	case was.Body != nil && is.Body == nil:
		c.say(name, "takes no body any more")
	case is.Body != nil && is.Body.Required && (was.Body == nil || !was.Body.Required):
		c.say(name, "needs a body newly")
	case was.Body != nil:
		c.sent(name+" body", *was.Body, *is.Body)
	}
	for key, old := range was.Answers {
		now, ok := is.Answers[key]
		if !ok {
			c.say(name, "answers no %s any more", key)
			continue
		}
		c.read(name+" answer", old, now)
	}
}

// resolved follows references; false if the pair was compared already.
func (c *comparison) resolved(way string, was, is *shape) bool {
	if was.Ref == "" && is.Ref == "" {
		return true
	}
	key := way + was.Ref + ">" + is.Ref
	if was.Ref != "" && is.Ref != "" {
		if c.seen[key] {
			return false
		}
		c.seen[key] = true
	}
	if was.Ref != "" {
		*was = c.was.Schemas[was.Ref]
	}
	if is.Ref != "" {
		*is = c.is.Schemas[is.Ref]
	}
	return true
}

// sent compares what callers send: all that was taken must be.
func (c *comparison) sent(where string, was, is shape) {
	if !c.resolved("sent ", &was, &is) {
		return
	}
	c.missing(where, "type", was.Type, is.Type, len(is.Type) > 0)
	c.missing(where, "value", was.Enum, is.Enum, len(is.Enum) > 0)
	if len(was.Enum) == 0 && len(is.Enum) > 0 {
		c.say(where, "takes only some values newly")
	}
	if is.Pattern != "" && was.Pattern != is.Pattern {
		c.say(where, "takes another pattern")
	}
	for key, now := range is.Most {
		if old, ok := was.Most[key]; !ok || now < old {
			c.say(where, "has a tighter %s", key)
		}
	}
	for key, now := range is.Least {
		if old, ok := was.Least[key]; !ok || now > old {
			c.say(where, "has a tighter %s", key)
		}
	}
	for name, now := range is.Fields {
		if old, ok := was.Fields[name]; now.Required && (!ok || !old.Required) {
			c.say(where+"."+name, "is required newly")
		}
	}
	c.within(where, was, is, c.sent)
}

// read compares what callers read: all that was there must be, and no more kinds
// of it.
func (c *comparison) read(where string, was, is shape) {
	if !c.resolved("read ", &was, &is) {
		return
	}
	c.missing(where, "new type", is.Type, was.Type, len(was.Type) > 0)
	c.missing(where, "value", was.Enum, is.Enum, true)
	if was.Format != is.Format {
		c.say(where, "has the format %q instead of %q", is.Format, was.Format)
	}
	for name, old := range was.Fields {
		if now, ok := is.Fields[name]; ok && old.Required && !now.Required {
			c.say(where+"."+name, "may be absent newly")
		}
	}
	c.within(where, was, is, c.read)
}

// missing says which of some words are not among others.
func (c *comparison) missing(where, what string, of, among []string, matters bool) {
	for _, word := range of {
		if matters && !slices.Contains(among, word) {
			c.say(where, "%s %s: is gone, or new to callers", what, word)
		}
	}
}

// within compares what is in a shape.
func (c *comparison) within(where string, was, is shape, compare func(string, shape, shape)) {
	for name, old := range was.Fields {
		if now, ok := is.Fields[name]; ok {
			compare(where+"."+name, old, now)
		} else {
			c.say(where+"."+name, "is gone")
		}
	}
	for _, pair := range [][2]*shape{{was.Items, is.Items}, {was.Values, is.Values}} {
		switch {
		case pair[0] != nil && pair[1] != nil:
			compare(where+"[]", *pair[0], *pair[1])
		case pair[0] != nil:
			c.say(where, "says no more what is in it")
		}
	}
}

// major is the first number of a version.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// TestCompatible compares the description with the one that callers were promised.
func TestCompatible(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	is := promised(readDescription(t, w.document()))
	path := filepath.Join("testdata", "openapi.golden.json")
	golden, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	var was promise
	if err == nil {
		if err := json.Unmarshal(golden, &was); err != nil {
			t.Fatal(err)
		}
	}
	breaks := broken(was, is)
	switch {
	case bytes.Equal(golden, is.text(t)):
	case len(breaks) > 0 && major(is.Version) <= major(was.Version):
		t.Errorf("callers of version %s break:\n%s\nKeep what they use. If it must go, raise the first number of APIVersion in contract.go (to %d.0), "+
			"say in CHANGELOG.md what callers must do, and run: go test ./internal/adminapi -run TestCompatible -update",
			was.Version, strings.Join(breaks, "\n"), major(was.Version)+1)
	case !*update:
		t.Errorf("the description has more than the golden file; raise the second number of APIVersion in contract.go if that is new since the last release, " +
			"and run: go test ./internal/adminapi -run TestCompatible -update")
	default:
		if err := os.WriteFile(path, is.text(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBroken: what breaks callers is found, and what does not is let be.
func TestBroken(t *testing.T) {
	const before = `{"version": "1.0", "operations": {
		"GET /a": {"parameters": {"query q": {"type": ["string"], "most": {"maxLength": 9}}}, "answers": {"200 application/json": {"ref": "A"}}},
		"PUT /a": {"body": {"ref": "In", "required": true}, "answers": {"204": {}}}
	}, "schemas": {
		"A": {"type": ["object"], "fields": {"id": {"type": ["string"], "required": true}, "state": {"type": ["string"], "enum": ["on", "off"]}, "in": {"ref": "A"}}},
		"In": {"type": ["object"], "fields": {"name": {"type": ["string"], "required": true}, "way": {"type": ["string"], "enum": ["x", "y"]}, "tags": {"type": ["array"], "items": {"type": ["string"]}}}}
	}}`
	for _, c := range []struct{ from, to, say string }{
		{`"PUT /a"`, `"PUT /b"`, "PUT /a is gone"},
		{`"query q"`, `"query r"`, "query q is gone"},
		{`"maxLength": 9`, `"maxLength": 8`, "tighter maxLength"},
		{`"maxLength": 9`, `"maxLength": 10`, ""},
		{`"most": {"maxLength": 9}`, `"required": true`, "query q is required newly"},
		{`"200 application/json"`, `"200 text/csv"`, "answers no 200 application/json"},
		{`"204"`, `"200"`, "answers no 204"},
		{`"id": {"type": ["string"], "required": true}, `, ``, "answer.id is gone"},
		{`"id": {"type": ["string"], "required": true}`, `"id": {"type": ["string"]}`, "answer.id may be absent newly"},
		{`"id": {"type": ["string"]`, `"id": {"type": ["integer"]`, "new type integer"},
		{`"id": {"type": ["string"]`, `"id": {"type": ["string", "null"]`, "new type null"},
		{`["on", "off"]`, `["on"]`, "value off"},
		{`["on", "off"]`, `["on", "off", "held"]`, ""},
		{`"in": {"ref": "A"}`, `"in": {"ref": "A"}, "more": {"type": ["string"]}`, ""},
		{`["x", "y"]`, `["x"]`, "value y"},
		{`"way": {"type": ["string"], "enum": ["x", "y"]}`, `"way": {"type": ["string"], "enum": ["x", "y"], "required": true}`, "body.way is required newly"},
		{`"way": {"type": ["string"], "enum": ["x", "y"]}`, `"way": {"type": ["string"]}`, ""},
		{`"name": {"type": ["string"], "required": true}`, `"name": {"type": ["string"]}`, ""},
		{`"items": {"type": ["string"]}`, `"items": {"type": ["integer"]}`, "type string"},
		{`"body": {"ref": "In", "required": true}, `, ``, "takes no body any more"},
	} {
		changed := strings.Replace(before, c.from, c.to, 1)
		if changed == before {
			t.Errorf("%s is not there", c.from)
		}
		var was, is promise
		for text, p := range map[string]*promise{before: &was, changed: &is} {
			if err := json.Unmarshal([]byte(text), p); err != nil {
				t.Fatal(err)
			}
		}
		got := strings.Join(broken(was, is), "\n")
		if !strings.Contains(got, c.say) || (c.say == "") != (got == "") {
			t.Errorf("%s to %s: got %q, want %q", c.from, c.to, got, c.say)
		}
		if !reflect.DeepEqual(broken(was, was), []string(nil)) {
			t.Errorf("a promise breaks itself: %v", broken(was, was))
		}
	}
}
