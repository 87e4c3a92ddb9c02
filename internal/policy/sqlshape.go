package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Bounds of what a text may make an agent do, beyond the tables it reads.
const (
	maxWidth        = 1000       // of printf: beyond, it fills memory with blanks
	maxNumber       = 10_000_000 // in a recursive query: rows that it likely makes
	manyRows        = 100_000    // in a recursive query: below, they take no time to speak of
	maxGrowth       = 10_000     // of a text by nested calls and queries
	maxMade         = 10_000_000 // bytes that the longest literal grows to
	maxWildcards    = 8          // in one LIKE or GLOB pattern; each multiplies the work
	shortInterval   = 60         // seconds; below, agents are busy with us
	longestInterval = 604_800    // seconds; osquery skips queries with a longer one
)

// judgeShape looks for work that tables do not explain: recursion, wide
// formats, slow patterns.
func (a *analysis) judgeShape() {
	a.judgeRecursion()
	a.judgeGrowth()
	anyWide := sync.OnceValue(a.anyWide)
	for i, t := range a.tokens {
		var next token
		if i+1 < len(a.tokens) {
			next = a.tokens[i+1]
		}
		switch {
		case (t.names("printf") || t.names("format")) && next.is("("):
			a.judgeFormat(i, anyWide)
		case t.is("like") || t.is("glob"):
			a.judgePattern(a.tokens[i+1:])
		case (t.names("regex_match") || t.names("regex_split")) && next.is("("):
			a.judgeRegex(i + 2)
		}
	}
	if a.functions["group_concat"] || a.functions["string_agg"] || a.functions["json_group_array"] {
		a.note("unbounded-text", Note, a.where("group_concat", "string_agg", "json_group_array"), "all rows go into one text; agents drop lines over a megabyte")
	}
}

// judgeFormat looks at the first argument of the printf at a token.
func (a *analysis) judgeFormat(i int, anyWide func() bool) {
	call, argument := a.tokens[i], a.tokens[i+2:]
	format := joined(argument)
	rest := argument[min(len(argument), format.count):]
	computed := format.count == 0 || len(rest) > 0 && !rest[0].is(",") && !rest[0].is(")")
	wide := isWide(format.value) || computed && anyWide()
	switch {
	case wide:
		a.note("wide-format", Warning, call.offset, "the format makes a text of any width; write a width of at most %d", maxWidth)
		a.verdict.add(Reason{Kind: "shape", Name: "format", Tier: Dangerous, Why: "a wide format fills the memory of the host"})
	case computed:
		a.note("computed-format", Note, call.offset, "the format of %s is computed, so its width cannot be told here", call.raw)
		a.verdict.add(Reason{Kind: "shape", Name: "format", Tier: Sensitive, Why: "a computed format may have any width"})
	}
}

// anyWide reports whether a computed format may be wide: every text of the query
// may become the format, and every number a width.
func (a *analysis) anyWide() bool {
	return slices.ContainsFunc(literals(a.tokens), func(l token) bool { return isWide(l.value) }) ||
		slices.ContainsFunc(a.tokens, func(t token) bool { return t.kind == number && numberOf(t) > maxWidth })
}

// isWide reports whether a format of printf has a width or precision that is
// over maxWidth or comes from an argument.
func isWide(format string) bool {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		spec := format[i+1:]
		end := strings.IndexFunc(spec, func(r rune) bool { return !strings.ContainsRune("-+ #0!,.*123456789", r) })
		if end < 0 {
			end = len(spec)
		}
		for field := range strings.SplitSeq(strings.TrimLeft(spec[:end], "-+ #0!,"), ".") {
			n, err := strconv.Atoi(strings.TrimLeft(field, "-+ #0!,"))
			if strings.Contains(field, "*") || err == nil && n > maxWidth || len(field) > len("1000000") {
				return true
			}
		}
		i += 1 + end // the letter behind, which may be another %
	}
	return false
}

// judgePattern counts the wildcards of the pattern that the tokens begin with,
// perhaps in parentheses, as in like('…', x): SQLite tries them all against
// each other.
func (a *analysis) judgePattern(tokens []token) {
	for len(tokens) > 0 && tokens[0].is("(") {
		tokens = tokens[1:]
	}
	pattern := joined(tokens)
	n, inside := 0, false
	for _, r := range pattern.value {
		wild := r == '%' || r == '*'
		if wild && !inside {
			n++
		}
		inside = wild
	}
	if n <= maxWildcards {
		return
	}
	a.note("slow-pattern", Warning, tokens[0].offset, "the pattern has %d wildcards, and each multiplies the work; use at most %d", n, maxWildcards)
	tier := Sensitive
	if n > 2*maxWildcards {
		tier = Dangerous
	}
	a.verdict.add(Reason{Kind: "shape", Name: "pattern", Tier: tier, Why: "a pattern with many wildcards takes the CPU for long"})
}

