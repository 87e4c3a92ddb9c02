package policy

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// judge turns what was found into tier, reasons and findings.
func (a *analysis) judge() {
	v := &a.verdict
	a.unreported()
	a.judgeTables()
	a.judgeColumns()
	a.judgeFunctions()
	if !a.broken { // else it is refused anyway, and may be made to be slow here
		a.judgeArguments()
		a.judgeShape()
		a.lint()
		v.Platforms = a.platforms()
	}
	slices.SortStableFunc(v.Reasons, func(x, y Reason) int {
		return cmp.Or(cmp.Compare(y.Tier, x.Tier), strings.Compare(x.Kind, y.Kind), strings.Compare(x.Name, y.Name))
	})
	slices.SortStableFunc(v.Findings, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(rank(x.Severity), rank(y.Severity)), cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
}

func rank(s Severity) int {
	switch s {
	case Refused:
		return 0
	case Warning:
		return 1
	case Note:
	}
	return 2
}

// unreported adds tables and dangerous functions that stand where such do although SQLite did not
// report them: it leaves out what can never run (… AND 0), and an agent's
// SQLite may be of another mind. Of a text that was not understood it is all
// that can be told.
func (a *analysis) unreported() {
	isCTE := func(name string) bool {
		return slices.ContainsFunc(a.names, func(c cte) bool { return strings.EqualFold(c.name, name) })
	}
	for _, source := range sources(a.tokens) {
		for _, name := range source.names {
			if t := a.engine.catalog.table(name); t != nil && !isCTE(name) {
				a.use(t)
			}
		}
	}
	a.unreportedColumns()
	for i, t := range a.tokens {
		if !t.isName() || i+1 == len(a.tokens) || !a.tokens[i+1].is("(") || isCTE(t.value) {
			continue
		}
		if f := a.engine.catalog.functions[strings.ToLower(t.value)]; f != nil && f.risk.Tier == Dangerous {
			a.functions[f.name] = true
		}
	}
}

// unreportedColumns adds what USING and NATURAL compare, which SQLite does not
// report either.
func (a *analysis) unreportedColumns() {
	natural := count(a.tokens, "natural") > 0
	using := map[string]bool{}
	closing := parentheses(a.tokens)
	for i, t := range a.tokens {
		if t.is("using") && i+1 < len(a.tokens) {
			for j := i + 2; j < closing[i+1]; j++ {
				using[strings.ToLower(a.tokens[j].value)] = true
			}
		}
	}
	if !natural && len(using) == 0 {
		return
	}
	shared := map[string]int{}
	for _, u := range a.tables {
		for name := range u.table.byName {
			shared[name]++
		}
	}
	for _, u := range a.tables {
		for i := range u.table.columns {
			c := &u.table.columns[i]
			name := strings.ToLower(c.Name)
			if using[name] || natural && (shared[name] > 1 || len(a.tables) == 1) && !c.Hidden {
				a.columns[u.table.name+"."+c.name()] = c
			}
		}
	}
}

func (a *analysis) judgeTables() {
	for _, name := range slices.Sorted(maps.Keys(a.tables)) {
		a.verdict.Tables = append(a.verdict.Tables, name)
		r := a.engine.tableRule(a.tables[name].table)
		a.verdict.add(Reason{Kind: "table", Name: name, Tier: r.Tier, Why: r.Reason})
	}
}

func (a *analysis) judgeColumns() {
	for _, name := range slices.Sorted(maps.Keys(a.columns)) {
		a.verdict.Columns = append(a.verdict.Columns, name)
		tableName, _, _ := strings.Cut(name, ".")
		r := a.engine.columnRule(a.tables[tableName].table, a.columns[name])
		a.verdict.add(Reason{Kind: "column", Name: name, Tier: r.Tier, Why: r.Reason})
	}
}

func (a *analysis) judgeFunctions() {
	for _, name := range slices.Sorted(maps.Keys(a.functions)) {
		a.verdict.Functions = append(a.verdict.Functions, name)
		f := a.engine.catalog.functions[name]
		r := a.engine.functionRule(f)
		a.verdict.add(Reason{Kind: "function", Name: name, Tier: r.Tier, Why: r.Reason})
		if f.since != "" {
			a.note("newer-function", Warning, a.where(name), "%s came with SQLite %s; agents with an older one fail the query", name, f.since)
		}
	}
}

// judgeArguments looks at what the text tells tables to do.
func (a *analysis) judgeArguments() {
	kinds := map[string]bool{}
	for _, c := range a.columns {
		if c.arg != nil {
			kinds[c.arg.kind] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.tables)) {
		for _, t := range a.tables[name].terms {
			a.judgeTerm(a.tables[name].table, t)
		}
	}
	a.judgeComputed()
	// Every text counts, wherever it stands: it may reach the argument in a way
	// that the planner does not show, as in a list or from a sub-select.
	seen := map[string]bool{}
	for _, l := range literals(a.tokens) {
		if !seen[l.value] {
			seen[l.value] = true
			a.judgeLiteral(kinds, l)
		}
	}
}

// judgeComputed distrusts values that are computed although no row is needed:
// who means one path writes it.
func (a *analysis) judgeComputed() {
	isArgument := func(name string) bool {
		for _, u := range a.tables {
			if c := u.table.column(name); c != nil && c.arg != nil {
				return true
			}
		}
		return false
	}
	for _, offset := range computedConstants(a.tokens, isArgument) {
		a.note("computed-argument", Warning, offset, "the value is computed, which hides what is asked for; write it out")
		a.verdict.add(Reason{Kind: "argument", Name: "computed", Tier: Dangerous, Why: "a computed constant hides what is asked for"})
	}
}

func (a *analysis) judgeTerm(t *table, term term) {
	if term.column.arg == nil || !term.equal() && !term.like() {
		return
	}
	name := t.name + "." + term.column.name()
	if _, ok := a.engine.rules.Tables[t.name]; !ok {
		a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Sensitive, Why: term.column.arg.reason})
	}
	switch {
	case term.list:
	case !term.literal:
		a.note("argument-not-literal", Note, a.where(term.column.Name, term.column.name()), "what %s is asked for is computed, so it cannot be told here", name)
		if term.usable && a.decodes() {
			a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: "it is decoded from another form, which hides what is asked for"})
		}
	case isPlace(term.column.arg.kind) && strings.Trim(term.value, "%_") == "":
		a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: "it means everything"})
	default:
		// SQLite reads literals that are no texts in the SQL, as CAST(x'…' AS TEXT).
		a.judgeLiteral(map[string]bool{term.column.arg.kind: true}, token{value: term.value, offset: a.where(term.column.Name)})
	}
}

