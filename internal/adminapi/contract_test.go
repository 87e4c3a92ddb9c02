package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/signon"
)

// object is a JSON object.
type object = map[string]any

// description is the OpenAPI document of a running server.
type description struct {
	doc     object
	schemas *jsonschema.Compiler
}

const documentURL = "https://muster.example/openapi.json"

// document reads the description as its users do.
func (w *world) document() []byte {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/api/openapi.json", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token())
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// readDescription reads an OpenAPI document.
func readDescription(t *testing.T, document []byte) *description {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{doc: doc.(object), schemas: jsonschema.NewCompiler()}
	d.schemas.DefaultDraft(jsonschema.Draft2020) // that of OpenAPI 3.1
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource(documentURL, doc); err != nil {
		t.Fatal(err)
	}
	return d
}

// at returns what is at a JSON pointer of the description; nil for nothing.
func (d *description) at(pointer string) object {
	v := any(d.doc)
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		o, _ := v.(object)
		v = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	o, _ := v.(object)
	return o
}

// follow returns an object, or what it refers to, and its pointer.
func (d *description) follow(pointer string) (object, string) {
	for {
		o := d.at(pointer)
		ref, ok := o["$ref"].(string)
		if !ok {
			return o, pointer
		}
		pointer = ref
	}
}

// schema returns a schema, or what it refers to.
func (d *description) schema(s object) object {
	if ref, ok := s["$ref"].(string); ok {
		s, _ = d.follow(ref)
	}
	return s
}

// operation is one operation of the description.
type operation struct {
	object

	d            *description
	method, path string
}

func (o operation) String() string { return o.method + " " + o.path }

func (o operation) pointer() string {
	return "#/paths/" + strings.ReplaceAll(o.path, "/", "~1") + "/" + strings.ToLower(o.method)
}

// operations returns all, what only reads first and what removes last.
func (d *description) operations() []operation {
	var out []operation
	for path, item := range d.at("#/paths") {
		for method, op := range item.(object) {
			out = append(out, operation{op.(object), d, strings.ToUpper(method), path})
		}
	}
	order := []string{"GET", "PUT", "POST", "DELETE"}
	slices.SortFunc(out, func(a, b operation) int {
		if a.method != b.method {
			return slices.Index(order, a.method) - slices.Index(order, b.method)
		}
		if a.method == http.MethodDelete { // one of a list before the list
			a, b = b, a
		}
		return strings.Compare(a.path, b.path)
	})
	return out
}

// parameters returns the parameters of one place: path, query or header.
func (o operation) parameters(in string) []object {
	var out []object
	list, _ := o.object["parameters"].([]any)
	for _, p := range list {
		if p := p.(object); p["in"] == in {
			out = append(out, p)
		}
	}
	return out
}

// input returns the schema of an operation's body; nil without one.
func (o operation) input() object {
	p := o.pointer() + "/requestBody/content/application~1json/schema"
	if o.d.at(p) == nil {
		return nil
	}
	s, _ := o.d.follow(p)
	return s
}

// answer is what a call was answered.
type answer struct {
	status  int
	content string
	body    []byte
}

// judge reports why an answer is not one that the operation documents.
func (o operation) judge(a answer) error {
	pointer := o.pointer() + "/responses/" + strconv.Itoa(a.status)
	if o.d.at(pointer) == nil {
		return fmt.Errorf("status %d is not documented", a.status)
	}
	response, pointer := o.d.follow(pointer)
	contents, _ := response["content"].(object)
	if len(contents) == 0 {
		if a.status == http.StatusSeeOther {
			return nil // net/http adds a link for people
		}
		if len(bytes.TrimSpace(a.body)) > 0 {
			return fmt.Errorf("status %d has a body, and none is documented", a.status)
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(a.content)
	if err != nil {
		return fmt.Errorf("content type %q: %w", a.content, err)
	}
	content, ok := contents[kind].(object)
	if !ok {
		return fmt.Errorf("status %d with content type %q, which is not documented", a.status, kind)
	}
	if content["schema"] == nil {
		return nil // a stream or a file
	}
	schema, err := o.d.schemas.Compile(documentURL + pointer + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.body))
	if err != nil {
		return fmt.Errorf("the body is no JSON: %w", err)
	}
	return schema.Validate(v)
}

// caller makes calls of the operations of a world.
type caller struct {
	w      *world
	token  string
	ids    map[string][]string // of path parameters, by the first segment of the path
	bodies map[string]any      // of operations
	header map[string]string   // Authorization of operations
	values object              // of properties and parameters that a schema alone does not tell
	unique int
}

// call is one call of an operation.
type call struct {
	what    string // for messages
	path    map[string]string
	query   url.Values
	header  http.Header
	body    []byte
	surely  bool // it must be refused
	located bool // and the refusal says where
}

// do sends a call. A stream's body is left alone: it does not end.
func (c *caller) do(o operation, in call) answer {
	c.w.t.Helper()
	path := o.path
	for name, value := range in.path {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	ctx, cancel := context.WithTimeout(c.w.t.Context(), 20*time.Second)
	defer cancel()
	if len(in.query) > 0 {
		path += "?" + in.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, o.method, c.w.url+path, bytes.NewReader(in.body))
	if err != nil {
		c.w.t.Fatal(o, in.what, err)
	}
	if in.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(req.Header, in.header)
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	got, err := c.w.http.Transport.RoundTrip(req) // no redirects
	if err != nil {
		c.w.t.Errorf("%s with %s: %v", o, in.what, err)
		return answer{}
	}
	defer got.Body.Close()
	a := answer{status: got.StatusCode, content: got.Header.Get("Content-Type")}
	if strings.HasPrefix(a.content, "text/event-stream") {
		return a
	}
	if a.body, err = io.ReadAll(got.Body); err != nil {
		c.w.t.Errorf("%s with %s: %v", o, in.what, err)
	}
	return a
}

// try makes a call and holds the answer against the description.
func (c *caller) try(o operation, in call) answer {
	c.w.t.Helper()
	a := c.do(o, in)
	if a.status == 0 {
		return a
	}
	fail := func(err error) {
		c.w.t.Errorf("%s with %s: %d: %v\n%.500s", o, in.what, a.status, err, a.body)
	}
	if err := o.judge(a); err != nil {
		fail(err)
	}
	if a.status == http.StatusInternalServerError {
		fail(errors.New("a defect of the server"))
	}
	if in.surely && a.status < http.StatusBadRequest {
		fail(errors.New("it must be refused"))
	}
	if in.located && (a.status == http.StatusBadRequest || a.status == http.StatusUnprocessableEntity) {
		var p adminapi.Problem
		if err := json.Unmarshal(a.body, &p); err != nil || len(p.Errors) == 0 || p.Errors[0].Location == "" {
			fail(errors.New("it does not say which field"))
		}
	}
	return a
}

// typeOf returns a schema's type, null aside.
func typeOf(s object) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if one != "null" {
				return one.(string)
			}
		}
	}
	return ""
}

