package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
)

// TestBackup takes backups of a server at work, kills it in the middle of one, and
// goes on with another: every row that was acknowledged before the backup began is
// found once, nodes go on with their keys, and the audit log fits its signatures.
func TestBackup(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{Secret: s.secret("servers"), Nodes: 50, LogInterval: 100 * time.Millisecond, Rows: 5})
	s.check(err)
	acked := func(goal int64) func() bool {
		return func() bool { return fleet.Acked() >= goal }
	}
	s.until("rows to be acknowledged", acked(2000))

	dir := t.TempDir()
	file, key := filepath.Join(dir, "muster.backup"), filepath.Join(dir, "passphrase")
	s.check(os.WriteFile(key, []byte("correct horse\n"), 0o600))
	before := fleet.Ledgers()
	s.cli("backup", file, "--passphrase-file", key)
	s.until("more rows to be acknowledged", acked(fleet.Acked()+500))

	// One that is cut by a kill leaves nothing, neither here nor there.
	half := make(chan int, 1)
	go func() {
		_, _, code := s.run("backup", filepath.Join(dir, "half.backup"))
		half <- code
	}()
	s.check(s.Kill())
	if code := <-half; code == 0 {
		t.Log("the backup was faster than the kill")
	} else if left, _ := filepath.Glob(filepath.Join(dir, "half*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.start()
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "backup-*")); len(left) > 0 {
		t.Errorf("left in the data directory: %v", left)
	}
	s.check(s.Kill())

	restored := filepath.Join(dir, "restored")
	whole, err := os.ReadFile(file)
	s.check(err)
	for what, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)-100] },
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"empty":   func([]byte) []byte { return nil },
	} {
		bad := filepath.Join(dir, what)
		s.check(os.WriteFile(bad, damage(slices.Clone(whole)), 0o600))
		for _, command := range [][]string{{"backup", "verify", bad}, {"restore", bad, "--data-dir", restored}} {
			if _, stderr, code := s.run(append(command, "--passphrase-file", key)...); code == 0 || stderr == "" {
				t.Errorf("%s: %v: %d", what, command, code)
			}
		}
	}
	if _, stderr, code := s.run("restore", file, "--data-dir", restored); code == 0 || !strings.Contains(stderr, "encrypted") {
		t.Errorf("without the passphrase: %d %s", code, stderr)
	}
	if left, _ := filepath.Glob(restored + "*"); len(left) > 0 {
		t.Errorf("left of what was refused: %v", left)
	}
	s.cli("backup", "verify", file, "--passphrase-file", key)
	s.cli("restore", file, "--data-dir", restored, "--passphrase-file", key)
	if _, stderr, code := s.run("restore", file, "--data-dir", s.Dir, "--passphrase-file", key); code == 0 || !strings.Contains(stderr, "not empty") {
		t.Errorf("over another: %d %s", code, stderr)
	}

	s.Dir = restored
	s.start()
	s.until("nodes to go on", acked(fleet.Acked()+500))
	s.check(fleet.Stop())
	stored, err := s.Numbered(t.Context())
	s.check(err)
	for _, l := range before {
		numbers := stored[l.HostIdentifier]
		slices.Sort(numbers)
		if distinct := len(slices.Compact(slices.Clone(numbers))); distinct != len(numbers) {
			t.Errorf("%s: %d rows are there twice", l.HostIdentifier, len(numbers)-distinct)
		}
		if n, _ := slices.BinarySearch(numbers, l.Acked+1); int64(n) != l.Acked {
			t.Errorf("%s: %d of %d rows that were acknowledged before the backup", l.HostIdentifier, n, l.Acked)
		}
	}
	if out := s.cli("audit", "verify"); !strings.Contains(out, "are whole") {
		t.Errorf("%s", out)
	}
	if strings.Contains(s.Log().Tail(1<<20), "node enrolled") && strings.Count(s.Log().Tail(1<<20), `"enrolments":2`) > 0 {
		t.Error("nodes enrolled anew")
	}
}

// TestBackup_stopped makes a backup of the directory of a server that was killed, and
// goes on with it elsewhere.
func TestBackup_stopped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{Secret: s.secret("servers"), Nodes: 5, LogInterval: 100 * time.Millisecond, Rows: 5})
	s.check(err)
	s.until("rows to be acknowledged", func() bool { return fleet.Acked() >= 200 })
	file := filepath.Join(t.TempDir(), "b")
	if _, stderr, code := s.run("backup", file, "--data-dir", s.Dir); code == 0 || !strings.Contains(stderr, "another server uses") {
		t.Errorf("of a server at work: %d %s", code, stderr)
	}
	s.check(s.Kill())
	s.cli("backup", file, "--data-dir", s.Dir)
	s.Dir = filepath.Join(t.TempDir(), "restored")
	s.cli("restore", file, "--data-dir", s.Dir)
	s.start()
	s.until("nodes to go on", func() bool { return fleet.Acked() >= 400 })
	s.check(fleet.Stop())
	account, err := s.Reconcile(t.Context(), fleet)
	s.check(err)
	if account.Broken != nil || account.Lost+account.Twice+account.Unknown > 0 || account.Acked == 0 {
		t.Errorf("%+v", account)
	}
	if _, stderr, code := s.run("backup", file+"2", "--data-dir", t.TempDir()); code == 0 || !strings.Contains(stderr, "no data directory") {
		t.Errorf("of nothing: %d %s", code, stderr)
	}
}
