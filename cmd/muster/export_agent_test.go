package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/adminapi"
)

// exporter is a command line against a server that answers what the test says.
type exporter struct {
	t       *testing.T
	answer  adminapi.AgentConfigs
	queries []string
}

func newExporter(t *testing.T) *exporter {
	t.Helper()
	e := &exporter{t: t}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/resources/agent-config" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		e.queries = append(e.queries, r.URL.RawQuery)
		_ = json.NewEncoder(w).Encode(e.answer)
	}))
	t.Cleanup(s.Close)
	t.Setenv("MUSTER_HOME", t.TempDir())
	t.Setenv("MUSTER_URL", s.URL)
	t.Setenv("MUSTER_TOKEN", "muster_x")
	t.Chdir(t.TempDir())
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	e.answer = adminapi.AgentConfigs{
		Revision: 17, AgentURL: "https://muster.example.com:8443",
		CA:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw})),
		Configs: []adminapi.AgentConfig{agentConfig(`{"packs":{}}`, "n1", "n2")},
	}
	return e
}

func agentConfig(text string, nodes ...string) adminapi.AgentConfig {
	one := sha1.Sum([]byte(text))
	two := sha1.Sum([]byte(hex.EncodeToString(one[:])))
	return adminapi.AgentConfig{Hash: hex.EncodeToString(two[:]), Config: text, Nodes: nodes, Count: len(nodes)}
}

// run returns what the command printed, and its exit code.
func (e *exporter) run(args ...string) (stdout, stderr string, code int) {
	e.t.Helper()
	cmd := newExportAgentCommand(&target{})
	var out, errOut bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(e.t.Context())
	if err == nil {
		return out.String(), errOut.String(), exitDone
	}
	return out.String(), err.Error(), exitCode(err)
}

func (e *exporter) must(args ...string) string {
	e.t.Helper()
	out, errOut, code := e.run(args...)
	if code != exitDone {
		e.t.Fatalf("%v: exit code %d: %s", args, code, errOut)
	}
	return out
}