// judgeRegex looks for a repeated group that repeats itself, as (a+)+: the
// text that makes it slow for minutes comes from the host's users.
func (a *analysis) judgeRegex(from int) {
	depth := 0
	for i := from; i < len(a.tokens) && depth >= 0; i++ {
		t := a.tokens[i]
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case t.kind == text && nestedRepeat(t.value):
			a.note("slow-pattern", Warning, t.offset, "the pattern repeats a repetition, as (a+)+, which can take for ever; write it without")
			a.verdict.add(Reason{Kind: "shape", Name: "pattern", Tier: Sensitive, Why: "a pattern that repeats a repetition takes the CPU for long"})
		}
	}
}

// nestedRepeat reports whether a group that holds + or *, or two alternatives
// that begin alike, as (a|ab), is itself repeated.
func nestedRepeat(pattern string) bool {
	repeats := []bool{false} // per open group: does it hold a repetition
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '(':
			repeats = append(repeats, alike(pattern[i+1:]))
		case ')':
			if len(repeats) == 1 {
				continue
			}
			inner := repeats[len(repeats)-1]
			repeats = repeats[:len(repeats)-1]
			repeated := i+1 < len(pattern) && strings.IndexByte("+*{", pattern[i+1]) >= 0
			if inner && repeated {
				return true
			}
			repeats[len(repeats)-1] = repeats[len(repeats)-1] || inner
		case '+', '*', '{':
			repeats[len(repeats)-1] = true
		}
	}
	return false
}

// alike reports whether two alternatives of the group that s begins with have
// the same first letter.
func alike(s string) bool {
	s = strings.TrimPrefix(s, "?:")
	if i := strings.IndexByte(s, ')'); i >= 0 {
		s = s[:i]
	}
	seen := map[byte]bool{}
	for alternative := range strings.SplitSeq(s, "|") {
		if alternative == "" {
			continue
		}
		first := alternative[0]
		if seen[first] && first != '\\' {
			return true
		}
		seen[first] = true
	}
	return false
}

// lint adds what would likely not work as meant.
func (a *analysis) lint() {
	a.lintStars()
	a.lintTables()
	a.lintJoins()
	a.lintPlatforms()
	a.lintSchedule()
	a.lintUse()
}

func (a *analysis) lintStars() {
	offsets := stars(a.tokens)
	if len(offsets) == 0 || len(a.tables) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(a.columns)) {
		tableName, _, _ := strings.Cut(name, ".")
		t := a.tables[tableName].table
		if a.engine.columnRule(t, a.columns[name]).Tier == Dangerous && a.engine.tableRule(t).Tier < Dangerous {
			a.note("select-star", Warning, offsets[0], "* also takes %s; name the columns that you need", name)
			return
		}
	}
	a.note("select-star", Note, offsets[0], "* takes all columns, also those of later versions; name the columns that you need")
}

func (a *analysis) lintTables() {
	for _, name := range slices.Sorted(maps.Keys(a.tables)) {
		u := a.tables[name]
		t := u.table
		offset := a.where(append([]string{name}, t.aliases...)...)
		if t.userData && !u.linked {
			a.note("user-data", Warning, offset, "%s has only root's rows unless it is joined with users, as JOIN users USING (uid)", name)
		}
		if t.evented && a.query.Snapshot {
			a.note("evented-snapshot", Warning, offset, "%s yields events since the last run, so a snapshot of it is no state; leave out snapshot", name)
		}
		if t.evented && a.query.Use == Live {
			a.note("evented-live", Note, offset, "%s has rows only where its events are collected", name)
		}
		if t.evented && a.query.Use == Scheduled && a.query.Removed && !a.query.Snapshot {
			a.note("evented-removed", Note, offset, "events of %s are reported as removed in the next run; set removed: false", name)
		}
	}
}

// missingRequired says that osquery would answer with an error.
func (a *analysis) missingRequired(u *use) {
	var required []string
	for i := range u.table.columns {
		if c := &u.table.columns[i]; c.Required && c.real == "" {
			required = append(required, c.Name)
		}
	}
	a.note("missing-required", Warning, a.where(append([]string{u.table.name}, u.table.aliases...)...),
		"%s answers only when %s is compared by =, IN or LIKE with something that is known", u.table.name, strings.Join(required, " or "))
}

