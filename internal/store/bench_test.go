package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

const benchNodes = 50_000

// BenchmarkStore measures what a server does often, with 50,000 nodes there.
func BenchmarkStore(b *testing.B) {
	for _, e := range engines() {
		b.Run(e.name, func(b *testing.B) {
			s := storetest.Open(b, e.fresh(b))
			store.Fill(b, s, benchNodes, start)
			b.Run("enrol", func(b *testing.B) { benchEnrol(b, s) })
			b.Run("touch 10k", func(b *testing.B) { benchTouch(b, s) })
			b.Run("since nothing", func(b *testing.B) {
				_, version := since(b, s, 0)
				for b.Loop() {
					since(b, s, version)
				}
			})
			b.Run("since all", func(b *testing.B) {
				for b.Loop() {
					since(b, s, 0)
				}
			})
			now := start.Add(node.OfflineAfter + 25*time.Second) // half of them online
			for name, f := range map[string]node.Filter{
				"hostname":        {},
				"last_seen desc":  {Sort: "last_seen", Desc: true},
				"address":         {Sort: "address"},
				"tag":             {Tag: "team-7"},
				"platform by os":  {Platform: "darwin", Sort: "os"},
				"online":          {Status: store.StatusOnline, Now: now},
				"search":          {Search: "rv-4711"},
				"search nothing":  {Search: "nowhere"},
				"version by seen": {Version: "5.3.0", Sort: "last_seen", Desc: true},
			} {
				b.Run("page "+name, func(b *testing.B) { benchPages(b, s, f) })
			}
			b.Run("facets", func(b *testing.B) {
				for b.Loop() {
					must(s.NodeFacets(b.Context(), now))(b)
				}
			})
			b.Run("live of 10k", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					ask(b, s, fmt.Sprintf("q%d", i), 10_000)
				}
			})
			b.Run("answers 1k", func(b *testing.B) { benchAnswers(b, s) })
			b.Run("audit", func(b *testing.B) {
				for b.Loop() {
					must(s.AppendAudit(b.Context(), audit.Entry{Time: start, Actor: "ada", Action: "live.start"}))(b)
				}
			})
		})
	}
}

func benchEnrol(b *testing.B, s *store.Store) {
	secret(b, s, "bench", 0, "eu")
	for i := 0; b.Loop(); i++ {
		enrol(b, s, enrolment(fmt.Sprintf("new-%d-%d", b.N, i), "bench", start))
	}
}

func benchTouch(b *testing.B, s *store.Store) {
	touches := make([]node.Touch, 10_000)
	for i := 0; b.Loop(); i++ {
		for j := range touches {
			touches[j] = node.Touch{ID: store.FillID((j*5+i)%benchNodes, benchNodes), Seen: start.Add(time.Duration(i+3600) * time.Second), Address: "192.0.2.77"}
		}
		ok(b, s.TouchNodes(b.Context(), touches))
	}
}

func benchPages(b *testing.B, s *store.Store, f node.Filter) {
	for b.Loop() {
		page := must(s.Nodes(b.Context(), f))(b)
		f.Cursor = page.Next
	}
}

func benchAnswers(b *testing.B, s *store.Store) {
	const nodes = 1000
	list := make([]live.Answer, nodes)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := fmt.Sprintf("a%d", i)
		ask(b, s, id, nodes)
		for n := range list {
			list[n] = answer(id, n, `{"pid":"1","name":"systemd","path":"/usr/lib/systemd/systemd"}`, `{"pid":"2","name":"sshd","path":"/usr/sbin/sshd"}`)
		}
		b.StartTimer()
		must(s.SaveAnswers(b.Context(), list))(b)
	}
}
