package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver that the state file needs

	"github.com/musterhq/muster/internal/agenttest"
)

// state runs statements in the database of a server that does not run.
func (s *server) state(statements ...string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.Dir, "state.db"))
	s.check(err)
	for _, statement := range statements {
		_, err := db.ExecContext(s.t.Context(), statement)
		s.check(err)
	}
	s.check(db.Close())
}

// keep writes what a command prints into a file.
func (s *server) keep(name string, args ...string) string {
	s.t.Helper()
	path := filepath.Join(s.Home, name)
	s.check(os.WriteFile(path, []byte(s.cli(args...)), 0o600))
	return path
}

// fails runs a command that must fail, and returns all that it printed.
func (s *server) fails(args ...string) string {
	s.t.Helper()
	out, errOut, code := s.run(args...)
	if code != 1 {
		s.t.Errorf("muster %s: exit code %d: %s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out + errOut
}

func wants(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// TestAudit: the log is listed, exported and verified, with and without a
// server, and what was done to it by hand is found.
func TestAudit(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "witness")
	s := newServer(t, "--audit-witness", "file://"+kept)
	s.setUp()
	for i := range 5 {
		s.secret(fmt.Sprint("team-", i))
	}
	if out, _, code := s.run("login", "--url", s.AdminURL, "--user", "admin\x1b[31m", "--password-file", s.wrongPassword()); code != 3 {
		t.Errorf("a wrong password: %d %s", code, out)
	}
	list := s.cli("audit", "list")
	wants(t, list, "secret.create", "127.0.0.1", "refused", `admin\u001b[31m`, "name or password is wrong")
	if got := strings.Count(s.cli("audit", "list", "--action", "secret.", "--actor", "admin", "-o", "ndjson"), "\n"); got != 5 {
		t.Errorf("%d secrets were made", got)
	}
	wants(t, s.cli("audit", "verify"), "entries are whole", "fit what was signed")
	export := s.keep("export", "audit", "export")
	checkpoint, key := s.keep("checkpoint", "audit", "checkpoint"), s.keep("key", "audit", "checkpoint", "--key")
	offline := []string{"audit", "verify", "--checkpoint", checkpoint, "--key", key, "--file"}
	wants(t, s.cli(append(offline, export)...), "All", "are whole")
	var proof struct {
		Entry struct {
			Seq int64 `json:"seq"`
		} `json:"entry"`
		Hashes []string `json:"hashes"`
	}
	if s.cliJSON(&proof, "audit", "proof", "3"); proof.Entry.Seq != 3 || len(proof.Hashes) == 0 {
		t.Errorf("%+v", proof)
	}
	b, err := os.ReadFile(export)
	s.check(err)
	lines := strings.SplitAfter(string(b), "\n")
	for name, c := range map[string]struct{ text, want string }{
		"edited":    {strings.Replace(string(b), `"team-1"`, `"team-9"`, 1), "edited"},
		"removed":   {strings.Join(append(append([]string{}, lines[:3]...), lines[4:]...), ""), "entry 4: missing"},
		"truncated": {strings.Join(lines[:5], ""), "truncated"},
	} {
		path := filepath.Join(s.Home, name)
		s.check(os.WriteFile(path, []byte(c.text), 0o600))
		wants(t, s.fails(append(offline, path)...), c.want, "is not what was written")
	}
	s.check(s.Stop())
	b, err = os.ReadFile(kept)
	s.check(err)
	wants(t, string(b), `{"checkpoint":"muster-audit-`)

	s.state(`UPDATE audit SET target = 'team-9' WHERE seq = (SELECT min(seq) FROM audit WHERE action = 'secret.create')`)
	s.start()
	wants(t, s.fails("audit", "verify"), "edited", "signs nothing any more")
	wants(t, s.Log().String(), "the audit log is broken")
	s.secret("later") // and it goes on
	s.check(s.Stop())
	s.state(`DELETE FROM audit WHERE seq >= 3`, `DELETE FROM audit_hash`, `UPDATE counter SET value = 2 WHERE name = 'audit'`)
	s.start()
	wants(t, s.fails("audit", "verify", "--checkpoint", kept, "--key", key), "truncated", "entries 3 to ")
}

func (s *server) wrongPassword() string {
	s.t.Helper()
	path := filepath.Join(s.Home, "wrong")
	s.check(os.WriteFile(path, []byte("wrong wrong wrong\n"), 0o600))
	return path
}

// TestAuditKill kills the server between entries and what they tell of: no
// secret is there of which the log does not tell.
func TestAuditKill(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	for round := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var made atomic.Int64
		var people sync.WaitGroup
		for p := range 4 {
			people.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if _, err := s.Secret(ctx, fmt.Sprintf("s-%d-%d-%d", round, p, i)); err == nil {
						made.Add(1)
					}
				}
			})
		}
		s.until("people to work", func() bool { return made.Load() > int64(3*round) })
		s.check(s.Kill())
		cancel()
		people.Wait()
		s.start()
	}
	var secrets []struct {
		Name string `json:"name"`
	}
	s.cliJSON(&secrets, "secret", "list")
	told := map[string]bool{}
	for line := range strings.Lines(s.cli("audit", "export", "--action", "secret.create")) {
		var e struct {
			Target string `json:"target"`
		}
		s.check(json.Unmarshal([]byte(line), &e))
		told[e.Target] = true
	}
	if len(secrets) == 0 {
		t.Error("nobody made a secret")
	}
	for _, secret := range secrets {
		if !told[secret.Name] {
			t.Errorf("the audit log does not tell of %s", secret.Name)
		}
	}
	t.Logf("%d secrets, %d entries", len(secrets), len(told))
	wants(t, s.cli("audit", "verify"), "are whole")
}

// TestAuditUnwritable: while the log cannot be written, nobody changes anything,
// and agents are served.
func TestAuditUnwritable(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	secret := s.secret("servers")
	s.check(s.Stop())
	s.state(`CREATE TRIGGER unwritable BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no room'); END`)
	s.start()
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{Secret: secret, Nodes: 3, LogInterval: 50 * time.Millisecond, Rows: 2, ReadInterval: 50 * time.Millisecond})
	s.check(err)
	s.until("agents to log", func() bool { return fleet.Acked() > 20 })
	for _, args := range [][]string{
		{"secret", "create", "other"},
		{"secret", "revoke", "servers"},
		{"query", "SELECT 1", "--all", "--wait", "1s"},
		{"login", "--url", s.AdminURL, "--user", "admin", "--password-file", filepath.Join(s.Home, "password")},
	} {
		wants(t, s.fails(args...), "the server failed")
	}
	acked := fleet.Acked()
	s.until("agents to log on", func() bool { return fleet.Acked() > acked+20 })
	s.check(fleet.Stop())
	account, err := s.Reconcile(t.Context(), fleet)
	s.check(err)
	if account.Lost != 0 || account.Broken != nil {
		t.Errorf("%+v", account)
	}
	if out := s.cli("secret", "list", "-o", "json"); strings.Contains(out, "other") || strings.Contains(out, "revoked_at") {
		t.Errorf("something changed: %s", out)
	}
}
