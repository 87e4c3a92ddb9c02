package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/osquery"
)

const (
	maxInterval = 604800 // osquery's longest, one week
	// maxAutoQuery bounds the text of an automatic table, which is not prepared.
	maxAutoQuery = 16 << 10
	maxColumnsOf = 100 // of one automatic table
)

// query judges one of the config's texts. Hostile ones take half a second each,
// so that their number has a bound.
func (r *report) query(q Query) Verdict {
	if r.texts++; r.texts > maxTexts {
		v := newVerdict()
		v.refuse("config", "texts", "too-many", fmt.Sprintf("the config holds more than %d SQL texts; remove some", maxTexts))
		return v
	}
	return r.sql.Query(q)
}

// decorators judges their texts and their intervals.
func (r *report) decorators() {
	d := r.config.Decorators
	text := func(sql string) Verdict { return r.query(Query{SQL: sql, Use: Decorator}) }
	if len(d.Always) > maxAlways {
		v := newVerdict()
		v.find("many-decorators", Warning, "%d texts run before every query of the schedule; use load or interval", len(d.Always))
		r.add("decorators.always", v)
	}
	r.each("decorators.always", d.Always, maxTexts, text)
	for _, key := range names(r, "decorators.interval", d.Interval, maxTexts) {
		path := "decorators.interval." + clip(key)
		if v := decoratorInterval(key); len(v.Findings) > 0 {
			r.add(path, v)
		}
		r.each(path, d.Interval[key], maxTexts, text)
	}
	r.each("decorators.load", d.Load, maxTexts, text)
}

// decoratorInterval judges a key of decorators.interval
// (plugins/config/parsers/decorators.cpp).
func decoratorInterval(key string) Verdict {
	v := newVerdict()
	n, err := strconv.ParseUint(key, 10, 32)
	switch {
	case err != nil, strconv.FormatUint(n, 10) != key, n == 0:
		v.refuse("config", clip(key), "decorator-interval", "it is no number of seconds above 0: agents divide by it and crash at every full minute; write a multiple of 60")
	case n%60 != 0:
		v.refuse("config", key, "decorator-interval", "it is no multiple of 60: agents skip it; write a multiple of 60")
	case n > maxInterval:
		v.find("decorator-interval", Warning, "it is longer than a week; it hardly ever runs")
	}
	return v
}

// views judges names and texts. A view gives tables another name, so its text
// counts wherever the name is used.
func (r *report) views() {
	for _, name := range names(r, "views", r.config.Views, maxNames) {
		v := r.query(Query{SQL: r.config.Views[name], Use: View})
		if problem := r.newName(name); problem != "" {
			v.refuse("view", clip(name), "bad-name", problem)
			v = v.sorted()
		}
		r.add("views."+clip(name), v)
	}
}

// newName says what is wrong with the name of a view or automatic table, which
// agents write into SQL as it is.
func (r *report) newName(name string) string {
	lower := strings.ToLower(name)
	known, _ := r.table(lower)
	switch {
	case !identifier(name):
		return "it is no plain name; use letters, digits and _, beginning with a letter, at most 64"
	case known:
		return "it is the name of a table of osquery, which it would hide; choose another"
	case r.taken[lower]:
		return "the name is there twice; SQL does not tell upper from lower case; choose another"
	}
	r.taken[lower] = true
	return ""
}

// identifier reports whether a name needs no quotes in SQL.
func identifier(name string) bool {
	const longest = 64
	lower := strings.ToLower(name)
	return plainName(name) && len(name) <= longest && (name[0] < '0' || name[0] > '9') &&
		!strings.HasPrefix(lower, "sqlite_") && !strings.HasPrefix(lower, "pragma_") && !slices.Contains(keywords(), lower)
}

// keywords are the words of SQLite that cannot be a name without quotes
// (sqlite.org/lang_keywords.html, those that do not fall back to a name).
func keywords() []string {
	return strings.Fields(`add all alter and as autoincrement between case check collate commit constraint create
		default deferrable delete distinct drop else escape except exists foreign from group having in index insert
		intersect into is isnull join limit not nothing notnull null on or order primary references returning select
		set table then to transaction union unique update using values when where`)
}

// autoTables judges tables that agents make of SQLite files of the host. Their
// texts run against schemas that nobody here knows, so they are Dangerous, and
// allowed one by one: the hash is that of path, a line break, and query.
func (r *report) autoTables() {
	for _, name := range names(r, "auto_table_construction", r.config.AutoTables, maxNames) {
		t := r.config.AutoTables[name]
		v := newVerdict()
		v.Hash = Hash(t.Path + "\n" + t.Query)
		v.Exception = r.rules.Pins[v.Hash]
		v.add(Reason{Kind: "config", Name: clip(name), Tier: Dangerous, Why: "reads any SQLite file of the host, such as those of browsers, with SQL that nobody can judge here"})
		if problem := r.newName(name); problem != "" {
			v.refuse("config", clip(name), "bad-name", problem)
		}
		v.autoTable(t)
		r.add("auto_table_construction."+clip(name), v.sorted())
	}
}

func (v *Verdict) autoTable(t AutoTable) {
	v.autoPath(t.Path)
	switch err := osquery.CheckSelect(t.Query); {
	case len(t.Query) > maxAutoQuery:
		v.refuse("config", "query", "bad-query", fmt.Sprintf("the query has %d bytes; at most %d are allowed", len(t.Query), maxAutoQuery))
	case err != nil:
		v.refuse("config", "query", "bad-query", "the query: "+err.Error()+".")
	}
	if len(t.Columns) == 0 || len(t.Columns) > maxColumnsOf {
		v.refuse("config", "columns", "bad-columns", fmt.Sprintf("it has %d columns; agents need their names, from 1 to %d", len(t.Columns), maxColumnsOf))
		return
	}
	seen := map[string]bool{}
	for _, column := range t.Columns {
		lower := strings.ToLower(column)
		switch {
		case lower == "path":
			v.find("path-column", Warning, "agents add the column path themselves and warn about this one; leave it out")
		case !identifier(column), seen[lower]:
			v.refuse("config", clip(column), "bad-columns", "the column "+clip(column)+" is there twice, or no plain name; use letters, digits and _")
		}
		seen[lower] = true
	}
	if !onSomePlatform(t.Platform) {
		v.find("no-platform", Warning, "no agent has the platform %s; write darwin, linux, windows or posix", clip(t.Platform))
	}
}

// autoPath judges the pattern of an automatic table's files. Unlike file
// monitoring, every agent that has it opens them at each query.
func (v *Verdict) autoPath(text string) {
	p, problem := parsePattern(text)
	if problem != "" {
		v.refuse("path", clip(text), "bad-path", problem)
		return
	}
	v.Platforms = p.platforms()
	if len(p.parts) == 0 || hasWildcard(p.parts[0]) {
		v.refuse("path", clip(text), "whole-disk", "it covers the whole file system; name the file")
	}
	if why := p.secret(); why != "" {
		v.add(Reason{Kind: "path", Name: clip(text), Tier: Dangerous, Why: why})
	}
}

// onSomePlatform follows osquery, which looks for these words anywhere in the
// text.
func onSomePlatform(text string) bool {
	return text == "" || text == "null" || slices.ContainsFunc(
		[]string{"any", "all", "linux", "ubuntu", "centos", "posix", "darwin", "windows"},
		func(word string) bool { return strings.Contains(text, word) })
}
