package osquery

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func seed(f *testing.F, kind string) {
	f.Helper()
	for _, s := range samples(f) {
		if strings.HasPrefix(s.kind, kind) {
			f.Add(s.body)
		}
	}
	for _, s := range []string{``, `{}`, `[]`, `"x"`, `{"queries":{"a":""},"statuses":{"a":"1"}}`, `{"a":nan}`, `{"node_key":1e5}`} {
		f.Add([]byte(s))
	}
}

func FuzzDecodeEnroll(f *testing.F) {
	seed(f, "/enroll")
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := DecodeEnroll(body, EnrollSecretName)
		if err != nil {
			return
		}
		if req.HostIdentifier == "" || len(req.HostIdentifier) > maxIdentifier || len(req.HostDetails) > maxDetailTables {
			t.Fatalf("%+v", req)
		}
		for table, columns := range req.HostDetails {
			if len(columns) > maxDetailColumns {
				t.Fatalf("%d columns", len(columns))
			}
			for name, value := range columns {
				for _, s := range []string{table, name, value, req.HostIdentifier, req.PlatformType} {
					if len(s) > maxDetailValue || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
						t.Fatalf("%q", s)
					}
				}
			}
		}
		b, err := req.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeEnroll(b, EnrollSecretName)
		if err != nil || !reflect.DeepEqual(req, again) { // not cmp: it costs what the fuzzer should have
			t.Fatal(err, cmp.Diff(req, again))
		}
	})
}

// keysOf returns the values of all members of that name in an object, as
// encoding/json reads them; ok is false if it refuses the body.
func keysOf(body []byte, name string) (values []any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, false
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, false
		}
		if t == name {
			values = append(values, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, false
	}
	_, err := d.Token()
	return values, errors.Is(err, io.EOF)
}

// FuzzDecodeNodeKey compares with encoding/json, on what that accepts.
func FuzzDecodeNodeKey(f *testing.F) {
	seed(f, "/")
	for _, s := range []string{
		`{"node_key":"a\"b"}`, `{"a":",\"node_key\":\"x"}`, `{"a":{"b":1,"node_key":"x"}}`, `{"node_key":"x","node_key":"y"}`,
		`{"a":"b","node_key":"\\"}`, `{"a":",","node_key":"x"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := DecodeNodeKey(body)
		if !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
		values, ok := keysOf(body, "node_key")
		if !ok || len(values) > 1 || !utf8.Valid(body) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		want := ""
		if len(values) == 1 {
			switch v := values[0].(type) {
			case string:
				want = v
			case json.Number:
				want = v.String()
			case bool:
				want = map[bool]string{true: "true", false: "false"}[v]
			}
		}
		if strings.ContainsRune(want, utf8.RuneError) {
			return // a lone surrogate, of which the two make different things
		}
		if got != want {
			t.Fatalf("%s: %q, encoding/json has %q", body, got, want)
		}
	})
}

func FuzzDecodeDistributedWrite(f *testing.F) {
	seed(f, "/write")
	f.Fuzz(func(t *testing.T, body []byte) {
		answers, err := DecodeDistributedWrite(body)
		if answers == nil && err == nil {
			t.Fatal("nil without an error")
		}
		seen := map[string]bool{}
		for _, a := range answers {
			if seen[a.ID] {
				return // a doubled id cannot be encoded
			}
			seen[a.ID] = true
			for _, row := range a.Rows {
				names := map[string]bool{}
				for _, c := range row {
					if !utf8.ValidString(c.Name) || !utf8.ValidString(c.Value) {
						t.Fatalf("%q", row)
					}
					names[c.Name] = true
				}
				b, err := row.MarshalJSON()
				var m map[string]string
				if err != nil || json.Unmarshal(b, &m) != nil || len(m) != len(names) {
					t.Fatalf("%s: %v", b, err)
				}
			}
		}
		b, err := EncodeDistributedWrite("k", answers)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeDistributedWrite(b)
		if err != nil || len(again) != len(answers) {
			t.Fatalf("%d answers, then %d: %v", len(answers), len(again), err)
		}
		for _, a := range again {
			if !seen[a.ID] {
				t.Fatalf("%q is new", a.ID)
			}
		}
	})
}

func FuzzCheckSelect(f *testing.F) {
	for _, s := range []string{"SELECT 1", "SELECT ';'", "SELECT [a;b]", "SELECT 1;--x", "/**/SELECT 1;;", "SELECT 1; SELECT 2", "WITH x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if CheckSelect(sql) != nil {
			return
		}
		// What is one SELECT stays one behind a comment and before a semicolon on
		// a line of its own, unless a quote or comment is open at its end.
		if err := CheckSelect("-- a; b\n/* ; */" + sql); err != nil {
			t.Errorf("%q behind a comment: %v", sql, err)
		}
		if CheckSelect(sql+"\n;") == nil && CheckSelect(sql+"\n; ;") != nil {
			t.Errorf("%q takes one semicolon, not two", sql)
		}
		if !strings.ContainsAny(sql, "'\"`[/") && CheckSelect(sql+"\n; DROP TABLE x") == nil {
			t.Errorf("%q takes another statement", sql)
		}
	})
}

// FuzzETag: an etag is found if and only if the JSON has one, as encoding/json
// sees it.
func FuzzETag(f *testing.F) {
	for _, s := range []string{`{"node_key":"k"}`, `{"node_key":"k","etag":""}`, `{"etag":"a","node_key":"k"}`, `{"etag":5}`, `{"a":{"etag":"x"}}`, `"etag"`, `{"etag"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		etag, ok := ETag(body)
		var m map[string]json.RawMessage
		if json.Unmarshal(body, &m) != nil || !utf8.Valid(body) || bytes.Count(body, []byte("etag")) > 1 {
			return // what is no JSON to encoding/json may be to a lenient reader, and of two it takes the last
		}
		if _, has := m["etag"]; ok && !has {
			t.Errorf("%q has no etag, and %q was found", body, etag)
		}
		var text string
		if json.Unmarshal(m["etag"], &text) == nil && ok && text != etag {
			t.Errorf("%q: %q, want %q", body, etag, text)
		}
	})
}

// FuzzAppendRow: what the short way reads, the long way reads, too.
func FuzzAppendRow(f *testing.F) {
	f.Add([]byte(`{"a":"1","b":""}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"a": 1,"b":"\u0041"}`))
	f.Add([]byte(`{"a":"x"}{`))
	f.Add([]byte("{\"a\":\"\xff\n\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := AppendRow(Row{{Name: "first"}}, b)
		want := Row{{Name: "first"}}
		var r Row
		if r.UnmarshalJSON(b) == nil {
			want = append(want, r...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", b, got, want)
		}
	})
}