func number(s object, key string) (int, bool) {
	n, ok := s[key].(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return int(i), err == nil
}

// sample returns a value that a schema allows.
func (c *caller) sample(d *description, name string, s object) any {
	s = d.schema(s)
	kind := typeOf(s)
	if v, ok := c.values[name+":"+kind]; ok {
		return v
	}
	if list, ok := s["enum"].([]any); ok {
		return list[0]
	}
	switch kind {
	case "string":
		if s["format"] == "date-time" {
			return time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		}
		c.unique++
		return "x" + strconv.Itoa(c.unique)
	case "integer", "number":
		n, _ := number(s, "minimum")
		return max(n, 1)
	case "boolean":
		return false
	case "array":
		return []any{c.sample(d, name, s["items"].(object))}
	case "object":
		return c.minimal(d, s)
	}
	return object{"x": "y"}
}

// minimal returns an object with what a schema requires, and what is known besides.
func (c *caller) minimal(d *description, s object) object {
	out := object{}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(object)
	for name, p := range properties {
		p := d.schema(p.(object))
		_, known := c.values[name+":"+typeOf(p)]
		if known || slices.Contains(required, any(name)) {
			out[name] = c.sample(d, name, p)
		}
	}
	return out
}

// plausible is a call that should work, for each thing that there is.
func (c *caller) plausible(o operation) []call {
	base := call{what: "plausible input", path: map[string]string{}, query: url.Values{}, header: http.Header{}}
	for _, p := range o.parameters("query") {
		name := p["name"].(string)
		schema := o.d.schema(p["schema"].(object))
		if v, ok := c.values[o.path+"?"+name]; ok {
			base.query.Set(name, v.(string))
		} else if p["required"] == true {
			base.query.Set(name, fmt.Sprint(c.sample(o.d, name, schema)))
		}
	}
	if s := o.input(); s != nil {
		body := any(object{"host": "h1"})
		if typeOf(s) == "object" {
			body = c.minimal(o.d, s)
		}
		if known, ok := c.bodies[o.String()]; ok {
			body = known
		}
		base.body, _ = json.Marshal(body)
	}
	if known, ok := c.header[o.String()]; ok {
		base.header = http.Header{"Authorization": {known}}
	}
	var out []call
	for _, ids := range c.paths(o) {
		next := base
		next.path = ids
		out = append(out, next)
	}
	return out
}

// paths returns values of a path's parameters.
func (c *caller) paths(o operation) []map[string]string {
	noun, _, _ := strings.Cut(strings.TrimPrefix(o.path, "/api/v1/"), "/")
	out := []map[string]string{{}}
	for _, p := range o.parameters("path") {
		name := p["name"].(string)
		key := noun
		if name == "name" {
			key = "name"
		}
		if special := o.path + "#" + name; c.ids[special] != nil {
			key = special
		}
		ids := c.ids[key]
		if len(ids) == 0 {
			ids = []string{"1"}
		}
		var next []map[string]string
		for _, base := range out {
			for _, id := range ids {
				m := maps.Clone(base)
				m[name] = id
				next = append(next, m)
			}
		}
		out = next
	}
	return out
}

// rubbish are calls that nobody should send.
func (c *caller) rubbish(o operation, r *rand.Rand) []call {
	base := c.plausible(o)[0]
	for name := range base.path {
		if o.method == http.MethodDelete || r.IntN(2) == 0 {
			base.path[name] = "missing"
		}
		if name == "number" || name == "seq" {
			base.path[name] = "1"
		}
	}
	var out []call
	dear := strings.Contains(string(base.body), password)
	add := func(what string, change func(*call)) {
		next := base
		next.what, next.path, next.query, next.header = what, maps.Clone(base.path), maps.Clone(base.query), maps.Clone(base.header)
		change(&next)
		if dear && !next.surely && r.IntN(10) > 0 {
			return // passwords are hashed slowly on purpose
		}
		out = append(out, next)
	}
	add("an unknown parameter", func(n *call) { n.query.Set("no_such_parameter", "1") })
	for _, p := range o.parameters("path") {
		name := p["name"].(string)
		for _, v := range []string{"missing", "%00", "%ff%fe", "..%2f..%2fetc", "%F0%9F%90%99", strings.Repeat("x", 5000), "-1", "99999999999999999999", "1;drop", "%20"} {
			add("the path's "+name+" "+short(v), func(n *call) { n.path[name] = v })
		}
	}
	for _, p := range o.parameters("query") {
		name, schema := p["name"].(string), o.d.schema(p["schema"].(object))
		for _, v := range []string{"", "\x00", "\xff\xfe", "🐙", "-1", "0", "99999999999999999999", "1.5", "null", "' OR 1=1 --", "*", "%", strings.Repeat("y", 70000)} {
			wrong := slices.Contains([]string{"integer", "boolean"}, typeOf(schema)) && slices.Contains([]string{"\x00", "🐙", "1.5", "null"}, v)
			if len(v) > 1000 && r.IntN(4) > 0 { // a long one is slow
				continue
			}
			add("the parameter "+name+" "+short(v), func(n *call) { n.query.Set(name, v); n.surely, n.located = wrong, wrong })
		}
	}
	for _, p := range o.parameters("header") {
		for _, v := range []string{"-1", "99999999999999999999", "bytes=9-1,-", "\xff", `"x`, strings.Repeat("z", 4000)} {
			add("a header", func(n *call) { n.header.Set(p["name"].(string), v) })
		}
	}
	s := o.input()
	if s == nil {
		if o.method != http.MethodGet {
			add("a body that nobody reads", func(n *call) { n.body = []byte("{\xff") })
		}
		return out
	}
	whole := base.body
	for what, b := range map[string]string{
		"no body": "", "broken JSON": `{"a`, "an array": "[1]", "null": "null", "a text": `"x"`, "a number": "1e400",
		"depth": strings.Repeat("[", 20000), "two documents": string(whole) + string(whole), "invalid UTF-8": "{\"\xff\xfe\": 1}", "an empty object": "{}",
	} {
		anything := typeOf(s) != "object"
		add(what, func(n *call) {
			n.body = []byte(b)
			n.surely = !anything && what != "an empty object" && what != "no body"
		})
	}
	size := 2 << 20
	if r.IntN(8) == 0 {
		size = 11 << 20 // more than any operation takes
	}
	add("a huge body", func(n *call) {
		n.body = []byte(`{"x": "` + strings.Repeat("x", size) + `"}`)
		n.surely = typeOf(s) == "object"
	})
	for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data", "nonsense"} {
		add("content type "+kind, func(n *call) { n.header.Set("Content-Type", kind); n.surely = typeOf(s) == "object" })
	}
	c.rubbishBodies(o, s, whole, add)
	return out
}

