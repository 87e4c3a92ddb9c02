package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/musterhq/muster/internal/live"
)

// Bounds of one step of pruning, which holds SQLite's only writer: an answer may
// have 8 MiB, and their pages are read as they are freed.
const (
	pruneTargets = 1000
	pruneBytes   = 16 << 20
)

// PruneLive drops one step's worth of live queries that ended before a time, and
// of rows that nodes gave to standing ones before it. It reports whether there is
// more to drop.
func (s *Store) PruneLive(ctx context.Context, before time.Time) (more bool, err error) {
	var id string
	err = s.read.QueryRowContext(ctx, `
		SELECT id FROM live WHERE phase NOT IN ('running', 'pending') AND ended_at < $1 ORDER BY ended_at LIMIT 1`, micros(before)).Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		more, err = s.pruneStanding(ctx, before)
	case err == nil:
		more, err = true, s.pruneOne(ctx, id)
	}
	return more, fail("prune live queries", err)
}

// pruneOne drops targets of a query that ended, and the query when it has none.
func (s *Store) pruneOne(ctx context.Context, id string) error {
	return s.tx(ctx, func(t *tx) error {
		list, err := targetsToPrune(ctx, t, `live_id = $1`, id)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			_, err := t.exec(ctx, `DELETE FROM live WHERE id = $1 AND phase NOT IN ('running', 'pending')`, id)
			return err
		}
		return t.eachPruned(ctx, `DELETE FROM live_target WHERE live_id = $1 AND node_id = $2`, list)
	})
}

// pruneStanding drops rows of standing queries; that the node was asked stays.
func (s *Store) pruneStanding(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.tx(ctx, func(t *tx) error {
		list, err := targetsToPrune(ctx, t, `bytes > 0 AND answered_at < $1 AND live_id IN (SELECT id FROM live WHERE standing = 1 AND phase = 'running')`, micros(before))
		if err != nil || len(list) == 0 {
			more = false
			return err
		}
		more = true
		if err := t.eachPruned(ctx, `DELETE FROM live_rows WHERE live_id = $1 AND node_id = $2`, list); err != nil {
			return err
		}
		for _, p := range list {
			if err := t.changeLive(ctx, p.live, &liveChange{rows: -p.rows, bytes: -p.bytes, counts: map[live.State]int{}}); err != nil {
				return err
			}
		}
		return t.eachPruned(ctx, `UPDATE live_target SET row_count = 0, bytes = 0 WHERE live_id = $1 AND node_id = $2`, list)
	})
	return more, err
}

// pruned is a target that is dropped.
type pruned struct {
	live, node string
	rows       int
	bytes      int64
}

// targetsToPrune returns as many as one step may take, and one at least.
func targetsToPrune(ctx context.Context, t *tx, where string, arg any) ([]pruned, error) {
	list, err := all(ctx, t, func(row scanner) (p pruned, err error) {
		err = row.Scan(&p.live, &p.node, &p.rows, &p.bytes)
		return p, err
	}, `SELECT live_id, node_id, row_count, bytes FROM live_target WHERE `+where+` LIMIT $2`, arg, pruneTargets)
	size := int64(0)
	for i, p := range list {
		if size += p.bytes; size > pruneBytes && i > 0 {
			return list[:i], err
		}
	}
	return list, err
}

func (t *tx) eachPruned(ctx context.Context, statement string, list []pruned) error {
	for _, p := range list {
		if _, err := t.exec(ctx, statement, p.live, p.node); err != nil {
			return err
		}
	}
	return nil
}
