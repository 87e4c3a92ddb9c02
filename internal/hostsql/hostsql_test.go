package hostsql

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/osquery"
)

func open(t *testing.T, o Options) *DB {
	t.Helper()
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func rows(t *testing.T, db *DB, sql string) []map[string]string {
	t.Helper()
	got, _, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	maps := make([]map[string]string, len(got))
	for i, r := range got {
		maps[i] = r.Map()
	}
	return maps
}

// one returns the only row's values, joined.
func one(t *testing.T, db *DB, sql string) string {
	t.Helper()
	got, _, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(got) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(got))
	}
	values := make([]string, len(got[0]))
	for i, c := range got[0] {
		values[i] = c.Value
	}
	return strings.Join(values, "|")
}

// TestTables reads every table whole: it must not fail, its columns must be
// the schema's, and those of the issue must exist.
func TestTables(t *testing.T) {
	db := open(t, Options{})
	schema, err := osquery.LoadSchema()
	if err != nil {
		t.Fatal(err)
	}
	visible, required := map[string][]string{}, map[string]bool{}
	for _, table := range schema {
		for _, c := range table.Columns {
			if !c.Hidden && c.On("linux") {
				visible[table.Name] = append(visible[table.Name], c.Name)
			}
			required[table.Name] = required[table.Name] || c.Required
		}
	}
	full := strings.Fields("processes process_envs users groups os_version system_info osquery_info uptime time kernel_info mounts load_average memory_info user_groups")
	for _, name := range db.TableNames() {
		t.Run(name, func(t *testing.T) {
			where := ""
			if required[name] {
				where = " WHERE path = '/etc/passwd'"
			}
			got, columns, err := db.Query(t.Context(), fmt.Sprintf("SELECT * FROM %q%s", name, where))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(visible[name], columns); diff != "" {
				t.Errorf("columns (-schema +got):\n%s", diff)
			}
			if slices.Contains(full, name) && len(got) == 0 {
				t.Error("no rows")
			}
		})
	}
	for name := range strings.FieldsSeq("processes process_open_sockets listening_ports users groups os_version system_info osquery_info osquery_flags osquery_schedule uptime time kernel_info interface_addresses mounts file hash etc_hosts deb_packages crontab logged_in_users process_envs carves") {
		if !slices.Contains(db.TableNames(), name) {
			t.Errorf("table %s is missing", name)
		}
	}
}

func TestProcesses_self(t *testing.T) {
	db := open(t, Options{})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	want := fmt.Sprintf("%d|%d|%s|%d|1", pid, os.Getppid(), exe, os.Getuid())
	for _, where := range []string{fmt.Sprintf("pid = %d", pid), fmt.Sprintf("pid IN (%d, 999999999)", pid), fmt.Sprintf("path = '%s' AND parent = %d", exe, os.Getppid())} {
		if got := one(t, db, "SELECT pid, parent, path, uid, on_disk FROM processes WHERE "+where); got != want {
			t.Errorf("WHERE %s: got %s, want %s", where, got, want)
		}
	}
	start, err := strconv.ParseInt(one(t, db, fmt.Sprintf("SELECT start_time FROM processes WHERE pid=%d", pid)), 10, 64)
	if err != nil || time.Since(time.Unix(start, 0)) > time.Hour || time.Until(time.Unix(start, 0)) > time.Minute {
		t.Errorf("start_time %d is not near now: %v", start, err)
	}
	if got := rows(t, db, "SELECT * FROM processes WHERE pid = 'x'"); len(got) != 0 {
		t.Errorf("got %d rows for a pid that is none", len(got))
	}
	if home := os.Getenv("PATH"); one(t, db, fmt.Sprintf("SELECT value FROM process_envs WHERE key='PATH' AND pid=%d", pid)) != home {
		t.Error("process_envs does not show our PATH")
	}
}

