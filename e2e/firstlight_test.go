package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/internal/agenttest"
)

// agent runs muster agent against the server until the test ends.
func (s *server) agent(t *testing.T, secret string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := strings.Join([]string{
		"--tls_hostname=" + strings.TrimPrefix(s.AgentURL, "https://"), "--tls_server_certs=" + filepath.Join(s.Dir, "ca.pem"),
		"--enroll_secret_path=" + file, "--enroll_tls_endpoint=/api/osquery/enroll", "--host_identifier=specified", "--specified_identifier=this-machine",
		"--config_plugin=tls", "--config_tls_endpoint=/api/osquery/config", "--config_refresh=2",
		"--logger_plugin=tls", "--logger_tls_endpoint=/api/osquery/log", "--logger_tls_period=1",
		"--disable_distributed=false", "--distributed_plugin=tls", "--distributed_interval=1",
		"--distributed_tls_read_endpoint=/api/osquery/distributed/read", "--distributed_tls_write_endpoint=/api/osquery/distributed/write",
		"--database_path=" + filepath.Join(dir, "db"), "# a comment", "",
	}, "\n")
	flagfile := filepath.Join(dir, "flags")
	if err := os.WriteFile(flagfile, []byte(flags), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), append([]string{"agent", "--flagfile", flagfile}, args...)...)
	var log rig.Log
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of the agent:\n%s", log.Tail(4000))
		}
	})
}

type nodeDocument struct {
	ID             string   `json:"id"`
	HostIdentifier string   `json:"host_identifier"`
	Hostname       string   `json:"hostname"`
	Platform       string   `json:"platform"`
	OsqueryVersion string   `json:"osquery_version"`
	Tags           []string `json:"tags"`
	Status         string   `json:"status"`
	LastSeen       string   `json:"last_seen"`
	EnrolledAt     string   `json:"enrolled_at"`
}

type queryDocument struct {
	ID     string         `json:"id"`
	Counts map[string]int `json:"counts"`
	Rows   []struct {
		NodeID         string            `json:"node_id"`
		HostIdentifier string            `json:"host_identifier"`
		Columns        map[string]string `json:"columns"`
	} `json:"rows"`
	Errors []any `json:"errors"`
}

type eventDocument struct {
	Time           time.Time         `json:"time"`
	ReceivedAt     time.Time         `json:"received_at"`
	NodeID         string            `json:"node_id"`
	HostIdentifier string            `json:"host_identifier"`
	Query          string            `json:"query"`
	Action         string            `json:"action"`
	Columns        map[string]string `json:"columns"`
}

// TestFirstLight is the main job from end to end: this machine enrols, runs
// its schedule, logs rows that are searched, and answers a live query.
func TestFirstLight(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	if _, err := os.Stat(filepath.Join(s.Dir, "setup-token")); !os.IsNotExist(err) {
		t.Errorf("the setup token is still there: %v", err)
	}
	s.agent(t, s.secret("first", "--tag", "linux"))
	var nodes []nodeDocument
	s.until("the node", func() bool {
		s.cliJSON(&nodes, "node", "list")
		return len(nodes) == 1
	})
	n := nodes[0]
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if n.HostIdentifier != "this-machine" || n.Hostname != hostname || n.Platform != "linux" || n.Status != "online" ||
		fmt.Sprint(n.Tags) != "[linux]" || n.OsqueryVersion == "" || n.EnrolledAt == "" || n.LastSeen == "" {
		t.Errorf("%+v", n)
	}
	s.searchRows(t, n)
	s.askNode(t, n)
}

// searchRows finds this machine's own users, as /etc/passwd has them.
func (s *server) searchRows(t *testing.T, n nodeDocument) {
	t.Helper()
	var events []eventDocument
	s.until("rows of the schedule", func() bool {
		s.cliJSON(&events, "event", "search", "--query", "pack_base_users", "--node", n.ID, "--since", "1h", "--where", `username = "root"`)
		return len(events) > 0
	})
	e := events[0]
	if len(events) != 1 || e.Columns["uid"] != "0" || e.Action != "added" || e.NodeID != n.ID || e.HostIdentifier != "this-machine" ||
		time.Since(e.Time) > 5*time.Minute || time.Since(e.ReceivedAt) > 5*time.Minute {
		t.Errorf("%+v", events)
	}
	s.cliJSON(&events, "event", "search", "--query", "pack_base_users", "--limit", "2")
	if len(events) != 2 {
		t.Errorf("--limit 2 gave %d", len(events))
	}
}

