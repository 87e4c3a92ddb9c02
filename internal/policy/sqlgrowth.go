package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// columnBytes is how long a value of a table is taken to be.
const columnBytes = 100

// judgeRecursion weighs WITH RECURSIVE: without an end it never stops, and the
// agent's only thread with it.
func (a *analysis) judgeRecursion() {
	if !a.recursive {
		return
	}
	offset := a.where("recursive", "with")
	add := func(tier Tier, why string) {
		a.verdict.add(Reason{Kind: "shape", Name: "recursive", Tier: tier, Why: why})
	}
	switch rows := largest(a.tokens); {
	case rows > maxNumber:
		add(Dangerous, fmt.Sprintf("a recursive query that may make %.3g rows", rows))
	case rows > manyRows:
		add(Sensitive, fmt.Sprintf("a recursive query that may make %.3g rows", rows))
	}
	switch a.recursionEnd() {
	case endless:
		a.note("endless", Warning, offset, "the recursion has no condition and no LIMIT of its own, so it never ends")
		add(Dangerous, "a recursive query without an end stops everything else on the host")
	case conditional:
		a.note("recursive", Warning, offset, "a recursive query without LIMIT runs as long as its data lets it; add LIMIT")
		add(Sensitive, "a recursive query without LIMIT")
	case limited:
		a.note("recursive", Note, offset, "a recursive query")
	}
	for _, c := range a.recursions() {
		switch made := copies(a.tokens[c.start:c.end], columnBytes); {
		case made.same > 1 || made.calls > 1:
			a.note("growing-text", Warning, a.where(c.name), "each round of %s multiplies the length of a text", c.name)
			add(Dangerous, "a text that doubles with each round fills the memory of the host")
		case made.names > 1:
			add(Sensitive, "each round may multiply the length of a text")
		}
	}
	if a.multiplied() {
		a.note("cross-join", Warning, offset, "the rows of a recursive query meet each other; join them by a condition")
		add(Sensitive, "the rows of a recursive query multiply")
	}
}

// numberOf returns what a numeric literal is; more than anything if unknown.
func numberOf(t token) float64 {
	raw := strings.ReplaceAll(t.raw, "_", "")
	if hex, ok := strings.CutPrefix(strings.ToLower(raw), "0x"); ok {
		if n, err := strconv.ParseUint(hex, 16, 64); err == nil {
			return float64(n)
		}
		return math.Inf(1)
	}
	n, err := strconv.ParseFloat(raw, 64)
	if err != nil {
		return math.Inf(1)
	}
	return n
}

// largest returns the largest number in the tokens, or product of numbers.
func largest(tokens []token) float64 {
	most, product := 0.0, 1.0
	for i, t := range tokens {
		switch {
		case t.kind == number && i > 1 && tokens[i-1].is("*") && tokens[i-2].kind == number:
			product *= numberOf(t)
		case t.kind == number && i > 1 && tokens[i-1].is("<<") && tokens[i-2].kind == number:
			product *= math.Exp2(numberOf(t))
		case t.kind == number:
			product = numberOf(t)
		default:
			continue
		}
		most = max(most, product)
	}
	return most
}

// recursions returns the names of WITH whose query has UNION and uses them.
func (a *analysis) recursions() []cte {
	var all []cte
	for _, c := range a.names {
		body := a.tokens[c.start:c.end]
		if slices.ContainsFunc(body, func(t token) bool { return t.is("union") }) &&
			slices.ContainsFunc(body, func(t token) bool { return t.names(c.name) }) {
			all = append(all, c)
		}
	}
	return all
}

// end is how sure a recursion ends.
type end uint8

const (
	endless     end = iota
	conditional     // a comparison or a join may end it
	limited         // a LIMIT ends it
)

// recursionEnd returns the worst end of all recursions. A LIMIT behind them
// stops one only if its rows are taken one by one: an aggregate, a sort or a
// join first takes all.
func (a *analysis) recursionEnd() end {
	worst, all := limited, a.recursions()
	if len(all) == 0 {
		return endless // SQLite says that it recurs, and where is not seen
	}
	for _, c := range all {
		body := a.tokens[c.start:c.end]
		union := slices.IndexFunc(body, func(t token) bool { return t.is("union") })
		outside := a.tokens[min(c.end+1, len(a.tokens)):]
		switch {
		case hasLimit(body[union:]), hasLimit(outside) && a.streams(outside):
		case bounded(body[union:]):
			worst = min(worst, conditional)
		default:
			return endless
		}
	}
	return worst
}

// hasLimit reports whether the query that the tokens are, up to the parenthesis
// that ends it, has a LIMIT of its own that is a number as it stands: -1 is
// none, a product is any, and before a comma stands the offset.
func hasLimit(tokens []token) bool {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case depth == 0 && t.is("limit") && i+1 < len(tokens) && tokens[i+1].kind == number:
			return i+2 == len(tokens) || tokens[i+2].is(")") || tokens[i+2].is(";") || tokens[i+2].is("offset")
		}
		if depth < 0 {
			return false
		}
	}
	return false
}

