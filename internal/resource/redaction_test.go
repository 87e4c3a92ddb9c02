package resource

import (
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/redact"
)

func TestRedaction(t *testing.T) {
	engine := shipped(t)
	const head = "apiVersion: muster/v1\nkind: Redaction\nname: a\nspec: "
	for name, c := range map[string]struct{ spec, path string }{ // path "": nothing is refused
		"good":          {`{columns: [{table: process_envs, column: value, action: hash}], detectors: [{kind: a-1, keywords: [abcd], pattern: "abcd[0-9]"}], off: [entropy], allow: {ids: [abcdefghijkl], patterns: ["x.*"]}}`, ""},
		"unknown act":   {`{columns: [{table: x, action: burn}]}`, "columns[0].action"},
		"everything":    {`{columns: [{column: "*", action: drop}]}`, "columns[0]"},
		"kind":          {`{detectors: [{kind: "A b", keywords: [abcd], pattern: abcd}]}`, "detectors[0].kind"},
		"no keyword":    {`{detectors: [{kind: a, keywords: [], pattern: abcd}]}`, "detectors[0].keywords"},
		"short keyword": {`{detectors: [{kind: a, keywords: [abc], pattern: abcd}]}`, "detectors[0].keywords[0]"},
		"pattern":       {`{detectors: [{kind: a, keywords: [abcd], pattern: "("}]}`, "detectors[0].pattern"},
		"all patterns":  {`{allow: {patterns: [".*"]}}`, "allow.patterns[0]"},
		"long pattern":  {`{allow: {patterns: ["` + strings.Repeat("x", redact.MaxPattern+1) + `"]}}`, "allow.patterns[0]"},
		"off":           {`{off: [everything]}`, "off[0]"},
		"id":            {`{allow: {ids: [x]}}`, "allow.ids[0]"},
	} {
		set := parse(t, head+c.spec)
		report, err := Check(set, engine, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		refused := report.Refused(2)
		switch {
		case c.path == "" && len(refused) > 0:
			t.Errorf("%s: refused %+v", name, refused)
		case c.path != "" && (len(refused) != 1 || refused[0].Path != c.path):
			t.Errorf("%s: refused %+v, want %s", name, refused, c.path)
		case c.path == "":
			// What passes the check must be what the redactor takes.
			r := redact.New(redact.Options{Hash: func(string) (h [32]byte) { return h }})
			if err := r.SetRules(set.Redaction()); err != nil {
				t.Error(err)
			}
		}
	}
}
