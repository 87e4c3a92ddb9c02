package policy

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/errs"
)

func template(tb testing.TB, sql string, names ...string) *Template {
	tb.Helper()
	parameters := map[string]Parameter{}
	for _, n := range names {
		name, number := strings.CutPrefix(n, "#")
		p := Parameter{}
		if number {
			p.Type = IntegerParameter
		}
		parameters[name] = p
	}
	made, err := ParseTemplate(sql, parameters)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return made
}

func TestParseTemplate(t *testing.T) {
	t.Parallel()
	tests := []struct{ sql, names, want string }{
		{"SELECT :a", "a", ""},
		{"SELECT ':b', \"c:d\", [x :y], `:z` /* :c */ -- :d\n, :a", "a", ""},
		{"SELECT :a, :a FROM t WHERE x=:a AND(:a)=y", "a", ""},
		{"SELECT 1", "a", "not used"},
		{"SELECT ':a'", "a", "not used"},
		{"SELECT :b", "a", "not among"},
		{"SELECT ?", "", "written :name"},
		{"SELECT ?1", "", "written :name"},
		{"SELECT @a", "a", "written :name"},
		{"SELECT $a", "a", "written :name"},
		{"SELECT #a", "a", "written :name"},
		{"SELECT :A", "A", "written :name"},
		{"SELECT a::text", "text", "right beside"},
		{"SELECT :a::text", "a text", "right beside"},
		{"SELECT :a(1)", "a", "right beside"},
		{"SELECT :a'b'", "a", "right beside"},
		{"SELECT 'b':a", "a", "right beside"},
		{"SELECT x:a", "a", "right beside"},
		{"SELECT [b]:a", "a", "right beside"},
		{"SELECT :a[b]", "a", "right beside"},
		{"SELECT :a.b", "a", "right beside"},
		{"SELECT :ä", "a", "written :name"},
		{"SELECT :a, 'b", "a", "does not end"},
		{"SELECT :a, \x00", "a", "no text"},
		{"SELECT :a, \xff", "a", "no text"},
	}
	for _, tt := range tests {
		parameters := map[string]Parameter{}
		for name := range strings.FieldsSeq(tt.names) {
			parameters[name] = Parameter{}
		}
		_, err := ParseTemplate(tt.sql, parameters)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errs.Is(err, errs.Invalid)) {
			t.Errorf("%s: %v, want %q", tt.sql, err, tt.want)
		}
	}
}

