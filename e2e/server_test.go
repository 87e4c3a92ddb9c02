// Package e2e uses the real binary as its users do: it starts servers, kills
// them, drives them with the command line and a browser, and counts. Package
// rig does the driving, package weather the harm.
package e2e

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/musterhq/muster/e2e/rig"
)

// binary returns the muster to test: MUSTER_BINARY, or one built now.
func binary(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildDir is where binary builds, if it has to.
var buildDir string

var built = sync.OnceValues(func() (string, error) { return rig.Build(context.Background(), buildDir) })

// TestMain removes what was built.
func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "muster-e2e"); err != nil {
		panic(err) //nolint:forbidigo // no test can run
	}
	defer os.RemoveAll(buildDir)
	m.Run()
}

// server is a muster serve whose failures end the test.
type server struct {
	*rig.Server

	t *testing.T
}

// prepare makes a server that does not run yet.
func prepare(t *testing.T, args ...string) *server {
	t.Helper()
	return &server{rig.New(rig.Options{Binary: binary(t), Dir: filepath.Join(t.TempDir(), "data"), Home: t.TempDir(), Args: args}), t}
}

// newServer starts a server on free ports with an empty data directory.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := prepare(t, args...)
	t.Cleanup(func() {
		_ = s.Kill() // it may have ended with the test's context
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log().Tail(8000))
		}
	})
	s.start()
	return s
}

// check ends the test at an error.
func (s *server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// start runs the server, the first time or again.
func (s *server) start() {
	s.t.Helper()
	s.check(s.Start(s.t.Context()))
}

// until waits until done says so.
func (s *server) until(what string, done func() bool) {
	s.t.Helper()
	s.check(rig.Until(s.t.Context(), what, func() (bool, error) { return done(), nil }))
}

// roots returns the CA that the server wrote for agents.
func (s *server) roots() *x509.CertPool {
	s.t.Helper()
	pool, err := s.Roots()
	s.check(err)
	return pool
}

// run runs the CLI and returns what it printed and its exit code.
func (s *server) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	out, err := s.Run(s.t.Context(), args...)
	s.check(err)
	return out.Stdout, out.Stderr, out.Code
}

// cli runs the CLI, which must succeed, and returns what it printed.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	out, err := s.CLI(s.t.Context(), args...)
	s.check(err)
	return out
}

// cliJSON is cli for a command that prints one JSON document.
func (s *server) cliJSON(out any, args ...string) {
	s.t.Helper()
	s.check(s.JSON(s.t.Context(), out, args...))
}

// setUp makes the first administrator and logs the CLI in.
func (s *server) setUp() {
	s.t.Helper()
	s.check(s.SetUp(s.t.Context()))
}

// secret makes an enroll secret.
func (s *server) secret(name string, args ...string) string {
	s.t.Helper()
	value, err := s.Secret(s.t.Context(), name, args...)
	s.check(err)
	return value
}
