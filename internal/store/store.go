// Package store keeps the server's state in SQLite or PostgreSQL: nodes, enroll
// secrets, live queries, people and the audit log. It holds one SQL text for
// both; what differs is in dialect.go. It decides nothing: what a state means
// is for the domain packages, whose store interfaces it implements.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

// Options say which database.
type Options struct {
	// URL is a PostgreSQL URL (postgres://…), or else the path of the SQLite
	// file, which is made if it is not there; its directory must exist.
	URL string
	Log *slog.Logger
	Now func() time.Time
}

// Store is the state of the server. Safe for concurrent use. A method that
// changes something is one transaction, unless it says otherwise, and returns
// after that is on disk. A full disk or an overloaded database is an error of
// kind Busy: nothing was changed and trying again may help.
type Store struct {
	write    *sql.DB
	read     *sql.DB // the same as write on PostgreSQL
	dialect  dialect
	location string
	writer   *writer // nil on PostgreSQL
	secrets  secretNames
	log      *slog.Logger
	now      func() time.Time
}

// Open opens the database and brings its tables up to date. A database that a
// newer Muster wrote is an error.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.URL == "" || o.Log == nil || o.Now == nil {
		return nil, errors.New("store: URL, Log and Now are required")
	}
	s := &Store{dialect: dialectOf(o.URL), location: o.URL, log: o.Log, now: o.Now}
	var err error
	if s.write, s.read, err = s.dialect.open(ctx, o.URL); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("update the database's tables: %w", err), s.Close())
	}
	if s.dialect == onSQLite {
		s.writer = newWriter(s.write)
	}
	if err := s.adoptAudit(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read the audit log: %w", err), s.Close())
	}
	return s, nil
}

// Close ends all connections. No method may be called after it.
func (s *Store) Close() error {
	if s.read == s.write {
		return s.write.Close()
	}
	if s.writer != nil {
		s.writer.close()
	}
	return errors.Join(s.read.Close(), s.write.Close()) // the last writer empties the log
}

// Ping reports whether the database answers, and on SQLite whether its writer
// is free before ctx ends.
func (s *Store) Ping(ctx context.Context) error {
	for _, db := range []*sql.DB{s.read, s.write} {
		var one int
		if err := db.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
			return fail("ping", err)
		}
	}
	return nil
}

// tx is one transaction that writes.
type tx struct {
	*sql.Tx
	dialect    dialect
	statements *statements // nil on PostgreSQL, whose driver keeps its own
}

// ExecContext is that of sql.Tx with a prepared statement, if there is one.
// Within a shared transaction no caller's ctx interrupts; see writer.
func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if t.statements == nil {
		return t.Tx.ExecContext(ctx, query, args...)
	}
	ctx = context.WithoutCancel(ctx)
	if stmt := t.statements.find(query); stmt != nil {
		return t.StmtContext(ctx, stmt).ExecContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// QueryContext is like ExecContext.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if t.statements == nil {
		return t.Tx.QueryContext(ctx, query, args...)
	}
	ctx = context.WithoutCancel(ctx)
	if stmt := t.statements.find(query); stmt != nil {
		return t.StmtContext(ctx, stmt).QueryContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext is like ExecContext.
func (t *tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if t.statements == nil {
		return t.Tx.QueryRowContext(ctx, query, args...)
	}
	ctx = context.WithoutCancel(ctx)
	if stmt := t.statements.find(query); stmt != nil {
		return t.StmtContext(ctx, stmt).QueryRowContext(ctx, args...) //nolint:sqlclosecheck // the transaction closes it
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}

// querier is what reads need, in a transaction and outside.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// How often a transaction is tried that lost against another, and how the
// pauses between grow.
const (
	maxTries   = 8
	firstPause = 2 * time.Millisecond
)

// tx runs f in a transaction and commits it unless f fails. It runs f again if
// the database gave up in favour of another transaction, so f must set what it
// returns anew each time.
func (s *Store) tx(ctx context.Context, f func(*tx) error) error {
	pause := firstPause
	for try := 1; ; try++ {
		err := s.once(ctx, f)
		if err == nil || !lost(err) || try == maxTries {
			return err
		}
		s.log.DebugContext(ctx, "transaction lost against another; trying again", "try", try, "error", err)
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			wait.Stop()
			return err
		case <-wait.C:
		}
		pause *= 2
	}
}

func (s *Store) once(ctx context.Context, f func(*tx) error) error {
	if s.writer != nil {
		return s.writer.do(ctx, f)
	}
	t, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = t.Rollback() }() // does nothing after Commit
	if err := f(&tx{Tx: t, dialect: s.dialect}); err != nil {
		return err
	}
	return t.Commit()
}

// exec runs a statement and returns how many rows it changed.
func (t *tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := t.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// change is exec of a statement that must change something; else the error is none.
func (t *tx) change(ctx context.Context, none error, query string, args ...any) error {
	n, err := t.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return none
	}
	return err
}

// next adds n to a counter and returns its value. From then until the end of
// the transaction no other gets past a next of the same counter, so whatever is
// done after it is done by one at a time, and its numbers become visible in
// their order.
func (t *tx) next(ctx context.Context, counter string, n int) (int64, error) {
	var v int64
	err := t.QueryRowContext(ctx, `UPDATE counter SET value = value + $1 WHERE name = $2 RETURNING value`, n, counter).Scan(&v)
	return v, err
}

// The counters.
const (
	counterNode    = "node"    // versions of nodes
	counterSecret  = "secret"  // values of enroll secrets; only to be one at a time
	counterLive    = "live"    // answers to live queries
	counterAudit   = "audit"   // entries of the audit log
	counterAccount = "account" // first users; only to be one at a time
)

// scanner is a row that can be read.
type scanner interface{ Scan(dest ...any) error }

// all reads every row of a query.
func all[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	list := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// fail says what was being done when err came, and gives it the kind that
// callers act on. Errors that have a kind stay as they are.
func fail(doing string, err error) error {
	var known *errs.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case full(err):
		return errs.Wrap(errs.Busy, fmt.Errorf("%s: %w", doing, err), "the database's disk is full; free some space, then try again")
	case lost(err) || overloaded(err) || errors.Is(err, context.DeadlineExceeded):
		return errs.Wrap(errs.Busy, fmt.Errorf("%s: %w", doing, err), "the database is busy; try again")
	}
	return fmt.Errorf("store: %s: %w", doing, err)
}

// missing gives a row that is not there the kind NotFound.
func missing(err error, message string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errs.New(errs.NotFound, "%s", message)
	}
	return err
}

// micros is how times are kept: microseconds since 1970, 0 for no time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// moment is the time that micros kept.
func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// text returns s as both databases keep it. PostgreSQL takes neither NUL nor
// bytes that are no UTF-8; they become \xNN with a literal backslash, in SQLite
// too so that both answer the same. Everything from outside goes through it.
func text(s string) string {
	if !utf8.ValidString(s) {
		s = osquery.Clean([]byte(s))
	}
	return strings.ReplaceAll(s, "\x00", `\x00`)
}

// document returns v as JSON text. Its \u0000 are plain letters to a TEXT
// column.
func document(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// hash returns what was kept of a KeyHash; the zero one for NULL.
func hash(b []byte) node.KeyHash {
	var h node.KeyHash
	copy(h[:], b)
	return h
}
