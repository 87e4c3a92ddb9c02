//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/store"
)

// TestChanges is the part of the suite about what agents run, for both engines.
func TestChanges(t *testing.T) {
	t.Parallel()
	suite(t, map[string]func(*testing.T, *store.Store){
		"change":             testChange,
		"change conflict":    testChangeConflict,
		"change together":    testChangeTogether,
		"change list":        testChangeList,
		"change large":       testChangeLarge,
		"revision":           testRevision,
		"revision list":      testRevisionList,
		"revision refused":   testRevisionRefused,
		"revision together":  testRevisionTogether,
		"revision many":      testRevisionMany,
		"rollout":            testRollout,
		"rollout conflict":   testRolloutConflict,
		"rollout one":        testRolloutOne,
		"rollout together":   testRolloutTogether,
		"setting":            testSetting,
		"sink":               testSink,
		"serving":            testServing,
		"serving one moment": testServingMoment,
		"served":             testServed,
		"served text":        testServedText,
		"served together":    testServedTogether,
		"served max":         testServedMax,
		"served prune":       testServedPrune,
		"cost":               testCost,
		"cost prune":         testCostPrune,
	})
}

// fill sets every field of a value to something, so that a test sees it if one
// is not kept; RawMessage must keep its very bytes.
func fill(t testing.TB, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(start.Add(789)))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(json.RawMessage(`{"a":"<&> \u0000 日本"}`)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("a \"<&>\" \x00 日本")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<53 + 1)
	case reflect.Uint8:
		v.SetUint(2)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	case reflect.Float64:
		v.SetFloat(0.1)
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	default:
		t.Fatalf("fill %s", v.Type())
	}
}

// filled returns a value of a type with every field set.
func filled[T any](t testing.TB) T {
	t.Helper()
	var v T
	fill(t, reflect.ValueOf(&v).Elem())
	return v
}

// proposal keeps a pending change.
func proposal(t testing.TB, s *store.Store) change.Change {
	t.Helper()
	return must(s.CreateChange(t.Context(), change.Change{State: change.Pending, Author: "ada", CreatedAt: start}))(t)
}

func testChange(t *testing.T, s *store.Store) {
	given := filled[change.Change](t)
	given.State = change.Pending
	for want := range 3 {
		kept := must(s.CreateChange(t.Context(), given))(t)
		if kept.ID != fmt.Sprint(want+1) {
			t.Errorf("change %d has the id %q", want+1, kept.ID)
		}
		given.ID = kept.ID
		if diff := cmp.Diff(given, kept); diff != "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(given, must(s.Change(t.Context(), kept.ID))(t)); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
	}
	next := given
	next.State, next.Message = change.Rejected, "no"
	ok(t, s.SaveChange(t.Context(), next, change.Pending))
	if diff := cmp.Diff(next, must(s.Change(t.Context(), next.ID))(t)); diff != "" {
		t.Errorf("saved (-want +got):\n%s", diff)
	}
	for _, id := range []string{"4", "0", "-1", "", "x", "03", "+3", " 3", "3\x00", "99999999999999999999"} {
		_, err := s.Change(t.Context(), id)
		wantKind(t, err, errs.NotFound)
		next.ID = id
		wantKind(t, s.SaveChange(t.Context(), next, change.Rejected), errs.NotFound)
	}
}

