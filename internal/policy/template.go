package policy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// ParameterType is what a parameter of a Template may be.
type ParameterType string

// The types.
const (
	TextParameter    ParameterType = "text"    // a text literal
	IntegerParameter ParameterType = "integer" // digits alone
)

// Parameter is a value that comes from outside into a Template.
type Parameter struct {
	Type ParameterType // "" is TextParameter
	// MaxLength bounds it in bytes; 0 is DefaultParameterLength.
	MaxLength int
	// Pattern must match the whole value; nil lets any pass.
	Pattern *regexp.Regexp
	// Wildcards lets % and _ pass where they would be a pattern's.
	Wildcards bool
}

// Bounds of parameters.
const (
	// DefaultParameterLength is enough for ids, names and digests.
	DefaultParameterLength = 256
	// MaxParameterLength leaves a text with several parameters below maxTextBytes.
	MaxParameterLength = 4096
	// MaxParameters bounds the parameters of a template.
	MaxParameters = 32
)

// Template is a SQL text with parameters, written :name. A value takes the place
// of that one token as a literal, so no value changes what the text is made of.
// It never changes: safe for concurrent use.
type Template struct {
	sql        string
	tokens     []token
	parameters map[string]Parameter
	places     []spot
}

// spot is where a parameter stands.
type spot struct {
	token   int // its index
	name    string
	direct  string // the column that it is compared with, and nothing else is done with it; "" otherwise
	pattern bool   // it may become a pattern of LIKE or GLOB
}

var parameterName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// ParseTemplate reads a text. Each parameter must be used, and each that is used
// be given. A parameter stands alone, between spaces, operators and parentheses.
func ParseTemplate(sql string, parameters map[string]Parameter) (*Template, error) {
	if len(sql) > maxTextBytes || strings.IndexByte(sql, 0) >= 0 || !utf8.ValidString(sql) {
		return nil, errs.Field("sql", "is no text of at most %d bytes of UTF-8", maxTextBytes)
	}
	if len(parameters) > MaxParameters {
		return nil, errs.Field("parameters", "are more than %d", MaxParameters)
	}
	t := &Template{sql: sql, tokens: lex(sql), parameters: parameters}
	used := map[string]bool{}
	for i, tok := range t.tokens {
		switch {
		case tok.kind == illegal:
			line, column := position(sql, tok.offset)
			return nil, errs.Field("sql", "has a quote at line %d, column %d that does not end", line, column)
		case tok.kind != bound:
			continue
		}
		name, ok := strings.CutPrefix(tok.raw, ":")
		if !ok || !parameterName.MatchString(name) {
			return nil, errs.Field("sql", "has %q; parameters are written :name, in lower-case letters, digits and _", tok.raw)
		}
		if _, ok := parameters[name]; !ok {
			return nil, errs.Field("sql", "uses :%s, which is not among the parameters", name)
		}
		if !standsAlone(sql, tok) {
			return nil, errs.Field("sql", "has :%s right beside another word or quote; put spaces around it", name)
		}
		used[name] = true
		t.places = append(t.places, spot{token: i, name: name, direct: comparedWith(t.tokens, i)})
	}
	for name := range parameters {
		if !parameterName.MatchString(name) {
			return nil, errs.Field("parameters", "has %q, which is no name; use lower-case letters, digits and _", name)
		}
		if !used[name] {
			return nil, errs.Field("parameters."+name, "is not used; write :%s in sql, or leave it out", name)
		}
	}
	t.findPatterns()
	return t, nil
}

// standsAlone reports whether nothing touches a parameter that would be one token
// with the literal that takes its place, or with the parameter itself: to SQLite
// :a(b) and :a::b are parameters too.
func standsAlone(sql string, t token) bool {
	const operators = " \t\n\f\r,()=<>|+-*/%;"
	before, after := t.offset-1, t.offset+len(t.raw)
	if after < len(sql) && (sql[after] == '(' || strings.IndexByte(operators, sql[after]) < 0) {
		return false
	}
	return before < 0 || strings.IndexByte(operators, sql[before]) >= 0
}

