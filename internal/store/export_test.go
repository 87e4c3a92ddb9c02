//nolint:thelper // the functions of the suite are tests, not helpers
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"

	"github.com/musterhq/muster/internal/node"
)

// Fill keeps n enrolled nodes in few statements; one enrolment each would take
// too long for many.
func Fill(t testing.TB, s *Store, n int, now time.Time) {
	t.Helper()
	rows := make([][]any, 0, n)
	for i := range n {
		e := node.Node{
			ID: FillID(i, n), HostIdentifier: fmt.Sprintf("host-%06d", i), Hostname: fmt.Sprintf("srv-%d.example", i%9000),
			Platform: []string{"linux", "darwin", "windows"}[i%3], OS: fmt.Sprintf("OS %d", i%20), OsqueryVersion: fmt.Sprintf("5.%d.0", i%12),
		}
		rows = append(rows, []any{
			e.ID, e.HostIdentifier, e.Hostname, e.Platform, e.OS, e.OsqueryVersion, fmt.Sprintf(`["all","team-%d"]`, i%50), fmt.Sprintf("team-%d", i%50),
			micros(now), i + 1, searchText(e), micros(now.Add(time.Duration(i) * time.Millisecond)), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255),
		})
	}
	list, err := document(rows)
	if err != nil {
		t.Fatal(err)
	}
	from := ` FROM ` + s.dialect.bulk(1, "id text", "host_identifier text", "hostname text", "platform text", "os text", "osquery_version text",
		"tags text", "team text", "enrolled_at bigint", "version bigint", "search text", "last_seen bigint", "address text")
	err = s.tx(t.Context(), func(t *tx) error {
		for _, query := range []string{
			`INSERT INTO node (id, host_identifier, hostname, platform, os, osquery_version, tags, secret, enrolments, enrolled_at, version, old_until, search, gone_at)
			SELECT id, host_identifier, hostname, platform, os, osquery_version, tags, 'fill', 1, enrolled_at, version, 0, search, 0`,
			`INSERT INTO node_detail (node_id, details) SELECT id, '{"system_info":{"hostname":"x","cpu_brand":"y"}}'`,
			`INSERT INTO presence (node_id, last_seen, online_until, address) SELECT id, last_seen, last_seen + 90000000, address`,
			`INSERT INTO node_tag (tag, node_id) SELECT 'all', id`,
			`INSERT INTO node_tag (tag, node_id) SELECT team, id`,
			`INSERT INTO node_tag_source (node_id, tag, source, since, until) SELECT id, 'all', 'secret:fill', enrolled_at, 0`,
			`INSERT INTO node_tag_source (node_id, tag, source, since, until) SELECT id, team, 'hand', enrolled_at, 0`,
		} {
			if _, err := t.exec(context.Background(), query+from, list); err != nil {
				return err
			}
		}
		_, err := t.next(context.Background(), counterNode, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FillID is the id of Fill's i-th of n nodes; their order is not that of i.
func FillID(i, n int) string { return fmt.Sprintf("node%012d", i*7919%n) }

// OpenAt makes a database as it was with a number of migrations, with rows.
func OpenAt(t testing.TB, location string, version int64, rows ...string) {
	t.Helper()
	d := dialectOf(location)
	err := func() error {
		write, read, err := d.open(t.Context(), location)
		if err != nil {
			return err
		}
		dir, err := fs.Sub(migrationFiles, "migrations/"+string(d))
		if err != nil {
			return err
		}
		engine, options, err := d.migrations()
		if err != nil {
			return err
		}
		provider, err := goose.NewProvider(engine, write, dir, options...)
		if err != nil {
			return err
		}
		if _, err := provider.UpTo(t.Context(), version); err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := write.ExecContext(t.Context(), row); err != nil {
				return err
			}
		}
		return errors.Join(read.Close(), write.Close())
	}()
	if err != nil {
		t.Fatal(err)
	}
}

// Exec runs SQL that the store would not.
func Exec(t testing.TB, s *Store, query string) {
	t.Helper()
	if _, err := s.write.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// QueryText returns the one text that a query gives.
func QueryText(t testing.TB, s *Store, query string, args ...any) string {
	t.Helper()
	got, err := all(t.Context(), s.read, scanText, query, args...)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	return got[0]
}

// Lose runs a transaction that loses against others so often, and returns how
// often it was tried.
func Lose(t testing.TB, s *Store, losses int) (tries int, err error) {
	t.Helper()
	err = s.tx(t.Context(), func(*tx) error {
		tries++
		if tries <= losses {
			return fmt.Errorf("step: %w", &pgconn.PgError{Code: "40001"})
		}
		return nil
	})
	return tries, fail("test", err)
}
