package weather

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// Numbers of nodes if nothing else is said.
const (
	herd  = 20_000
	flock = 5_000
)

// Herd lets thousands of new nodes enrol as fast as this process can make
// them, each over a connection of its own as real agents do, while a fleet that
// is enrolled asks for its config and logs.
func Herd(ctx context.Context, o Options) (*Report, error) {
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return s.report, err
	}
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 200, LogInterval: time.Second, Rows: 2,
		ConfigInterval: time.Second, ReadInterval: time.Second,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 5*time.Second)
	if err != nil {
		return s.report, err
	}
	roots, err := s.server.Roots()
	if err != nil {
		return s.report, err
	}
	count := cmp.Or(o.Nodes, herd)
	nodes, err := agenttest.NewFleet(agenttest.FleetOptions{
		URL: s.server.AgentURL, RootCAs: roots, Secret: s.secret, Conn: agentwire.Full, Nodes: count, First: newcomer,
		EnrollConcurrency: 64, EnrollRetry: agenttest.Backoff{Base: 100 * time.Millisecond, Max: time.Second},
	})
	if err != nil {
		return s.report, err
	}
	defer nodes.Close()
	s.say("%d new nodes enrol", count)
	before, err := s.server.Usage()
	if err != nil {
		return s.report, err
	}
	began := time.Now()
	enrolled, failed := nodes.Enroll(ctx)
	took := time.Since(began)
	after, err := s.server.Usage()
	if err != nil {
		return s.report, err
	}
	storm := s.lap("herd")
	enrol := nodes.Stats().Of(agenttest.OpEnroll)
	s.say("enrol %s", brief(enrol))
	s.rejected += enrol.Kinds["node_invalid"]
	s.report.promise(enrolled == count, "enrolled", fmt.Sprint(enrolled), fmt.Sprintf("must be %d", count))
	if failed != nil {
		s.say("one of those that did not: %v", failed)
	}
	s.report.fact("enrolments per second", "%.0f for %s", float64(enrolled)/took.Seconds(), round(took))
	s.report.fact("server CPU meanwhile", "%s", round(after.CPU-before.CPU))
	s.report.fact("RSS before and after", "%s, %s", mebibytes(before.RSS), mebibytes(after.RSS))
	s.report.fact("enrolment p50, p99, worst", "%s, %s, %s", round(enrol.P50), round(enrol.P99), round(enrol.Max))
	s.report.fact("enrolments that failed first", "%s", kinds(enrol.Kinds))
	s.report.polls("", storm)
	s.report.compare(calm, storm)
	return s.finish(ctx)
}

// Restart stops the server under thousands of nodes with kept-alive connections
// and starts it again: all come back without enrolling.
func Restart(ctx context.Context, o Options) (*Report, error) {
	count := cmp.Or(o.Nodes, flock)
	if files, err := agenttest.RaiseOpenFiles(); err != nil {
		return nil, err
	} else if uint64(count)+100 > files { //nolint:gosec // a flag, not negative
		return nil, fmt.Errorf("%w: %d nodes need as many open files, and this process may have %d", ErrCannot, count, files)
	}
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return s.report, err
	}
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: count, LogInterval: 10 * time.Second, Rows: 2,
		ConfigInterval: 5 * time.Second, ReadInterval: 5 * time.Second,
		LogRetry: agenttest.Backoff{Base: time.Second, Max: 5 * time.Second}, // so many are no storm of their own
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 8*time.Second)
	if err != nil {
		return s.report, err
	}
	began := time.Now()
	if err := s.server.Stop(); err != nil {
		return s.report, fmt.Errorf("stop: %w", err)
	}
	stopped := time.Since(began)
	if err := s.server.Start(ctx); err != nil {
		return s.report, err
	}
	up := time.Now()
	s.say("stopped within %s, ready again %s after the signal", round(stopped), round(time.Since(began)))
	if err := s.seen(ctx, up); err != nil {
		return s.report, err
	}
	s.report.fact("down", "%s", round(up.Sub(began)))
	s.report.fact("all seen again after", "%s", round(time.Since(up)))
	storm := s.lap("coming back")
	s.report.fact("errors meanwhile", "config %s; read %s; log %s", kinds(storm.config.Kinds), kinds(storm.read.Kinds), kinds(storm.log.Kinds))
	s.report.compare(calm, storm)
	if err := s.flows(ctx); err != nil {
		return s.report, err
	}
	return s.finish(ctx)
}

// seen waits until the server has heard from every node since a time.
func (s *stage) seen(ctx context.Context, since time.Time) error {
	return rig.Until(ctx, "every node to be seen", func() (bool, error) {
		var last []struct {
			LastSeen time.Time `json:"last_seen"`
		}
		err := s.server.JSON(ctx, &last, "node", "list", "--sort", "last_seen", "--order", "asc", "--limit", "1")
		return err == nil && len(last) == 1 && last[0].LastSeen.After(since), err
	})
}
