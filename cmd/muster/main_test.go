package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
)

// muster runs the command line in this process.
func muster(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, &out, &errOut)
	return out.String(), errOut.String(), code
}

func TestUsage(t *testing.T) {
	bareEnvironment(t)
	for _, c := range []struct {
		args []string
		code int
		want string // in standard error
	}{
		{[]string{"nonsense"}, exitUsage, "nonsense"},
		{[]string{"node", "list", "--nonsense"}, exitUsage, "unknown flag"},
		{[]string{"node", "list", "-o", "xml"}, exitUsage, "table, json"},
		{[]string{"node", "show"}, exitUsage, "needs a node's id"},
		{[]string{"node", "list"}, exitRefused, "muster login"},
		{[]string{"node", "quarantine", "x"}, exitUsage, "--reason"},
		{[]string{"node", "who"}, exitUsage, "--ip"},
		{[]string{"node", "who", "--attribute", "hostname"}, exitUsage, "--value"},
		{[]string{"import", "nodes"}, exitUsage, "standard input"},
		{[]string{"import", "nodes", "/nonexistent"}, exitUsage, "/nonexistent"},
		{[]string{"import", "nodes", "main_test.go"}, exitUsage, "host_identifier"},
		{[]string{"query", "SELECT 1"}, exitUsage, "--all"},
		{[]string{"secret", "create", "x", "--expires", "soon"}, exitUsage, "no duration"},
		{[]string{"setup", "--url", "http://127.0.0.1:1"}, exitUsage, "--setup-token-file"},
		{[]string{"login", "--url", "http://127.0.0.1:1", "--user", "x", "--password-file", "/nonexistent"}, exitUsage, "--password-file"},
		{[]string{"config", "check"}, exitUsage, "a file of settings"},
		{[]string{"config", "show", "all"}, exitUsage, "aliases or limits"},
		{[]string{"config", "explain", "retension"}, exitNotFound, "retention"},
		{[]string{"alert", "ack"}, exitUsage, "muster alert list"},
		{[]string{"alert", "comment", "x"}, exitUsage, "-m"},
		{[]string{"alert", "assign", "x"}, exitUsage, "name of a user"},
		{[]string{"silence", "create", "rule = a", "-m", "b"}, exitUsage, "--for"},
		{[]string{"silence", "create", "rule = a", "--for", "2h"}, exitUsage, "-m"},
		{[]string{"silence", "create", "rule = a", "--for", "long", "-m", "b"}, exitUsage, "no duration"},
		{[]string{"notifier", "retry"}, exitUsage, "--notifier"},
		{[]string{"notifier", "retry", "x"}, exitUsage, "no number"},
		{[]string{"version", "extra"}, exitUsage, "extra"},
	} {
		out, errOut, code := muster(t, c.args...)
		if code != c.code || !strings.Contains(errOut, c.want) || out != "" {
			t.Errorf("muster %s: exit code %d, want %d: %q %q", strings.Join(c.args, " "), code, c.code, out, errOut)
		}
	}
}

// TestUnreachable checks what happens when the server is not there.
func TestUnreachable(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	t.Setenv("MUSTER_URL", "http://127.0.0.1:1")
	t.Setenv("MUSTER_TOKEN", "muster_x")
	if _, errOut, code := muster(t, "node", "list"); code != exitFailed || !strings.Contains(errOut, "cannot reach the server") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// TestTokenStaysHome checks that a token is not sent to another server than the
// one that gave it.
func TestTokenStaysHome(t *testing.T) {
	bareEnvironment(t)
	if err := saveSession("default", &session{URL: "https://ours.example", User: "a", Token: "t"}); err != nil {
		t.Fatal(err)
	}
	own, err := (&target{}).session()
	if err != nil || own.Token != "t" {
		t.Errorf("%+v %v", own, err)
	}
	other, err := (&target{url: "https://other.example"}).session()
	if err != nil || other.Token != "" || other.URL != "https://other.example" {
		t.Errorf("%+v %v", other, err)
	}
	path, err := contextsPath()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
}

func TestVersionJSON(t *testing.T) {
	out, _, code := muster(t, "version", "-o", "json")
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v["version"] == "" || v["commit"] == "" {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestExitCodes(t *testing.T) {
	for status, want := range map[int]int{400: exitUsage, 401: exitRefused, 403: exitRefused, 404: exitNotFound, 409: exitFailed, 422: exitUsage, 500: exitFailed} {
		err := fmt.Errorf("call: %w", &adminapi.Problem{Status: status})
		if got := exitCode(err); got != want {
			t.Errorf("status %d: exit code %d, want %d", status, got, want)
		}
	}
	if got := exitCode(&exit{exitPartly, errors.New("x")}); got != exitPartly {
		t.Errorf("exit code %d", got)
	}
}

func TestTroubles(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	for want, err := range map[string]error{
		"a":         a,
		"a|b":       &exit{exitFailed, errors.Join(a, b)},
		"a|b|a":     errors.Join(errors.Join(a, b), a),
		"x a and b": fmt.Errorf("x %w and %w", a, b),
		"x a\nb":    fmt.Errorf("x %w", errors.Join(a, b)),
	} {
		if got := strings.Join(troubles(err), "|"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestHostile prints what a node may send to command a terminal or a
// spreadsheet.
func TestHostile(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode 日本":   "plain ünïcode 日本",
		"\x1b[2Jgone":        `\u001b[2Jgone`,
		"a\nb\tc":            `a\u000ab\u0009c`,
		"\u202egnp.exe":      `\u202egnp.exe`,
		"zero\u200bwidth":    `zero\u200bwidth`,
		"\x00nul and \u0085": `\u0000nul and \u0085`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	var buf bytes.Buffer
	rows := [][]string{{"=1+1", "+x", "-x", "@x", "\tx", "\rx", "x=1", ""}}
	if err := printCSV(&buf, []string{"a"}, rows); err != nil {
		t.Fatal(err)
	}
	want := "a\n'=1+1,'+x,'-x,'@x,'\tx,\"'\rx\",x=1,\n"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Error(diff)
	}
}

// TestPrintLine keeps what JSON means, and shows a terminal nothing that it obeys.
func TestPrintLine(t *testing.T) {
	t.Parallel()
	in := map[string]string{"evil\u009b": "\x1b[2J \u009b2J \x7f \u202e \U000e0041 é \n \xff <&>"}
	var b bytes.Buffer
	if err := printLine(&b, in); err != nil {
		t.Fatal(err)
	}
	const want = `{"evil\u009b":"\u001b[2J \u009b2J \u007f \u202e \udb40\udc41 é \n \ufffd <&>"}` + "\n"
	if b.String() != want {
		t.Errorf("%s; want %s", &b, want)
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out["evil\u009b"] != strings.ToValidUTF8(in["evil\u009b"], "\ufffd") {
		t.Errorf("%q %v", out, err)
	}
	b.Reset()
	if err := printJSON(&b, in); err != nil || strings.ContainsFunc(strings.ReplaceAll(b.String(), "\n", ""), commands) {
		t.Errorf("%q %v", &b, err)
	}
}
