package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// maxSessions is how many texts are judged at once; others wait. One takes a
// tenth of a millisecond and a session some hundred kilobytes.
const maxSessions = 4

// Engine judges texts by rules. It is safe for concurrent use.
type Engine struct {
	rules    Rules
	base     *catalog // osquery's own names, shared by all engines of one New
	catalog  *catalog // base and what the rules add
	sessions *sessions
	owned    bool // sessions are this engine's to close
}

// New loads the schema and the risk data. It fails for rules that make no
// sense, as one about an unknown table, with an error that names the field.
func New(rules Rules) (*Engine, error) {
	base, err := newCatalog()
	if err != nil {
		return nil, err
	}
	e := &Engine{base: base, catalog: base, sessions: newSessions(base), owned: true}
	made, err := e.With(rules)
	if err != nil {
		return nil, err
	}
	if made.sessions == e.sessions {
		made.owned = true
	}
	return made, nil
}

// With returns an engine with other rules. It shares the schema and, unless
// the rules have views or extensions, the SQLite sessions of e: keep e open as
// long as the result is used, and close both.
func (e *Engine) With(rules Rules) (*Engine, error) {
	result := &Engine{base: e.base, catalog: e.base, sessions: e.sessions}
	own := len(rules.Views) > 0 || len(rules.Extensions) > 0
	if own {
		c, err := e.base.with(rules.Extensions, rules.Views)
		if err != nil {
			return nil, err
		}
		result.catalog, result.sessions, result.owned = c, newSessions(c), true
	} else if e.catalog != e.base {
		result.sessions, result.owned = newSessions(e.base), true
	}
	var err error
	if result.rules, err = result.catalog.normal(rules); err != nil {
		return nil, err
	}
	if err := result.checkViews(); err != nil {
		_ = result.Close() // in memory: nothing can be lost
		return nil, err
	}
	return result, nil
}

// checkViews finds views that agents could not create.
func (e *Engine) checkViews() error {
	for _, v := range e.catalog.views {
		verdict := e.Query(Query{SQL: "SELECT * FROM " + quoteName(v.name), Use: View})
		for _, f := range verdict.Findings {
			if f.Severity == Refused {
				return errs.Field("views."+v.name, "%s", f.Message)
			}
		}
	}
	return nil
}

// Close frees the sessions. Engines made by With of this one cannot be used
// any more.
func (e *Engine) Close() error {
	if e.owned {
		e.sessions.close()
	}
	return nil
}

// sessions lends sessions of one catalog, opening them when first needed.
type sessions struct {
	catalog *catalog
	idle    chan *session // nil ones are not open yet
	closed  chan struct{}
}

func newSessions(c *catalog) *sessions {
	s := &sessions{catalog: c, idle: make(chan *session, maxSessions), closed: make(chan struct{})}
	for range maxSessions {
		s.idle <- nil
	}
	return s
}

func (s *sessions) get() (*session, error) {
	select {
	case <-s.closed:
		return nil, errs.New(errs.Internal, "the policy engine is closed")
	default:
	}
	select {
	case <-s.closed:
		return nil, errs.New(errs.Internal, "the policy engine is closed")
	case opened := <-s.idle:
		if opened != nil {
			return opened, nil
		}
		opened, err := openSession(s.catalog)
		if err != nil {
			s.idle <- nil
			return nil, err
		}
		return opened, nil
	}
}

func (s *sessions) put(used *session) { s.idle <- used }

// close waits for the sessions that are lent. A second call does nothing.
func (s *sessions) close() {
	select {
	case <-s.closed:
		return
	default:
		close(s.closed)
	}
	for range maxSessions {
		if opened := <-s.idle; opened != nil {
			opened.close()
		}
	}
}

// normal returns the rules with lower-case real names, or an error that names
// the field that makes no sense.
func (c *catalog) normal(r Rules) (Rules, error) {
	result := r
	result.Tables, result.Columns, result.Functions = map[string]Rule{}, map[string]Rule{}, map[string]Rule{}
	result.Arguments = map[string][]string{}
	for name, rule := range r.Tables {
		t := c.table(name)
		if t == nil {
			return Rules{}, errs.Field("tables."+name, "is no table of osquery or of an extension%s", c.similarTable(name))
		}
		result.Tables[t.name] = rule
	}
	for name, rule := range r.Columns {
		t, col, err := c.split(name)
		if err != nil {
			return Rules{}, errs.Field("columns."+name, "%v; write table.column", err)
		}
		result.Columns[t.name+"."+col.name()] = rule
	}
	for name, rule := range r.Functions {
		f := c.functions[strings.ToLower(name)]
		if f == nil || f.origin == "forbidden" {
			return Rules{}, errs.Field("functions."+name, "is no function that agents may run; remove it")
		}
		result.Functions[f.name] = rule
	}
	for name, patterns := range r.Arguments {
		t, col, err := c.split(name)
		if err != nil {
			return Rules{}, errs.Field("arguments."+name, "%v; write table.column", err)
		}
		if slices.Contains(patterns, "") {
			return Rules{}, errs.Field("arguments."+name, "has an empty pattern; remove it")
		}
		result.Arguments[t.name+"."+col.name()] = slices.Clone(patterns)
	}
	return result, checkTiers(r)
}

