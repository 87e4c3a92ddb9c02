package sheet

import (
	"encoding/csv"
	"strings"
	"testing"
)

func TestCell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                      "",
		"plain":                 "plain",
		"a=1":                   "a=1",
		"=1+1":                  "'=1+1",
		"+49 30":                "'+49 30",
		"@SUM(A1)":              "'@SUM(A1)",
		"-1+cmd|' /C calc'!A0":  "'-1+cmd|' /C calc'!A0",
		"-12":                   "-12",
		"-0.5":                  "-0.5",
		"-":                     "'-",
		"-.5":                   "'-.5",
		"-1.":                   "'-1.",
		"-1e5":                  "'-1e5",
		"\t=1":                  "'\t=1",
		"\r=1":                  "'\r=1",
		"\n=1":                  "'\n=1",
		"＝1+1":                  "'＝1+1",
		"two\nlines":            "two\nlines",
		"\x1b[2J\x00\x7f\u0085": `\u001b[2J\u0000\u007f\u0085`,
		"日本 🦀":                  "日本 🦀",
	} {
		if got := Cell(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("=1", "a,b\"c\n")
	f.Add("\x00", "\xff")
	f.Fuzz(func(t *testing.T, a, b string) {
		var out strings.Builder
		w := NewWriter(&out)
		if err := w.Write([]string{"x" + a, b}); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
		if err != nil || len(rows) != 1 || len(rows[0]) != 2 {
			t.Fatalf("%q reads as %q, %v", out.String(), rows, err)
		}
		if cell := rows[0][1]; cell != "" && strings.ContainsRune("=+@\t\n\x00\x1b", rune(cell[0])) {
			t.Errorf("a spreadsheet obeys %q", cell)
		}
	})
}
