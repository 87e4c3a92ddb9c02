//go:build unix

package search

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// benchStream makes messages like those of a fleet: batches of 40 rows of one
// query from one of 5,000 nodes, 25 batches in a message, about 300 bytes of
// columns a row.
type benchStream struct {
	*rand.Rand
	seq uint64
	now time.Time
}

const (
	benchBatches = 25
	benchRows    = 40
)

func newBenchStream() *benchStream {
	return &benchStream{Rand: rand.New(rand.NewPCG(1, 2)), now: day0}
}

func (s *benchStream) next() []event.Batch {
	s.seq++
	s.now = s.now.Add(time.Second)
	batches := make([]event.Batch, benchBatches)
	for i := range batches {
		node := s.IntN(5000)
		b := &batches[i]
		b.NodeID, b.HostIdentifier, b.Received = fmt.Sprintf("01J%023d", node), fmt.Sprintf("host-%05d.example.com", node), s.now
		query := fmt.Sprint("pack_incident_query", s.IntN(12))
		deco := json.RawMessage(fmt.Sprintf(`{"hostname":"host-%05d","host_uuid":"%032x"}`, node, node))
		line := s.Uint64()
		at := s.now.Add(-time.Duration(s.IntN(10)) * time.Second)
		for range benchRows {
			pid := s.IntN(60000)
			app := s.IntN(2000)
			b.Events = append(b.Events, event.Event{
				Time: at, Query: query, Action: event.Added, Counter: int64(s.seq), Line: line, Decorations: deco,
				Columns: json.RawMessage(fmt.Sprintf(`{"cmdline":"/usr/lib/app%d/bin/worker --config /etc/app%d/config.yml --id %d","cwd":"/var/lib/app%d","gid":"%d","name":"worker%d","on_disk":"1","parent":"%d","path":"/usr/lib/app%d/bin/worker","pid":"%d","root":"/","start_time":"%d","state":"S","uid":"%d"}`,
					app, app, s.IntN(1000), app, app%50, app, s.IntN(1000), app, pid, 1700000000+s.IntN(1000000), app%50)),
			})
		}
	}
	return batches
}

func benchEngine(b *testing.B) *Engine {
	b.Helper()
	e, err := Open(Options{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return day0 }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { e.Close() })
	return e
}

// BenchmarkAdd adds messages of 1,000 events to memory only.
func BenchmarkAdd(b *testing.B) {
	s := newBenchStream()
	messages := make([][]event.Batch, 50)
	for i := range messages {
		messages[i] = s.next()
	}
	m := newMemtable()
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		if m.rows >= DefaultFlushRows {
			m = newMemtable()
		}
		m.add(n, messages[n%50], day0)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchBatches/benchRows, "ns/event")
}

// BenchmarkFlush writes 100,000 events in 12 segments.
func BenchmarkFlush(b *testing.B) {
	s := newBenchStream()
	var messages [][]event.Batch
	for range 100 {
		messages = append(messages, s.next())
	}
	e := benchEngine(b)
	seq := uint64(0)
	for b.Loop() {
		b.StopTimer()
		for _, m := range messages {
			seq++
			e.mem.add(seq, m, day0)
		}
		b.StartTimer()
		if err := e.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	st := e.Stats()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(st.Events), "ns/event")
	b.ReportMetric(float64(st.Bytes)/float64(st.Events), "B_disk/event")
}

// BenchmarkIngest adds, flushes and merges a million events per iteration.
func BenchmarkIngest(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		e := benchEngine(b)
		s := newBenchStream()
		b.StartTimer()
		took := fill(b, e, s, 1_000_000)
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		st := e.Stats()
		b.ReportMetric(float64(st.Bytes)/float64(st.Events), "B_disk/event")
		b.ReportMetric(float64(mem.Sys)/(1<<20), "MB_sys")
		b.ReportMetric(float64(st.Segments), "segments")
		b.ReportMetric(took.Seconds(), "cpu-s/million")
	}
}

