package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
)

func newRedactCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "redact", Short: "What is taken out of what agents send, before it is kept", Args: noArgs, RunE: help}
	cmd.AddCommand(newRedactTestCommand(), newRedactKindsCommand(), newRedactStatsCommand())
	return cmd
}

// redactTest is what muster redact test was asked.
type redactTest struct {
	redactor *redact.Redactor
	src      redact.Source
	column   string
	show     bool
	all      bool
}

// redacted is one row or text with what was found in it.
type redacted struct {
	Line     int             `json:"line"`
	Row      json.RawMessage `json:"row,omitempty"`
	Text     string          `json:"text,omitempty"`
	Findings []found         `json:"findings"`
}

type found struct {
	Column string `json:"column,omitempty"`
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty"`
	Secret string `json:"secret,omitempty"`
}

func newRedactTestCommand() *cobra.Command {
	var o output
	var t redactTest
	var rules string
	cmd := &cobra.Command{
		Use: "test [FILE|-]", Short: "Show what would be replaced, and by which detector; needs no server",
		Long: `Read rows, one JSON object a line, as osquery logs them or as muster event search
-o ndjson prints them; any other line is a text. Print the lines with secrets as
they would be kept, and what was found. Ids are of a key of this run alone.`,
		Example: `  muster redact test --table processes --column cmdline <<< 'mysql -uroot -ps3cret'
  muster event search --query pack_base_processes -o ndjson | muster redact test --all
  muster redact test --rules resources/ rows.ndjson -o ndjson`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "-"
			if len(args) > 0 {
				path = args[0]
			}
			var err error
			if t.redactor, err = localRedactor(cmd, rules); err != nil {
				return err
			}
			in, err := openInput(cmd, path)
			if err != nil {
				return usagef("%w", err)
			}
			defer in.Close() //nolint:errcheck // only read
			return t.run(cmd, &o, in)
		},
	}
	o.flag(cmd, "text", "json", "ndjson")
	f := cmd.Flags()
	f.StringVar(&t.src.Table, "table", "", "osquery table that the rows are of, for rules that name one")
	f.StringVar(&t.src.Query, "query", "", "scheduled query that they are of, for rules that name one")
	f.StringVar(&t.column, "column", "", "take lines that are no JSON as values of this column")
	f.StringVar(&rules, "rules", "", "file or directory with documents of kind Redaction")
	f.BoolVar(&t.show, "show", false, "print the secrets themselves")
	f.BoolVar(&t.all, "all", false, "print lines without secrets, too")
	return cmd
}

