package yamldoc

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

// lines returns n lines of a format, which gets their numbers.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// stairs returns n keys, each a column deeper than the one before.
func stairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestParse_refused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text, want string
		kind             errs.Kind
	}{
		{"no YAML", "a: [", "is no YAML: [1:4]", errs.Invalid},
		{"no YAML in another document", "a: 1\n---\n\nb: [", "is no YAML: [4:4]", errs.Invalid},
		{"no UTF-8", "a: \xff", "is no UTF-8", errs.Invalid},
		{"same key", "a: 1\n---\na: 1\na: 2\n", "[4:1] mapping key \"a\" already defined at [3:1]", errs.Invalid},
		{"same key in braces", "x: {a: 1, a: 2}", "\"a\" already defined", errs.Invalid},
		{"anchor", "a: &x 1", "an anchor (&) at line 1", errs.Invalid},
		{"alias", "b: 2\na: *x", "an alias (*) at line 2", errs.Invalid},
		{"merge key", "a:\n  <<: {b: 1}", "a merge key (<<) at line 2", errs.Invalid},
		{"tag", "a: !!binary aGk=", "a tag (!) at line 1", errs.Invalid},
		{"directive", "%YAML 1.2\n---\na: 1", "a directive (%) at line 1", errs.Invalid},
		{"tab", "a: 1\n---\nb: 2\nc: x\ty\n", "[4:4] has a tab in a text without quotes; quote it", errs.Invalid},
		{"tab in a key", "a\tb: 1\n", "has a tab", errs.Invalid},
		{"tab in a list", "a:\n  - x\ty\n", "[2:5] has a tab", errs.Invalid},
		{"tab in braces", "a: {b: x\ty}\n", "has a tab", errs.Invalid},
		{"tab on another line", "a: x\n  y\tz\n", "has a tab", errs.Invalid},
		{"tab after a block", "a: |\n  x\ny: a\tb\n", "[3:4] has a tab", errs.Invalid},
		{"NUL", "a: 1\nb: \x00", `a control character at line 2; put the text between double quotes and write it as \x00`, errs.Invalid},
		{"levels of a list", strings.Repeat("- ", 40) + "a", "over 32 levels at line 1", errs.TooLarge},
		{"levels of braces", strings.Repeat("[", 40) + strings.Repeat("]", 40), "over 32 levels at line 1", errs.TooLarge},
		{"levels of blocks", stairs(600), "over 32 levels", errs.TooLarge},
		{"keys", lines(4001, "k%d: 1\n"), "over 4000 keys in one object at line 4001", errs.TooLarge},
		{"keys in braces", "a: {" + lines(4001, "k%d: {a: 1},\n") + "}", "over 4000 keys", errs.TooLarge},
		{"a long line", strings.Repeat("a: ", 3000), "over 4000 parts in one line", errs.TooLarge},
		{"parts", strings.Repeat("- a\n", 60_000), "over 100000 parts in one document at line 1", errs.TooLarge},
		{"parts of another document", "a: 1\n---\n" + strings.Repeat("- a\n", 60_000), "over 100000 parts in one document at line 2", errs.TooLarge},
		{"parts of all documents", strings.Repeat(strings.Repeat("- a\n", 45_000)+"---\n", 12), "over 1000000 parts up to line 495011", errs.TooLarge},
		{"keys of all objects", strings.Repeat(lines(3000, "k%d: 1\n")+"---\n", 12), "too many objects with over a thousand keys", errs.TooLarge},
		{"marks", strings.Repeat(",", maxMarks+1), "over 400000 marks", errs.TooLarge},
		{"<", "a: " + strings.Repeat("<", 101), "over 100 < in a row at line 1", errs.TooLarge},
		{"blank lines", "a: |\n  x" + strings.Repeat("\n", 40), "over 32 blank lines in a row at line 35", errs.TooLarge},
		{"tabs", `a: "` + strings.Repeat("\t", 40_000) + `"`, "too many tabs in long lines at line 1", errs.TooLarge},
		{"a large document", "a: " + strings.Repeat("x", maxDocument), "a document of over 2097152 bytes at line 1", errs.TooLarge},
		{"a large file", strings.Repeat("x", maxBytes+1), "over 8388608 bytes", errs.TooLarge},
		{"documents", strings.Repeat("---\n", maxDocuments+1), "over 5000 documents", errs.TooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bodies, err := Parse([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || errs.KindOf(err) != tt.kind {
				t.Errorf("%.300v, want %q; %d documents", err, tt.want, len(bodies))
			}
		})
	}
}