// rubbishBodies changes one property of a body that would do.
func (c *caller) rubbishBodies(o operation, s object, whole []byte, add func(string, func(*call))) {
	put := func(name string, v any) []byte {
		body := object{}
		_ = json.Unmarshal(whole, &body)
		body[name] = v
		b, _ := json.Marshal(body)
		return b
	}
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(object)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p := o.d.schema(properties[name].(object))
		if slices.Contains(required, any(name)) {
			add("no "+name, func(n *call) {
				body := object{}
				_ = json.Unmarshal(whole, &body)
				delete(body, name)
				n.body, _ = json.Marshal(body)
				n.surely, n.located = true, true
			})
		}
		kind := typeOf(p)
		wrong := []any{12.5, "text", true, object{"a": 1}, []any{object{}}}
		if kind == "" {
			wrong = nil
		}
		for _, v := range wrong {
			if fits(kind, v) {
				continue
			}
			add(fmt.Sprintf("%s as %T", name, v), func(n *call) { n.body, n.surely, n.located = put(name, v), true, true })
		}
		switch kind {
		case "string":
			for _, v := range []string{"", "\x00\x1b[0m", "🐙", " ", "' OR 1=1 --", strings.Repeat("long", 17000)} {
				most, limited := number(p, "maxLength")
				refused := limited && len(v) > most
				if strings.Contains(name, "password") && !refused {
					continue // who tries wrong ones waits, and so would the calls after this
				}
				add(name+" "+short(v), func(n *call) { n.body, n.surely, n.located = put(name, v), refused, refused })
			}
			if strings.Contains(name, "password") {
				break
			}
			add(name+" of invalid UTF-8", func(n *call) {
				n.body = bytes.ReplaceAll(put(name, "INVALID"), []byte("INVALID"), []byte("a\xff\xfeb"))
			})
		case "integer", "number":
			for _, v := range []any{-1, 0, json.Number("99999999999999999999"), json.Number("-9223372036854775808"), json.Number("1e30")} {
				add(fmt.Sprintf("%s %v", name, v), func(n *call) { n.body = put(name, v) })
			}
		case "array":
			many := make([]any, 20001)
			for i := range many {
				many[i] = "x" + strconv.Itoa(i)
			}
			_, limited := number(p, "maxItems")
			for _, v := range [][]any{{}, {nil}, many} {
				add(fmt.Sprintf("%s with %d items", name, len(v)), func(n *call) { n.body = put(name, v); n.surely = limited && len(v) == len(many) })
			}
		}
		add(name+" null", func(n *call) { n.body = put(name, nil) })
	}
	if s["additionalProperties"] == false {
		add("an unknown property", func(n *call) { n.body, n.surely, n.located = put("no_such_property", 1), true, true })
	}
}

