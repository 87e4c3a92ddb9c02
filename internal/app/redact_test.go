package app

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
)

// TestDescribe wants a rule about a table to follow its column wherever a text
// puts it.
func TestDescribe(t *testing.T) {
	compiled := func(pack string) *resource.Snapshot {
		objects, err := resource.Parse("x.yaml", []byte(pack))
		if err != nil {
			t.Fatal(err)
		}
		set, err := resource.NewSet(objects)
		if err != nil {
			t.Fatal(err)
		}
		s, err := resource.Compile(1, set)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const head = "apiVersion: muster/v1\nkind: Pack\nname: a_b\nspec:\n  queries:\n"
	base := head + `
    envs: {query: "SELECT pid, value AS v, upper(value) AS u FROM process_envs", interval: 60}
    moved: {query: "SELECT key AS x FROM process_envs", interval: 60}
    seen: {query: "SELECT s.x FROM (SELECT value AS x FROM process_envs) s JOIN users u", interval: 60}
    broken: {query: "SELECT FROM", interval: 60}`
	next := head + `
    moved: {query: "SELECT name AS x FROM processes", interval: 60}`
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	a := &App{now: time.Now}
	a.runs.policy = engine
	d := describer{app: a, plan: &resource.Plan{Base: compiled(base), Next: compiled(next)}}
	envs := redact.Origin{Table: "process_envs", Column: "value"}
	for query, want := range map[string]redact.Query{
		"pack_a_b_envs":   {Known: true, Columns: map[string]redact.Origin{"pid": {Table: "process_envs", Column: "pid"}, "v": envs, "u": {}}},
		"pack_a_b_moved":  {Known: true, Columns: map[string]redact.Origin{"x": {}}}, // until the rollout ended, it may be either
		"pack_a_b_seen":   {Known: true, Columns: map[string]redact.Origin{"x": envs}},
		"pack_a_b_broken": {},
		"pack_a_b_other":  {},
	} {
		got := d.describe(redact.Source{Query: query})
		reads := got.Reads
		got.Reads = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", query, diff)
		}
		if want.Known && len(reads) == 0 {
			t.Errorf("%s reads nothing", query)
		}
	}
}