func TestListeningPorts_own(t *testing.T) {
	db := open(t, Options{})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	sql := fmt.Sprintf("SELECT pid, port, protocol, family, address FROM listening_ports WHERE port=%d AND family=2", port)
	if got, want := one(t, db, sql), fmt.Sprintf("%d|%d|6|2|127.0.0.1", os.Getpid(), port); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sql = fmt.Sprintf("SELECT s.state, s.remote_port, p.pid FROM process_open_sockets s JOIN processes p USING (pid) WHERE s.pid=%d AND s.local_port=%d",
		os.Getpid(), c.LocalAddr().(*net.TCPAddr).Port)
	if got, want := one(t, db, sql), fmt.Sprintf("ESTABLISHED|%d|%d", port, os.Getpid()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUsers(t *testing.T) {
	db := open(t, Options{})
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := one(t, db, "SELECT count(*) FROM users"), strconv.Itoa(len(strings.Fields(strings.ReplaceAll(string(passwd), " ", "")))); got != want {
		t.Errorf("%s users, want %s", got, want)
	}
	if got := one(t, db, "SELECT u.username, g.groupname, u.directory FROM users u JOIN groups g USING (gid) WHERE u.uid = 0"); got != "root|root|/root" {
		t.Errorf("got %s", got)
	}
}

func TestFileAndHash(t *testing.T) {
	db := open(t, Options{})
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "alpha")
	write("sub/b", "beta")
	write("sub/deep/c", "gamma")
	write(".hidden", "x")
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	sum, sum5 := sha256.Sum256([]byte("alpha")), md5.Sum([]byte("alpha"))
	if got, want := one(t, db, "SELECT sha256, md5 FROM hash WHERE path = '"+dir+"/a'"), hex.EncodeToString(sum[:])+"|"+hex.EncodeToString(sum5[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := one(t, db, "SELECT filename, size, mode, type, symlink FROM file WHERE path = '"+dir+"/a'"), "a|5|0640|regular|0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, test := range []struct{ where, want string }{
		{"path = 'DIR/link'", "DIR/link"},
		{"path = 'DIR/absent'", ""},
		{"path LIKE 'DIR/%'", "DIR/a DIR/link DIR/sub/"},
		{"path LIKE 'DIR/%%'", "DIR/a DIR/link DIR/sub/ DIR/sub/b DIR/sub/deep/ DIR/sub/deep/c"},
		{"path LIKE 'DIR/%/b'", "DIR/sub/b"},
		{"path LIKE 'DIR/s%b/%'", "DIR/sub/b DIR/sub/deep/"},
		{"directory = 'DIR/sub'", "DIR/sub/b DIR/sub/deep"},
		{"directory LIKE 'DIR/%'", "DIR/sub/b DIR/sub/deep"},
		{"path IN ('DIR/a', 'DIR/sub/b')", "DIR/a DIR/sub/b"},
		{"path = 'DIR/a' OR path = 'DIR/sub/b'", "DIR/a DIR/sub/b"},
	} {
		got := []string{}
		for _, r := range rows(t, db, "SELECT path FROM file WHERE "+strings.ReplaceAll(test.where, "DIR", dir)+" ORDER BY path") {
			got = append(got, r["path"])
		}
		if diff := cmp.Diff(strings.Fields(strings.ReplaceAll(test.want, "DIR", dir)), got); diff != "" {
			t.Errorf("WHERE %s (-want +got):\n%s", test.where, diff)
		}
	}
	sql := "SELECT h.sha256 FROM file f JOIN hash h USING (path) WHERE f.directory = '" + dir + "' AND f.filename = 'a'"
	if got := one(t, db, sql); got != hex.EncodeToString(sum[:]) {
		t.Errorf("join: got %s", got)
	}
	small := open(t, Options{ReadMax: 4})
	if got := one(t, small, "SELECT sha256, path FROM hash WHERE path = '"+dir+"/a'"); got != "|"+dir+"/a" {
		t.Errorf("over read_max: got %s", got)
	}
}

func TestQuery_errors(t *testing.T) {
	var warned []string
	db := open(t, Options{MaxRows: 1000, Disable: []string{"shell_history"}, Warn: func(_ context.Context, m string) { warned = append(warned, m) }})
	for _, test := range []struct{ sql, want string }{
		{"SELECT * FROM nope", "no such table: nope"},
		{"SELECT * FROM shell_history", "no such table: shell_history"},
		{"SELECT * FROM registry", "no such table: registry"},
		{"selec 1", `near "selec": syntax error`},
		{"SELECT nope FROM users", "no such column: nope"},
		{"SELECT * FROM file", "Table file was queried without a required column in the WHERE clause"},
		{"SELECT * FROM hash WHERE md5 = 'x'", "Table hash was queried without a required column in the WHERE clause"},
		{"ATTACH '/tmp/x' AS x", "not authorized"},
		{"PRAGMA journal_mode", "not authorized"},
		{"CREATE TABLE t(a)", "not authorized"},
		{"DROP TABLE users", "not authorized"},
		{"DELETE FROM users", "not authorized"},
		{"VACUUM INTO '/tmp/x'", "authorization denied"},
		{"", "not an error"},
		{" -- comment\n;", "not an error"},
		{"SELECT 1; SELECT 2", ErrSeveralStatements.Error()},
		{"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c", "the answer has more than 1000 rows"},
		{"SELECT regex_match('a', '(', 0)", "invalid regex: error parsing regexp: missing closing ): `(`"},
	} {
		if _, _, err := db.Query(t.Context(), test.sql); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.sql, err, test.want)
		}
	}
	if len(warned) != 2 {
		t.Errorf("warned %q, want the two missing constraints", warned)
	}
}