func TestTemplate_Render(t *testing.T) {
	t.Parallel()
	const plain, number, like = "SELECT name FROM users WHERE username = :a", "SELECT name FROM processes WHERE pid = :a", "SELECT name FROM users WHERE username LIKE :a"
	whole, err := WholePattern("a|b+")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, sql string
		p         Parameter
		value     string
		want      string // "" for an error
	}{
		{"text", plain, Parameter{}, "root", "SELECT name FROM users WHERE username = 'root'"},
		{"nothing", plain, Parameter{}, "", "SELECT name FROM users WHERE username = ''"},
		{"quote", plain, Parameter{}, "a' OR 1 --", "SELECT name FROM users WHERE username = 'a'' OR 1 --'"},
		{"only quotes", plain, Parameter{}, "'''", "SELECT name FROM users WHERE username = ''''''''"},
		{"backslash", plain, Parameter{}, `\'; DROP`, `SELECT name FROM users WHERE username = '\''; DROP'`},
		{"parameter", plain, Parameter{}, ":a", "SELECT name FROM users WHERE username = ':a'"},
		{"NUL", plain, Parameter{}, "a\x00b", ""},
		{"line", plain, Parameter{}, "a\nb", ""},
		{"delete", plain, Parameter{}, "a\x7fb", ""},
		{"C1", plain, Parameter{}, "a\u0085b", ""},
		{"right to left", plain, Parameter{}, "a\u202eb", ""},
		{"BOM", plain, Parameter{}, "\ufeffa", ""},
		{"no UTF-8", plain, Parameter{}, "a\xffb", ""},
		{"as long as may be", plain, Parameter{}, strings.Repeat("x", 256), "SELECT name FROM users WHERE username = '" + strings.Repeat("x", 256) + "'"},
		{"too long", plain, Parameter{}, strings.Repeat("x", 257), ""},
		{"own length", plain, Parameter{MaxLength: 2}, "abc", ""},
		{"percent, compared", plain, Parameter{}, "50%_", "SELECT name FROM users WHERE username = '50%_'"},
		{"pattern", plain, Parameter{Pattern: whole}, "bb", "SELECT name FROM users WHERE username = 'bb'"},
		{"pattern in part", plain, Parameter{Pattern: whole}, "ab", ""},
		{"pattern and a line", plain, Parameter{Pattern: whole}, "a\n", ""},
		{"number", number, Parameter{Type: IntegerParameter}, "42", "SELECT name FROM processes WHERE pid = 42"},
		{"zeros", number, Parameter{Type: IntegerParameter}, "007", "SELECT name FROM processes WHERE pid = 7"},
		{"negative", number, Parameter{Type: IntegerParameter}, "-1", ""},
		{"hexadecimal", number, Parameter{Type: IntegerParameter}, "0x1", ""},
		{"none", number, Parameter{Type: IntegerParameter}, "", ""},
		{"exponent", number, Parameter{Type: IntegerParameter}, "1e9", ""},
		{"huge", number, Parameter{Type: IntegerParameter}, "99999999999999999999", ""},
		{"Arabic digits", number, Parameter{Type: IntegerParameter}, "٤٢", ""},
		{"wildcard", like, Parameter{}, "%", ""},
		{"underscore", like, Parameter{}, "a_b", ""},
		{"star", like, Parameter{}, "a*", ""},
		{"wildcards allowed", like, Parameter{Wildcards: true}, "a%", "SELECT name FROM users WHERE username LIKE 'a%'"},
		{"no wildcard", like, Parameter{}, "ab", "SELECT name FROM users WHERE username LIKE 'ab'"},
		{"flows into a pattern", "WITH w AS (SELECT :a AS v) SELECT name FROM users, w WHERE username LIKE w.v", Parameter{}, "%", ""},
		{"made a pattern", "SELECT name FROM users WHERE username LIKE '%' || :a || '%'", Parameter{}, "%", ""},
	}
	for _, tt := range tests {
		made, err := ParseTemplate(tt.sql, map[string]Parameter{"a": tt.p})
		if err != nil {
			t.Fatal(err)
		}
		got, err := made.Render(map[string]string{"a": tt.value, "other": "x"})
		if got != tt.want && tt.want != "" || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
		if err != nil && len(tt.value) > 3 && strings.Contains(err.Error(), tt.value) {
			t.Errorf("%s: the error shows the value: %v", tt.name, err)
		}
	}
	if _, err := template(t, plain, "a").Render(nil); err == nil {
		t.Error("a value is missing, and nobody says so")
	}
}

