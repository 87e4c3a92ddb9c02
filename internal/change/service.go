package change

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// Limit is the highest tier that may run without an exception.
const Limit = policy.Sensitive

// Nodes yields the nodes that are known; see node.Registry.
type Nodes interface {
	All(yield func(*node.Identity) bool)
}

// Pricer knows what queries cost; see rollout.Monitor.
type Pricer interface {
	// Cost returns what a query costs, by its name on agents and the hash of its
	// text; false without evidence.
	Cost(agentName, sqlHash string) (rollout.Cost, bool)
}

// Options of a Service. All are required.
type Options struct {
	Store     Store
	Engine    *policy.Engine // the shipped policy
	Nodes     Nodes
	Pricer    Pricer
	Freezer   *Freezer
	Publisher *Publisher
	Audit     Recorder
	// People returns how many people there are, who may all approve.
	People func(ctx context.Context) (int, error)
	Now    func() time.Time
}

// Service makes changes. Safe for concurrent use.
type Service struct {
	Options

	// applying lets one change become a revision at a time, so that each is judged
	// against what it is put upon. Another server's is found by the store.
	applying sync.Mutex
	// planning lets one dry run be judged at a time, beside that: however many
	// there are, and however large, they must not hold up going back.
	planning sync.Mutex
}

// NewService returns a Service.
func NewService(o Options) *Service { return &Service{Options: o} }

// Proposal is what somebody wants.
type Proposal struct {
	Author  string
	Message string
	Objects []resource.Object
	Delete  []resource.Key
	// Prune deletes all objects that are not among Objects.
	Prune  bool
	DryRun bool
	// Expect is the hash of the change as it was planned; another is a Conflict.
	// "" takes what there is.
	Expect string
}

// Propose plans a change and, unless it is a dry run, applies it or keeps it
// until it is approved. A change that is refused is returned with its refusals
// beside an error of kind Forbidden, or without an error in a dry run. Nothing is
// changed by halves.
func (s *Service) Propose(ctx context.Context, p Proposal) (Change, error) {
	turn := &s.applying
	if p.DryRun {
		turn = &s.planning
	}
	turn.Lock()
	defer turn.Unlock()
	plan, err := s.plan(ctx, p)
	if err != nil {
		return Change{}, err
	}
	c := &plan.Change
	if p.Expect != "" && p.Expect != c.Hash {
		return *c, errs.New(errs.Conflict, "what the change does is not what was planned: resources changed meanwhile; plan again")
	}
	if p.DryRun || c.State == Unchanged {
		return *c, nil
	}
	if c.State == Refused {
		return *c, s.refuse(ctx, p.Author, "change.apply", *c)
	}
	if strings.TrimSpace(p.Message) == "" {
		return *c, errs.Field("message", "is missing; write why, as with -m")
	}
	if had, err := s.waiting(ctx, c.Hash); err != nil || had != nil {
		if had != nil && had.Needed == 0 && c.Needed == 0 {
			return s.apply(ctx, *had, p.Author) // it waits for nobody: a crash kept it from being applied
		}
		return *cmp.Or(had, c), err
	}
	action := "change.propose"
	if c.Needed == 0 {
		action = "change.apply"
	}
	if err := s.Audit.Record(ctx, p.Author, action, c.Hash, summary(*c)); err != nil {
		return *c, err
	}
	c.State = Pending
	kept, err := s.Store.CreateChange(ctx, *c)
	if err != nil {
		return *c, err
	}
	plan.Change = kept
	if kept.Needed > 0 {
		return kept, nil
	}
	return s.commit(ctx, plan, Pending)
}

// waiting returns the open change with a hash, nil if there is none: a pipeline
// that runs twice asks for one approval, not for two.
func (s *Service) waiting(ctx context.Context, hash string) (*Change, error) {
	for _, state := range []State{Pending, Approved} {
		changes, err := s.Store.ListChanges(ctx, state, "", maxWaiting)
		if err != nil {
			return nil, err
		}
		for i := range changes {
			if changes[i].Hash == hash {
				return &changes[i], nil
			}
		}
	}
	return nil, nil //nolint:nilnil // none waits
}

// maxWaiting is more than anybody lets wait.
const maxWaiting = 200

// refuse records that a change was refused, and says so.
func (s *Service) refuse(ctx context.Context, actor, action string, c Change) error {
	reason := strings.Join(c.Refusals, "; ")
	if err := s.Audit.Refused(ctx, actor, action, cmp.Or(c.ID, c.Hash), reason, summary(c)); err != nil {
		return err
	}
	return errs.New(errs.Forbidden, "the change is refused: %s", reason)
}

