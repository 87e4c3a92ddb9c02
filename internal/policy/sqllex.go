package policy

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// tokenKind is what a piece of SQL is.
type tokenKind uint8

const (
	word    tokenKind = iota // a name or keyword without quotes
	quoted                   // a name in "…", `…` or […]
	text                     // '…'
	blob                     // x'…'
	number                   // 12, 0x1f, 1.5e3
	bound                    // ?, ?1, :a, @a, $a
	symbol                   // anything else, by its bytes
	illegal                  // what SQLite takes for no token, as an open quote
)

// token is one piece of SQL that is neither white space nor a comment.
type token struct {
	kind   tokenKind
	offset int    // in bytes
	raw    string // as written
	value  string // a name or text without its quotes; raw for others
}

// is reports whether the token is a keyword or symbol.
func (t token) is(s string) bool {
	return (t.kind == word || t.kind == symbol) && strings.EqualFold(t.raw, s)
}

// isName reports whether the token can name something. SQLite takes many
// keywords and even texts as names; this is for finding places, not proofs.
func (t token) isName() bool { return t.kind == word || t.kind == quoted }

// names reports whether the token is that name, in any case.
func (t token) names(name string) bool { return t.isName() && strings.EqualFold(t.value, name) }

// lex cuts SQL into tokens as SQLite does (https://sqlite.org/c3ref/complete.html
// and the tokenizer's documentation): comments and white space vanish, and a
// comment or text that does not end reaches to the end.
func lex(sql string) []token {
	var tokens []token
	for i := 0; i < len(sql); {
		if n := blank(sql[i:]); n > 0 {
			i += n
			continue
		}
		t := next(sql[i:])
		t.offset = i
		tokens = append(tokens, t)
		i += len(t.raw)
	}
	return tokens
}

// blank returns the length of the white space or comment that s begins with.
func blank(s string) int {
	switch {
	case strings.HasPrefix(s, "--"):
		if n := strings.IndexByte(s, '\n'); n >= 0 {
			return n + 1
		}
		return len(s)
	case strings.HasPrefix(s, "/*") && len(s) > 2:
		if n := strings.Index(s[2:], "*/"); n >= 0 {
			return n + 4
		}
		return len(s)
	case strings.HasPrefix(s, "\ufeff"):
		return len("\ufeff")
	case s[0] == ' ' || s[0] == '\t' || s[0] == '\n' || s[0] == '\f' || s[0] == '\r':
		return 1
	}
	return 0
}

// next returns the token that s, which is not blank, begins with.
func next(s string) token {
	c := s[0]
	switch {
	case c == '\'':
		return between(s, text)
	case c == '"' || c == '`':
		return between(s, quoted)
	case c == '[':
		if n := strings.IndexByte(s, ']'); n > 0 {
			return token{kind: quoted, raw: s[:n+1], value: s[1:n]}
		}
		return token{kind: illegal, raw: s, value: s}
	case (c == 'x' || c == 'X') && len(s) > 1 && s[1] == '\'':
		t := between(s[1:], blob)
		return token{kind: t.kind, raw: s[:len(t.raw)+1], value: t.value}
	case c >= '0' && c <= '9' || c == '.' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		return run(s, number, func(b byte) bool { return isWordByte(b) || b == '.' })
	case c == '?' || (c == '@' || c == ':' || c == '$' || c == '#') && len(s) > 1 && isWordByte(s[1]):
		return run(s, bound, isWordByte)
	case isWordByte(c):
		return run(s, word, isWordByte)
	}
	for _, two := range []string{"||", "->>", "->", "<=", ">=", "<>", "<<", ">>", "==", "!="} {
		if strings.HasPrefix(s, two) {
			return token{kind: symbol, raw: two, value: two}
		}
	}
	return token{kind: symbol, raw: s[:1], value: s[:1]}
}

