package policy

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// corpusText is a line of a corpus: name, what is expected, text.
type corpusText struct{ name, expect, sql string }

func readCorpus(tb testing.TB, file string) []corpusText {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	escapes := strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\f`, "\f", `\v`, "\v",
		`\s`, "\u00a0", `\0`, "\x00", `\b`, "\ufeff", `\xff`, "\xff")
	repeat := regexp.MustCompile(`\{\{(\d+):([^}]*)\}\}`)
	var all []corpusText
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, "\t", 3)
		if len(f) != 3 {
			tb.Fatalf("%s: %q has %d fields", file, line, len(f))
		}
		sql := repeat.ReplaceAllStringFunc(escapes.Replace(f[2]), func(s string) string {
			m := repeat.FindStringSubmatch(s)
			n, err := strconv.Atoi(m[1])
			if err != nil {
				tb.Fatal(err)
			}
			return strings.Repeat(m[2], n)
		})
		all = append(all, corpusText{f[0], f[1], sql})
	}
	return all
}

// holds reports whether a verdict is as one word of the corpus says.
func holds(v Verdict, word string) bool {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "t0", "t1", "t2", "t3":
		return "t"+strconv.Itoa(int(v.Tier)) == word
	case "refused":
		return !v.Provable()
	case "table":
		return slices.Contains(v.Tables, value)
	case "column":
		return slices.Contains(v.Columns, value)
	case "fn":
		return slices.Contains(v.Functions, value)
	case "reason":
		return slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Kind == value && r.Tier == Dangerous })
	}
	return slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == word })
}

func TestHostileTexts(t *testing.T) {
	e := newEngine(t, Rules{})
	corpus := readCorpus(t, "testdata/hostile.txt")
	if len(corpus) < 150 {
		t.Fatalf("%d texts", len(corpus))
	}
	for _, c := range corpus {
		v := e.Query(Query{SQL: c.sql})
		for word := range strings.FieldsSeq(c.expect) {
			if !holds(v, word) {
				t.Errorf("%s: not %s: %s\n%+v", c.name, word, shorten(c.sql), v)
			}
		}
		if v.Allowed(Sensitive) && !strings.Contains(c.expect, "t2") {
			t.Errorf("%s is allowed: %s", c.name, shorten(c.sql))
		}
		for _, f := range v.Findings {
			if f.Line < 0 || f.Line > strings.Count(c.sql, "\n")+1 || f.Message == "" {
				t.Errorf("%s: finding %+v", c.name, f)
			}
		}
	}
}

func TestHarmlessTexts(t *testing.T) {
	e := newEngine(t, Rules{})
	corpus := readCorpus(t, "testdata/harmless.txt")
	if len(corpus) < 100 {
		t.Fatalf("%d texts", len(corpus))
	}
	for _, c := range corpus {
		v := e.Query(Query{SQL: c.sql})
		if !v.Allowed(Sensitive) || strconv.Itoa(int(v.Tier)) != c.expect {
			t.Errorf("%s: %s\n%+v", c.name, c.sql, v)
		}
	}
}
