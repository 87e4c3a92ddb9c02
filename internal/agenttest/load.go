package agenttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// LoadOptions of Load.
type LoadOptions struct {
	Fleet FleetOptions
	// Warmup passes before Duration is measured.
	Warmup, Duration time.Duration
	// Alone, if true, makes only requests of the kind Only, Concurrency of
	// them at a time, each as soon as the one before was answered. Then the
	// server's CPU time belongs to this kind alone. Otherwise the fleet keeps
	// its intervals.
	Alone       bool
	Only        Op // OpEnroll, OpConfig, OpLog or OpRead
	Concurrency int
	// ServerPID is the server's process on this machine, whose CPU time and
	// memory are reported; 0 if there is none.
	ServerPID int
}

// Report is the outcome of a load. Times are in milliseconds.
type Report struct {
	URL         string                     `json:"url"`
	Conn        string                     `json:"conn"`
	Mode        string                     `json:"mode"` // fleet, or "only" and the operation
	Nodes       int                        `json:"nodes"`
	Enrolled    int                        `json:"enrolled"`
	Concurrency int                        `json:"concurrency,omitempty"`
	Seconds     float64                    `json:"duration_s"`
	Count       int64                      `json:"count"`
	Errors      int64                      `json:"errors"`
	Rate        float64                    `json:"rate"` // per second
	Connections int64                      `json:"connections"`
	Operations  map[string]OperationReport `json:"operations"`
	// ServerCPU is the server's CPU time in the measured window for 1,000
	// requests of whatever kinds were made; null without ServerPID.
	ServerCPU *float64      `json:"server_cpu_ms_per_1000"`
	Server    *ServerReport `json:"server,omitempty"`
	Generator Generator     `json:"generator"`
}