func checkTiers(r Rules) error {
	for field, rules := range map[string]map[string]Rule{"tables": r.Tables, "columns": r.Columns, "functions": r.Functions, "options": r.Options} {
		for name, rule := range rules {
			if rule.Tier > Dangerous {
				return errs.Field(field+"."+name, "has tier %d; there are 0 to %d", rule.Tier, Dangerous)
			}
		}
	}
	for hash := range r.Pins {
		if len(hash) != len(Hash("")) || strings.Trim(hash, "0123456789abcdef") != "" {
			return errs.Field("pins."+hash, "is no SHA-256 in lower-case hex; give the hash that the verdict shows")
		}
	}
	return nil
}

// split finds what "table.column" names.
func (c *catalog) split(name string) (*table, *column, error) {
	tableName, columnName, ok := strings.Cut(name, ".")
	if !ok {
		return nil, nil, fmt.Errorf("%q has no column", name)
	}
	t := c.table(tableName)
	if t == nil {
		return nil, nil, fmt.Errorf("no such table: %s%s", tableName, c.similarTable(tableName))
	}
	col := t.column(columnName)
	if col == nil {
		return nil, nil, fmt.Errorf("no such column: %s.%s", tableName, columnName)
	}
	return t, col, nil
}

func (c *catalog) similarTable(name string) string {
	return similar(name, slices.Collect(maps.Keys(c.names)))
}

// tableRule is the tier of a table by the rules, or as shipped.
func (e *Engine) tableRule(t *table) Rule {
	if r, ok := e.rules.Tables[t.name]; ok {
		return r.or("tier set by a table policy")
	}
	return t.risk
}

func (e *Engine) columnRule(t *table, c *column) Rule {
	if r, ok := e.rules.Columns[t.name+"."+c.name()]; ok {
		return r.or("tier set by a table policy")
	}
	return c.risk
}

func (e *Engine) functionRule(f *function) Rule {
	if r, ok := e.rules.Functions[f.name]; ok {
		return r.or("tier set by a table policy")
	}
	return f.risk
}

// or returns the rule with a reason, if it has none.
func (r Rule) or(reason string) Rule {
	if r.Reason == "" {
		r.Reason = reason
	}
	return r
}

// ColumnInfo is what people should know of one column.
type ColumnInfo struct {
	Name   string `json:"name"`
	Tier   Tier   `json:"tier"`
	Reason string `json:"reason"`
}

// ArgumentInfo is a column through which a query tells its table what to do.
type ArgumentInfo struct {
	Column string `json:"column"`
	Kind   string `json:"kind"` // path, url, registry, search, rule, key, text, effect
	Reason string `json:"reason"`
	// Allowed are the patterns of the rules; none means that any argument is
	// judged by itself.
	Allowed []string `json:"allowed"`
}

// TableInfo is what the policy knows of one table.
type TableInfo struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Tier        Tier           `json:"tier"`
	Reason      string         `json:"reason"`
	Classes     []string       `json:"classes"` // in words
	Platforms   []string       `json:"platforms"`
	Aliases     []string       `json:"aliases"`
	Evented     bool           `json:"evented"`
	UserData    bool           `json:"user_data"` // root sees its own rows only, unless joined on users
	Required    []string       `json:"required"`  // one of these must be constrained; empty if none must
	Columns     []ColumnInfo   `json:"columns"`   // those with a tier of their own
	Arguments   []ArgumentInfo `json:"arguments"`
}

// Table explains a table by any of its names.
func (e *Engine) Table(name string) (TableInfo, bool) {
	t := e.catalog.table(name)
	if t == nil {
		return TableInfo{}, false
	}
	return e.info(t), true
}

// Tables explains all tables, sorted by name.
func (e *Engine) Tables() []TableInfo {
	all := make([]TableInfo, 0, len(e.catalog.tables))
	for _, t := range e.catalog.tables {
		all = append(all, e.info(t))
	}
	slices.SortFunc(all, func(a, b TableInfo) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (e *Engine) info(t *table) TableInfo {
	rule := e.tableRule(t)
	result := TableInfo{
		Name: t.name, Description: t.description, Tier: rule.Tier, Reason: rule.Reason,
		Classes: []string{}, Platforms: slices.Clone(t.platforms), Aliases: append([]string{}, t.aliases...),
		Evented: t.evented, UserData: t.userData,
		Required: []string{}, Columns: []ColumnInfo{}, Arguments: []ArgumentInfo{},
	}
	for _, letter := range t.classes {
		result.Classes = append(result.Classes, classWord(letter))
	}
	for i := range t.columns {
		c := &t.columns[i]
		if c.real != "" {
			continue
		}
		if c.Required {
			result.Required = append(result.Required, c.Name)
		}
		if r := e.columnRule(t, c); r != (Rule{}) {
			result.Columns = append(result.Columns, ColumnInfo{Name: c.Name, Tier: r.Tier, Reason: r.Reason})
		}
		if c.arg != nil {
			allowed := append([]string{}, e.rules.Arguments[t.name+"."+c.Name]...)
			result.Arguments = append(result.Arguments, ArgumentInfo{Column: c.Name, Kind: c.arg.kind, Reason: c.arg.reason, Allowed: allowed})
		}
	}
	return result
}
