package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/cli.md again")

// TestDocs keeps docs/cli.md as the commands are; -update writes it.
func TestDocs(t *testing.T) {
	bareEnvironment(t)
	t.Setenv("MUSTER_CONFIG", "")
	t.Setenv("MUSTER_DATA_DIR", "")
	dir := t.TempDir()
	cli(t, "docs", "markdown", dir)
	got, err := os.ReadFile(filepath.Join(dir, "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("..", "..", "docs", "cli.md")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/cli.md is not as the commands are; go test ./cmd/muster -run TestDocs -update: %s", diff)
	}
}

// TestManual writes a page for each command, none of whose lines is a request
// that nobody wrote.
func TestManual(t *testing.T) {
	bareEnvironment(t)
	dir := t.TempDir()
	cli(t, "docs", "man", dir)
	known := []string{"TH", "SH", "TP", "nf", "fi"}
	root := newRootCommand()
	walk(root, func(cmd *cobra.Command) {
		text, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		for line := range strings.Lines(string(text)) {
			request, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, ".")), " ")
			if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !strings.Contains(strings.Join(known, " "), request) {
				t.Errorf("%s: %q", cmd.CommandPath(), line)
			}
		}
		if !strings.Contains(string(text), roff(cmd.Short)) || !strings.Contains(string(text), roff(unindent(cmd.Example))) {
			t.Errorf("%s: %s", cmd.CommandPath(), text)
		}
	})
	if got, want := roff(".so /etc/passwd\n'x\n\\fB-a"), "\\&.so /etc/passwd\n\\&'x\n\\efB\\-a"; got != want {
		t.Errorf("%q", got)
	}
}

// TestHelp checks that every command says what it is for and how it is used.
func TestHelp(t *testing.T) {
	bareEnvironment(t)
	walk(newRootCommand(), func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no help", cmd.CommandPath())
		}
		if len(usageWords(cmd)) > 0 && cmd.Long == "" && cmd.Example == "" {
			t.Errorf("%s takes arguments, and shows no example", cmd.CommandPath())
		}
		if cmd.Example != "" && !strings.Contains(cmd.Example, strings.TrimPrefix(cmd.CommandPath(), "muster ")) && !cmd.HasSubCommands() {
			t.Errorf("%s is not in its own example: %s", cmd.CommandPath(), cmd.Example)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if strings.TrimSpace(f.Usage) == "" {
				t.Errorf("%s --%s has no help", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// TestExitCodesTopic finds each exit code in the help.
func TestExitCodesTopic(t *testing.T) {
	bareEnvironment(t)
	out := cli(t, "help", "exit-codes")
	for code, want := range map[int]string{exitDone: "done", exitFailed: "failed", exitUsage: "usage", exitRefused: "refused", exitNotFound: "not found", exitPartly: "in part"} {
		if meaning := exitCodes()[code]; !strings.Contains(meaning, want) || !strings.Contains(out, meaning) {
			t.Errorf("%d is %q: %s", code, meaning, out)
		}
	}
	if len(exitCodes()) != exitPartly+1 {
		t.Error("there are other exit codes than those of this test")
	}
}
