package weather

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// Sizes of the small disk.
const (
	// diskSize leaves some 150 MiB above the reserve of the stream.
	diskSize = 300 << 20
	// scarce is below the 128 MiB that the stream wants free, so that it refuses.
	scarce = 100 << 20
	// diskMemory bounds the server's memory while it refuses: idle it takes 40 MiB.
	diskMemory = 256 << 20
)

// DiskFull fills the file system of the data directory, first to below what the
// server wants free, then to its last byte, and frees it again. Logs are
// refused with an error that makes agents keep them, configs and reads go on,
// and everything flows again by itself.
func DiskFull(ctx context.Context, o Options) (_ *Report, err error) {
	dir := filepath.Join(o.Dir, "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unmount, err := mount(dir, diskSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	s, err := raise(ctx, o, "MUSTER_FLUSH_EVENTS=2000")
	defer s.close()
	if err != nil {
		return s.report, err
	}
	s.memory = diskMemory
	s.say("%s is a file system of %s", dir, mebibytes(diskSize))
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 20, LogInterval: 100 * time.Millisecond, Rows: 5,
		ConfigInterval: 100 * time.Millisecond, ReadInterval: 100 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 4*time.Second)
	if err != nil {
		return s.report, err
	}
	ballast := filepath.Join(dir, "ballast")
	if err := s.fill(ballast, scarce); err != nil {
		return s.report, err
	}
	storm, err := s.refusing(ctx, "little space", 6*time.Second)
	if err != nil {
		return s.report, err
	}
	if err := s.fill(ballast+"2", 0); err != nil {
		return s.report, err
	}
	if _, err := s.refusing(ctx, "no space", 6*time.Second); err != nil {
		return s.report, err
	}
	s.enrolNow(ctx, "no space: ")
	if err := errors.Join(os.Remove(ballast), os.Remove(ballast+"2")); err != nil {
		return s.report, err
	}
	freed := time.Now()
	s.say("freed the space")
	if err := s.flows(ctx); err != nil {
		return s.report, err
	}
	s.report.fact("flowing again after", "%s", round(time.Since(freed)))
	s.report.compare(calm, storm)
	s.enrolAgain(ctx, "")
	return s.finish(ctx)
}

// fill leaves so many bytes free.
func (s *stage) fill(path string, left int64) error {
	f, err := os.Create(path) //nolint:gosec // in our own directory
	if err != nil {
		return err
	}
	for {
		size, err := free(filepath.Dir(path))
		if err != nil || size <= left {
			s.say("the disk has %s free", mebibytes(size))
			return errors.Join(err, f.Close())
		}
		info, err := f.Stat()
		if err == nil {
			err = reserve(f, info.Size()+size-left)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("fill the disk: %w", err), f.Close())
		}
	}
}

// refusing lets the disk be full for a while: no log is acknowledged, each is
// refused with a reason, all else goes on.
func (s *stage) refusing(ctx context.Context, name string, d time.Duration) (lap, error) {
	if err := pause(ctx, time.Second); err != nil { // what was under way
		return lap{}, err
	}
	s.lap(name + ", the first second")
	acked := s.fleet.Acked()
	if err := pause(ctx, d); err != nil {
		return lap{}, err
	}
	l := s.lap(name)
	answered := int64(0)
	for kind, count := range l.log.Kinds {
		if strings.HasPrefix(kind, "answered error") {
			answered += count
		}
	}
	s.report.zero(name+": rows acknowledged", s.fleet.Acked()-acked)
	s.report.promise(answered > 0 && answered == l.log.Errors, name+": logs refused with a reason",
		fmt.Sprintf("%d of %d", answered, l.log.Errors), "must be all")
	s.report.polls(name+": ", l)
	return l, s.server.Alive()
}

// newcomer is the number of the first node that comes during the weather, far
// from those of the fleet.
const newcomer = 1_000_000

// enrol lets one new node enrol, once.
func (s *stage) enrol(ctx context.Context) error {
	roots, err := s.server.Roots()
	if err != nil {
		return err
	}
	n, err := agenttest.New(agenttest.Options{URL: s.server.AgentURL, RootCAs: roots, Secret: s.secret, Number: newcomer})
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Enroll(ctx)
}

// enrolNow lets one new node enrol in bad weather. It may be admitted or hear
// an error, after which it tries again; an agent that hears nothing does so,
// too, but holds a connection meanwhile.
func (s *stage) enrolNow(ctx context.Context, when string) {
	began := time.Now()
	err := s.enrol(ctx)
	text := "admitted"
	if err != nil {
		text = err.Error()
	}
	_, refused := errors.AsType[*agentwire.ServerError](err)
	s.report.promise(err == nil || refused, when+"a new node hears", fmt.Sprintf("%s, after %s", text, round(time.Since(began))),
		"an answer, never node_invalid")
}

// enrolAgain promises that enrolling works after the weather.
func (s *stage) enrolAgain(ctx context.Context, when string) {
	err := s.enrol(ctx)
	s.report.promise(err == nil, when+"enrolling afterwards", fmt.Sprintf("error %v", err), "must be none")
}

// fsyncDelay is what every fsync costs more in SlowFsync.
const fsyncDelay = 200 * time.Millisecond

// SlowFsync makes every fsync and fdatasync of the server take 200 ms longer,
// by the fault injection of strace, which holds the thread that asked and no
// other. Configs and reads touch no disk and stay fast; logs are acknowledged
// late, and none is lost.
func SlowFsync(ctx context.Context, o Options) (*Report, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("%w: slowing fsync needs strace; install it", ErrCannot)
	}
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return s.report, err
	}
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 50, LogInterval: 100 * time.Millisecond, Rows: 2,
		ConfigInterval: 100 * time.Millisecond, ReadInterval: 100 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 5*time.Second)
	if err != nil {
		return s.report, err
	}
	if err := s.server.Stop(); err != nil {
		return s.report, err
	}
	// -D keeps the server our child; with the filter in the kernel only the
	// calls that are slowed stop at all.
	s.server.Wrap = []string{
		strace, "-D", "-f", "--seccomp-bpf", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", fsyncDelay.Microseconds()),
	}
	began := time.Now()
	if err := s.server.Start(ctx); err != nil {
		if strings.Contains(s.server.Log().String(), "strace: ") { // it may not trace here
			err = fmt.Errorf("%w: %w", ErrCannot, err)
		}
		return s.report, err
	}
	s.say("every fsync takes %s longer; ready after %s", fsyncDelay, round(time.Since(began)))
	if err := pause(ctx, 2*time.Second); err != nil {
		return s.report, err
	}
	s.lap("restart")
	s.worst = 0
	const storming = 12 * time.Second
	if err := pause(ctx, storming); err != nil {
		return s.report, err
	}
	storm := s.lap("slow")
	if storm.log.P50 < fsyncDelay {
		return s.report, fmt.Errorf("%w: logs are acknowledged after %s although fsync takes %s", ErrCannot, storm.log.P50, fsyncDelay)
	}
	s.enrolNow(ctx, "")
	s.report.polls("", storm)
	s.report.within("config p99", storm.config.P99, time.Second)
	rate := func(o agenttest.Summary, d time.Duration) float64 { return float64(o.Count-o.Errors) / d.Seconds() }
	s.report.fact("log requests acknowledged", "%.0f per second, calm %.0f", rate(storm.log, storming), rate(calm.log, 5*time.Second))
	s.report.compare(calm, storm)
	if err := s.flows(ctx); err != nil {
		return s.report, err
	}
	return s.finish(ctx)
}
