package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/yamldoc"
)

// A value that was read is a map[string]any, []any, string, bool, nil, int64,
// uint64 (over the largest int64) or float64, which is finite.

// budget bounds what is made of one file.
type budget struct{ values int }

func (b *budget) spend(depth int) error {
	b.values++
	if b.values > maxValues {
		return errs.New(errs.TooLarge, "has over %d values", maxValues)
	}
	if depth > maxDepth {
		return errs.New(errs.TooLarge, "has over %d levels", maxDepth)
	}
	return nil
}

// readJSON reads JSON as agents do, with full-line comments and continued lines.
// A key that is in one object twice is an error, for agents differ in which one
// they use.
func readJSON(b []byte) (any, error) {
	if !utf8.Valid(b) {
		return nil, errs.New(errs.Invalid, "is no UTF-8")
	}
	b = plainJSON(b)
	var raw json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			line := 1 + bytes.Count(b[:min(int(syntax.Offset), len(b))], []byte("\n"))
			return nil, errs.New(errs.Invalid, "is no JSON at line %d (continued lines count as one): %s", line, syntax)
		}
		return nil, errs.Wrap(errs.Invalid, err, "is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return jsonValue(d, &budget{}, 0)
}

// plainJSON removes what agents remove before they parse (stripConfigComments):
// each backslash with the line break after it, then each line that begins with
// # or //. The breaks of such lines stay, so that lines can be counted.
func plainJSON(b []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(bytes.ReplaceAll(b, []byte("\\\n"), nil)) {
		text := bytes.TrimSpace(line)
		if bytes.HasPrefix(text, []byte("#")) || bytes.HasPrefix(text, []byte("//")) {
			line = []byte("\n")
		}
		out.Write(line)
	}
	return out.Bytes()
}

// jsonValue reads one value of JSON whose syntax is right.
func jsonValue(d *json.Decoder, left *budget, depth int) (any, error) {
	if err := left.spend(depth); err != nil {
		return nil, err
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return jsonObject(d, left, depth)
		}
		return jsonList(d, left, depth)
	case json.Number:
		return number(t.String())
	}
	return t, nil
}

func jsonObject(d *json.Decoder, left *budget, depth int) (any, error) {
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, ok := m[key]; ok {
			return nil, twice(key)
		}
		if m[key], err = jsonValue(d, left, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func jsonList(d *json.Decoder, left *budget, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := jsonValue(d, left, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func twice(key string) error {
	return errs.New(errs.Invalid, "has the key %s twice in one object; remove one", clip(key))
}

// number reads decimal digits, with a fraction or exponent.
func number(s string) (any, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, errs.New(errs.Invalid, "has the number %s, which is out of range", clip(s))
	}
	return f, nil
}

// readYAML reads the documents of a YAML file, or one of JSON.
func readYAML(b []byte) ([]any, error) {
	if text := bytes.TrimSpace(b); bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("[")) {
		if v, err := readJSON(b); err == nil {
			return []any{v}, nil
		}
	}
	bodies, err := yamldoc.Parse(b)
	if err != nil {
		return nil, err
	}
	left := &budget{}
	var docs []any
	for _, body := range bodies {
		v, err := yamlValue(body, left, 0)
		if err != nil {
			return nil, err
		}
		docs = append(docs, v)
	}
	return docs, nil
}

func yamlValue(n ast.Node, left *budget, depth int) (any, error) {
	if err := left.spend(depth); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return yamlObject(n.Values, left, depth)
	case *ast.MappingValueNode:
		return yamlObject([]*ast.MappingValueNode{n}, left, depth)
	case *ast.SequenceNode:
		list := []any{}
		for _, child := range n.Values {
			v, err := yamlValue(child, left, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.NullNode:
		return nil, nil //nolint:nilnil // nil is the value
	case *ast.IntegerNode, *ast.FloatNode:
		return yamlNumber(n)
	}
	return nil, errs.New(errs.Invalid, "has a %s at line %d, which is not taken", n.Type(), n.GetToken().Position.Line)
}

// yamlNumber refuses a number that would be another text: 5.10, as a version, is
// not 5.1, and 0777 not 511.
func yamlNumber(n ast.Node) (any, error) {
	var v any
	switch n := n.(type) {
	case *ast.IntegerNode:
		v = n.Value
		switch whole := n.Value.(type) {
		case uint64:
			if whole <= math.MaxInt64 {
				v = int64(whole)
			}
		case int64:
		default:
			return nil, errs.New(errs.Invalid, "has the number %s, which is out of range", clip(n.GetToken().Value))
		}
	case *ast.FloatNode:
		var err error
		if v, err = number(strconv.FormatFloat(n.Value, 'g', -1, 64)); err != nil {
			return nil, err
		}
	}
	t := n.GetToken()
	if text, _ := scalarText(v); text != t.Value {
		return nil, errs.New(errs.Invalid, "has the number %s at line %d; write it as %s, or quote it if it is a text", clip(t.Value), t.Position.Line, text)
	}
	return v, nil
}

func yamlObject(values []*ast.MappingValueNode, left *budget, depth int) (any, error) {
	m := make(map[string]any, len(values))
	for _, pair := range values {
		key := pair.Key.GetToken().Value
		if _, ok := m[key]; ok {
			return nil, twice(key)
		}
		v, err := yamlValue(pair.Value, left, depth+1)
		if err != nil {
			return nil, err
		}
		m[key] = v
	}
	return m, nil
}
