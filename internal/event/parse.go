package event

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of an expression, which is evaluated for every event of a search. A
// pattern of RE2 takes time linear to the text, but also to itself.
const (
	maxExpr    = 64 << 10 // bytes, enough for a list of a thousand hashes
	maxTests   = 64
	maxNesting = 32
	maxListed  = 1000
	maxPattern = 512
)

// ParseExpr reads an expression over an event's columns and stamps:
//
//	path = "/usr/bin/ssh" and (pid > 100 or not cmdline contains 'curl http')
//	name in (nc, ncat, socat) and @tag = web and @decoration.rack exists
//	sha256 exists and * regex "^10[.]"
//	"curl http" and @action = added
//
// Operators are those of Op; * is any column; a word or text alone is found in any
// column, without case. Names that begin with @ are stamps, see Stamps. Values may
// be bare words or quoted with ' or "; a quote inside is doubled. "not" binds more
// than "and", and that more than "or". The empty text gives nil. The errors are
// about the field.
func ParseExpr(field, text string) (*Expr, error) {
	if len(text) > maxExpr {
		return nil, errs.Field(field, "has over %d characters", maxExpr)
	}
	words, err := lex(field, text)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	p := &parser{field: field, words: words}
	x, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if len(p.words) > 0 {
		return nil, errs.Field(field, "expected \"and\" or \"or\" before %q; write texts of several words in quotes", p.words[0].text)
	}
	return x, nil
}

// ParseWhere reads what ParseExpr reads as long as it is conditions on columns
// joined by "and", for who knows no more of an event than its columns.
func ParseWhere(text string) ([]Condition, error) {
	x, err := ParseExpr("where", text)
	if err != nil || x == nil {
		return nil, err
	}
	terms := []*Expr{x}
	if x.Kind == And {
		terms = x.Terms
	}
	var conditions []Condition
	for _, t := range terms {
		if t.Kind != Test || t.Test.Column == AnyColumn || IsStamp(t.Test.Column) {
			return nil, errs.Field("where", "takes conditions on columns joined by and, as path = \"/bin/sh\" and pid > 100")
		}
		conditions = append(conditions, t.Test)
	}
	return conditions, nil
}

type parser struct {
	field string
	words []word
	tests int
}

// is reports whether the next word is that keyword.
func (p *parser) is(keyword string) bool {
	return len(p.words) > 0 && p.words[0].is(keyword)
}

func (p *parser) or(depth int) (*Expr, error) { return p.join(depth, Or, "or", p.and) }

func (p *parser) and(depth int) (*Expr, error) { return p.join(depth, And, "and", p.not) }

// join reads terms with a keyword between them.
func (p *parser) join(depth int, kind ExprKind, keyword string, term func(int) (*Expr, error)) (*Expr, error) {
	x, err := term(depth)
	if err != nil {
		return nil, err
	}
	joined := &Expr{Kind: kind, Terms: []*Expr{x}}
	for p.is(keyword) {
		p.words = p.words[1:]
		if x, err = term(depth); err != nil {
			return nil, err
		}
		joined.Terms = append(joined.Terms, x)
	}
	if len(joined.Terms) == 1 {
		return joined.Terms[0], nil
	}
	return joined, nil
}

func (p *parser) not(depth int) (*Expr, error) {
	switch {
	case depth > maxNesting:
		return nil, errs.Field(p.field, "is nested over %d levels", maxNesting)
	case p.is("not") && !p.compares():
		p.words = p.words[1:]
		x, err := p.not(depth + 1)
		if err != nil {
			return nil, err
		}
		return &Expr{Kind: Not, Terms: []*Expr{x}}, nil
	case p.is("("):
		p.words = p.words[1:]
		x, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.is(")") {
			return nil, errs.Field(p.field, "a ( is not closed")
		}
		p.words = p.words[1:]
		return x, nil
	}
	return p.test()
}

