package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what a text may make an agent do, beyond the tables it reads.
const (
	maxWidth        = 1000       // of printf: beyond, it fills memory with blanks
	maxNumber       = 10_000_000 // in a recursive query: rows that it likely makes
	maxGrowth       = 10_000     // of a text by nested calls
	maxWildcards    = 8          // in one LIKE or GLOB pattern; each multiplies the work
	shortInterval   = 60         // seconds; below, agents are busy with us
	longestInterval = 604_800    // seconds; osquery skips queries with a longer one
)

// judgeShape looks for work that tables do not explain: recursion, wide
// formats, slow patterns.
func (a *analysis) judgeShape() {
	a.judgeRecursion()
	a.judgeGrowth()
	for i, t := range a.tokens {
		var next token
		if i+1 < len(a.tokens) {
			next = a.tokens[i+1]
		}
		switch {
		case (t.names("printf") || t.names("format")) && next.is("("):
			a.judgeFormat(i)
		case (t.is("like") || t.is("glob")) && next.kind == text:
			a.judgePattern(next, "%*")
		case (t.names("regex_match") || t.names("regex_split")) && next.is("("):
			a.judgeRegex(i + 2)
		}
	}
	if a.functions["group_concat"] || a.functions["string_agg"] || a.functions["json_group_array"] {
		a.note("unbounded-text", Note, a.where("group_concat", "string_agg", "json_group_array"), "all rows go into one text; agents drop lines over a megabyte")
	}
}

// judgeRecursion weighs WITH RECURSIVE: without an end it never stops, and the
// agent's only thread with it.
func (a *analysis) judgeRecursion() {
	if !a.recursive {
		return
	}
	offset := a.where("recursive", "with")
	has := func(words ...string) bool {
		return slices.ContainsFunc(a.tokens, func(t token) bool { return slices.ContainsFunc(words, t.is) })
	}
	for _, t := range a.tokens {
		n, err := strconv.ParseFloat(strings.ReplaceAll(t.raw, "_", ""), 64)
		if t.kind == number && (err == nil && n > maxNumber || strings.HasPrefix(strings.ToLower(t.raw), "0x") && len(t.raw) > len("0xffffff")) {
			a.verdict.add(Reason{Kind: "shape", Name: "recursive", Tier: Dangerous, Why: "a recursive query that may make " + t.raw + " rows"})
		}
	}
	switch {
	case !a.ends():
		a.note("endless", Warning, offset, "the recursion has no condition and no LIMIT, so it never ends")
		a.verdict.add(Reason{Kind: "shape", Name: "recursive", Tier: Dangerous, Why: "a recursive query without an end stops everything else on the host"})
	case !has("limit"):
		a.note("recursive", Warning, offset, "a recursive query without LIMIT runs as long as its data lets it; add LIMIT")
		a.verdict.add(Reason{Kind: "shape", Name: "recursive", Tier: Sensitive, Why: "a recursive query without LIMIT"})
	default:
		a.note("recursive", Note, offset, "a recursive query")
	}
}

// ends reports whether each WITH query that uses its own name has a condition
// or a limit behind its UNION, or a join, or the whole text has a limit.
func (a *analysis) ends() bool {
	for _, c := range a.names {
		body := a.tokens[c.start:c.end]
		union := slices.IndexFunc(body, func(t token) bool { return t.is("union") })
		if union < 0 || !slices.ContainsFunc(body, func(t token) bool { return t.names(c.name) }) {
			continue
		}
		bounded := slices.ContainsFunc(body[union:], bounds)
		outside := slices.ContainsFunc(a.tokens[c.end:], func(t token) bool { return t.is("limit") })
		if !bounded && !outside {
			return false
		}
	}
	return true
}

// bounds reports whether a token may be what ends a recursion: a comparison, a
// limit or a join.
func bounds(t token) bool {
	return slices.ContainsFunc([]string{
		"<", ">", "<=", ">=", "=", "==", "<>", "!=", "between", "in", "like", "glob", "is", "exists", "limit", "using", "natural",
	}, t.is)
}

