package alert_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/alert"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain — ok ✓":          "plain — ok ✓",
		" a\tb\nc\r\n":          `a\u0009b\u000ac`,
		"\x1b[31mred\u009b":     `\u001b[31mred\u009b`,
		"abc\u202egpj.exe":      `abc\u202egpj.exe`,
		"z\u200bw\ufeff":        `z\u200bw\ufeff`,
		"\xff\xfe":              "\ufffd",
		"line\u2028sep":         `line\u2028sep`,
		"tag\U000e0041":         `tag\ue0041`,
		strings.Repeat("é", 40): strings.Repeat("é", 14) + "…",
	} {
		if got := alert.Line(in, 32); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := alert.Text("a\r\n\tb\x00", 100); got != "a\n\tb\\u0000" {
		t.Errorf("%q", got)
	}
}

func TestMatchers(t *testing.T) {
	t.Parallel()
	a := &alert.Alert{
		Rule: "ssh-root", Key: "k", Severity: alert.High, Title: "Root logged in", Query: "q", NodeID: "n1", HostIdentifier: "Web-1",
		Labels: map[string]string{"team": "web", "A=b": "c"},
	}
	for text, want := range map[string]bool{
		"rule = ssh-*": true, "rule=SSH-ROOT": true, "rule != ssh-*": false, "rule = ssh": false, "severity >= high": true, "severity >= critical": false,
		"severity <= high": true, "severity = h*": true, "severity != low": true, "node = n1": true, "node = web-?": true, "node != n1": false, "node != n2": true,
		"label.team = web": true, "label.Team = \"w*b\"": true, "label.none = ": true, "label.none != x": true, "title = *logged*": true, "key = k": true, "query = q*": true,
		"title = *x*y*z*": false,
	} {
		m, err := alert.ParseMatchers("match", []string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := alert.Matches(m, a); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	for _, text := range []string{
		"", "rule", "rules = a", "label. = a", "severity >= dire", "severity = dire", "rule >= a", "rule == a", "rule > a", "rule =! a", "node <> a", strings.Repeat("x", 600) + "=a",
	} {
		if m, err := alert.ParseMatchers("match", []string{text}); err == nil {
			t.Errorf("%q is %v", text, m)
		}
	}
	if _, err := alert.ParseMatchers("match", make([]string, 17)); err == nil {
		t.Error("17 conditions")
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	values := map[string]any{"title": `a "quoted" ${severity} $`, "count": 3, "alerts": []any{"x"}, "label.team": "web"}
	value := func(name string) any { return values[name] }
	for in, want := range map[string]string{
		`{"a":"${title}"}`:                                             `{"a":"a \"quoted\" ${severity} $"}`,
		`{"a":"<${title}> ${count} $$ $x"}`:                            `{"a":"<a \"quoted\" ${severity} $> 3 $ $x"}`,
		`{"n":"${count}","l":"${alerts}"}`:                             `{"l":["x"],"n":3}`,
		`["${label.team}","${","${count","${label.none}",1,null,true]`: `["web","${","${count",null,1,null,true]`,
		`"$${count}"`: `"${count}"`,
	} {
		var doc any
		if err := json.Unmarshal([]byte(in), &doc); err != nil {
			t.Fatal(err)
		}
		tmpl, err := alert.ParseTemplate("body", doc)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(tmpl.Fill(value)); err != nil || strings.TrimSpace(b.String()) != want {
			t.Errorf("%s: %s, %v", in, b.String(), err)
		}
	}
	deep := any("x")
	for range 20 {
		deep = []any{deep}
	}
	for _, doc := range []any{"${nothing}", "${label.}", map[string]any{"a": []any{"${titel}"}}, deep, make([]any, 2000), strings.Repeat("x", 20<<10)} {
		if _, err := alert.ParseTemplate("body", doc); err == nil {
			t.Errorf("%.40v is taken", doc)
		}
	}
}

// FuzzText: whatever comes, what leaves is bounded, valid and commands nothing.
func FuzzText(f *testing.F) {
	f.Add("a\x1b[2J\u202e", 10)
	f.Add("\xff\n\t", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		n = max(3, n%1000)
		for _, got := range []string{alert.Line(s, n), alert.Text(s, n)} {
			if len(got) > n || !utf8.ValidString(got) {
				t.Fatalf("%q of %d bytes: %q", s, n, got)
			}
			for _, r := range got {
				if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
					t.Fatalf("%q: %q", s, got)
				}
			}
		}
		if strings.ContainsAny(alert.Line(s, n), "\n\t\r") {
			t.Fatalf("%q has several lines", s)
		}
	})
}

// FuzzTemplate: a value stays one string, and the document its shape.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"a":"x ${title} $$","b":["${count}"]}`, `"},{"`)
	f.Fuzz(func(t *testing.T, body, title string) {
		var doc any
		if json.Unmarshal([]byte(body), &doc) != nil {
			return
		}
		tmpl, err := alert.ParseTemplate("body", doc)
		if err != nil {
			return
		}
		out, err := json.Marshal(tmpl.Fill(func(string) any { return title }))
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatal(err)
		}
		same(t, doc, back)
	})
}

func same(t *testing.T, a, b any) {
	t.Helper()
	switch a := a.(type) {
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(m) != len(a) {
			t.Fatalf("%v became %v", a, b)
		}
		for k := range a {
			same(t, a[k], m[k])
		}
	case []any:
		l, ok := b.([]any)
		if !ok || len(l) != len(a) {
			t.Fatalf("%v became %v", a, b)
		}
		for i := range a {
			same(t, a[i], l[i])
		}
	case string:
		if _, ok := b.(string); !ok {
			t.Fatalf("%v became %v", a, b)
		}
	}
}

// FuzzMatchers: what is taken is the same when it is written in its one form.
func FuzzMatchers(f *testing.F) {
	f.Add("rule = ssh-*", "ssh-x")
	f.Add(`label.a != "b"`, "b")
	f.Fuzz(func(t *testing.T, text, value string) {
		m, err := alert.ParseMatchers("match", []string{text})
		if err != nil {
			return
		}
		again, err := alert.ParseMatchers("match", []string{m[0].String()})
		if err != nil {
			t.Fatalf("%q became %q: %v", text, m[0], err)
		}
		a := &alert.Alert{Rule: value, Key: value, Title: value, Labels: map[string]string{"a": value}, Severity: alert.Low}
		if alert.Matches(m, a) != alert.Matches(again, a) {
			t.Fatalf("%q and %q differ on %q", text, again[0], value)
		}
	})
}
