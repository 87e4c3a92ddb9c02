package agenttest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/musterhq/muster/internal/osquery"
)

// Tables answers SQL with made-up rows: it looks for the column names of a
// simple SELECT and the table after FROM, and fills them from what the host is
// and, where it does not know better, with plausible values of the column's
// type. Of the WHERE clause it obeys only equalities joined by AND, and LIMIT
// with a number. It never runs SQL. An unknown table or column fails as in
// osquery. Two markers anywhere in the text, best in a comment, ask for more:
//
//	simulate:error    the query fails
//	simulate:silence  no answer at all, as of a query that killed the agent
//
// The zero value is ready. It is safe for concurrent use.
type Tables struct {
	load   sync.Once
	byName map[string]osquery.SchemaTable
	err    error
}

// Answer returns what a host says to a query. ok is false for silence.
func (t *Tables) Answer(h Host, id, sql string) (answer osquery.QueryAnswer, ok bool) {
	if strings.Contains(sql, "simulate:silence") {
		return osquery.QueryAnswer{}, false
	}
	answer = osquery.QueryAnswer{ID: id, Rows: []osquery.Row{}}
	rows, err := t.query(h, sql)
	if err != nil {
		answer.Status, answer.Message = 1, err.Error()
		return answer, true
	}
	answer.Rows = rows
	answer.Stats = osquery.QueryStats{WallTimeMs: int64(1 + len(rows)/20), UserTime: 1, Memory: int64(len(rows)) << 10}
	return answer, true
}

// answerAll answers a whole read, by answer, in byte order of the ids. A query
// whose discovery query has no rows is skipped; one that fails drops everything.
func (t *Tables) answerAll(h Host, read osquery.DistributedReadResponse, answer func(id, sql string) (osquery.QueryAnswer, bool)) []osquery.QueryAnswer {
	skip := map[string]bool{}
	for id, sql := range read.Discovery {
		rows, err := t.query(h, sql)
		if err != nil {
			return nil
		}
		skip[id] = len(rows) == 0
	}
	var answers []osquery.QueryAnswer
	for _, id := range slices.Sorted(maps.Keys(read.Queries)) {
		if skip[id] {
			continue
		}
		if a, ok := answer(id, read.Queries[id]); ok {
			answers = append(answers, a)
		}
	}
	return answers
}

var (
	comments      = regexp.MustCompile(`(?s)/\*.*?\*/|--[^\n]*`)
	selectPattern = regexp.MustCompile(`(?is)^\s*select\s+(?:distinct\s+|all\s+)?(.+?)(?:\s+from\s+([a-z_][a-z0-9_]*)(.*?))?[\s;]*$`)
	wherePattern  = regexp.MustCompile(`(?is)\bwhere\b(.*?)(?:\b(?:group|order|limit)\b|$)`)
	limitPattern  = regexp.MustCompile(`(?is)\blimit\s+(\d+)\s*$`)
	equality      = regexp.MustCompile(`(?is)^\s*(?:[a-z_]\w*\.)?([a-z_]\w*)\s*==?\s*(?:'([^']*)'|(-?\d+))\s*$`)
	conjunction   = regexp.MustCompile(`(?i)\band\b`)
	aliasPattern  = regexp.MustCompile(`(?is)^(.*?)\s+as\s+["']?([a-z_]\w*)["']?$`)
	columnName    = regexp.MustCompile(`(?i)^(?:[a-z_]\w*\.)?([a-z_]\w*)$`)
	literal       = regexp.MustCompile(`(?s)^(?:(-?\d+(?:\.\d+)?)|'([^']*)')$`)
)

// notUnderstood is the answer to SQL that is not a simple SELECT.
func notUnderstood() []osquery.Row {
	return []osquery.Row{{{Name: "simulated", Value: "1"}}}
}

func (t *Tables) query(h Host, sql string) ([]osquery.Row, error) {
	if strings.Contains(sql, "simulate:error") {
		return nil, errors.New("simulated failure")
	}
	m := selectPattern.FindStringSubmatch(comments.ReplaceAllString(sql, " "))
	if m == nil {
		return notUnderstood(), nil
	}
	list, name, tail := splitList(m[1]), strings.ToLower(m[2]), m[3]
	if name == "" {
		return []osquery.Row{project(list, nil, map[string]string{}, 1)}, nil
	}
	table, err := t.table(h, name)
	if err != nil {
		return nil, err
	}
	wanted, filterable := constraints(tail)
	if err := required(table, tail); err != nil {
		return nil, err
	}
	joined := !filterable || strings.Contains(strings.ToLower(tail), "join") || strings.HasPrefix(strings.TrimSpace(tail), ",")
	if !joined {
		if err := known(table, list); err != nil {
			return nil, err
		}
	}
	rows := h.rows(table, wanted)
	if !joined {
		rows = slices.DeleteFunc(rows, func(row map[string]string) bool {
			return slices.ContainsFunc(wanted, func(c osquery.Column) bool { return row[c.Name] != c.Value })
		})
	}
	count := len(rows)
	if aggregates(list) {
		rows = []map[string]string{{}}
	}
	if l := limitPattern.FindStringSubmatch(tail); l != nil {
		if limit, err := strconv.Atoi(l[1]); err == nil && limit < len(rows) {
			rows = rows[:limit]
		}
	}
	out := make([]osquery.Row, len(rows))
	for i, row := range rows {
		out[i] = project(list, visible(table, h.Platform), row, count)
	}
	return out, nil
}