// comparedWith returns the column that the parameter at a token is compared with,
// if nothing else is done with it.
func comparedWith(tokens []token, i int) string {
	at := func(n int) token {
		if n < 0 || n >= len(tokens) {
			return token{kind: symbol}
		}
		return tokens[n]
	}
	ends := func(t token) bool { return t.raw == "" || t.is(")") || endsOperand(t) || endsFrom(t) }
	begins := func(t token) bool {
		return t.is("(") || slices.ContainsFunc([]string{"where", "and", "or", "on", "not", "having"}, t.is)
	}
	switch {
	case isComparison(at(i-1)) && at(i-2).isName() && ends(at(i+1)):
		return at(i - 2).value
	case isComparison(at(i+1)) && at(i+2).isName() && begins(at(i-1)):
		if after := at(i + 3); after.is(".") {
			return at(i + 4).value
		}
		return at(i + 2).value
	}
	// column IN (:a, :b)
	n := i - 1
	for at(n).is(",") || at(n).kind == bound || at(n).kind == text || at(n).kind == number {
		n--
	}
	if !at(n).is("(") || !at(n-1).is("in") || !at(i+1).is(",") && !at(i+1).is(")") {
		return ""
	}
	n -= 2
	if at(n).is("not") {
		n--
	}
	if at(n).isName() {
		return at(n).value
	}
	return ""
}

func isComparison(t token) bool {
	return slices.ContainsFunc([]string{"=", "==", "is", "<", "<=", ">", ">=", "<>", "!=", "like", "glob"}, t.is)
}

// findPatterns marks the parameters that a LIKE or GLOB may take as its pattern:
// all but those that are compared by =, as what a text flows into cannot be told.
func (t *Template) findPatterns() {
	if count(t.tokens, "like")+count(t.tokens, "glob") == 0 {
		return
	}
	for i := range t.places {
		p := &t.places[i]
		equals := p.token > 0 && (t.tokens[p.token-1].is("=") || t.tokens[p.token-1].is("=="))
		p.pattern = p.direct == "" || !equals
	}
}

// SQL returns the text as it was written.
func (t *Template) SQL() string { return t.sql }

// Render returns the text with values in place of the parameters. The error names
// the parameter that is wrong, and never shows its value.
func (t *Template) Render(values map[string]string) (string, error) {
	literals := map[string]string{}
	for name, p := range t.parameters {
		v, ok := values[name]
		if !ok {
			return "", errs.Field(name, "is missing")
		}
		literal, err := p.literal(name, v)
		if err != nil {
			return "", err
		}
		literals[name] = literal
	}
	for _, p := range t.places {
		if p.pattern && !t.parameters[p.name].Wildcards && strings.ContainsAny(values[p.name], "%_*?[") {
			return "", errs.Field(p.name, "holds a wildcard, and the query takes it as a pattern; wildcards: true lets it pass")
		}
	}
	sql := t.fill(func(name string) string { return literals[name] })
	return sql, t.same(sql, literals)
}

// fill writes something in place of each parameter.
func (t *Template) fill(literal func(name string) string) string {
	var b strings.Builder
	from := 0
	for _, p := range t.places {
		tok := t.tokens[p.token]
		b.WriteString(t.sql[from:tok.offset])
		b.WriteString(literal(p.name))
		from = tok.offset + len(tok.raw)
	}
	b.WriteString(t.sql[from:])
	return b.String()
}

// same makes sure that a rendered text has the tokens of the template, but for
// one literal in place of each parameter. It cannot fail; it is there for the day
// on which somebody changes what is above.
func (t *Template) same(sql string, literals map[string]string) error {
	const broken = "the values change what the query is made of; it is not sent"
	tokens := lex(sql)
	if len(tokens) != len(t.tokens) {
		return errs.New(errs.Invalid, broken)
	}
	next := 0
	for i, tok := range tokens {
		want, kind := t.tokens[i].raw, t.tokens[i].kind
		if next < len(t.places) && t.places[next].token == i {
			want, kind = literals[t.places[next].name], text
			if t.parameters[t.places[next].name].Type == IntegerParameter {
				kind = number
			}
			next++
		}
		if tok.raw != want || tok.kind != kind {
			return errs.New(errs.Invalid, broken)
		}
	}
	return nil
}

// literal checks a value and writes it as SQL.
func (p Parameter) literal(name, v string) (string, error) {
	limit := p.MaxLength
	if limit == 0 {
		limit = DefaultParameterLength
	}
	if len(v) > limit {
		return "", errs.Field(name, "has %d bytes; %d is the most", len(v), limit)
	}
	if !utf8.ValidString(v) || strings.ContainsFunc(v, unprintable) {
		return "", errs.Field(name, "is no plain text: it holds a control character or bytes that are no UTF-8")
	}
	if p.Pattern != nil && !p.Pattern.MatchString(v) {
		return "", errs.Field(name, "does not fit its pattern")
	}
	if p.Type != IntegerParameter {
		return "'" + strings.ReplaceAll(v, "'", "''") + "'", nil
	}
	if v == "" || strings.Trim(v, "0123456789") != "" {
		return "", errs.Field(name, "is no whole number")
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return "", errs.Field(name, "is larger than a number can be")
	}
	return strconv.FormatInt(n, 10), nil // 0777 is no other number to anybody
}

