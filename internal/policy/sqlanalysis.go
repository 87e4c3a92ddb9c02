package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	lib "modernc.org/sqlite/lib"
)

// maxExpansion is how many queries a text may become when names of WITH and
// views are replaced.
const maxExpansion = 500

// maxFindings is how many remarks or reasons a verdict has; people read the
// first few.
const maxFindings = 100

// maxWindows is how many OVER clauses a text may have. Each that differs wraps
// the query once more, and the time grows with their square.
const maxWindows = 50

// Query judges one text and how it runs. It never fails: what cannot be
// judged is Dangerous and has a Refused finding.
func (e *Engine) Query(q Query) Verdict {
	a := e.analysis(q)
	if a.readable() {
		a.prepare()
	}
	a.judge()
	return a.verdict
}

func (e *Engine) analysis(q Query) *analysis {
	if q.Use == "" {
		q.Use = Live
	}
	return &analysis{
		engine: e, query: q,
		tables: map[string]*use{}, columns: map[string]*column{}, functions: map[string]bool{},
		verdict: Verdict{
			Reasons: []Reason{}, Findings: []Finding{}, Tables: []string{}, Columns: []string{}, Functions: []string{},
			Platforms: []string{}, Hash: Hash(q.SQL), Exception: e.rules.Pins[Hash(q.SQL)],
		},
	}
}

// analysis is one text on its way to a verdict. While SQLite prepares the text
// it is the watcher.
type analysis struct {
	engine  *Engine
	query   Query
	verdict Verdict
	tokens  []token
	names   []cte
	result  []ResultColumn
	broken  bool // not understood: what was found so far is not all

	tables    map[string]*use
	columns   map[string]*column // by table.column
	functions map[string]bool
	recursive bool
	steps     int
	plans     int
	demand    demand
}

// demand is what a plan needs to be accepted.
type demand uint8

const (
	anyPlan      demand = iota // all are, to see them
	requiredPlan               // a required column must be constrained
	allowedPlan                // arguments must be among those that the rules allow
)

// use is how a text uses one table.
type use struct {
	table   *table
	free    int  // plans without any constraint
	missing bool // some plan constrains no required column
	linked  bool // a constraint names whose rows are meant
	terms   map[termKey]term
}

type termKey struct {
	column string
	op     uint8
	id     int32
	value  string
}

// refuse adds a finding that no tier allows, and the tier that says so.
func (a *analysis) refuse(code string, offset int, format string, args ...any) {
	a.broken = true
	a.note(code, Refused, offset, format, args...)
	a.verdict.add(Reason{Kind: "text", Name: code, Tier: Dangerous, Why: fmt.Sprintf(format, args...)})
}