func TestQuery_cancel(t *testing.T) {
	db := open(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := db.Query(ctx, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if got := one(t, db, "SELECT 1"); got != "1" {
		t.Errorf("after a cancelled query: got %s", got)
	}
}

func TestGenerator_panics(t *testing.T) {
	db := open(t, Options{Tables: map[string]Generator{
		"osquery_info": func(_ context.Context, q Constraints, _ func(Values) error) error {
			return errors.New(q.Equal("pid")[0]) // out of range
		},
		"osquery_events": func(_ context.Context, _ Constraints, yield func(Values) error) error {
			return yield(Values{"nope": 1})
		},
	}})
	for _, table := range []string{"osquery_info", "osquery_events"} {
		if _, _, err := db.Query(t.Context(), "SELECT * FROM "+table); err == nil || !strings.Contains(err.Error(), "table "+table) {
			t.Errorf("%s: got %v", table, err)
		}
	}
}

func TestQuery_values(t *testing.T) {
	db := open(t, Options{})
	for _, test := range []struct{ sql, want string }{
		{"SELECT 1, -2, 'x', NULL", "1|-2|x|"},
		{"SELECT 1.5, 2.0, 1e300, 1/3.0, 0.1+0.2, -0.0", "1.5|2.0|1e+300.0|0.333333333333333|0.3|-0.0"},
		{"SELECT 123456789012345678.0, 1e-7", "1.23456789012346e+17|1e-07.0"},
		{"SELECT x'616200ff', 'ü'", "ab|ü"},
		{"SELECT ';', \"a;b\" FROM (SELECT 1 AS \"a;b\") -- x;y", ";|1"},
		{"SELECT split('a:b;c', ':;', 1), split('a', ':', 3), regex_match('osquery 5.2', '([0-9]+)\\.([0-9]+)', 2)", "b||2"},
		{"SELECT md5('a'), to_base64('hi'), from_base64('aGk='), concat('a', NULL, 1), concat_ws('-', 'a', 'b')", "0cc175b9c0f1b6a831c399e269772661|aGk=|hi|a1|a-b"},
		{"SELECT in_cidr_block('10.0.0.0/8', '10.1.2.3'), in_cidr_block('fe80::/10', '::1'), inet_aton('1.2.3.4')", "1|0|16909060"},
		{"SELECT version_compare('1.10', '1.9'), version_compare('1.0', '1.0.0'), version_compare('1.0', '1.0')", "1|-1|0"},
		{"SELECT build_distro, version FROM osquery_info", "muster|5.23.1"},
	} {
		if got := one(t, db, test.sql); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.sql, got, test.want)
		}
	}
}

// TestRoot reads a small system made for the test.
func TestRoot(t *testing.T) {
	root, err := filepath.Abs("testdata/root")
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, Options{Root: root})
	for _, test := range []struct{ sql, want string }{
		{"SELECT name, version, major, minor, platform, platform_like FROM os_version", "Ubuntu|24.04.1 LTS (Noble Numbat)|24|4|ubuntu|debian"},
		{"SELECT name, version, revision, source, size FROM deb_packages", "bash|5.2.21-2ubuntu4|2ubuntu4|bash-src|2012"},
		{"SELECT minute, day_of_week, command, path FROM crontab WHERE event = ''", "17|*|root cd / && run-parts --report /etc/cron.hourly|/etc/crontab"},
		{"SELECT command FROM crontab WHERE event = '@reboot'", "/usr/bin/true"},
		{"SELECT hostnames FROM etc_hosts WHERE address = '127.0.0.1'", "localhost me"},
		{"SELECT uid, gid FROM user_groups WHERE gid = 27", "1000|27"},
		{"SELECT uid_signed FROM users WHERE username = 'odd'", "-2"},
		{"SELECT algorithm, options, comment FROM authorized_keys", "ssh-ed25519|no-pty|ann@example.net"},
		{"SELECT time, command FROM shell_history", "1700000000|ls"},
		{"SELECT days, hours, minutes, seconds, total_seconds FROM uptime", "1|1|1|1|90061"},
		{"SELECT name, state, cmdline, parent, user_time, start_time, resident_size FROM processes", "a) b|S|/bin/a b|1|1230|1001|4096"},
	} {
		if got := one(t, db, test.sql); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.sql, got, test.want)
		}
	}
}

func TestSplitStatements(t *testing.T) {
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{"SELECT 1", []string{"SELECT 1"}},
		{"SELECT 1;", []string{"SELECT 1"}},
		{"SELECT ';' ; SELECT 2 /* ; */;;", []string{"SELECT ';'", "SELECT 2 /* ; */"}},
		{"SELECT 'it''s; ok' -- ;", []string{"SELECT 'it''s; ok' -- ;"}},
		{"SELECT [a;b], `c;d`, \"e;f\" FROM x", []string{"SELECT [a;b], `c;d`, \"e;f\" FROM x"}},
		{"; /* x", nil},
		{"SELECT 'open;", []string{"SELECT 'open;"}},
	} {
		if diff := cmp.Diff(test.want, SplitStatements(test.sql)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.sql, diff)
		}
	}
}

func TestQuery_concurrent(t *testing.T) {
	db := open(t, Options{})
	errs := make(chan error)
	const workers = 4
	for range workers {
		go func() {
			for range 5 {
				if _, _, err := db.Query(t.Context(), "SELECT count(*) FROM processes p JOIN users u USING (uid)"); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