// TestParse_texts reads the forms of one text, tabs and all.
func TestParse_texts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: x y":                     "x y",
		"a: x y \t# c\ty":            "x y",
		"a:\tx y\t":                  "x y",
		"\ufeffa: x":                 "x",
		"a: \"x\ty\"":                "x\ty",
		"a: 'x\ty'":                  "x\ty",
		"a: \"x\\ty\"":               "x\ty",
		"a: |\n  x\ty\n  \tz\n":      "x\ty\n\tz\n",
		"a: | # c\td\n  x\ty\n":      "x\ty\n",
		"a: >-\n  x\ty\n  z\n":       "x\ty z",
		"a: x\n  y\n":                "x y",
		"a: x\r\n":                   "x",
		"a: |\r\n  x\r\n  y\r\n":     "x\ny\n",
		"# c\n---\n# c\n---\na: x\n": "x",
		"a: x\n---\n...\n---\n":      "x",
		"--- {a: x}\n":               "x",
	} {
		bodies, err := Parse([]byte(text))
		if err != nil || len(bodies) != 1 {
			t.Errorf("%q: %d documents, %v", text, len(bodies), err)
			continue
		}
		var got struct{ A string }
		if err := yaml.NodeToValue(bodies[0], &got); err != nil || got.A != want {
			t.Errorf("%q is %q, want %q; %v", text, got.A, want, err)
		}
	}
}

// TestParse_long reads the most that a file may have.
func TestParse_long(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want int
	}{
		"documents": {strings.Repeat("a: {b: [c, d], e: f}\n---\n", maxDocuments), maxDocuments},
		"queries":   {"queries:\n" + lines(maxKeys, "  q%d:\n    query: SELECT 1\n    interval: 60\n    platform: linux\n"), 1},
		"JSON":      {`{"queries":{` + lines(maxKeys-1, `"q%d":{"query":"SELECT 1","interval":60},`) + `"q":{}}}`, 1},
		"a text":    {"a: |\n" + strings.Repeat("  SELECT pid, name FROM processes\n", maxDocument/40), 1},
	} {
		if bodies, err := Parse([]byte(tt.text)); err != nil || len(bodies) != tt.want {
			t.Errorf("%s: %d documents, %v", name, len(bodies), err)
		}
	}
}

// TestMarshal is how things look.
func TestMarshal(t *testing.T) {
	t.Parallel()
	v := struct {
		Text   string         `json:"text"`
		Block  string         `json:"block"`
		Ends   string         `json:"ends"`
		Lists  [][]string     `json:"lists"`
		Items  []any          `json:"items"`
		Values map[string]any `json:"values"`
	}{
		"SELECT a, b FROM c WHERE d = 'é'", "a\n\tb\n\nc", "a\nb\n",
		[][]string{{"a", "b\nc"}, {}, {""}},
		[]any{map[string]any{"a": 1, "b": []int{1}}, nil, true},
		map[string]any{"a\nb": "\ta", "c": 1.5, "d": 1e30, "e": "1e30", "f": uint64(1 << 63), "true": map[string]any{}, "x": " "},
	}
	const want = `text: SELECT a, b FROM c WHERE d = 'é'
block: |-
  a
  	b

  c
ends: |
  a
  b
lists:
  - - a
    - |-
      b
      c
  - []
  - - ""
items:
  - a: 1
    b:
      - 1
  - null
  - true
values:
  "a\nb": "\ta"
  c: 1.5
  d: 1.0e+30
  e: "1e30"
  f: 9223372036854775808
  "true": {}
  x: " "
`
	got, err := Marshal(v)
	if diff := cmp.Diff(want, string(got)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// FuzzMarshal writes a text as key, value and item, and reads it.
func FuzzMarshal(f *testing.F) {
	for _, text := range []string{"a", "", "\t", "a\tb\nc", "a: b", "? ", "<<", ".inf", "a\n b\n", "\r\n", "\u2028", "1e3", strings.Repeat("<", 200), "a\n---\nb", "# a\nb"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip("JSON has no such text")
		}
		want := map[string]any{"a": []any{text, []any{text}, map[string]any{text: text}}, "b": text, text + "c": map[string]any{"d": text}}
		b, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		bodies, err := Parse(b)
		if err != nil || len(bodies) != 1 {
			t.Fatalf("%d documents, %v\n%s", len(bodies), err, b)
		}
		var got map[string]any
		if err := yaml.NodeToValue(bodies[0], &got, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s\n%s", diff, b)
		}
	})
}

