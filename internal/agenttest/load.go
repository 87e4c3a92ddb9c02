package agenttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
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
	// Live, if set, asks live queries after Duration, in which the fleet is
	// measured without, and until all ended.
	Live *LiveLoad
	// Carves, if set, asks for files of nodes after Duration, in which the server
	// idles. It needs Fleet.Carve.
	Carves *CarveLoad
	// Baseline, if set, shares Warmup and Duration with the server under test,
	// half each. It needs Alone with another kind than OpEnroll, and ServerPID.
	Baseline *Baseline
}

// Load enrols a fleet, runs it and reports. It ends early, with what it has,
// when ctx ends; it is an error if no request at all succeeded.
func Load(ctx context.Context, o LoadOptions) (Report, error) {
	if b := o.Baseline; b != nil && (len(b.Command) == 0 || !o.Alone || o.Only == OpEnroll || o.ServerPID == 0) {
		return Report{}, errors.New("a load with a baseline needs its Command, Alone, ServerPID and another kind than enroll")
	}
	if (o.Live != nil || o.Carves != nil) && o.Alone || o.Live != nil && o.Carves != nil || o.Carves != nil && o.Fleet.Carve == nil {
		return Report{}, errors.New("a load has live queries, or carves with Fleet.Carve, or one kind of request alone")
	}
	asker := &asker{queries: map[string]*asked{}}
	if o.Live != nil {
		o.Fleet.Answered = asker.answered
	}
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
	l := &load{o: o, fleet: fleet, asker: asker, report: Report{
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
	switch {
	case o.Baseline != nil:
		err = l.compare(ctx)
	case o.Live != nil:
		err = l.live(ctx)
	case o.Carves != nil:
		err = l.carves(ctx)
	default:
		err = l.measure(ctx)
	}
	if err != nil {
		return l.report, err
	}
	if l.report.Count == l.report.Errors {
		return l.report, fmt.Errorf("no request succeeded: %s", firstKind(l.report.Operations))
	}
	return l.report, nil
}

type load struct {
	o      LoadOptions
	fleet  *Fleet
	bare   *bareProcess // nil without a baseline
	asker  *asker
	report Report
}

// mark is a point in time and what was used up to it.
type mark struct {
	at                     time.Time
	server, bare, own      Usage
	requests, bareRequests int64 // since the last Fleet.forget
	connections            int64
}

func (l *load) mark() (m mark, err error) {
	m = mark{at: time.Now(), connections: l.fleet.Connections()}
	m.requests, _ = l.fleet.Stats().Total()
	if l.o.ServerPID != 0 {
		if m.server, err = ProcessUsage(l.o.ServerPID); err != nil {
			return m, err
		}
	}
	if l.bare != nil {
		m.bareRequests, _ = l.bare.fleet.Stats().Total()
		if m.bare, err = ProcessUsage(l.bare.cmd.Process.Pid); err != nil {
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
	op.ServerCPU = l.serverCPU(begin, end, s.Count)
	l.report.Operations[OpEnroll.String()] = op
	return nil
}

// serverCPU is perThousand of the server under test; nil if that is not known.
func (l *load) serverCPU(begin, end mark, count int64) *float64 {
	if l.o.ServerPID == 0 {
		return nil
	}
	return perThousand(end.server.CPU-begin.server.CPU, count)
}

// measure runs the fleet, forgets what happened in the warm-up, and fills the
// report at the end of the window, before requests under way are waited for.
func (l *load) measure(ctx context.Context) error {
	run := l.fleet.Run
	if l.o.Alone {
		only, err := l.fleet.newLoop(l.o.Only, l.o.Concurrency)
		if err != nil {
			return err
		}
		run = func(ctx context.Context) error {
			only.run(ctx)
			return nil
		}
	}
	return l.beside(ctx, run, l.window)
}

// beside works while run runs, which ends with the work.
func (l *load) beside(ctx context.Context, run, work func(context.Context) error) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var runErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop()
		runErr = run(running)
	})
	err := work(running)
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
	l.fleet.forget()
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
	l.fill(begin, end, end.at.Sub(begin.at))
	return nil
}

// fill makes the report. took is the time in which the server under test got
// requests.
func (l *load) fill(begin, end mark, took time.Duration) {
	r := &l.report
	r.Seconds = round(took.Seconds())
	for name, op := range l.operations(took) {
		r.Operations[name] = op
		r.Count += op.Count
		r.Errors += op.Errors
	}
	r.Rate = perSecond(r.Count, took)
	r.Connections = end.connections - begin.connections
	r.Handshakes = l.fleet.Handshakes()
	r.ServerCPU = l.serverCPU(begin, end, r.Count)
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
		CPUPerRequest: perRequest(own, r.Count), Cores: round(own.Seconds() / end.at.Sub(begin.at).Seconds()),
		RSS: end.own.RSS, LagP99: milliseconds(l.fleet.Lag().Quantile(0.99)),
	}
}

// operations is what is known of each kind of request since the fleet last
// forgot; kinds that were not to be made are left out.
func (l *load) operations(took time.Duration) map[string]OperationReport {
	all := map[string]OperationReport{}
	for op := range opCount {
		s := l.fleet.Stats().Of(op)
		if s.Count == 0 && (op == OpEnroll || l.o.Alone && op != l.o.Only || !l.o.Alone && l.fleet.interval(op) <= 0) {
			continue
		}
		name := op.String()
		if op == OpEnroll && (!l.o.Alone || l.o.Only != OpEnroll) {
			name = "reenroll"
		}
		all[name] = operation(s, took)
	}
	return all
}
