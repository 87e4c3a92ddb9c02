package osquery

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestRow(t *testing.T) {
	t.Parallel()
	const object = `{"z":"1","a":"<&>","ä \"q\"":"\n","a2":""}`
	var r Row
	if err := json.Unmarshal([]byte(object), &r); err != nil {
		t.Fatal(err)
	}
	want := Row{{"z", "1"}, {"a", "<&>"}, {`ä "q"`, "\n"}, {"a2", ""}}
	if d := cmp.Diff(want, r); d != "" {
		t.Fatal(d)
	}
	if got, err := r.MarshalJSON(); err != nil || string(got) != object {
		t.Errorf("%s, %v; want %s", got, err, object)
	}
	if v, ok := r.Get("a"); !ok || v != "<&>" {
		t.Errorf("Get(a) = %q, %v", v, ok)
	}
	if _, ok := r.Get("A"); ok {
		t.Error("Get(A) found a column")
	}
	if d := cmp.Diff(map[string]string{"z": "1", "a": "<&>", `ä "q"`: "\n", "a2": ""}, r.Map()); d != "" {
		t.Error(d)
	}
	for _, none := range []Row{nil, {}} {
		if got, err := json.Marshal(none); err != nil || string(got) != `{}` {
			t.Errorf("%#v is %s, %v", none, got, err)
		}
	}
	if err := r.UnmarshalJSON([]byte(`{"a"`)); err == nil {
		t.Error("broken JSON was taken")
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain ä €𝄞", "plain ä €𝄞"},
		{"\xff", `\xFF`},
		{"a\xffb\xfe", `a\xFFb\xFE`},
		{"\xc3", `\xC3`},
		{"\xe2\x82", `\xE2\x82`},
		{"\xed\xa0\x80", `\xED\xA0\x80`}, // a surrogate
		{"\xc0\x80", `\xC0\x80`},         // an overlong NUL
		{"\ufffd", "\ufffd"},             // the character itself is one
		{"\x00\x01", "\x00\x01"},
	}
	for _, tt := range tests {
		if got := Clean([]byte(tt.in)); got != tt.want {
			t.Errorf("Clean(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	if got := string(AppendClean([]byte("x"), []byte("\xff"))); got != `x\xFF` {
		t.Errorf("AppendClean = %q", got)
	}
}

func TestCheckSelect(t *testing.T) {
	t.Parallel()
	tests := []struct{ sql, problem string }{
		{"SELECT 1", ""},
		{"select * from users;", ""},
		{" \n\t-- why\n/* what */ SELECT 1 ; ;; -- end", ""},
		{"\ufeffSELECT 1", ""},
		{"WITH a AS (SELECT 1) SELECT * FROM a", ""},
		{"VALUES (1), (2)", ""},
		{"SELECT ';'", ""},
		{"SELECT 'it''s; fine'", ""},
		{`SELECT ";" FROM "a;b"`, ""},
		{"SELECT `;`", ""},
		{"SELECT [a;b] FROM t", ""},
		{"SELECT [a';b] FROM t", ""},
		{"SELECT 1 -- ; DROP", ""},
		{"SELECT 1 -- ; DROP\n;", ""},
		{"SELECT 1 /* ; DROP */", ""},
		{"SELECT 1 /* ; DROP", ""},
		{"SELECT 1; /* one */ -- two", ""},
		{"SELECT 1 - -1", ""},
		{"SELECT 1/2; ", ""},
		{"SELECT '--'", ""},
		{"SELECT '/*'", ""},

		{"", "empty"},
		{" \n -- only a comment", "empty"},
		{"/* open", "empty"},
		{";", `begins with ";"`},
		{"; SELECT 1", `begins with ";"`},
		{"DELETE FROM users", `begins with "DELETE"`},
		{"SELECTED", `begins with "SELECTED"`},
		{"PRAGMA user_version", `begins with "PRAGMA"`},
		{"ATTACH 'x' AS y", `begins with "ATTACH"`},
		{"EXPLAIN SELECT 1", `begins with "EXPLAIN"`},
		{"/* SELECT */ DROP TABLE x", `begins with "DROP"`},
		{"(SELECT 1)", `begins with "("`},
		{"äSELECT 1", `begins with "ä"`},
		{"SELECT 1; SELECT 2", "more than one"},
		{"SELECT 1;SELECT 2;", "more than one"},
		{"SELECT 1;; DROP TABLE x", "more than one"},
		{"SELECT ';'; DROP TABLE x", "more than one"},
		{"SELECT 'a''; SELECT 1'; SELECT 2", "more than one"},
		{"SELECT [a]; SELECT 2", "more than one"},
		{"SELECT 1 -- x\n; SELECT 2", "more than one"},
		{"SELECT 1 /* x */; SELECT 2", "more than one"},
		{"SELECT 1; /* x */ SELECT 2", "more than one"},
		{"SELECT 1; ' SELECT 2", "more than one"},
		{"SELECT 1/*/ ; */; SELECT 2", "more than one"},
		{"SELECT 1\x00; SELECT 2", "NUL"},
	}
	for _, tt := range tests {
		err := CheckSelect(tt.sql)
		if (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("CheckSelect(%q) = %v, want %q", tt.sql, err, tt.problem)
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Errorf("CheckSelect(%q): message %q is not UTF-8", tt.sql, err)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	tables, err := LoadSchema()
	if err != nil {
		t.Fatal(err)
	}
	if len(tables) != 284 {
		t.Errorf("%d tables, want 284", len(tables))
	}
	on := map[string]int{}
	byName := map[string]SchemaTable{}
	for i, table := range tables {
		if i > 0 && tables[i-1].Name >= table.Name {
			t.Errorf("%s comes before %s", tables[i-1].Name, table.Name)
		}
		byName[table.Name] = table
		if len(table.Columns) == 0 || len(table.Platforms) == 0 {
			t.Errorf("%s has no columns or platforms", table.Name)
		}
		for _, p := range []string{"linux", "darwin", "windows"} {
			if table.On(p) {
				on[p]++
			}
		}
		for _, c := range table.Columns {
			switch c.Type {
			case "TEXT", "INTEGER", "BIGINT", "UNSIGNED_BIGINT", "DOUBLE":
			default:
				t.Errorf("%s.%s has type %q", table.Name, c.Name, c.Type)
			}
		}
	}
	if d := cmp.Diff(map[string]int{"linux": 156, "darwin": 187, "windows": 118}, on); d != "" {
		t.Error("tables by platform:", d)
	}
	var required []string
	for _, c := range byName["file"].Columns {
		if c.Required {
			required = append(required, c.Name)
		}
	}
	if d := cmp.Diff([]string{"path", "directory"}, required); d != "" {
		t.Error("required columns of file:", d)
	}
	if byName["launchd"].On("linux") || !byName["process_events"].Evented || byName["processes"].Evented {
		t.Error("launchd is on Linux, or the wrong tables are evented")
	}
	if c := (SchemaColumn{Platforms: []string{"darwin"}}); c.On("linux") || !c.On("darwin") || !(SchemaColumn{}).On("linux") {
		t.Error("SchemaColumn.On is wrong")
	}
	if !json.Valid(SchemaJSON()) {
		t.Error("SchemaJSON is no JSON")
	}
}
