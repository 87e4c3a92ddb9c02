package resource

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
)

func TestSet_Decide(t *testing.T) {
	t.Parallel()
	const none = ""
	strict := doc("LivePolicy", "strict", "{rules: [{min_tier: 3, require: approval}, {kinds: [trigger], min_tier: 1, require: refuse},"+
		" {min_tier: 2, min_nodes: 100, require: approval}, {min_tier: 2, require: reason}, {min_nodes: 1000, require: refuse}]}")
	open := doc("LivePolicy", "open", "{rules: [{require: run}]}")
	tests := []struct {
		name     string
		rules    string
		kind     live.Kind
		tier     policy.Tier
		pinned   bool
		provable bool
		nodes    int
		want     string
	}{
		{"default, harmless", none, live.Person, 0, false, true, 100_000, RequireRun},
		{"default, sensitive to few", none, live.Person, 2, false, true, ReasonNodes, RequireRun},
		{"default, sensitive to many", none, live.Person, 2, false, true, ReasonNodes + 1, RequireReason},
		{"default, dangerous", none, live.Person, 3, false, true, 1, RequireRefuse},
		{"default, dangerous and pinned", none, live.Person, 3, true, true, 1, RequireReason},
		{"default, a trigger's", none, live.Trigger, 2, false, true, 501, RequireRun},
		{"default, a dangerous trigger's", none, live.Trigger, 3, false, true, 1, RequireRefuse},
		{"default, a pinned trigger's", none, live.Trigger, 3, true, true, 1, RequireRun},
		{"default, no kind is a person's", none, "", 2, false, true, 501, RequireReason},
		{"not provable", none, live.Person, 0, false, false, 1, RequireRefuse},
		{"not provable, whatever the rules say", open, live.Person, 0, true, false, 1, RequireRefuse},
		{"strict, dangerous", strict, live.Person, 3, false, true, 1, RequireApproval},
		{"strict, dangerous and pinned", strict, live.Person, 3, true, true, 1, RequireApproval},
		{"strict, sensitive to many", strict, live.Person, 2, false, true, 100, RequireApproval},
		{"strict, sensitive to few", strict, live.Person, 2, false, true, 99, RequireReason},
		{"strict, harmless to very many", strict, live.Person, 0, false, true, 1000, RequireRefuse},
		{"strict, harmless to many: no rule fits", strict, live.Person, 0, false, true, 999, RequireRun},
		{"strict, a trigger's", strict, live.Trigger, 1, false, true, 1, RequireRefuse},
		{"strict, a harmless trigger's: no rule fits", strict, live.Trigger, 0, false, true, 5000, RequireRun},
		{"open, sensitive to many", open, live.Person, 2, false, true, 5000, RequireRun},
		{"open, dangerous", open, live.Person, 3, false, true, 1, RequireRefuse},
		{"open, dangerous and pinned", open, live.Person, 3, true, true, 1, RequireReason},
		{"two policies go by name", strict + doc("LivePolicy", "a", "{rules: [{min_tier: 2, require: run}]}"), live.Person, 2, false, true, 5000, RequireRun},
	}
	for _, tt := range tests {
		d := parse(t, tt.rules).Decide(tt.kind, tt.tier, tt.pinned, tt.provable, tt.nodes)
		if d.Require != tt.want || d.Why == "" {
			t.Errorf("%s: %+v, want %s", tt.name, d, tt.want)
		}
	}
	d := parse(t, strict).Decide(live.Person, 2, false, true, 100)
	if d.Policy != "strict" || !strings.Contains(d.Why, "rule 3 of LivePolicy/strict") {
		t.Errorf("%+v", d)
	}
}