// maxSummary bounds the edits that an audit entry names, which has room for some
// 400; the hash binds all of them.
const maxSummary = 250

// summary is what the audit log says of a change.
func summary(c Change) map[string]any {
	edits := []string{}
	for _, e := range c.Edits[:min(len(c.Edits), maxSummary)] {
		edits = append(edits, fmt.Sprintf("%s %s %s", e.Op, e.Key, e.After))
	}
	return map[string]any{
		"id": c.ID, "hash": c.Hash, "reason": c.Message, "base": c.Base, "tier": c.Tier, "edits": edits, "more_edits": len(c.Edits) - len(edits),
		"nodes": c.Effect.Nodes, "needed": c.Needed, "approvals": append([]Approval{}, c.Approvals...), "rollout": c.Rollout,
	}
}

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

// commit makes a revision of a plan.
func (s *Service) commit(ctx context.Context, p *plan, was State) (Change, error) {
	c := p.Change
	rev, objects, err := newRevision(p.head, p.next, s.Now())
	if err != nil {
		return c, err
	}
	rev.ChangeID, rev.Author, rev.Message = c.ID, c.Author, c.Message
	c.State, c.Revision, c.DecidedAt = Applied, rev.Number, s.Now().UTC()
	c.DecidedBy = cmp.Or(c.DecidedBy, c.Author)
	commit := Commit{Revision: rev, Objects: objects, Change: &c, Was: was, Version: p.version}
	if p.policy != nil && c.Effect.Nodes > 0 {
		commit.Opens = rollout.New(rev.Number, p.head.Number, p.rolloutName, p.policy, s.Now())
	}
	if err := s.Store.Commit(ctx, commit); err != nil {
		return p.Change, err
	}
	return c, s.Publisher.Sync(ctx)
}

// newRevision makes a revision upon head.
func newRevision(head Revision, set *resource.Set, now time.Time) (Revision, map[string][]byte, error) {
	rev := Revision{Number: head.Number + 1, Parent: head.Number, Hash: set.Hash(), CreatedAt: now.UTC()}
	objects := map[string][]byte{}
	for o := range set.All() {
		b, err := o.Canonical()
		if err != nil {
			return rev, nil, err
		}
		hash := resource.Hash(b)
		objects[hash] = b
		rev.Objects = append(rev.Objects, Ref{o.Key, hash})
	}
	return rev, objects, nil
}

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
	_, err := s.Restore(ctx, r.Base, System, reason)
	return err
}

// System is the actor of what Muster does by itself.
const System = "system"

// Set returns a revision with its objects; 0 is the newest.
func (s *Service) Set(ctx context.Context, number int64) (Revision, *resource.Set, error) {
	rev, err := s.revision(ctx, number)
	if err != nil {
		return rev, nil, err
	}
	set, err := s.load(ctx, rev)
	return rev, set, err
}

func (s *Service) revision(ctx context.Context, number int64) (Revision, error) {
	if number == 0 {
		head, err := s.Store.Head(ctx)
		if err != nil {
			return head, err
		}
		number = head.Number
	}
	return s.Store.Revision(ctx, number)
}

func (s *Service) load(ctx context.Context, rev Revision) (*resource.Set, error) {
	return loadSet(ctx, s.Store, rev)
}

func loadSet(ctx context.Context, store Revisions, rev Revision) (*resource.Set, error) {
	hashes := make([]string, 0, len(rev.Objects))
	for _, r := range rev.Objects {
		hashes = append(hashes, r.Hash)
	}
	bodies, err := store.Objects(ctx, hashes)
	if err != nil {
		return nil, err
	}
	objects := make([]resource.Object, 0, len(rev.Objects))
	for _, r := range rev.Objects {
		o, err := resource.Decode(bodies[r.Hash])
		if err != nil {
			return nil, fmt.Errorf("revision %d: %w", rev.Number, err)
		}
		objects = append(objects, o)
	}
	set, err := resource.NewSet(objects)
	if err == nil && set.Hash() != rev.Hash {
		err = fmt.Errorf("revision %d: its content does not have its hash; the database was changed", rev.Number) //nolint:err113 // nobody acts on it
	}
	return set, err
}

// editsHash is the hash that approvals bind.
func editsHash(edits []resource.Edit) (string, error) {
	b, err := json.Marshal(edits)
	return resource.Hash(b), err
}
