package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bareEnvironment leaves nothing of the person who runs the tests.
func bareEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv("MUSTER_HOME", filepath.Join(t.TempDir(), "home"))
	for _, name := range []string{"MUSTER_URL", "MUSTER_TOKEN", "MUSTER_TOKEN_FILE", "MUSTER_CONTEXT"} {
		t.Setenv(name, "")
	}
}

func saveSessions(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := saveSession(name, &session{URL: "https://" + name + ".example", User: "ada", Token: "secret-of-" + name}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSession tries from where a command takes its server and its token.
func TestSession(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("\n from-file \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type env = map[string]string
	for name, c := range map[string]struct {
		env        env
		target     target
		url, token string
		err        string
	}{
		"the current context":           {url: "https://b.example", token: "secret-of-b"},
		"another by a flag":             {target: target{context: "a"}, url: "https://a.example", token: "secret-of-a"},
		"another by a variable":         {env: env{"MUSTER_CONTEXT": "a"}, url: "https://a.example", token: "secret-of-a"},
		"a flag before a variable":      {env: env{"MUSTER_CONTEXT": "x"}, target: target{context: "a"}, url: "https://a.example", token: "secret-of-a"},
		"an unknown one":                {env: env{"MUSTER_CONTEXT": "x"}, err: `no login is called "x"`},
		"a context before a URL":        {env: env{"MUSTER_URL": "https://x.example"}, target: target{context: "a"}, url: "https://a.example", token: "secret-of-a"},
		"another server":                {target: target{url: "https://x.example"}, url: "https://x.example"},
		"another server by a variable":  {env: env{"MUSTER_URL": "https://x.example"}, url: "https://x.example"},
		"a URL before another":          {env: env{"MUSTER_URL": "https://x.example"}, target: target{url: "https://b.example"}, url: "https://b.example", token: "secret-of-b"},
		"the same URL, written longer":  {target: target{url: "https://b.example/"}, url: "https://b.example", token: "secret-of-b"},
		"the other way round":           {env: env{"MUSTER_URL": "https://b.example"}, target: target{url: "https://x.example"}, url: "https://x.example"},
		"a token for no server":         {env: env{"MUSTER_TOKEN": "t"}, err: "set MUSTER_URL"},
		"a file of one for no server":   {env: env{"MUSTER_TOKEN_FILE": file}, err: "set MUSTER_URL"},
		"a token and a URL":             {env: env{"MUSTER_TOKEN": "t", "MUSTER_URL": "https://x.example"}, url: "https://x.example", token: "t"},
		"a token and a flag":            {env: env{"MUSTER_TOKEN": "t"}, target: target{url: "https://x.example"}, url: "https://x.example", token: "t"},
		"a token and a context":         {env: env{"MUSTER_TOKEN": "t"}, target: target{context: "a"}, url: "https://a.example", token: "t"},
		"a file and a URL":              {env: env{"MUSTER_TOKEN_FILE": file, "MUSTER_URL": "https://x.example"}, url: "https://x.example", token: "from-file"},
		"a token and a file":            {env: env{"MUSTER_TOKEN": "t", "MUSTER_TOKEN_FILE": file}, err: "leave one out"},
		"a file that is not there":      {env: env{"MUSTER_TOKEN_FILE": file + "x"}, err: "MUSTER_TOKEN_FILE"},
		"a file that others can read":   {env: env{"MUSTER_TOKEN_FILE": "context_test.go"}, err: "run chmod 600"},
		"a file that holds no token":    {env: env{"MUSTER_TOKEN_FILE": empty}, err: "is empty"},
		"a context that is not the URL": {env: env{"MUSTER_CONTEXT": "a", "MUSTER_URL": "https://b.example"}, url: "https://b.example"},
	} {
		t.Run(name, func(t *testing.T) {
			bareEnvironment(t)
			saveSessions(t, "a", "b")
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			s, err := c.target.session()
			if c.err != "" {
				if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil || s.URL != c.url || s.Token != c.token {
				t.Errorf("%+v %v", s, err)
			}
		})
	}
}

func TestContexts(t *testing.T) {
	bareEnvironment(t)
	saveSessions(t, "a", "b")
	for _, c := range []struct {
		args []string
		code int
		want string // in standard error
	}{
		{[]string{"use", "x"}, exitNotFound, "muster context list"},
		{[]string{"use"}, exitUsage, "the name of a context"},
		{[]string{"rename", "a", "b"}, exitUsage, "remove it first"},
		{[]string{"rename", "x", "y"}, exitNotFound, "x"},
		{[]string{"rename", "a", "\x1b[2J"}, exitUsage, "cannot be the name"},
		{[]string{"rename", "b", "c"}, exitDone, ""},
		{[]string{"remove", "b"}, exitNotFound, "b"},
	} {
		if out, errOut, code := muster(t, append([]string{"context"}, c.args...)...); code != c.code || !strings.Contains(errOut, c.want) || out != "" {
			t.Errorf("%q: exit code %d: %q %q", c.args, code, out, errOut)
		}
	}
	out := cli(t, "context", "list", "-o", "json")
	var got []contextDocument
	if err := json.Unmarshal([]byte(out), &got); err != nil || strings.Contains(out, "secret-of") {
		t.Fatalf("%v: %s", err, out)
	}
	want := []contextDocument{{Name: "a", URL: "https://a.example", User: "ada"}, {Name: "c", URL: "https://b.example", User: "ada", Current: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	cli(t, "context", "use", "a")
	cli(t, "context", "remove", "c")
	if out := cli(t, "context", "list", "-o", "csv"); out != "CURRENT,NAME,URL,USER\n*,a,https://a.example,ada\n" {
		t.Error(out)
	}
	cli(t, "context", "remove", "a")
	if _, errOut, code := muster(t, "node", "list"); code != exitRefused || !strings.Contains(errOut, "muster login") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

// TestLoginMakesContext logs in a second time, under a name of its own.
func TestLoginMakesContext(t *testing.T) {
	a := serveMuster(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_TOKEN", "of-another-server") // a login asks for none, and sends none
	cli(t, "login", "--context", "second", "--url", a.AdminURL(), "--user", "ada", "--password-file", password)
	cli(t, "logout")
	t.Setenv("MUSTER_TOKEN", "")
	cli(t, "node", "list", "--context", "default")
	if out := cli(t, "context", "list", "-o", "csv"); strings.Contains(out, "second") {
		t.Error(out)
	}
}