// tree lists the files below a directory.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestExportAgent_files(t *testing.T) {
	e := newExporter(t)
	var r agentExported
	if err := json.Unmarshal([]byte(e.must("--selector", "tag = web", "--revision", "17", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.ConfigHash != e.answer.Configs[0].Hash || r.Nodes != 2 || r.Revision != 17 || r.Out != "muster-agent" || len(r.Files) != 6 {
		t.Errorf("%+v", r)
	}
	if want := []string{"revision=17&selector=tag+%3D+web"}; !slices.Equal(e.queries, want) {
		t.Errorf("asked %q", e.queries)
	}
	b, err := os.ReadFile("muster-agent/etc/osquery/osquery.conf")
	if err != nil || string(b) != `{"packs":{}}` {
		t.Errorf("%q %v", b, err)
	}
	if info, err := os.Stat("muster-agent/etc/osquery/osquery.flags"); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}

	// Another export replaces it: a file that is no more goes, others stay.
	if err := os.WriteFile("muster-agent/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.must("--node", "n1", "--platform", "darwin", "--no-live")
	want := []string{
		"Library/LaunchDaemons/io.osquery.agent.plist", "README.txt", "SHA256SUMS", "mine",
		"private/var/osquery/muster-ca.pem", "private/var/osquery/osquery.conf", "private/var/osquery/osquery.flags",
	}
	if got := tree(t, "muster-agent"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if last := e.queries[len(e.queries)-1]; last != "selector=id+%3D+%22n1%22" {
		t.Errorf("asked %s", last)
	}
}

// TestExportAgent_again checks that two exports are the same bytes.
func TestExportAgent_again(t *testing.T) {
	e := newExporter(t)
	for _, c := range [][2]string{{"deb", "a.deb"}, {"puppet", "a.tar.gz"}, {"ansible", "b.tar.gz"}, {"files", "c.tar.gz"}} {
		args := []string{"--selector", "all", "--format", c[0], "--out", c[1]}
		e.must(args...)
		first, err := os.ReadFile(c[1])
		if err != nil {
			t.Fatal(err)
		}
		e.must(args...)
		if again, err := os.ReadFile(c[1]); err != nil || !bytes.Equal(first, again) {
			t.Errorf("%s: other bytes: %v", c[0], err)
		}
	}
	e.must("--selector", "all", "--format", "deb")
	if _, err := os.Stat("muster-osquery-config_0.17_all.deb"); err != nil {
		t.Error(err)
	}
}

// TestExportAgent_server writes files without a config, for no node.
func TestExportAgent_server(t *testing.T) {
	e := newExporter(t)
	e.answer.Configs = nil
	e.must("--server", "--format", "ansible")
	b, err := os.ReadFile("muster_osquery/files/etc/osquery/osquery.flags")
	if err != nil || !strings.Contains(string(b), "--config_plugin=tls\n") || e.queries[0] != "" {
		t.Errorf("%s %v %q", b, err, e.queries)
	}
	if _, err := os.Stat("muster_osquery/files/etc/osquery/osquery.conf"); err == nil {
		t.Error("there is a config")
	}
	if err := os.WriteFile("ca.pem", []byte(e.answer.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_TOKEN", "") // what needs no server needs no login
	e.must("--server", "--agent-host", "other.example.com:8443", "--agent-ca", "ca.pem", "--out", "offline")
	b, err = os.ReadFile("offline/etc/osquery/osquery.flags")
	if err != nil || !strings.Contains(string(b), "--tls_hostname=other.example.com:8443\n") || len(e.queries) != 1 {
		t.Errorf("%s %v %q", b, err, e.queries)
	}
}

// TestExportAgent_groups: several configs are told, and one can be taken.
func TestExportAgent_groups(t *testing.T) {
	e := newExporter(t)
	other := agentConfig(`{"packs":{"x":{"queries":{"q":{"interval":60,"query":"SELECT * FROM curl"}}}}}`, "n3", "n4", "n5", "n6")
	e.answer.Configs = append(e.answer.Configs, other)
	_, errOut, code := e.run("--selector", "all")
	if code != exitUsage || !strings.Contains(errOut, other.Hash+" (4 nodes, as n3, n4, n5)") || !strings.Contains(errOut, "--config") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	if _, errOut, code := e.run("--selector", "all", "--config", "nonsense"); code != exitUsage || !strings.Contains(errOut, "none of the 2") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	_, errOut, code = e.run("--selector", "all", "--config", other.Hash[:8])
	if code != exitDone || !strings.Contains(errOut, "seems to read curl") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	e.answer.Configs = nil
	if _, _, code := e.run("--selector", "none"); code != exitNotFound {
		t.Errorf("exit code %d", code)
	}
}

// TestExportAgent_refused: what is wrong is said, and nothing is written.
func TestExportAgent_refused(t *testing.T) {
	e := newExporter(t)
	if err := os.Mkdir("full", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("full/thesis.txt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := agentConfig(`{"options":{"disable_distributed":false}}`, "n1")
	for _, c := range []struct {
		args   []string
		change func(*adminapi.AgentConfigs)
		want   string
	}{
		{nil, nil, "--selector or --node"},
		{[]string{"--selector", "all", "--node", "x"}, nil, "not both"},
		{[]string{"--node", `x" or all or id = "`}, nil, "--selector for expressions"},
		{[]string{"--node", "*"}, nil, "--selector for expressions"},
		{[]string{"--selector", "all", "--format", "rpm"}, nil, "--format rpm"},
		{[]string{"--selector", "all", "--format", "puppet", "--out", "modules"}, nil, "muster_osquery"},
		{[]string{"--selector", "all", "--format", "deb", "--platform", "darwin"}, nil, "platform"},
		{[]string{"--selector", "all", "--format", "deb", "--package-name", "../x"}, nil, "name"},
		{[]string{"--selector", "all", "--cpu-quota", "20"}, nil, "cpu_quota"},
		{[]string{"--selector", "all", "--cores", "0"}, nil, "cores"},
		{[]string{"--selector", "all", "--agent-ca", "/nonexistent"}, nil, "--agent-ca"},
		{[]string{"--selector", "all", "--agent-host", "a b:1"}, nil, "server_host"},
		{[]string{"--selector", "all", "--out", "full"}, nil, "thesis.txt"},
		{[]string{"--server", "--no-live"}, nil, "live"},
		{[]string{"--selector", "all"}, func(a *adminapi.AgentConfigs) { a.CA = "" }, "--agent-ca"},
		{[]string{"--selector", "all"}, func(a *adminapi.AgentConfigs) { a.AgentURL = "https://a\n--x=y:1" }, "server_host"},
		{[]string{"--selector", "all"}, func(a *adminapi.AgentConfigs) { a.Configs[0].Config += "\n" }, "compact"},
		{[]string{"--selector", "all", "--no-live"}, func(a *adminapi.AgentConfigs) { a.Configs = []adminapi.AgentConfig{live} }, "disable_distributed"},
	} {
		before := e.answer
		e.answer.Configs = slices.Clone(e.answer.Configs)
		if c.change != nil {
			c.change(&e.answer)
		}
		_, errOut, code := e.run(c.args...)
		if code != exitUsage || !strings.Contains(errOut, c.want) {
			t.Errorf("%v: exit code %d: %s", c.args, code, errOut)
		}
		e.answer = before
	}
	if got := tree(t, "."); !slices.Equal(got, []string{"full/thesis.txt"}) {
		t.Errorf("written: %q", got)
	}
}

// TestExportAgent_outside checks that nothing outside --out is written or
// removed, whatever is in it.
func TestExportAgent_outside(t *testing.T) {
	e := newExporter(t)
	for _, dir := range []string{"out", "elsewhere"} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("elsewhere/file", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("out/SHA256SUMS", []byte("00  ../elsewhere/file\n00  /etc/hostname\n00  .git/config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../elsewhere", "out/etc"); err != nil {
		t.Fatal(err)
	}
	if _, errOut, code := e.run("--selector", "all", "--out", "out"); code == exitDone || !strings.Contains(errOut, "etc") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	if got := tree(t, "elsewhere"); !slices.Equal(got, []string{"file"}) {
		t.Errorf("%q", got)
	}
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://muster.example.com:8443": "muster.example.com:8443", "https://muster.example.com/": "muster.example.com:443",
		"https://[2001:db8::1]": "[2001:db8::1]:443", "muster.example.com:8443": "muster.example.com:8443", "127.0.0.1:8443": "127.0.0.1:8443", "[::1]:8443": "[::1]:8443", "": "",
	} {
		if got := hostOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
