package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/sheet"
)

// output is the form in which a command prints, chosen by -o.
type output struct {
	form    string
	forms   []string
	name    string   // head of the column that -o name prints
	columns []string // that are asked for; all if empty
	bare    bool     // without a head
}

// lists adds the flags of a command that prints rows: -o with csv and the forms
// of more, with name if that is the head of the column by which other commands
// know a row; --columns and --no-headers.
func (o *output) lists(cmd *cobra.Command, name string, more ...string) {
	forms := append([]string{"table", "json", "yaml", "csv"}, more...)
	if o.name = name; name != "" {
		forms = append(forms, "name")
	}
	cmd.Flags().StringSliceVar(&o.columns, "columns", nil, "columns of a table or csv, in this order, as a,b")
	cmd.Flags().BoolVar(&o.bare, "no-headers", false, "print a table or csv without the line of heads")
	o.flag(cmd, forms...)
}

// flag adds -o with the forms that a command knows, the default first.
func (o *output) flag(cmd *cobra.Command, forms ...string) {
	o.forms = forms
	cmd.Flags().StringVarP(&o.form, "output", "o", forms[0], "form of the output: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(o.forms, o.form) {
			return usagef("-o %s is not known here; use %s", o.form, strings.Join(o.forms, ", "))
		}
		if (len(o.columns) > 0 || o.bare) && o.form != "table" && o.form != "csv" {
			return usagef("--columns and --no-headers are for -o table and csv, not for %s", o.form)
		}
		return run(cmd, args)
	}
}

// document prints one document, for people through table.
func (o *output) document(cmd *cobra.Command, v any, table func() error) error {
	if len(o.columns) > 0 || o.bare {
		return usagef("this is no list; leave --columns and --no-headers out")
	}
	return o.print(cmd, v, table)
}

func (o *output) print(cmd *cobra.Command, v any, table func() error) error {
	switch o.form {
	case "json":
		return printJSON(cmd.OutOrStdout(), v)
	case "yaml":
		return printYAML(cmd.OutOrStdout(), v)
	}
	return table()
}

// list prints things that are rows of a table: as one document, as a table for
// people, as CSV, or as their names alone.
func (o *output) list(cmd *cobra.Command, v any, head []string, rows [][]string) error {
	if o.form == "name" {
		return printNames(cmd.OutOrStdout(), rows, slices.Index(head, o.name))
	}
	head, rows, err := o.choose(head, rows)
	if err != nil {
		return err
	}
	if o.bare {
		head = nil
	}
	if o.form == "csv" {
		return printCSV(cmd.OutOrStdout(), head, rows)
	}
	return o.print(cmd, v, func() error { return printTable(cmd.OutOrStdout(), head, rows) })
}

// choose returns the columns that are asked for.
func (o *output) choose(head []string, rows [][]string) (chosen []string, cells [][]string, err error) {
	if len(o.columns) == 0 {
		return head, rows, nil
	}
	places := make([]int, 0, len(o.columns))
	for _, name := range o.columns {
		i := slices.IndexFunc(head, func(h string) bool { return h != "" && columnName(h) == columnName(name) })
		if i < 0 {
			return nil, nil, usagef("--columns: no column is called %q; there are %s", name, strings.Join(columnNames(head), ", "))
		}
		places = append(places, i)
	}
	pick := func(row []string) []string {
		out := make([]string, len(places))
		for i, place := range places {
			out[i] = row[place]
		}
		return out
	}
	cells = make([][]string, 0, len(rows))
	for _, row := range rows {
		cells = append(cells, pick(row))
	}
	return pick(head), cells, nil
}

// columnName is how one types a head: LAST SEEN as last_seen.
func columnName(head string) string {
	return strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(strings.TrimSpace(head)))
}

func columnNames(head []string) (names []string) {
	for _, h := range head {
		if h != "" {
			names = append(names, columnName(h))
		}
	}
	return names
}

// printNames prints one cell of each row, on a line of its own.
func printNames(w io.Writer, rows [][]string, column int) error {
	if column < 0 {
		return errors.New("there is no name for -o name in this list; use -o json")
	}
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(printable(row[column]) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printJSON(w io.Writer, v any) error { return writeJSON(w, v, "  ") }

// printLine prints a document on one line.
func printLine(w io.Writer, v any) error { return writeJSON(w, v, "") }

// writeJSON writes a document in which characters that a terminal would obey are
// escaped. JSON itself asks for that of the first 32 alone, and not of others as
// U+009B, which begins a command, too.
func writeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}

// escapeJSON escapes what only strings of a document can hold; line feeds are
// between its parts.
func escapeJSON(b []byte) []byte {
	escape := func(r rune) bool { return r != '\n' && commands(r) }
	if bytes.IndexFunc(b, escape) < 0 {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/8)
	for _, r := range string(b) {
		switch high, low := utf16.EncodeRune(r); {
		case !escape(r):
			out = utf8.AppendRune(out, r)
		case high != utf8.RuneError:
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// printYAML goes by JSON, so that names and times are the same in both.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b, err = yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// printTable prints aligned columns; what nodes sent cannot command the
// terminal.
func printTable(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range withHead(head, rows) {
		safe := make([]string, len(row))
		for i, cell := range row {
			safe[i] = printable(cell)
		}
		if _, err := fmt.Fprintln(t, strings.Join(safe, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// withHead puts the heads before the rows, if there are any.
func withHead(head []string, rows [][]string) [][]string {
	if head == nil {
		return rows
	}
	return append([][]string{head}, rows...)
}

// printCSV prints cells that a spreadsheet does not take for formulas.
func printCSV(w io.Writer, head []string, rows [][]string) error {
	c := sheet.NewWriter(w)
	for _, row := range withHead(head, rows) {
		if err := c.Write(row); err != nil {
			return err
		}
	}
	return c.Flush()
}

// printable shows control and direction characters instead of obeying them.
func printable(s string) string {
	if !strings.ContainsFunc(s, commands) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if commands(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// commands reports whether a terminal would act on r: control characters, and
// format characters, among them those that turn the direction of text.
func commands(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
