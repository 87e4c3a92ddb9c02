//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// TestEngine is about the engines under the store, on both.
func TestEngine(t *testing.T) {
	t.Parallel()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			location := e.fresh(t)
			s := storetest.Open(t, location)
			t.Run("placeholders", func(t *testing.T) { // some drivers bind by order of appearance
				if got := store.QueryText(t, s, `SELECT CAST($2 AS TEXT) || '-' || CAST($1 AS TEXT) || '-' || CAST($2 AS TEXT)`, "a", "b"); got != "b-a-b" {
					t.Errorf("got %s", got)
				}
			})
			t.Run("order", func(t *testing.T) { testOrder(t, s) })
			t.Run("canceled", func(t *testing.T) { testCanceled(t, s) })
			t.Run("retry", func(t *testing.T) { testRetry(t, s) })
			t.Run("reopen", func(t *testing.T) {
				secret(t, s, "kept", 0)
				other := storetest.Open(t, location)
				if list := must(other.Secrets(t.Context()))(t); len(list) != 1 {
					t.Errorf("got %v", list)
				}
			})
			t.Run("version", func(t *testing.T) {
				v := must(store.Version(t.Context(), location))(t)
				if v.Found != v.Known || v.Known < 20 || len(v.Pending) != 0 {
					t.Errorf("got %+v", v)
				}
				const older = 17
				store.Exec(t, s, fmt.Sprintf(`UPDATE goose_db_version SET version_id = -version_id WHERE version_id > %d`, older))
				v = must(store.Version(t.Context(), location))(t)
				if v.Found != older || int64(len(v.Pending)) != v.Known-older || v.Pending[0] != "0018_access" {
					t.Errorf("got %+v", v)
				}
				store.Exec(t, s, `UPDATE goose_db_version SET version_id = -version_id WHERE version_id < 0`)
			})
			t.Run("newer", func(t *testing.T) {
				store.Exec(t, s, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, `+map[string]string{"sqlite": "1", "postgres": "true"}[e.name]+`)`)
				_, err := store.Open(t.Context(), store.Options{URL: location, Log: slog.New(slog.DiscardHandler), Now: time.Now})
				if err == nil || !strings.Contains(err.Error(), "newer Muster") {
					t.Errorf("got %v", err)
				}
				if v := must(store.Version(t.Context(), location))(t); v.Found != 9999 {
					t.Errorf("got %+v", v)
				}
			})
		})
	}
}

// testOrder: text is ordered by its bytes, which pages count on.
func testOrder(t *testing.T, s *store.Store) {
	for _, name := range []string{"b", "_", "B", "a", "a-b", "ab", "aé", "a.b"} {
		ok(t, s.CreateSecret(t.Context(), node.Secret{Name: name, CreatedAt: start}, keyHash(name)))
	}
	var names []string
	for _, secret := range must(s.Secrets(t.Context()))(t) {
		names = append(names, secret.Name)
	}
	if diff := cmp.Diff([]string{"B", "_", "a", "a-b", "a.b", "ab", "aé", "b"}, names); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	store.Exec(t, s, `DELETE FROM secret`)
}

func testCanceled(t *testing.T, s *store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.AppendAudit(ctx, audit.Entry{}); !errors.Is(err, context.Canceled) {
		t.Errorf("write: got %v", err)
	}
	if _, err := s.Secrets(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("read: got %v", err)
	}
	ok(t, s.Ping(t.Context()))
}

func testRetry(t *testing.T, s *store.Store) {
	for _, c := range []struct {
		losses int
		kind   errs.Kind
		tries  int
	}{{0, errs.Internal, 1}, {3, errs.Internal, 4}, {100, errs.Busy, 8}} {
		tries, err := store.Lose(t, s, c.losses)
		if tries != c.tries || (err != nil) != (c.losses == 100) || (err != nil && !errs.Is(err, c.kind)) {
			t.Errorf("lost %d times: %d tries, %v", c.losses, tries, err)
		}
	}
}

// TestMigrate: from nothing, on both, twice at once where servers may do so.
func TestMigrate(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		location := postgres(t).Empty(t)
		for _, err := range together(3, func(int) error {
			s, err := store.Open(t.Context(), store.Options{URL: location, Log: slog.New(slog.DiscardHandler), Now: time.Now})
			if err != nil {
				return err
			}
			return s.Close()
		}) {
			ok(t, err)
		}
		testEnrol(t, storetest.Open(t, location))
	})
	t.Run("sqlite from 1", func(t *testing.T) {
		t.Parallel()
		testMigrateFrom1(t, filepath.Join(t.TempDir(), "state.db"), `CAST('1' AS BLOB)`)
	})
	t.Run("postgres from 1", func(t *testing.T) {
		t.Parallel()
		testMigrateFrom1(t, postgres(t).Empty(t), `CAST('1' AS BYTEA)`)
	})
	t.Run("sqlite live from 7", func(t *testing.T) {
		t.Parallel()
		testMigrateLive(t, filepath.Join(t.TempDir(), "state.db"))
	})
	t.Run("postgres live from 7", func(t *testing.T) {
		t.Parallel()
		testMigrateLive(t, postgres(t).Empty(t))
	})
	t.Run("same tables", func(t *testing.T) {
		t.Parallel()
		columns := map[string]string{}
		for _, e := range []string{"sqlite", "postgres"} {
			for _, name := range must(filepath.Glob("migrations/" + e + "/*.sql"))(t) {
				columns[e] += filepath.Base(name) + "\n" + outline(string(must(os.ReadFile(name))(t)))
			}
		}
		if diff := cmp.Diff(columns["sqlite"], columns["postgres"]); diff != "" {
			t.Errorf("the engines' tables differ (-sqlite +postgres):\n%s", diff)
		}
	})
}

// testMigrateFrom1: nodes that enrolled before there were clones and histories.
func testMigrateFrom1(t *testing.T, location, hash string) {
	seen := start.UnixMicro()
	const node1 = `INSERT INTO node (id, host_identifier, hostname, platform, os, osquery_version, tags, secret, enrolments, enrolled_at, version, old_until, search, gone_at) VALUES `
	store.OpenAt(t, location, 1,
		`INSERT INTO secret (name, hash, tags, max_uses, uses, created_at, created_by, expires_at, revoked_at, last_used) VALUES ('s', `+hash+`, '["db","eu","e_"]', 0, 1, 1, 'ada', 0, 0, 1)`,
		node1+fmt.Sprintf(`('n1', 'web-1', 'web-1', 'linux', 'Debian 12', '5.23.1', '["dc1","e","eu"]', 's', 1, %d, 1, 0, 'web-1', 0)`, seen),
		node1+fmt.Sprintf(`('n0', 'web-1', 'old', 'linux', '', '', '[]', 's', 1, %d, 2, 0, 'old', 5)`, seen),
		`INSERT INTO node_detail (node_id, details) VALUES ('n1', '{"os_version":{"name":"Debian"}}')`,
		fmt.Sprintf(`INSERT INTO presence (node_id, last_seen, address) VALUES ('n1', %d, '192.0.2.1')`, seen),
		`INSERT INTO node_tag (node_id, tag) VALUES ('n1', 'eu'), ('n1', 'dc1'), ('n1', 'e')`,
		`UPDATE counter SET value = 2 WHERE name = 'node'`,
	)
	s := storetest.Open(t, location)
	want := node.Node{
		ID: "n1", HostIdentifier: "web-1", Hostname: "web-1", Platform: "linux", OS: "Debian 12", OsqueryVersion: "5.23.1", Address: "192.0.2.1",
		Tags: []string{"dc1", "e", "eu"}, Secret: "s", Enrolments: 1, EnrolledAt: start, LastSeen: start, Version: 1,
		TagSources: []node.TagSource{{Tag: "dc1", Source: "hand"}, {Tag: "e", Source: "hand"}, {Tag: "eu", Source: "secret:s"}},
		Details:    map[string]map[string]string{"os_version": {"name": "Debian"}},
	}
	if diff := cmp.Diff(want, must(s.FindNode(t.Context(), "web-1"))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for status, n := range map[string]int{node.StatusOnline: 1, node.StatusOffline: 0, node.StatusGone: 1, node.StatusQuarantined: 0} {
		if page := must(s.Nodes(t.Context(), node.Filter{Status: status, Now: start.Add(node.OfflineAfter)}))(t); page.Total != n {
			t.Errorf("%d nodes are %s", page.Total, status)
		}
	}
	if got := timeline(t, s, "n1", "address"); got != "192.0.2.1 0-" {
		t.Errorf("its addresses: %s", got)
	}
	secret(t, s, "servers", 0)
	if got := spans(t, s, "n1"); got != "dc1 hand 0-, e hand 0-, eu secret:s 0-" {
		t.Errorf("its tags: %s", got)
	}
	if n := enrol(t, s, enrolment("web-1", "servers", minute(1))); n.ID != "n1" || !slices.Equal(n.Tags, []string{"dc1", "e"}) {
		t.Errorf("it enrols as %+v", n)
	}
	if got := spans(t, s, "n1"); got != "dc1 hand 0-, e hand 0-, eu secret:s 0-1" {
		t.Errorf("its tags: %s", got)
	}
	must(s.RotateSecret(t.Context(), "s", keyHash("new"), start))(t)
}

// outline leaves of SQL what both engines must have in common.
func outline(sql string) string {
	sql = regexp.MustCompile(`--.*`).ReplaceAllString(sql, "")
	sql = regexp.MustCompile(` COLLATE "C"| STRICT(, WITHOUT ROWID)?| WITH \(fillfactor = \d+\)| NOT NULL PRIMARY KEY| PRIMARY KEY`).ReplaceAllString(sql, "")
	sql = strings.NewReplacer("BYTEA", "BLOB", "BIGINT", "INTEGER").Replace(sql)
	return regexp.MustCompile(`[ \t]+`).ReplaceAllString(sql, " ")
}

func TestOpen_private(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a ?%#b.db") // letters that mean something in a URL
	for range 2 {
		s, err := store.Open(t.Context(), store.Options{URL: path, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		ok(t, err)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if info := must(os.Stat(path + suffix))(t); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", info.Name(), info.Mode())
			}
		}
		ok(t, s.Close())
		ok(t, os.Chmod(path, 0o644))
	}
	_, err := store.Open(t.Context(), store.Options{URL: filepath.Join(path, "no", "dir"), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if _, is := errors.AsType[*fs.PathError](err); !is {
		t.Errorf("got %v", err)
	}
	_, err = store.Open(t.Context(), store.Options{URL: path})
	if err == nil {
		t.Error("opened without a log")
	}
}

// TestFull: a full disk is Busy, says what to do, and tells clients no SQL.
func TestFull(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	store.Exec(t, s, `PRAGMA max_page_count = 1`)
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		_, err = s.AppendAudit(t.Context(), audit.Entry{Time: start, Detail: strings.Repeat("x", 4096)})
	}
	var e *errs.Error
	if !errors.As(err, &e) || e.Kind != errs.Busy || !strings.Contains(e.Message, "disk is full") {
		t.Errorf("got %v", err)
	}
	if n, err := s.VerifyAudit(t.Context()); err != nil {
		t.Errorf("verified %d, %v", n, err)
	}
}

// TestKill: what a writer was told is kept is there after it was killed.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var told int64
	for range 3 {
		cmd := exec.CommandContext(t.Context(), must(os.Executable())(t))
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		out := must(cmd.StdoutPipe())(t)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 25 && lines.Scan(); n++ {
			must(fmt.Sscan(lines.Text(), &told))(t)
		}
		ok(t, cmd.Process.Kill())
		for lines.Scan() {
			must(fmt.Sscan(lines.Text(), &told))(t)
		}
		_ = cmd.Wait() // it was killed
		s := storetest.Open(t, path)
		n, err := s.VerifyAudit(t.Context())
		ok(t, err)
		if n < told || told == 0 {
			t.Errorf("%d entries, but %d were told to be kept", n, told)
		}
		if got := store.QueryText(t, s, `PRAGMA integrity_check`); got != "ok" {
			t.Error(got)
		}
	}
}

// child appends entries until it is killed, and tells each that is kept.
func child(path string) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{URL: path, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	for err == nil {
		var e audit.Entry
		if e, err = s.AppendAudit(ctx, audit.Entry{Time: time.Now(), Actor: "child"}); err == nil {
			_, err = fmt.Fprintln(os.Stdout, e.Seq)
		}
	}
	fmt.Fprintln(os.Stderr, err)
}
