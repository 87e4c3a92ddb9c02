package store

import (
	"context"

	"github.com/musterhq/muster/internal/live"
)

// LiveOf returns the live queries that a node was meant by, the newest first.
func (s *Store) LiveOf(ctx context.Context, nodeID string, limit int) ([]live.Asked, error) {
	asked, err := all(ctx, s.read, func(row scanner) (a live.Asked, err error) {
		var created, sent int64
		err = row.Scan(&a.LiveID, &a.SQL, &a.CreatedBy, &created, &sent, &a.State)
		a.CreatedAt, a.SentAt = moment(created), moment(sent)
		return a, err
	}, `
		SELECT l.id, l.sql, l.created_by, l.created_at, t.sent_at, t.state
		FROM live_target t JOIN live l ON l.id = t.live_id
		WHERE t.node_id = $1 ORDER BY l.created_at DESC, l.id LIMIT $2`, text(nodeID), limited(limit))
	return asked, fail("read what a node was asked", err)
}
