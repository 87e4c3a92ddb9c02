package main

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/osquery"
)

func testCompleter(tb testing.TB, platform string) *completer {
	tb.Helper()
	schema, err := osquery.LoadSchema()
	if err != nil {
		tb.Fatal(err)
	}
	return newCompleter(schema, platform)
}

// TestComplete completes at the bar.
func TestComplete(t *testing.T) {
	c := testCompleter(t, "linux")
	for _, test := range []struct {
		before, text string
		want, not    []string // some of what is offered, and what is not
		only         bool     // nothing but want
	}{
		{"", "|", []string{"select", "values", "with"}, nil, true},
		{"", "sel|", []string{"select"}, nil, true},
		{"", "SEL|", []string{"SELECT"}, nil, true},
		{"", "select * from lis|", []string{"listening_ports"}, nil, true},
		{"", "select * FROM LIS|", []string{"listening_ports"}, nil, true},
		{"", "select * from regist|", nil, nil, true}, // of Windows
		{"", "select * from users us|", []string{"username", "users", "using"}, nil, false},
		{"", "select user| from users", []string{"username", "users"}, nil, true},
		{"", "select u.| from users u", []string{"uid", "shell"}, []string{"from"}, false},
		{"", "select u.us| from users as u", []string{"username"}, nil, true},
		{"", "select users.she| from users", []string{"shell"}, nil, true},
		{"", "select listening_ports.por|", []string{"port"}, nil, true}, // before it is in FROM
		{"", "select p.na| from users u join processes p using (uid)", []string{"name"}, nil, true},
		{"", "select x.| from users u", nil, nil, true},
		{"", "select * from users u, proc|", []string{"processes", "process_envs"}, []string{"uid"}, false},
		{"", "select uid, use| from users", []string{"username"}, []string{"user_groups"}, false},
		{"", "select * from users where uid in (select uid from proc| ) and", []string{"processes"}, nil, false},
		{"", "select count(*) from users group by she|", []string{"shell"}, nil, true},
		{"", "select * from users where username = 'us|", nil, nil, true},
		{"", `select "us|`, nil, nil, true},
		{"", "select 1 -- from us|", nil, nil, true},
		{"", "select /* from us|", nil, nil, true},
		{"", "select 1 /* x */ fr|", []string{"from"}, nil, true},
		{"", "select 1; sel|", []string{"select"}, nil, true},
		{"", "select uid from users; select na| from processes", []string{"name"}, []string{"username"}, false},
		{"select pid,\n  name", "from proc| p", []string{"processes"}, nil, false},
		{"select p.na", "from processes p where p.par|", []string{"parent"}, nil, true},
		{"select 'open", "still| open", nil, nil, true},
		{"", "ünï|", nil, nil, true},
	} {
		pos := strings.Index(test.text, "|")
		line := test.text[:pos] + test.text[pos+1:]
		start, got := c.complete(test.before, line, pos)
		for _, w := range test.want {
			if !slices.Contains(got, w) {
				t.Errorf("%q: %s is not offered: %q", test.text, w, got)
			}
		}
		for _, w := range test.not {
			if slices.Contains(got, w) {
				t.Errorf("%q: %s is offered", test.text, w)
			}
		}
		if test.only && !slices.Equal(test.want, got) {
			t.Errorf("%q: %s", test.text, cmp.Diff(test.want, got))
		}
		if start > pos || len(got) > 0 && !strings.EqualFold(got[0][:pos-start], line[start:pos]) {
			t.Errorf("%q: the word begins at %d", test.text, start)
		}
	}
}

func TestStatements(t *testing.T) {
	for text, want := range map[string]struct {
		done []string
		rest string
	}{
		"select 1":                        {nil, "select 1"},
		"select 1;":                       {[]string{"select 1"}, ""},
		"select ';' ; select 2;":          {[]string{"select ';'", "select 2"}, ""},
		"select 1 -- ; no\n; select 2":    {[]string{"select 1 -- ; no"}, " select 2"},
		`select "a;b", [c;d], 'it''s;';x`: {[]string{`select "a;b", [c;d], 'it''s;'`}, "x"},
		"select '; open;":                 {nil, "select '; open;"},
		";;":                              {nil, ""},
		"/* ; */ select ';;':::;":         {[]string{"/* ; */ select ';;':::"}, ""},
	} {
		done, rest := statements(text)
		if !slices.Equal(done, want.done) || rest != want.rest {
			t.Errorf("%q: %q and %q left", text, done, rest)
		}
		if finished(text) != (len(done) > 0 && rest == "" || text == ";;") {
			t.Errorf("%q: finished is %v", text, finished(text))
		}
	}
}

func FuzzComplete(f *testing.F) {
	f.Add("select 'x", "from users u where u.", 5)
	f.Add("", "select [a;b], \"c\" /* d */ -- e", 30)
	f.Add("select 1;", "sel;from\x00\xff", 3)
	c := testCompleter(f, "")
	f.Fuzz(func(t *testing.T, before, line string, pos int) {
		pos = max(0, min(pos, len(line)))
		start, words := c.complete(before, line, pos)
		if start < 0 || start > pos {
			t.Fatalf("begins at %d, cursor at %d", start, pos)
		}
		for _, w := range words {
			if len(w) < pos-start || !strings.EqualFold(w[:pos-start], line[start:pos]) || !utf8.ValidString(w) {
				t.Fatalf("%q does not go on with %q", w, line[start:pos])
			}
		}
		end := 0
		for _, token := range sqlTokens(line) {
			if token.start < end || token.start+len(token.text) > len(line) {
				t.Fatalf("token %+v after %d", token, end)
			}
			end = token.start + len(token.text)
		}
		done, rest := statements(line)
		if !strings.HasSuffix(line, rest) || len(strings.Join(done, ";"))+len(rest) > len(line) {
			t.Fatalf("%q became %q and %q", line, done, rest)
		}
	})
}
