package resource

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/musterhq/muster/internal/node"
)

// BenchmarkSnapshot_render renders what comes with the program, compressed
// bodies and all: what a config costs once.
func BenchmarkSnapshot_render(b *testing.B) {
	set := defaults(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compiled(b, set).Config(&node.Identity{}); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd is 100,000 nodes with 200 combinations of tags, and packs for them.
func crowd(b *testing.B) (*Set, []*node.Identity) {
	b.Helper()
	text := ""
	for i := range 20 {
		text += doc("Pack", fmt.Sprintf("p%d", i), fmt.Sprintf("{selector: tag = t%d or hostname = 'x-%d*', queries: {q: {query: SELECT pid FROM processes, interval: 60}}}", i, i))
	}
	nodes := make([]*node.Identity, 100_000)
	for i := range nodes {
		nodes[i] = &node.Identity{
			ID: fmt.Sprint(i), Hostname: fmt.Sprintf("host-%d", i), Platform: "linux",
			Tags: []string{fmt.Sprintf("t%d", i%20), fmt.Sprintf("t%d", i%10+10), fmt.Sprintf("u%d", i%200)},
		}
	}
	return parse(b, text), nodes
}

// BenchmarkSnapshot_all is what it costs to find the config of every node of
// 100,000, as a dry run and a new revision do.
func BenchmarkSnapshot_all(b *testing.B) {
	set, nodes := crowd(b)
	b.ReportAllocs()
	for b.Loop() {
		s := compiled(b, set)
		for _, n := range nodes {
			if _, err := s.Config(n); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkCatalog_Config is what it costs for each request.
func BenchmarkCatalog_Config(b *testing.B) {
	set, nodes := crowd(b)
	c := NewCatalog(&Plan{Base: compiled(b, set)}, slog.New(slog.DiscardHandler))
	for _, n := range nodes {
		c.Config(n)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if len(c.Config(nodes[i%len(nodes)]).JSON) == 0 {
			b.Fatal("an empty config")
		}
		i++
	}
}