// isPlace reports whether an argument of the kind names where to read.
func isPlace(kind string) bool { return kind == "path" || kind == "registry" }

// decodes reports whether the text makes texts out of numbers or codes.
func (a *analysis) decodes() bool {
	for _, name := range []string{"char", "unhex", "from_base64", "unistr", "hex"} {
		if a.functions[name] {
			return true
		}
	}
	return slices.ContainsFunc(a.tokens, func(t token) bool { return t.kind == blob })
}

func (a *analysis) judgeLiteral(kinds map[string]bool, l token) {
	if a.verdict.Tier == Dangerous && len(a.verdict.Reasons) >= maxFindings {
		return // nothing can be added to that
	}
	name := shorten(l.value)
	if kinds["path"] || kinds["registry"] {
		if secretArgument(l.value) {
			a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: "secrets are kept there"})
		}
		if coversDisk(l.value) {
			a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: "it walks the whole disk"})
		} else if strings.Contains(l.value, "%%") {
			a.note("recursive-pattern", Warning, l.offset, "%%%% in %s walks all directories below", name)
		}
	}
	if kinds["url"] {
		if why := hostReason(l.value); why != "" {
			a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: why})
		}
	}
}

// notAllowed says that a table's arguments are not among those of the rules.
func (a *analysis) notAllowed(u *use) {
	for i := range u.table.columns {
		name := u.table.name + "." + u.table.columns[i].Name
		if _, ok := a.engine.rules.Arguments[name]; !ok {
			continue
		}
		const why = "it could not be proven that only what the table policy allows is asked for; compare it with an allowed literal by = or LIKE"
		a.note("argument-not-allowed", Warning, a.where(u.table.columns[i].Name), "%s: %s", name, why)
		a.verdict.add(Reason{Kind: "argument", Name: name, Tier: Dangerous, Why: why})
	}
}

// shorten returns a hostile text in a form that fits a message.
func shorten(s string) string {
	const most = 80
	r := []rune(s)
	if len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// platforms returns those that have all tables, sorted.
func (a *analysis) platforms() []string {
	result := []string{}
	for _, p := range allPlatforms() {
		has := true
		for _, u := range a.tables {
			has = has && slices.Contains(u.table.platforms, p)
		}
		if has {
			result = append(result, p)
		}
	}
	return result
}
