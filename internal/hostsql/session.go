package hostsql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

// moduleName is the one module behind all tables. The driver shares module
// names with the whole process, and a table's own name there would clash with
// any other package that declares osquery's tables.
const moduleName = "muster_hostsql"

// A session is one SQLite connection with all tables. Its owner has it alone.
type session struct {
	conn driver.Conn
	// ctx is the running query's context; the virtual tables have no other way
	// to learn it.
	ctx func() context.Context
}

// open makes a session. Each has a driver of its own, as that is what the
// module and the functions are registered on; the SQLite package keeps a few
// hundred bytes per driver for the life of the process.
func (db *DB) open() (_ *session, err error) {
	s := &session{ctx: context.Background}
	d := &sqlite.Driver{}
	if err := d.RegisterModule(moduleName, &module{session: s, tables: db.tables}); err != nil {
		return nil, fmt.Errorf("register tables: %w", err)
	}
	for _, f := range functions() {
		if err := registerFunction(d, f); err != nil {
			return nil, fmt.Errorf("register function %s: %w", f.name, err)
		}
	}
	for _, name := range []string{"version", "version_arch", "version_dpkg", "version_rhel"} {
		if err := d.RegisterCollationUtf8(name, CompareVersions); err != nil {
			return nil, fmt.Errorf("register collation %s: %w", name, err)
		}
	}
	s.conn, err = d.Open(":memory:")
	if err != nil {
		return nil, fmt.Errorf("open SQLite in memory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.conn.Close()
		}
	}()
	execer, ok := s.conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.New("the SQLite driver cannot execute")
	}
	for _, t := range db.tables {
		if _, err := execer.ExecContext(context.Background(), fmt.Sprintf(`CREATE VIRTUAL TABLE %q USING %s`, t.name, moduleName), nil); err != nil {
			return nil, fmt.Errorf("create table %s: %w", t.name, err)
		}
	}
	authorizer, ok := s.conn.(sqlite.AuthorizerRegisterer)
	if !ok {
		return nil, errors.New("the SQLite driver has no authorizer")
	}
	if err := authorizer.RegisterAuthorizer(authorize); err != nil {
		return nil, fmt.Errorf("set authorizer: %w", err)
	}
	return s, nil
}

// authorize lets a query read. osquery's own list
// (osquery/sql/sqlite_util.cpp) also allows tables, views and writes to
// extensions' tables, which an agent for demonstrations does without.
func authorize(action sqlite.AuthorizerActionCode, arg1, _, _, _ string) sqlite.AuthorizerReturnCode {
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthFunction, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthPragma:
		if slices.Contains([]string{"table_info", "table_xinfo", "function_list", "collation_list"}, strings.ToLower(arg1)) {
			return sqlite.AuthorizerOK
		}
	default:
	}
	return sqlite.AuthorizerDeny
}

func (s *session) query(ctx context.Context, sql string, maxRows int) (*Result, error) {
	s.ctx = func() context.Context { return ctx }
	queryer, ok := s.conn.(driver.QueryerContext)
	if !ok {
		return nil, errors.New("the SQLite driver cannot query")
	}
	rows, err := queryer.QueryContext(ctx, sql, nil)
	if err != nil {
		return nil, sqliteError(err)
	}
	defer rows.Close() //nolint:errcheck // a reader; Next has told every error
	result := &Result{Columns: slices.Clone(rows.Columns())}
	for {
		values := make([]driver.Value, len(result.Columns))
		err := rows.Next(values)
		if errors.Is(err, io.EOF) {
			return result, nil
		}
		if err != nil {
			return nil, sqliteError(err)
		}
		if len(result.Values) == maxRows {
			return nil, &Error{Message: fmt.Sprintf("the answer has more than %d rows", maxRows)}
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok {
				values[i] = slices.Clone(b) // the driver's until the next row
			}
		}
		result.Values = append(result.Values, values)
	}
}

// sqliteError keeps SQLite's message alone: the driver writes
// "SQL logic error: no such table: x (1)" where osquery says "no such table: x".
func sqliteError(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	message := e.Error()
	if i := strings.LastIndex(message, " ("); i > 0 {
		message = message[:i]
	}
	if _, rest, ok := strings.Cut(message, ": "); ok {
		message = rest
	}
	return &Error{Message: message}
}
