// Package condition is the language in which rules say what they look for: a
// part of expr (github.com/expr-lang/expr), which parses it, with an evaluation
// of its own that cannot fail.
//
//	columns.path startsWith "/tmp/" and int(columns.port) < 1024
//	not (columns.name in ["sshd", "cron"]) and "prod" in tags
//
// Every name and type is checked when a text is compiled. A value that an event
// does not have, or that is no number where one is needed, makes the test that
// looks at it neither true nor false, as NULL does in SQL; and so on through and,
// or and not. A condition that comes out so does not match. There are no loops,
// and a pattern costs time in proportion to the text (RE2): what one evaluation
// costs is bounded by the lengths of condition and event.
package condition

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/parser"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

// Limits of a text, which is evaluated for every event of its queries.
const (
	maxText     = 8 << 10
	maxNodes    = 600 // of the syntax tree
	maxPatterns = 32
	maxPattern  = 1 << 10 // a pattern's length; its program is a multiple
	// maxValue is how much of one value is looked at: the rest of a longer one, which
	// only a host that wants to be expensive sends, is not seen.
	maxValue = 32 << 10
)

// Event is what a condition looks at. Zero fields are missing.
type Event struct {
	Query       string
	Action      string
	Counter     int64 // how often the query gave results there before; 0 for the first run
	Columns     osquery.Row
	Decorations osquery.Row
	Node        *node.Identity // nil if it is known no more
	Tags        []string       // the node's when it logged the event
}

// Truth is what a condition comes out as.
type Truth int8

// The truths. Unknown is that of a test of something that is missing.
const (
	No Truth = iota
	Yes
	Unknown
)

func truth(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

// Condition is a compiled condition. It never changes: safe for concurrent use.
type Condition struct {
	text    string
	root    test
	columns []string
}

// String returns the text that it was made from.
func (c *Condition) String() string { return c.text }

// Columns returns the names of the columns that it looks at, in the order of
// the text; the same may be there twice.
func (c *Condition) Columns() []string { return c.columns }

// Judge evaluates the condition. It cannot fail.
func (c *Condition) Judge(e *Event) Truth { return c.root(e) }

// Compile reads a condition. The error, about the given field, says where and
// what to write instead.
func Compile(field, text string) (*Condition, error) {
	c, v, err := compile(field, text)
	if err != nil {
		return nil, err
	}
	if v.kind != isTest {
		return nil, errs.Field(field, "gives a %s, which is neither true nor false; compare it, as in columns.path == \"/bin/sh\"", v.kind)
	}
	return &Condition{text: text, root: v.test, columns: c.columns}, nil
}

// Value is a compiled expression that gives a text.
type Value struct {
	root    func(*Event) (string, bool)
	columns []string
}

// CompileValue reads an expression of a text or number.
func CompileValue(field, text string) (*Value, error) {
	c, v, err := compile(field, text)
	if err != nil {
		return nil, err
	}
	switch v.kind {
	case isText:
		return &Value{v.text, c.columns}, nil
	case isNumber:
		return &Value{v.number.format, c.columns}, nil
	case isTest, isTags, isTexts, isNumbers:
	}
	return nil, errs.Field(field, "gives a %s; a text or a number is needed, as columns.path", v.kind)
}

// Of returns the value for an event; false if something is missing.
func (v *Value) Of(e *Event) (string, bool) { return v.root(e) }

// compile reads, checks and compiles a text.
func compile(field, text string) (*compiler, value, error) {
	c := &compiler{field: field}
	if len(text) > maxText {
		return nil, value{}, errs.Field(field, "has over %d bytes", maxText)
	}
	if strings.TrimSpace(text) == "" {
		return nil, value{}, errs.Field(field, `is empty; write what an event must have, as columns.path startsWith "/tmp/"`)
	}
	tree, err := parser.ParseWithConfig(text, &conf.Config{MaxNodes: maxNodes})
	if err != nil {
		return nil, value{}, errs.Field(field, "cannot be read: %s", oneLine(err.Error()))
	}
	v := c.value(tree.Node)
	if c.err != nil {
		return nil, value{}, c.err
	}
	return c, v, nil
}

// oneLine leaves out the picture of the text that the parser draws.
func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// kind is the type of an expression.
type kind int8

const (
	isTest kind = iota
	isText
	isNumber
	isTags
	isTexts
	isNumbers
)

func (k kind) String() string {
	switch k {
	case isTest:
		return "condition"
	case isText:
		return "text"
	case isNumber:
		return "number"
	case isTags:
		return "list of tags"
	case isTexts:
		return "list of texts"
	case isNumbers:
		return "list of numbers"
	}
	return fmt.Sprint(int8(k))
}