// streams reports whether nothing in a query needs all rows of its source.
func (a *analysis) streams(tokens []token) bool {
	for name := range a.functions {
		if slices.Contains([]string{
			"count", "sum", "total", "avg", "min", "max", "group_concat", "string_agg", "median", "percentile", "percentile_cont", "percentile_disc",
			"json_group_array", "json_group_object", "jsonb_group_array", "jsonb_group_object",
		}, name) {
			return false
		}
	}
	if slices.ContainsFunc(sources(tokens), func(s source) bool { return s.items > 1 }) {
		return false
	}
	return !slices.ContainsFunc(tokens, func(t token) bool {
		return slices.ContainsFunc([]string{"order", "group", "distinct", "over", "where", "having", "join", "union", "except", "intersect", "in", "exists"}, t.is)
	})
}

// bounded reports whether something may end a recursion: a comparison of a
// column, or a join.
func bounded(tokens []token) bool {
	for i, t := range tokens {
		switch {
		case t.is("using"), t.is("natural"), t.is("exists"):
			return true
		case slices.ContainsFunc([]string{"<", ">", "<=", ">=", "=", "==", "<>", "!=", "between", "in", "like", "glob", "is"}, t.is) &&
			(endsInColumn(tokens[:i]) || hasColumn(tokens[i+1:])):
			return true
		}
	}
	return false
}

// multiplied reports whether the rows of a recursion may meet each other: a
// name of one is used twice, or a FROM clause outside of them has items that
// nothing connects.
func (a *analysis) multiplied() bool {
	uses := 0
	for _, c := range a.recursions() {
		outside := a.tokens[min(c.end+1, len(a.tokens)):]
		connections := conditions(outside)
		for i, source := range sources(outside) {
			if source.items-1 > connections[i] {
				return true
			}
			for _, name := range source.names {
				if name == c.name {
					uses++
				}
			}
		}
	}
	return uses > 1
}

// judgeGrowth multiplies what nested calls and queries add to a text:
// replace('…', 'a', 'aaaaaaaaaa') or x||x||x ten times makes gigabytes of a
// few bytes.
func (a *analysis) judgeGrowth() {
	growth, longest := 1.0, 1.0
	for _, t := range a.tokens {
		if t.kind == text {
			longest = max(longest, float64(len(t.value)))
		}
	}
	for _, region := range queries(a.tokens) {
		made := copies(region, max(columnBytes, longest))
		growth *= max(1, float64(made.names)) * made.calls
	}
	if growth > maxGrowth || growth*longest > maxMade {
		a.note("growing-text", Warning, a.where("replace", "hex", "quote", "concat", "printf"), "the nested calls and queries make a text longer by a factor of %.3g", growth)
		a.verdict.add(Reason{Kind: "shape", Name: "growth", Tier: Dangerous, Why: "a text that grows with each call fills the memory of the host"})
	}
}

// queries cuts tokens into those of each query, without the queries in
// parentheses within it, which are on their own. The arms of a UNION are one.
func queries(tokens []token) [][]token {
	all := [][]token{nil}
	open := []int{0} // the query of each open parenthesis
	for i, t := range tokens {
		current := open[len(open)-1]
		switch {
		case t.is("("):
			all[current] = append(all[current], t)
			if startsQuery(tokens, i+1) {
				all = append(all, nil)
				current = len(all) - 1
			}
			open = append(open, current)
			continue
		case t.is(")") && len(open) > 1:
			open = open[:len(open)-1]
			current = open[len(open)-1]
		}
		all[current] = append(all[current], t)
	}
	return all
}

// made is how the worst expression of a query makes a text of others.
type made struct {
	names int     // values that it joins, 0 if it joins none
	same  int     // how often the most frequent of them
	calls float64 // factor of the nested calls
}

// copies returns the worst of the expressions that the commas and keywords of
// a query separate; a value that is not written out has so many bytes.
func copies(tokens []token, column float64) made {
	worst := made{calls: 1}
	depth, factors := 0, []float64{1}
	names, joins := map[string]int{}, false
	finish := func() {
		if joins {
			n := 0
			for _, times := range names {
				n += times
				worst.same = max(worst.same, times)
			}
			worst.names = max(worst.names, n)
		}
		clear(names)
		joins = false
	}
	for i, t := range tokens {
		call := i+1 < len(tokens) && tokens[i+1].is("(")
		switch {
		case t.is("("):
			depth++
			factor := factors[len(factors)-1]
			if i > 0 && tokens[i-1].isName() {
				factor *= callGrowth(tokens[i-1:], column)
			}
			factors = append(factors, factor)
			worst.calls = max(worst.calls, factor)
		case t.is(")"):
			depth = max(0, depth-1)
			factors = factors[:max(1, len(factors)-1)]
		case depth == 0 && (t.is(",") || t.is("select") || t.is("from") || endsFrom(t)):
			finish()
		case t.is("||"), call && joinsTexts(t):
			joins = true
		case t.isName() && !call && !isExpressionWord(t) && (i+1 == len(tokens) || !tokens[i+1].is(".")) && (i == 0 || !tokens[i-1].is("as")):
			name := strings.ToLower(t.value)
			if i > 1 && tokens[i-1].is(".") {
				name = strings.ToLower(tokens[i-2].value) + "." + name
			}
			names[name]++
		}
	}
	finish()
	return worst
}

