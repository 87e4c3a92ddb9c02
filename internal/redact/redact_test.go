package redact_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/redact"
)

// keyed is a keyed hash as the server's.
func keyed(key string) func(string) [sha256.Size]byte {
	return func(secret string) [sha256.Size]byte {
		m := hmac.New(sha256.New, []byte(key))
		m.Write([]byte(secret))
		return [sha256.Size]byte(m.Sum(nil))
	}
}

func newRedactor(tb testing.TB, rules redact.Rules) *redact.Redactor {
	tb.Helper()
	r := redact.New(redact.Options{Hash: keyed("key")})
	if err := r.SetRules(rules); err != nil {
		tb.Fatal(err)
	}
	return r
}

// masked returns a text with each id replaced by #.
func masked(s string) string {
	return regexp.MustCompile(`:[a-z2-7]{12}›`).ReplaceAllString(s, ":#›")
}

// TestRow looks at what stands around secrets: escapes, other members, names.
func TestRow(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	for name, c := range map[string]struct{ row, want string }{
		"escapes around":       {`{"cmdline":"a\tb \"--password\" \"xyzw\u0022y\/z\" é \ud83d\ude00 C:\\d"}`, `{"cmdline":"a\tb \"--password\" \"‹redacted:password:#›\u0022y\/z\" é \ud83d\ude00 C:\\d"}`},
		"hidden by escapes":    {`{"cmdline":"mysql --p\u0061ssword=hunter\u0032 db"}`, `{"cmdline":"mysql --p\u0061ssword=‹redacted:password:#› db"}`},
		"escaped slash":        {`{"u":"https:\/\/a:b%c@h\/p"}`, `{"u":"https:\/\/a:‹redacted:url:#›@h\/p"}`},
		"other members":        {"{ \"n\" : 1 , \"t\":true,\"z\":null,\"cmdline\" : \"x -Dpassword=abcd\" }", "{ \"n\" : 1 , \"t\":true,\"z\":null,\"cmdline\" : \"x -Dpassword=‹redacted:password:#›\" }"},
		"by the column's name": {`{"name":"x","db_password":"hunter2"}`, `{"name":"x","db_password":"‹redacted:password:#›"}`},
		"by another column":    {`{"value":"hunter2","pid":"1","key":"DB_PASSWORD"}`, `{"value":"‹redacted:password:#›","pid":"1","key":"DB_PASSWORD"}`},
		"two of one value":     {`{"cmdline":"PGPASSWORD=abcde psql; MYSQL_PWD=abcde mysql"}`, `{"cmdline":"PGPASSWORD=‹redacted:password:#› psql; MYSQL_PWD=‹redacted:password:#› mysql"}`},
		"form before name":     {`{"cmdline":"--token ` + "gh" + `p_0123456789abcdefghijABCDEFGHIJ012345"}`, `{"cmdline":"--token ‹redacted:github:#›"}`},
		"no row":               {`password=hunter2 {"`, `password=‹redacted:password:#› {"`},
		"nested":               {`{"a":{"password":"hunter2x"}}`, `{"a":{"password":"‹redacted:password:#›"}}`},
		"empty":                {`{}`, `{}`},
		"a mask":               {`{"cmdline":"--password ****** --token ${T} --secret <secret>"}`, `{"cmdline":"--password ****** --token ${T} --secret <secret>"}`},
	} {
		if got := masked(string(r.Row(redact.Source{}, []byte(c.row)))); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// TestRow_same wants the row itself back when nothing is in it.
func TestRow_same(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	row := []byte(`{"pid":"1","cmdline":"C:\\Windows\\x.exe -k \"netsvcs\" https://a.example.com/","path":"/usr/bin/passwd","sha256":"` + strings.Repeat("0f", 32) + `"}`)
	if out := r.Row(redact.Source{}, row); &out[0] != &row[0] {
		t.Errorf("the row was copied: %s", out)
	}
	if n := testing.AllocsPerRun(100, func() { r.Row(redact.Source{Query: "q"}, row) }); n >= 1 && !raceDetector {
		t.Errorf("%v allocations for a row without secrets", n)
	}
}

func TestID(t *testing.T) {
	const row = `{"cmdline":"PGPASSWORD=%s psql","db_password":"%[1]s"}`
	ids := func(r *redact.Redactor, secret string) []string {
		_, found := r.Explain(redact.Source{}, fmt.Appendf(nil, row, secret))
		var ids []string
		for _, f := range found {
			ids = append(ids, f.ID)
		}
		return ids
	}
	r := newRedactor(t, redact.Rules{})
	one, other := ids(r, "correct-horse"), ids(r, "battery-staple")
	if len(one) != 2 || one[0] != one[1] || one[0] == other[0] {
		t.Errorf("equal secrets must have equal ids, others not: %v %v", one, other)
	}
	if again := ids(redact.New(redact.Options{Hash: keyed("key")}), "correct-horse"); again[0] != one[0] {
		t.Errorf("the id is %s after a restart, and was %s", again[0], one[0])
	}
	if another := ids(redact.New(redact.Options{Hash: keyed("other")}), "correct-horse"); another[0] == one[0] {
		t.Error("the id does not depend on the key")
	}
	if preview := ids(r.Preview(keyed("preview")), "correct-horse"); preview[0] == one[0] {
		t.Error("a preview tells the real id, by which one can try guesses")
	}
}

func TestPlaceholder(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	for _, c := range []struct{ text, want string }{
		{"password=‹redacted:x:abcdefghijkl›", "password=‹redacted:x:abcdefghijkl›"},
		{"‹redacted:column› password=abcd", "‹redacted:column› password=‹redacted:password:#›"},
		{"‹redacted:x:password=abcd›", "‹redacted:x:password=‹redacted:password:#›"}, // nobody hides in what looks like one
		{"--password ‹redacted:", "--password ‹redacted:password:#›"},
	} {
		got := r.Text(redact.Source{}, c.text)
		if strings.ReplaceAll(masked(got), "x:#", "x:abcdefghijkl") != c.want {
			t.Errorf("%s became %s, want %s", c.text, masked(got), c.want)
		}
	}
}

// TestRules has one policy for all its cases, as a person would write it.
func TestRules(t *testing.T) {
	origin := func(table, column string) redact.Origin { return redact.Origin{Table: table, Column: column} }
	described := 0
	r := newRedactor(t, redact.Rules{
		Columns: []redact.Column{
			{Query: "pack_raw_*", Column: "cmdline", Action: "keep"},
			{Table: "process_envs", Column: "value", Action: "hash"},
			{Table: "shadow", Action: "drop"},
			{Column: "ssn", Action: "redact"},
		},
		Detectors: []redact.Detector{
			{Kind: "badge", Keywords: []string{"BADGE-"}, Pattern: `badge-[0-9]{6}`},
			{Kind: "staff", Keywords: []string{"staff"}, Pattern: `staff no\. ([0-9]+)`},
		},
		Off:           []string{"url"},
		AllowPatterns: []string{"example-.*"},
		Describe: func(s redact.Source) redact.Query {
			described++
			switch s.Query {
			case "renamed":
				return redact.Query{
					Known: true, Columns: map[string]redact.Origin{"v": origin("process_envs", "value"), "pid": origin("process_envs", "pid"), "n": {}},
					Reads: []redact.Origin{origin("process_envs", "value"), origin("process_envs", "pid")},
				}
			case "other", "pack_raw_1":
				return redact.Query{Known: true, Columns: map[string]redact.Origin{"value": origin("augeas", "value")}, Reads: []redact.Origin{origin("augeas", "value")}}
			}
			return redact.Query{}
		},
	})
	for name, c := range map[string]struct {
		src       redact.Source
		row, want string
	}{
		"keep":               {redact.Source{Query: "pack_raw_1"}, `{"cmdline":"--password=abcd","other":"password=abcd"}`, `{"cmdline":"--password=abcd","other":"password=‹redacted:password:#›"}`},
		"through AS":         {redact.Source{Query: "renamed"}, `{"v":"x","pid":"1"}`, `{"v":"‹redacted:column:#›","pid":"1"}`},
		"an expression":      {redact.Source{Query: "renamed"}, `{"n":"2"}`, `{"n":"‹redacted:column:#›"}`},
		"another table":      {redact.Source{Query: "other"}, `{"value":"x"}`, `{"value":"x"}`},
		"unknown query":      {redact.Source{Query: "?"}, `{"value":"x"}`, `{"value":"‹redacted:column:#›"}`},
		"ended live query":   {redact.Source{Live: "1"}, `{"value":"x"}`, `{"value":"‹redacted:column:#›"}`},
		"drop":               {redact.Source{Table: "shadow"}, `{"a":"x","b":""}`, `{"a":"","b":""}`},
		"redact":             {redact.Source{Query: "other"}, `{"SSN":"123"}`, `{"SSN":"‹redacted:column›"}`},
		"redacted before":    {redact.Source{Query: "other"}, `{"SSN":"‹redacted:column›"}`, `{"SSN":"‹redacted:column›"}`},
		"detector":           {redact.Source{Query: "other"}, `{"x":"a Badge-123456, badge-123456"}`, `{"x":"a Badge-123456, ‹redacted:badge:#›"}`},
		"detector's group":   {redact.Source{Query: "other"}, `{"x":"staff no. 77 and staff no. 78"}`, `{"x":"staff no. ‹redacted:staff:#› and staff no. ‹redacted:staff:#›"}`},
		"off":                {redact.Source{Query: "other"}, `{"x":"https://a:b@c/"}`, `{"x":"https://a:b@c/"}`},
		"allowed by pattern": {redact.Source{Query: "other"}, `{"x":"password=example-1 password=an-example-1"}`, `{"x":"password=example-1 password=‹redacted:password:#›"}`},
	} {
		if got := masked(string(r.Row(c.src, []byte(c.row)))); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
	before := described
	r.Row(redact.Source{Query: "renamed"}, []byte(`{"v":"x"}`))
	if described != before {
		t.Error("a query is described again for each row")
	}
}

func TestRules_allowedID(t *testing.T) {
	const row = `{"cmdline":"--password=not-so-secret"}`
	_, found := newRedactor(t, redact.Rules{}).Explain(redact.Source{}, []byte(row))
	r := newRedactor(t, redact.Rules{AllowIDs: []string{found[0].ID}})
	if got := string(r.Row(redact.Source{}, []byte(row))); got != row {
		t.Errorf("an allowed value was replaced: %s", got)
	}
	if got := string(r.Preview(keyed("x")).Row(redact.Source{}, []byte(row))); got != row {
		t.Errorf("a preview knows no allowed value: %s", got)
	}
}

func TestRules_bad(t *testing.T) {
	for name, rules := range map[string]redact.Rules{
		"pattern": {Detectors: []redact.Detector{{Kind: "x", Keywords: []string{"abcd"}, Pattern: "("}}},
		"fits ''": {Detectors: []redact.Detector{{Kind: "x", Keywords: []string{"abcd"}, Pattern: "a*"}}},
		"keyword": {Detectors: []redact.Detector{{Kind: "x", Keywords: []string{"abc"}, Pattern: "abc"}}},
		"allow":   {AllowPatterns: []string{".*"}},
	} {
		if err := redact.New(redact.Options{Hash: keyed("key")}).SetRules(rules); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMany bounds what a hostile value can grow to, and what it costs.
func TestMany(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	many := strings.Repeat("pwd=abcd ", 100_000)
	out, found := r.ExplainText(redact.Source{}, "", many)
	if len(out) > 10_000 || found[len(found)-1].Kind != redact.KindMany || strings.Contains(masked(out), "abcd") {
		t.Errorf("%d bytes, %d findings", len(out), len(found))
	}
}

func TestColumns(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	row := osquery.Row{{Name: "value", Value: "hunter2"}, {Name: "key", Value: "DB_PASSWORD"}, {Name: "cmdline", Value: "x -u a:b https://a:b@c/"}}
	r.Columns(redact.Source{Live: "1"}, row)
	want := "‹redacted:password:#› DB_PASSWORD x -u a:b https://a:‹redacted:url:#›@c/"
	if got := masked(row[0].Value + " " + row[1].Value + " " + row[2].Value); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCounts(t *testing.T) {
	kinds := map[string]int{}
	counts := redact.NewCounts(func() time.Time { return time.Unix(1764530000, 0) })
	counts.Each = func(kind string) { kinds[kind]++ }
	r := redact.New(redact.Options{Hash: keyed("key"), Counts: counts})
	for i := range 600 {
		r.Row(redact.Source{Query: fmt.Sprintf("q%d", i)}, []byte(`{"cmdline":"--password=abcd"}`))
	}
	r.Row(redact.Source{Query: "q7"}, []byte(`{"cmdline":"https://a:b@c/","x":"https://a:b@c/"}`))
	r.Columns(redact.Source{Live: "x"}, osquery.Row{{Name: "a", Value: "password=abcd"}})
	r.Explain(redact.Source{Query: "q7"}, []byte(`{"cmdline":"--password=abcd"}`))
	s := counts.Summary()
	if s.Total != 603 || s.Kinds["password"] != 601 || s.Kinds["url"] != 2 || kinds["url"] != 2 {
		t.Errorf("%d in all, %v", s.Total, s.Kinds)
	}
	if len(s.Queries) > 502 || s.Queries[0].Query != redact.OtherQueries || s.Queries[1].Query != "q7" || s.Queries[1].Total != 3 {
		t.Errorf("%d queries are counted apart, first %+v", len(s.Queries), s.Queries[:2])
	}
}
