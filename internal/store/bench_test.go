//go:build unix

//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/ident"
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
			if e.name == "postgres" {
				store.Exec(b, s, `ANALYZE`) // as it does by itself within minutes
			}
			run(b, "enrol", func(b *testing.B) { benchEnrol(b, s) })
			run(b, "enrol 64 at once", func(b *testing.B) { benchEnrolTogether(b, s) })
			run(b, "enrol again", func(b *testing.B) { benchEnrolAgain(b, s) })
			run(b, "touch 10k", func(b *testing.B) { benchTouch(b, s) })
			run(b, "set tags 1k", func(b *testing.B) { benchSetTags(b, s, true) })
			run(b, "set tags 1k again", func(b *testing.B) { benchSetTags(b, s, false) })
			run(b, "since nothing", func(b *testing.B) {
				_, version := since(b, s, 0)
				for b.Loop() {
					since(b, s, version)
				}
			})
			run(b, "since all", func(b *testing.B) {
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
				"online":          {Status: node.StatusOnline, Now: now},
				"search":          {Search: "rv-4711"},
				"search nothing":  {Search: "nowhere"},
				"version by seen": {Version: "5.3.0", Sort: "last_seen", Desc: true},
			} {
				run(b, "page "+name, func(b *testing.B) { benchPages(b, s, f) })
			}
			run(b, "facets", func(b *testing.B) {
				for b.Loop() {
					must(s.NodeFacets(b.Context(), nil, now))(b)
				}
			})
			run(b, "live of 10k", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					ask(b, s, fmt.Sprintf("q%d", i), 10_000)
				}
			})
			run(b, "answers 1k", func(b *testing.B) { benchAnswers(b, s) })
			run(b, "accept 10k by 100", func(b *testing.B) { benchAccept(b, s) })
			run(b, "load standing of 100k", func(b *testing.B) { benchLoadStanding(b, s) })
			run(b, "audit", func(b *testing.B) {
				for b.Loop() {
					must(s.AppendAudit(b.Context(), audit.Entry{Time: start, Actor: "ada", Action: "live.start"}))(b)
				}
			})
		})
	}
}

func benchEnrol(b *testing.B, s *store.Store) {
	name := ident.New()
	secret(b, s, name, 0, "eu")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		enrol(b, s, enrolment(fmt.Sprintf("new-%s-%d", name, i), name, start))
	}
}

func benchEnrolTogether(b *testing.B, s *store.Store) {
	name := ident.New()
	secret(b, s, name, 0, "eu")
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	var i atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			enrol(b, s, enrolment(fmt.Sprintf("new-%s-%d", name, i.Add(1)), name, start))
		}
	})
}

func benchEnrolAgain(b *testing.B, s *store.Store) {
	name := ident.New()
	secret(b, s, name, 0, "eu")
	b.ReportAllocs()
	const nodes = 1000
	for i := -nodes; i < 0 || b.Loop(); i++ {
		enrol(b, s, enrolment(fmt.Sprintf("again-%s-%d", name, (i+nodes)%nodes), name, start.Add(time.Duration(i)*time.Second)))
	}
}

func benchTouch(b *testing.B, s *store.Store) {
	touches := make([]node.Touch, 10_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range touches {
			seen := start.Add(time.Duration(i+3600) * time.Second)
			touches[j] = node.Touch{
				ID: store.FillID((j*5+i)%benchNodes, benchNodes), Seen: seen, Address: "192.0.2.77", Patience: node.OfflineAfter,
				At: node.Seen{seen.Add(-time.Hour), seen.Add(-time.Minute), seen.Add(-7 * time.Second), seen, {}},
			}
		}
		ok(b, s.TouchNodes(b.Context(), touches))
	}
}

// benchSetTags gives 1,000 nodes other tags each time, or the same.
func benchSetTags(b *testing.B, s *store.Store, others bool) {
	taggings := make([]node.Tagging, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tag := "same"
		if others {
			tag = fmt.Sprintf("other-%d", i%2)
		}
		for j := range taggings {
			taggings[j] = node.Tagging{NodeID: store.FillID(j, benchNodes), Source: "rule:bench", Tags: []string{"all", tag}}
		}
		must(s.SetTags(b.Context(), taggings, start.Add(time.Duration(i)*time.Second)))(b)
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

// benchAccept lets the coordinator take in the answers of 10,000 nodes, as many
// at a time as a message of the stream holds when they come by the thousand each
// second.
func benchAccept(b *testing.B, s *store.Store) {
	const count, batch = 10_000, 100
	nodes := make([]*node.Identity, count)
	for i := range nodes {
		nodes[i] = &node.Identity{ID: fmt.Sprintf("n%d", i), HostIdentifier: fmt.Sprintf("h%d", i)}
	}
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		c := live.NewCoordinator(s, slog.New(slog.DiscardHandler), time.Now)
		id := fmt.Sprintf("b%d", i)
		must(c.Start(b.Context(), live.Query{ID: id, SQL: "SELECT 1"}, nodes))(b)
		b.StartTimer()
		for first := 0; first < count; first += batch {
			var list []live.Answer
			for n := first; n < first+batch; n++ {
				list = append(list, answer(id, n, `{"pid":"1","name":"systemd","path":"/usr/lib/systemd/systemd"}`))
			}
			ok(b, c.Accept(b.Context(), list))
		}
		if c.Count() != 0 {
			b.Fatal("it still runs")
		}
	}
}

// benchLoadStanding starts with a standing query that 100,000 nodes answered and
// 10 have not.
func benchLoadStanding(b *testing.B, s *store.Store) {
	const count, open = 100_000, 10
	must(s.StandLive(b.Context(), live.Query{ID: "standing", Phase: live.Running, Standing: true, CreatedAt: start}))(b)
	var joining []live.Joining
	var answers []live.Answer
	for n := range count + open {
		joining = append(joining, live.Joining{LiveID: "standing", Target: live.Target{NodeID: fmt.Sprintf("n%d", n), State: live.Waiting, EnrolledAt: start}})
		if n < count {
			answers = append(answers, answer("standing", n))
		}
	}
	must(s.AddTargets(b.Context(), joining))(b)
	must(s.SaveAnswers(b.Context(), answers))(b)
	b.ReportAllocs()
	for b.Loop() {
		queries, targets, err := s.RunningLive(b.Context())
		ok(b, err)
		if len(targets["standing"]) != open || queries["standing"].Counts[live.Empty] != count {
			b.Fatal(len(targets["standing"]))
		}
	}
	ok(b, s.EndLive(b.Context(), "standing", live.Done, live.Halted, start))
}

// run runs a benchmark that also tells the time on the processor of this
// process, which other load does not change. PostgreSQL's own is not in it.
func run(b *testing.B, name string, f func(*testing.B)) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		before := processor(b)
		f(b)
		b.ReportMetric(float64((processor(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
	})
}

func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	ok(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
