package policy

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateSQL = flag.Bool("update-sql", false, "write the golden files of the SQL half")

// packQuery is a query of osquery's packs with the platforms that it is for.
type packQuery struct {
	name, sql, platform string
	interval            int
	snapshot            bool
}

func (q packQuery) query() Query {
	result := Query{SQL: q.sql, Use: Scheduled, Interval: q.interval, Snapshot: q.snapshot, Removed: true}
	if q.platform != "" {
		result.Platforms = []string{q.platform}
	}
	return result
}

// readPacks reads osquery's packs as its agent does: without backslashes that
// end a line, and without lines that are comments.
func readPacks(tb testing.TB) []packQuery {
	tb.Helper()
	files, err := filepath.Glob("../osquery/testdata/packs/*.conf")
	if err != nil || len(files) != 10 {
		tb.Fatalf("%d packs, %v; want 10", len(files), err)
	}
	var all []packQuery
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(strings.ReplaceAll(string(data), "\\\n", "")) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "//") {
				lines = append(lines, line)
			}
		}
		var pack struct {
			Platform string
			Queries  map[string]struct {
				Query, Platform string
				Interval        json.RawMessage
				Snapshot        bool
			}
		}
		if err := json.Unmarshal([]byte(strings.Join(lines, "\n")), &pack); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		for name, q := range pack.Queries {
			interval, err := strconv.Atoi(strings.Trim(string(q.Interval), `"`))
			if err != nil {
				tb.Fatal(err)
			}
			platform := q.Platform
			if platform == "" {
				platform = pack.Platform
			}
			all = append(all, packQuery{
				name: strings.TrimSuffix(filepath.Base(file), ".conf") + "/" + name, sql: q.Query,
				platform: platform, interval: interval, snapshot: q.Snapshot,
			})
		}
	}
	slices.SortFunc(all, func(a, b packQuery) int { return strings.Compare(a.name, b.name) })
	return all
}

func TestPacksAreUnderstood(t *testing.T) {
	e := newEngine(t, Rules{})
	var b strings.Builder
	count := map[Tier]int{}
	queries := readPacks(t)
	for _, q := range queries {
		v := e.Query(q.query())
		count[v.Tier]++
		var codes []string
		for _, f := range v.Findings {
			codes = append(codes, f.Code)
		}
		fmt.Fprintf(&b, "%s\t%d\t%s\t%s\t%s\n", q.name, v.Tier, strings.Join(v.Tables, ","), strings.Join(codes, ","), strings.Join(v.Platforms, ","))
		if !v.Provable() && q.name != "vuln-management/opera_extensions" {
			t.Errorf("%s: %+v\n%s", q.name, v.Findings, q.sql)
		}
	}
	if len(queries) != 306 {
		t.Errorf("%d queries; osquery's packs have 306", len(queries))
	}
	fmt.Fprintf(&b, "# %d of tier 0, %d of 1, %d of 2, %d of 3\n", count[0], count[1], count[2], count[3])
	golden(t, "testdata/packs.golden", b.String())
}

// newEngine returns an engine that is closed with the test.
func newEngine(tb testing.TB, rules Rules) *Engine {
	tb.Helper()
	e, err := New(rules)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// golden compares with a file, or writes it with -update-sql.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *updateSQL {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
