package live

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// benchStore keeps nothing, so that a benchmark shows what memory costs.
type benchStore struct{ *store }

func (benchStore) CreateLive(context.Context, Query, []Target) error              { return nil }
func (benchStore) SaveAnswers(_ context.Context, a []Answer) ([]Answer, error)    { return a, nil }
func (benchStore) EndLive(context.Context, string, Phase, State, time.Time) error { return nil }

func benchCoordinator() *Coordinator {
	return NewCoordinator(benchStore{newStore()}, slog.New(slog.DiscardHandler), time.Now)
}

func (c *Coordinator) mustStart(b *testing.B, q Query, nodes []*node.Identity) {
	b.Helper()
	if _, err := c.Start(b.Context(), q, nodes); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTake_finished: an idle poll after 10,000 queries came and went.
func BenchmarkTake_finished(b *testing.B) {
	c := benchCoordinator()
	nodes := many(10)
	for i := range 10_000 {
		id := fmt.Sprint(i)
		c.mustStart(b, Query{ID: id}, nodes)
		for _, n := range nodes {
			if err := c.Accept(b.Context(), []Answer{{LiveID: id, NodeID: n.ID, State: Empty}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	if c.Count() != 0 || len(c.pending) != 0 {
		b.Fatal("something is left")
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Take("n3")
	}
}

// BenchmarkTake_pending200: a poll of a node with 200 queries, all taken and
// within their leases, or all to be had.
func BenchmarkTake_pending200(b *testing.B) {
	for _, name := range []string{"leased", "due"} {
		b.Run(name, func(b *testing.B) {
			c := benchCoordinator()
			now := time.Now()
			c.now = func() time.Time { return now }
			for i := range 200 {
				c.mustStart(b, Query{ID: fmt.Sprint(i), ExpiresAt: now.Add(1e6 * time.Hour)}, many(2000))
			}
			for len(c.Take("n0")) > 0 {
			}
			b.ReportAllocs()
			for b.Loop() {
				if name == "due" {
					for _, t := range c.pending["n0"] {
						t.attempts, t.state = 0, Waiting
					}
					c.sent = c.sent[:0]
				}
				c.Take("n0")
			}
		})
	}
}

// BenchmarkAccept_10000 takes in the answers of 10,000 nodes, 100 at a time.
func BenchmarkAccept_10000(b *testing.B) {
	nodes := many(10_000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		c := benchCoordinator()
		c.mustStart(b, Query{ID: "a"}, nodes)
		var batches [][]Answer
		for i := 0; i < len(nodes); i += 100 {
			var batch []Answer
			for _, n := range nodes[i : i+100] {
				batch = append(batch, Answer{LiveID: "a", NodeID: n.ID, State: Answered, Rows: []json.RawMessage{[]byte(`{"a":"1"}`)}})
			}
			batches = append(batches, batch)
		}
		b.StartTimer()
		for _, batch := range batches {
			if err := c.Accept(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		if c.Count() != 0 {
			b.Fatal("it still runs")
		}
	}
}