// OperationReport is what is known of one operation. "enroll" is the time
// before the fleet runs, "reenroll" what it did afterwards.
type OperationReport struct {
	Count  int64   `json:"count"`
	Errors int64   `json:"errors"`
	Rate   float64 `json:"rate"` // per second
	P50    float64 `json:"p50_ms"`
	P95    float64 `json:"p95_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
	// ServerCPU is there only where nothing else was going on.
	ServerCPU  *float64         `json:"server_cpu_ms_per_1000,omitempty"`
	ErrorKinds map[string]int64 `json:"error_kinds,omitempty"`
}

// ServerReport is what the server's process used in the measured window.
type ServerReport struct {
	PID     int     `json:"pid"`
	CPU     float64 `json:"cpu_ms"`
	Cores   float64 `json:"cores"` // CPU time by elapsed time
	RSS     int64   `json:"rss_bytes"`
	PeakRSS int64   `json:"rss_peak_bytes"` // since it started
}

// Generator is what this process used, to see whether it was the limit.
type Generator struct {
	CPUPerRequest float64 `json:"cpu_us_per_request"`
	Cores         float64 `json:"cores"`
	RSS           int64   `json:"rss_bytes"`
	LagP99        float64 `json:"lag_p99_ms"` // how late requests started
}

// Load enrols a fleet, runs it and reports. It ends early, with what it has,
// when ctx ends; it is an error if no request at all succeeded.
func Load(ctx context.Context, o LoadOptions) (Report, error) {
	if o.Fleet.EnrollAttempts == 0 {
		o.Fleet.EnrollAttempts = 3
	}
	if o.Fleet.Logger == nil {
		o.Fleet.Logger = slog.New(slog.DiscardHandler)
	}
	fleet, err := NewFleet(o.Fleet)
	if err != nil {
		return Report{}, err
	}
	defer fleet.Close()
	l := &load{o: o, fleet: fleet, report: Report{
		URL: o.Fleet.URL, Conn: string(o.Fleet.Conn), Mode: "fleet", Nodes: o.Fleet.Nodes,
		Operations: map[string]OperationReport{},
	}}
	if o.Alone {
		l.report.Mode = "only " + o.Only.String()
		l.report.Concurrency = o.Concurrency
	}
	if !o.Alone || o.Only != OpEnroll {
		if err := l.enroll(ctx); err != nil {
			return l.report, err
		}
	}
	if err := l.measure(ctx); err != nil {
		return l.report, err
	}
	if l.report.Count == l.report.Errors {
		return l.report, fmt.Errorf("no request succeeded: %s", firstKind(l.report.Operations))
	}
	return l.report, nil
}

func firstKind(operations map[string]OperationReport) string {
	for _, o := range operations {
		for kind := range o.ErrorKinds {
			return kind
		}
	}
	return "none was made"
}

type load struct {
	o      LoadOptions
	fleet  *Fleet
	report Report
}

// mark is a point in time and what was used up to it.
type mark struct {
	at          time.Time
	server, own Usage
	connections int64
}

func (l *load) mark() (mark, error) {
	m := mark{at: time.Now(), connections: l.fleet.Connections()}
	var err error
	if l.o.ServerPID != 0 {
		if m.server, err = ProcessUsage(l.o.ServerPID); err != nil {
			return m, err
		}
	}
	m.own, _ = ProcessUsage(os.Getpid()) // only Linux has it; zeros elsewhere
	return m, nil
}

func (l *load) enroll(ctx context.Context) error {
	log := l.o.Fleet.Logger
	log.InfoContext(ctx, "enrolling", "nodes", l.o.Fleet.Nodes)
	begin, err := l.mark()
	if err != nil {
		return err
	}
	enrolled, failed := l.fleet.Enroll(ctx)
	end, err := l.mark()
	if err != nil {
		return err
	}
	l.report.Enrolled = enrolled
	if enrolled == 0 {
		return fmt.Errorf("no node could enrol: %w", failed)
	}
	if failed != nil {
		log.WarnContext(ctx, "some nodes could not enrol yet", "enrolled", enrolled, "error", failed)
	}
	s := l.fleet.Stats().Of(OpEnroll)
	op := operation(s, end.at.Sub(begin.at))
	op.ServerCPU = l.perThousand(begin, end, s.Count)
	l.report.Operations[OpEnroll.String()] = op
	return nil
}

// perThousand is the server's CPU milliseconds for 1,000 of count requests.
func (l *load) perThousand(begin, end mark, count int64) *float64 {
	if l.o.ServerPID == 0 || count == 0 {
		return nil
	}
	v := round(milliseconds(end.server.CPU-begin.server.CPU) * 1000 / float64(count))
	return &v
}

// measure runs the fleet, forgets what happened in the warm-up, and fills the
// report at the end of the window, before requests under way are waited for.
func (l *load) measure(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	var (
		wg     sync.WaitGroup
		runErr error
	)
	wg.Go(func() {
		defer stop()
		if l.o.Alone {
			runErr = l.fleet.Loop(running, l.o.Only, l.o.Concurrency)
		} else {
			runErr = l.fleet.Run(running)
		}
	})
	err := l.window(running)
	stop()
	wg.Wait()
	return errors.Join(err, runErr)
}

func (l *load) window(ctx context.Context) error {
	log := l.o.Fleet.Logger
	if l.o.Warmup > 0 {
		log.InfoContext(ctx, "warming up", "for", l.o.Warmup)
		_ = wait(ctx, l.o.Warmup)
	}
	l.fleet.Stats().Reset()
	l.fleet.Lag().Reset()
	begin, err := l.mark()
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "measuring", "for", l.o.Duration)
	_ = wait(ctx, l.o.Duration)
	end, err := l.mark()
	if err != nil {
		return err
	}
	l.fill(begin, end)
	return nil
}

func (l *load) fill(begin, end mark) {
	r, took := &l.report, end.at.Sub(begin.at)
	stats := l.fleet.Stats()
	r.Seconds = round(took.Seconds())
	for op := range opCount {
		s := stats.Of(op)
		r.Count += s.Count
		r.Errors += s.Errors
		if s.Count == 0 && (op == OpEnroll || l.o.Alone && op != l.o.Only || !l.o.Alone && l.fleet.interval(op) <= 0) {
			continue
		}
		name := op.String()
		if op == OpEnroll && (!l.o.Alone || l.o.Only != OpEnroll) {
			name = "reenroll"
		}
		r.Operations[name] = operation(s, took)
	}
	r.Rate = round(float64(r.Count) / took.Seconds())
	r.Connections = end.connections - begin.connections
	r.ServerCPU = l.perThousand(begin, end, r.Count)
	if op, ok := r.Operations[l.o.Only.String()]; l.o.Alone && ok && op.Count == r.Count {
		op.ServerCPU = r.ServerCPU
		if l.o.Only == OpEnroll {
			r.Enrolled = int(op.Count - op.Errors)
		}
		r.Operations[l.o.Only.String()] = op
	}
	if l.o.ServerPID != 0 {
		cpu := end.server.CPU - begin.server.CPU
		r.Server = &ServerReport{
			PID: l.o.ServerPID, CPU: milliseconds(cpu), Cores: round(cpu.Seconds() / took.Seconds()),
			RSS: end.server.RSS, PeakRSS: end.server.PeakRSS,
		}
	}
	own := end.own.CPU - begin.own.CPU
	r.Generator = Generator{
		Cores: round(own.Seconds() / took.Seconds()), RSS: end.own.RSS,
		LagP99: milliseconds(l.fleet.Lag().Quantile(0.99)),
	}
	if r.Count > 0 {
		r.Generator.CPUPerRequest = round(float64(own.Microseconds()) / float64(r.Count))
	}
}

func operation(s Summary, took time.Duration) OperationReport {
	return OperationReport{
		Count: s.Count, Errors: s.Errors, Rate: round(float64(s.Count) / took.Seconds()),
		P50: milliseconds(s.P50), P95: milliseconds(s.P95), P99: milliseconds(s.P99), Max: milliseconds(s.Max),
		ErrorKinds: s.Kinds,
	}
}

func milliseconds(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// Loop makes requests of one kind until ctx ends: concurrency workers take
// turns with their share of the nodes and ask as soon as the last answer is
// there. Enrolments are of ever new nodes, over the connections of the first
// ones. After a failure a worker waits a little.
func (f *Fleet) Loop(ctx context.Context, op Op, concurrency int) error {
	switch {
	case op == OpWrite || op >= opCount:
		return fmt.Errorf("requests of the kind %s cannot be made alone", op)
	case concurrency < 1 || concurrency > len(f.nodes):
		return fmt.Errorf("concurrency is %d; it must be 1 to %d, the number of nodes", concurrency, len(f.nodes))
	}
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopGrace := context.AfterFunc(ctx, func() {
		_ = wait(requests, f.o.Grace)
		cancel()
	})
	defer stopGrace()
	var (
		wg    sync.WaitGroup
		fresh atomic.Int64
	)
	for w := range concurrency {
		wg.Go(func() {
			failures := 0
			for i := w; ctx.Err() == nil; i += concurrency {
				n := f.nodes[i%len(f.nodes)]
				if op == OpEnroll {
					n = f.nodes[w]
					n.become(f.o.First + len(f.nodes) + int(fresh.Add(1)))
				}
				if err := f.one(requests, n, op); err == nil {
					failures = 0
					continue
				}
				failures++
				_ = wait(ctx, Backoff{10 * time.Millisecond, time.Second}.After(failures))
			}
		})
	}
	wg.Wait()
	return nil
}

func (f *Fleet) one(ctx context.Context, n *Node, op Op) error {
	var err error
	switch op {
	case OpEnroll:
		err = n.Enroll(ctx)
	case OpConfig:
		_, err = n.Config(ctx)
	case OpLog:
		err = f.flush(ctx, n)
	case OpRead:
		_, err = n.Poll(ctx)
	case OpWrite, opCount:
	}
	return err
}
