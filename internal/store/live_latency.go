package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// LiveLatency returns when the first answer to a live query came, and by when half
// of them and 95 of 100 had; zero times without one.
func (s *Store) LiveLatency(ctx context.Context, id string) (first, p50, p95 time.Time, err error) {
	id = text(id)
	var n int
	if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM live_target WHERE live_id = $1 AND seq > 0`, id).Scan(&n); err != nil {
		return first, p50, p95, fail("read latency", err)
	}
	if n == 0 {
		return first, p50, p95, nil
	}
	for _, want := range []struct {
		percent int
		at      *time.Time
	}{{0, &first}, {50, &p50}, {95, &p95}} {
		// Answers are numbered as they come, so their times are in order, too.
		var at int64
		err := s.read.QueryRowContext(ctx, `
			SELECT answered_at FROM live_target WHERE live_id = $1 AND seq > 0 ORDER BY seq LIMIT 1 OFFSET $2`,
			id, (n-1)*want.percent/100).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			continue // pruned, or asked anew, between the two looks
		}
		if err != nil {
			return first, p50, p95, fail("read latency", err)
		}
		*want.at = moment(at)
	}
	return first, p50, p95, nil
}
