package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// Restore brings back what nodes ran under an earlier revision.
//
// The base of the rollout that is open, and for a day the revision right before
// the newest, come back for every node at once, whatever approvals and freezes
// say: that is the way out of a bad revision. The rules by which changes are
// judged, which are objects too, stay as they are, so that going back is no way
// around them. Anything else is a change like others, and may have to wait for
// approvals, which is a Conflict.
func (s *Service) Restore(ctx context.Context, number int64, by, reason string) (Revision, error) {
	if strings.TrimSpace(reason) == "" {
		return Revision{}, errs.Field("message", "is missing; write why, as with -m")
	}
	_, set, err := s.Set(ctx, number)
	if err != nil {
		return Revision{}, err
	}
	// A rollout that moves on meanwhile, here or on another server, must not keep
	// anybody from going back.
	for range restoreTries {
		var next Revision
		next, err = s.back(ctx, number, set, by, reason)
		switch {
		case err == nil:
			return next, nil
		case errors.Is(err, errNotBack):
			return s.restoreByChange(ctx, number, set, by, reason)
		case !errs.Is(err, errs.Conflict):
			return Revision{}, err
		}
	}
	return Revision{}, err
}

const restoreTries = 5

// restoreByChange proposes what an older revision held.
func (s *Service) restoreByChange(ctx context.Context, number int64, set *resource.Set, by, reason string) (Revision, error) {
	c, err := s.Propose(ctx, Proposal{
		Author: by, Message: fmt.Sprintf("restore revision %d: %s", number, reason), Objects: slices.Collect(set.All()), Prune: true,
	})
	switch {
	case err != nil:
		return Revision{}, err
	case c.State == Unchanged:
		return Revision{}, errs.New(errs.Conflict, "the newest revision has the content of revision %d", number)
	case c.State != Applied:
		return Revision{}, errs.New(errs.Conflict, "change %s brings revision %d back, and waits for %d approvals (%s)", c.ID, number, c.Needed, c.Rule)
	}
	return s.Store.Revision(ctx, c.Revision)
}

// errNotBack means that a revision is too old to come back at once.
var errNotBack = errors.New("not what ran just before")

// backFor is how long the revision before the newest may come back at once.
const backFor = 24 * time.Hour

// back brings back what ran just before, at once.
func (s *Service) back(ctx context.Context, number int64, set *resource.Set, by, reason string) (Revision, error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	serving, err := s.Store.Serving(ctx)
	if err != nil {
		return Revision{}, err
	}
	head, r := serving.Head, serving.Rollout
	age := s.Now().Sub(head.CreatedAt)
	switch {
	case r != nil && r.Base == number:
	case r == nil && head.Parent == number && head.Restores == 0 && age < backFor && age > -clockSkew:
	default:
		return Revision{}, errNotBack
	}
	newest, err := s.load(ctx, head)
	if err != nil {
		return Revision{}, err
	}
	if set, err = underRules(set, newest); err != nil {
		return Revision{}, err
	}
	if r == nil { // while it rolls out, the other nodes still run it
		if err := s.judgeBack(set); err != nil {
			return Revision{}, err
		}
	}
	detail := map[string]any{"revision": number, "hash": set.Hash(), "reason": reason, "head": head.Number}
	if err := s.Audit.Record(ctx, by, "revision.restore", fmt.Sprint(number), detail); err != nil {
		return Revision{}, err
	}
	next, objects, err := newRevision(head, set, s.Now())
	if err != nil {
		return Revision{}, err
	}
	next.Author, next.Message, next.Restores = by, reason, number
	commit := Commit{Revision: next, Objects: objects}
	if r != nil {
		closed := *r
		closed.State, closed.Reason, closed.EndedAt = rollout.RolledBack, reason, s.Now().UTC()
		commit.Closes = &closed
	}
	if err := s.Store.Commit(ctx, commit); err != nil {
		return Revision{}, err
	}
	return next, s.Publisher.Sync(ctx)
}

// judgeBack reports whether the policy still lets a set run.
func (s *Service) judgeBack(set *resource.Set) error {
	report, err := resource.Check(set, s.Engine, s.Now())
	if err == nil && len(report.Refused(Limit)) > 0 {
		err = errNotBack
	}
	return err
}

// underRules returns what nodes run by one set, with the objects of another that
// govern changes.
func underRules(set, newest *resource.Set) (*resource.Set, error) {
	var objects []resource.Object
	for _, from := range []struct {
		set     *resource.Set
		governs bool
	}{{set, false}, {newest, true}} {
		for o := range from.set.All() {
			if kind, _ := resource.LookupKind(o.Kind); kind.Governs == from.governs {
				objects = append(objects, o)
			}
		}
	}
	return resource.NewSet(objects)
}

// Revert implements rollout.Reverter: it ends a rollout by restoring its base.
func (s *Service) Revert(ctx context.Context, r *rollout.Rollout, reason string) error {
	_, err := s.Restore(ctx, r.Base, rollout.System, reason)
	return err
}