// compares reports whether an operator follows the next word, which is a column
// then, also if it reads as a keyword.
func (p *parser) compares() bool {
	if len(p.words) < 2 {
		return false
	}
	_, ok := operator(p.words[1])
	if p.is("not") && len(p.words) > 2 && p.words[2].symbol {
		return ok && p.words[1].symbol // in "not prefix = x" the column is called prefix
	}
	return ok
}

// operator returns the operator that a word is.
func operator(w word) (Op, bool) {
	if w.quoted {
		return "", false
	}
	op := Op(strings.ToLower(w.text))
	if op == "==" {
		op = Equal
	}
	switch op {
	case Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, Contains, Prefix, Suffix, Regex, In, Exists:
		return op, true
	case Fold: // has no word of its own
	}
	return op, false
}

func (p *parser) test() (*Expr, error) {
	if len(p.words) == 0 {
		return nil, errs.Field(p.field, "is incomplete; write a column, an operator and a value, as in path = \"/bin/sh\"")
	}
	if p.tests++; p.tests > maxTests {
		return nil, errs.Field(p.field, "has more than %d conditions", maxTests)
	}
	name := p.words[0]
	if name.symbol {
		return nil, errs.Field(p.field, "%q is no column; write a column, an operator and a value", name.text)
	}
	if !p.compares() {
		return p.text(name)
	}
	if name.text == "" {
		return nil, errs.Field(p.field, "%q is no column; write a column, an operator and a value", name.text)
	}
	c := Condition{Column: name.text}
	c.Op, _ = operator(p.words[1])
	p.words = p.words[2:]
	if err := p.value(&c); err != nil {
		return nil, err
	}
	if err := c.settle(p.field); err != nil {
		return nil, err
	}
	if len(c.Values) > fewListed {
		c.set = make(map[string]struct{}, len(c.Values))
		for _, v := range c.Values {
			c.set[v] = struct{}{}
		}
	}
	return &Expr{Test: c}, nil
}

// fewListed is how many values are compared faster one by one than in a map.
const fewListed = 8

// text reads a text that any column may have.
func (p *parser) text(w word) (*Expr, error) {
	switch {
	case w.text == "":
		return nil, errs.Field(p.field, "%q is found in everything; write what to look for", w.text)
	case !w.quoted && (w.is("and") || w.is("or") || w.is("not")):
		return nil, errs.Field(p.field, "is incomplete at %q; write a condition there, or the word in quotes", w.text)
	case len(p.words) > 1 && p.words[1].symbol && p.words[1].text != ")":
		return nil, errs.Field(p.field, "%q is no operator; use %s", p.words[1].text, operators)
	}
	p.words = p.words[1:]
	return &Expr{Test: Condition{Column: AnyColumn, Op: Fold, Value: strings.ToLower(w.text)}}, nil
}

const operators = "= != < <= > >= contains prefix suffix regex in exists"

// value reads what follows an operator.
func (p *parser) value(c *Condition) error {
	if c.Op == Exists {
		return nil
	}
	if c.Op == In {
		return p.list(c)
	}
	if len(p.words) == 0 || p.words[0].is("(") || p.words[0].is(")") {
		return errs.Field(p.field, "%s %s needs a value; write one with a ( at its start in quotes", c.Column, c.Op)
	}
	c.Value = p.words[0].text
	p.words = p.words[1:]
	return nil
}

// list reads the values of In.
func (p *parser) list(c *Condition) error {
	if !p.is("(") {
		return errs.Field(p.field, "%s in needs values in parentheses, as in %s in (a, b)", c.Column, c.Column)
	}
	p.words = p.words[1:]
	for {
		if len(p.words) == 0 || p.words[0].symbol {
			return errs.Field(p.field, "%s in (…) lacks a value or its end; write %s in (a, b)", c.Column, c.Column)
		}
		if c.Values = append(c.Values, p.words[0].text); len(c.Values) > maxListed {
			return errs.Field(p.field, "%s in (…) has over %d values", c.Column, maxListed)
		}
		p.words = p.words[1:]
		switch {
		case p.is(")"):
			p.words = p.words[1:]
			return nil
		case p.is(","):
			p.words = p.words[1:]
		default:
			return errs.Field(p.field, "%s in (…) needs commas between values and a ) at the end", c.Column)
		}
	}
}

