package change

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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
	// People returns how many people may approve.
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
	// May is how far the author's roles reach; nil for any.
	May *Authority
	// Expect is the hash of the change as it was planned; another is a Conflict.
	// "" takes what there is.
	Expect string
}

// Authority is how far somebody's changes may reach.
type Authority struct {
	Tier   policy.Tier // the highest of what they bring to agents
	Govern bool        // they may edit what governs
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
