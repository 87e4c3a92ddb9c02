package redact

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/musterhq/muster/internal/errs"
)

// Action is what happens to the values of a column.
type Action string

// The actions.
const (
	// detect replaces what detectors find; it is what happens without a rule.
	detect Action = "detect"
	// keep leaves them as they are.
	keep Action = "keep"
	// redact replaces the whole value, without an id: nothing is known of it.
	redact Action = "redact"
	// hash replaces the whole value; equal ones have equal ids.
	hash Action = "hash"
	// drop leaves the value empty.
	drop Action = "drop"
)

// Actions returns all actions.
func Actions() []Action { return []Action{detect, keep, redact, hash, drop} }

// Column is a rule about columns. Empty patterns fit all; * in one stands for
// any text, and letters fit either case.
type Column struct {
	Table, Query, Column string
	Action               Action
}

// Detector is one that people write.
type Detector struct {
	Kind string
	// Keywords are texts, of which one must be in a value for the pattern to be
	// tried.
	Keywords []string
	Pattern  string // RE2; its first group, if it has one, is what is replaced
}

// Rules are what people say about redaction. The zero value says nothing.
type Rules struct {
	Columns   []Column // the first that fits holds
	Detectors []Detector
	Off       []string // kinds that are not looked for
	// AllowIDs are ids of values that are no secret, as their placeholders had
	// them; AllowPatterns fit such values as a whole (RE2).
	AllowIDs, AllowPatterns []string
	// Describe says what a source's query reads; nil knows nothing. It is called
	// once for each source, and only if a rule is about a table.
	Describe func(Source) Query
}

// Query is what is known of a query's text.
type Query struct {
	// Known is false if nothing is: then it may read any table.
	Known   bool
	Columns map[string]Origin // by name, of what it returns
	Reads   []Origin          // all that it reads
}

// Or returns what is known of a query that may be either of two.
func (q Query) Or(other Query) Query {
	if !q.Known || !other.Known {
		return Query{}
	}
	both := Query{Known: true, Columns: maps.Clone(other.Columns), Reads: slices.Concat(q.Reads, other.Reads)}
	for name, o := range q.Columns {
		if had, ok := other.Columns[name]; ok && had != o {
			o = Origin{}
		}
		both.Columns[name] = o
	}
	return both
}

// Origin is a column of a table; the zero value is an expression.
type Origin struct{ Table, Column string }

// Limits of Rules, far above what a person writes.
const (
	MaxColumns   = 1000
	MaxDetectors = 100
	MaxAllowed   = 10_000
	MaxPattern   = 1000 // bytes
	MinKeyword   = gram // bytes; shorter ones are found nearly everywhere
	maxKind      = 32
)

// CheckPattern compiles a detector's or an allowed pattern.
func CheckPattern(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > MaxPattern {
		return nil, errs.New(errs.Invalid, "is longer than %d bytes", MaxPattern)
	}
	p, err := regexp.Compile(pattern)
	if err != nil {
		return nil, errs.New(errs.Invalid, "is no RE2 pattern: %v", err)
	}
	if p.MatchString("") {
		return nil, errs.New(errs.Invalid, "fits the empty text, and so every value")
	}
	return p, nil
}

// CheckKind reports whether a kind can be in a placeholder.
func CheckKind(kind string) bool {
	return kind != "" && len(kind) <= maxKind && run([]byte(kind), 0, len(kind), lower|digit|dash) == len(kind)
}

// CheckID reports whether a text can be the id of a placeholder.
func CheckID(id string) bool {
	return len(id) == idLetters && run([]byte(id), 0, len(id), lower|digit) == len(id)
}