// note adds a finding; offset is in bytes, -1 for the whole text.
func (a *analysis) note(code string, s Severity, offset int, format string, args ...any) {
	if len(a.verdict.Findings) >= maxFindings && s != Refused {
		return
	}
	f := Finding{Code: code, Severity: s, Message: fmt.Sprintf(format, args...)}
	if slices.ContainsFunc(a.verdict.Findings, func(g Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
		return // the first place is enough
	}
	f.Line, f.Column = position(a.query.SQL, offset)
	a.verdict.Findings = append(a.verdict.Findings, f)
}

// where returns the offset of the first token that is one of the names.
func (a *analysis) where(names ...string) int {
	for _, t := range a.tokens {
		if slices.ContainsFunc(names, t.names) {
			return t.offset
		}
	}
	return -1
}

// readable refuses what SQLite would read differently from people, or could
// not be stopped in.
func (a *analysis) readable() bool {
	sql := a.query.SQL
	if len(sql) > maxTextBytes {
		a.refuse("too-long", -1, "the text has %d bytes; shorten it to %d", len(sql), maxTextBytes)
		return false
	}
	if i := strings.IndexByte(sql, 0); i >= 0 {
		a.refuse("nul-character", i, "the text holds a NUL character, where agents stop reading; remove it")
		return false
	}
	if !utf8.ValidString(sql) {
		a.refuse("not-utf8", -1, "the text is not UTF-8; save it as UTF-8")
		return false
	}
	a.tokens = lex(sql)
	a.names = ctes(a.tokens)
	if n := count(a.tokens, "over"); n > maxWindows {
		a.refuse("too-complex", -1, "the text has %d windows; use at most %d", n, maxWindows)
		return false
	}
	if expansion(a.tokens, a.names, a.engine.catalog.viewCosts, maxExpansion) >= maxExpansion {
		a.refuse("too-complex", -1, "the text becomes more than %d queries when its names are replaced; simplify it", maxExpansion)
		return false
	}
	return true
}

// prepare lets SQLite find what is in the text.
func (a *analysis) prepare() {
	s, err := a.engine.sessions.get()
	if err != nil {
		a.refuse("not-judged", -1, "the text could not be judged: %v", err)
		return
	}
	defer a.engine.sessions.put(s)
	p, err := s.prepare(a.query.SQL, a)
	if err != nil {
		a.explain(err)
		return
	}
	a.shape(p)
	if a.broken {
		return
	}
	a.result = p.columns
	a.prove(s)
}

// shape refuses a text that is not one SELECT.
func (a *analysis) shape(p prepared) {
	switch {
	case p.blank:
		a.refuse("empty", -1, "the text has no statement; write a SELECT")
	case p.explain:
		a.refuse("not-select", 0, "EXPLAIN is no query for agents; write a SELECT")
	case !p.readOnly || len(p.columns) == 0:
		// Also what asks the authorizer nothing, as VACUUM INTO.
		a.refuse("not-select", 0, "the statement does more than read; only SELECT is sent to agents")
	case p.parameters > 0:
		i := slices.IndexFunc(a.tokens, func(t token) bool { return t.kind == bound })
		a.refuse("bound-parameter", a.offset(i), "the text has a parameter that nobody fills; write the value")
	}
	for _, t := range a.tokens {
		if t.offset >= p.tail && !t.is(";") {
			a.refuse("several-statements", t.offset, "the text has more than one statement; agents run one")
			return
		}
	}
}

func (a *analysis) offset(i int) int {
	if i < 0 {
		return -1
	}
	return a.tokens[i].offset
}

// prove prepares again where the plans seen leave a question: is there one
// that osquery would run, and one that the rules allow?
func (a *analysis) prove(s *session) {
	for _, d := range []struct {
		demand  demand
		ask     bool
		unmet   func(*use)
		involve func(*use) bool
	}{
		{demand: requiredPlan, unmet: a.missingRequired, involve: func(u *use) bool { return u.missing }},
		{demand: allowedPlan, unmet: a.notAllowed, involve: func(u *use) bool { return a.engine.restricts(u.table) }},
	} {
		var uses []*use
		for _, name := range slices.Sorted(maps.Keys(a.tables)) {
			if u := a.tables[name]; d.involve(u) {
				uses = append(uses, u)
			}
		}
		if len(uses) == 0 {
			continue
		}
		a.demand = d.demand
		s.literally(d.demand == allowedPlan)
		_, err := s.prepare(a.query.SQL, a)
		s.literally(false)
		a.demand = anyPlan
		if err == nil {
			continue
		}
		for _, u := range uses {
			d.unmet(u)
		}
	}
}

// authorize records what the text names, and lets it only read.
func (a *analysis) authorize(action int32, arg1, arg2, _ string) bool {
	switch action {
	case lib.SQLITE_SELECT:
		return true
	case lib.SQLITE_RECURSIVE:
		a.recursive = true
		return true
	case lib.SQLITE_FUNCTION:
		return a.call(strings.ToLower(arg2))
	case lib.SQLITE_READ:
		return a.read(strings.ToLower(arg1), arg2)
	}
	a.refuse("not-select", 0, "%s is not for agents; only SELECT is sent to them", actionWord(action))
	return false
}

func (a *analysis) call(name string) bool {
	f := a.engine.catalog.functions[name]
	if f == nil || f.origin == "forbidden" {
		a.refuse("forbidden-function", a.where(name), "the function %s is not among those that agents may run; leave it out", name)
		return false
	}
	a.functions[f.name] = true
	return true
}

// read records a column. When a text takes no column of a source, SQLite says
// its name alone, as written, whether it is a table or a name of WITH.
func (a *analysis) read(name, columnName string) bool {
	c := a.engine.catalog
	if t := c.table(name); t != nil {
		a.use(t)
		if col := t.column(columnName); col != nil {
			a.columns[t.name+"."+col.name()] = col
		}
		return true
	}
	_, isView := c.viewCosts[name]
	isCTE := columnName == "" && !isReserved(name) && slices.ContainsFunc(a.names, func(n cte) bool { return n.name == name })
	if isView || isCTE || name == "json_each" || name == "json_tree" {
		return true
	}
	a.refuse("forbidden-table", a.where(name), "%s is no table of osquery; it shows or changes SQLite itself", name)
	return false
}

// isReserved reports whether SQLite has a table of that name of itself. A name
// of WITH that is the same would hide a use of it.
func isReserved(name string) bool {
	return strings.HasPrefix(name, "sqlite_") || strings.HasPrefix(name, "pragma_") ||
		slices.Contains([]string{"dbstat", "bytecode", "tables_used", "fts3tokenize"}, name)
}

func (a *analysis) use(t *table) *use {
	u := a.tables[t.name]
	if u == nil {
		u = &use{table: t, terms: map[termKey]term{}}
		a.tables[t.name] = u
	}
	return u
}

// tick bounds the work of one text.
func (a *analysis) tick() bool {
	a.steps++
	return a.steps <= maxProgress && a.plans <= maxPlans
}

// accept records how a table is constrained.
func (a *analysis) accept(p plan) bool {
	a.plans++
	u := a.use(p.table)
	constrained, required := false, !p.table.required
	for _, t := range p.terms {
		if t.column == nil {
			continue
		}
		constrained = true
		required = required || t.column.Required && t.usable && (t.equal() || t.like())
		if a.demand == anyPlan {
			u.term(t)
			a.columns[p.table.name+"."+t.column.name()] = t.column
		}
	}
	switch a.demand {
	case requiredPlan:
		return required
	case allowedPlan:
		return a.engine.allows(p)
	case anyPlan:
		if !constrained {
			u.free++
		}
		u.missing = u.missing || !required
	}
	return true
}

// term records a constraint. Seen in several plans it is one: usable only if
// it is in all of them.
func (u *use) term(t term) {
	name := t.column.name()
	u.linked = u.linked || name == "uid" || name == "username"
	key := termKey{column: name, op: t.op, id: t.id, value: t.value}
	if known, ok := u.terms[key]; ok {
		t.usable = t.usable && known.usable
		t.list = t.list || known.list
	}
	u.terms[key] = t
}

// explain turns SQLite's message into a finding that says what to do.
func (a *analysis) explain(err error) {
	var e *sqlError
	if !errors.As(err, &e) {
		a.refuse("not-judged", -1, "the text could not be judged: %v", err)
		return
	}
	what, name, found := strings.Cut(e.message, ": ")
	switch {
	case a.broken: // the authorizer said more
	case e.code&0xff == lib.SQLITE_INTERRUPT, e.code&0xff == lib.SQLITE_TOOBIG, e.code&0xff == lib.SQLITE_NOMEM:
		a.refuse("too-complex", -1, "the text is too complex to be judged; simplify it")
	case found && what == "no such table":
		name = name[strings.LastIndexByte(name, '.')+1:]
		a.refuse("unknown-table", a.near(e, name), "there is no table %s%s", name, a.engine.catalog.similarTable(name))
	case found && what == "no such column":
		a.unknownColumn(e, name)
	case found && what == "no such function":
		a.refuse("unknown-function", a.near(e, name), "there is no function %s%s", name, similar(name, slices.Collect(maps.Keys(a.engine.catalog.functions))))
	case isLimit(e.message):
		a.refuse("too-complex", e.offset, "the text is too complex to be judged (%s); simplify it", e.message)
	case strings.HasSuffix(e.message, "syntax error"), e.message == "incomplete input", strings.HasPrefix(e.message, "unrecognized token"):
		a.refuse("syntax-error", e.offset, "%s", e.message)
	default:
		a.refuse("not-understood", e.offset, "SQLite does not take it: %s", e.message)
	}
}

// isLimit reports whether a message is about one of the limits of a session.
func isLimit(message string) bool {
	if strings.HasPrefix(message, "too many arguments on ") && !strings.HasPrefix(message, "too many arguments on function") {
		return false // a table takes fewer
	}
	return slices.ContainsFunc([]string{"too many", "too large", "too big", "too long", "Recursion limit", "at most", "parser stack overflow"},
		func(part string) bool { return strings.Contains(message, part) })
}

// near is where SQLite saw the error, or else where the name stands.
func (a *analysis) near(e *sqlError, name string) int {
	if e.offset >= 0 {
		return e.offset
	}
	return a.where(name)
}

func (a *analysis) unknownColumn(e *sqlError, name string) {
	name = strings.TrimSuffix(name, " - should this be a string literal in single-quotes?")
	unquoted := strings.Trim(name, `"`)
	short := unquoted[strings.LastIndexByte(unquoted, '.')+1:]
	offset := a.near(e, short)
	if offset >= 0 && offset < len(a.query.SQL) && a.query.SQL[offset] == '"' {
		a.refuse("unknown-column", offset, "there is no column %s; a text stands in single quotes: '%s'", unquoted, strings.ReplaceAll(unquoted, "'", "''"))
		return
	}
	a.refuse("unknown-column", offset, "there is no column %s%s", unquoted, similar(short, a.knownColumns()))
}

// knownColumns returns those of all tables that the text names.
func (a *analysis) knownColumns() []string {
	var all []string
	for _, t := range a.tokens {
		if !t.isName() {
			continue
		}
		if table := a.engine.catalog.table(t.value); table != nil {
			for i := range table.columns {
				all = append(all, table.columns[i].Name)
			}
		}
	}
	return all
}

// similar returns the end of a sentence that asks for a name that was likely
// meant, "" if none is near.
func similar(name string, among []string) string {
	const longest = 64 // a longer one is no slip of the pen
	if len(name) > longest || len(name) < 2 {
		return ""
	}
	best, nearest := len(name)/3+1, ""
	for _, n := range slices.Sorted(slices.Values(among)) {
		if d := distance(strings.ToLower(name), n); d < best {
			best, nearest = d, n
		}
	}
	if nearest == "" {
		return ""
	}
	return "; did you mean " + nearest + "?"
}

// actionWord is what people call an action of the authorizer.
func actionWord(action int32) string {
	switch action {
	case lib.SQLITE_PRAGMA:
		return "PRAGMA"
	case lib.SQLITE_ATTACH:
		return "ATTACH"
	case lib.SQLITE_DETACH:
		return "DETACH"
	case lib.SQLITE_INSERT:
		return "writing or creating something"
	case lib.SQLITE_UPDATE:
		return "UPDATE"
	case lib.SQLITE_DELETE:
		return "DELETE or DROP"
	case lib.SQLITE_TRANSACTION, lib.SQLITE_SAVEPOINT:
		return "a transaction"
	case lib.SQLITE_REINDEX:
		return "REINDEX"
	case lib.SQLITE_ANALYZE:
		return "ANALYZE"
	}
	return "changing the database"
}
