package resource

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of what people send. A fleet's whole set of resources is far below.
const (
	maxYAML      = 8 << 20
	maxDocuments = maxObjects
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
	if len(b) > maxYAML {
		return nil, errs.Field(file, "has over %d bytes", maxYAML)
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, errs.Field(file, "%s", firstLine(err))
	}
	var found anchors
	for _, doc := range f.Docs {
		if doc.Body != nil {
			ast.Walk(&found, doc.Body)
		}
	}
	if found.at > 0 {
		return nil, errs.Field(file, "line %d has an anchor or alias (& or *), which are not taken: a few lines of them make gigabytes", found.at)
	}
	if len(f.Docs) > maxDocuments {
		return nil, errs.Field(file, "has over %d documents", maxDocuments)
	}
	objects := []Object{}
	var wrong []string
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		o, err := parseDocument(doc.Body)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("line %d: %s", doc.Body.GetToken().Position.Line, err))
			continue
		}
		objects = append(objects, o)
	}
	if len(wrong) > 0 {
		return nil, errs.Field(file, "%s", strings.Join(wrong, "; "))
	}
	return objects, nil
}

// anchors finds the first line with an anchor or an alias.
type anchors struct{ at int }

// Visit implements ast.Visitor.
func (a *anchors) Visit(n ast.Node) ast.Visitor {
	if n == nil {
		return nil
	}
	if t := n.Type(); (t == ast.AnchorType || t == ast.AliasType) && a.at == 0 {
		a.at = n.GetToken().Position.Line
	}
	return a
}

func parseDocument(body ast.Node) (Object, error) {
	var h header
	if err := yaml.NodeToValue(body, &h, yaml.Strict()); err != nil {
		return Object{}, fmt.Errorf("%s", firstLine(err)) //nolint:err113 // its text is the position
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
	if err := yaml.NodeToValue(h.Spec, o.Spec, yaml.Strict()); err != nil {
		return Object{}, fmt.Errorf("%s: spec: %s", o.Key, firstLine(err)) //nolint:err113 // its text is the position
	}
	// What is kept is what was written: a round trip finds values, as NaN, that
	// JSON cannot hold.
	canonical, err := o.Canonical()
	if err != nil {
		return Object{}, err
	}
	return Decode(canonical)
}

func kindNames() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// firstLine returns an error of the YAML library without the picture of the
// source that follows.
func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
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
		b, err := yaml.MarshalWithOptions(document{APIVersion, o.Kind, o.Name, o.Description, o.Spec}, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
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
