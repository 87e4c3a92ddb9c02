// Package weather holds scenarios of bad weather: each starts a real server on
// loopback with a simulated fleet, does it some harm that production does one
// day (a kill, a full or slow disk, a locked database, a herd, hostile bodies),
// and reports what of the server's promises held. A scenario is bounded in time
// and memory, ends only what it started, and leaves nothing behind.
//
// The promises are those of ARCHITECTURE.md: what was acknowledged is found
// exactly once, a known agent never hears node_invalid, configs and polls are
// answered while a part fails.
package weather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/internal/agenttest"
)

// ErrCannot is for harm that cannot be done on this machine, as mounting
// without the right to. Such a scenario promises nothing.
var ErrCannot = errors.New("this weather cannot be made here")

// Options of a scenario. Binary, Dir and Out are required; the others are the
// scenario's own when zero, and mean nothing to most.
type Options struct {
	Binary string
	Dir    string    // an empty directory for all that the scenario writes
	Out    io.Writer // what it does, a line each

	Kills   int           // how often the server is killed
	Nodes   int           // nodes that come at once
	Sockets int           // connections that do nothing good
	For     time.Duration // how long the weather lasts
	Seed    uint64        // of what is random; printed, so that a run can be repeated
	// Short leaves out what takes long, and what is judged by a clock or by
	// memory, which a busy machine would get wrong: for tests.
	Short bool
}

// Scenario is one kind of bad weather.
type Scenario struct {
	Name    string
	Summary string // one line
	// Limit is how long it takes at most with its own numbers.
	Limit time.Duration
	// Run returns what was seen, also of promises that were broken; the error is
	// for a scenario that could not be played to its end.
	Run func(context.Context, Options) (*Report, error)
}

// limit bounds most scenarios.
const limit = time.Minute

// Scenarios returns all of them, in a good order to run them.
func Scenarios() []Scenario {
	return []Scenario{
		{"kill", "the server is killed again and again while agents log", limit, Kill},
		{"diskfull", "the data directory's file system fills up, and is freed again", limit, DiskFull},
		{"slowfsync", "every fsync of the server takes 200 ms", limit, SlowFsync},
		{"dbgone", "another program locks the database; then it is read-only", limit, DatabaseGone},
		{"herd", "thousands of new nodes enrol at once", limit, Herd},
		{"restart", "the server is restarted under thousands of kept-alive nodes", limit, Restart},
		{"slowloris", "thousands of connections send a byte a second, or nothing", slowlorisLimit, Slowloris},
		{"bombs", "bodies that are far larger inside than outside", limit, Bombs},
		{"rubbish", "random bytes, broken TLS, wrong methods, rows that are no text", limit, Rubbish},
	}
}

// stage is what every scenario is played on: a server, a fleet that logs
// numbered rows and polls, and what was seen of them.
type stage struct {
	Options

	started time.Time
	server  *rig.Server
	secret  string
	report  *Report

	fleet    *rig.Fleet
	keys     []string      // of the fleet's nodes after they enrolled
	rejected int64         // node_invalid answers that the fleet counted
	worst    time.Duration // the slowest config since calm
	peak     atomic.Int64  // bytes resident at most, as far as it was looked at
	memory   int64         // that the server promises to stay within; 0 for no promise
	unwatch  func()
}

// raise starts a server for a scenario. Close the stage in any case.
func raise(ctx context.Context, o Options, env ...string) (*stage, error) {
	s := &stage{Options: o, started: time.Now(), report: new(Report), unwatch: func() {}}
	home := filepath.Join(o.Dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return s, err
	}
	s.server = rig.New(rig.Options{Binary: o.Binary, Dir: filepath.Join(o.Dir, "data"), Home: home, Env: env})
	return s, s.open(ctx)
}

// open starts the server the first time and makes an enroll secret.
func (s *stage) open(ctx context.Context) error {
	if err := s.server.Start(ctx); err != nil {
		return err
	}
	if err := s.server.SetUp(ctx); err != nil {
		return err
	}
	var err error
	s.secret, err = s.server.Secret(ctx, "weather")
	return err
}

// say tells what is being done.
func (s *stage) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Out, "%5.1fs  %s\n", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

// random returns a source of the given seed, or of one that it makes up.
func (s *stage) random() *rand.Rand {
	s.Seed = cmp.Or(s.Seed, rand.Uint64N(1<<32)) //nolint:gosec // not a secret
	s.say("seed %d", s.Seed)
	return rand.New(rand.NewPCG(s.Seed, 1)) //nolint:gosec // not a secret
}

// watchEvery is how often the server's memory is looked at. Its peak is the
// kernel's own, so that only that of a process which ends in between is missed.
const watchEvery = 100 * time.Millisecond

// populate enrols the fleet, lets it work, and watches the server's memory.
func (s *stage) populate(ctx context.Context, o agenttest.FleetOptions) error {
	o.Secret = s.secret
	s.say("%d nodes enrol", o.Nodes)
	var err error
	if s.fleet, err = s.server.Fleet(ctx, o); err != nil {
		return err
	}
	s.keys = s.fleetKeys()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, watchEvery) == nil {
			if u, err := s.server.Usage(); err == nil { // between two runs there is none
				s.peak.Store(max(s.peak.Load(), u.PeakRSS))
			}
		}
	}()
	s.unwatch = func() { cancel(); <-done }
	return nil
}

