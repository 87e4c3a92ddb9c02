package event_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

func TestParseWhere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		want    []event.Condition
		problem string
	}{
		{text: ""},
		{text: "  \n"},
		{text: `path = "/usr/bin/ssh"`, want: []event.Condition{{Column: "path", Op: event.Equal, Value: "/usr/bin/ssh"}}},
		{text: `a=b`, want: []event.Condition{{Column: "a", Op: event.Equal, Value: "b"}}},
		{text: `a==b`, want: []event.Condition{{Column: "a", Op: event.Equal, Value: "b"}}},
		{text: `a<=1`, want: []event.Condition{{Column: "a", Op: event.LessEqual, Value: "1"}}},
		{text: `a>=-1`, want: []event.Condition{{Column: "a", Op: event.GreaterEqual, Value: "-1"}}},
		{text: `a!=''`, want: []event.Condition{{Column: "a", Op: event.NotEqual, Value: ""}}},
		{text: `a CONTAINS b`, want: []event.Condition{{Column: "a", Op: event.Contains, Value: "b"}}},
		{text: `a = 'it''s' and b = "say ""x"""`, want: []event.Condition{{Column: "a", Op: event.Equal, Value: "it's"}, {Column: "b", Op: event.Equal, Value: `say "x"`}}},
		{
			text: `path = "/bin/sh" AND pid > 100 and cmdline contains 'curl http' and sha256 exists and name prefix x`,
			want: []event.Condition{
				{Column: "path", Op: event.Equal, Value: "/bin/sh"},
				{Column: "pid", Op: event.Greater, Value: "100"},
				{Column: "cmdline", Op: event.Contains, Value: "curl http"},
				{Column: "sha256", Op: event.Exists, Value: ""},
				{Column: "name", Op: event.Prefix, Value: "x"},
			},
		},
		{text: `and = and and and exists`, want: []event.Condition{{Column: "and", Op: event.Equal, Value: "and"}, {Column: "and", Op: event.Exists, Value: ""}}},
		{text: `"a b" = "="`, want: []event.Condition{{Column: "a b", Op: event.Equal, Value: "="}}},
		{text: `ä = ö`, want: []event.Condition{{Column: "ä", Op: event.Equal, Value: "ö"}}},

		{text: `a contains b and c suffix d`, want: []event.Condition{{Column: "a", Op: event.Contains, Value: "b"}, {Column: "c", Op: event.Suffix, Value: "d"}}},
		{text: `a = f(x)`, want: []event.Condition{{Column: "a", Op: event.Equal, Value: "f(x)"}}},
		{text: `not = 1 and in = 2`, want: []event.Condition{{Column: "not", Op: event.Equal, Value: "1"}, {Column: "in", Op: event.Equal, Value: "2"}}},

		{text: `a`, problem: "joined by and"},
		{text: `a = b or c = d`, problem: "joined by and"},
		{text: `not a = b`, problem: "joined by and"},
		{text: `@node = b`, problem: "joined by and"},
		{text: `* = b`, problem: "joined by and"},
		{text: `a =`, problem: "a = needs a value"},
		{text: `a like b`, problem: `before "like"`},
		{text: `a ! b`, problem: `"!" is no operator`},
		{text: `a "=" b`, problem: `before "="`},
		{text: `a = b c = d`, problem: `before "c"`},
		{text: `a = b "and" c = d`, problem: `before "and"`},
		{text: `a = b and`, problem: "incomplete"},
		{text: `a = "b`, problem: "not closed"},
		{text: `a = 'b''`, problem: "not closed"},
		{text: `= = =`, problem: "is no column"},
		{text: `"" = x`, problem: "is no column"},
		{text: strings.Repeat("a = b and ", 64) + "a = b", problem: "more than 64"},
	}
	for _, tt := range tests {
		got, err := event.ParseWhere(tt.text)
		if tt.problem != "" {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s: %v, want %q", tt.text, err, tt.problem)
			}
			continue
		}
		if d := cmp.Diff(tt.want, got, unexported); err != nil || d != "" {
			t.Errorf("%s: %v %s", tt.text, err, d)
		}
	}
	if got, err := event.ParseWhere(strings.Repeat("a = b and ", 63) + "a = b"); err != nil || len(got) != 64 {
		t.Errorf("64 conditions: %d, %v", len(got), err)
	}
}

// unexported leaves out what is derived from the rest.
var unexported = cmpopts.IgnoreUnexported(event.Condition{})

