package weather

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/internal/agenttest"
)

// kills is how often the server is killed if nothing else is said.
const kills = 10

// Kill kills the server with SIGKILL at random moments while agents log
// numbered rows. Events go to files every few hundred rows, so that kills hit
// that, too. At the end the rows are counted twice: as the server is, and after
// one more start from disk alone.
func Kill(ctx context.Context, o Options) (*Report, error) {
	s, err := raise(ctx, o, "MUSTER_FLUSH_EVENTS=500")
	defer s.close()
	if err != nil {
		return s.report, err
	}
	random := s.random()
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 20, LogInterval: 20 * time.Millisecond, Rows: 5,
		ConfigInterval: 200 * time.Millisecond, ReadInterval: 200 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	count := cmp.Or(o.Kills, kills)
	for i := range count {
		goal := s.fleet.Acked() + random.Int64N(3000) + 1
		if err := rig.Until(ctx, "agents to log", func() (bool, error) { return s.fleet.Acked() >= goal, s.server.Alive() }); err != nil {
			return s.report, err
		}
		if err := s.server.Kill(); err != nil {
			return s.report, err
		}
		down := time.Now()
		if err := s.server.Start(ctx); err != nil {
			return s.report, err
		}
		s.say("kill %d of %d after %d rows; ready again after %s", i+1, count, s.fleet.Acked(), round(time.Since(down)))
	}
	if err := s.flows(ctx); err != nil {
		return s.report, err
	}
	if files, _ := filepath.Glob(filepath.Join(s.server.Dir, "events", "*", "*.parquet")); len(files) == 0 {
		return s.report, errors.New("no events were in files yet, so no kill hit their writing")
	}
	s.report.fact("kills", "%d", count)
	if _, err := s.finish(ctx); err != nil {
		return s.report, err
	}
	if err := s.server.Stop(); err != nil {
		return s.report, err
	}
	if err := s.server.Start(ctx); err != nil {
		return s.report, err
	}
	return s.report, s.reconcile(ctx, " after another start")
}
