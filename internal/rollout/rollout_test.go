package rollout_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// TestNew: a last stage of all nodes is added, and what the policy leaves out
// has defaults.
func TestNew(t *testing.T) {
	t.Parallel()
	hour := resource.Duration(time.Hour)
	tests := map[string]struct {
		stages []resource.Stage
		want   []rollout.Stage
	}{
		"added":   {[]resource.Stage{{Nodes: 3, Bake: hour}}, []rollout.Stage{{Name: "stage 1", Nodes: 3, Bake: time.Hour}, {Name: "all", Selector: "all", Bake: rollout.DefaultBake}}},
		"all":     {[]resource.Stage{{Name: "x", Selector: "all"}}, []rollout.Stage{{Name: "x", Selector: "all", Bake: rollout.DefaultBake}}},
		"percent": {[]resource.Stage{{Name: "x", Percent: 100, Bake: hour}}, []rollout.Stage{{Name: "x", Percent: 100, Bake: time.Hour}}},
	}
	for name, tt := range tests {
		r := rollout.New(2, 1, "p", &resource.RolloutPolicy{Stages: tt.stages}, epoch())
		if d := cmp.Diff(tt.want, r.Stages); d != "" || !r.Open() || r.State != rollout.Running {
			t.Errorf("%s: %s", name, d)
		}
		admits, err := r.Admission()
		must(t, err)
		if admits(node.IdentityOf(node.Node{ID: "n"})) {
			t.Errorf("%s: a stage that has not begun admits a node", name)
		}
	}
}

// TestAdmission: stages that began admit by selector or place, and go on to.
func TestAdmission(t *testing.T) {
	t.Parallel()
	began := epoch()
	r := rollout.Rollout{Stage: 1, Stages: []rollout.Stage{
		{Selector: "platform = darwin", BeganAt: began},
		{Below: map[string]uint64{"": 1 << 62, "windows": 0}, BeganAt: began}, // a quarter
		{Selector: "all"},
	}}
	b, err := json.Marshal(r)
	must(t, err)
	var read rollout.Rollout
	must(t, json.Unmarshal(b, &read))
	admits, err := read.Admission()
	must(t, err)
	in := map[string]int{}
	for i := range 3000 {
		platform := []string{"linux", "darwin", "windows"}[i%3]
		if admits(node.IdentityOf(node.Node{ID: fmt.Sprint(i), Platform: platform})) {
			in[platform]++
		}
	}
	if in["darwin"] != 1000 || in["windows"] != 0 || in["linux"] < 195 || in["linux"] > 305 {
		t.Errorf("it admits %v of 1000 each", in)
	}
	r.Stages[0].Selector = "platform ="
	if _, err := r.Admission(); err == nil {
		t.Error("a selector that cannot be read is no error")
	}
}

// TestPlace: places are spread, and never change.
func TestPlace(t *testing.T) {
	t.Parallel()
	if got := rollout.Place("n"); got != 0x1b16b1df538ba12d {
		t.Errorf("the place of n is %#x; it must never change", got)
	}
}
