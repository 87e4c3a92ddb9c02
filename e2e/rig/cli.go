package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Output is what a command printed, and its exit code.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// command is one of the command line, as the person who is logged in.
func (s *Server) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.Binary, args...) //nolint:gosec // our own binary
	cmd.Env = append(os.Environ(), "MUSTER_HOME="+s.Home, "MUSTER_URL=", "MUSTER_TOKEN=", "MUSTER_TOKEN_FILE=", "MUSTER_CONTEXT=")
	return cmd
}

// Run runs a command whose exit code may be any; the error is for one that did
// not run to its end within twice Patience.
func (s *Server) Run(ctx context.Context, args ...string) (Output, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*Patience)
	defer cancel()
	cmd := s.command(ctx, args)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return Output{}, fmt.Errorf("muster %s: %w", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)))
	}
	return Output{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}, nil
}

// CLI runs a command that must succeed and returns what it printed.
func (s *Server) CLI(ctx context.Context, args ...string) (string, error) {
	out, err := s.Run(ctx, args...)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("muster %s: exit code %d: %s", strings.Join(args, " "), out.Code, out.Stderr)
	}
	return out.Stdout, err
}

// JSON is CLI for a command that prints one JSON document, which it decodes.
func (s *Server) JSON(ctx context.Context, document any, args ...string) error {
	text, err := s.CLI(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), document); err != nil {
		return fmt.Errorf("muster %s: %w in %s", strings.Join(args, " "), err, text)
	}
	return nil
}

// Password is that of the administrator whom SetUp makes.
const Password = "lantern orbit velvet mustard"

// SetUp makes the first administrator and logs the command line in.
func (s *Server) SetUp(ctx context.Context) error {
	file := filepath.Join(s.Home, "password")
	if err := os.WriteFile(file, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	_, err := s.CLI(ctx, "setup", "--url", s.AdminURL, "--setup-token-file", filepath.Join(s.Dir, "setup-token"),
		"--user", "admin", "--password-file", file)
	return err
}

// Secret makes an enroll secret and returns it.
func (s *Server) Secret(ctx context.Context, name string, args ...string) (string, error) {
	out, err := s.CLI(ctx, append([]string{"secret", "create", name, "-o", "raw"}, args...)...)
	return strings.TrimSpace(out), err
}
