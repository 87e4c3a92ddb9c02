package sink_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// BenchmarkSink is a sink that comes back: events from the stream to a file and to a
// server beside it that reads and drops them, whose time is counted, too.
func BenchmarkSink(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	for _, way := range []struct{ name, spec string }{
		{"file", "{file: {name: events.ndjson, max_mib: 10240}}"},
		{"http", "{http: {url: '" + s.URL + "'}}"},
		{"http-ecs", "{format: ecs, http: {url: '" + s.URL + "'}}"},
		{"filtered", "{queries: [other], file: {name: events.ndjson}}"},
	} {
		b.Run(way.name, func(b *testing.B) {
			w := newWorld(b, "s "+way.spec)
			w.run()
			if err := w.manager.Pause(b.Context(), "s", "bench"); err != nil {
				b.Fatal(err)
			}
			fillStream(w, b.N)
			before := cpu()
			b.ResetTimer()
			if err := w.manager.Resume(b.Context(), "s"); err != nil {
				b.Fatal(err)
			}
			w.until("all is sent", func() bool { return w.show("s").Backlog.Messages == 0 })
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric((cpu()-before).Seconds()/float64(b.N)*1e6, "cpu-s/million")
		})
	}
}

// fillStream appends n events of a usual size, in messages of 250.
func fillStream(w *world, n int) {
	now := time.Now()
	for i := 0; i < n; i += 250 {
		batch := event.Batch{NodeID: "node-1", HostIdentifier: "A10B4C19-B685-4549-BF94-07432F62A3A1", Received: now, Tags: []string{"web", "prod"}}
		for j := range min(250, n-i) {
			batch.Events = append(batch.Events, event.Event{
				Time: now, Query: "pack_base_processes", Action: event.Added, Counter: 3, Decorations: []byte(`{"host_uuid":"A10B4C19-B685-4549-BF94-07432F62A3A1"}`),
				Columns: fmt.Appendf(nil, `{"pid":"%d","name":"sshd","path":"/usr/sbin/sshd","cmdline":"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups","parent":"1","uid":"0","start_time":"1796040000"}`, i+j),
			})
		}
		w.put(batch)
	}
}

// cpu is what the process used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
