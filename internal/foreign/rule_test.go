package foreign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/condition"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
)

// TestRules compares what is made of the files in testdata/rules with golden
// files.
func TestRules(t *testing.T) {
	t.Parallel()
	for _, format := range RuleFormats() {
		dir := "testdata/rules/" + string(format)
		got, err := Rules(format, readFiles(t, dir+"/*"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := resource.YAML(got.Objects)
		if err != nil {
			t.Fatal(err)
		}
		var notes bytes.Buffer
		for _, n := range got.Notes {
			fmt.Fprintln(&notes, n)
		}
		for name, b := range map[string][]byte{dir + ".golden.yaml": text, dir + ".golden.notes": notes.Bytes()} {
			if *update {
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(readFile(t, name)), string(b)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	for _, bad := range []Format{Fleet, "x", Unknown} {
		if _, err := Rules(bad, []File{{"f", []byte("{}")}}); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// TestDoormanOperators: each of the 16 is what it says, of texts, numbers, and
// what is missing, which Doorman threw at.
func TestDoormanOperators(t *testing.T) {
	t.Parallel()
	const yes, no, unknown = condition.Yes, condition.No, condition.Unknown
	for _, c := range []struct {
		operator, value           string
		ten, empty, word, missing condition.Truth
	}{
		{"equal", "10", yes, no, no, unknown},
		{"not_equal", "10", no, yes, yes, unknown},
		{"begins_with", "1", yes, no, no, unknown},
		{"not_begins_with", "1", no, yes, yes, unknown},
		{"contains", "0", yes, no, no, unknown},
		{"not_contains", "0", no, yes, yes, unknown},
		{"ends_with", "0", yes, no, no, unknown},
		{"not_ends_with", "0", no, yes, yes, unknown},
		{"is_empty", "", no, yes, no, yes},
		{"is_not_empty", "", yes, no, yes, unknown},
		{"less", "11", yes, unknown, unknown, unknown},
		{"less_or_equal", "10", yes, unknown, unknown, unknown},
		{"greater", "9.5", yes, unknown, unknown, unknown},
		{"greater_or_equal", "-1", yes, unknown, unknown, unknown},
		{"matches_regex", "[0-9]", yes, no, no, unknown},
		{"not_matches_regex", "[0-9]", no, yes, yes, unknown},
	} {
		expr, err := doormanTest("columns.a", c.operator, c.value)
		if err != nil {
			t.Error(c.operator, err)
			continue
		}
		compiled, err := condition.Compile("c", expr)
		if err != nil {
			t.Error(c.operator, err)
			continue
		}
		judge := func(row osquery.Row) condition.Truth { return compiled.Judge(&condition.Event{Columns: row}) }
		got := []condition.Truth{judge(osquery.Row{{Name: "a", Value: "10"}}), judge(osquery.Row{{Name: "a"}}), judge(osquery.Row{{Name: "a", Value: "x1"}}), judge(nil)}
		if diff := cmp.Diff([]condition.Truth{c.ten, c.empty, c.word, c.missing}, got); diff != "" {
			t.Errorf("%s (%s):\n%s", c.operator, expr, diff)
		}
	}
}

// TestSigmaWords: values match as Sigma has them: without case, with wildcards.
func TestSigmaWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		test        sigmaTest
		value, path string
		want        bool
	}{
		{sigmaTest{}, `C:\Windows\CMD.exe`, `c:\windows\cmd.EXE`, true},
		{sigmaTest{}, `*\cmd.exe`, `C:\x\cmd.exe`, true},
		{sigmaTest{}, `*\cmd.exe`, `C:\x\cmd.exe2`, false},
		{sigmaTest{operator: "contains"}, `a*b?c`, "xxA--B-Cxx", true},
		{sigmaTest{operator: "endswith"}, `\*`, "x*", true},
		{sigmaTest{operator: "endswith"}, `\*`, "xy", false},
		{sigmaTest{operator: "startswith", cased: true}, "A", "abc", false},
		{sigmaTest{cased: true}, "a?c", "abc", true},
		{sigmaTest{}, "", "", true},
		{sigmaTest{}, "*", "anything", true},
		{sigmaTest{}, "a\nb*c", "a\nbxc", true},
	} {
		c.test.subject = "columns.path"
		expr, err := c.test.test(c.value)
		if err != nil {
			t.Fatal(err)
		}
		compiled, err := condition.Compile("c", expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := compiled.Judge(&condition.Event{Columns: osquery.Row{{Name: "path", Value: c.path}}}) == condition.Yes; got != c.want {
			t.Errorf("%s of %q: %v", expr, c.path, got)
		}
	}
}

// FuzzRules: whatever is in the files, what comes out are rules that compile.
func FuzzRules(f *testing.F) {
	for _, format := range RuleFormats() {
		entries, err := os.ReadDir("testdata/rules/" + string(format))
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			f.Add(format == Sigma, readFile(f, "testdata/rules/"+string(format)+"/"+e.Name()))
		}
	}
	f.Add(true, []byte("logsource: {category: dns_query, product: windows}\ndetection: {a: {QueryName: ['*', \"\\xff\\0\"]}, condition: not not a}"))
	f.Fuzz(func(t *testing.T, sigma bool, b []byte) {
		format := Doorman
		if sigma {
			format = Sigma
		}
		got, err := Rules(format, []File{{"f", b}})
		if err != nil {
			return
		}
		for _, o := range got.Objects {
			if _, err := resource.NewRulePlan(o); err != nil {
				t.Errorf("%v", err)
			}
			if _, err := json.Marshal(o.Spec); err != nil {
				t.Error(err)
			}
		}
		if text, err := resource.YAML(got.Objects); err != nil {
			t.Error(err)
		} else if again, err := resource.Parse("f", text); len(got.Objects) > 0 && (err != nil || len(again) != len(got.Objects)) {
			t.Errorf("%d of %d objects can be read back: %v", len(again), len(got.Objects), err)
		}
	})
}
