package policy

import "testing"

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		e, err := New(Rules{})
		if err != nil {
			b.Fatal(err)
		}
		e.Query(Query{SQL: "SELECT name FROM os_version"})
		_ = e.Close()
	}
}

func BenchmarkWith(b *testing.B) {
	e := newEngine(b, Rules{})
	for _, bench := range []struct {
		name  string
		rules Rules
	}{
		{"overrides", Rules{Tables: map[string]Rule{"processes": {Tier: Internal}}}},
		{"views", Rules{Views: map[string]string{"v": "SELECT name FROM os_version"}, Extensions: map[string][]string{"mine": {"id"}}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				other, err := e.With(bench.rules)
				if err != nil {
					b.Fatal(err)
				}
				_ = other.Close()
			}
		})
	}
}

// BenchmarkPacks is one query of osquery's packs.
func BenchmarkPacks(b *testing.B) {
	e := newEngine(b, Rules{})
	queries := readPacks(b)
	i := 0
	for b.Loop() {
		e.Query(queries[i%len(queries)].query())
		i++
	}
}

// BenchmarkHostile is the whole corpus of hostile texts.
func BenchmarkHostile(b *testing.B) {
	e := newEngine(b, Rules{})
	corpus := readCorpus(b, "testdata/hostile.txt")
	for b.Loop() {
		for _, c := range corpus {
			e.Query(Query{SQL: c.sql})
		}
	}
}