// askNode asks for the agent's own process, of which the test knows nothing but
// that it runs.
func (s *server) askNode(t *testing.T, n nodeDocument) {
	t.Helper()
	var q queryDocument
	s.cliJSON(&q, "query", "SELECT pid, name, cmdline FROM processes WHERE cmdline LIKE '%agent --flagfile%'", "--node", n.HostIdentifier, "--wait", "30s")
	if q.Counts["answered"] != 1 || len(q.Rows) < 1 || q.Rows[0].NodeID != n.ID || !strings.Contains(q.Rows[0].Columns["cmdline"], "agent --flagfile") || q.Errors == nil {
		t.Errorf("%+v", q)
	}
	out, _, code := s.run("query", "SELECT global_state FROM alf", "--all", "--wait", "30s", "-o", "json")
	if err := json.Unmarshal([]byte(out), &q); err != nil || q.Counts["failed"] != 1 || len(q.Errors) != 1 || code != 0 {
		t.Errorf("exit code %d, %s", code, out)
	}
	if _, errOut, code := s.run("query", "SELECT 1"); code != 2 || !strings.Contains(errOut, "--all") {
		t.Errorf("a query to nobody: exit code %d: %s", code, errOut)
	}
	if _, errOut, code := s.run("query", "DROP TABLE x", "--all"); code != 2 || !strings.Contains(errOut, "sql") {
		t.Errorf("a query that is no SELECT: exit code %d: %s", code, errOut)
	}
	if out := s.cli("audit", "list"); !strings.Contains(out, "live.start") || !strings.Contains(out, "secret.create") {
		t.Errorf("the audit log lacks what was done:\n%s", out)
	}
}

// TestUnanswered asks a node that never polls.
func TestUnanswered(t *testing.T) {
	s := newServer(t)
	s.setUp()
	node := agenttest.NewNodes(t, s.AgentURL, s.roots(), s.secret("mute"), 1)[0]
	if err := node.Enroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, _, code := s.run("query", "SELECT 1 AS one", "--all", "--wait", "1s", "-o", "json")
	var q queryDocument
	if err := json.Unmarshal([]byte(out), &q); err != nil || code != 5 || q.Counts["stopped"] != 1 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	read, err := node.Read(t.Context())
	if err != nil || len(read.Queries) != 0 {
		t.Errorf("a query was delivered after its time: %v %v", read, err)
	}
}

// TestSecretLimits enrols until a secret is used up, revoked or unknown.
func TestSecretLimits(t *testing.T) {
	s := newServer(t)
	s.setUp()
	nodes := agenttest.NewNodes(t, s.AgentURL, s.roots(), s.secret("once", "--max-uses", "1"), 2)
	if err := nodes[0].Enroll(t.Context()); err != nil {
		t.Errorf("the first use: %v", err)
	}
	if err := nodes[1].Enroll(t.Context()); err == nil {
		t.Error("a secret for one use was used twice")
	}
	value := s.secret("gone", "--expires", "1h")
	s.cli("secret", "revoke", "gone")
	if err := agenttest.NewNodes(t, s.AgentURL, s.roots(), value, 1)[0].Enroll(t.Context()); err == nil {
		t.Error("a revoked secret was used")
	}
	if _, _, code := s.run("secret", "revoke", "nothing"); code != 4 {
		t.Errorf("revoking nothing: exit code %d, want 4", code)
	}
	list := s.cli("secret", "list", "-o", "json")
	if strings.Contains(list, value) {
		t.Error("the list shows a secret's value")
	}
	s.noTrace(t, value)
}

