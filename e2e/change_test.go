package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/e2e/rig"
)

// changeDocument is a change as the command line prints it.
type changeDocument struct {
	ID        string   `json:"id"`
	State     string   `json:"state"`
	Tier      int      `json:"tier"`
	Hash      string   `json:"hash"`
	Revision  int64    `json:"revision"`
	Needed    int      `json:"needed"`
	Refusals  []string `json:"refusals"`
	Diff      []any    `json:"diff"`
	Findings  []any    `json:"findings"`
	Approvals []any    `json:"approvals"`
}

// files writes documents into a directory and returns it.
func files(t *testing.T, documents ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, d := range documents {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(d), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// change runs a command that prints a change, with any exit code.
func (s *server) change(t *testing.T, code int, args ...string) changeDocument {
	t.Helper()
	stdout, stderr, got := s.run(append(args, "-o", "json")...)
	if got != code {
		t.Fatalf("muster %s: exit code %d, want %d: %s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	var c changeDocument
	if err := json.Unmarshal([]byte(stdout), &c); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	return c
}

const uptimePack = `
apiVersion: muster/v1
kind: Pack
name: watch
spec:
  selector: tag = linux-host
  queries:
    uptime: {query: SELECT total_seconds FROM uptime, interval: 1, snapshot: true}
    processes: {query: "SELECT pid FROM processes WHERE pid = 1", interval: 2, snapshot: true, tag_if_rows: has-init}
---
apiVersion: muster/v1
kind: TagRule
name: hosts
spec:
  selector: platform = linux and host_identifier = this-machine
  tags: [linux-host]
`

// TestChange follows a change from a file to a real agent, through approval,
// freeze and emergency, over a crash, and reads the trail.
func TestChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	s.agent(t, s.secret("all"))
	dir := files(t, uptimePack)
	s.until("the first revision to be served", func() bool {
		_, _, code := s.run("node", "history", "this-machine")
		return code == 0 && len(s.activity()) > 0
	})

	dry := s.change(t, 0, "apply", "-f", dir, "-m", "uptime", "--dry-run")
	if dry.State != "planned" || dry.ID != "" || len(dry.Diff) != 2 {
		t.Errorf("dry run: %+v", dry)
	}
	if c := s.change(t, 0, "apply", "-f", dir, "-m", "uptime"); c.State != "applied" || c.Revision != 2 || c.Hash != dry.Hash || c.Tier > 2 {
		t.Errorf("applied: %+v", c)
	}
	if c := s.change(t, 0, "apply", "-f", dir, "-m", "uptime"); c.State != "unchanged" {
		t.Errorf("again: %+v", c)
	}
	var events []eventDocument
	s.until("the new query's rows", func() bool {
		s.cliJSON(&events, "event", "search", "--query", "pack_watch_uptime")
		return len(events) > 2
	})
	s.until("the tags by rule and by rows", func() bool {
		var nodes []nodeDocument
		s.cliJSON(&nodes, "node", "list")
		return len(nodes) == 1 && slices.Contains(nodes[0].Tags, "linux-host") && slices.Contains(nodes[0].Tags, "has-init")
	})
	var config struct {
		Revision int64
		Hash     string
		Reported string
		Config   struct{ Packs map[string]any }
		Sources  []struct{ Path string }
	}
	s.until("the node to say that it runs the config", func() bool {
		s.cliJSON(&config, "node", "config", "this-machine")
		return config.Hash == config.Reported
	})
	if config.Revision != 2 || config.Config.Packs["watch"] == nil || len(config.Sources) < 5 {
		t.Errorf("config: %+v", config)
	}

	// A refused one, by policy.
	bad := files(t, "apiVersion: muster/v1\nkind: Profile\nname: evil\nspec: {options: {logger_tls_endpoint: '@evil.example/log'}}\n", uptimePack+"\n")
	if c := s.change(t, 3, "apply", "-f", bad, "-m", "x"); c.State != "refused" || c.Tier != 3 || len(c.Refusals) == 0 {
		t.Errorf("refused: %+v", c)
	}
	if _, stderr, code := s.run("query", "SELECT url FROM curl WHERE url = 'http://169.254.169.254/'", "--all"); code != 3 {
		t.Errorf("curl: %d, %s", code, stderr)
	}

	// Two pairs of eyes.
	password := filepath.Join(s.Home, "password")
	s.cli("user", "create", "bob", "--role", "operator", "--password-file", password, "--own-password-file", password)
	s.change(t, 0, "apply", "-f", files(t, "apiVersion: muster/v1\nkind: ApprovalPolicy\nname: eyes\nspec: {rules: [{tier: 0, approvals: 1}]}\n"), "-m", "from now on")
	faster := files(t, strings.Replace(uptimePack, "interval: 2,", "interval: 3,", 1))
	c := s.change(t, 5, "apply", "-f", faster, "-m", "slower")
	if c.State != "pending" || c.Needed != 1 {
		t.Fatalf("pending: %+v", c)
	}
	if _, stderr, code := s.run("change", "approve", c.ID, "--password-file", password); code != 3 {
		t.Errorf("one's own: %d, %s", code, stderr)
	}
	bob := &server{rig.New(rig.Options{Binary: s.Binary, Dir: s.Dir, Home: t.TempDir()}), t}
	bob.cli("login", "--url", s.AdminURL, "--user", "bob", "--password-file", password)
	if got := bob.change(t, 0, "change", "approve", c.ID, "--password-file", password); got.State != "applied" || len(got.Approvals) != 1 {
		t.Errorf("approved: %+v", got)
	}

	// A freeze, and a crash in the middle of it.
	s.cli("freeze", "on", "-m", "incident")
	waits := bob.change(t, 5, "apply", "-f", dir, "-m", "as before")
	if got := s.change(t, 0, "change", "approve", waits.ID, "--password-file", password); got.State != "approved" || got.Revision != 0 {
		t.Errorf("approved in a freeze: %+v", got)
	}
	s.check(s.Kill())
	s.start()
	if _, stderr, code := s.run("change", "apply", waits.ID); code != 3 || !strings.Contains(stderr, "incident") {
		t.Errorf("applied in a freeze, after a crash: %d, %s", code, stderr)
	}
	s.cli("emergency", "safe-config", "--all", "-m", "stop everything")
	s.until("the node to run nothing", func() bool {
		config.Config.Packs = nil
		s.cliJSON(&config, "node", "config", "this-machine")
		return len(config.Config.Packs) == 0 && s.activity()[0].Hash == config.Hash
	})
	s.cli("emergency", "end", "-m", "go on")
	s.cli("freeze", "off", "-m", "over")

	s.trail()
}

// activity is one entry of a node's history.
type activity struct {
	Kind, By, Hash, SQL, Message string
	Revision                     int64
}

func (s *server) activity() []activity {
	s.t.Helper()
	var entries []activity
	s.cliJSON(&entries, "node", "history", "this-machine")
	return entries
}

// trail checks what is told afterwards: to the host's owner, and to an auditor.
func (s *server) trail() {
	s.t.Helper()
	s.cli("query", "SELECT 1 AS one", "--all", "--wait", "30s")
	s.until("the node's history", func() bool {
		var revisions []int64
		asked := false
		for _, e := range s.activity() {
			if e.Kind == "config" {
				revisions = append(revisions, e.Revision)
			}
			asked = asked || e.Kind == "live_query" && e.SQL == "SELECT 1 AS one" && e.By == "admin"
		}
		return asked && slices.Contains(revisions, 1) && slices.Contains(revisions, 2) && slices.Contains(revisions, 4)
	})
	var report struct {
		OK    bool `json:"ok"`
		Whole int64
	}
	s.cliJSON(&report, "audit", "verify")
	if !report.OK || report.Whole < 12 {
		s.t.Errorf("audit: %+v", report)
	}
	var entries []struct{ Action, Outcome string }
	s.cliJSON(&entries, "audit", "list")
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Action+" "+e.Outcome] = true
	}
	for _, want := range []string{
		"change.apply done", "change.apply refused", "change.propose done", "change.approve done", "change.approve refused",
		"live.start refused", "freeze.on done", "emergency.safe_config done", "user.create done",
	} {
		if !found[want] {
			s.t.Errorf("the audit log lacks %s", want)
		}
	}
}
