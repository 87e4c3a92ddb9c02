package app

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/rollout"
)

// openLive takes up the live queries that ran when the server stopped.
func (a *App) openLive(ctx context.Context) error {
	a.live = live.NewCoordinator(a.store, a.log, a.now)
	a.live.Tell(func(ctx context.Context, q live.Query) error {
		e := audit.Entry{Actor: rollout.System, Action: "live.hold", Target: q.ID, Reason: q.Held}
		if q.Phase == live.Full {
			e.Action, e.Reason = "live.over_limit", "it gave more than it may in all"
		}
		_, err := a.audit.Append(ctx, e, map[string]any{"counts": q.Counts, "rows": q.Rows, "bytes": q.Bytes, "created_by": q.CreatedBy})
		return err
	})
	return a.live.Load(ctx)
}

// prunePause is between two steps of pruning, so that others may write.
const prunePause = 100 * time.Millisecond

// pruneLive drops live queries that ended long ago.
func (a *App) pruneLive(ctx context.Context) error {
	return a.prune(ctx, "live queries", a.cfg.LiveRetention, a.store.PruneLive)
}

// pruneOnce drops calls that nobody sends again.
func (a *App) pruneOnce(ctx context.Context) error {
	return a.prune(ctx, "calls that are done once", account.OnceFor, a.store.PruneOnce)
}

// prune drops, again and again until ctx ends, what is older than it is to be kept;
// 0 is for ever. A step tells whether there is more; one that fails is logged and
// tried again.
func (a *App) prune(ctx context.Context, what string, keep time.Duration, step func(ctx context.Context, before time.Time) (more bool, err error)) error {
	if keep == 0 {
		return nil
	}
	t := time.NewTimer(pruneEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		more, err := step(ctx, a.now().Add(-keep))
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "what is old was not pruned; retrying", "what", what, "error", err)
		}
		if more && err == nil {
			t.Reset(prunePause)
		} else {
			t.Reset(pruneEvery)
		}
	}
}
