package event_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		{text: `path = "/usr/bin/ssh"`, want: []event.Condition{{"path", event.Equal, "/usr/bin/ssh"}}},
		{text: `a=b`, want: []event.Condition{{"a", event.Equal, "b"}}},
		{text: `a==b`, want: []event.Condition{{"a", event.Equal, "b"}}},
		{text: `a<=1`, want: []event.Condition{{"a", event.LessEqual, "1"}}},
		{text: `a>=-1`, want: []event.Condition{{"a", event.GreaterEqual, "-1"}}},
		{text: `a!=''`, want: []event.Condition{{"a", event.NotEqual, ""}}},
		{text: `a CONTAINS b`, want: []event.Condition{{"a", event.Contains, "b"}}},
		{text: `a = 'it''s' and b = "say ""x"""`, want: []event.Condition{{"a", event.Equal, "it's"}, {"b", event.Equal, `say "x"`}}},
		{
			text: `path = "/bin/sh" AND pid > 100 and cmdline contains 'curl http' and sha256 exists and name prefix x`,
			want: []event.Condition{
				{"path", event.Equal, "/bin/sh"},
				{"pid", event.Greater, "100"},
				{"cmdline", event.Contains, "curl http"},
				{"sha256", event.Exists, ""},
				{"name", event.Prefix, "x"},
			},
		},
		{text: `and = and and and exists`, want: []event.Condition{{"and", event.Equal, "and"}, {"and", event.Exists, ""}}},
		{text: `"a b" = "="`, want: []event.Condition{{"a b", event.Equal, "="}}},
		{text: `ä = ö`, want: []event.Condition{{"ä", event.Equal, "ö"}}},

		{text: `a`, problem: "incomplete"},
		{text: `a =`, problem: "a = needs a value"},
		{text: `a like b`, problem: `"like" is no operator`},
		{text: `a ! b`, problem: `"!" is no operator`},
		{text: `a "=" b`, problem: `is no operator`},
		{text: `a = b c = d`, problem: `expected "and" before "c"`},
		{text: `a = b "and" c = d`, problem: `expected "and"`},
		{text: `a = b and`, problem: "incomplete"},
		{text: `a = "b`, problem: "not closed"},
		{text: `a = 'b''`, problem: "not closed"},
		{text: `= = =`, problem: "is no column"},
		{text: `"" = x`, problem: "is no column"},
		{text: strings.Repeat("a = b and ", 16) + "a = b", problem: "more than 16"},
	}
	for _, tt := range tests {
		got, err := event.ParseWhere(tt.text)
		if tt.problem != "" {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s: %v, want %q", tt.text, err, tt.problem)
			}
			continue
		}
		if d := cmp.Diff(tt.want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", tt.text, err, d)
		}
	}
	if got, err := event.ParseWhere(strings.Repeat("a = b and ", 15) + "a = b"); err != nil || len(got) != 16 {
		t.Errorf("16 conditions: %d, %v", len(got), err)
	}
}

func FuzzParseWhere(f *testing.F) {
	for _, s := range []string{`a = b`, `a="b"" c" and d exists`, `a != 'x' AND b>=1`, `= = =`, "a = \xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		conditions, err := event.ParseWhere(text)
		if err != nil {
			return
		}
		quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
		var parts []string
		for _, c := range conditions {
			part := quote(c.Column) + " " + string(c.Op)
			if c.Op != event.Exists {
				part += quote(c.Value)
			}
			parts = append(parts, part)
		}
		again, err := event.ParseWhere(strings.Join(parts, " and "))
		if err != nil || !slices.Equal(conditions, again) {
			t.Fatal(parts, err, cmp.Diff(conditions, again))
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
	if (event.Condition{Op: "like"}).Match("x", true) {
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
