package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/musterhq/muster/internal/config"
)

// TestNoSecretFlags walks all flags of all commands: what a flag holds is seen by
// everybody on the machine, and kept in the shell's history. A flag that is called
// like a secret is one of these, which take none.
func TestNoSecretFlags(t *testing.T) {
	secretive := regexp.MustCompile(`secret|passw|passphrase|token|credential|key|pin$|otp|totp|code`)
	fileFlag := regexp.MustCompile(`[-_](file|path)$`)
	const noEffect = "no effect here"
	harmless := map[string]string{
		"agent-key":          "a file",
		"admin-key":          "a file",
		"tls_client_key":     "a file",
		"enroll_secret_env":  "the name of a variable",
		"enroll-secret-name": "a name",
		"secrets-dir":        "a directory",
		"key":                "a name, or a public key",
		"baseline-key":       "a kind of key",
		"key-exchange":       "a kind of key",
	}
	seen := map[string]bool{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			switch {
			case !secretive.MatchString(f.Name), fileFlag.MatchString(f.Name), f.Value.Type() == "bool":
			case f.Usage == noEffect: // flags of osquery, of which our agent takes the names alone
			case harmless[f.Name] != "":
				seen[f.Name] = true
			default:
				t.Errorf("%s --%s (%s) may take a secret; take a file that holds it", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
	for name := range harmless {
		if !seen[name] {
			t.Errorf("no flag is called %s any more", name)
		}
	}
}

func TestConfigShow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(path, []byte("retention: 30d\ncarve_store: mongodb://a:hunter2@db/carves\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_LOG_LEVEL", "warn")
	out, errOut, code := muster(t, "config", "show", "--config", path, "--log-format", "json", "--changed", "-o", "json")
	var list []config.Setting
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != exitDone || len(list) != 4 || strings.Contains(out, "hunter2") {
		t.Errorf("%v: %d %s %s", err, code, out, errOut)
	}
	out, _, code = muster(t, "config", "show", "--config", path)
	if code != exitDone || !strings.Contains(out, path+" line 1") || !strings.Contains(out, "environment MUSTER_LOG_LEVEL") || !strings.Contains(out, "data_dir") {
		t.Errorf("%d %s", code, out)
	}
	if err := os.WriteFile(path, []byte("\nretention: -1d\nagent_aliases: [nobody]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "check", path}, {"config", "show", "--config", path}} {
		if _, errOut, code := muster(t, args...); code != exitFailed || !strings.Contains(errOut, path+" line 2: retention: must be at least 0s") {
			t.Errorf("%v: %d %s", args, code, errOut)
		}
	}
	if out, _, code := muster(t, "config", "explain", "--", "--node-ttl"); code != exitDone || !strings.Contains(out, "0, or at least 5m0s") || !strings.Contains(out, "MUSTER_NODE_TTL") {
		t.Errorf("%d %s", code, out)
	}
}

// TestOperations: the commands that docs/operations.md and muster doctor tell people to
// use are there, and take the flags that they are given.
func TestOperations(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile("(?m)(?:^|`|; |\\./)muster(?:-new)? [^`\n#]+").FindAllString(string(page), -1)
	sources, err := filepath.Glob("../../internal/doctor/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(sources, "doctor.go", "../../internal/app/doctor.go") {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, regexp.MustCompile(`\bmuster [a-z]+ [a-z]+[^".,;]*`).FindAllString(string(source), -1)...)
	}
	if len(said) < 60 {
		t.Fatalf("only %d commands: %q", len(said), said)
	}
	root := newRootCommand()
	flag := regexp.MustCompile(`--([a-z-]+)`)
	for _, line := range said {
		_, line, _ = strings.Cut(line, "muster")
		words := strings.Fields(strings.TrimPrefix(line, "-new"))
		cmd, left, err := root.Find(words)
		if err != nil || cmd == root || cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
			t.Errorf("%q: there is no such command", line)
			continue
		}
		if cmd.HasSubCommands() && len(left) > 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(left[0]) && cmd.Name() != "backup" {
			t.Errorf("%q: %s has no %s", line, cmd.CommandPath(), left[0])
		}
		for _, f := range flag.FindAllStringSubmatch(line, -1) {
			if cmd.Flags().Lookup(f[1]) == nil && cmd.InheritedFlags().Lookup(f[1]) == nil {
				t.Errorf("%q: %s has no --%s", line, cmd.CommandPath(), f[1])
			}
		}
	}
}
