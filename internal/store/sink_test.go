//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/store"
)

func testSink(t *testing.T, s *store.Store) {
	at := start.Add(time.Hour)
	a := sink.State{Name: "a", Seq: 7, Sent: 3, Lost: 1}
	b := sink.State{
		Name: "b", PausedAt: at, PausedBy: "ann\x00",
		Replay: &sink.Replay{From: start, Until: at, Done: start.Add(time.Minute), Seq: 5, Sent: 2, By: "ann"},
	}
	ok(t, s.SaveSinks(t.Context(), []sink.State{b, a}))
	b.PausedBy = `ann\x00`
	same := func(want ...sink.State) {
		t.Helper()
		if diff := cmp.Diff(want, must(s.Sinks(t.Context()))(t)); diff != "" {
			t.Error(diff)
		}
	}
	same(a, b)
	a.Seq, b.Replay, b.PausedAt, b.PausedBy = 9, nil, time.Time{}, ""
	ok(t, s.SaveSinks(t.Context(), []sink.State{a, b}))
	same(a, b)
	ok(t, s.DeleteSink(t.Context(), "a"))
	ok(t, s.DeleteSink(t.Context(), "a"))
	same(b)
}
