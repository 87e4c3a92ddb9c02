//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/store"
)

// costs is some query's cost at a second.
func costs(name string, second int) rollout.QueryCost {
	return rollout.QueryCost{
		Name: name, SQLHash: "h-" + name,
		Cost: rollout.Cost{CPUMillis: 0.1, Bytes: 1e12, Rows: float64(second), Nodes: 3, At: start.Add(time.Duration(second) * time.Second)},
	}
}

func testCost(t *testing.T, s *store.Store) {
	if got := must(s.LoadCosts(t.Context()))(t); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	ok(t, s.SaveCosts(t.Context(), nil))
	other := costs("b", 3)
	other.SQLHash = "other text of it"
	ok(t, s.SaveCosts(t.Context(), []rollout.QueryCost{costs("a", 5), costs("b", 2), other, costs("b", 4), costs("b", 3)}))
	ok(t, s.SaveCosts(t.Context(), []rollout.QueryCost{costs("a", 4), costs("c\x00", 1)}))
	odd := costs("c\x00", 1)
	odd.Name, odd.SQLHash = `c\x00`, `h-c\x00`
	if diff := cmp.Diff([]rollout.QueryCost{costs("a", 5), costs("b", 4), other, odd}, must(s.LoadCosts(t.Context()))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	every := filled[rollout.Cost](t)
	ok(t, s.SaveCosts(t.Context(), []rollout.QueryCost{{Name: "a", SQLHash: "h-a", Cost: every}}))
	for _, c := range must(s.LoadCosts(t.Context()))(t) {
		if c.Name == "a" && !cmp.Equal(c.Cost, costs("a", 5).Cost) { // its time is before
			t.Errorf("%+v", c)
		}
	}
	ok(t, s.SaveCosts(t.Context(), []rollout.QueryCost{{Name: "every", Cost: every}}))
	for _, c := range must(s.LoadCosts(t.Context()))(t) {
		if c.Name == "every" && !cmp.Equal(c.Cost, every) {
			t.Errorf("%+v", c)
		}
	}
}

func testCostPrune(t *testing.T, s *store.Store) {
	const count = 6000
	list := make([]rollout.QueryCost, count)
	for i := range list {
		list[i] = costs(fmt.Sprint(i), i)
	}
	ok(t, s.SaveCosts(t.Context(), list))
	ok(t, s.PruneCosts(t.Context(), start.Add((count-2)*time.Second)))
	if diff := cmp.Diff([]rollout.QueryCost{list[count-1], list[count-2]}, must(s.LoadCosts(t.Context()))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
