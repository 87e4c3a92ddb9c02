package redact_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/redact"
)

// FuzzRow wants of any row: what is no secret is there byte by byte, the result
// is JSON with the same names, and there is nothing to replace in it any more.
func FuzzRow(f *testing.F) {
	for _, s := range (maker{rand.New(rand.NewPCG(3, 4))}).all() {
		f.Add([]byte(s.row))
	}
	for _, s := range []string{
		`{"a":"\ud800 password=abcd \udc00","b":"\u2028--token=\"a1B2c3\""}`, `{"value":"x","value":"y","key":"TOKEN"}`, `{"key":"A","value":"\\"}`,
		`{"cmdline":"‹redacted:x:password=abc›"}`, `{"a":1e5,"b":[]}`, `{"cmdline":"mysql -p\"abc\" -pdef"}`, `{"a":"\`, `{"cmdline":"curl -u a:\\\"b c\\\""}`,
	} {
		f.Add([]byte(s))
	}
	r := redact.New(redact.Options{Hash: keyed("key")})
	f.Fuzz(func(t *testing.T, row []byte) {
		out := r.Row(redact.Source{}, row)
		checkKept(t, row, out)
		if again := r.Row(redact.Source{}, out); !bytes.Equal(again, out) {
			t.Fatalf("%q became %q, and that %q", row, out, again)
		}
		var before, after osquery.Row
		if !utf8.Valid(row) || !json.Valid(row) || before.UnmarshalJSON(row) != nil || before == nil {
			return
		}
		for _, c := range before {
			if strings.ContainsAny(c.Value, "[{") {
				return // perhaps an object, which no row of osquery has
			}
		}
		if !json.Valid(out) || after.UnmarshalJSON(out) != nil {
			t.Fatalf("%q became %q, which is no JSON", row, out)
		}
		if !slices.EqualFunc(before, after, func(a, b osquery.Column) bool { return a.Name == b.Name }) {
			t.Fatalf("%q has other columns than %q", out, row)
		}
		r.Columns(redact.Source{}, before)
		for i := range before {
			if before[i].Value != after[i].Value {
				t.Fatalf("as columns %q, as a row %q", before[i].Value, after[i].Value)
			}
		}
	})
}

// checkKept wants what is between placeholders in the order and the bytes of
// the raw text.
func checkKept(t *testing.T, raw, out []byte) {
	t.Helper()
	if bytes.Equal(raw, out) {
		return
	}
	at := 0
	for _, part := range placeholders.Split(string(out), -1) {
		i := bytes.Index(raw[at:], []byte(part))
		if i < 0 {
			t.Fatalf("%q became %q: %q was not there", raw, out, part)
		}
		at += i + len(part)
	}
}

// FuzzText is FuzzRow of texts, with a rule of one's own.
func FuzzText(f *testing.F) {
	for _, n := range named() {
		_, text, _ := strings.Cut(n.row, "|")
		f.Add(text)
	}
	r := redact.New(redact.Options{Hash: keyed("key")})
	f.Fuzz(func(t *testing.T, s string) {
		out := r.Text(redact.Source{}, s)
		checkKept(t, []byte(s), []byte(out))
		if again := r.Text(redact.Source{}, out); again != out {
			t.Fatalf("%q became %q, and that %q", s, out, again)
		}
	})
}
