package resource

import (
	"bytes"
	_ "embed"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/yamldoc"
)

// header is what every document has.
type header struct {
	APIVersion  string   `yaml:"apiVersion"`
	Kind        string   `yaml:"kind"`
	Name        string   `yaml:"name"`
	Description string   `yaml:"description"`
	Spec        ast.Node `yaml:"spec"`
}

// Parse reads YAML documents. Keys that no kind has, and keys that are there
// twice, are errors that say where. The file's name is for messages. All
// documents are read before an error is returned, so that it tells of each.
func Parse(file string, b []byte) ([]Object, error) {
	bodies, err := yamldoc.Parse(b)
	if err != nil {
		return nil, errs.Field(file, "%v", err)
	}
	objects := []Object{}
	var wrong []string
	for _, body := range bodies {
		o, err := parseDocument(body)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("line %d: %s", body.GetToken().Position.Line, err))
			continue
		}
		objects = append(objects, o)
	}
	if len(wrong) > 0 {
		return nil, errs.Field(file, "%s", strings.Join(wrong, "; "))
	}
	return objects, nil
}

func parseDocument(body ast.Node) (Object, error) {
	var h header
	body, err := asWritten(body, reflect.TypeOf(h))
	if err != nil {
		return Object{}, err
	}
	if err := yaml.NodeToValue(body, &h, yaml.Strict()); err != nil {
		return Object{}, fmt.Errorf("%s", yamldoc.FirstLine(err)) //nolint:err113 // its text is the position
	}
	kind, ok := LookupKind(h.Kind)
	switch {
	case h.APIVersion != APIVersion:
		return Object{}, errs.Field("apiVersion", "is %q; %s is the one that this server knows", h.APIVersion, APIVersion)
	case !ok:
		return Object{}, errs.Field("kind", "%q is not known; there are %s", h.Kind, strings.Join(kindNames(), ", "))
	case h.Spec == nil:
		return Object{}, errs.Field("spec", "of %s/%s is missing", h.Kind, h.Name)
	}
	if err := checkName(h.Kind, h.Name); err != nil {
		return Object{}, fmt.Errorf("%s: %w", h.Kind, err)
	}
	o := Object{Key: Key{h.Kind, h.Name}, Description: h.Description, Spec: kind.New()}
	spec, err := asWritten(h.Spec, reflect.TypeOf(o.Spec))
	if err != nil {
		return Object{}, fmt.Errorf("%s: spec: %w", o.Key, err)
	}
	if err := yaml.NodeToValue(spec, o.Spec, yaml.Strict()); err != nil {
		return Object{}, fmt.Errorf("%s: spec: %s", o.Key, yamldoc.FirstLine(err)) //nolint:err113 // its text is the position
	}
	// What is kept is what was written: a round trip finds values, as NaN, that
	// JSON cannot hold.
	canonical, err := o.Canonical()
	if err != nil {
		return Object{}, err
	}
	return Decode(canonical)
}

// asWritten returns a node in which what looks like a number or a boolean, and is
// read into a text, is that text: version: 5.10 is not 5.1, nor 0777 511. A
// fraction where a whole number belongs is an error; the library would cut it.
func asWritten(n ast.Node, t reflect.Type) (ast.Node, error) {
	w := &writing{}
	n = w.node(n, t)
	return n, w.err
}

// writing keeps the first error of asWritten.
type writing struct{ err error }

func (w *writing) node(n ast.Node, t reflect.Type) ast.Node {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		if t.Kind() == reflect.String {
			return ast.String(n.GetToken())
		}
		if _, fraction := n.(*ast.FloatNode); fraction && t.Kind() == reflect.Int && w.err == nil {
			at := n.GetToken()
			w.err = errs.New(errs.Invalid, "[%d:%d] %s is no whole number", at.Position.Line, at.Position.Column, at.Value)
		}
	case *ast.SequenceNode:
		for i, v := range n.Values {
			if t.Kind() == reflect.Slice {
				n.Values[i] = w.node(v, t.Elem())
			}
		}
	case *ast.MappingNode:
		w.pairs(n.Values, t)
	case *ast.MappingValueNode:
		w.pairs([]*ast.MappingValueNode{n}, t)
	}
	return n
}

// pairs does the same for keys and values.
func (w *writing) pairs(pairs []*ast.MappingValueNode, t reflect.Type) {
	fields := map[string]reflect.Type{}
	switch t.Kind() {
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			fields[name] = f.Type
		}
	case reflect.Map:
	default:
		return
	}
	for _, pair := range pairs {
		value, ok := fields[pair.Key.GetToken().Value]
		if t.Kind() == reflect.Map {
			value, ok = t.Elem(), true
			if key, isKey := w.node(pair.Key, t.Key()).(ast.MapKeyNode); isKey {
				pair.Key = key
			}
		}
		if ok {
			pair.Value = w.node(pair.Value, value)
		}
	}
}

func kindNames() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// document is how an object is written.
type document struct {
	APIVersion  string `json:"apiVersion"            yaml:"apiVersion"`
	Kind        string `json:"kind"                  yaml:"kind"`
	Name        string `json:"name"                  yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	Spec        any    `json:"spec"                  yaml:"spec"`
}

// Document returns the object as JSON in the form in which it is written: with
// apiVersion, kind, name, description and spec.
func (o Object) Document() ([]byte, error) {
	return encode(document{APIVersion, o.Kind, o.Name, o.Description, o.Spec})
}

// YAML writes objects as documents that Parse reads back as they are.
func YAML(objects []Object) ([]byte, error) {
	var buf bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			buf.WriteString("---\n")
		}
		b, err := yamldoc.Marshal(document{APIVersion, o.Kind, o.Name, o.Description, o.Spec})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		buf.Write(b)
	}
	return buf.Bytes(), nil
}

//go:embed default.yaml
var defaultYAML []byte

// Defaults returns the objects of a new server's first revision: harmless
// questions whose answers every fleet needs, and the evidence by which rollouts
// are judged.
func Defaults() ([]Object, error) { return Parse("default.yaml", defaultYAML) }
