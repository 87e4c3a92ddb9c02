package weather

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", to lock the server's database

	"github.com/musterhq/muster/internal/agenttest"
)

// How long the database is gone if nothing else is said.
const (
	// lockedFor is longer than the server waits for a lock, and than an agent
	// waits for an answer.
	lockedFor   = 20 * time.Second
	readOnlyFor = 10 * time.Second
)

// DatabaseGone takes the database from the server: first another program, this
// one, holds its write lock, then its files cannot be written. Agents that are
// known go on as if nothing were; one that enrols hears an error or is admitted
// late, and is admitted afterwards.
func DatabaseGone(ctx context.Context, o Options) (*Report, error) {
	s, err := raise(ctx, o, "MUSTER_FLUSH_EVENTS=2000")
	defer s.close()
	if err != nil {
		return s.report, err
	}
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 20, LogInterval: 100 * time.Millisecond, Rows: 5,
		ConfigInterval: 100 * time.Millisecond, ReadInterval: 100 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, 2*time.Second)
	if err != nil {
		return s.report, err
	}
	storm, err := s.without(ctx, "locked", cmp.Or(o.For, lockedFor), s.lockState)
	if err != nil {
		return s.report, err
	}
	s.report.compare(calm, storm)
	_, err = s.without(ctx, "read-only", cmp.Or(o.For, readOnlyFor), s.freezeState)
	if errors.Is(err, ErrCannot) {
		s.report.fact("read-only", "not tried: %v", err)
	} else if err != nil {
		return s.report, err
	}
	return s.finish(ctx)
}

// without runs the fleet while the database is gone, and watches it come back.
func (s *stage) without(ctx context.Context, name string, d time.Duration, take func(context.Context) (func() error, error)) (lap, error) {
	giveBack, err := take(ctx)
	if err != nil {
		return lap{}, err
	}
	s.say("the database is %s", name)
	var enrolling sync.WaitGroup
	enrolling.Go(func() { s.enrolNow(ctx, name+": ") })
	acked := s.fleet.Acked()
	err = pause(ctx, d)
	storm := s.lap(name)
	acked = s.fleet.Acked() - acked
	if err := errors.Join(err, giveBack()); err != nil {
		enrolling.Wait()
		return lap{}, err
	}
	s.say("the database is back")
	enrolling.Wait() // its line is in the report
	s.report.polls(name+": ", storm)
	s.report.zero(name+": logs refused", storm.log.Errors)
	s.report.promise(acked > 0, name+": rows acknowledged", fmt.Sprint(acked), "must be some")
	s.enrolAgain(ctx, name+": ")
	return storm, s.flows(ctx)
}

// lockState takes SQLite's write lock until it is given back.
func (s *stage) lockState(ctx context.Context) (giveBack func() error, err error) {
	file := url.URL{Scheme: "file", Path: filepath.Join(s.server.Dir, "state.db"), RawQuery: "_txlock=exclusive&_busy_timeout=5000"}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the database: %w", err), db.Close())
	}
	return func() error { return errors.Join(tx.Rollback(), db.Close()) }, nil
}

// freezeState makes the database's files unwritable until it is given back. A
// scenario that is killed meanwhile leaves them so; chattr -i frees them.
func (s *stage) freezeState(context.Context) (giveBack func() error, err error) {
	file := filepath.Join(s.server.Dir, "state.db")
	thaw := func() error { return immutable(false, file, file+"-wal") }
	if err := immutable(true, file, file+"-wal"); err != nil {
		_ = thaw() // the first may be frozen, the second not
		return nil, err
	}
	return thaw, nil
}
