// Package e2e uses the real binary as its users do: it starts servers, kills
// them, drives them with the command line and a browser, and counts.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that must come.
const patience = 60 * time.Second

// binary returns the muster to test: MUSTER_BINARY, or one built now.
func binary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("MUSTER_BINARY"); path != "" {
		return path
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "muster-e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "muster")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/muster").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// server is a running muster serve.
type server struct {
	t        *testing.T
	dir      string // data directory
	home     string // MUSTER_HOME of the CLI
	agentURL string
	adminURL string
	cmd      *exec.Cmd
	exited   chan error
	log      *logBuffer
}

// newServer starts a server on free ports with an empty data directory.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), home: t.TempDir()}
	s.start("127.0.0.1:0", "127.0.0.1:0", args...)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log.tail(8000))
		}
	})
	return s
}

// start runs the server and waits until it is ready.
func (s *server) start(agent, admin string, args ...string) {
	s.t.Helper()
	args = append([]string{"serve", "--data-dir", s.dir, "--agent-listen", agent, "--admin-listen", admin, "--log-format", "json"}, args...)
	s.cmd = exec.Command(binary(s.t), args...)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = &logBuffer{}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	listening := make(chan map[string]any, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadBytes('\n')
			_, _ = s.log.Write(line)
			var record map[string]any
			if json.Unmarshal(line, &record) == nil && record["msg"] == "muster serves" {
				listening <- record
			}
			if err != nil {
				return
			}
		}
	}()
	s.exited = make(chan error, 1)
	go func() {
		<-read
		s.exited <- s.cmd.Wait()
	}()
	select {
	case record := <-listening:
		s.agentURL = "https://" + fmt.Sprint(record["agents"])
		s.adminURL = fmt.Sprint(record["people"])
	case err := <-s.exited:
		s.t.Fatalf("the server ended at once: %v\n%s", err, s.log.tail(8000))
	case <-time.After(patience):
		s.t.Fatalf("the server does not listen\n%s", s.log.tail(8000))
	}
	s.until("ready", func() bool {
		r, err := http.Get(s.adminURL + "/readyz")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// restart starts the server again at the same addresses.
func (s *server) restart() {
	s.t.Helper()
	s.start(strings.TrimPrefix(s.agentURL, "https://"), strings.TrimPrefix(s.adminURL, "http://"))
}

// kill ends the server as a crash would.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// stop ends the server as an operator would and returns how it ended.
func (s *server) stop() error {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.exited:
		s.cmd = nil
		return err
	case <-time.After(patience):
		s.t.Fatal("the server does not stop")
		return nil
	}
}

// until waits until done says so.
func (s *server) until(what string, done func() bool) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		if done() {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			s.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// roots returns the CA that the server wrote for agents.
func (s *server) roots() *x509.CertPool {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		s.t.Fatal("ca.pem holds no certificate")
	}
	return pool
}

// run runs the CLI and returns what it printed and its exit code.
func (s *server) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(s.t), args...)
	cmd.Env = append(os.Environ(), "MUSTER_HOME="+s.home, "MUSTER_URL=", "MUSTER_TOKEN=")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("muster %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// cli runs the CLI, which must succeed, and returns what it printed.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	out, errOut, code := s.run(args...)
	if code != 0 {
		s.t.Fatalf("muster %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return out
}

// cliJSON is cli for a command that prints one JSON document.
func (s *server) cliJSON(out any, args ...string) {
	s.t.Helper()
	text := s.cli(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		s.t.Fatalf("muster %s: %v in %s", strings.Join(args, " "), err, text)
	}
}

const password = "correct horse battery staple"

// setUp makes the first administrator and logs the CLI in.
func (s *server) setUp() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cli("setup", "--url", s.adminURL, "--setup-token-file", filepath.Join(s.dir, "setup-token"), "--user", "admin", "--password-file", file)
}

// secret makes an enroll secret.
func (s *server) secret(name string, args ...string) string {
	s.t.Helper()
	return strings.TrimSpace(s.cli(append([]string{"secret", "create", name, "-o", "raw"}, args...)...))
}

// logBuffer keeps a log that is still being written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}

var _ io.Writer = (*logBuffer)(nil)
