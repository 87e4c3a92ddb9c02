package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// offered returns what a shell is offered after some words.
func offered(t *testing.T, words ...string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(cli(t, append([]string{"__complete"}, words...)...)), "\n")
	if last := lines[len(lines)-1]; last != ":4" { // no files
		t.Errorf("%q: %s", words, last)
	}
	return lines[:len(lines)-1]
}

// TestCompletion completes names that a server has, and none that could do harm.
func TestCompletion(t *testing.T) {
	a := serveMuster(t)
	file := filepath.Join(t.TempDir(), "nodes.csv")
	var text strings.Builder
	text.WriteString("uuid,node_key,hostname,platform,tags\n")
	for i, name := range []string{"web-1", "web-2", "db-1", "-rf", "web 3", "web$(id)", "web;id", "web`id`"} {
		fmt.Fprintf(&text, "uuid-%d,0123456789abcdef-%d,%s,debian,\"moved,%s\"\n", i, i, name, name[:2]+"x")
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, _ = muster(t, "import", "nodes", file) // not all of it has to be taken
	cli(t, "secret", "create", "servers")
	cli(t, "saved", "save", "versions", "--sql", "SELECT version FROM os_version")
	for _, c := range []struct {
		words []string
		want  []string
	}{
		{[]string{"node", "show", "web-"}, []string{"web-1", "web-2"}},
		{[]string{"node", "show", "web-1", ""}, nil},
		{[]string{"query", "SELECT 1", "--node", "db-"}, []string{"db-1"}},
		{[]string{"node", "list", "--tag", "m"}, []string{"moved"}},
		{[]string{"node", "list", "--context", ""}, []string{"default"}},
		{[]string{"context", "use", ""}, []string{"default"}},
		{[]string{"node", "list", "-o", ""}, []string{"table", "json", "yaml", "csv", "name"}},
		{[]string{"secret", "revoke", ""}, []string{"servers"}},
		{[]string{"secret", "create", ""}, nil}, // a new name
		{[]string{"saved", "rm", "v"}, []string{"versions"}},
		{[]string{"user", "disable", ""}, []string{"ada"}},
		{[]string{"user", "roles", "ada", "adm"}, []string{"admin"}},
		{[]string{"user", "roles", "ada", "admin", "aud"}, []string{"auditor"}},
		{[]string{"sink", "show", ""}, nil},
		{[]string{"alert", "show", ""}, nil},
		{[]string{"node", "show", "--url", "http://127.0.0.1:1", "w"}, nil},
		{[]string{"node", "show", "--context", "nobody", "w"}, nil},
		{[]string{"node", "show", "--url", a.AdminURL(), "web-2"}, []string{"web-2"}},
	} {
		if got := offered(t, c.words...); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.words, got, c.want)
		}
	}
	for _, name := range offered(t, "node", "show", "") {
		if !offerable(name) {
			t.Errorf("%q is offered", name)
		}
	}
	if out := cli(t, "__complete", "node", "show", ""); !strings.Contains(out, "web-1") {
		t.Error(out)
	}
	if out := cli(t, "__complete", "rule", "test", ""); !strings.HasSuffix(strings.TrimSpace(out), ":0") {
		t.Errorf("no files are offered: %s", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := cli(t, "completion", shell); !strings.Contains(out, "__complete") {
			t.Errorf("%s: %s", shell, out)
		}
	}
}

func TestOfferable(t *testing.T) {
	for name, want := range map[string]bool{
		"web-1": true, "Pack/base": true, "a.b:c_d@e": true, "日本": true, "": false, "-rf": false, "a b": false, "a\tb": false,
		"\x1b[2J": false, "a\u202eb": false, "$(id)": false, "`id`": false, "a;b": false, "a|b": false, "~root": false, "a*": false, "a'b": false, `a"b`: false, `a\b`: false, "a>b": false, "\xff": false,
	} {
		if got := offerable(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
