// Package hostsql answers osquery SQL about the Linux host it runs on. Each
// supported osquery table is a SQLite virtual table whose columns come from
// the schema facts in package osquery and whose rows come from /proc, /sys,
// /etc and system calls at the time of the query. It reads only: it starts no
// program, opens no connection and writes no file.
//
// Sources: osquery/sql/virtual_table.cpp, osquery/sql/sqlite_util.cpp and the
// tables' specs at commit a5b14f63d.
package hostsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/osquery"
)

// Limits of one query, so that a careless one cannot take the host's memory.
const (
	defaultMaxRows = 1_000_000
	defaultReadMax = 50 << 20 // osquery's read_max
)

// maxIdle is how many idle SQLite connections are kept. The agent has one
// thread for the schedule and one for distributed queries.
const maxIdle = 2

// ErrSeveralStatements is returned for a text of more than one statement. The
// real agent answers such a distributed query with the message "map::at".
var ErrSeveralStatements = errors.New("several statements in one query are not supported")

// errBlank is what osquery says about a query without a statement.
var errBlank = &Error{Message: "not an error"}

// An Error is SQLite's or a table's own message, as osquery reports it.
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

// Values is one row that a table yields, by column name. A missing column is
// NULL, which osquery shows as "". Strings are converted to the column's type;
// one that is not a number becomes NULL in a numeric column.
type Values map[string]any

// A Generator yields the rows of a table. It may yield more than the
// constraints ask for, as SQLite filters again, and must skip what it cannot
// read. It stops with the error that yield returns.
type Generator func(ctx context.Context, q Constraints, yield func(Values) error) error

// Options of a DB. The zero value is a sound choice.
type Options struct {
	// Root is put before every path that the system's tables read, except
	// those named in a query; "" means /.
	Root string
	// Tables adds generators for tables of the osquery schema, or replaces
	// ours: an agent has its own osquery_info, osquery_flags and so on.
	Tables map[string]Generator
	// Disable names tables that are to be unknown, as osquery's
	// --disable_tables. It wins over Enable.
	Disable []string
	// Enable, if not empty, names the only tables there are.
	Enable []string
	// MaxRows bounds the rows of one answer and of one table scan;
	// 1,000,000 if 0.
	MaxRows int
	// ReadMax is the size in bytes up to which a file is hashed; 50 MiB if 0.
	ReadMax int64
	// Warn, if set, receives what osquery would put in its status log.
	Warn func(ctx context.Context, message string)
}

// DB answers queries. It is safe for concurrent use.
type DB struct {
	options Options
	tables  []*table
	idle    chan *session
}

// Result is a query's answer with SQLite's own types: nil, int64, float64,
// string or []byte.
type Result struct {
	Columns []string
	Values  [][]driver.Value
}

// Open loads the schema and prepares the tables.
func Open(o Options) (*DB, error) {
	if o.MaxRows == 0 {
		o.MaxRows = defaultMaxRows
	}
	if o.ReadMax == 0 {
		o.ReadMax = defaultReadMax
	}
	if o.Warn == nil {
		o.Warn = func(context.Context, string) {}
	}
	schema, err := osquery.LoadSchema()
	if err != nil {
		return nil, err
	}
	h := &host{root: o.Root, readMax: o.ReadMax, warn: o.Warn}
	generators := h.generators()
	maps.Copy(generators, o.Tables)
	db := &DB{options: o, idle: make(chan *session, maxIdle)}
	for _, t := range schema {
		g := generators[t.Name]
		if g == nil || !t.On("linux") {
			continue
		}
		delete(generators, t.Name)
		if slices.Contains(o.Disable, t.Name) || len(o.Enable) > 0 && !slices.Contains(o.Enable, t.Name) {
			continue
		}
		db.tables = append(db.tables, newTable(t, g, o))
	}
	for name := range generators {
		return nil, fmt.Errorf("table %s is not in the osquery schema for Linux", name)
	}
	s, err := db.open()
	if err != nil {
		return nil, err
	}
	db.put(s)
	return db, nil
}

// Close frees the idle connections. Queries must have ended.
func (db *DB) Close() error {
	var all []error
	for {
		select {
		case s := <-db.idle:
			all = append(all, s.conn.Close())
		default:
			return errors.Join(all...)
		}
	}
}

// TableNames returns the names of the tables there are, sorted.
func (db *DB) TableNames() []string {
	names := make([]string, len(db.tables))
	for i, t := range db.tables {
		names[i] = t.name
	}
	return names
}

// Query runs one statement and returns its rows as osquery shows them, with
// the columns in the order of the SELECT.
func (db *DB) Query(ctx context.Context, sql string) ([]osquery.Row, []string, error) {
	result, err := db.Select(ctx, sql)
	if err != nil {
		return nil, nil, err
	}
	return result.Rows(), result.Columns, nil
}

// Select runs one statement and returns its values with their types.
func (db *DB) Select(ctx context.Context, sql string) (*Result, error) {
	statements := SplitStatements(sql)
	switch len(statements) {
	case 0:
		return nil, errBlank
	case 1:
	default:
		return nil, ErrSeveralStatements
	}
	s, err := db.get()
	if err != nil {
		return nil, err
	}
	result, err := s.query(ctx, statements[0], db.options.MaxRows)
	if ctx.Err() != nil {
		// An interrupted connection may keep state of the interrupted table.
		return nil, errors.Join(context.Cause(ctx), s.conn.Close())
	}
	db.put(s)
	return result, err
}

func (db *DB) get() (*session, error) {
	select {
	case s := <-db.idle:
		return s, nil
	default:
		return db.open()
	}
}

func (db *DB) put(s *session) {
	select {
	case db.idle <- s:
	default:
		_ = s.conn.Close() // in memory: nothing can be lost
	}
}

// Rows returns the values as text.
func (r *Result) Rows() []osquery.Row {
	rows := make([]osquery.Row, len(r.Values))
	for i, values := range r.Values {
		row := make(osquery.Row, len(values))
		for j, v := range values {
			row[j] = osquery.Column{Name: r.Columns[j], Value: Text(v)}
		}
		rows[i] = row
	}
	return rows
}

// Text returns a value as osquery writes it: NULL is "", doubles have 15
// significant digits and always a point, blobs end at their first NUL.
func Text(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		s := strconv.FormatFloat(v, 'g', 15, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case string:
		return v
	case []byte:
		s, _, _ := strings.Cut(string(v), "\x00")
		return s
	default: // the driver makes no other type from our declarations
		return fmt.Sprint(v)
	}
}
