package event

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Op compares a column with a value.
type Op string

// The operators. All but Exists take a value. Less and its like compare as numbers
// when both sides are numbers, else as text. Fold is contains without case: what a
// word alone means.
const (
	Equal        Op = "="
	NotEqual     Op = "!="
	Less         Op = "<"
	LessEqual    Op = "<="
	Greater      Op = ">"
	GreaterEqual Op = ">="
	Contains     Op = "contains"
	Prefix       Op = "prefix"
	Suffix       Op = "suffix"
	Regex        Op = "regex" // RE2, anywhere in the text
	In           Op = "in"
	Exists       Op = "exists"
	Fold         Op = "has"
)

// AnyColumn is the column of a condition that any of an event's columns may pass.
const AnyColumn = "*"

// Condition is one test of a column or stamp. An event without the column passes
// none, not even NotEqual. One of Regex comes from ParseExpr alone.
type Condition struct {
	// Column is the name of an osquery column, AnyColumn, or a stamp as @node.
	Column string
	Op     Op
	Value  string
	Values []string // of In

	pattern *regexp.Regexp
	set     map[string]struct{} // Values; nil for a few
}

// Match reports whether a column's value passes; found says whether the event
// has the column.
func (c *Condition) Match(value string, found bool) bool {
	if !found {
		return false
	}
	switch c.Op {
	case Equal:
		return value == c.Value
	case NotEqual:
		return value != c.Value
	case Contains:
		return strings.Contains(value, c.Value)
	case Fold:
		return strings.Contains(strings.ToLower(value), c.Value)
	case Prefix:
		return strings.HasPrefix(value, c.Value)
	case Suffix:
		return strings.HasSuffix(value, c.Value)
	case Regex:
		return c.pattern != nil && c.pattern.MatchString(value)
	case In:
		if c.set != nil {
			_, ok := c.set[value]
			return ok
		}
		return slices.Contains(c.Values, value)
	case Exists:
		return true
	case Less:
		return compare(value, c.Value) < 0
	case LessEqual:
		return compare(value, c.Value) <= 0
	case Greater:
		return compare(value, c.Value) > 0
	case GreaterEqual:
		return compare(value, c.Value) >= 0
	}
	return false
}

func compare(a, b string) int {
	m, errA := strconv.ParseInt(a, 10, 64)
	n, errB := strconv.ParseInt(b, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Compare(m, n) // exact, also beyond 2^53
	}
	x, okA := number(a)
	y, okB := number(b)
	if !okA || !okB {
		return strings.Compare(a, b)
	}
	return cmp.Compare(x, y)
}

// number reads a decimal number. A word that Go takes for one, as nan, inf or
// 0x1p4, is text.
func number(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// Expr is an expression over an event's columns and stamps; see ParseExpr. It never
// changes: safe for concurrent use. A nil one passes every event.
type Expr struct {
	Kind  ExprKind
	Terms []*Expr   // of And and Or, at least two; of Not, one
	Test  Condition // of Test
}

// ExprKind says what an Expr is.
type ExprKind int

// The kinds of expressions.
const (
	Test ExprKind = iota
	And
	Or
	Not
)

// All returns an expression that passes what all the others pass; nil ones do not
// restrict.
func All(exprs ...*Expr) *Expr {
	all := Expr{Kind: And}
	for _, x := range exprs {
		if x != nil {
			all.Terms = append(all.Terms, x)
		}
	}
	switch len(all.Terms) {
	case 0:
		return nil
	case 1:
		return all.Terms[0]
	}
	return &all
}

// HasStamp reports whether a stamp is tested anywhere.
func (x *Expr) HasStamp() bool {
	if x == nil {
		return false
	}
	return x.Kind == Test && IsStamp(x.Test.Column) || slices.ContainsFunc(x.Terms, (*Expr).HasStamp)
}

// Match reports whether an event passes.
func (x *Expr) Match(r *Row) bool {
	if x == nil {
		return true
	}
	switch x.Kind {
	case Test:
		return r.test(&x.Test)
	case And:
		for _, t := range x.Terms {
			if !t.Match(r) {
				return false
			}
		}
		return true
	case Or:
		for _, t := range x.Terms {
			if t.Match(r) {
				return true
			}
		}
		return false
	case Not:
		return !x.Terms[0].Match(r)
	}
	return false
}

// String returns a text that ParseExpr reads as the same expression.
func (x *Expr) String() string {
	if x == nil {
		return ""
	}
	return string(x.append(nil))
}

func (x *Expr) append(b []byte) []byte {
	switch x.Kind {
	case Test:
		return x.Test.append(b)
	case Not:
		return x.Terms[0].append(append(b, "not "...))
	case And, Or:
	}
	word := " and "
	if x.Kind == Or {
		word = " or "
	}
	b = append(b, '(')
	for i, t := range x.Terms {
		if i > 0 {
			b = append(b, word...)
		}
		b = t.append(b)
	}
	return append(b, ')')
}

func (c *Condition) append(b []byte) []byte {
	if c.Op == Fold {
		return appendWord(b, c.Value)
	}
	b = append(appendWord(b, c.Column), ' ')
	b = append(b, c.Op...)
	if c.Op == Exists {
		return b
	}
	if c.Op != In {
		return appendWord(append(b, ' '), c.Value)
	}
	b = append(b, " ("...)
	for i, v := range c.Values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendWord(b, v)
	}
	return append(b, ')')
}

func appendWord(b []byte, s string) []byte {
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(s, `"`, `""`)...)
	return append(b, '"')
}