// settle checks what the condition says of stamps and patterns.
func (c *Condition) settle(field string) error {
	if c.Op == Regex {
		if len(c.Value) > maxPattern {
			return errs.Field(field, "the pattern of %s has over %d characters", c.Column, maxPattern)
		}
		pattern, err := regexp.Compile(c.Value)
		if err != nil {
			return errs.Field(field, "%q is no pattern of RE2: %v", c.Value, err)
		}
		c.pattern = pattern
	}
	if err := checkStamp(field, c.Column); err != nil {
		return err
	}
	if c.Column == StampTime || c.Column == StampReceived {
		return c.settleTime(field)
	}
	return nil
}

// checkStamp refuses names of stamps that there are not.
func checkStamp(field, column string) error {
	if d, ok := Decoration(column); IsStamp(column) && (!ok || d == "") && !slices.Contains(Stamps(), column) {
		return errs.Field(field, "%q is no stamp; use a column, or one of %s", column, strings.Join(Stamps(), " "))
	}
	return nil
}

// CheckColumn refuses what is no name of one column or stamp.
func CheckColumn(field, column string) error {
	if column == "" || column == AnyColumn {
		return errs.Field(field, "%q is no column; write one, or a stamp as @node", column)
	}
	return checkStamp(field, column)
}

// settleTime brings the values of a stamp of time into its form.
func (c *Condition) settleTime(field string) error {
	switch c.Op {
	case Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual:
		return settleMoment(field, c.Column, &c.Value)
	case In:
		for i := range c.Values {
			if err := settleMoment(field, c.Column, &c.Values[i]); err != nil {
				return err
			}
		}
	case Contains, Prefix, Suffix, Regex, Exists, Fold: // of the text
	}
	return nil
}

func settleMoment(field, column string, value *string) error {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, *value); err == nil {
			*value = t.UTC().Format(timeLayout)
			return nil
		}
	}
	return errs.Field(field, "%s is compared with a time as 2026-01-31T12:00:00Z, or a date, not with %q", column, *value)
}

// word is a part of an expression.
type word struct {
	text   string
	quoted bool
	symbol bool // an operator's sign, a parenthesis, a comma of a list
}

// is reports whether the word, which is not quoted, reads so.
func (w word) is(text string) bool { return !w.quoted && strings.EqualFold(w.text, text) }

// lex splits into words, quoted texts, operators and parentheses. A parenthesis
// within a word belongs to it, as in f(x).
func lex(field, s string) ([]word, error) {
	var words []word
	listing := false // within the parentheses of In
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		var n int
		switch {
		case s == "":
			return words, nil
		case s[0] == '"' || s[0] == '\'':
			text, rest, ok := unquote(s)
			if !ok {
				return nil, errs.Field(field, "a %c is not closed", s[0])
			}
			words, s = append(words, word{text: text, quoted: true}), rest
			continue
		case strings.IndexByte("=!<>", s[0]) >= 0:
			n = 1
			if len(s) > 1 && s[1] == '=' {
				n = 2
			}
		case s[0] == '(' || s[0] == ')' || listing && s[0] == ',':
			n = 1
			listing = s[0] == ',' || s[0] == '(' && len(words) > 0 && words[len(words)-1].is("in")
		default:
			n = bare(s, listing)
			words, s = append(words, word{text: s[:n]}), s[n:]
			continue
		}
		words, s = append(words, word{text: s[:n], symbol: true}), s[n:]
	}
}

// bare returns the length of the word that s begins with.
func bare(s string, listing bool) int {
	depth := 0
	for i, r := range s {
		switch {
		case r == '(':
			if strings.EqualFold(s[:i], "in") {
				return i
			}
			depth++
		case r == ')':
			if depth--; depth < 0 {
				return i
			}
		case r == ',' && listing && depth == 0, unicode.IsSpace(r), strings.ContainsRune("=!<>\"'", r):
			return i
		}
	}
	return len(s)
}

func unquote(s string) (text, rest string, ok bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}