func testChangeConflict(t *testing.T, s *store.Store) {
	c := proposal(t, s)
	by := func(names ...string) change.Change {
		c := c
		c.Approvals = nil
		for _, name := range names {
			c.Approvals = append(c.Approvals, change.Approval{By: name, At: start.Add(time.Nanosecond), Hash: "h"})
		}
		return c
	}
	wantKind(t, s.SaveChange(t.Context(), by("bob", "eve"), change.Pending), errs.Conflict) // one at a time
	ok(t, s.SaveChange(t.Context(), by("bob"), change.Pending))
	wantKind(t, s.SaveChange(t.Context(), by(), change.Pending), errs.Conflict)             // it would lose bob
	wantKind(t, s.SaveChange(t.Context(), by("eve"), change.Pending), errs.Conflict)        // so would this
	wantKind(t, s.SaveChange(t.Context(), by("eve", "bob"), change.Pending), errs.Conflict) // in this order too
	other := by("bob", "eve")
	other.Approvals[0].Hash = "other"
	wantKind(t, s.SaveChange(t.Context(), other, change.Pending), errs.Conflict)
	approved := by("bob", "eve")
	approved.State = change.Approved
	wantKind(t, s.SaveChange(t.Context(), approved, change.Approved), errs.Conflict)
	ok(t, s.SaveChange(t.Context(), approved, change.Pending))
	wantKind(t, s.SaveChange(t.Context(), by("bob", "eve"), change.Pending), errs.Conflict)
	if diff := cmp.Diff(approved, must(s.Change(t.Context(), c.ID))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// testChangeTogether: of many who approve at once, or reject, one does; the
// others are told.
func testChangeTogether(t *testing.T, s *store.Store) {
	const people = 8
	ids := make([]string, people)
	for _, err := range together(people, func(i int) error {
		c, err := s.CreateChange(t.Context(), change.Change{State: change.Pending})
		ids[i] = c.ID
		return err
	}) {
		ok(t, err)
	}
	slices.Sort(ids)
	if diff := cmp.Diff(strings.Fields("1 2 3 4 5 6 7 8"), ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	won := 0
	for i, err := range together(people, func(i int) error {
		c := change.Change{ID: "1", State: change.Pending, Approvals: []change.Approval{{By: fmt.Sprint(i), At: start}}}
		if i%2 == 0 {
			c.State, c.Approvals = change.Rejected, nil
		}
		return s.SaveChange(t.Context(), c, change.Pending)
	}) {
		if err == nil {
			won++
			continue
		}
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("%d: %v", i, err)
		}
	}
	c := must(s.Change(t.Context(), "1"))(t)
	// One approval can come before a rejection only if that saw it, which none did.
	if won != 1 || (c.State == change.Rejected) != (len(c.Approvals) == 0) {
		t.Errorf("%d won; %s with %v", won, c.State, c.Approvals)
	}
}

func testChangeList(t *testing.T, s *store.Store) {
	for i := range 11 {
		c := proposal(t, s)
		if i%3 == 0 {
			c.State = change.Withdrawn
			ok(t, s.SaveChange(t.Context(), c, change.Pending))
		}
	}
	for _, c := range []struct {
		state change.State
		want  string
	}{
		{"", "11 10 9 8 7 6 5 4 3 2 1"},
		{change.Pending, "11 9 8 6 5 3 2"},
		{change.Withdrawn, "10 7 4 1"},
		{change.Applied, ""},
		{"\xff'\x00", ""},
	} {
		for _, limit := range []int{1, 2, 4, 100} {
			var ids []string
			before := ""
			for {
				page := must(s.ListChanges(t.Context(), c.state, before, limit))(t)
				if len(page) == 0 {
					break
				}
				if len(page) > limit {
					t.Fatalf("%d changes; the limit is %d", len(page), limit)
				}
				for _, p := range page {
					ids = append(ids, p.ID)
				}
				before = ids[len(ids)-1]
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("%q, limit %d: got %s, want %s", c.state, limit, got, c.want)
			}
		}
	}
	for _, before := range []string{"x", "01", "1\x00"} {
		_, err := s.ListChanges(t.Context(), "", before, 4)
		wantKind(t, err, errs.Invalid)
	}
}

// testChangeLarge: a list ends before it fills the memory, and goes on after.
func testChangeLarge(t *testing.T, s *store.Store) {
	const count = 12
	body := must(json.Marshal(strings.Repeat("x", 3<<20)))(t)
	for range count {
		must(s.CreateChange(t.Context(), change.Change{State: change.Pending, Edits: []resource.Edit{{Object: body}}}))(t)
	}
	first := must(s.ListChanges(t.Context(), "", "", 1000))(t)
	if len(first) == 0 || len(first) == count {
		t.Fatalf("%d of %d large changes in one list", len(first), count)
	}
	second := must(s.ListChanges(t.Context(), "", first[len(first)-1].ID, 1000))(t)
	if want := fmt.Sprint(count - len(first)); len(second) == 0 || second[0].ID != want {
		t.Errorf("the second list does not begin with %s", want)
	}
}
