package rollout

import (
	"context"
	"fmt"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Status is the open rollout and how far it is, as this server sees it.
type Status struct {
	Rollout
	Nodes    int // all that are known and run a revision
	Changed  int // online or heard of lately, that the revision changes; the other counts are of these
	Admitted int // that are to have it, online or not
	Online   int // of Admitted
	Applied  int // of Online: that told that they run it
	Control  int // online and not admitted
	// Frozen is why no stage begins; "" if nothing is frozen.
	Frozen string
	// Served is false as long as this server does not serve the rollout yet.
	Served bool
}

// Status returns the open rollout; NotFound without one. Its results are as of
// now.
func (e *Engine) Status(ctx context.Context) (Status, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.open(ctx)
	if err != nil {
		return Status{}, err
	}
	s := Status{Rollout: *r, Served: e.served(r)}
	if reason, frozen := e.Freezer.Frozen(); frozen {
		s.Frozen = reason
	}
	if !s.Served {
		return s, nil
	}
	results, t, err := e.judge(r, e.Now().UTC())
	if err != nil {
		return s, err
	}
	if !r.Stages[r.Stage].BeganAt.IsZero() {
		s.Results = results
	}
	s.Nodes, s.Changed, s.Admitted = t.nodes, t.stage.nodes+t.control.nodes, t.stage.admitted
	s.Online, s.Applied, s.Control = t.stage.online, t.stage.online-t.stage.told.count, t.control.online
	return s, nil
}

// Advance ends the running stage, whatever its gates say, and begins the next;
// after the last the rollout is done.
func (e *Engine) Advance(ctx context.Context, actor, reason string) error {
	return e.act(ctx, reason, func(r *Rollout) error {
		if why, frozen := e.Freezer.Frozen(); frozen {
			return errs.New(errs.Conflict, "nothing that agents run may change now: %s; going back is possible", why)
		}
		if !e.served(r) {
			return errs.New(errs.Busy, "this server does not serve revision %d yet; try again in some seconds", r.Revision)
		}
		now := e.Now().UTC()
		if r.Stages[r.Stage].BeganAt.IsZero() {
			return e.begin(ctx, r, r.Stage, actor, reason, now)
		}
		return e.advance(ctx, r, actor, reason, now)
	})
}

// Pause keeps the rollout from moving on. Its nodes keep the revision.
func (e *Engine) Pause(ctx context.Context, actor, reason string) error {
	return e.act(ctx, reason, func(r *Rollout) error {
		if r.State == Paused {
			return errs.New(errs.Conflict, "%s already: %s", r.describe(), r.Reason)
		}
		return e.pause(ctx, r, actor, fmt.Sprintf("%s (%s)", reason, actor))
	})
}

// Resume lets a paused rollout go on. Its stage is watched anew for the whole of
// its bake time, without what it showed before.
func (e *Engine) Resume(ctx context.Context, actor, reason string) error {
	return e.act(ctx, reason, func(r *Rollout) error {
		if r.State != Paused {
			return errs.New(errs.Conflict, "%s; there is nothing to resume", r.describe())
		}
		now := e.Now().UTC()
		err := e.move(ctx, r, actor, "rollout.resume", reason, func() { r.State, r.Reason, r.StageAt = Running, "", now })
		return e.watch(r, err)
	})
}

// Rollback takes the revision back from all nodes. A freeze does not keep from
// it.
func (e *Engine) Rollback(ctx context.Context, actor, reason string) error {
	return e.act(ctx, reason, func(r *Rollout) error {
		r.Results = e.results
		return e.revert(ctx, r, actor, fmt.Sprintf("%s (%s)", reason, actor))
	})
}

// act does what a person wants with the open rollout.
func (e *Engine) act(ctx context.Context, reason string, do func(r *Rollout) error) error {
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; write why, as with -m")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.open(ctx)
	if err != nil {
		return err
	}
	return do(r)
}