// table finds one that exists on the host.
func (t *Tables) table(h Host, name string) (osquery.SchemaTable, error) {
	t.load.Do(func() {
		tables, err := osquery.LoadSchema()
		t.byName, t.err = map[string]osquery.SchemaTable{}, err
		for _, table := range tables {
			t.byName[table.Name] = table
		}
	})
	if t.err != nil {
		return osquery.SchemaTable{}, t.err
	}
	table, ok := t.byName[name]
	if !ok || !table.On(h.Platform) {
		return table, fmt.Errorf("no such table: %s", name)
	}
	return table, nil
}

// required fails as osquery does when a table needs a constraint.
func required(table osquery.SchemaTable, tail string) error {
	needs := false
	for _, c := range table.Columns {
		if c.Required && regexp.MustCompile(`(?i)\b`+c.Name+`\b`).MatchString(tail) {
			return nil
		}
		needs = needs || c.Required
	}
	if needs {
		return fmt.Errorf("Table %s was queried without a required column in the WHERE clause", table.Name) //nolint:staticcheck // osquery's own words
	}
	return nil
}

// known fails as SQLite does for a plain column that the table lacks.
func known(table osquery.SchemaTable, list []item) error {
	for _, it := range list {
		m := columnName.FindStringSubmatch(it.expr)
		if m == nil {
			continue
		}
		name := m[1]
		if !slices.ContainsFunc(table.Columns, func(c osquery.SchemaColumn) bool {
			return strings.EqualFold(c.Name, name) || slices.Contains(c.Aliases, name)
		}) {
			return fmt.Errorf("no such column: %s", it.expr)
		}
	}
	return nil
}

func visible(table osquery.SchemaTable, platform string) []string {
	var names []string
	for _, c := range table.Columns {
		if !c.Hidden && c.On(platform) {
			names = append(names, c.Name)
		}
	}
	return names
}

// constraints returns the equalities of a WHERE clause; ok is false if it has
// anything else.
func constraints(tail string) (wanted []osquery.Column, ok bool) {
	m := wherePattern.FindStringSubmatch(tail)
	if m == nil {
		return nil, true
	}
	ok = true
	for _, part := range conjunction.Split(m[1], -1) {
		e := equality.FindStringSubmatch(part)
		if e == nil {
			ok = false
			continue
		}
		wanted = append(wanted, osquery.Column{Name: strings.ToLower(e[1]), Value: cmp.Or(e[2], e[3])})
	}
	return wanted, ok
}

// item is one entry of a SELECT list.
type item struct{ expr, name string }

// splitList cuts a SELECT list at commas outside parentheses and quotes.
func splitList(list string) []item {
	var items []item
	depth, start, quoted := 0, 0, false
	add := func(text string) {
		text = strings.TrimSpace(text)
		it := item{expr: text, name: text}
		if m := aliasPattern.FindStringSubmatch(text); m != nil {
			it = item{strings.TrimSpace(m[1]), m[2]}
		} else if m := columnName.FindStringSubmatch(text); m != nil {
			it.name = m[1]
		}
		items = append(items, it)
	}
	for i := range len(list) {
		switch c := list[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			add(list[start:i])
			start = i + 1
		}
	}
	add(list[start:])
	return items
}

// aggregates reports whether the list makes one row of all.
func aggregates(list []item) bool {
	return slices.ContainsFunc(list, func(it item) bool {
		e := strings.ToLower(it.expr)
		return slices.ContainsFunc([]string{"count(", "sum(", "avg(", "total(", "group_concat("}, func(f string) bool {
			return strings.HasPrefix(e, f)
		})
	})
}

// project returns the columns of a SELECT list in its order.
func project(list []item, all []string, row map[string]string, count int) osquery.Row {
	var out osquery.Row
	for _, it := range list {
		if it.expr == "*" || strings.HasSuffix(it.expr, ".*") {
			for _, name := range all {
				out = append(out, osquery.Column{Name: name, Value: row[name]})
			}
			continue
		}
		value := strconv.Itoa(count)
		if m := columnName.FindStringSubmatch(it.expr); m != nil {
			value = row[strings.ToLower(m[1])]
		} else if m := literal.FindStringSubmatch(it.expr); m != nil {
			value = m[1] + m[2]
		}
		out = append(out, osquery.Column{Name: it.name, Value: value})
	}
	return out
}