func joinsTexts(t token) bool {
	return slices.ContainsFunc([]string{
		"concat", "concat_ws", "printf", "format", "json_array", "json_object", "jsonb_array", "jsonb_object",
		"json_insert", "json_set", "json_replace", "json_patch",
	}, t.names)
}

// callGrowth is by what factor the call that the tokens begin with makes its
// argument longer.
func callGrowth(tokens []token, column float64) float64 {
	const (
		digits  = 2       // two for each byte, or a quote for each quote
		base64  = 4.0 / 3 // four letters for three bytes
		escapes = 6       // \u0000
	)
	name := tokens[0]
	switch {
	case slices.ContainsFunc([]string{"hex", "quote", "json_quote", "json_array", "json_object", "printf", "format"}, name.names):
		return digits
	case name.names("to_base64"), name.names("conditional_to_base64"):
		return base64
	case name.names("unistr_quote"):
		return escapes
	case !name.names("replace"):
		return 1
	}
	arguments := callArguments(tokens)
	if len(arguments) != len([]string{"in", "what", "by"}) {
		return 1
	}
	from, to := 1.0, column
	if t, ok := onlyText(arguments[1]); ok {
		from = max(1, float64(len(t)))
	}
	if t, ok := onlyText(arguments[2]); ok {
		to = float64(len(t))
	}
	return max(1, to/from)
}

// callArguments returns the arguments of the call that the tokens begin with.
func callArguments(tokens []token) [][]token {
	var all [][]token
	depth, start := 0, 2
	for i, t := range tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
		if i > 1 && (depth == 1 && t.is(",") || depth == 0) {
			all = append(all, tokens[start:i])
			start = i + 1
			if depth == 0 {
				break
			}
		}
	}
	return all
}

// onlyText returns the text that an expression is, perhaps in parentheses.
func onlyText(tokens []token) (string, bool) {
	for len(tokens) > 1 && tokens[0].is("(") && tokens[len(tokens)-1].is(")") {
		tokens = tokens[1 : len(tokens)-1]
	}
	j := joined(tokens)
	return j.value, j.count > 0 && j.count == len(tokens)
}

// conditions returns how many conditions connect the items of each of sources:
// USING, NATURAL, comparisons of two columns, and functions of a column, as
// json_each(t.x).
func conditions(tokens []token) []int {
	var counts []int
	innermost := []int{-1} // the FROM clause that is nearest, per depth
	for i, t := range tokens {
		switch {
		case t.is("("):
			if i > 0 && (tokens[i-1].names("json_each") || tokens[i-1].names("json_tree")) {
				connect(counts, innermost, hasColumn(tokens[i+1:]))
			}
			innermost = append(innermost, innermost[len(innermost)-1])
		case t.is(")"):
			innermost = innermost[:max(1, len(innermost)-1)]
		case t.is("from") && (i == 0 || !tokens[i-1].is("distinct")):
			counts = append(counts, 0)
			innermost[len(innermost)-1] = len(counts) - 1
		case t.is("in"):
			counts = append(counts, 0)
		case t.is("using"), t.is("natural"):
			connect(counts, innermost, true)
		case compares(t):
			connect(counts, innermost, hasColumn(tokens[i+1:]) && endsInColumn(tokens[:i]))
		}
	}
	return counts
}

func connect(counts, innermost []int, really bool) {
	if i := innermost[len(innermost)-1]; i >= 0 && really {
		counts[i]++
	}
}

func endsInColumn(tokens []token) bool {
	if len(tokens) == 0 {
		return false
	}
	last := tokens[len(tokens)-1]
	return last.is(")") || last.isName() && !isExpressionWord(last)
}

// hasColumn reports whether the operand that the tokens begin with names a
// column. It looks at the first few tokens only, to take no time.
func hasColumn(tokens []token) bool {
	const few = 16
	part := operand(tokens[:min(few, len(tokens))], false)
	for i, t := range part {
		if t.isName() && !isExpressionWord(t) && (i+1 == len(part) || !part[i+1].is("(")) {
			return true
		}
	}
	return false
}
