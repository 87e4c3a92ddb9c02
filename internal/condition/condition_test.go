package condition

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

func sample() *Event {
	return &Event{
		Query: "pack_base_processes", Action: "added", Counter: 3,
		Columns: osquery.Row{
			{Name: "path", Value: "/tmp/x"},
			{Name: "pid", Value: "42"},
			{Name: "load", Value: "0.5"},
			{Name: "word", Value: "forty"},
			{Name: "empty", Value: ""},
			{Name: "addr", Value: "10.1.2.3"},
			{Name: "addr6", Value: "::ffff:10.1.2.3"},
			{Name: "version", Value: "5.9.1"},
			{Name: "odd name", Value: "odd"},
			{Name: "path", Value: "second"},
			{Name: "big", Value: "18446744073709551615"},
			{Name: "nan", Value: "nan"},
		},
		Decorations: osquery.Row{{Name: "site", Value: "berlin"}},
		Node: node.IdentityOf(node.Node{ID: "n1", Hostname: "web-1", Platform: "linux", Details: map[string]map[string]string{
			"system_info": {"hardware_vendor": "Dell"},
		}}),
		Tags: []string{"prod", "web"},
	}
}

func TestJudge(t *testing.T) {
	for text, want := range map[string]Truth{
		`columns.path == "/tmp/x"`:                                         Yes,
		`columns.path != "/tmp/x"`:                                         No,
		`columns.path startsWith "/tmp/" and action == "added"`:            Yes,
		`columns.path endsWith "y" or columns.path contains "mp/"`:         Yes,
		`columns.path not contains "usr"`:                                  Yes,
		`columns.path matches "^/tmp/[a-z]$"`:                              Yes,
		`columns.path in ["/a", "/tmp/x"]`:                                 Yes,
		`columns.path in ["1","2","3","4","5","6","7","8","9"]`:            No,
		`int(columns.pid) in [1, 42]`:                                      Yes,
		`int(columns.pid) - 2 == 40 and -int(columns.pid) == -42`:          Yes,
		`float(columns.load) * 100 / 4 >= 12.5`:                            Yes,
		`1 < int(columns.pid) < 43`:                                        Yes,
		`columns["odd name"] == "odd"`:                                     Yes,
		`decorations.site == "berlin"`:                                     Yes,
		`node.hostname == "web-1" and node.platform == "linux"`:            Yes,
		`node.system_info.hardware_vendor == "Dell"`:                       Yes,
		`"prod" in tags and "db" not in tags`:                              Yes,
		`counter == 3 and counter > 0`:                                     Yes,
		`query startsWith "pack_base_"`:                                    Yes,
		`lower("ABC") == "abc" and upper(trim(" x ")) == "X"`:              Yes,
		`len(columns.path) == 6`:                                           Yes,
		`has(columns.path) and not has(columns.missing)`:                   Yes,
		`has(columns.empty) and columns.empty == ""`:                       Yes,
		`cidr(columns.addr, "10.0.0.0/8")`:                                 Yes,
		`cidr(columns.addr6, "fd00::/8", "10.0.0.0/8")`:                    Yes,
		`cidr(columns.addr, ["192.168.0.0/16"])`:                           No,
		`older(columns.version, "5.10") and newer(columns.version, "5.9")`: Yes,
		`int(columns.big) > 1e19`:                                          Yes,

		// What is missing, or is no number, is unknown, and stays so unless the rest
		// decides.
		`columns.missing == "x"`:                              Unknown,
		`columns.missing != "x"`:                              Unknown,
		`not (columns.missing == "x")`:                        Unknown,
		`columns.missing not contains "x"`:                    Unknown,
		`int(columns.word) == 0`:                              Unknown,
		`int(columns.word) != 0`:                              Unknown,
		`int(columns.load) == 0`:                              Unknown,
		`float(columns.nan) < 1`:                              Unknown,
		`1 / int("0") > 1`:                                    Unknown,
		`cidr(columns.path, "10.0.0.0/8")`:                    Unknown,
		`older(columns.path, "1")`:                            Unknown,
		`columns.missing == "x" or columns.pid == "42"`:       Yes,
		`columns.missing == "x" or columns.pid == "43"`:       Unknown,
		`columns.missing == "x" and columns.pid == "43"`:      No,
		`columns.missing == "x" and columns.pid == "42"`:      Unknown,
		`is_true(columns.missing == "x")`:                     No,
		`not is_true(columns.missing == "x")`:                 Yes,
		`(columns.missing ?? "-") == "-"`:                     Yes,
		`(int(columns.word) ?? 7) == 7`:                       Yes,
		`columns.missing in ["x"] or columns.missing in tags`: Unknown,
	} {
		c, err := Compile("condition", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Judge(sample()); got != want {
			t.Errorf("%s = %d, want %d", text, got, want)
		}
		c.Judge(&Event{}) // must not panic
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                       "is empty",
		`columns.path`:                           "neither true nor false",
		`path == "/tmp"`:                         `"path" is not known`,
		`columns == "x"`:                         "columns.path",
		`column.path == "x"`:                     `"column" is not known`,
		`node.colour == "x"`:                     "is no attribute",
		`node.tag == "x"`:                        "in tags",
		`columns.pid == 42`:                      "int(columns.pid)",
		`columns.pid < "42"`:                     "older and newer",
		`not columns.pid == "42"`:                "binds closer",
		`columns.pid and true`:                   "joins conditions",
		`columns.path matches columns.pid`:       "a pattern in quotes",
		`columns.path matches "(?=x)"`:           "RE2",
		`all(tags, # == "x")`:                    "not available",
		`any(1..1000000, true)`:                  "not available",
		`len(columns.path + "x") > 1`:            "calculates with numbers",
		`repeat("x", 1000000) == "x"`:            "no function",
		`let x = 1; x == 1`:                      "not available",
		`true ? true : false`:                    "not available",
		`columns[columns.path] == "x"`:           "by their names",
		`columns.path[0:2] == "x"`:               "not available",
		`nil == nil`:                             "not available",
		`columns.path in []`:                     "is empty",
		`columns.path in ["a", 1]`:               "either texts or numbers",
		`columns.path in [columns.pid]`:          "as they are",
		`cidr(columns.path, "10.0.0.1")`:         "is no network",
		`2 ** 3 == 8`:                            "not available",
		`columns.path ==`:                        "cannot be read",
		`now() > 1`:                              "no function",
		`columns.path | lower() == "x" | int()`:  "",
		strings.Repeat("(", 9000):                "over 8192 bytes",
		strings.Repeat("true or ", 700) + "true": "cannot be read",
		strings.Repeat(`columns.a matches "x" or `, 33) + "true": "over 32 patterns",
	} {
		_, err := Compile("condition", text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "condition: ") {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func TestColumns(t *testing.T) {
	c, err := Compile("condition", `columns.a == "1" or lower(columns["b.c"]) == columns.d`)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Columns(), " "); got != "a b.c d" {
		t.Error(got)
	}
}

func TestLongValues(t *testing.T) {
	c, err := Compile("condition", `columns.a contains "y" or len(columns.a) == 32768`)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 2*maxValue) + "y"
	if got := c.Judge(&Event{Columns: osquery.Row{{Name: "a", Value: long}}}); got != Yes {
		t.Error("a long value is not cut:", got)
	}
}

func TestTemplate(t *testing.T) {
	for text, want := range map[string]string{
		`plain`: "plain",
		`{{columns.path}} on {{node.hostname}} ({{columns.missing}})`: "/tmp/x on web-1 (-)",
		`{{ int(columns.pid) + 1 }}{{upper(action)}}`:                 "43ADDED",
		`{{columns.nasty}}`: "a b�c�[2J…",
		`{{columns.long}}`:  "ééééééééé…",
	} {
		tmpl, err := ParseTemplate("title", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		e := sample()
		e.Columns = append(e.Columns, osquery.Column{Name: "nasty", Value: "a\nb\u202ec\x1b[2Jd and more"}, osquery.Column{Name: "long", Value: strings.Repeat("é", 11)})
		if got := tmpl.Render(e, 10, 100); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`{{columns.path`:                 "without }}",
		`{{columns.a == "x"}}`:           "a text or a number",
		`{{tags}}`:                       "a text or a number",
		`{{range .}}`:                    "",
		strings.Repeat("{{action}}", 65): "over 64 values",
	} {
		if _, err := ParseTemplate("title", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", text, err, want)
		}
	}
	tmpl, _ := ParseTemplate("title", strings.Repeat("x", 200)+"{{columns.path}}")
	if got := tmpl.Render(sample(), 10, 20); len([]rune(got)) != 20 {
		t.Errorf("%q", got)
	}
}

// FuzzCondition: no text panics when it is compiled or evaluated, whatever the
// event has.
func FuzzCondition(f *testing.F) {
	f.Add(`columns.path startsWith "/tmp/" and int(columns.pid) in [1, 2]`, "42")
	f.Add(`not (cidr(columns.path, "10.0.0.0/8") or older(columns.path, "1.2"))`, "10.0.0.1")
	f.Add(`float(columns.path) / 0 ?? 1 < 2`, "1e309")
	f.Add(`is_true(columns.path matches "(a|b)*") and "x" in tags`, "\xff\u202e")
	f.Fuzz(func(t *testing.T, text, value string) {
		e := &Event{Query: value, Columns: osquery.Row{{Name: "path", Value: value}}, Tags: []string{value}}
		if c, err := Compile("condition", text); err == nil {
			c.Judge(e)
			c.Judge(&Event{})
		}
		tmpl, err := ParseTemplate("title", text)
		if err != nil {
			return
		}
		if got := tmpl.Render(e, 8, 16); len([]rune(got)) > 16 {
			t.Errorf("%q is longer than 16", got)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	for name, text := range map[string]string{
		"equal":   `columns.path == "/usr/bin/x"`,
		"several": `columns.path startsWith "/tmp/" and int(columns.pid) > 10 and not (columns.word in ["a", "b"]) and "prod" in tags`,
		"pattern": `columns.path matches "^/tmp/[a-z]+$"`,
	} {
		b.Run(name, func(b *testing.B) {
			c, err := Compile("condition", text)
			if err != nil {
				b.Fatal(err)
			}
			e := sample()
			b.ReportAllocs()
			for b.Loop() {
				c.Judge(e)
			}
		})
	}
}