// isWordByte reports whether b can be in a name. Bytes above ASCII are, so that
// no character of another script ends one.
func isWordByte(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

func run(s string, kind tokenKind, in func(byte) bool) token {
	n := 1
	for n < len(s) && in(s[n]) {
		n++
	}
	return token{kind: kind, raw: s[:n], value: s[:n]}
}

// between returns the token up to the quote that s begins with; a doubled
// quote is one in the value.
func between(s string, kind tokenKind) token {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		value := strings.ReplaceAll(s[1:i], string([]byte{quote, quote}), string([]byte{quote}))
		return token{kind: kind, raw: s[:i+1], value: value}
	}
	return token{kind: illegal, raw: s, value: s[1:]}
}

// position returns the line and the column, in characters, of a byte offset.
func position(sql string, offset int) (line, column int) {
	if offset < 0 || offset > len(sql) {
		return 0, 0
	}
	before := sql[:offset]
	line = strings.Count(before, "\n") + 1
	return line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

// join is texts that || makes one of.
type join struct {
	value string
	count int // of tokens; 0 if there is no text
}

// joined returns the texts that the tokens begin with.
func joined(tokens []token) join {
	if len(tokens) == 0 || tokens[0].kind != text {
		return join{}
	}
	var b strings.Builder
	b.WriteString(tokens[0].value)
	n := 1
	for n+1 < len(tokens) && tokens[n].is("||") && tokens[n+1].kind == text {
		b.WriteString(tokens[n+1].value)
		n += 2
	}
	return join{value: b.String(), count: n}
}

// literals returns every text in the tokens, and what texts joined by || make.
func literals(tokens []token) []token {
	var all []token
	for i := range tokens {
		if tokens[i].kind != text {
			continue
		}
		all = append(all, tokens[i])
		if i > 1 && tokens[i-1].is("||") && tokens[i-2].kind == text {
			continue // within a join that was taken
		}
		if j := joined(tokens[i:]); j.count > 1 {
			all = append(all, token{kind: text, offset: tokens[i].offset, value: j.value})
		}
	}
	return all
}

// computedConstants returns the offsets of those names that are compared with
// a value that needs no row and is yet no literal: 'a' || 'b', char(47),
// replace('x', 'y', 'z'). It also returns those of calls that make a text of
// literals alone, if any of the names is in the text: they may reach it in a
// list, a row value, a sub-query or a WITH.
func computedConstants(tokens []token, isColumn func(string) bool) []int {
	var offsets []int
	for i, t := range tokens {
		if !t.isName() || !isColumn(strings.ToLower(t.value)) {
			continue
		}
		from := i
		if i > 1 && tokens[i-1].is(".") {
			from = i - 2
		}
		if i+1 < len(tokens) && compares(tokens[i+1]) && isComputed(operand(tokens[i+2:], false)) ||
			from > 0 && compares(tokens[from-1]) && isComputed(operand(tokens[:from-1], true)) {
			offsets = append(offsets, t.offset)
		}
	}
	if slices.ContainsFunc(tokens, func(t token) bool { return t.isName() && isColumn(strings.ToLower(t.value)) }) {
		offsets = append(offsets, constantTexts(tokens)...)
	}
	return offsets
}

// constantTexts returns the offsets of calls that make a text of literals
// alone. char(10) of one letter is none: it is how people write a line's end.
func constantTexts(tokens []token) []int {
	closing := parentheses(tokens)
	var offsets []int
	for i, t := range tokens {
		if t.kind == blob {
			offsets = append(offsets, t.offset) // CAST(x'…' AS TEXT)
		}
		if i+1 >= len(tokens) || !tokens[i+1].is("(") || !makesText(t) || closing[i+1] == 0 {
			continue
		}
		inside := tokens[i+2 : closing[i+1]]
		if isComputed(inside) || decodesText(t) && len(inside) == 1 && inside[0].kind == text {
			offsets = append(offsets, t.offset)
		}
	}
	return offsets
}

func makesText(t token) bool {
	return slices.ContainsFunc([]string{
		"replace", "substr", "substring", "printf", "format", "char", "concat", "concat_ws", "json_extract", "split", "regex_split", "regex_match",
	}, t.names) || decodesText(t)
}

func decodesText(t token) bool {
	return slices.ContainsFunc([]string{"from_base64", "unhex", "unistr"}, t.names)
}

func compares(t token) bool { return t.is("=") || t.is("==") || t.is("is") || t.is("like") }

// operand returns the tokens of the expression at the beginning, or the end.
func operand(tokens []token, backwards bool) []token {
	depth := 0
	for n := range tokens {
		t := tokens[n]
		if backwards {
			t = tokens[len(tokens)-1-n]
		}
		opens, closes := t.is("("), t.is(")")
		if backwards {
			opens, closes = closes, opens
		}
		switch {
		case opens:
			depth++
		case closes:
			depth--
		}
		if depth < 0 || depth == 0 && (endsOperand(t) || endsFrom(t)) {
			if backwards {
				return tokens[len(tokens)-n:]
			}
			return tokens[:n]
		}
	}
	return tokens
}

func endsOperand(t token) bool {
	return slices.ContainsFunc([]string{",", ";", "and", "or", "on", "not", "join", "left", "inner", "cross", "natural", "select", "distinct", "from", "window"}, t.is)
}

// isComputed reports whether an expression has a function or operator, and
// neither a column nor a sub-query.
func isComputed(tokens []token) bool {
	for i, t := range tokens {
		call := i+1 < len(tokens) && tokens[i+1].is("(")
		if t.isName() && !call && !isExpressionWord(t) {
			return false
		}
		if t.is("select") || t.is("values") {
			return false
		}
	}
	return len(tokens) > 1
}

// isExpressionWord reports whether a word is one of SQL's within expressions.
func isExpressionWord(t token) bool {
	return slices.ContainsFunc([]string{
		"null", "true", "false", "case", "when", "then", "else", "end", "as", "text", "blob", "integer", "collate", "nocase", "binary", "rtrim",
		"and", "or", "not", "is", "in", "between", "like", "glob", "escape", "current_date", "current_time", "current_timestamp",
	}, t.is)
}

// stars returns the offsets of those * that mean all columns: after SELECT, a
// comma, or a table's name and a point. count(*) and products are others.
func stars(tokens []token) []int {
	var offsets []int
	for i, t := range tokens {
		if i == 0 || !t.is("*") {
			continue
		}
		before := tokens[i-1]
		if before.is("select") || before.is("distinct") || before.is("all") || before.is(",") || before.is(".") {
			offsets = append(offsets, t.offset)
		}
	}
	return offsets
}

// cte is one name that WITH gives to a query.
type cte struct {
	name       string
	start, end int // its body's tokens, without the parentheses
}

// ctes returns the names that WITH clauses give, in the order of the text:
// a name, perhaps columns, AS, perhaps [NOT] MATERIALIZED, and parentheses.
func ctes(tokens []token) []cte {
	if !slices.ContainsFunc(tokens, func(t token) bool { return t.is("with") }) {
		return nil
	}
	closing := parentheses(tokens)
	var all []cte
	for i, t := range tokens {
		if !t.is("as") || i == 0 {
			continue
		}
		body := i + 1
		for body < len(tokens) && (tokens[body].is("not") || tokens[body].is("materialized")) {
			body++
		}
		if body >= len(tokens) || !tokens[body].is("(") || closing[body] == 0 {
			continue
		}
		name := i - 1
		if tokens[name].is(")") {
			for name >= 0 && closing[name] != i-1 {
				name--
			}
			name--
		}
		if name < 1 || !tokens[name-1].is("with") && !tokens[name-1].is("recursive") && !tokens[name-1].is(",") {
			continue
		}
		all = append(all, cte{name: strings.ToLower(tokens[name].value), start: body + 1, end: closing[body]})
	}
	return all
}

// parentheses returns, for the index of each (, that of its ); 0 for others.
func parentheses(tokens []token) []int {
	closing := make([]int, len(tokens))
	var open []int
	for i, t := range tokens {
		switch {
		case t.is("("):
			open = append(open, i)
		case t.is(")") && len(open) > 0:
			closing[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	return closing
}

// expansion returns how many queries a text becomes when each use of a WITH
// name, or of a view with a known cost, is replaced by its query; at most
// limit. SQLite does that before it can be stopped, and each name may double
// the one before.
func expansion(tokens []token, names []cte, views map[string]int, limit int) int {
	const rounds = 16 // names may be used before they are defined; doubling 16 times is over any limit
	cost := map[string]int{}
	inside := make([]int, len(tokens)) // the innermost body that a token is in, from 1
	for i, c := range names {
		for j := c.start; j < c.end; j++ {
			inside[j] = i + 1 // inner bodies come later in the text
		}
	}
	total := 1
	for range rounds {
		costs := make([]int, len(names)+1)
		for i, t := range tokens {
			if b := inside[i]; t.isName() && (b == 0 || !t.names(names[b-1].name)) {
				name := strings.ToLower(t.value)
				costs[b] = min(limit, costs[b]+cost[name]+views[name])
			}
		}
		changed := total != 1+costs[0]
		total = 1 + costs[0]
		for i, c := range names {
			if n := costs[i+1] + 1; n > cost[c.name] {
				cost[c.name], changed = n, true
			}
		}
		if !changed {
			break
		}
	}
	return min(limit, total)
}

// source is one FROM clause, or what follows IN.
type source struct {
	names     []string // of its tables, without their schemas, in lower case
	items     int      // tables, sub-selects and others
	connected bool     // it has ON, USING, NATURAL, or is followed by WHERE
}

// sources returns what stands where tables do: after FROM, JOIN or IN, and
// after a comma in a FROM clause.
func sources(tokens []token) []source {
	var all []source
	depth, open := 0, map[int]int{} // the FROM clause that is open at a depth, from 1
	for i, t := range tokens {
		in := open[depth]
		switch {
		case t.is("("):
			depth++
			if in > 0 && i > 0 && startsSource(tokens[i-1]) && !startsQuery(tokens, i+1) {
				open[depth] = in // (a JOIN b): its first name is taken already
			}
		case t.is(")"):
			delete(open, depth)
			depth--
		case t.is("from") && (i == 0 || !tokens[i-1].is("distinct")):
			all = append(all, source{names: sourceAt(tokens, i+1), items: 1})
			open[depth] = len(all)
		case t.is("in"):
			all = append(all, source{names: sourceAt(tokens, i+1)})
		case in == 0:
		case t.is("join"), t.is(","):
			all[in-1].names = append(all[in-1].names, sourceAt(tokens, i+1)...)
			all[in-1].items++
		case t.is("on"), t.is("using"), t.is("natural"):
			all[in-1].connected = true
		case endsFrom(t):
			all[in-1].connected = all[in-1].connected || t.is("where")
			delete(open, depth)
		}
	}
	return all
}

// startsSource reports whether a table may stand behind the token.
func startsSource(t token) bool {
	return t.is("from") || t.is("join") || t.is(",") || t.is("(")
}

func startsQuery(tokens []token, i int) bool {
	return i < len(tokens) && (tokens[i].is("select") || tokens[i].is("values") || tokens[i].is("with"))
}

func endsFrom(t token) bool {
	return slices.ContainsFunc([]string{"where", "group", "having", "window", "order", "limit", "union", "except", "intersect"}, t.is)
}

// sourceAt returns the table's name at a token, without its schema.
func sourceAt(tokens []token, i int) []string {
	for i < len(tokens) && tokens[i].is("(") {
		i++
	}
	if i+2 < len(tokens) && tokens[i+1].is(".") {
		i += 2
	}
	if i >= len(tokens) || !tokens[i].isName() && tokens[i].kind != text {
		return nil
	}
	return []string{strings.ToLower(tokens[i].value)}
}

// count returns how often a word stands in the tokens.
func count(tokens []token, word string) int {
	n := 0
	for _, t := range tokens {
		if t.is(word) {
			n++
		}
	}
	return n
}
