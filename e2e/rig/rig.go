// Package rig controls a real muster server as its operators do: it starts the
// binary on loopback, waits until it is ready, uses the command line, kills it,
// and compares what agents were promised with what it kept. The tests in /e2e
// and the scenarios in /e2e/weather share it; it ends only what it started.
package rig

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
)

// Patience bounds every wait for something that must come.
const Patience = 60 * time.Second

// loopback lets the system choose a port.
const loopback = "127.0.0.1:0"

// Build returns the muster to run: the one that MUSTER_BINARY names, or else
// one that it builds into dir, for which the go command must be there.
func Build(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("MUSTER_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "muster")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/musterhq/muster/cmd/muster").CombinedOutput() //nolint:gosec // the path is ours
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
}

// Options of a Server. Binary, Dir and Home are required.
type Options struct {
	Binary string
	Dir    string   // data directory; the server makes it
	Home   string   // MUSTER_HOME of the command line
	Args   []string // of serve, besides the directory, the addresses and the form of the log
	Env    []string // of the server, besides our own
}

// Server is a muster serve that may run, and its command line. AgentURL and
// AdminURL are known after the first Start and stay.
type Server struct {
	Options

	AgentURL, AdminURL string
	// Wrap is a command in front of the next Start, which must become the server
	// by exec, so that its process is the server's.
	Wrap []string

	log Log

	mu  sync.Mutex
	run *process // nil when none runs
}

// process is one run of the binary.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended
	err  error         // how; valid after done
}

// New returns a server that does not run yet.
func New(o Options) *Server { return &Server{Options: o} }

// Start runs the server and waits until it is ready: the first time on free
// ports of the loopback address, later on the same. The server is killed when
// ctx ends.
func (s *Server) Start(ctx context.Context) error {
	agent, admin := loopback, loopback
	if s.AgentURL != "" {
		agent, admin = strings.TrimPrefix(s.AgentURL, "https://"), strings.TrimPrefix(s.AdminURL, "http://")
	}
	line := append(append([]string{}, s.Wrap...), s.Binary, "serve", "--data-dir", s.Dir,
		"--agent-listen", agent, "--admin-listen", admin, "--log-format", "json")
	line = append(line, s.Args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // the command is the caller's
	cmd.Env = append(os.Environ(), s.Env...)
	serves := &announced{log: &s.log, found: make(chan addresses, 1)}
	cmd.Stderr = serves
	cmd.WaitDelay = Patience
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	s.set(p)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	late := time.NewTimer(Patience)
	defer late.Stop()
	select {
	case at := <-serves.found:
		s.AgentURL, s.AdminURL = "https://"+at.Agents, at.People
	case <-p.done:
		return fmt.Errorf("the server ended at once: %w; its log ends with:\n%s", s.Alive(), s.log.Tail(2000))
	case <-late.C:
		return errors.Join(fmt.Errorf("the server does not listen after %s", Patience), s.Kill())
	}
	return s.ready(ctx)
}

// ready waits until the server answers /readyz.
func (s *Server) ready(ctx context.Context) error {
	client := &http.Client{Timeout: Patience}
	defer client.CloseIdleConnections()
	return Until(ctx, "the server to be ready", func() (bool, error) {
		if err := s.Alive(); err != nil {
			return false, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL+"/readyz", nil)
		if err != nil {
			return false, err
		}
		answer, err := client.Do(r)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		return answer.StatusCode == http.StatusOK, answer.Body.Close()
	})
}

func (s *Server) set(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = p
}

func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// errDown is for calls that need a server when none runs.
var errDown = errors.New("the server does not run; Start it first")

// Alive returns an error when the server does not run: it was stopped, or it
// ended by itself, and how.
func (s *Server) Alive() error {
	p := s.process()
	if p == nil {
		return errDown
	}
	select {
	case <-p.done:
		return fmt.Errorf("the server ended by itself: %v", p.cmd.ProcessState)
	default:
		return nil
	}
}

// PID returns the process of the server; 0 when none runs.
func (s *Server) PID() int {
	if p := s.process(); p != nil {
		return p.cmd.Process.Pid
	}
	return 0
}

// Usage returns what the server's process used so far. Safe while another
// goroutine starts or stops the server.
func (s *Server) Usage() (agenttest.Usage, error) {
	pid := s.PID()
	if pid == 0 {
		return agenttest.Usage{}, errDown
	}
	return agenttest.ProcessUsage(pid)
}

// ResetPeak lets the peak of Usage begin anew with what is resident now.
func (s *Server) ResetPeak() error {
	// 5 resets VmHWM; see proc_pid_clear_refs(5).
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0)
}

// Log returns what the server wrote; see Log.
func (s *Server) Log() *Log { return &s.log }

// Signal sends a signal to the server.
func (s *Server) Signal(sig os.Signal) error {
	p := s.process()
	if p == nil {
		return errDown
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends the server as a crash would. Without a server it does nothing.
func (s *Server) Kill() error {
	p := s.process()
	if p == nil {
		return nil
	}
	err := p.cmd.Process.Kill()
	<-p.done
	s.set(nil)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop ends the server as an operator would and returns how it ended; nil is
// exit code 0.
func (s *Server) Stop() error {
	p := s.process()
	if p == nil {
		return errDown
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	late := time.NewTimer(Patience)
	defer late.Stop()
	select {
	case <-p.done:
		s.set(nil)
		return p.err
	case <-late.C:
		return errors.Join(fmt.Errorf("the server does not stop within %s", Patience), s.Kill())
	}
}

// Until calls done every 20 ms until it says yes or fails. It is an error when
// that takes longer than Patience, or when ctx ends.
func Until(ctx context.Context, what string, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, fmt.Errorf("it did not come within %s", Patience))
	defer cancel()
	for {
		yes, err := done()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if yes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

// Roots returns the CA that the server wrote for agents.
func (s *Server) Roots() (*x509.CertPool, error) {
	path := filepath.Join(s.Dir, "ca.pem")
	b, err := os.ReadFile(path) //nolint:gosec // the server's own file
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// logKept is how much of a log is kept, so that a server that is refused by
// thousands does not fill our memory.
const logKept = 16 << 20

// Log keeps the end of what processes write. Safe for concurrent use; the zero
// value is empty.
type Log struct {
	mu sync.Mutex
	b  []byte
}

// Write never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b = append(l.b, p...); len(l.b) > 2*logKept {
		l.b = append([]byte{}, l.b[len(l.b)-logKept:]...)
	}
	return len(p), nil
}

// String returns all that is kept.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// Tail returns the last n bytes.
func (l *Log) Tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[max(0, len(l.b)-n):])
}

// addresses is what the server's first line says.
type addresses struct {
	Msg    string `json:"msg"`
	Agents string `json:"agents"`
	People string `json:"people"`
}

// announced passes a process's log on and waits for the line with its
// addresses.
type announced struct {
	log   *Log
	found chan addresses // capacity 1
	done  bool
	line  []byte // up to its end
}

func (a *announced) Write(p []byte) (int, error) {
	if a.done {
		return a.log.Write(p)
	}
	a.line = append(a.line, p...)
	for {
		line, rest, ok := bytes.Cut(a.line, []byte("\n"))
		if !ok {
			return a.log.Write(p)
		}
		var at addresses
		if json.Unmarshal(line, &at) == nil && at.Msg == "muster serves" {
			a.found <- at
			a.done, a.line = true, nil
			return a.log.Write(p)
		}
		a.line = rest
	}
}