// lintJoins finds tables of one FROM clause that nothing connects.
func (a *analysis) lintJoins() {
	const few = 2 // sources whose product is still a list
	all, connections := sources(a.tokens), conditions(a.tokens)
	places := map[string]int{}
	for _, source := range all {
		for _, name := range source.names {
			if t := a.engine.catalog.table(name); t != nil {
				places[t.name]++
			}
		}
	}
	for i, source := range all {
		var free []string
		heavy, items := 0, source.items
		for _, name := range source.names {
			t := a.engine.catalog.table(name)
			if t != nil && t.single() {
				items--
			}
			if t == nil || t.single() || a.tables[t.name] == nil || a.tables[t.name].free < places[t.name] {
				continue
			}
			if t.heavy() || slices.Contains(free, t.name) {
				heavy++
			}
			free = append(free, t.name)
		}
		tier := Harmless
		// What is no table has no plan that shows whether it is connected.
		loose := items - 1 - connections[i]
		switch {
		case len(free) > few+1, len(free) > few && heavy >= few, !source.connected && items > few+2, loose > few+2:
			tier = Dangerous
		case heavy > 0 && len(free) > 1, len(free) > few, !source.connected && items > few, loose > few:
			tier = Sensitive
		case len(free) < 2:
			continue
		}
		if len(free) == 0 {
			free = []string{"from"}
		}
		a.note("cross-join", Warning, a.where(free...), "nothing connects these sources, so every row meets every other; add a condition")
		a.verdict.add(Reason{Kind: "shape", Name: "cross-join", Tier: tier, Why: "the rows of unconnected sources multiply"})
	}
}

// platformNames returns the platforms that a word of osquery means; none for
// an unknown one.
func platformNames(name string) []string {
	switch strings.ToLower(name) {
	case "darwin", "macos":
		return []string{"darwin"}
	case "linux", "ubuntu", "centos", "rhel", "debian", "amzn":
		return []string{"linux"}
	case "windows":
		return []string{"windows"}
	case "posix":
		return []string{"darwin", "linux"}
	case "any", "all":
		return allPlatforms()
	}
	return nil
}

func (a *analysis) lintPlatforms() {
	var meant []string
	for _, names := range a.query.Platforms {
		for name := range strings.SplitSeq(names, ",") {
			meant = append(meant, platformNames(strings.TrimSpace(name))...)
		}
	}
	have := a.platforms()
	if len(have) == 0 {
		a.note("no-platform", Warning, -1, "no platform has all of %s", strings.Join(slices.Sorted(maps.Keys(a.tables)), ", "))
	}
	for _, p := range slices.Compact(slices.Sorted(slices.Values(meant))) {
		for _, name := range slices.Sorted(maps.Keys(a.tables)) {
			if t := a.tables[name].table; !slices.Contains(t.platforms, p) {
				a.note("platform", Warning, a.where(append([]string{name}, t.aliases...)...), "%s does not exist on %s; the query fails there", name, p)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(a.columns)) {
			if c := a.columns[name]; !c.On(p) && len(stars(a.tokens)) == 0 {
				a.note("empty-column", Note, a.where(c.Name), "%s is empty on %s", name, p)
			}
		}
	}
}

func (a *analysis) lintSchedule() {
	n := a.query.Interval
	switch {
	case n < 0, n > longestInterval:
		a.note("bad-interval", Refused, -1, "the interval is %d seconds; agents skip queries whose interval is not 1 to %d", n, longestInterval)
	case n == 0 && a.query.Use == Scheduled:
		a.note("no-interval", Warning, -1, "the query has no interval; agents take 3600 seconds, and skip it if it says 0")
	case n > 0 && n <= shortInterval:
		a.note("short-interval", Warning, -1, "every %d seconds is often; over %d spares the host", n, shortInterval)
	}
}

func (a *analysis) lintUse() {
	switch a.query.Use {
	case Decorator:
		if a.verdict.Tier > Harmless {
			a.note("decorator-tier", Warning, -1, "a decorator goes with every line that is logged; use tables of tier 0 only")
		}
	case Discovery:
		if a.verdict.Tier > Internal {
			a.note("discovery-tier", Warning, -1, "a discovery query runs outside of the denylist; keep it to small inventory tables")
		}
	case FilePaths:
		if names := columnNames(a.result); !slices.Contains(names, "path") {
			a.note("no-path-column", Refused, -1, "a query for file paths must yield a column named path; this one yields %s", strings.Join(names, ", "))
		}
	case Live, Scheduled, View, Enrollment:
	}
}