func (s *stage) fleetKeys() []string {
	keys := make([]string, 0, len(s.fleet.Nodes()))
	for _, n := range s.fleet.Nodes() {
		keys = append(keys, n.Key())
	}
	return keys
}

// pause waits; the error is of a ctx that ended first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lap is what the fleet saw since the lap before.
type lap struct{ config, read, log agenttest.Summary }

// lap ends a lap and tells of it.
func (s *stage) lap(name string) lap {
	stats := s.fleet.Stats()
	l := lap{stats.Of(agenttest.OpConfig), stats.Of(agenttest.OpRead), stats.Of(agenttest.OpLog)}
	enroll := stats.Of(agenttest.OpEnroll)
	stats.Reset()
	for _, o := range []agenttest.Summary{l.config, l.read, l.log, enroll} {
		s.rejected += o.Kinds["node_invalid"]
	}
	s.worst = max(s.worst, l.config.Max)
	s.say("%s: config %s; read %s; log %s", name, brief(l.config), brief(l.read), brief(l.log))
	return l
}

// calm runs the fleet undisturbed, so that the weather can be compared with it.
func (s *stage) calm(ctx context.Context, d time.Duration) (lap, error) {
	if err := pause(ctx, time.Second); err != nil { // connections are opened
		return lap{}, err
	}
	s.lap("warming up")
	if err := pause(ctx, d); err != nil {
		return lap{}, err
	}
	l := s.lap("calm")
	s.worst = 0
	return l, nil
}

// flows waits until the server acknowledges rows that were made from now on.
func (s *stage) flows(ctx context.Context) error {
	made := make(map[string]int64)
	for _, l := range s.fleet.Ledgers() {
		made[l.HostIdentifier] = l.Made
	}
	return rig.Until(ctx, "every node's rows to be acknowledged", func() (bool, error) {
		for _, l := range s.fleet.Ledgers() {
			if l.Acked < made[l.HostIdentifier] {
				return false, s.server.Alive()
			}
		}
		return true, nil
	})
}

// settle is how long a search may lack rows that a reader of the stream has
// not come to yet.
const settle = 15 * time.Second

// reconcile compares what was promised with what is found.
func (s *stage) reconcile(ctx context.Context, where string) error {
	late := time.Now().Add(settle)
	for {
		a, err := s.server.Reconcile(ctx, s.fleet)
		if err != nil {
			return err
		}
		if a.Lost > 0 && time.Now().Before(late) {
			s.say("%d rows are not found yet", a.Lost)
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
			continue
		}
		if a.Acked == 0 {
			return errors.New("nothing was acknowledged, so nothing was tested")
		}
		s.report.fact("acknowledged"+where, "%d of %d rows sent", a.Acked, a.Sent)
		s.report.fact("stored"+where, "%d", a.Stored)
		s.report.zero("lost"+where, a.Lost)
		s.report.zero("twice"+where, a.Twice)
		s.report.zero("never sent"+where, a.Unknown)
		if a.Broken != nil {
			s.say("%v", a.Broken)
		}
		return nil
	}
}

// finish stops the fleet and adds to the report what every scenario tells.
func (s *stage) finish(ctx context.Context) (*Report, error) {
	s.lap("the rest")
	if err := s.fleet.Stop(); err != nil {
		return s.report, err
	}
	if err := s.server.Alive(); err != nil {
		return s.report, err
	}
	if err := s.reconcile(ctx, ""); err != nil {
		return s.report, err
	}
	changed := int64(0)
	for i, key := range s.fleetKeys() {
		if key != s.keys[i] {
			changed++
		}
	}
	s.report.zero("wrong node_invalid", max(s.rejected, changed))
	s.report.fact("slowest config", "%s", round(s.worst))
	s.unwatch()
	if peak := s.peak.Load(); s.memory > 0 {
		s.report.promise(peak <= s.memory, "RSS at most", mebibytes(peak), "at most "+mebibytes(s.memory))
	} else {
		s.report.fact("RSS at most", "%s", mebibytes(peak))
	}
	return s.report, nil
}

// close ends what the scenario started; what it wrote is the caller's to
// remove.
func (s *stage) close() {
	s.unwatch()
	if s.fleet != nil {
		_ = s.fleet.Stop() // finish told its error
	}
	if s.server != nil {
		_ = s.server.Kill() // everything was looked at before
	}
}

// brief is a summary in a few words.
func brief(o agenttest.Summary) string {
	text := fmt.Sprintf("%d, p50 %s, p99 %s, worst %s", o.Count-o.Errors, round(o.P50), round(o.P99), round(o.Max))
	if o.Errors > 0 {
		text += fmt.Sprintf(", %d failed (%s)", o.Errors, kinds(o.Kinds))
	}
	return text
}

// kinds lists errors, the most frequent first.
func kinds(counts map[string]int64) string {
	type kind struct {
		name  string
		count int64
	}
	var all []kind
	for name, count := range counts {
		all = append(all, kind{name, count})
	}
	slices.SortFunc(all, func(a, b kind) int { return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.name, b.name)) })
	texts := []string{}
	for _, k := range all {
		texts = append(texts, fmt.Sprintf("%d × %s", k.count, k.name))
	}
	return cmp.Or(strings.Join(texts, "; "), "none")
}

// round leaves what a person reads of a duration.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }
