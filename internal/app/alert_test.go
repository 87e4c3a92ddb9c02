package app

import (
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/resource"
)

func TestAlertPolicy(t *testing.T) {
	for spec, want := range map[string]alert.Policy{
		"":                                    {},
		"actions: {tag: [x]}":                 {},
		"actions: {alert: {}}":                {},
		"actions: {alert: {flood: {max: 3}}}": {FloodMax: 3},
		"actions: {alert: {resolve_after: 6h, reopen_within: 1h, flood: {max: 10, window: 2h}}}": {
			ResolveAfter: 6 * time.Hour, ReopenWithin: time.Hour, FloodMax: 10, FloodPeriod: 2 * time.Hour,
		},
	} {
		list, err := resource.Parse("r.yaml", []byte("apiVersion: muster/v1\nkind: Rule\nname: r\nspec:\n  events: {queries: [q]}\n  "+spec+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := resource.NewRulePlan(list[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := alertPolicy(p); got != want {
			t.Errorf("%s: %+v", spec, got)
		}
	}
	if got := alertPolicy(nil); got != (alert.Policy{}) {
		t.Errorf("no rule: %+v", got)
	}
}
