//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/store"
)

// running is an open rollout, as Commit opens it.
func running(revision int64) *rollout.Rollout {
	return &rollout.Rollout{Revision: revision, Base: revision - 1, State: rollout.Running, StartedAt: start}
}

// ended is the same one, done.
func ended(revision int64) *rollout.Rollout {
	r := running(revision)
	r.State, r.EndedAt, r.Version = rollout.Done, start.Add(time.Hour), 1
	return r
}

// open commits revisions up to one that rolls out.
func open(t testing.TB, s *store.Store, revision int64) *rollout.Rollout {
	t.Helper()
	for n := int64(1); n < revision; n++ {
		ok(t, s.Commit(t.Context(), commit(n, 1)))
	}
	c := commit(revision, 1)
	c.Opens = running(revision)
	ok(t, s.Commit(t.Context(), c))
	return c.Opens
}

func testRollout(t *testing.T, s *store.Store) {
	if r := must(s.OpenRollout(t.Context()))(t); r != nil {
		t.Errorf("there is one at first: %+v", r)
	}
	_, err := s.Rollout(t.Context(), 1)
	wantKind(t, err, errs.NotFound)
	wantKind(t, s.SaveRollout(t.Context(), running(1)), errs.NotFound)

	want := filled[rollout.Rollout](t)
	want.Revision, want.Base, want.State = 1, 0, rollout.Running
	c := commit(1, 1)
	c.Opens = &want
	ok(t, s.Commit(t.Context(), c))
	for _, state := range []rollout.State{rollout.Running, rollout.Paused, rollout.Running, rollout.RolledBack} {
		want.State = state
		before := want.Version
		ok(t, s.SaveRollout(t.Context(), &want))
		if want.Version != before+1 {
			t.Errorf("version %d after %d", want.Version, before)
		}
		if diff := cmp.Diff(&want, must(s.Rollout(t.Context(), 1))(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", state, diff)
		}
		if got := must(s.OpenRollout(t.Context()))(t); (got != nil) != want.Open() {
			t.Errorf("%s: open is %+v", state, got)
		}
	}
}

func testRolloutConflict(t *testing.T, s *store.Store) {
	r := open(t, s, 2)
	other := must(s.OpenRollout(t.Context()))(t)
	r.Reason = "first"
	ok(t, s.SaveRollout(t.Context(), r))
	other.Reason = "second"
	wantKind(t, s.SaveRollout(t.Context(), other), errs.Conflict)
	if other.Version != 1 {
		t.Errorf("one that was not kept has version %d", other.Version)
	}
	c := commit(3, 1)
	c.Closes = other // what it ends went on meanwhile
	wantKind(t, s.Commit(t.Context(), c), errs.Conflict)
	if got := must(s.OpenRollout(t.Context()))(t); got.Reason != "first" {
		t.Errorf("%+v", got)
	}
}

// testRolloutOne: at most one is open, and what commits meanwhile has to end it.
func testRolloutOne(t *testing.T, s *store.Store) {
	r := open(t, s, 1)
	wantKind(t, s.Commit(t.Context(), commit(2, 1)), errs.Conflict)
	c := commit(2, 1)
	c.Opens = running(2)
	wantKind(t, s.Commit(t.Context(), c), errs.Conflict)
	if c.Opens.Version != 0 {
		t.Errorf("one that was not kept has version %d", c.Opens.Version)
	}
	c.Closes = r
	wantKind(t, s.Commit(t.Context(), c), errs.Conflict) // that is still open
	r.State = rollout.RolledBack
	ok(t, s.Commit(t.Context(), c))
	if r.Version != 2 || c.Opens.Version != 1 {
		t.Errorf("versions %d and %d", r.Version, c.Opens.Version)
	}
	r.State = rollout.Running
	wantKind(t, s.SaveRollout(t.Context(), r), errs.Conflict) // it comes not back beside another
	c.Opens.State = rollout.Done
	ok(t, s.SaveRollout(t.Context(), c.Opens))
	ok(t, s.Commit(t.Context(), commit(3, 1)))
	for limit, want := range map[int]string{0: "2 1", 1: "2"} {
		if got := revisions(must(s.Rollouts(t.Context(), 0, limit))(t)); got != want {
			t.Errorf("limit %d: %s, want %s", limit, got, want)
		}
	}
	if got := revisions(must(s.Rollouts(t.Context(), 2, 10))(t)); got != "1" {
		t.Errorf("before 2: %s", got)
	}
}

func revisions(list []rollout.Rollout) string {
	var numbers []string
	for _, r := range list {
		numbers = append(numbers, fmt.Sprint(r.Revision))
	}
	return strings.Join(numbers, " ")
}

// testRolloutTogether: of several servers that move a rollout, one does at each
// version.
func testRolloutTogether(t *testing.T, s *store.Store) {
	const servers, moves = 4, 25
	open(t, s, 1)
	won := make([]int, servers)
	for _, err := range together(servers, func(i int) error {
		for range moves {
			r, err := s.OpenRollout(t.Context())
			if err != nil {
				return err
			}
			r.Stage++
			switch err := s.SaveRollout(t.Context(), r); {
			case err == nil:
				won[i]++
			case !errs.Is(err, errs.Conflict):
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	sum := 0
	for _, n := range won {
		sum += n
	}
	r := must(s.OpenRollout(t.Context()))(t)
	if r.Stage != sum || r.Version != int64(sum)+1 || sum < moves {
		t.Errorf("%d moves; stage %d, version %d", sum, r.Stage, r.Version)
	}
}
