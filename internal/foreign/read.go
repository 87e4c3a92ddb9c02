package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/musterhq/muster/internal/errs"
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

// readYAML reads the documents of a YAML file, or one of JSON. Anchors and tags are refused: no
// file of Fleet needs them, and a few lines of them make gigabytes.
func readYAML(b []byte) ([]any, error) {
	if !utf8.Valid(b) {
		return nil, errs.New(errs.Invalid, "is no UTF-8")
	}
	if text := bytes.TrimSpace(b); bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("[")) {
		if v, err := readJSON(b); err == nil {
			return []any{v}, nil
		}
	}
	if len(b) > maxYAML {
		return nil, errs.New(errs.TooLarge, "has over %d bytes", maxYAML)
	}
	tokens := lexer.Tokenize(string(b))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
		return nil, errs.New(errs.Invalid, "is no YAML: %s", clip(line))
	}
	left := &budget{}
	var docs []any
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.NullType {
			continue
		}
		v, err := yamlValue(doc.Body, left, 0)
		if err != nil {
			return nil, err
		}
		docs = append(docs, v)
	}
	return docs, nil
}

// Limits of YAML. The parser takes time by the square of the keys of one object
// and of the tokens of one line (measured: a second for 8,000 and 16,000), and
// calls itself for each level.
const (
	maxYAML       = 2 << 20
	maxKeys       = 1000
	maxLineTokens = 2000
	maxIndent     = 16 * maxDepth // columns; each level of a block has at least one
)

// checkTokens bounds a file before it is parsed.
func checkTokens(tokens token.Tokens) error {
	var s tokenScan
	for _, t := range tokens {
		if t.Position == nil {
			continue
		}
		if problem := s.next(t); problem != "" {
			return errs.New(errs.TooLarge, "has %s at line %d", problem, t.Position.Line)
		}
	}
	if len(tokens) > 4*maxValues { // a value has itself, a key, a colon, a break
		return errs.New(errs.TooLarge, "has over %d values", maxValues)
	}
	return nil
}

// tokenScan counts what is in one line, one object and one level.
type tokenScan struct {
	line, tokens, dashes int
	flow, flowKeys       int
	columns              []int // of the blocks that are open
	keys                 []int // of each
	entry                bool  // a dash came before
}

// next counts a token, and says which limit it is over; "" for none.
func (s *tokenScan) next(t *token.Token) string {
	if t.Position.Line != s.line {
		s.line, s.tokens, s.dashes = t.Position.Line, 0, 0
		s.open(t.Position.Column)
	} else if s.entry {
		s.open(t.Position.Column)
	}
	s.tokens++
	s.entry = t.Type == token.SequenceEntryType
	switch t.Type {
	case token.DocumentHeaderType:
		s.columns, s.keys = nil, nil
	case token.MappingStartType, token.SequenceStartType:
		s.flow++
	case token.MappingEndType, token.SequenceEndType:
		if s.flow--; s.flow <= 0 {
			s.flow, s.flowKeys = 0, 0
		}
	case token.MappingValueType:
		if s.flow > 0 {
			s.flowKeys++
		} else if n := len(s.keys); n > 0 {
			s.keys[n-1]++
		}
	case token.SequenceEntryType, token.MappingKeyType:
		s.dashes++
	case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType:
		return "an anchor, an alias or a tag (&, *, !), which are not taken; write the value out. It stands"
	default:
	}
	return s.over(t)
}

// open begins a block at a column, or goes on with it; those that are deeper end.
func (s *tokenScan) open(column int) {
	for n := len(s.columns); n > 0 && s.columns[n-1] > column; n-- {
		s.columns, s.keys = s.columns[:n-1], s.keys[:n-1]
	}
	if n := len(s.columns); n == 0 || s.columns[n-1] < column {
		s.columns, s.keys = append(s.columns, column), append(s.keys, 0)
	}
}

func (s *tokenScan) over(t *token.Token) string {
	switch {
	case s.flow > maxDepth || s.dashes > maxDepth || t.Position.IndentNum > maxIndent:
		return fmt.Sprintf("over %d levels", maxDepth)
	case s.tokens > maxLineTokens:
		return fmt.Sprintf("over %d parts in one line", maxLineTokens)
	case s.flowKeys > maxKeys || len(s.keys) > 0 && s.keys[len(s.keys)-1] > maxKeys:
		return fmt.Sprintf("over %d keys in one object", maxKeys)
	}
	return ""
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

func yamlNumber(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch v := n.Value.(type) {
		case int64:
			return v, nil
		case uint64:
			if v <= math.MaxInt64 {
				return int64(v), nil
			}
			return v, nil
		}
	case *ast.FloatNode:
		return number(strconv.FormatFloat(n.Value, 'g', -1, 64))
	}
	return nil, errs.New(errs.Invalid, "has the number %s, which is out of range", clip(n.GetToken().Value))
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
