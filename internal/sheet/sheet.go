// Package sheet writes CSV that people open with a spreadsheet, of texts that
// come from anywhere.
package sheet

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

// Writer writes rows of cells. Close it by Flush.
type Writer struct {
	csv  *csv.Writer
	safe []string
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{csv: csv.NewWriter(w)} }

// Write writes a row; see Cell.
func (w *Writer) Write(cells []string) error {
	w.safe = w.safe[:0]
	for _, c := range cells {
		w.safe = append(w.safe, Cell(c))
	}
	return w.csv.Write(w.safe)
}

// Flush writes what is left.
func (w *Writer) Flush() error {
	w.csv.Flush()
	return w.csv.Error()
}

// Cell returns a text that a spreadsheet does not take for a formula: such a one
// gets a leading apostrophe (OWASP, CSV injection). A negative number is none.
// Control characters, which a terminal would obey and at some of which a
// spreadsheet stops, are shown as \u001b; line breaks and tabs stay.
func Cell(s string) string {
	if strings.ContainsFunc(s, control) {
		var b strings.Builder
		for _, r := range s {
			if control(r) {
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteRune(r)
			}
		}
		s = b.String()
	}
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) && !negative(s) {
		return "'" + s
	}
	// Some spreadsheets take the wide forms of East Asian scripts for the same.
	for _, wide := range []string{"＝", "＋", "－", "＠"} {
		if strings.HasPrefix(s, wide) {
			return "'" + s
		}
	}
	return s
}

func control(r rune) bool {
	const lastC0, del, lastC1 = 0x1f, 0x7f, 0x9f
	return r <= lastC0 && r != '\t' && r != '\n' && r != '\r' || r >= del && r <= lastC1
}

// negative reports whether s is a negative decimal number and nothing else.
func negative(s string) bool {
	digits, ok := strings.CutPrefix(s, "-")
	whole, part, point := strings.Cut(digits, ".")
	return ok && number(whole) && (!point || number(part))
}

func number(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
