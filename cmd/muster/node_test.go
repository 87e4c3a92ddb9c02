package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/config"
)

// serveMuster runs a server until the test ends, and logs the command line in.
func serveMuster(t *testing.T) *app.App {
	t.Helper()
	bareEnvironment(t)
	dir := t.TempDir()
	cfg, err := config.Load("", func(string) (string, bool) { return "", false }, map[string]string{
		"data-dir": filepath.Join(dir, "data"), "agent-listen": "127.0.0.1:0", "admin-listen": "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "setup", "--url", a.AdminURL(), "--setup-token-file", filepath.Join(cfg.DataDir, "setup-token"), "--user", "ada", "--password-file", password)
	return a
}

// cli runs a command that must succeed, and returns what it printed.
func cli(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := muster(t, args...)
	if code != exitDone {
		t.Fatalf("muster %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

func cliJSON[T any](t *testing.T, args ...string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(cli(t, append(args, "-o", "json")...)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestNode imports a fleet, and does to a node what people do.
func TestNode(t *testing.T) {
	serveMuster(t)
	file := filepath.Join(t.TempDir(), "nodes.csv")
	var text strings.Builder
	text.WriteString("uuid,node_key,hostname,platform,tags\n")
	for i := range 1500 {
		fmt.Fprintf(&text, "host-%d,0123456789abcdef-%d,h%d.example.com,debian,\"moved,web\"\n", i, i, i)
	}
	text.WriteString("host-7,another-key-for-host-7,,,\nhost-x,0123456789abcdef-7,,,\n\"\x1b[2J\",0123456789abcdef-esc,,,\n")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := muster(t, "import", "nodes", file)
	if code != exitPartly || !strings.Contains(errOut, "sent 1000 of 1503 nodes") || !strings.Contains(out, "1501 added, 0 known, 1 clashes, 1 keys used, 0 refused") {
		t.Errorf("exit code %d: %s%s", code, errOut, out)
	}
	if !strings.Contains(out, "1502  host-7") || !strings.Contains(out, "1503  host-x") || strings.Contains(out+errOut, "another-key") {
		t.Errorf("the lines of two bad nodes are not told, or a key is:\n%s", out)
	}
	if r := cliJSON[[]adminapi.Node](t, "node", "list", "--tag", "moved"); len(r) != 1500 {
		t.Errorf("%d nodes", len(r))
	}

	n := cliJSON[adminapi.NodeDetail](t, "node", "show", "host-7")
	if n.Hostname != "h7.example.com" || n.Platform != "linux" || n.Status != "offline" {
		t.Errorf("%+v", n)
	}
	if shown := cli(t, "node", "show", n.ID); !strings.Contains(shown, "by import") || !strings.Contains(shown, "seen never") {
		t.Error(shown)
	}
	cli(t, "node", "quarantine", "host-7", "--reason", "two \x1b[2J of them")
	listed := cliJSON[[]adminapi.Node](t, "node", "list", "--status", "quarantined")
	if shown := cli(t, "node", "show", n.ID); len(listed) != 1 || !strings.Contains(shown, `two \u001b[2J of them`) || !strings.Contains(shown, "quarantined, seen") {
		t.Errorf("%+v\n%s", listed, shown)
	}
	cli(t, "node", "release", "host-7")
	cli(t, "node", "revoke", "host-7")
	if shown := cli(t, "node", "show", "host-7"); strings.Contains(shown, "quarantined") {
		t.Error(shown)
	}
	if out := cli(t, "node", "list", "--search", "2J"); strings.Contains(out, "\x1b") || !strings.Contains(out, `\u001b[2J`) {
		t.Errorf("%q", out)
	}
}

// TestNode_past asks for what was, also of a node that is gone.
func TestNode_past(t *testing.T) {
	serveMuster(t)
	file := filepath.Join(t.TempDir(), "nodes.json")
	if err := os.WriteFile(file, []byte(`[{"uuid":"host-1","key":"0123456789abcdef","hostname":"h1.example.com"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "import", "nodes", file)
	n := cliJSON[adminapi.NodeDetail](t, "node", "show", "host-1")
	who := func(at ...string) int {
		t.Helper()
		found := cliJSON[[]adminapi.Sighting](t, append([]string{"node", "who", "--attribute", "hostname", "--value", "h1.example.com"}, at...)...)
		return len(found)
	}
	if who() != 1 || who("--at", "2h") != 0 || who("--at", "3d") != 0 {
		t.Error("the node is found before it was here, or not now")
	}
	if found := cliJSON[[]adminapi.Sighting](t, "node", "who", "--ip", "192.0.2.1"); len(found) != 0 {
		t.Errorf("%+v", found)
	}
	cli(t, "node", "delete", "host-1")
	for _, s := range cliJSON[[]adminapi.Sighting](t, "node", "attributes", n.ID) {
		if s.NodeID != n.ID || s.Until == nil {
			t.Errorf("%+v", s)
		}
	}
	if out := cli(t, "node", "attributes", n.ID); !strings.Contains(out, "h1.example.com") {
		t.Error(out)
	}
	if gone := cliJSON[[]adminapi.Node](t, "node", "list", "--status", "gone"); len(gone) != 1 || gone[0].Status != "gone" {
		t.Errorf("%+v", gone)
	}
	if _, errOut, code := muster(t, "node", "attributes", "nobody"); code != exitNotFound {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// TestNode_tag changes tags, and shows what gives them and gave them.
func TestNode_tag(t *testing.T) {
	serveMuster(t)
	file := filepath.Join(t.TempDir(), "nodes.json")
	if err := os.WriteFile(file, []byte(`[{"uuid":"host-1","key":"0123456789abcdef","tags":["moved"]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "import", "nodes", file)
	if out := cli(t, "node", "tag", "host-1", "--add", "web", "--add", "eu", "--remove", "moved"); out != "eu web\n" {
		t.Errorf("%q", out)
	}
	if out := cli(t, "node", "show", "host-1"); !strings.Contains(out, "eu (by hand), web (by hand)") {
		t.Error(out)
	}
	if has := cliJSON[[]adminapi.TagSpan](t, "node", "tag", "host-1"); len(has) != 2 || has[0].Tag != "eu" || has[0].Source != "hand" || has[0].Until != nil {
		t.Errorf("%+v", has)
	}
	if all := cliJSON[[]adminapi.TagSpan](t, "node", "tag", "host-1", "--history"); len(all) != 3 || all[2].Tag != "moved" || all[2].Until == nil {
		t.Errorf("%+v", all)
	}
	if out := cli(t, "node", "tag", "host-1", "--history"); !strings.Contains(out, "SOURCE") || !strings.Contains(out, "moved") {
		t.Error(out)
	}
	if changed := cliJSON[adminapi.TaggedNode](t, "node", "tag", "host-1", "--remove", "eu"); len(changed.TagSources) != 1 || changed.Message != "" {
		t.Errorf("%+v", changed)
	}
	if _, errOut, code := muster(t, "node", "tag", "host-1", "--history", "--add", "x"); code != exitUsage {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	if _, errOut, code := muster(t, "node", "tag", "host-1", "--add", "No Tag"); code != exitUsage || !strings.Contains(errOut, "tags") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// TestQuery_where: an expression says whom to ask, and a wrong one where it is
// wrong.
func TestQuery_where(t *testing.T) {
	serveMuster(t)
	for where, want := range map[string]string{"all": "no node matches", "colour = red": `"colour" at character 1`, "tag =": "ends where a value"} {
		if _, errOut, code := muster(t, "query", "SELECT 1", "--where", where); code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%s: exit code %d: %s", where, code, errOut)
		}
	}
	if _, errOut, code := muster(t, "query", "SELECT 1"); code != exitUsage || !strings.Contains(errOut, "--where") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

func TestNode_transparency(t *testing.T) {
	a := serveMuster(t)
	file := filepath.Join(t.TempDir(), "nodes.csv")
	if err := os.WriteFile(file, []byte("uuid,node_key\nhost-1,0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "import", "nodes", file)
	open := func(path string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.AdminURL()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	raw := strings.TrimSuffix(cli(t, "node", "transparency", "host-1", "--ttl", "7d", "-o", "raw"), "\n")
	if !strings.HasPrefix(raw, "/transparency/") || strings.Contains(raw, "\n") || open(raw) != http.StatusOK {
		t.Errorf("%q", raw)
	}
	if out := cli(t, "node", "transparency", "host-1"); !strings.Contains(out, "It works until") || !strings.Contains(out, "--revoke") {
		t.Error(out)
	}
	cli(t, "node", "transparency", "host-1", "--revoke")
	if status := open(raw); status != http.StatusNotFound {
		t.Errorf("after the revocation: %d", status)
	}
	for _, args := range [][]string{{"--ttl", "30s"}, {"--ttl", "367d"}, {"--ttl", "1d", "--revoke"}} {
		if _, errOut, code := muster(t, append([]string{"node", "transparency", "host-1"}, args...)...); code != exitUsage || !strings.Contains(errOut, "ttl") {
			t.Errorf("%v: %d %s", args, code, errOut)
		}
	}
}
