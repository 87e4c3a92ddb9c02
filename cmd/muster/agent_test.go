package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAgent_query(t *testing.T) {
	run := func(args ...string) (string, error) {
		t.Helper()
		cmd := newAgentCommand()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(args)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	pid := strconv.Itoa(os.Getpid())
	got, err := run("--query", "SELECT pid, 'x' AS x FROM processes WHERE pid = "+pid, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	if err := json.Unmarshal([]byte(got), &rows); err != nil || len(rows) != 1 || rows[0]["pid"] != pid {
		t.Errorf("got %s (%v)", got, err)
	}
	got, err = run("--query", "SELECT 1 AS a, char(27) || '[2J' AS b", "--audit_persist", "--docker_socket=/x", "--verbose")
	if err != nil || got != "a  b\n1   [2J\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := run("--query", "SELECT * FROM nope"); err == nil || err.Error() != "no such table: nope" {
		t.Errorf("got %v", err)
	}
	if _, err := run("--disable_tables=users", "--query", "SELECT * FROM users"); err == nil {
		t.Error("a disabled table answers")
	}
	flagfile := filepath.Join(t.TempDir(), "flags")
	if err := os.WriteFile(flagfile, []byte("--disable_tables=users\n--enable_file_events\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("--flagfile", flagfile, "--query", "SELECT * FROM users"); err == nil {
		t.Error("the flagfile is not read")
	}
	if _, err := run("--flagfile", flagfile, "--disable_tables=groups", "--query", "SELECT * FROM users"); err != nil {
		t.Errorf("the command line does not win: %v", err)
	}
	if _, err := run("--distributed_interval=often"); err == nil {
		t.Error("a word is a number")
	}
	if _, err := run(); err == nil || !strings.Contains(err.Error(), "--tls_hostname is required") {
		t.Errorf("got %v", err)
	}
}
