package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/doctor"
)

// examined is what muster doctor prints.
type examined struct {
	Status doctor.Status  `json:"status"`
	Checks []doctor.Check `json:"checks"`
}

func (s *server) examine(want int, args ...string) map[string]doctor.Check {
	s.t.Helper()
	out, stderr, code := s.run(append([]string{"doctor", "-o", "json"}, args...)...)
	if code != want {
		s.t.Errorf("muster doctor %v: exit code %d, want %d: %s %s", args, code, want, out, stderr)
	}
	var e examined
	s.check(json.Unmarshal([]byte(out), &e))
	if e.Status != doctor.Worst(e.Checks) {
		s.t.Errorf("%s of %+v", e.Status, e.Checks)
	}
	found := map[string]doctor.Check{}
	for _, c := range e.Checks {
		found[c.Name] = c
	}
	return found
}

// TestDoctor looks at a server that works, from an agent's side too, and at its
// data directory when it does not.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--public-url", "http://127.0.0.1:8080")
	s.setUp()
	s.secret("open")
	found := s.examine(1)
	for name, want := range map[string]doctor.Status{
		"server": doctor.OK, "version": doctor.OK, "clock of the server": doctor.OK, "agents' listener": doctor.OK, "CA": doctor.OK, "stream": doctor.OK,
		"public_url": doctor.Warn, "enroll secrets": doctor.Warn, "approvals": doctor.Warn, "backup": doctor.Warn,
	} {
		if found[name].Status != want {
			t.Errorf("%s: %+v, want %s", name, found[name], want)
		}
	}
	s.cli("backup", filepath.Join(t.TempDir(), "b"))
	if c := s.examine(1)["backup"]; c.Status != doctor.OK {
		t.Errorf("after a backup: %+v", c)
	}
	// Agents that pin another CA, or know the server by another name, cannot connect.
	other := newServer(t)
	for want, args := range map[string][]string{
		"refuse the server": {"--agents-ca", filepath.Join(other.Dir, "ca.pem")},
		"firewall":          {"--agents", "127.0.0.1:1"},
	} {
		if c := s.examine(2, args...)["agents' listener"]; c.Status != doctor.Fail || !strings.Contains(c.Do, want) {
			t.Errorf("%v: %+v", args, c)
		}
	}
	if c := s.examine(2, "--data-dir", s.Dir, "--agents", "127.0.0.1:1")["process"]; c.Status != doctor.OK {
		t.Errorf("%+v", c)
	}
	s.check(s.Kill())
	found = s.examine(2, "--data-dir", s.Dir)
	for name, want := range map[string]doctor.Status{"server": doctor.Fail, "process": doctor.Fail, "keys": doctor.OK, "state": doctor.OK, "backup": doctor.OK} {
		if found[name].Status != want {
			t.Errorf("%s: %+v, want %s", name, found[name], want)
		}
	}
	s.check(os.Remove(filepath.Join(s.Dir, "secret.key")))
	if c := s.examine(2, "--data-dir", s.Dir)["keys"]; c.Status != doctor.Fail || !strings.Contains(c.Saw, "secret.key") {
		t.Errorf("%+v", c)
	}
}

// TestUpgradeCheck says what a start would do, changes nothing, and tells what a
// later Muster wrote, with which no server starts.
func TestUpgradeCheck(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var u app.Upgrade
	check := func(want int) {
		t.Helper()
		out, stderr, code := s.run("upgrade", "--check", "--data-dir", s.Dir, "-o", "json")
		if code != want {
			t.Fatalf("exit code %d, want %d: %s %s", code, want, out, stderr)
		}
		u = app.Upgrade{}
		s.check(json.Unmarshal([]byte(out), &u))
	}
	check(0) // beside the server
	s.check(s.Stop())
	before := s.listing()
	check(0)
	if after := s.listing(); !slices.Equal(before, after) {
		t.Errorf("%v became %v", before, after)
	}
	if !u.Back() || u.Ran == "" || len(u.Steps) != 3 || u.Steps[0].Found != u.Steps[0].Known || u.Steps[1].Found != u.Steps[1].Known {
		t.Errorf("%+v", u)
	}
	s.check(os.WriteFile(filepath.Join(s.Dir, "format.json"), []byte(`{"muster":"9.0.0","stream":99}`), 0o600))
	check(1)
	if !u.Refused() || u.Ran != "9.0.0" {
		t.Errorf("%+v", u)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error()+s.Log().Tail(4000), "run Muster 9.0.0") {
		t.Errorf("it started: %v", err)
	}
}

// listing returns the files of the data directory with their sizes and times.
func (s *server) listing() (list []string) {
	s.t.Helper()
	s.check(filepath.WalkDir(s.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && !entry.IsDir() {
			list = append(list, path+" "+info.ModTime().String()+" "+info.Mode().String())
		}
		return err
	}))
	return list
}
