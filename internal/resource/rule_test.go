package resource_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// TestRule_check: what is wrong with a rule is said of its field.
func TestRule_check(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for _, c := range []struct{ spec, want string }{ // paths of findings, sorted
		{`{events: {severities: [error]}}`, ""},
		{`{events: {severities: [error]}, actions: {alert: {resolve_after: 6h, reopen_within: 720h, flood: {max: 1000, window: 24h}}}}`, ""},
		{`{events: {severities: [error]}, actions: {alert: {flood: {max: 1}}}}`, ""},
		{
			`{events: {severities: [error]}, actions: {alert: {resolve_after: 1s, reopen_within: 721h, flood: {max: 0, window: 25h}}}}`,
			"actions.alert.flood.max actions.alert.flood.window actions.alert.reopen_within actions.alert.resolve_after",
		},
		{
			`{events: {severities: [bad], actions: [seen]}, severity: dire, suppress: 721h, threshold: {window: 1h}}`,
			"events.actions[0] events.severities[0] severity suppress threshold",
		},
	} {
		objects, err := resource.Parse("test", []byte("{apiVersion: muster/v1, kind: Rule, name: r, spec: "+c.spec+"}"))
		if err != nil {
			t.Fatalf("%s: %v", c.spec, err)
		}
		set, err := resource.NewSet(objects)
		if err != nil {
			t.Fatal(err)
		}
		report, err := resource.Check(set, engine, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, i := range report.Items {
			for range i.Verdict.Findings {
				paths = append(paths, i.Path)
			}
		}
		slices.Sort(paths)
		if got := strings.Join(paths, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.spec, got, c.want)
		}
	}
}
