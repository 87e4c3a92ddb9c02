package e2e

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/rig"
)

// demo is a running muster demo.
type demo struct {
	url, token string
	log        *rig.Log
}

// newDemo starts a demonstration on free ports.
func newDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	args = append([]string{"demo", "--data-dir", filepath.Join(t.TempDir(), "demo"), "--agent-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)
	cmd := exec.Command(binary(t), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{log: new(rig.Log)}
	cmd.Stderr = d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of the demonstration:\n%s", d.log.Tail(4000))
		}
	})
	link := regexp.MustCompile(`(http://\S+)/setup#token=(\S+)`)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := link.FindStringSubmatch(lines.Text()); m != nil {
			d.url, d.token = m[1], m[2]
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return d
		}
	}
	t.Fatalf("the demonstration ended without a setup link: %v\n%s", lines.Err(), d.log.Tail(4000))
	return nil
}

// TestDemo is the README's first command: this machine is a node with its real
// details, and rows of it are found.
func TestDemo(t *testing.T) {
	t.Parallel()
	started := time.Now()
	d := newDemo(t, "--nodes", "3")
	s := prepare(t)
	s.AdminURL, s.Dir = d.url, t.TempDir()
	s.check(os.WriteFile(filepath.Join(s.Dir, "setup-token"), []byte(d.token), 0o600))
	s.setUp()
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	var nodes []nodeDocument
	s.until("this machine and three simulated ones", func() bool {
		s.cliJSON(&nodes, "node", "list")
		return len(nodes) == 4
	})
	own := nodes[0]
	for _, n := range nodes {
		if n.Hostname == hostname {
			own = n
		}
	}
	if own.Hostname != hostname || own.Platform != "linux" {
		t.Fatalf("this machine is not among %+v", nodes)
	}
	var events []eventDocument
	s.until("rows of this machine", func() bool {
		s.cliJSON(&events, "event", "search", "--node", own.ID, "--query", "pack_base_os_version")
		return len(events) > 0
	})
	t.Logf("first light after %s; a new user is promised 30 s", time.Since(started))
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	if name := events[0].Columns["name"]; name == "" || !strings.Contains(string(release), name) {
		t.Errorf("os_version.name is %q, which /etc/os-release does not say", name)
	}
}

// missing says that a test cannot run here: it is skipped, or fails where
// nothing may be skipped.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("MUSTER_TEST_REQUIRE_ALL") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TestBrowser drives the UI in a real browser; the steps are in web/e2e.
func TestBrowser(t *testing.T) {
	chromium := os.Getenv("MUSTER_CHROMIUM")
	if chromium == "" {
		var err error
		if chromium, err = exec.LookPath("chromium"); err != nil {
			missing(t, "Chromium is not installed; run make deps")
		}
	}
	if _, err := os.Stat("../web/node_modules/.bin/playwright"); err != nil {
		missing(t, "the UI's packages are not installed; run make ui")
	}
	d := newDemo(t, "--nodes", "5")
	r, err := http.Get(d.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || !strings.Contains(string(page), `id="root"`) {
		missing(t, "the binary holds no UI; run make build")
	}
	cmd := exec.CommandContext(t.Context(), "node_modules/.bin/playwright", "test")
	cmd.Dir = "../web"
	cmd.Env = append(os.Environ(), "MUSTER_E2E_URL="+d.url, "MUSTER_E2E_SETUP_TOKEN="+d.token, "MUSTER_CHROMIUM="+chromium, "CI=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("playwright: %v\n%s", err, out)
	}
}