// Kinds returns the kinds that the built-in detectors find, sorted.
func Kinds() []string {
	kinds := []string{"jwt", "private-key", "azure", "entropy", kindPassword, kindToken, kindSecret, kindKey, kindHeader, kindURL}
	for _, t := range tokens() {
		kinds = append(kinds, t.kind)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// compiled are rules in force. They never change but for what scopes remembers.
type compiled struct {
	filter   *filter
	columns  []Column
	custom   []custom
	off      map[string]bool
	allowIDs map[string]bool
	allow    []*regexp.Regexp
	describe func(Source) Query
	tables   bool // a rule is about a table

	mu     sync.RWMutex
	scopes map[Source]scope
}

type scope struct {
	rules []*Column
	query *Query
}

type custom struct {
	kind    string
	pattern *regexp.Regexp
}

func keywords() []keyword {
	var k []keyword
	for _, t := range tokens() {
		k = append(k, t.keyword())
	}
	return append(append(k, forms()...), names()...)
}

func builtin() *compiled { return &compiled{filter: newFilter(keywords())} }

// SetRules puts rules in force for all that comes from now on.
func (r *Redactor) SetRules(rules Rules) error {
	c := &compiled{
		off: map[string]bool{}, allowIDs: map[string]bool{}, describe: rules.Describe, scopes: map[Source]scope{},
	}
	for _, kind := range rules.Off {
		c.off[kind] = true
	}
	for _, id := range rules.AllowIDs {
		c.allowIDs[id] = true
	}
	for i, p := range rules.AllowPatterns {
		re, err := CheckPattern(p)
		if err != nil {
			return errs.Field("allow", "pattern %d %v", i+1, err)
		}
		c.allow = append(c.allow, regexp.MustCompile(`^(?:`+re.String()+`)$`))
	}
	for _, col := range rules.Columns {
		if col.Action == "" {
			col.Action = detect
		}
		c.tables = c.tables || col.Table != ""
		c.columns = append(c.columns, col)
	}
	words := keywords()
	for i, d := range rules.Detectors {
		re, err := CheckPattern(d.Pattern)
		if err != nil {
			return errs.Field("detectors", "%s: the pattern %v", d.Kind, err)
		}
		c.custom = append(c.custom, custom{d.Kind, re})
		for _, word := range d.Keywords {
			if len(word) < MinKeyword {
				return errs.Field("detectors", "%s: the keyword %q is shorter than %d bytes", d.Kind, word, MinKeyword)
			}
			words = append(words, keyword{text: strings.ToLower(word), weight: byForm + 1, find: findCustom(i)})
		}
	}
	c.filter = newFilter(words)
	r.rules.Store(c)
	return nil
}

// findCustom tries a pattern on the whole text, once.
func findCustom(i int) finder {
	return func(sc *scanner, v []byte, _, _ int) {
		if sc.tried[i] {
			return
		}
		sc.tried[i] = true
		d := &sc.rules.custom[i]
		for _, m := range d.pattern.FindAllSubmatchIndex(v, maxFindings+1) {
			start, end := m[0], m[1]
			if len(m) > 2 && m[2] >= 0 {
				start, end = m[2], m[3]
			}
			if start < end {
				sc.add(start, end, d.kind, byForm)
			}
		}
	}
}

// maxScopes bounds the sources that are remembered; agents name their queries as
// they like.
const maxScopes = 4096

// scope returns the rules that may be about a source.
func (c *compiled) scope(src Source) ([]*Column, *Query) {
	c.mu.RLock()
	s, ok := c.scopes[src]
	c.mu.RUnlock()
	if ok {
		return s.rules, s.query
	}
	s.query = new(Query)
	if c.tables && c.describe != nil && src.Table == "" {
		*s.query = c.describe(src)
	}
	for i := range c.columns {
		if r := &c.columns[i]; r.fitsSource(src, s.query) {
			s.rules = append(s.rules, r)
		}
	}
	src.Query, src.Live, src.Table = strings.Clone(src.Query), strings.Clone(src.Live), strings.Clone(src.Table)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.scopes) >= maxScopes {
		clear(c.scopes)
	}
	c.scopes[src] = s
	return s.rules, s.query
}

func (r *Column) fitsSource(src Source, q *Query) bool {
	if r.Query != "" && !like(r.Query, src.Query) {
		return false
	}
	switch {
	case r.Table == "":
		return true
	case src.Table != "":
		return like(r.Table, src.Table)
	case !q.Known:
		return r.Action != keep
	}
	return slices.ContainsFunc(q.Reads, func(o Origin) bool { return like(r.Table, o.Table) })
}

// action returns what happens to a column.
func (sc *scanner) action(name []byte) Action {
	for _, r := range sc.scope {
		if r.fitsColumn(string(name), sc.src, sc.query) {
			return r.Action
		}
	}
	return detect
}

// fitsColumn reports whether a rule is about a column of its source. A rule about
// a table's column follows it through AS; an expression counts as all that the
// query reads, as it may hold any of it, except that it is kept for nothing.
func (r *Column) fitsColumn(name string, src Source, q *Query) bool {
	if r.Table == "" || src.Table != "" || !q.Known {
		return like(r.Column, name)
	}
	origin, ok := q.Columns[name]
	if ok && origin.Table != "" {
		return like(r.Table, origin.Table) && (like(r.Column, origin.Column) || like(r.Column, name))
	}
	if r.Action == keep {
		return false
	}
	return slices.ContainsFunc(q.Reads, func(o Origin) bool { return like(r.Table, o.Table) && like(r.Column, o.Column) })
}

// like reports whether a text fits a pattern: "" fits all, * any text.
func like(pattern, s string) bool {
	if pattern == "" || pattern == "*" {
		return true
	}
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return strings.EqualFold(pattern, s)
	}
	if len(s) < len(head) || !strings.EqualFold(s[:len(head)], head) {
		return false
	}
	s = s[len(head):]
	parts := strings.Split(strings.ToLower(rest), "*")
	s = strings.ToLower(s)
	for _, part := range parts[:len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