// fill returns the CPU time that it took but for making the events.
func fill(b *testing.B, e *Engine, s *benchStream, events int) (took time.Duration) {
	b.Helper()
	started, making := cpuTime(), time.Duration(0)
	for range events / benchBatches / benchRows {
		b.StopTimer()
		before := cpuTime()
		batches := s.next()
		making += cpuTime() - before
		b.StartTimer()
		if err := e.Add(s.seq, batches); err != nil {
			b.Fatal(err)
		}
		if rows, size := e.buffered(); rows >= e.flushRows || size >= e.flushBytes {
			if err := e.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
			if err := e.compact(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := e.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	return cpuTime() - started - making
}

// cpuTime is what the process has used, as the machine that benchmarks run on is
// seldom theirs alone.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkSearch searches a million events in segments, or as many as
// MUSTER_BENCH_EVENTS says.
func BenchmarkSearch(b *testing.B) {
	events := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("MUSTER_BENCH_EVENTS")); err == nil {
		events = n
	}
	e := benchEngine(b)
	s := newBenchStream()
	took := fill(b, e, s, events)
	st := e.Stats()
	b.Logf("%d events: %.2f CPU s per million, %.1f bytes per event, %d segments", st.Events,
		took.Seconds()*1e6/float64(st.Events), float64(st.Bytes)/float64(st.Events), st.Segments)
	needle, err := e.Search(b.Context(), event.Filter{Query: "pack_incident_query3", Limit: 1, Until: day0.Add(5 * time.Minute)})
	if err != nil || len(needle.Records) != 1 {
		b.Fatal(needle, err)
	}
	var columns map[string]string
	if err := json.Unmarshal(needle.Records[0].Columns, &columns); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    event.Filter
	}{
		{"Needle", event.Filter{Query: "pack_incident_query3", Where: where(b, "cmdline = \""+columns["cmdline"]+"\"")}},
		{"NeedleMissing", event.Filter{Query: "pack_incident_query3", Where: where(b, "cmdline = none")}},
		{"NeedleAllQueries", event.Filter{Where: where(b, "cmdline = \""+columns["cmdline"]+"\"")}},
		{"Substring", event.Filter{Query: "pack_incident_query3", Where: where(b, "cmdline contains nowhere")}},
		{"Latest100", event.Filter{Limit: 100}},
		{"Latest100OfNode", event.Filter{NodeID: needle.Records[0].NodeID, Limit: 100}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime()
			defer func() { b.ReportMetric((cpuTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op") }()
			for b.Loop() {
				if _, err := e.Search(b.Context(), c.f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, c := range []struct {
		name string
		c    event.Counting
	}{
		{"TopOfQuery", event.Counting{Filter: event.Filter{Query: "pack_incident_query3"}, By: []string{"name"}}},
		{"TopOfQueryNodes", event.Counting{Filter: event.Filter{Query: "pack_incident_query3"}, By: []string{"name"}, Nodes: true}},
		{"TopOfAll", event.Counting{By: []string{"name"}}},
		{"TopOfQueryCmdline", event.Counting{Filter: event.Filter{Query: "pack_incident_query3"}, By: []string{"cmdline"}}},
		{"TopOverTime", event.Counting{Filter: event.Filter{Query: "pack_incident_query3"}, By: []string{"state"}, Width: 5 * time.Minute}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime()
			defer func() { b.ReportMetric((cpuTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op") }()
			for b.Loop() {
				if _, err := e.Count(b.Context(), c.c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("StateOfQuery", func(b *testing.B) {
		before := cpuTime()
		defer func() { b.ReportMetric((cpuTime()-before).Seconds()*1e3/float64(b.N), "cpu-ms/op") }()
		for b.Loop() {
			if _, err := e.State(b.Context(), event.Filter{Query: "pack_incident_query3", Where: where(b, "name = worker7")}, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Queries", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := e.Queries(b.Context(), event.Filter{}, time.Minute); err != nil {
				b.Fatal(err)
			}
		}
	})
}