func TestParseExpr(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want, problem string }{
		{text: ""},
		{text: "a = 1 or b = 2 and not c = 3", want: `("a" = "1" or ("b" = "2" and not "c" = "3"))`},
		{text: "(a = 1 or b = 2) AND c = 3", want: `(("a" = "1" or "b" = "2") and "c" = "3")`},
		{text: "not not (a exists)", want: `not not "a" exists`},
		{text: "a in (x, 'y z',w)and b in(1)", want: `("a" in ("x", "y z", "w") and "b" in ("1"))`},
		{text: "a in (f(1,2), b)", want: `"a" in ("f(1,2)", "b")`},
		{text: "Curl and 'X  y'", want: `("curl" and "x  y")`},
		{text: "(ssh)", want: `"ssh"`},
		{text: "* regex ^10[.] or @tag = web", want: `("*" regex "^10[.]" or "@tag" = "web")`},
		{text: "name regex '(a|b)' and x suffix .exe", want: `("name" regex "(a|b)" and "x" suffix ".exe")`},
		{text: "@decoration.rack = r1 and @revision >= 5", want: `("@decoration.rack" = "r1" and "@revision" >= "5")`},
		{text: "@received >= 2026-11-20 and @time < '2026-11-20T12:00:00.5+01:00'", want: `("@received" >= "2026-11-20T00:00:00.000000Z" and "@time" < "2026-11-20T11:00:00.500000Z")`},
		{text: "not prefix = a", want: `not "prefix" = "a"`},

		{text: "and", problem: `incomplete at "and"`},
		{text: "a = 1 or", problem: "is incomplete"},
		{text: "a b", problem: `before "b"`},
		{text: "(a = 1", problem: "not closed"},
		{text: "a = 1)", problem: `before ")"`},
		{text: "a = )", problem: "needs a value"},
		{text: "a = (x)", problem: "in quotes"},
		{text: "a in b", problem: "in parentheses"},
		{text: "a in ()", problem: "lacks a value"},
		{text: "a in (b", problem: "commas between values and a )"},
		{text: "a in (b,", problem: "lacks a value"},
		{text: "a in (b c)", problem: "commas"},
		{text: "a regex '('", problem: "no pattern of RE2"},
		{text: "a regex '" + strings.Repeat("x", 513) + "'", problem: "over 512"},
		{text: "a regex '((((a{30}){30}){30}){30})'", problem: "no pattern"},
		{text: "@nodes = 1", problem: `"@nodes" is no stamp; use a column, or one of @node`},
		{text: "@decoration. = 1", problem: "is no stamp"},
		{text: "@time > yesterday", problem: "compared with a time"},
		{text: "''", problem: "found in everything"},
		{text: "a ! b", problem: `"!" is no operator`},
		{text: strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100), problem: "nested over"},
		{text: strings.Repeat("not ", 100) + "a", problem: "nested over"},
		{text: strings.Repeat("a or ", 100) + "a", problem: "more than 64"},
		{text: "a in (" + strings.Repeat("x,", 1000) + "x)", problem: "over 1000 values"},
		{text: strings.Repeat(" ", 70_000), problem: "over 65536"},
	}
	for _, tt := range tests {
		x, err := event.ParseExpr("where", tt.text)
		if tt.problem != "" {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%.80s: %v, %v; want %q", tt.text, x, err, tt.problem)
			}
			continue
		}
		if err != nil || x.String() != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.text, x, err, tt.want)
		}
	}
}

func TestExpr_Match(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	batch := event.Batch{NodeID: "n1", HostIdentifier: "h1", Received: at.Add(time.Minute), Tags: []string{"web", "prod"}, Revision: 7}
	e := event.Event{
		Time: at, Query: "pack_a_b", Action: event.Added, Counter: 3, Columns: raw(`{"path":"/bin/Curl","pid":"9","path":"/usr/bin/Curl","q":"\"x\""}`),
		Decorations: raw(`{"rack":"r1"}`),
	}
	var row event.Row
	row.Set(&batch, &e)
	for text, want := range map[string]bool{
		"":                                  true,
		"path = /usr/bin/Curl":              true,
		"path = /bin/Curl":                  false, // of a name given twice the last counts
		"* = /bin/Curl":                     false,
		"curl":                              true, // without case
		"* contains curl":                   false,
		`q = '"x"'`:                         true,
		"path suffix Curl and pid < 10":     true,
		"path regex '(?i)/CURL$'":           true,
		"pid in (1, 2, 9)":                  true,
		"pid in (1,2,3,4,5,6,7,8,10,11,9)":  true,
		"pid in (1,2,3,4,5,6,7,8,10,11,12)": false,
		"none != x":                         false,
		"not none = x":                      true,
		"@tag = web and @tag = prod":        true,
		"@tag != web":                       true, // another tag is not web
		"not @tag = web":                    false,
		"@tag exists":                       true,
		"@node = n1 and @host = h1":         true,
		"@query prefix pack_a":              true,
		"@action in (removed, snapshot)":    false,
		"@revision = 7 and @counter = 3":    true,
		"@agent_time exists":                false,
		"@epoch = 0":                        true,
		"@time = 2026-11-20T13:00:00+01:00": true,
		"@received > 2026-11-20T12:00:30Z":  true,
		"@received contains 12:01":          true,
		"@decoration.rack = r1":             true,
		"@decoration.row exists":            false,
		"pid = 1 or (path exists and ssh)":  false,
	} {
		x, err := event.ParseExpr("where", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := x.Match(&row); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if x := event.All(nil, nil); x != nil || !x.Match(&row) {
		t.Error("All of nothing restricts")
	}
	a, b := &event.Expr{Test: event.Condition{Column: "pid", Op: event.Exists}}, &event.Expr{Test: event.Condition{Column: "x", Op: event.Exists}}
	if !event.All(nil, a).Match(&row) || event.All(a, b).Match(&row) {
		t.Error("All does not join")
	}
}

// FuzzParseExpr: what is read is written as a text that is read alike, and passes
// the same events.
func FuzzParseExpr(f *testing.F) {
	for _, s := range []string{`a = b`, `a="b"" c" and d exists or not (x in (1,2) and curl)`, `a != 'x' AND b>=1`, `= = =`, "a = \xff", `@time > 2026-01-01 or * regex "^a|b$"`, "not not in(a)"} {
		f.Add(s)
	}
	batch := event.Batch{NodeID: "n", Tags: []string{"a", "b"}, Revision: 1}
	e := event.Event{Query: "a", Action: "b", Columns: raw(`{"a":"b","x":"1","d":""}`), Decorations: raw(`{"a":"1"}`)}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := event.ParseExpr("where", text)
		if err != nil {
			return
		}
		again, err := event.ParseExpr("where", x.String())
		if err != nil {
			if strings.Contains(err.Error(), "nested over") || strings.Contains(err.Error(), "has over") {
				return // the parentheses and quotes that String adds
			}
			t.Fatal(x, err)
		}
		if again.String() != x.String() {
			t.Fatalf("%s is read as %s", x, again)
		}
		var row event.Row
		row.Set(&batch, &e)
		if x.Match(&row) != again.Match(&row) {
			t.Fatalf("%s differs", x)
		}
	})
}

