//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/store"
)

func testCarve(t *testing.T, s *store.Store) {
	ctx := t.Context()
	a := &carve.Carve{
		ID: "a", NodeID: "n1", Paths: []string{"/x\x00y"}, State: carve.Asked, Reason: "it's", CreatedBy: "ada", CreatedAt: start,
		Archives: []carve.Archive{{ID: "a0", Path: "/x", State: carve.Uploading, GUID: "g1", Size: 1000, BlockSize: 100, Blocks: 10, Session: keyHash("s")}},
	}
	b := &carve.Carve{ID: "b", NodeID: "n2", State: carve.Asked, CreatedAt: start.Add(time.Second), Archives: []carve.Archive{{ID: "b0", State: carve.Asked}, {ID: "b1", N: 1, State: carve.Asked}}}
	ok(t, s.SaveCarves(ctx, a, b))
	if diff := cmp.Diff(a, must(s.Carve(ctx, "a"))(t)); diff != "" {
		t.Error(diff)
	}
	used := must(s.CarveUsage(ctx))(t)
	if diff := cmp.Diff(map[string]int64{"n1": 64 + 1000 + 10*28}, used); diff != "" {
		t.Error(diff)
	}
	// Contents move from one carve to another.
	a.Archives[0].ID, b.Archives[0].ID = b.Archives[0].ID, a.Archives[0].ID
	a.Archives[0].GUID, b.Archives[0].GUID = "", "g1"
	a.State, a.Settled, a.KeptUntil = carve.Done, true, start.Add(time.Hour)
	ok(t, s.SaveCarves(ctx, a, b))
	if found := must(s.CarveByGUID(ctx, "g1"))(t); found.ID != "b" {
		t.Errorf("%+v", found)
	}
	if list := must(s.UnsettledCarves(ctx))(t); len(list) != 1 || list[0].ID != "b" {
		t.Errorf("%+v", list)
	}
	for at, want := range map[time.Time]int{start: 0, start.Add(time.Hour): 1} {
		if due := must(s.CarvesDue(ctx, at, 10))(t); len(due) != want {
			t.Errorf("%d are due", len(due))
		}
	}
	if !must(s.KnowsGUID(ctx, "n2", "g1"))(t) || must(s.KnowsGUID(ctx, "n1", "g1"))(t) || !must(s.KnowsArchive(ctx, "b0"))(t) || must(s.KnowsArchive(ctx, "b1"))(t) {
		t.Error("what is known is not")
	}
	files := []carve.File{{Path: "/etc/hosts", Size: 5, Modified: start, Type: "file"}}
	ok(t, s.SaveListing(ctx, b, "b1", files))
	if diff := cmp.Diff(files, must(s.CarveFiles(ctx, "b1"))(t)); diff != "" {
		t.Error(diff)
	}
	if files := must(s.CarveFiles(ctx, "none"))(t); len(files) != 0 {
		t.Error(files)
	}
	ok(t, s.DeleteCarve(ctx, "b"))
	if _, err := s.Carve(ctx, "b"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if files := must(s.CarveFiles(ctx, "b1"))(t); len(files) != 0 {
		t.Error(files)
	}
}

func testCarveList(t *testing.T, s *store.Store) {
	for i := range 7 {
		c := &carve.Carve{ID: fmt.Sprint(i), NodeID: "n" + fmt.Sprint(i%2), State: carve.Done, CreatedAt: start.Add(time.Duration(i/2) * time.Second)}
		ok(t, s.SaveCarves(t.Context(), c))
	}
	var got string
	f := carve.Filter{Limit: 2}
	for {
		page, next, err := s.Carves(t.Context(), f)
		ok(t, err)
		for _, c := range page {
			got += c.ID
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	if got != "6543210" {
		t.Errorf("got %s", got)
	}
	if page, _, err := s.Carves(t.Context(), carve.Filter{NodeID: "n1", State: carve.Done}); err != nil || len(page) != 3 {
		t.Errorf("%d %v", len(page), err)
	}
	if counts := must(s.CountCarves(t.Context()))(t); counts[carve.Done] != 7 {
		t.Errorf("%v", counts)
	}
}