// unprintable characters are no part of a name: control characters, and those
// that turn around or hide what is written beside them (bidirectional marks,
// zero-width ones). U+FEFF among them is white space to SQLite.
func unprintable(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// WholePattern compiles a pattern (RE2) that a whole value must match.
func WholePattern(pattern string) (*regexp.Regexp, error) {
	const longest = 1024
	if len(pattern) > longest {
		return nil, errs.New(errs.Invalid, "has over %d characters", longest)
	}
	if _, err := regexp.Compile(pattern); err != nil { // alone first: a ) in it must not end the group below
		return nil, errs.New(errs.Invalid, "is no RE2 pattern: %v", err)
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`) //nolint:wrapcheck // it compiled
}

// marker stands for a value that nobody knows yet.
func marker(name string) string { return "muster parameter " + name }

// Template judges a template: what it may do whatever its parameters are. Where a
// value from outside could say what a table reads, how a function works or how
// far a recursion goes, the tier is the highest. What becomes of a template is to
// be judged again by Query. Hash and Exception are those of the template's text.
func (e *Engine) Template(t *Template, q Query) Verdict {
	q.SQL = t.fill(func(name string) string { return "'" + marker(name) + "'" })
	a := e.analysis(q)
	if a.readable() {
		a.prepare()
	}
	a.judgeParameters(t)
	a.judge()
	a.verdict.Hash = Hash(t.sql)
	a.verdict.Exception = e.rules.Pins[a.verdict.Hash]
	return a.verdict
}

// judgeParameters looks at what parameters of a template can reach.
func (a *analysis) judgeParameters(t *Template) {
	if a.broken {
		return
	}
	argument := a.anyArgument()
	for _, p := range t.places {
		why := ""
		switch {
		case p.direct != "" && a.isArgument(p.direct):
			why = "it would say what " + p.direct + " reads"
		case p.direct == "" && argument != "":
			why = "it may reach " + argument + ", which says what is read"
		case p.direct == "" && a.recursive:
			why = "it may say how far the recursion goes"
		case p.direct == "":
			why = callee(t.tokens, p.token)
		}
		a.refuseParameter(p.name, why)
	}
	// What SQLite itself sees arrive at an argument, as through another name.
	for name, u := range a.tables {
		for _, term := range u.terms {
			if term.column.arg == nil || !term.literal {
				continue
			}
			for _, p := range t.places {
				if term.value == marker(p.name) {
					a.refuseParameter(p.name, "it would say what "+name+"."+term.column.name()+" reads")
				}
			}
		}
	}
}

func (a *analysis) refuseParameter(name, why string) {
	if why == "" {
		return
	}
	a.verdict.add(Reason{Kind: "parameter", Name: name, Tier: Dangerous, Why: why + ", and its value comes from outside"})
}

// anyArgument returns a column of the text that tells its table what to do, ""
// without one.
func (a *analysis) anyArgument() string {
	first := ""
	for name, c := range a.columns {
		if c.arg != nil && (first == "" || name < first) {
			first = name
		}
	}
	return first
}

// isArgument reports whether a column of a table of the text tells that what to
// do.
func (a *analysis) isArgument(name string) bool {
	for _, u := range a.tables {
		if c := u.table.column(strings.ToLower(name)); c != nil && c.arg != nil {
			return true
		}
	}
	return false
}

// callee says why a parameter must not stand where it does: in a call of a
// function whose work its value could change. "" is nothing against it.
func callee(tokens []token, i int) string {
	depth := 0
	for n := i - 1; n > 0; n-- {
		switch {
		case tokens[n].is(")"):
			depth++
		case tokens[n].is("(") && depth > 0:
			depth--
		case tokens[n].is("("):
			if f := tokens[n-1]; f.isName() && !plainCall(f) {
				return "it would tell the function " + f.value + " what to do"
			}
		}
	}
	return ""
}

// plainCall reports whether a word before a parenthesis is none of a function, or
// of one that does the same little with any value.
func plainCall(t token) bool {
	return slices.ContainsFunc([]string{
		"in", "and", "or", "not", "on", "where", "when", "then", "else", "select", "from", "as", "case", "by", "limit", "offset", "values",
		"lower", "upper", "trim", "ltrim", "rtrim", "length", "coalesce", "ifnull", "nullif", "abs", "min", "max", "instr", "cast", "exists",
		"union", "all", "except", "intersect", "join", "having", "over", "is", "like", "glob", "between",
	}, t.names)
}
