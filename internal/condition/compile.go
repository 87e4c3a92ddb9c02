package condition

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

// What expressions become. The second result is false for what is missing.
type (
	test   func(*Event) Truth
	text   func(*Event) (string, bool)
	number func(*Event) (float64, bool)
)

// format returns a number as people write it.
func (n number) format(e *Event) (string, bool) {
	f, ok := n(e)
	return strconv.FormatFloat(f, 'f', -1, 64), ok
}

// value is a compiled expression: what its kind says.
type value struct {
	kind    kind
	test    test
	text    text
	number  number
	texts   []string
	numbers []float64
	// constant says that the text or number is written in the condition.
	constant bool
}

// compiler makes closures of a syntax tree. It keeps the first error.
type compiler struct {
	field    string
	err      error
	columns  []string
	patterns int
}

// fail notes what is wrong at a node of the tree.
func (c *compiler) fail(n ast.Node, format string, args ...any) value {
	if c.err == nil {
		where := ""
		if n != nil {
			where = "at character " + strconv.Itoa(n.Location().From+1) + ": "
		}
		c.err = errs.Field(c.field, where+format, args...)
	}
	return value{}
}

// value compiles a node. What is not listed here is no part of the language.
func (c *compiler) value(n ast.Node) value {
	switch n := n.(type) {
	case *ast.BoolNode:
		return value{kind: isTest, test: func(*Event) Truth { return truth(n.Value) }}
	case *ast.StringNode:
		return constantText(n.Value)
	case *ast.IntegerNode:
		return constantNumber(float64(n.Value))
	case *ast.FloatNode:
		return constantNumber(n.Value)
	case *ast.IdentifierNode:
		return c.name(n)
	case *ast.ChainNode:
		return c.value(n.Node)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.BuiltinNode:
		return c.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		if name, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(n, name.Value, n.Arguments)
		}
	}
	return c.fail(n, "this part of expr is not available in conditions; use comparisons, and, or, not, in, matches and the functions that docs/rules.md lists")
}

func constantText(s string) value {
	return value{kind: isText, constant: true, texts: []string{s}, text: func(*Event) (string, bool) { return s, true }}
}

func constantNumber(f float64) value {
	return value{kind: isNumber, constant: true, numbers: []float64{f}, number: func(*Event) (float64, bool) { return f, true }}
}

// name compiles a word by itself.
func (c *compiler) name(n *ast.IdentifierNode) value {
	switch n.Value {
	case "query":
		return value{kind: isText, text: func(e *Event) (string, bool) { return e.Query, true }}
	case "action":
		return value{kind: isText, text: func(e *Event) (string, bool) { return e.Action, true }}
	case "counter":
		return value{kind: isNumber, number: func(e *Event) (float64, bool) { return float64(e.Counter), true }}
	case "tags":
		return value{kind: isTags}
	case "columns", "decorations", "node":
		return c.fail(n, "%s needs the name of a value, as %s", n.Value, map[string]string{"columns": "columns.path", "decorations": "decorations.host_uuid", "node": "node.hostname"}[n.Value])
	}
	return c.fail(n, "%q is not known; there are columns.NAME, decorations.NAME, node.NAME, tags, query, action and counter", n.Value)
}

// member compiles columns.path, node.system_info.hardware_vendor and their like.
func (c *compiler) member(n *ast.MemberNode) value {
	path, ok := pathOf(n)
	if !ok || len(path) < 2 {
		return c.fail(n, "only columns, decorations and node have values, by their names: columns.path, or columns[\"odd name\"]")
	}
	name := strings.Join(path[1:], ".")
	switch path[0] {
	case "columns":
		c.columns = append(c.columns, name)
		return value{kind: isText, text: func(e *Event) (string, bool) { return get(e.Columns, name) }}
	case "decorations":
		return value{kind: isText, text: func(e *Event) (string, bool) { return get(e.Decorations, name) }}
	case "node":
		return c.attribute(n, name)
	}
	return c.fail(n, "%q is not known; there are columns.NAME, decorations.NAME and node.NAME", path[0])
}

func (c *compiler) attribute(n ast.Node, name string) value {
	if !node.KnownAttribute(name) || name == "tag" {
		return c.fail(n, "%q is no attribute of nodes; there are id, host_identifier, hostname, platform, os, osquery_version, secret, and table.column of the enrolment, as node.system_info.hardware_vendor. Tags are asked for as in \"prod\" in tags", name)
	}
	return value{kind: isText, text: func(e *Event) (string, bool) {
		if e.Node == nil {
			return "", false
		}
		return e.Node.Attribute(name)
	}}
}

// pathOf returns the words of a.b.c; false if one of them is computed.
func pathOf(n ast.Node) ([]string, bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return []string{n.Value}, true
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.MemberNode:
		path, ok := pathOf(n.Node)
		name, isName := n.Property.(*ast.StringNode)
		if !ok || !isName {
			return nil, false
		}
		return append(path, name.Value), true
	}
	return nil, false
}

func get(row osquery.Row, name string) (string, bool) {
	v, ok := row.Get(name)
	if len(v) > maxValue {
		v = v[:maxValue]
	}
	return v, ok
}

