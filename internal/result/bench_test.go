//go:build unix

//nolint:thelper // the functions of the table are benchmarks, not helpers
package result_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/result"
	"github.com/musterhq/muster/internal/store/storetest"
)

// BenchmarkReader looks at 1,000,000 rows of 10,000 nodes, kept in SQLite. It
// tells CPU time, and the highest heap beside what was there before.
func BenchmarkReader(b *testing.B) {
	const nodes, perNode = 10_000, 100
	s := storetest.New(b)
	for _, id := range []string{"q", "old"} {
		fill(b, s, id, nodes, perNode)
	}
	declared := []policy.ResultColumn{
		{Name: "pid", Type: policy.Integer},
		{Name: "name", Type: policy.Text},
		{Name: "path", Type: policy.Text},
		{Name: "resident_size", Type: policy.Integer},
		{Name: "n"},
	}
	r := result.NewReader(s)
	page := func(a result.Ask) func(b *testing.B) {
		a.Limit, a.Declared, a.Total = 100, declared, nodes*perNode
		return func(b *testing.B) {
			if p, err := r.Page(b.Context(), "q", a); err != nil || len(p.Rows) != 100 {
				b.Fatal(len(p.Rows), err)
			}
		}
	}
	where, err := event.ParseWhere("name contains 7 and resident_size > 5000000")
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		f    func(*testing.B)
	}{
		{"first page", page(result.Ask{})},
		{"sort integer", page(result.Ask{Sort: "resident_size", Desc: true})},
		{"sort text", page(result.Ask{Sort: "path"})},
		{"sort unknown", page(result.Ask{Sort: "n"})},
		{"where and sort", page(result.Ask{Sort: "pid", Where: where})},
		{"group by few", func(b *testing.B) {
			if g, err := r.Groups(b.Context(), "q", "name", nil, 100, declared); err != nil || g.Distinct != 500 {
				b.Fatal(g.Distinct, err)
			}
		}},
		{"group by a million", func(b *testing.B) {
			if g, err := r.Groups(b.Context(), "q", "n", nil, 100, declared); err != nil || !g.More {
				b.Fatal(g.Distinct, err)
			}
		}},
		{"compare", func(b *testing.B) {
			if c, err := r.Compare(b.Context(), "q", "old", 100); err != nil || c.Same != nodes*perNode {
				b.Fatal(c.Same, err)
			}
		}},
		{"export", func(b *testing.B) {
			n := 0
			err := r.Rows(b.Context(), "q", nil, func(row result.Row) error {
				n++
				_, err := json.Marshal(row.Columns)
				return err
			})
			if err != nil || n != nodes*perNode {
				b.Fatal(n, err)
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) { measured(b, bench.f) })
	}
}

func fill(b *testing.B, s live.Store, id string, nodes, perNode int) {
	b.Helper()
	now := time.Now()
	targets := make([]live.Target, nodes)
	for n := range targets {
		targets[n] = live.Target{NodeID: fmt.Sprintf("node-%05d", n), HostIdentifier: fmt.Sprintf("host-%05d", n), Hostname: fmt.Sprintf("web-%d.example.com", n), State: live.Waiting}
	}
	if err := s.CreateLive(b.Context(), live.Query{ID: id, SQL: "SELECT 1", Phase: live.Running, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, targets); err != nil {
		b.Fatal(err)
	}
	var answers []live.Answer
	for n, t := range targets {
		a := live.Answer{LiveID: id, NodeID: t.NodeID, State: live.Answered, ReceivedAt: now}
		for i := range perNode {
			k := n*perNode + i
			a.Rows = append(a.Rows, json.RawMessage(fmt.Sprintf(`{"pid":"%d","name":"process-%d","path":"/usr/lib/some-package/bin/process-%d","resident_size":"%d","n":"%d"}`,
				k%32768, k%500, k%500, k*7919%10_000_000, k)))
		}
		if answers = append(answers, a); len(answers) == 500 || n == nodes-1 {
			if _, err := s.SaveAnswers(b.Context(), answers); err != nil {
				b.Fatal(err)
			}
			answers = nil
		}
	}
}

func measured(b *testing.B, f func(*testing.B)) {
	b.Helper()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		for {
			select {
			case <-tick.C:
				runtime.ReadMemStats(&after)
				most = max(most, after.HeapAlloc)
			case <-done:
				peak <- most
				return
			}
		}
	}()
	started := cpu(b)
	for b.Loop() {
		f(b)
	}
	b.ReportMetric(float64((cpu(b)-started).Milliseconds())/float64(b.N), "cpu-ms/op")
	close(done)
	b.ReportMetric(float64(max(<-peak, before.HeapAlloc)-before.HeapAlloc)/(1<<20), "heap-MiB")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
