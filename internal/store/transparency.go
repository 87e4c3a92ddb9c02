package store

import (
	"context"

	"github.com/musterhq/muster/internal/errs"
)

// TransparencyEpoch returns the epoch of which a node's links for its owner must be.
// NotFound without such a node, or if it is gone.
func (s *Store) TransparencyEpoch(ctx context.Context, nodeID string) (epoch int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT transparency_epoch FROM node WHERE id = $1 AND gone_at = 0`, text(nodeID)).Scan(&epoch)
	return epoch, fail("read the epoch of a node's links", missing(err, noNode))
}

// RevokeTransparency begins another epoch, which ends all links that there are.
// NotFound as TransparencyEpoch.
func (s *Store) RevokeTransparency(ctx context.Context, nodeID string) error {
	return fail("revoke a node's links", s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, noNode),
			`UPDATE node SET transparency_epoch = transparency_epoch + 1 WHERE id = $1 AND gone_at = 0`, text(nodeID))
	}))
}