// FuzzParse holds that errors have a kind, and that every word of a text without
// quotes is in the file.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"a: x\ty", "a: [b, {c: d}]\n---\n- e\n", "a: |-\n  b\n", "\"a\": 'b'", "a: b\n  c\n", "? a\n: b", "a:\n\t- b", "a: - b", "%a", "--- >\n a\n b", "a: b # c"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		bodies, err := Parse(file)
		if err != nil && errs.KindOf(err) == errs.Internal {
			t.Fatalf("an error without a kind: %v", err)
		}
		for _, body := range bodies {
			ast.Walk(words{t, string(file)}, body)
		}
	})
}

// words looks for what is said in a file.
type words struct {
	t    *testing.T
	file string
}

// Visit implements ast.Visitor.
func (w words) Visit(n ast.Node) ast.Visitor {
	if _, ok := n.(*ast.LiteralNode); ok {
		return nil
	}
	if s, ok := n.(*ast.StringNode); ok && s.Token.Type == token.StringType {
		for word := range strings.FieldsSeq(s.Value) {
			if !strings.Contains(w.file, word) {
				w.t.Errorf("%q is not in the file, at %v", word, s.Token.Position)
			}
		}
	}
	return w
}

// largest repeats a text until Parse refuses it.
func largest(text string) []byte {
	n := sort.Search(maxBytes/len(text), func(n int) bool {
		_, err := Parse([]byte(strings.Repeat(text, n+1)))
		return errs.Is(err, errs.TooLarge)
	})
	return []byte(strings.Repeat(text, n))
}

// BenchmarkParse reads files of the largest size that a Set of resources has,
// and the worst that the limits let through.
func BenchmarkParse(b *testing.B) {
	document := "apiVersion: muster/v1\nkind: Pack\nname: p\nspec:\n  queries:\n" + lines(20, "    q%d:\n      query: SELECT pid, name FROM processes\n      interval: 60\n") + "---\n"
	for name, text := range map[string]string{
		"packs":    document,
		"keys":     lines(maxKeys, "k%d: 1\n") + "---\n",
		"1,000":    lines(1000, "k%d: 1\n") + "---\n",
		"nulls":    lines(maxKeys, "k%d:\n") + "---\n",
		"items":    "a:\n" + strings.Repeat("-\n", maxDocTokens/2-2) + "---\n",
		"objects":  "a:\n" + strings.Repeat("- a:\n", maxDocTokens/3-2) + "---\n",
		"line":     strings.Repeat("a: ", maxLineTokens/2-1) + "\n---\n",
		"marks":    "[" + strings.Repeat("[],", maxDocTokens/3-10) + "]" + "\n---\n",
		"blank":    "a: |\n  " + strings.Repeat("x", maxDocument-100) + strings.Repeat("\n", maxBlank) + "---\n",
		"blanks":   "a: |\n" + strings.Repeat("  x"+strings.Repeat("\n", maxBlank), maxMarks/maxBlank-10) + "---\n",
		"<":        "a: " + strings.Repeat(strings.Repeat("<", maxRun)+" ", 3000) + "\n---\n",
		"tabs":     `a: "` + strings.Repeat("\tx", 16_000) + "\"\n",
		"comments": strings.Repeat("#\n", maxDocTokens-10) + "---\n",
	} {
		file := largest(text)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := Parse(file)
				if err != nil && errs.KindOf(err) == errs.Internal {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestFirstLine keeps a message short.
func TestFirstLine(t *testing.T) {
	t.Parallel()
	var into struct{ A int }
	key, err := json.Marshal(strings.Repeat("k", 1000))
	if err != nil {
		t.Fatal(err)
	}
	err = yaml.UnmarshalWithOptions(append(key, ": 1\n"...), &into, yaml.Strict())
	if got := FirstLine(err); !strings.HasPrefix(got, "[1:1] unknown field") || len(got) > 310 || strings.Contains(got, "\n") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
