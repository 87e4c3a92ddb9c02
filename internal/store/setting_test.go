//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"testing"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/store"
)

func version(t testing.TB, s *store.Store) int64 {
	t.Helper()
	return must(s.ServingVersion(t.Context()))(t)
}

func testSetting(t *testing.T, s *store.Store) {
	if got := must(s.Setting(t.Context(), "a"))(t); got != "" {
		t.Errorf("a setting that nobody made: %q", got)
	}
	before := version(t, s)
	for i, value := range []string{`{"a":"\u0000"}`, "", "日本 🦀", "\x00\xff"} {
		ok(t, s.SetSetting(t.Context(), "a", value))
		ok(t, s.SetSetting(t.Context(), "b", fmt.Sprint(i)))
		want := map[bool]string{true: `\x00\xFF`, false: value}[i == 3]
		if got := must(s.Setting(t.Context(), "a"))(t); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := must(s.Setting(t.Context(), "b"))(t); got != "3" {
		t.Errorf("the other setting: %q", got)
	}
	if got := version(t, s); got != before+8 {
		t.Errorf("the version went from %d to %d", before, got)
	}
}

// testServing: the version grows with everything that is served, and with
// nothing else.
func testServing(t *testing.T, s *store.Store) {
	_, err := s.Serving(t.Context())
	wantKind(t, err, errs.NotFound)
	was := version(t, s)
	grows := func(step string, want bool, err error, kind errs.Kind) {
		t.Helper()
		if want {
			ok(t, err)
		} else if err != nil {
			wantKind(t, err, kind)
		}
		now := version(t, s)
		if now > was != want || now < was {
			t.Errorf("%s: the version went from %d to %d", step, was, now)
		}
		was = now
	}
	grows("commit", true, s.Commit(t.Context(), commit(1, 3)), 0)
	grows("commit that lost", false, s.Commit(t.Context(), commit(1, 3)), errs.Conflict)
	c := proposal(t, s)
	grows("change", false, s.SaveChange(t.Context(), c, change.Pending), 0)
	opening := commit(2, 3)
	opening.Opens = running(2)
	grows("commit with a rollout", true, s.Commit(t.Context(), opening), 0)
	grows("save a rollout", true, s.SaveRollout(t.Context(), opening.Opens), 0)
	grows("save a former rollout", false, s.SaveRollout(t.Context(), running(2)), errs.Conflict)
	grows("safe config", true, s.SetSetting(t.Context(), change.SafeSetting, "safe"), 0)
	grows("freeze", true, s.SetSetting(t.Context(), change.FreezeSetting, "frozen"), 0)
	grows("served", false, s.SaveServed(t.Context(), []change.Served{{NodeID: "n", Revision: 2}}), 0)
	v := must(s.Serving(t.Context()))(t)
	if v.Version != was || v.Head.Number != 2 || len(v.Head.Objects) != 3 || v.Rollout == nil || v.Rollout.Revision != 2 || v.Rollout.Version != 2 ||
		v.Safe != "safe" || v.Freeze != "frozen" {
		t.Errorf("%+v at %d", v, was)
	}
}

// testServingMoment: what is read belongs together while it changes all the
// time: a rollout is the head's own, or of none.
func testServingMoment(t *testing.T, s *store.Store) {
	const rounds = 60
	ok(t, s.Commit(t.Context(), commit(1, 3)))
	stop := make(chan struct{})
	for _, err := range together(3, func(i int) error {
		if i == 0 {
			defer close(stop)
			return alternate(t, s, rounds)
		}
		for last := int64(0); ; {
			v, err := s.Serving(t.Context())
			if err != nil {
				return err
			}
			even := v.Head.Number%2 == 0
			if even != (v.Rollout != nil) || even && v.Rollout.Revision != v.Head.Number {
				return fmt.Errorf("head %d with rollout %+v", v.Head.Number, v.Rollout)
			}
			if v.Version < last || v.Version != v.Head.Number {
				return fmt.Errorf("version %d after %d, of head %d", v.Version, last, v.Head.Number)
			}
			last = v.Version
			select {
			case <-stop:
				return nil
			default:
			}
		}
	}) {
		ok(t, err)
	}
}

// alternate commits revisions of which every other opens a rollout that the
// next one ends.
func alternate(t testing.TB, s *store.Store, rounds int) error {
	for n := int64(2); n < int64(rounds); n++ {
		c := commit(n, 3)
		if n%2 == 0 {
			c.Opens = running(n)
		} else {
			c.Closes = ended(n - 1)
		}
		if err := s.Commit(t.Context(), c); err != nil {
			return err
		}
	}
	return nil
}