func TestEngine_Template(t *testing.T) {
	t.Parallel()
	e, err := New(Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	tests := []struct {
		sql, names string
		tier       Tier
	}{
		{"SELECT id, name, image FROM docker_containers WHERE id = :id", "id", Sensitive},
		{"SELECT id, key, value FROM docker_container_labels WHERE :id = id", "id", Internal},
		{"SELECT :id AS asked, name FROM docker_container_labels, docker_containers USING (id) WHERE id = :id LIMIT :n", "id #n", Sensitive},
		{"SELECT pid, name FROM processes WHERE pid = :pid OR parent IN (:pid, :p2)", "#pid #p2", Sensitive},
		{"SELECT username FROM users WHERE lower(username) = lower(:a)", "a", Sensitive},
		{"SELECT username FROM users WHERE username LIKE '%' || :a || '%'", "a", Sensitive},
		{"SELECT size FROM file WHERE path = '/etc/hosts' AND size > :n", "#n", Sensitive},
		// What a value could say.
		{"SELECT size FROM file WHERE path = :p", "p", Dangerous},
		{"SELECT size FROM file WHERE :p = path", "p", Dangerous},
		{"SELECT size FROM file f WHERE f.path LIKE :p", "p", Dangerous},
		{"SELECT size FROM file WHERE path IN ('/etc/hosts', :p)", "p", Dangerous},
		{"SELECT size FROM file WHERE path = '/etc/' || :p", "p", Dangerous},
		{"SELECT size FROM file WHERE path IN (SELECT :p)", "p", Dangerous},
		{"WITH w(p) AS (SELECT :p) SELECT size FROM file, w WHERE path = w.p", "p", Dangerous},
		{"SELECT size FROM (SELECT path AS q, size FROM file) WHERE q = :p", "p", Dangerous},
		{"SELECT path AS q, size FROM file WHERE q = :p", "p", Dangerous},
		{"SELECT size FROM file WHERE path = coalesce(:p, '/etc/hosts')", "p", Dangerous},
		{"SELECT size FROM file WHERE path = CASE WHEN 1 THEN :p END", "p", Dangerous},
		{"SELECT result FROM curl WHERE url = :u", "u", Dangerous},
		{"SELECT sha256 FROM hash WHERE path = :p", "p", Dangerous},
		{"SELECT key FROM registry WHERE key = :p", "p", Dangerous},
		{"SELECT printf(:f, 1)", "f", Dangerous},
		{"SELECT name FROM processes WHERE regex_match(name, :r, 0) != ''", "r", Dangerous},
		{"SELECT hex(zeroblob(:n))", "#n", Dangerous},
		{"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT :n) SELECT i FROM c", "#n", Dangerous},
		{"SELECT value FROM preferences WHERE domain = :d", "d", Dangerous},
		{"SELECT nothing FROM users WHERE username = :a", "a", Dangerous},
		{"DELETE FROM users WHERE username = :a", "a", Dangerous},
	}
	for _, tt := range tests {
		made := template(t, tt.sql, strings.Fields(tt.names)...)
		v := e.Template(made, Query{})
		if v.Tier != tt.tier || v.Hash != Hash(tt.sql) {
			t.Errorf("%s: tier %s, want %s: %+v %+v", tt.sql, v.Tier, tt.tier, v.Reasons, v.Findings)
		}
	}
}

// TestEngine_Template_exception: who pins a template allows it as it is; what
// becomes of it is judged by itself.
func TestEngine_Template_exception(t *testing.T) {
	t.Parallel()
	const sql = "SELECT size FROM file WHERE path = :p"
	e, err := New(Rules{Pins: map[string]string{Hash(sql): "mine"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	made := template(t, sql, "p")
	if v := e.Template(made, Query{}); !v.Allowed(Sensitive) || v.Exception != "mine" {
		t.Errorf("%+v", v)
	}
	for path, allowed := range map[string]bool{"/etc/hosts": true, "/etc/shadow": false, "/etc/../etc/shadow": false} {
		rendered, err := made.Render(map[string]string{"p": path})
		if v := e.Query(Query{SQL: rendered}); err != nil || v.Allowed(Sensitive) != allowed {
			t.Errorf("%s: %v, %+v", path, err, v)
		}
	}
}

// FuzzTemplate: no template and no value make a text of other tokens than the
// template, and SQLite sees neither more statements nor other tables.
func FuzzTemplate(f *testing.F) {
	e, err := New(Rules{})
	if err != nil {
		f.Fatal(err)
	}
	defer e.Close()
	const known = "SELECT shell FROM users WHERE username = :a AND uid > :n"
	for _, v := range []string{"root", "'", "''", "\\'", "' OR 1 --", "*/", "\x00", "\xff", ":a", "%", "\ufeff", "x'41'", "1", "007", ";"} {
		f.Add(known, v)
		f.Add("SELECT 'a' /* */ , :a , x'00', :n -- \n", v)
		f.Add("SELECT :a"+v+":n", v)
	}
	want := e.Query(Query{SQL: "SELECT shell FROM users WHERE username = 'a' AND uid > 1"})
	f.Fuzz(func(t *testing.T, sql, value string) {
		parameters := map[string]Parameter{"a": {}, "n": {Type: IntegerParameter}}
		made, err := ParseTemplate(sql, parameters)
		if err != nil {
			return
		}
		rendered, err := made.Render(map[string]string{"a": value, "n": "7"})
		if err != nil {
			return
		}
		plain, err := made.Render(map[string]string{"a": "v", "n": "1"})
		if err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
		a, b := lex(rendered), lex(plain)
		if len(a) != len(b) {
			t.Fatalf("%q with %q: %d tokens, not %d", sql, value, len(a), len(b))
		}
		for i := range a {
			literal := a[i].kind == text && a[i].value == value || a[i].kind == number
			if a[i].kind != b[i].kind || a[i].raw != b[i].raw && !literal {
				t.Fatalf("%q with %q: token %d is %q, not %q", sql, value, i, a[i].raw, b[i].raw)
			}
		}
		if sql != known {
			return
		}
		if v := e.Query(Query{SQL: rendered}); v.Tier != want.Tier || !v.Provable() || len(v.Tables) != 1 || len(v.Columns) != len(want.Columns) {
			t.Fatalf("%q: %+v", rendered, v)
		}
	})
}