func TestCondition_Match(t *testing.T) {
	t.Parallel()
	tests := []struct {
		where, value string
		want         bool
	}{
		{"c = x", "x", true},
		{"c = x", "X", false},
		{"c = 1", "1.0", false}, // = is of texts
		{"c != x", "y", true},
		{"c != x", "x", false},
		{"c contains b", "abc", true},
		{"c contains d", "abc", false},
		{"c contains ''", "", true},
		{"c prefix a", "abc", true},
		{"c prefix b", "abc", false},
		{"c exists", "", true},
		{"c < 10", "9", true}, // as numbers, not as texts
		{"c < 10", "10", false},
		{"c <= 10", "10.0", true},
		{"c > 10", "9", false},
		{"c > 1.5", "1e3", true},
		{"c >= -1", "-1", true},
		{"c > 10", "abc", true}, // as texts
		{"c < b", "a", true},
		{"c > 9007199254740992", "9007199254740993", true}, // beyond what a float64 holds
		{"c >= 1795250724123456790", "1795250724123456789", false},
		{"c > 18446744073709551614", "3", false},
		{"c <= 5", "nan", false}, // words are texts
		{"c < 5", "Infinity", false},
		{"c < inf", "5", true},
		{"c > 0x10", "9", true},
		{"c > ''", "0", true},
	}
	for _, tt := range tests {
		conditions, err := event.ParseWhere(tt.where)
		if err != nil || len(conditions) != 1 {
			t.Fatal(tt.where, err)
		}
		if got := conditions[0].Match(tt.value, true); got != tt.want {
			t.Errorf("%s of %q is %v", tt.where, tt.value, got)
		}
		if conditions[0].Match(tt.value, false) {
			t.Errorf("%s passes without the column", tt.where)
		}
	}
	if c := (event.Condition{Op: "like"}); c.Match("x", true) {
		t.Error("an unknown operator passes")
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	at := func(sec int64, seq uint64, index uint32) event.Position {
		return event.Position{Time: time.Unix(sec, 1000).UTC(), Seq: seq, Index: index}
	}
	// In the order of a search: newest first.
	order := []event.Position{
		at(1795250724, 1, 0), at(1795250723, 1<<64-1, 1<<32-1), at(1795250723, 5, 1), at(1795250723, 5, 0), at(1795250723, 4, 9), at(5, 1, 1), at(-5, 9, 9),
	}
	for i, p := range order {
		for j, q := range order {
			if p.After(q) != (i > j) {
				t.Errorf("%v after %v: %v", p, q, p.After(q))
			}
		}
		if got, err := event.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%v is read as %v, %v", p, got, err)
		}
	}
	if got, err := event.ParsePosition(""); err != nil || !got.IsZero() {
		t.Errorf("the empty cursor: %v, %v", got, err)
	}
	if slices.ContainsFunc(order, event.Position.IsZero) {
		t.Error("a position is zero")
	}
	for _, s := range []string{"x", "1", "1-2", "1-2-", "1-2-3x", "1-2-3-4", "1--2-3", "+1-2-3", "01-2-3", "1-2-4294967296", " 1-2-3", "1-2-3 "} {
		if p, err := event.ParsePosition(s); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
	r := event.Record{Event: event.Event{Time: order[0].Time}, Seq: 7, Index: 8}
	if got := fmt.Sprint(r.Position()); got != "1795250724000001-7-8" {
		t.Error(got)
	}
}