// fits reports whether a value has a type.
func fits(kind string, v any) bool {
	switch v.(type) {
	case float64:
		return kind == "number"
	case string:
		return kind == "string"
	case bool:
		return kind == "boolean"
	case object:
		return kind == "object"
	}
	return kind == "array"
}

func short(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 20)]) }

// inhabited is a world with one of everything, and who calls it.
func inhabited(t *testing.T) *caller {
	t.Helper()
	w := newWorld(t, func(w *world) {
		w.calls = 1_000_000
		var err error
		if w.signOn, err = signon.New(signon.Options{Providers: []signon.Provider{{Name: "servers", Title: "P", Issuer: "https://127.0.0.1:1"}}}); err != nil {
			t.Fatal(err)
		}
	})
	w.http.Transport = http.DefaultTransport
	w.setUp()
	secret := w.secret("servers")
	nodes := []string{}
	for _, name := range []string{"h1", "h2", "h3"} {
		_, n := w.enrolFrom("192.0.2.7", secret, name)
		nodes = append(nodes, n.ID)
	}
	w.apply(strings.ReplaceAll(triggers, "name: seen", "name: servers"))
	w.apply("apiVersion: muster/v1\nkind: Notifier\nname: servers\nspec: {webhook: {url: \"https://127.0.0.1:1/\"}}\n---\n" +
		"apiVersion: muster/v1\nkind: Sink\nname: servers\nspec: {file: {name: events.ndjson}}\n---\n" +
		"apiVersion: muster/v1\nkind: Rule\nname: servers\nspec: {events: {queries: [pack_x_*]}, condition: columns.a == \"1\", title: t}\n")
	c := &caller{w: w, token: w.token()}
	c.prove()
	must := func(method, path string, in, out any) {
		t.Helper()
		if err := w.call(method, path, nil, in, out); err != nil {
			t.Fatal(err)
		}
	}
	w.asked("SELECT 1 AS a", answered(nodes[0], `{"a":"1"}`), answered(nodes[1], `{"a":"2"}`))
	liveID := w.asked("SELECT 1 AS a", answered(nodes[0], `{"a":"1"}`), answered(nodes[1], `{"a":"3"}`))
	var done, open adminapi.Carve
	in := adminapi.CarveInput{Node: "h3", Paths: []string{"/etc/hosts"}}
	w.live.Take(nodes[2])
	must("POST", "/carves", in, &done)
	done = w.carved(done, []byte("hosts"))
	must("POST", "/carves", in, &open)
	must("PUT", "/saved-queries/servers", adminapi.SavedQueryInput{SQL: "SELECT 2"}, nil)
	must("POST", "/users", adminapi.UserInput{Name: "servers", Service: true, Roles: []string{"auditor"}, Own: password}, nil)
	must("POST", "/users", adminapi.UserInput{Name: "zoe", Password: password, Roles: []string{"auditor"}, Own: password}, nil)
	alarm := w.raise(alert.Firing{Rule: "r", Key: "k", Title: "t", NodeID: nodes[0], HostIdentifier: "h1"})
	var silence adminapi.Silence
	must("POST", "/silences", adminapi.SilenceInput{Match: []string{"rule = q"}, Comment: "c", ExpiresAt: time.Now().Add(time.Hour)}, &silence)
	batch := event.Batch{NodeID: nodes[0], HostIdentifier: "h1", Received: time.Now(), LogType: "result"}
	batch.Events = []event.Event{{Time: time.Now(), Query: "pack_x_y", Action: event.Added, Columns: json.RawMessage(`{"a":"1"}`)}}
	if err := w.engine.Add(1, []event.Batch{batch}); err != nil {
		t.Fatal(err)
	}
	var mine, theirs []string // rotating one makes another
	for i := range 2 {
		var token adminapi.Token
		must("POST", "/tokens", adminapi.TokenInput{Name: "mine" + strconv.Itoa(i), Own: password}, &token)
		mine = append(mine, token.ID)
		must("POST", "/users/servers/tokens", adminapi.TokenInput{Name: "theirs" + strconv.Itoa(i), Own: password}, &token)
		theirs = append(theirs, token.ID)
	}
	var invited, other adminapi.Invitation // the first is accepted
	must("POST", "/invitations", adminapi.InvitationInput{Name: "carol", Roles: []string{"auditor"}, Own: password}, &invited)
	must("POST", "/invitations", adminapi.InvitationInput{Name: "dave", Roles: []string{"auditor"}, Own: password}, &other)
	_, link, _ := strings.Cut(invited.Path, "=")
	_, look, _ := strings.Cut(other.Path, "=")
	var owners adminapi.TransparencyLink
	must("POST", "/nodes/"+nodes[0]+"/transparency", adminapi.LinkInput{}, &owners)
	_, page, _ := strings.Cut(owners.Path, "/transparency/")
	var hook adminapi.TriggerToken
	must("POST", "/triggers/servers/token", nil, &hook)
	w.running(w.sinks.Run)
	pending := w.pending()
	own := []adminapi.Change{w.change(w.client, packDocument("own1", "600")), w.change(w.client, packDocument("own2", "600"))}
	c.ids = map[string][]string{
		"name": {"servers", "zoe"}, "nodes": nodes, "live": {liveID}, "carves": {done.ID, open.ID}, "changes": {pending.ID, own[0].ID, own[1].ID},
		"alerts": {alarm.ID}, "silences": {silence.ID}, "tokens": mine, "invitations": {other.ID}, "/transparency/{token}#token": {page}, "/api/v1/users/{name}/tokens/{id}#id": theirs,
		"/api/v1/users/{name}/tokens/{id}/rotate#id": theirs, "revisions": {"2", "1"},
		"/api/v1/policy/tables/{name}#name": {"processes"}, "/api/v1/policy/options/{name}#name": {"verbose"},
	}
	payload := object{"host": "h2", "p": []any{"5"}, "name": "x"}
	c.header = map[string]string{"POST /api/v1/hooks/{name}": "Bearer " + hook.Token}
	c.bodies = map[string]any{
		"POST /api/v1/hooks/{name}": payload, "POST /api/v1/triggers/{name}/fire": object{"payload": payload},
		"POST /api/v1/invitations/look": object{"token": look}, "POST /api/v1/invitations/accept": object{"token": link, "password": "kettle umbrella fjord"},
		"POST /api/v1/rules/test":            object{"name": "servers", "since": "1h"},
		"POST /api/v1/sinks/{name}/replay":   object{"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"},
		"POST /api/v1/emergency/safe-config": object{"selector": "hostname = nobody", "reason": "x"},
	}
	c.values = object{
		"own_password:string": password, "password:string": password, "sql:string": "SELECT 1", "selector:string": "all", "selector:object": object{"all": true},
		"roles:array": []any{"auditor"}, "hash:string": pending.Hash, "username:string": "admin", "token:string": setupToken, "code:string": "123456",
		"match:array": []any{"rule = r"}, "paths:array": []any{"/etc/hosts"}, "node:string": "h1", "notifier:string": "servers", "assignee:string": "admin",
		"provider:string": "servers", "files:array": []any{object{"name": "f", "content": packDocument("new", "900")}}, "kind:string": "bearer",
		"tags:array": []any{"x"}, "comment:string": "x", "message:string": "x", "text:string": "x", "since:string": "1h", "rule:string": "servers", "by:string": "a",
		"/api/v1/live/{id}/groups?by": "a", "/api/v1/live/{id}/compare?with": liveID, "/api/v1/events/count?by": "a", "/api/v1/events/state?query": "pack_x_y",
		"/api/v1/nodes/who?ip": "192.0.2.7", "nodes:array": []any{object{"host_identifier": "h9", "node_key": "0123456789abcdef"}},
	}
	return c
}

