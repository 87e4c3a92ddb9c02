package hostsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"modernc.org/sqlite/vtab"

	"github.com/musterhq/muster/internal/osquery"
)

// A column as SQLite sees it.
type column struct {
	name    string
	kind    string // of the schema: TEXT, INTEGER, BIGINT, UNSIGNED_BIGINT, DOUBLE
	pushed  bool   // a generator can use constraints on it
	need    bool   // one of the required columns
	aliased string // the column this is another name of; "" for a real one
}

// table is one osquery table, shared by all sessions.
type table struct {
	name     string
	declare  string
	columns  []column
	required bool
	generate Generator
	maxRows  int
	warn     func(context.Context, string)
}

func newTable(t osquery.SchemaTable, g Generator, o Options) *table {
	result := &table{name: t.Name, generate: g, maxRows: o.MaxRows, warn: o.Warn}
	var declared []string
	add := func(c osquery.SchemaColumn, name, aliased string) {
		result.columns = append(result.columns, column{
			name: name, kind: c.Type, aliased: aliased, need: c.Required,
			pushed: c.Required || c.Index || c.Additional || c.Optimized,
		})
		result.required = result.required || c.Required
		d := "`" + name + "` " + strings.ReplaceAll(c.Type, "_", " ")
		if c.Hidden || !c.On("linux") || aliased != "" {
			d += " HIDDEN" // SQLite looks for it in the type, so before COLLATE
		}
		if c.Collate != "" {
			d += " COLLATE " + c.Collate
		}
		declared = append(declared, d)
	}
	for _, c := range t.Columns {
		add(c, c.Name, "")
	}
	for _, c := range t.Columns {
		for _, alias := range c.Aliases {
			add(c, alias, c.Name)
		}
	}
	result.declare = "CREATE TABLE x(" + strings.Join(declared, ", ") + ")"
	return result
}

// convert turns a generator's value into one of the column's type, as
// osquery's xColumn does with the text that tables yield.
func (c column) convert(v any) (driver.Value, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return c.parse(v), nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case int:
		return c.number(int64(v)), nil
	case int32:
		return c.number(int64(v)), nil
	case uint32:
		return c.number(int64(v)), nil
	case int64:
		return c.number(v), nil
	case uint64:
		return c.number(int64(v)), nil //nolint:gosec // SQLite has no unsigned; osquery wraps too
	case float64:
		if c.kind == "TEXT" {
			return Text(v), nil
		}
		return v, nil
	}
	return nil, fmt.Errorf("column %s: unexpected %T", c.name, v)
}

func (c column) parse(s string) driver.Value {
	switch c.kind {
	case "TEXT":
		return s
	case "DOUBLE":
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	default:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			return int64(n) //nolint:gosec // as above
		}
	}
	return nil
}

func (c column) number(n int64) driver.Value {
	switch c.kind {
	case "TEXT":
		return strconv.FormatInt(n, 10)
	case "DOUBLE":
		return float64(n)
	}
	return n
}

// Constraints are what a query's WHERE clause says about the columns that the
// schema marks as useful, and which columns the query reads at all.
type Constraints struct {
	equal map[string][]string
	like  map[string][]string
	used  uint64
	index map[string]int
}

// Equal returns the values that a column must equal: none if it is free, more
// than one only for a condition that hardly anything fulfils, such as
// a=1 AND a=2.
func (q Constraints) Equal(column string) []string { return q.equal[column] }

// Like returns the patterns of LIKE on a column.
func (q Constraints) Like(column string) []string { return q.like[column] }

// Uses reports whether the query reads a column. SQLite counts 63 columns
// exactly and the rest as one.
func (q Constraints) Uses(column string) bool {
	i, ok := q.index[column]
	return ok && q.used&(1<<min(i, 63)) != 0
}

type module struct {
	session *session
	tables  []*table
}

var (
	_ vtab.Module = (*module)(nil)
	_ vtab.Table  = (*instance)(nil)
	_ vtab.Cursor = (*cursor)(nil)
)

// Create declares the table whose name is in args.
func (m *module) Create(ctx vtab.Context, args []string) (vtab.Table, error) {
	const nameArg = 2 // after module and database
	if len(args) <= nameArg {
		return nil, errors.New("no table name")
	}
	for _, t := range m.tables {
		if t.name == args[nameArg] {
			if err := ctx.Declare(t.declare); err != nil {
				return nil, fmt.Errorf("declare: %w", err)
			}
			return &instance{session: m.session, table: t}, nil
		}
	}
	return nil, fmt.Errorf("no table %s", args[nameArg])
}

// Connect is Create: an in-memory database is never opened a second time.
func (m *module) Connect(ctx vtab.Context, args []string) (vtab.Table, error) {
	return m.Create(ctx, args)
}

// instance is a table in one session.
type instance struct {
	session *session
	table   *table
}

// The plan's first character says whether a required column is constrained.
const (
	planGood    = "+"
	planMissing = "!"
)

