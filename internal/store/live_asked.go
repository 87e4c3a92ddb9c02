package store

import (
	"context"
	"encoding/json"

	"github.com/musterhq/muster/internal/live"
)

// LiveOf returns the live queries that a node was meant by, the newest first. It
// looks the node up in each query that is kept until there are enough: history is
// read seldom, and an index by node would make each new query to many nodes dear.
func (s *Store) LiveOf(ctx context.Context, nodeID string, limit int) ([]live.Asked, error) {
	asked, err := all(ctx, s.read, func(row scanner) (a live.Asked, err error) {
		var created, sent int64
		var approval string
		if err := row.Scan(&a.LiveID, &a.Kind, &a.Source, &a.SQL, &a.Reason, &a.Tier, &approval, &a.CreatedBy, &created, &sent, &a.State); err != nil {
			return a, err
		}
		a.CreatedAt, a.SentAt = moment(created), moment(sent)
		return a, json.Unmarshal([]byte(approval), &a.Approval)
	}, `
		SELECT l.id, l.kind, l.source, l.sql, l.reason, l.tier, l.approval, l.created_by, l.created_at, t.sent_at, t.state
		FROM live l CROSS JOIN live_target t
		WHERE t.live_id = l.id AND t.node_id = $1 ORDER BY l.created_at DESC, l.id DESC LIMIT $2`, text(nodeID), limited(limit))
	return asked, fail("read what a node was asked", err)
}