// noTrace checks that a secret is in no file of the server, nor in its log.
func (s *server) noTrace(t *testing.T, secret string) {
	t.Helper()
	if strings.Contains(s.Log().String(), secret) {
		t.Error("the log holds a secret")
	}
	err := filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s holds a secret in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDeletedNode checks that a removed node's key is refused at once, so that
// its agent enrols again, as another node.
func TestDeletedNode(t *testing.T) {
	s := newServer(t)
	s.setUp()
	node := agenttest.NewNodes(t, s.AgentURL, s.roots(), s.secret("all"), 1)[0]
	if err := node.Enroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before, after []nodeDocument
	s.cliJSON(&before, "node", "list")
	s.cli("node", "delete", before[0].ID)
	if s.cliJSON(&after, "node", "list"); len(after) != 0 {
		t.Errorf("a deleted node is listed: %+v", after)
	}
	old := node.Key()
	if _, err := node.Read(t.Context()); err != nil && node.Key() == old {
		t.Errorf("the agent did not enrol again: %v", err)
	}
	s.until("the node to come back", func() bool {
		_, _ = node.Read(t.Context())
		s.cliJSON(&after, "node", "list")
		return len(after) == 1
	})
	if after[0].ID == before[0].ID {
		t.Error("the node came back under its old id")
	}
}

// TestDataDirectory looks at what a first start leaves on disk.
func TestDataDirectory(t *testing.T) {
	s := newServer(t)
	for name, mode := range map[string]os.FileMode{
		".": 0o700, "setup-token": 0o600, "secret.key": 0o600, "ca-key.pem": 0o600, "agent-key.pem": 0o600, "state.db": 0o600,
	} {
		info, err := os.Stat(filepath.Join(s.Dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want mode %o", name, info, err, mode)
		}
	}
	second := exec.Command(binary(t), "serve", "--data-dir", s.Dir, "--agent-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another server uses") {
		t.Errorf("a second server on the same directory: %v %s", err, out)
	}
}

// TestConfigErrors starts servers with settings that cannot be.
func TestConfigErrors(t *testing.T) {
	s := prepare(t)
	file := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(file, []byte("data_dir: x\nagent_lisen: :1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		`did you mean "agent_listen"`: {"--config", file},
		"line 2":                      {"--config", file},
		"is not loopback":             {"--admin-listen", "0.0.0.0:8080"},
		"retention":                   {"--retention", "soon"},
		"unknown flag":                {"--agent-lisen", ":1"},
	} {
		_, errOut, code := s.run(append([]string{"serve", "--data-dir", t.TempDir()}, args...)...)
		if code != 2 || !strings.Contains(errOut, want) {
			t.Errorf("serve %v: exit code %d: %s; want %q", args, code, errOut, want)
		}
	}
}

// TestDrain stops the server while requests are in flight: each is answered,
// and what was acknowledged is there after the next start.
func TestDrain(t *testing.T) {
	s := newServer(t)
	s.setUp()
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{
		Secret: s.secret("drain"), Nodes: 20, LogInterval: 5 * time.Millisecond, Rows: 2,
	})
	s.check(err)
	s.until("agents to log", func() bool { return fleet.Acked() > 500 })
	if err := s.Stop(); err != nil {
		t.Errorf("stopping under load: %v", err)
	}
	s.start()
	before := fleet.Acked()
	s.until("agents to go on", func() bool { return fleet.Acked() > before })
	s.check(fleet.Stop())
	account, err := s.Reconcile(t.Context(), fleet)
	s.check(errors.Join(err, account.Broken))
	t.Logf("%+v", account)
}

// TestTLS looks at the agents' listener as a careful client: the pinned CA,
// ECDSA, TLS 1.2 at least, no HTTP without TLS, and a new certificate without
// dropped connections.
func TestTLS(t *testing.T) {
	s := newServer(t, "--agent-hostname", "muster.example.com")
	host := strings.TrimPrefix(s.AgentURL, "https://")
	dial := func(c *tls.Config) (*tls.Conn, error) {
		c.RootCAs = s.roots()
		return tls.Dial("tcp", host, c)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "muster.example.com"} {
		conn, err := dial(&tls.Config{ServerName: name})
		if err != nil {
			t.Fatalf("as %s: %v", name, err)
		}
		if _, ok := conn.ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey); !ok {
			t.Errorf("the key is a %T", conn.ConnectionState().PeerCertificates[0].PublicKey)
		}
		_ = conn.Close()
	}
	if _, err := dial(&tls.Config{ServerName: "localhost", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	r, err := http.Get("http://" + host + "/api/osquery/config")
	if err == nil {
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if r.StatusCode == 200 {
			t.Errorf("HTTP without TLS: %s", b)
		}
	}
	kept, err := dial(&tls.Config{ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	before := kept.ConnectionState().PeerCertificates[0].SerialNumber
	s.newCertificate(t)
	if err := s.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.until("the new certificate", func() bool {
		conn, err := dial(&tls.Config{ServerName: "localhost"})
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(before) != 0
	})
	if _, err := io.WriteString(kept, "POST /api/osquery/config HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Errorf("the connection from before was dropped: %v", err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(kept, answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401") {
		t.Errorf("the connection from before: %q %v", answer, err)
	}
}

// newCertificate makes another server make another certificate of the same CA
// and puts it in place.
func (s *server) newCertificate(t *testing.T) {
	t.Helper()
	other := prepare(t, "--agent-hostname", "muster.example.com")
	if err := os.Mkdir(other.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	move := func(from, to string, names ...string) {
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	move(s.Dir, other.Dir, "ca.pem", "ca-key.pem")
	other.start()
	s.check(other.Kill())
	move(other.Dir, s.Dir, "agent-key.pem", "agent-cert.pem")
}

// TestRepeatedSetup checks that the setup token works once.
func TestRepeatedSetup(t *testing.T) {
	s := newServer(t)
	s.setUp()
	body := strings.NewReader(`{"token":"guess","username":"second","password":"` + rig.Password + `"}`)
	r, err := http.Post(s.AdminURL+"/api/v1/setup", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusConflict {
		t.Errorf("a second setup: %s", r.Status)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.cli("node", "list") // the session outlives the server
	if _, err := os.Stat(filepath.Join(s.Dir, "setup-token")); !os.IsNotExist(err) {
		t.Errorf("a setup token after the setup: %v", err)
	}
}
