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
	"strconv"
	"strings"
)

// Versions are of a database's tables.
type Versions struct {
	Found   int64    // in the database; 0 without tables of ours
	Known   int64    // to this program
	Pending []string // the migrations that Open would run, in order
}

// Version looks which version a database has, and changes nothing: neither tables
// nor files. Its error is fs.ErrNotExist without an SQLite file. location is as
// Options.URL.
func Version(ctx context.Context, location string) (v Versions, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("look for the version of the database: %w", err)
		}
	}()
	d := dialectOf(location)
	db, err := d.openToRead(ctx, location)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if v.Found, err = d.found(ctx, db); err != nil {
		return v, err
	}
	files, err := fs.ReadDir(migrationFiles, "migrations/"+string(d))
	if err != nil {
		return v, err
	}
	for _, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return v, err
		}
		v.Known = max(v.Known, n)
		if n > v.Found {
			v.Pending = append(v.Pending, strings.TrimSuffix(f.Name(), ".sql"))
		}
	}
	return v, nil
}

// found reads goose's table.
func (d dialect) found(ctx context.Context, db *sql.DB) (n int64, err error) {
	there := `SELECT count(*) FROM sqlite_master WHERE name = 'goose_db_version'`
	if d == onPostgres {
		there = `SELECT count(*) FROM information_schema.tables WHERE table_name = 'goose_db_version' AND table_schema = current_schema()`
	}
	if err := db.QueryRowContext(ctx, there).Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&n)
	return n, err
}

// openToRead opens a database for one that only looks. SQLite beside a server reads
// its log; where no log is, nobody has the file open, and it is taken as it is, as
// SQLite would make a log otherwise.
func (d dialect) openToRead(ctx context.Context, location string) (*sql.DB, error) {
	if d == onPostgres {
		return openPostgres(ctx, location)
	}
	path, err := filepath.Abs(location)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	mode := "mode=ro"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		mode += "&immutable=1"
	}
	file := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: mode}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
