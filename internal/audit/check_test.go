package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
)

// TestFrontier compares with package tlog.
func TestFrontier(t *testing.T) {
	t.Parallel()
	var tree audit.Frontier
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	if tree.Root() != (tlog.Hash{}) {
		t.Error("an empty tree has a root")
	}
	for n := range int64(130) {
		leaf := fmt.Appendf(nil, "leaf %d", n)
		want, err := tlog.StoredHashes(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.Add(tlog.RecordHash(leaf)); !slices.Equal(got, want) {
			t.Fatalf("leaf %d: %v; want %v", n, got, want)
		}
		stored = append(stored, want...)
		root, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != root {
			t.Fatalf("leaf %d: root %v; want %v", n, tree.Root(), root)
		}
	}
}

// chain is a log of entries.
func chain(size int) []audit.Entry {
	entries := make([]audit.Entry, 0, size)
	var prev audit.Entry
	for i := range size {
		e := audit.Entry{Seq: int64(i) + 1, Time: at, Actor: "ada", Action: "a.b", Target: fmt.Sprint(i), Outcome: audit.Done, Prev: prev.Hash}
		e.Seal()
		entries = append(entries, e)
		prev = e
	}
	return entries
}

// signed is the checkpoint of the first entries.
func signed(entries []audit.Entry, size int) audit.Checkpoint {
	var tree audit.Frontier
	for _, e := range entries[:size] {
		tree.Add(tlog.RecordHash(e.Leaf()))
	}
	return audit.Checkpoint{Size: int64(size), Root: tree.Root(), Time: at}
}

// TestChecker_file: a log in a file can be in any order.
func TestChecker_file(t *testing.T) {
	t.Parallel()
	whole := chain(10)
	for name, c := range map[string]struct {
		change func(entries []audit.Entry) []audit.Entry
		want   string
	}{
		"whole":     {func(e []audit.Entry) []audit.Entry { return e }, "10 whole"},
		"empty":     {func([]audit.Entry) []audit.Entry { return nil }, "0 whole, truncated 1-8"},
		"cut":       {func(e []audit.Entry) []audit.Entry { return e[:6] }, "6 whole, truncated 7-8"},
		"not begun": {func(e []audit.Entry) []audit.Entry { return e[3:] }, "0 whole, missing 1-3"},
		"swapped":   {func(e []audit.Entry) []audit.Entry { e[3], e[4] = e[4], e[3]; return e }, "3 whole, moved 4"},
		"later": {func(e []audit.Entry) []audit.Entry {
			return append(append(append([]audit.Entry{}, e[:2]...), e[5:]...), e[2:5]...)
		}, "2 whole, moved 3, moved 4-5"},
		"backwards": {func(e []audit.Entry) []audit.Entry { slices.Reverse(e); return e }, "0 whole, moved 1, moved 2, moved 3, moved 4, moved 5, moved 6, moved 7, moved 8, moved 9"},
		"twice":     {func(e []audit.Entry) []audit.Entry { return slices.Insert(e, 5, e[4]) }, "4 whole, inserted 5"},
		"removed":   {func(e []audit.Entry) []audit.Entry { return slices.Delete(e, 4, 6) }, "4 whole, missing 5-6"},
		"edited":    {func(e []audit.Entry) []audit.Entry { e[4].Actor = "eve"; return e }, "4 whole, edited 5"},
		"its last":  {func(e []audit.Entry) []audit.Entry { e[9].Actor = "eve"; return e }, "9 whole, edited 10"},
		"replaced":  {func(e []audit.Entry) []audit.Entry { e[4].Actor = "eve"; e[4].Seal(); return e }, "4 whole, edited 5"},
		"the first": {func(e []audit.Entry) []audit.Entry { e[0].Prev = "x"; e[0].Seal(); return e }, "0 whole, edited 1"},
		"made anew": {func([]audit.Entry) []audit.Entry {
			e := chain(11)
			return reseal(e[1:])
		}, "0 whole, rewritten 1-4"},
		"made anew late": {func(e []audit.Entry) []audit.Entry { e[5].Actor = "eve"; return reseal(e) }, "4 whole, rewritten 5-8"},
	} {
		check := audit.NewChecker(signed(whole, 8), signed(whole, 4), signed(whole, 4))
		for _, e := range c.change(slices.Clone(whole)) {
			check.Add(e, nil)
		}
		r := check.End(0)
		got := fmt.Sprintf("%d whole", r.Whole)
		for _, f := range r.Findings {
			got += fmt.Sprintf(", %s %d", f.Kind, f.First)
			if f.Last != f.First {
				got += fmt.Sprintf("-%d", f.Last)
			}
			if f.Message == "" {
				t.Errorf("%s: no message", name)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s; want %s", name, got, c.want)
		}
	}
}

// reseal makes a chain of entries.
func reseal(entries []audit.Entry) []audit.Entry {
	prev := ""
	for i := range entries {
		entries[i].Seq, entries[i].Prev = int64(i)+1, prev
		entries[i].Seal()
		prev = entries[i].Hash
	}
	return entries
}

// TestChecker_bounds: a log that is wrong throughout makes no long report, and
// takes no long time.
func TestChecker_bounds(t *testing.T) {
	t.Parallel()
	entries := chain(5000)
	for i := range entries {
		if i%2 == 0 {
			entries[i].Actor = "eve"
		}
	}
	check := audit.NewChecker()
	for _, e := range entries {
		check.Add(e, nil)
	}
	r := check.End(0)
	if len(r.Findings) != 100 || r.More != 2400 || r.Whole != 0 || r.Entries != 5000 {
		t.Errorf("%d findings and %d more, %d whole of %d", len(r.Findings), r.More, r.Whole, r.Entries)
	}
}

// FuzzChecker: no order of entries, whole or not, breaks it or looks whole.
func FuzzChecker(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3})
	f.Add([]byte{3, 2, 1, 0, 0x83, 0x41})
	whole := chain(16)
	root := signed(whole, 16)
	f.Fuzz(func(t *testing.T, order []byte) {
		check := audit.NewChecker(root)
		var in strings.Builder
		for _, b := range order {
			e := whole[b&15]
			if b&0x80 != 0 {
				e.Seq = int64(b&0x7f) - 64
			}
			if b&0x40 != 0 {
				e.Seal()
			}
			fmt.Fprintf(&in, "%d ", e.Seq)
			check.Add(e, nil)
		}
		r := check.End(0)
		if r.Whole < 0 || r.Whole > int64(len(order)) || r.OK() && !strings.HasPrefix(in.String(), "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 ") {
			t.Errorf("%v: %+v", order, r)
		}
	})
}
