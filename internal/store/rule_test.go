//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/store"
)

func testRuleWindows(t *testing.T, s *store.Store) {
	ctx := t.Context()
	a := rule.Window{
		Rule: "a", Key: "n1", Last: event.Position{Seq: 1 << 40, Index: 7}, Touched: start,
		Hits: []rule.Hit{{At: start, Value: 1<<64 - 1}, {At: start.Add(time.Second)}},
	}
	b := rule.Window{Rule: "a", Key: "\u202e", Last: event.Position{Seq: 2}, Fired: start, Open: true, Touched: start.Add(time.Minute)}
	ok(t, s.SaveWindows(ctx, []rule.Window{a, b}))
	if diff := cmp.Diff([]rule.Window{b, a}, must(s.Windows(ctx, 10))(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := must(s.Windows(ctx, 1))(t); len(got) != 1 || got[0].Key != b.Key {
		t.Errorf("the newest is not kept: %+v", got)
	}
	a.Hits, a.Fired, a.Touched = nil, start, start.Add(time.Hour)
	ok(t, s.SaveWindows(ctx, []rule.Window{a, {Rule: "a", Key: b.Key}, {Rule: "none", Key: "x"}}))
	if diff := cmp.Diff([]rule.Window{a}, must(s.Windows(ctx, 10))(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
