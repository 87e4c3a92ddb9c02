package main

import (
	"bytes"
	"encoding/json"
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
	form  string
	forms []string
}

// flag adds -o with the forms that a command knows, the default first.
func (o *output) flag(cmd *cobra.Command, forms ...string) {
	o.forms = forms
	cmd.Flags().StringVarP(&o.form, "output", "o", forms[0], "form of the output: "+strings.Join(forms, ", "))
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(o.forms, o.form) {
			return usagef("-o %s is not known here; use %s", o.form, strings.Join(o.forms, ", "))
		}
		return run(cmd, args)
	}
}

// document prints one document, for people through table.
func (o *output) document(cmd *cobra.Command, v any, table func() error) error {
	switch o.form {
	case "json":
		return printJSON(cmd.OutOrStdout(), v)
	case "yaml":
		return printYAML(cmd.OutOrStdout(), v)
	}
	return table()
}

// list prints things that are rows of a table: as one document, as a table for
// people, or as CSV.
func (o *output) list(cmd *cobra.Command, v any, head []string, rows [][]string) error {
	switch o.form {
	case "csv":
		return printCSV(cmd.OutOrStdout(), head, rows)
	default:
		return o.document(cmd, v, func() error { return printTable(cmd.OutOrStdout(), head, rows) })
	}
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
	for _, row := range append([][]string{head}, rows...) {
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

// printCSV prints cells that a spreadsheet does not take for formulas.
func printCSV(w io.Writer, head []string, rows [][]string) error {
	c := sheet.NewWriter(w)
	for _, row := range append([][]string{head}, rows...) {
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