func (c *compiler) unary(n *ast.UnaryNode) value {
	v := c.value(n.Node)
	if c.err != nil {
		return value{}
	}
	switch {
	case n.Operator == "-" && v.kind == isNumber && v.constant:
		return constantNumber(-v.numbers[0])
	case n.Operator == "-" && v.kind == isNumber:
		return value{kind: isNumber, number: func(e *Event) (float64, bool) {
			f, ok := v.number(e)
			return -f, ok
		}}
	case (n.Operator == "not" || n.Operator == "!") && v.kind == isTest:
		return value{kind: isTest, test: not(v.test)}
	case n.Operator == "not" || n.Operator == "!":
		return c.fail(n, "%s binds closer than comparisons; write %[1]s (…) around the whole of one", n.Operator)
	}
	return c.fail(n, "%s cannot be before a %s", n.Operator, v.kind)
}

func not(t test) test {
	return func(e *Event) Truth {
		switch t(e) {
		case Yes:
			return No
		case No:
			return Yes
		case Unknown:
		}
		return Unknown
	}
}

// both is and: what is false decides, whatever the other is.
func both(a, b test) test {
	return func(e *Event) Truth {
		x := a(e)
		if x == No {
			return No
		}
		if y := b(e); y != Yes {
			return y
		}
		return x
	}
}

// either is or: what is true decides, whatever the other is.
func either(a, b test) test {
	return func(e *Event) Truth {
		x := a(e)
		if x == Yes {
			return Yes
		}
		if y := b(e); y != No {
			return y
		}
		return x
	}
}

func (c *compiler) binary(n *ast.BinaryNode) value {
	switch n.Operator {
	case "matches":
		return c.matches(n)
	case "in":
		return c.in(n)
	}
	a, b := c.value(n.Left), c.value(n.Right)
	if c.err != nil {
		return value{}
	}
	switch n.Operator {
	case "and", "&&", "or", "||":
		if a.kind != isTest || b.kind != isTest {
			return c.fail(n, "%s joins conditions; one side is a %s", n.Operator, notTest(a, b))
		}
		if n.Operator == "and" || n.Operator == "&&" {
			return value{kind: isTest, test: both(a.test, b.test)}
		}
		return value{kind: isTest, test: either(a.test, b.test)}
	case "??":
		return c.otherwise(n, a, b)
	case "contains", "startsWith", "endsWith":
		return c.parts(n, a, b)
	case "+", "-", "*", "/", "%":
		return c.calculate(n, a, b)
	case "==", "!=", "<", "<=", ">", ">=":
		return c.compare(n, a, b)
	}
	return c.fail(n, "%s is not available in conditions", n.Operator)
}

func notTest(a, b value) kind {
	if a.kind != isTest {
		return a.kind
	}
	return b.kind
}

// otherwise is a ?? b: b where a is missing.
func (c *compiler) otherwise(n ast.Node, a, b value) value {
	switch {
	case a.kind == isText && b.kind == isText:
		return value{kind: isText, text: func(e *Event) (string, bool) {
			if s, ok := a.text(e); ok {
				return s, true
			}
			return b.text(e)
		}}
	case a.kind == isNumber && b.kind == isNumber:
		return value{kind: isNumber, number: func(e *Event) (float64, bool) {
			if f, ok := a.number(e); ok {
				return f, true
			}
			return b.number(e)
		}}
	}
	return c.fail(n, "?? stands between two texts or two numbers, not a %s and a %s", a.kind, b.kind)
}

func (c *compiler) parts(n *ast.BinaryNode, a, b value) value {
	if a.kind != isText || b.kind != isText {
		return c.fail(n, "%s compares two texts, not a %s and a %s", n.Operator, a.kind, b.kind)
	}
	find := map[string]func(s, part string) bool{
		"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix,
	}[n.Operator]
	return twoTexts(a.text, b.text, find)
}

// twoTexts tests two texts that both are there.
func twoTexts(a, b text, passes func(a, b string) bool) value {
	return value{kind: isTest, test: func(e *Event) Truth {
		x, okA := a(e)
		y, okB := b(e)
		if !okA || !okB {
			return Unknown
		}
		return truth(passes(x, y))
	}}
}

func (c *compiler) compare(n *ast.BinaryNode, a, b value) value {
	equality := n.Operator == "==" || n.Operator == "!="
	switch {
	case a.kind == isNumber && b.kind == isNumber:
		passes := numbers(n.Operator)
		return value{kind: isTest, test: func(e *Event) Truth {
			x, okA := a.number(e)
			y, okB := b.number(e)
			if !okA || !okB {
				return Unknown
			}
			return truth(passes(x, y))
		}}
	case a.kind == isText && b.kind == isText && equality:
		want := n.Operator == "=="
		return twoTexts(a.text, b.text, func(x, y string) bool { return (x == y) == want })
	case a.kind == isText && b.kind == isText:
		return c.fail(n, "%s compares numbers, and these are texts; write int(…) or float(…) around them, or use older and newer for versions", n.Operator)
	case a.kind == isText && b.kind == isNumber || a.kind == isNumber && b.kind == isText:
		return c.fail(n, "%s compares a text with a number; every value of an event is a text: write int(columns.pid) %[1]s 1, or compare with a text in quotes", n.Operator)
	}
	return c.fail(n, "%s cannot compare a %s with a %s", n.Operator, a.kind, b.kind)
}

