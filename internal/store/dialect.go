package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// dialect is the engine, and all that differs between the two.
type dialect string

// The engines.
const (
	onSQLite   dialect = "sqlite"
	onPostgres dialect = "postgres"
)

func dialectOf(location string) dialect {
	if strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://") {
		return onPostgres
	}
	return onSQLite
}

func (d dialect) open(ctx context.Context, location string) (write, read *sql.DB, err error) {
	if d == onPostgres {
		db, err := openPostgres(ctx, location)
		return db, db, err
	}
	return openSQLite(ctx, location)
}

// Connections to PostgreSQL of one server; its default limit is 100 for all.
const (
	postgresConns = 10
	idleAfter     = 5 * time.Minute // then a connection not needed is closed
)

func openPostgres(ctx context.Context, location string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(location)
	if err != nil {
		return nil, err
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "muster"
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxIdleTime(idleAfter)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// sqliteReaders bounds the reads that run at once; each connection has a cache.
const sqliteReaders = 4

// openSQLite returns one connection that writes and a pool that reads. Differs
// because SQLite has one writer at a time: with one connection the writers
// queue here, in order and until their ctx ends, instead of polling its lock.
// Readers see the last commit and wait for nobody, thanks to WAL.
func openSQLite(ctx context.Context, path string) (write, read *sql.DB, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	if err := private(path); err != nil {
		return nil, nil, err
	}
	write, err = connectSQLite(ctx, path, 1, "_txlock=immediate",
		"_pragma=journal_mode(WAL)",
		// FULL syncs the log at each commit. With NORMAL a power cut may undo
		// the last commits, and what was acknowledged to an agent or a person,
		// or written to the audit log before acting, must stay.
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
		"_pragma=journal_size_limit(33554432)",
		// Pages of the log that are written back at once, 16 MiB: what enrols at
		// the same time touches the same pages again and again.
		"_pragma=wal_autocheckpoint(4000)",
		// Each of a group's savepoints notes the pages that it changes; in a file
		// that was a fifth of what an enrolment cost.
		"_pragma=temp_store(MEMORY)",
		"_pragma=cache_size(-8000)")
	if err != nil {
		return nil, nil, err
	}
	read, err = connectSQLite(ctx, path, sqliteReaders, "_query_only=1", "_pragma=cache_size(-1000)")
	if err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	return write, read, nil
}

func connectSQLite(ctx context.Context, path string, conns int, params ...string) (*sql.DB, error) {
	// busy_timeout is for other programs, as a backup, that hold a lock.
	params = append(params, "_busy_timeout=10000", "_dqs=0", "_defensive=1")
	file := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: strings.Join(params, "&")}
	connector, err := sqlite.NewConnector(file.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	if conns > 1 {
		db.SetConnMaxIdleTime(idleAfter)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return db, nil
}

// private makes the file if it is not there and lets nobody but its owner read
// it. SQLite gives its other files the same mode. A file that is there is not
// opened: closing it would drop SQLite's locks on it in this process.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the path is the operator's
	if errors.Is(err, fs.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// migrations returns goose's options: Differs because two servers may start at
// once on PostgreSQL, and only there a lock can be held over several
// transactions.
func (d dialect) migrations() (goose.Dialect, []goose.ProviderOption, error) {
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger())}
	if d == onSQLite {
		return goose.DialectSQLite3, options, nil
	}
	l, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	return goose.DialectPostgres, append(options, goose.WithSessionLocker(l)), err
}

// bulk returns a FROM item named t whose rows are the arrays in the JSON array
// that the numbered parameter holds, with columns given as "name type", the
// type text or bigint. Differs because the engines open JSON differently, and
// PostgreSQL has to be told types.
func (d dialect) bulk(param int, columns ...string) string {
	var b strings.Builder
	b.WriteString("(SELECT ")
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		name, kind, _ := strings.Cut(c, " ")
		if d == onPostgres {
			fmt.Fprintf(&b, "CAST(value->>%d AS %s) AS %s", i, kind, name)
		} else {
			fmt.Fprintf(&b, "value->>%d AS %s", i, name)
		}
	}
	if d == onPostgres {
		fmt.Fprintf(&b, " FROM json_array_elements(CAST(CAST($%d AS TEXT) AS JSON))) AS t", param)
	} else {
		fmt.Fprintf(&b, " FROM json_each($%d)) AS t", param)
	}
	return b.String()
}

// each returns a FROM item whose rows are the names and texts, in columns key
// and value, of the JSON object that the numbered parameter holds.
func (d dialect) each(param int) string {
	if d == onPostgres {
		return fmt.Sprintf("json_each_text(CAST(CAST($%d AS TEXT) AS JSON))", param)
	}
	return fmt.Sprintf("json_each($%d)", param)
}

// codes returns the typed code of either driver; the other is zero. An extended
// SQLite code holds the plain one in its low byte.
func codes(err error) (lite int, postgres string) {
	if l, ok := errors.AsType[*sqlite.Error](err); ok {
		return l.Code() & 0xff, ""
	}
	if p, ok := errors.AsType[*pgconn.PgError](err); ok {
		return 0, p.Code
	}
	return 0, ""
}

// lost reports whether the database undid a transaction in favour of another.
func lost(err error) bool {
	lite, postgres := codes(err)
	switch postgres {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return true
	}
	return lite == sqlite3.SQLITE_BUSY || lite == sqlite3.SQLITE_LOCKED
}

// full reports whether there is no room on the disk.
func full(err error) bool {
	lite, postgres := codes(err)
	return postgres == "53100" || lite == sqlite3.SQLITE_FULL
}

// overloaded reports whether the server refuses work for now: it has too many
// connections or too little memory, or it starts or stops.
func overloaded(err error) bool {
	_, postgres := codes(err)
	return strings.HasPrefix(postgres, "53") || strings.HasPrefix(postgres, "57P")
}

// taken reports whether a row with that key is there.
func taken(err error) bool {
	if l, ok := errors.AsType[*sqlite.Error](err); ok {
		return l.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || l.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	_, postgres := codes(err)
	return postgres == "23505"
}
