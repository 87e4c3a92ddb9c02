package agenttest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

func (s *server) fleet(tb testing.TB, o agenttest.FleetOptions) *agenttest.Fleet {
	tb.Helper()
	o.URL, o.RootCAs, o.Secret = s.url(), s.pool, secret
	f, err := agenttest.NewFleet(o)
	must(tb, err)
	tb.Cleanup(f.Close)
	return f
}

// run starts the fleet; the result ends it and waits.
func run(t *testing.T, f *agenttest.Fleet) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func TestFleet(t *testing.T) {
	s := newServer(t)
	s.setRead(`{"queries":{"q":"SELECT name FROM os_version"}}`)
	f := s.fleet(t, agenttest.FleetOptions{
		Nodes: 50, Conn: agentwire.KeepAlive, Rows: 5, StatusEvery: 2,
		ConfigInterval: 20 * time.Millisecond, LogInterval: 20 * time.Millisecond, ReadInterval: 20 * time.Millisecond,
	})
	enrolled, err := f.Enroll(t.Context())
	must(t, err)
	if enrolled != 50 || f.Connections() != 50 {
		t.Errorf("%d enrolled over %d connections", enrolled, f.Connections())
	}
	stop := run(t, f)
	s.waitLogs(500)
	stop()
	for _, op := range []agenttest.Op{agenttest.OpConfig, agenttest.OpLog, agenttest.OpRead, agenttest.OpWrite} {
		if got := f.Stats().Of(op); got.Count < 50 || got.Errors != 0 || got.P50 <= 0 || got.P99 < got.P50 || got.Max < got.P99 {
			t.Errorf("%s: %+v", op, got)
		}
	}
	if got := f.Stats().Of(agenttest.OpLog).Count; got != int64(len(s.requests())) {
		t.Errorf("%d log requests counted, %d stored", got, len(s.requests()))
	}
	if f.Connections() != 50 {
		t.Errorf("%d connections for 50 nodes", f.Connections())
	}
	types := map[string]int{}
	for _, l := range s.requests() {
		types[l.logType] += len(l.lines)
	}
	if types[osquery.LogTypeResult] == 0 || types[osquery.LogTypeStatus] == 0 {
		t.Errorf("lines by type: %v", types)
	}
}

// TestFleetOutage: the server dies and comes back, with its keys forgotten;
// every acknowledged line is stored, and the ledgers know it.
func TestFleetOutage(t *testing.T) {
	s := newServer(t)
	f := s.fleet(t, agenttest.FleetOptions{
		Nodes: 20, Rows: 3, Numbered: true, LogInterval: 10 * time.Millisecond,
		LogRetry: agenttest.Backoff{Base: 5 * time.Millisecond, Max: 50 * time.Millisecond},
	})
	stop := run(t, f)
	s.waitLogs(100)
	s.stop()
	s.forgetKeys()
	s.start()
	s.waitLogs(len(s.requests()) + 100)
	stop()
	stored, acked := s.numbers(), int64(0)
	for _, l := range f.Ledgers() {
		numbers := stored[l.HostIdentifier]
		// This server stores what it gets, and requests may arrive twice.
		seen := map[int64]bool{}
		for _, n := range numbers {
			seen[n] = true
		}
		unique := make([]int64, 0, len(seen))
		for n := range seen {
			unique = append(unique, n)
		}
		if err := l.Check(unique); err != nil {
			t.Error(err)
		}
		acked += l.Acked
	}
	if acked == 0 {
		t.Error("nothing was acknowledged")
	}
	if got := f.Stats().Of(agenttest.OpEnroll); got.Count < 40 {
		t.Errorf("enrolments: %+v, want two for each node", got)
	}
}

func TestFleetEnrollRetries(t *testing.T) {
	s := newServer(t)
	refused := map[string]int{}
	s.setBefore(func(path string, w http.ResponseWriter) bool {
		refused[path]++
		if refused[path] > 10 {
			return false
		}
		_, _ = io.WriteString(w, `{"error":"later"}`)
		return true
	})
	f := s.fleet(t, agenttest.FleetOptions{Nodes: 5, EnrollRate: 2000, EnrollRetry: agenttest.Backoff{Base: time.Millisecond}})
	enrolled, err := f.Enroll(t.Context())
	must(t, err)
	if got := f.Stats().Of(agenttest.OpEnroll); enrolled != 5 || got.Errors != 10 || got.Kinds["answered error: later"] != 10 {
		t.Errorf("%d enrolled: %+v", enrolled, got)
	}
	s.stop()
	f = s.fleet(t, agenttest.FleetOptions{Nodes: 2, EnrollAttempts: 2, EnrollRetry: agenttest.Backoff{Base: time.Millisecond}})
	if enrolled, err := f.Enroll(t.Context()); enrolled != 0 || err == nil {
		t.Errorf("%d enrolled without a server, error %v", enrolled, err)
	}
	if got := f.Stats().Of(agenttest.OpEnroll); got.Kinds["connection refused"] != 4 {
		t.Errorf("without a server: %+v", got)
	}
}

