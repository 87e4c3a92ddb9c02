package change

import (
	"context"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Approve gives a person's consent. The hash must be the change's, so that what
// somebody read is what they approve. The last approval that is needed applies
// the change, unless a freeze holds; then Apply does later.
func (s *Service) Approve(ctx context.Context, id, by, hash string) (Change, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	c, err := s.open(ctx, id)
	if err != nil {
		return c, err
	}
	for reason, bad := range map[string]bool{
		"you proposed it yourself; somebody else must approve it": c.Author == by,
		"you approved it before":                                  slices.ContainsFunc(c.Approvals, func(a Approval) bool { return a.By == by }),
	} {
		if bad {
			if err := s.Audit.Refused(ctx, by, "change.approve", id, reason, nil); err != nil {
				return c, err
			}
			return c, errs.New(errs.Forbidden, "%s", reason)
		}
	}
	if hash != c.Hash {
		return c, errs.New(errs.Conflict, "the hash is not that of the change, which is %s; read the change again", c.Hash)
	}
	if err := s.Audit.Record(ctx, by, "change.approve", id, map[string]any{"hash": c.Hash}); err != nil {
		return c, err
	}
	was := c.State
	c.Approvals = append(slices.Clone(c.Approvals), Approval{by, s.Now().UTC(), hash})
	if len(c.Approvals) >= c.Needed {
		c.State = Approved
	}
	if err := s.Store.SaveChange(ctx, c, was); err != nil || c.State != Approved {
		return c, err
	}
	if _, frozen := s.Freezer.Frozen(); frozen {
		return c, nil
	}
	return s.apply(ctx, c, by)
}

// Apply makes a revision of a change that is approved, as after a freeze.
func (s *Service) Apply(ctx context.Context, id, by string) (Change, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	c, err := s.open(ctx, id)
	if err != nil {
		return c, err
	}
	if len(c.Approvals) < c.Needed {
		return c, errs.New(errs.Conflict, "%d of %d approvals are there", len(c.Approvals), c.Needed)
	}
	return s.apply(ctx, c, by)
}

// apply judges a kept change once more, by what holds now, and commits it.
func (s *Service) apply(ctx context.Context, c Change, by string) (Change, error) {
	plan, err := s.replan(ctx, c)
	if err != nil {
		return c, err
	}
	if plan.State == Stale {
		return plan.Change, s.close(ctx, plan.Change, c.State, by, Stale, "what it edits changed meanwhile; propose it again")
	}
	if plan.State == Refused {
		return plan.Change, s.refuse(ctx, by, "change.apply", plan.Change)
	}
	if len(c.Approvals) < plan.Needed {
		return c, errs.New(errs.Conflict, "%s asks for %d approvals now; %d are there", plan.Rule, plan.Needed, len(c.Approvals))
	}
	if err := s.Audit.Record(ctx, by, "change.apply", c.ID, summary(plan.Change)); err != nil {
		return c, err
	}
	plan.DecidedBy = by
	return s.commit(ctx, plan, c.State)
}

// Reject refuses a change for good.
func (s *Service) Reject(ctx context.Context, id, by, reason string) (Change, error) {
	return s.end(ctx, id, by, Rejected, reason)
}

// Withdraw takes one's own change back.
func (s *Service) Withdraw(ctx context.Context, id, by, reason string) (Change, error) {
	return s.end(ctx, id, by, Withdrawn, reason)
}

func (s *Service) end(ctx context.Context, id, by string, to State, reason string) (Change, error) {
	if strings.TrimSpace(reason) == "" {
		return Change{}, errs.Field("reason", "is missing; write why, as with -m")
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	c, err := s.open(ctx, id)
	if err != nil {
		return c, err
	}
	if to == Withdrawn && c.Author != by {
		reason := c.Author + " proposed it; reject it instead"
		if err := s.Audit.Refused(ctx, by, "change.withdraw", id, reason, nil); err != nil {
			return c, err
		}
		return c, errs.New(errs.Forbidden, "%s", reason)
	}
	was := c.State
	if err := s.Audit.Record(ctx, by, "change."+verb(to), id, map[string]string{"reason": reason, "hash": c.Hash}); err != nil {
		return c, err
	}
	c.State, c.DecidedBy, c.DecidedAt, c.Decision = to, by, s.Now().UTC(), reason
	return c, s.Store.SaveChange(ctx, c, was)
}

func verb(s State) string {
	if s == Rejected {
		return "reject"
	}
	return "withdraw"
}

// close ends a change by itself and says why.
func (s *Service) close(ctx context.Context, c Change, was State, by string, to State, reason string) error {
	if err := s.Audit.Record(ctx, by, "change."+string(to), c.ID, map[string]string{"reason": reason}); err != nil {
		return err
	}
	c.State, c.DecidedBy, c.DecidedAt, c.Decision = to, by, s.Now().UTC(), reason
	if err := s.Store.SaveChange(ctx, c, was); err != nil {
		return err
	}
	return errs.New(errs.Conflict, "%s", reason)
}

func (s *Service) open(ctx context.Context, id string) (Change, error) {
	c, err := s.Store.Change(ctx, id)
	if err == nil && !c.State.Open() {
		err = errs.New(errs.Conflict, "change %s is %s", id, c.State)
	}
	return c, err
}