func numbers(operator string) func(a, b float64) bool {
	switch operator {
	case "==":
		return func(a, b float64) bool { return a == b }
	case "!=":
		return func(a, b float64) bool { return a != b }
	case "<":
		return func(a, b float64) bool { return a < b }
	case "<=":
		return func(a, b float64) bool { return a <= b }
	case ">":
		return func(a, b float64) bool { return a > b }
	}
	return func(a, b float64) bool { return a >= b }
}

func (c *compiler) calculate(n *ast.BinaryNode, a, b value) value {
	if a.kind != isNumber || b.kind != isNumber {
		return c.fail(n, "%s calculates with numbers, not with a %s and a %s; write int(…) or float(…) around texts", n.Operator, a.kind, b.kind)
	}
	do := map[string]func(a, b float64) float64{
		"+": func(a, b float64) float64 { return a + b }, "-": func(a, b float64) float64 { return a - b },
		"*": func(a, b float64) float64 { return a * b }, "/": func(a, b float64) float64 { return a / b }, "%": math.Mod,
	}[n.Operator]
	return value{kind: isNumber, number: func(e *Event) (float64, bool) {
		x, okA := a.number(e)
		y, okB := b.number(e)
		f := do(x, y)
		return f, okA && okB && !math.IsNaN(f) && !math.IsInf(f, 0) // as of a division by nothing
	}}
}

// matches compiles a pattern once: one that an event could choose would be
// compiled for each.
func (c *compiler) matches(n *ast.BinaryNode) value {
	a := c.value(n.Left)
	if c.err != nil {
		return value{}
	}
	pattern, ok := n.Right.(*ast.StringNode)
	if !ok || a.kind != isText {
		return c.fail(n, `matches takes a text and a pattern in quotes, as columns.path matches "^/tmp/[a-z]+$"`)
	}
	if c.patterns++; c.patterns > maxPatterns {
		return c.fail(n, "has over %d patterns", maxPatterns)
	}
	if len(pattern.Value) > maxPattern {
		return c.fail(n.Right, "the pattern has over %d bytes", maxPattern)
	}
	re, err := regexp.Compile(pattern.Value)
	if err != nil {
		return c.fail(n.Right, "%v; patterns are RE2, without look-around and references back", err)
	}
	return value{kind: isTest, test: func(e *Event) Truth {
		s, ok := a.text(e)
		if !ok {
			return Unknown
		}
		return truth(re.MatchString(s))
	}}
}

// array compiles a list of constants.
func (c *compiler) array(n *ast.ArrayNode) value {
	list := value{kind: isTexts}
	for i, item := range n.Nodes {
		v := c.value(item)
		switch {
		case c.err != nil:
			return value{}
		case !v.constant:
			return c.fail(item, "a list holds texts or numbers as they are")
		case i > 0 && (v.kind == isText) != (list.kind == isTexts):
			return c.fail(item, "a list holds either texts or numbers")
		case v.kind == isNumber:
			list.kind = isNumbers
		}
		list.texts, list.numbers = append(list.texts, v.texts...), append(list.numbers, v.numbers...)
	}
	if len(n.Nodes) == 0 {
		return c.fail(n, "the list is empty")
	}
	return list
}

// manyTexts is from how long a list a map is faster.
const manyTexts = 8

func (c *compiler) in(n *ast.BinaryNode) value {
	a, b := c.value(n.Left), c.value(n.Right)
	if c.err != nil {
		return value{}
	}
	switch {
	case a.kind == isText && b.kind == isTags:
		return value{kind: isTest, test: func(e *Event) Truth {
			s, ok := a.text(e)
			if !ok {
				return Unknown
			}
			return truth(slices.Contains(e.Tags, s))
		}}
	case a.kind == isText && b.kind == isTexts:
		return value{kind: isTest, test: oneOf(a.text, b.texts)}
	case a.kind == isNumber && b.kind == isNumbers:
		return value{kind: isTest, test: func(e *Event) Truth {
			f, ok := a.number(e)
			if !ok {
				return Unknown
			}
			return truth(slices.Contains(b.numbers, f))
		}}
	}
	return c.fail(n, "in looks for a text in a list of texts or in tags, or for a number in a list of numbers; not for a %s in a %s", a.kind, b.kind)
}

func oneOf(a text, list []string) test {
	contains := func(s string) bool { return slices.Contains(list, s) }
	if len(list) >= manyTexts {
		set := make(map[string]struct{}, len(list))
		for _, s := range list {
			set[s] = struct{}{}
		}
		contains = func(s string) bool { _, ok := set[s]; return ok }
	}
	return func(e *Event) Truth {
		s, ok := a(e)
		if !ok {
			return Unknown
		}
		return truth(contains(s))
	}
}