func TestLoad(t *testing.T) {
	s := newServer(t)
	options := agenttest.FleetOptions{
		URL: s.url(), RootCAs: s.pool, Secret: secret, Nodes: 20, Conn: agentwire.KeepAlive, Rows: 10,
		ConfigInterval: 10 * time.Millisecond, LogInterval: 10 * time.Millisecond, ReadInterval: 10 * time.Millisecond,
	}
	report, err := agenttest.Load(t.Context(), agenttest.LoadOptions{
		Fleet: options, Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond, ServerPID: os.Getpid(),
	})
	must(t, err)
	if report.Enrolled != 20 || report.ServerCPU == nil || report.Server.RSS == 0 || report.Errors != 0 {
		t.Errorf("report %+v", report)
	}
	for _, op := range []string{"enroll", "config", "log", "read"} {
		o := report.Operations[op]
		if o.Count == 0 || o.Rate <= 0 || o.P50 <= 0 || (o.ServerCPU != nil) != (op == "enroll") {
			t.Errorf("%s: %+v", op, o)
		}
	}
	for _, op := range []agenttest.Op{agenttest.OpEnroll, agenttest.OpConfig, agenttest.OpLog, agenttest.OpRead} {
		report, err := agenttest.Load(t.Context(), agenttest.LoadOptions{
			Fleet: options, Alone: true, Only: op, Concurrency: 4, Duration: 100 * time.Millisecond, ServerPID: os.Getpid(),
		})
		must(t, err)
		o := report.Operations[op.String()]
		if o.Count == 0 || o.Count != report.Count || o.ServerCPU == nil || *o.ServerCPU != *report.ServerCPU || o.Errors != 0 {
			t.Errorf("only %s: %+v", op, report)
		}
		if report.Connections > 20 {
			t.Errorf("only %s: %d connections", op, report.Connections)
		}
	}
}

func TestLoadFails(t *testing.T) {
	s := newServer(t)
	o := agenttest.LoadOptions{
		Fleet:    agenttest.FleetOptions{URL: s.url(), RootCAs: s.pool, Secret: "wrong", Nodes: 2, EnrollRetry: agenttest.Backoff{Base: 1}},
		Duration: time.Millisecond,
	}
	if _, err := agenttest.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no node could enrol") {
		t.Errorf("wrong secret: %v", err)
	}
	o.Fleet.Secret, o.Alone, o.Only, o.Concurrency = secret, true, agenttest.OpConfig, 3
	if _, err := agenttest.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "concurrency") {
		t.Errorf("concurrency over nodes: %v", err)
	}
	o.ServerPID = -1
	if _, err := agenttest.Load(t.Context(), o); err == nil || !strings.Contains(err.Error(), "process -1") {
		t.Errorf("no such process: %v", err)
	}
}

func TestReportJSON(t *testing.T) {
	b, err := json.Marshal(agenttest.Report{Operations: map[string]agenttest.OperationReport{"log": {}}})
	must(t, err)
	for _, key := range []string{
		`"operations":{"log":{"count":0,"errors":0,"rate":0,"p50_ms":0,"p95_ms":0,"p99_ms":0,`, `"server_cpu_ms_per_1000":null`,
	} {
		if !strings.Contains(string(b), key) {
			t.Errorf("%s is not in %s", key, b)
		}
	}
}

func BenchmarkConfig(b *testing.B)     { benchmark(b, agentwire.KeepAlive, agenttest.OpConfig) }
func BenchmarkLog(b *testing.B)        { benchmark(b, agentwire.KeepAlive, agenttest.OpLog) }
func BenchmarkRead(b *testing.B)       { benchmark(b, agentwire.KeepAlive, agenttest.OpRead) }
func BenchmarkConfigFull(b *testing.B) { benchmark(b, agentwire.Full, agenttest.OpConfig) }

// benchmark measures one request, the test's own server included.
func benchmark(b *testing.B, conn agentwire.Conn, op agenttest.Op) {
	b.Helper()
	s := newServer(b)
	n := s.fleet(b, agenttest.FleetOptions{Nodes: 1, Conn: conn}).Nodes()[0]
	must(b, n.Enroll(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		switch op {
		case agenttest.OpLog:
			n.BufferRows(10, time.Now())
			err = n.Flush(b.Context())
		case agenttest.OpRead:
			_, err = n.Poll(b.Context())
		default:
			_, err = n.Config(b.Context())
		}
		must(b, err)
	}
}