// BestIndex asks for the constraints that generators can use. The plan string
// is: planGood or planMissing, the used columns in hex, and for each argument
// "<op><column>" where op is = or ~ (LIKE).
func (t *instance) BestIndex(info *vtab.IndexInfo) error {
	cost := 1e6
	satisfied := !t.table.required
	var args []string
	for i, c := range info.Constraints {
		if !c.Usable || c.Column < 0 || c.Column >= len(t.table.columns) || c.Op == vtab.OpLIMIT || c.Op == vtab.OpOFFSET {
			continue
		}
		column := t.table.columns[c.Column]
		if column.need {
			satisfied = true
		}
		if !column.pushed {
			continue
		}
		var op string
		switch c.Op {
		case vtab.OpEQ, vtab.OpIS:
			op, cost = "=", cost/1e3
		case vtab.OpLIKE:
			op, cost = "~", cost/10
		default:
			continue
		}
		info.Constraints[i].ArgIndex = len(args)
		args = append(args, op+strconv.Itoa(c.Column))
	}
	plan := planGood
	if !satisfied {
		plan, cost = planMissing, 1e12
	}
	info.IdxStr = strings.Join(append([]string{plan, strconv.FormatUint(info.ColUsed, 16)}, args...), " ")
	info.EstimatedCost = cost
	info.EstimatedRows = int64(cost / 1e3)
	return nil
}

// Open returns a cursor.
func (t *instance) Open() (vtab.Cursor, error) { return &cursor{instance: t}, nil }

// Disconnect has nothing to free.
func (t *instance) Disconnect() error { return nil }

// Destroy has nothing to free.
func (t *instance) Destroy() error { return nil }

// cursor holds the rows of one scan.
type cursor struct {
	*instance
	rows [][]driver.Value
	ids  []int64 // of the rows; made when first asked for
	at   int
}

// Filter runs the generator. A defect in one must not end the agent, so a
// panic becomes the query's error, as osquery does with exceptions.
func (c *cursor) Filter(_ int, plan string, vals []vtab.Value) (err error) {
	ctx := c.session.ctx()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("exception while executing table %s: %v", c.table.name, r)
		}
	}()
	c.rows, c.ids, c.at = nil, nil, 0
	q, err := c.constraints(plan, vals)
	if err != nil {
		c.table.warn(ctx, err.Error())
		return err
	}
	return c.table.generate(ctx, q, func(v Values) error { return c.add(ctx, v) })
}

func (c *cursor) constraints(plan string, vals []vtab.Value) (Constraints, error) {
	t := c.table
	words := strings.Fields(plan)
	const argsAt = 2
	if len(words) < argsAt || len(words)-argsAt != len(vals) {
		return Constraints{}, fmt.Errorf("table %s: bad plan %q", t.name, plan)
	}
	if words[0] == planMissing {
		return Constraints{}, fmt.Errorf("Table %s was queried without a required column in the WHERE clause", t.name) //nolint:staticcheck // osquery's words
	}
	used, err := strconv.ParseUint(words[1], 16, 64)
	if err != nil {
		return Constraints{}, fmt.Errorf("table %s: bad plan %q", t.name, plan)
	}
	q := Constraints{equal: map[string][]string{}, like: map[string][]string{}, used: used, index: make(map[string]int, len(t.columns))}
	for i, column := range t.columns {
		q.index[column.name] = i
	}
	for i, word := range words[argsAt:] {
		at, err := strconv.Atoi(word[1:])
		if err != nil || at >= len(t.columns) {
			return Constraints{}, fmt.Errorf("table %s: bad plan %q", t.name, plan)
		}
		name := t.columns[at].name
		if t.columns[at].aliased != "" {
			name = t.columns[at].aliased
		}
		value := strings.Clone(Text(vals[i]))
		if word[0] == '=' {
			q.equal[name] = append(q.equal[name], value)
		} else {
			q.like[name] = append(q.like[name], value)
		}
	}
	return q, nil
}

func (c *cursor) add(ctx context.Context, v Values) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(c.rows) == c.table.maxRows {
		return fmt.Errorf("table %s has more than %d rows", c.table.name, c.table.maxRows)
	}
	row := make([]driver.Value, len(c.table.columns))
	known := 0
	for i, column := range c.table.columns {
		name := column.name
		if column.aliased != "" {
			name = column.aliased
		}
		value, ok := v[name]
		if !ok {
			continue
		}
		if column.aliased == "" {
			known++
		}
		var err error
		if row[i], err = column.convert(value); err != nil {
			return err
		}
	}
	if known != len(v) {
		return fmt.Errorf("table %s yields a column that the schema lacks", c.table.name)
	}
	c.rows = append(c.rows, row)
	return nil
}

// Next moves to the next row.
func (c *cursor) Next() error { c.at++; return nil }

// Eof reports whether there are no more rows.
func (c *cursor) Eof() bool { return c.at >= len(c.rows) } //nolint:staticcheck // the interface has this name

// Column returns a value of the current row.
func (c *cursor) Column(i int) (vtab.Value, error) {
	if c.Eof() || i < 0 || i >= len(c.rows[c.at]) {
		return nil, nil
	}
	return c.rows[c.at][i], nil
}

// Rowid returns a hash of the row, so that it is the same in every scan of one
// query: SQLite answers "path = 'a' OR path = 'b'" with two scans and drops
// rows whose id it has seen. Equal rows of one scan differ by their count.
func (c *cursor) Rowid() (int64, error) {
	if c.ids == nil {
		c.ids = make([]int64, len(c.rows))
		counts := map[uint64]int{}
		for i, row := range c.rows {
			h := fnv.New64a()
			for _, v := range row {
				_, _ = fmt.Fprintf(h, "%T%v\x00", v, v) // a hash takes everything
			}
			plain := h.Sum64()
			_, _ = fmt.Fprint(h, counts[plain])
			counts[plain]++
			c.ids[i] = int64(h.Sum64()) //nolint:gosec // any number does
		}
	}
	if c.Eof() {
		return 0, nil
	}
	return c.ids[c.at], nil
}

// Close frees the rows.
func (c *cursor) Close() error { c.rows, c.ids = nil, nil; return nil }
