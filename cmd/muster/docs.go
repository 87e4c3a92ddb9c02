package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The pages are written here and not by cobra/doc, which would bring a Markdown
// to roff compiler into go.mod for what is two short walks.

func newDocsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "docs", Short: "Write the manual of this command line", Args: noArgs, RunE: help}
	cmd.AddCommand(
		&cobra.Command{
			Use: "man DIR", Short: "Write a manual page for each command into a directory", Args: oneArg("a directory"),
			Example: "  muster docs man /usr/local/share/man/man1",
			RunE:    func(cmd *cobra.Command, args []string) error { return writeManual(args[0], cmd.Root()) },
		},
		&cobra.Command{
			Use: "markdown DIR", Short: "Write all commands as one Markdown file, cli.md, into a directory", Args: oneArg("a directory"),
			Example: "  muster docs markdown docs",
			RunE: func(cmd *cobra.Command, args []string) error {
				var b strings.Builder
				b.WriteString("# The command line\n\nWritten by `muster docs markdown`; change the commands, not this file.\n")
				walk(cmd.Root(), func(c *cobra.Command) { markdown(&b, c) })
				return writePage(args[0], "cli.md", b.String())
			},
		},
	)
	return cmd
}

// walk visits a command and those below it, in order.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			walk(sub, visit)
		}
	}
}

func writePage(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // for all to read
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) //nolint:gosec // for all to read
}

// flagDoc is a flag as the manual has it.
type flagDoc struct{ name, usage string }

func flagDocs(set *pflag.FlagSet) (list []flagDoc) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		switch {
		case f.NoOptDefVal != "" && kind != "":
			name += "[=" + kind + "]"
		case kind != "":
			name += " " + kind
		}
		if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			usage += " (default " + f.DefValue + ")"
		}
		list = append(list, flagDoc{name, usage})
	})
	return list
}

func isTopic(cmd *cobra.Command) bool { return !cmd.Runnable() && !cmd.HasSubCommands() }

// markdown writes one command. Flags that it inherits stand at its parent.
func markdown(w io.Writer, cmd *cobra.Command) {
	level := "##"
	if cmd.HasParent() && cmd.Parent().HasParent() {
		level = "###"
	}
	_, _ = fmt.Fprintf(w, "\n%s %s\n\n%s.\n", level, cmd.CommandPath(), escapeMarkdown(cmd.Short))
	if !isTopic(cmd) {
		fence(w, "sh", cmd.UseLine())
	}
	if cmd.Long != "" {
		fence(w, "text", cmd.Long)
	}
	if cmd.Example != "" {
		fence(w, "sh", unindent(cmd.Example))
	}
	flags := flagDocs(cmd.LocalFlags())
	if len(flags) > 0 {
		_, _ = io.WriteString(w, "\n")
	}
	for _, f := range flags {
		_, _ = fmt.Fprintf(w, "- `%s`: %s\n", f.name, escapeMarkdown(f.usage))
	}
}

func fence(w io.Writer, language, text string) {
	_, _ = fmt.Fprintf(w, "\n```%s\n%s\n```\n", language, strings.TrimSpace(text))
}

// unindent takes off the two spaces by which examples stand apart in a help.
func unindent(text string) string {
	return strings.TrimPrefix(strings.ReplaceAll(text, "\n  ", "\n"), "  ")
}

func escapeMarkdown(text string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`").Replace(text)
}

// writeManual writes manual pages, muster-node-list.1 and so on.
func writeManual(dir string, root *cobra.Command) (err error) {
	walk(root, func(cmd *cobra.Command) {
		if err == nil {
			err = writePage(dir, pageName(cmd)+".1", manual(cmd))
		}
	})
	return err
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manual returns the page of one command, in man's macros.
func manual(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"%s\" 1 \"\" \"Muster\" \"Muster\"\n", roff(strings.ToUpper(pageName(cmd))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	if !isTopic(cmd) {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR\n", roff(cmd.UseLine()))
	}
	verbatim(&b, "DESCRIPTION", cmd.Long)
	options(&b, "OPTIONS", cmd.LocalFlags())
	options(&b, "OPTIONS OF ALL COMMANDS HERE", cmd.InheritedFlags())
	verbatim(&b, "EXAMPLES", unindent(cmd.Example))
	var also []string
	if cmd.HasParent() {
		also = append(also, `\fB`+roff(pageName(cmd.Parent()))+`\fR(1)`)
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			also = append(also, `\fB`+roff(pageName(sub))+`\fR(1)`)
		}
	}
	if len(also) > 0 {
		b.WriteString(".SH SEE ALSO\n" + strings.Join(also, ",\n") + "\n")
	}
	return b.String()
}

// verbatim writes a section whose lines stay as they are.
func verbatim(b *strings.Builder, title, text string) {
	if text != "" {
		fmt.Fprintf(b, ".SH %s\n.nf\n%s\n.fi\n", title, roff(text))
	}
}

func options(b *strings.Builder, title string, set *pflag.FlagSet) {
	flags := flagDocs(set)
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, f := range flags {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(f.name), roff(f.usage))
	}
}

// roff escapes text, so that no line of it is a request.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
