//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// serves reads "n 1a 0-5": node n got revision 1 with hash a from second 0 to 5.
func serves(t testing.TB, texts ...string) []change.Served {
	t.Helper()
	list := make([]change.Served, 0, len(texts))
	for _, text := range texts {
		var v change.Served
		var first, last int
		must(fmt.Sscanf(text, "%s %d%s %d-%d", &v.NodeID, &v.Revision, &v.Hash, &first, &last))(t)
		v.First, v.Last = start.Add(time.Duration(first)*time.Second), start.Add(time.Duration(last)*time.Second)
		list = append(list, v)
	}
	return list
}

// servedTo writes what a node was served as serves reads it, without the node.
func servedTo(t testing.TB, s *store.Store, id string) string {
	t.Helper()
	var texts []string
	for _, v := range must(s.ServedTo(t.Context(), id, 1000))(t) {
		if v.NodeID != id {
			t.Errorf("%s is node %s", id, v.NodeID)
		}
		texts = append(texts, fmt.Sprintf("%d%s %v-%v", v.Revision, v.Hash, v.First.Sub(start).Seconds(), v.Last.Sub(start).Seconds()))
	}
	return strings.Join(texts, ", ")
}

func testServed(t *testing.T, s *store.Store) {
	for name, c := range map[string]struct {
		saves string // one batch after the other, separated by |
		want  string
	}{
		"first":           {"n 1a 0-0", "1a 0-0"},
		"goes on":         {"n 1a 0-5|n 1a 10-20", "1a 0-20"},
		"another":         {"n 1a 0-5|n 2b 10-20", "2b 10-20, 1a 0-5"},
		"other content":   {"n 1a 0-5|n 1b 10-20", "1b 10-20, 1a 0-5"},
		"same content":    {"n 1a 0-5|n 2a 10-20", "1a 0-20"},
		"same told late":  {"n 2a 10-20|n 1a 0-5", "1a 0-20"},
		"back again":      {"n 1a 0-5|n 2b 10-20|n 1a 30-40", "1a 30-40, 2b 10-20, 1a 0-5"},
		"in one batch":    {"n 1a 0-5,n 2b 10-20,n 2b 21-22,n 1a 30-40", "1a 30-40, 2b 10-22, 1a 0-5"},
		"told late":       {"n 2b 10-20|n 1a 0-5", "2b 10-20, 1a 0-5"},
		"told late again": {"n 2b 10-20|n 1a 0-5|n 1a 0-7|n 1a 0-6", "2b 10-20, 1a 0-7"},
		"same late":       {"n 2b 10-20|n 2b 5-8", "2b 5-20"},
		"within":          {"n 2b 10-20|n 2b 12-14", "2b 10-20"},
		"ends before":     {"n 1a 9-5", "1a 9-9"},
		"clock set back":  {"n 1a 100-105|n 1a 50-55|n 2b 60-65|n 1a 70-75|n 2b 110-120", "2b 110-120, 1a 70-75, 2b 60-65, 1a 50-105"},
		"two servers":     {"n 2b 7-7|n 1a 0-3,n 2b 9-9|n 1a 2-6,n 2b 11-11", "2b 7-11, 1a 2-6, 1a 0-3"},
	} {
		id := strings.ReplaceAll(name, " ", "-")
		for batch := range strings.SplitSeq(strings.ReplaceAll(c.saves, "n ", id+" "), "|") {
			ok(t, s.SaveServed(t.Context(), serves(t, strings.Split(batch, ",")...)))
		}
		if got := servedTo(t, s, id); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	ok(t, s.SaveServed(t.Context(), nil))
	if got := must(s.ServedTo(t.Context(), "back-again", 2))(t); len(got) != 2 || got[0].Revision != 1 || got[1].Revision != 2 {
		t.Errorf("the two newest are %+v", got)
	}
	if got := must(s.ServedTo(t.Context(), "none", 2))(t); len(got) != 0 {
		t.Errorf("a node that is not: %+v", got)
	}
}

func testServedText(t *testing.T, s *store.Store) {
	v := change.Served{NodeID: "n\x00", Revision: 1 << 60, Hash: "\xff\"", First: start, Last: start}
	ok(t, s.SaveServed(t.Context(), []change.Served{v, v}))
	v.NodeID, v.Hash = `n\x00`, `\xFF"`
	if diff := cmp.Diff([]change.Served{v}, must(s.ServedTo(t.Context(), "n\x00", 9))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	nothing := change.Served{NodeID: "nothing"}
	ok(t, s.SaveServed(t.Context(), []change.Served{nothing}))
	if diff := cmp.Diff([]change.Served{nothing}, must(s.ServedTo(t.Context(), "nothing", 9))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// testServedTogether: servers tell of the same nodes at once and in any order;
// the history is the same.
func testServedTogether(t *testing.T, s *store.Store) {
	const servers, nodes, steps = 4, 50, 12
	for _, err := range together(servers, func(i int) error {
		for step := i; step < steps; step += servers {
			var list []change.Served
			for n := range nodes {
				id := fmt.Sprintf("n%d", n)
				list = append(list, serves(t, fmt.Sprintf("%s %dx%d %d-%d", id, step, step, step*10, step*10+1))...)
			}
			if i%2 == 0 {
				slices.Reverse(list)
			}
			if err := s.SaveServed(t.Context(), list); err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	var want []string
	for step := steps - 1; step >= 0; step-- {
		want = append(want, fmt.Sprintf("%dx%d %d-%d", step, step, step*10, step*10+1))
	}
	for n := range nodes {
		if got := servedTo(t, s, fmt.Sprintf("n%d", n)); got != strings.Join(want, ", ") {
			t.Errorf("n%d: %s", n, got)
		}
	}
}

// testServedMax: a node whose config changes all the time drops its own oldest.
func testServedMax(t *testing.T, s *store.Store) {
	var list []change.Served
	for i := range 500 {
		list = append(list, serves(t, fmt.Sprintf("n %dx%d %d-%d", i%2, i%2, i, i))...)
	}
	ok(t, s.SaveServed(t.Context(), append(serves(t, "other 1a 0-0", "other 2b 1-1"), list...)))
	got := must(s.ServedTo(t.Context(), "n", 1000))(t)
	if len(got) != 201 || !got[0].First.Equal(list[499].First) || !got[200].First.Equal(list[299].First) {
		t.Errorf("%d rows", len(got))
	}
	if got := servedTo(t, s, "other"); got != "2b 1-1, 1a 0-0" {
		t.Errorf("another node: %s", got)
	}
}

func testServedPrune(t *testing.T, s *store.Store) {
	ok(t, s.SaveServed(t.Context(), serves(t, "n 1a 0-9", "n 2b 10-20", "n 3c 21-30", "off 1a 0-9", "off 2b 10-10")))
	many := make([]change.Served, 0, 12_000)
	for i := range cap(many) {
		many = append(many, change.Served{NodeID: fmt.Sprintf("many%d", i), First: start, Last: start.Add(time.Second)})
	}
	ok(t, s.SaveServed(t.Context(), many))
	ok(t, s.PruneServed(t.Context(), start.Add(20*time.Second)))
	for id, want := range map[string]string{"n": "3c 21-30, 2b 10-20", "off": "", "many0": "", "many11999": ""} {
		if got := servedTo(t, s, id); got != want {
			t.Errorf("%s: got %s, want %s", id, got, want)
		}
	}
	for _, table := range []string{"served", "served_past"} {
		if got := store.QueryText(t, s, `SELECT CAST(count(*) AS TEXT) FROM `+table); got != "1" {
			t.Errorf("%s rows in %s", got, table)
		}
	}
}

// BenchmarkServed keeps what 100,000 nodes were served: when nothing but the
// time changes, and when all get another revision.
func BenchmarkServed(b *testing.B) {
	const nodes = 100_000
	for _, e := range engines() {
		b.Run(e.name, func(b *testing.B) {
			s := storetest.Open(b, e.fresh(b))
			list := make([]change.Served, nodes)
			step := func(i, revision int) {
				for n := range list {
					list[n] = change.Served{
						NodeID: store.FillID(n, nodes), Revision: int64(revision), Hash: "da39a3ee5e6b4b0d3255bfef95601890afd80709",
						First: start.Add(time.Duration(i) * time.Minute), Last: start.Add(time.Duration(i)*time.Minute + time.Second),
					}
				}
				ok(b, s.SaveServed(b.Context(), list))
			}
			step(0, 1)
			i := 0
			run(b, "same", func(b *testing.B) {
				for b.Loop() {
					i++
					step(i, 1)
				}
			})
			run(b, "other", func(b *testing.B) {
				for b.Loop() {
					i++
					step(i, i+1)
				}
			})
			run(b, "one node", func(b *testing.B) {
				for b.Loop() {
					must(s.ServedTo(b.Context(), store.FillID(7, nodes), 50))(b)
				}
			})
		})
	}
}

// BenchmarkRevision commits revisions of 300 objects, of which each changes one,
// and asks what is to be served.
func BenchmarkRevision(b *testing.B) {
	const objects = 300
	for _, e := range engines() {
		b.Run(e.name, func(b *testing.B) {
			s := storetest.Open(b, e.fresh(b))
			n := int64(0)
			next := func() {
				n++
				ok(b, s.Commit(b.Context(), commit(n, objects)))
			}
			next()
			run(b, "commit", func(b *testing.B) {
				for b.Loop() {
					next()
				}
			})
			run(b, "serving", func(b *testing.B) {
				for b.Loop() {
					must(s.Serving(b.Context()))(b)
				}
			})
			run(b, "serving version", func(b *testing.B) {
				for b.Loop() {
					must(s.ServingVersion(b.Context()))(b)
				}
			})
		})
	}
}