// judgeGrowth multiplies what nested calls add to a text: replace('…', 'a',
// 'aaaaaaaaaa') ten times makes gigabytes of a few bytes.
func (a *analysis) judgeGrowth() {
	growth := 1.0
	for i, t := range a.tokens {
		switch {
		case t.names("hex") || t.names("quote"):
			growth *= 2
		case t.is(")") && i > 3 && a.functions["replace"] && a.tokens[i-1].kind == text && a.tokens[i-3].kind == text:
			growth *= max(1, float64(len(a.tokens[i-1].value))/max(1, float64(len(a.tokens[i-3].value))))
		}
	}
	if growth > maxGrowth {
		a.note("growing-text", Warning, a.where("replace", "hex", "quote"), "the nested calls make a text longer by a factor of %.3g", growth)
		a.verdict.add(Reason{Kind: "shape", Name: "growth", Tier: Dangerous, Why: "a text that grows with each call fills the memory of the host"})
	}
}

// judgeFormat looks at the first argument of the printf at a token.
func (a *analysis) judgeFormat(i int) {
	call, argument := a.tokens[i], a.tokens[i+2:]
	format := joined(argument)
	if rest := argument[min(len(argument), format.count):]; format.count == 0 || len(rest) > 0 && !rest[0].is(",") && !rest[0].is(")") {
		a.note("computed-format", Note, call.offset, "the format of %s is computed, so its width cannot be told here", call.raw)
		a.verdict.add(Reason{Kind: "shape", Name: "format", Tier: Sensitive, Why: "a computed format may have any width"})
		return
	}
	for i := 0; i < len(format.value); i++ {
		if format.value[i] != '%' {
			continue
		}
		spec := format.value[i+1:]
		end := strings.IndexFunc(spec, func(r rune) bool { return !strings.ContainsRune("-+ #0!,.*123456789", r) })
		if end < 0 {
			end = len(spec)
		}
		for field := range strings.SplitSeq(strings.TrimLeft(spec[:end], "-+ #0!,"), ".") {
			n, err := strconv.Atoi(strings.TrimLeft(field, "-+ #0!,"))
			if strings.Contains(field, "*") || err == nil && n > maxWidth || len(field) > len("1000000") {
				a.note("wide-format", Warning, call.offset, "the format makes a text of any width; write a width of at most %d", maxWidth)
				a.verdict.add(Reason{Kind: "shape", Name: "format", Tier: Dangerous, Why: "a wide format fills the memory of the host"})
				return
			}
		}
		i += 1 + end // the letter behind, which may be another %
	}
}

// judgePattern counts the wildcards of a pattern: SQLite tries them all
// against each other.
func (a *analysis) judgePattern(pattern token, wildcards string) {
	n, inside := 0, false
	for _, r := range pattern.value {
		wild := strings.ContainsRune(wildcards, r)
		if wild && !inside {
			n++
		}
		inside = wild
	}
	if n <= maxWildcards {
		return
	}
	a.note("slow-pattern", Warning, pattern.offset, "the pattern has %d wildcards, and each multiplies the work; use at most %d", n, maxWildcards)
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

// nestedRepeat reports whether a group that holds + or * is itself repeated.
func nestedRepeat(pattern string) bool {
	repeats := []bool{false} // per open group: does it hold a repetition
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '(':
			repeats = append(repeats, false)
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
	all := sources(a.tokens)
	places := map[string]int{}
	for _, source := range all {
		for _, name := range source.names {
			if t := a.engine.catalog.table(name); t != nil {
				places[t.name]++
			}
		}
	}
	for _, source := range all {
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
		switch {
		case len(free) > few+1, len(free) > few && heavy >= few, !source.connected && items > few+2:
			tier = Dangerous
		case heavy > 0 && len(free) > 1, len(free) > few, !source.connected && items > few:
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
		if !slices.Contains(a.result, "path") {
			a.note("no-path-column", Refused, -1, "a query for file paths must yield a column named path; this one yields %s", strings.Join(a.result, ", "))
		}
	case Live, Scheduled, View, Enrollment:
	}
}