// running runs something until the test ends.
func (w *world) running(run func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// relogin makes a session anew if a call of an operation ended it.
func (c *caller) relogin(o operation) {
	c.w.t.Helper()
	if !strings.Contains(o.path, "/session") && !strings.Contains(o.path, "/users") {
		return
	}
	var s adminapi.Session
	err := adminapi.NewClient(c.w.url, c.token, c.w.http).Call(c.w.t.Context(), "GET", "/session", nil, nil, &s)
	if adminapi.Status(err) == http.StatusUnauthorized {
		c.token = c.w.token()
	} else if err != nil {
		c.w.t.Fatal(err)
	}
	if s.ProvedUntil == nil {
		c.prove()
	}
}

// prove spares the calls that follow the hashing of a password, which is most of what
// they would take.
func (c *caller) prove() {
	c.w.t.Helper()
	in := adminapi.ProofInput{Password: password}
	if err := adminapi.NewClient(c.w.url, c.token, c.w.http).Call(c.w.t.Context(), "POST", "/session/prove", nil, in, nil); err != nil {
		c.w.t.Fatal(err)
	}
}

// cannotWork are the operations of which no plausible call works in this test's
// world, with the reason. Their refusals are held against the description as all.
func cannotWork() map[string]string {
	return map[string]string{
		"POST /api/v1/setup":                           "it is done",
		"POST /api/v1/session/factors/{id}/confirm":    "needs a code of the moment, see TestFactors",
		"POST /api/v1/session/factors/{id}/remove":     "needs one, see TestFactors",
		"POST /api/v1/users/{name}/factors/remove":     "needs one, see TestFactors",
		"POST /api/v1/users/{name}/identities/remove":  "needs the same subject as was linked, see TestSignOn",
		"POST /api/v1/live/{id}/approve":               "see TestApproveLive",
		"POST /api/v1/live/{id}/reject":                "see TestApproveLive",
		"POST /api/v1/live/{id}/resume":                "see TestHeldLive",
		"POST /api/v1/freeze/break":                    "needs two people",
		"POST /api/v1/freeze/break/agree":              "needs two people",
		"POST /api/v1/changes/{id}/apply":              "needs a change that waits for the end of a freeze",
		"POST /api/v1/revisions/{number}/restore":      "needs a second person in this world",
		"POST /api/v1/rollouts/current/advance":        "frozen by then",
		"POST /api/v1/changes/{id}/approve":            "another change is rolling out",
		"POST /api/v1/notifiers/{name}/test":           "nobody listens, see TestNotifiers",
		"POST /api/v1/session/passkey":                 "needs a passkey, see TestPasskeys",
		"POST /api/v1/session/passkeys/confirm":        "needs a passkey, see TestPasskeys",
		"POST /api/v1/session/prove/passkey":           "needs a passkey, see TestPasskeys",
		"POST /api/v1/users/{name}/tokens/{id}/rotate": "the account was disabled, which ended them, see TestTokens",
		"DELETE /api/v1/users/{name}/tokens/{id}":      "the account was disabled, which ended them, see TestTokens",
		"DELETE /api/v1/sessions/{id}":                 "another password ended them",
		"DELETE /api/v1/users/{name}/sessions/{id}":    "another password ended them",
	}
}

// TestContract calls every operation of the description, with what should work and
// with rubbish. Every answer is one that the description has, and none is a defect.
func TestContract(t *testing.T) {
	c := inhabited(t)
	d := readDescription(t, c.w.document())
	operations := d.operations()
	excused := cannotWork()
	work := func(o operation) {
		worked := false
		var last answer
		tried := ""
		for _, in := range c.plausible(o) {
			last = c.try(o, in)
			tried += fmt.Sprintf("\n%d %.200s", last.status, last.body)
			worked = last.status > 0 && last.status < http.StatusBadRequest
			c.relogin(o)
			if worked {
				break
			}
		}
		if _, ok := excused[o.String()]; worked == ok {
			t.Errorf("%s: worked %v; give it what it needs in inhabited, or a reason in cannotWork:%s", o, worked, tried)
		}
	}
	isDelete := func(o operation) bool { return o.method == http.MethodDelete }
	for _, o := range operations {
		if !isDelete(o) {
			work(o)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	calls := 0
	for _, o := range operations {
		for _, in := range c.rubbish(o, random) {
			c.try(o, in)
			calls++
		}
		c.relogin(o)
	}
	for _, o := range operations {
		if isDelete(o) {
			work(o)
		}
	}
	t.Logf("%d operations, %d calls of rubbish", len(operations), calls)
	if len(operations) < 150 || calls < 3000 {
		t.Errorf("only %d operations and %d calls", len(operations), calls)
	}
}