// localRedactor returns a Redactor by the rules in some files, under a key of its
// own.
func localRedactor(cmd *cobra.Command, path string) (*redact.Redactor, error) {
	keyer := node.NewKeyer([]byte(ident.Secret()))
	r := redact.New(redact.Options{Hash: func(secret string) [sha256.Size]byte { return keyer.Hash(node.PurposeRedaction, secret) }})
	if path == "" {
		return r, nil
	}
	paths, err := documentPaths(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	var objects []resource.Object
	for _, p := range paths {
		b, err := readAll(cmd, p)
		if err != nil {
			return nil, usagef("%w", err)
		}
		more, err := resource.Parse(p, b)
		if err != nil {
			return nil, &exit{exitRefused, err}
		}
		objects = append(objects, more...)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		return nil, err
	}
	if err := r.SetRules(set.Redaction()); err != nil {
		return nil, &exit{exitRefused, err}
	}
	return r, nil
}

// maxTestLine bounds a line: agents send no larger ones.
const maxTestLine = 16 << 20

func (t *redactTest) run(cmd *cobra.Command, o *output, in io.Reader) error {
	list, lines, secrets := []redacted{}, 0, 0
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 0, 64<<10), maxTestLine)
	for scanner.Scan() {
		lines++
		for _, r := range t.line(bytes.TrimSpace(scanner.Bytes())) {
			secrets += len(r.Findings)
			if len(r.Findings) == 0 && !t.all {
				continue
			}
			r.Line = lines
			switch o.form {
			case "json":
				list = append(list, r)
			case "ndjson":
				if err := printLine(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			default:
				if err := r.print(cmd.OutOrStdout()); err != nil {
					return err
				}
			}
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return usagef("line %d is longer than %d bytes", lines+1, maxTestLine)
	} else if scanner.Err() != nil {
		return scanner.Err()
	}
	if o.form == "json" {
		return printJSON(cmd.OutOrStdout(), list)
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%d secrets in %d lines\n", secrets, lines)
	return err
}

// line looks at one line, which may hold several rows.
func (t *redactTest) line(line []byte) []redacted {
	var logged struct {
		Name, Query string
		Columns     json.RawMessage
		Snapshot    []json.RawMessage
		Decorations json.RawMessage
		DiffResults struct{ Added, Removed []json.RawMessage }
	}
	if len(line) == 0 {
		return nil
	}
	if line[0] != '{' || !json.Valid(line) {
		return []redacted{t.text(line)}
	}
	src := t.src
	rows := []json.RawMessage{line}
	if json.Unmarshal(line, &logged) == nil {
		if src.Query == "" {
			src.Query = strings.TrimSpace(logged.Query + logged.Name)
		}
		if more := slices.Concat(logged.Snapshot, logged.DiffResults.Added, logged.DiffResults.Removed); len(more) > 0 {
			rows = more
		} else if bytes.HasPrefix(logged.Columns, []byte("{")) {
			rows = []json.RawMessage{logged.Columns}
		} else {
			src, logged.Decorations = t.src, nil // it is a row itself
		}
		if bytes.HasPrefix(logged.Decorations, []byte("{")) {
			rows = append(rows, logged.Decorations)
		}
	}
	list := make([]redacted, 0, len(rows))
	for _, row := range rows {
		clean, found := t.redactor.Explain(src, row)
		if !json.Valid(clean) { // a value is no text, as in no row of osquery
			list = append(list, t.text(row))
			continue
		}
		list = append(list, redacted{Row: clean, Findings: t.found(found)})
	}
	return list
}

func (t *redactTest) text(line []byte) redacted {
	clean, found := t.redactor.ExplainText(t.src, t.column, string(line))
	return redacted{Text: clean, Findings: t.found(found)}
}

func (t *redactTest) found(list []redact.Finding) []found {
	out := make([]found, 0, len(list))
	for _, f := range list {
		secret := ""
		if t.show {
			secret = f.Secret
		}
		out = append(out, found{f.Column, f.Kind, f.ID, secret})
	}
	return out
}

func (r redacted) print(w io.Writer) error {
	var b strings.Builder
	text := string(r.Row)
	if r.Row == nil {
		text = r.Text
	}
	fmt.Fprintf(&b, "%d: %s\n", r.Line, text)
	for _, f := range r.Findings {
		b.WriteString("    " + f.Kind)
		if f.ID != "" {
			b.WriteString(" " + f.ID)
		}
		if f.Column != "" {
			b.WriteString(" in " + f.Column)
		}
		if f.Secret != "" {
			b.WriteString(": " + strconv.Quote(f.Secret))
		}
		b.WriteString("\n")
	}
	return printText(w, b.String())
}

func newRedactKindsCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "kinds", Short: "List the kinds of secrets that are looked for; needs no server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kinds := redact.Kinds()
			return o.document(cmd, kinds, func() error { return printText(cmd.OutOrStdout(), strings.Join(kinds, "\n")+"\n") })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newRedactStatsCommand() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "stats", Short: "Count what was replaced since the server started, by query and kind", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s redact.Summary
			if err := t.call(cmd, http.MethodGet, "/redactions", nil, nil, &s); err != nil {
				return err
			}
			rows := make([][]string, 0, len(s.Queries)+1)
			for _, q := range s.Queries {
				rows = append(rows, []string{q.Query, strconv.FormatInt(q.Total, 10), countsOf(q.Kinds)})
			}
			rows = append(rows, []string{"total", strconv.FormatInt(s.Total, 10), countsOf(s.Kinds)})
			return o.list(cmd, s, []string{"QUERY", "REDACTED", "KINDS"}, rows)
		},
	}
	t.flags(cmd)
	o.lists(cmd, "QUERY")
	return cmd
}

func countsOf(kinds map[string]int64) string {
	words := []string{}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		words = append(words, fmt.Sprintf("%s %d", k, kinds[k]))
	}
	return strings.Join(words, ", ")
}
