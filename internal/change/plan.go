package change

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// plan is a change with what it is made of.
type plan struct {
	Change

	head          Revision
	current, next *resource.Set
	before, after *resource.Snapshot
	policy        *resource.RolloutPolicy // nil: at once
	rolloutName   string
	may           *Authority
	version       int64 // the serving version of the moment that was judged
}

// plan judges a proposal against the head.
func (s *Service) plan(ctx context.Context, p Proposal) (*plan, error) {
	head, current, err := s.Set(ctx, 0)
	if err != nil {
		return nil, err
	}
	deleted := slices.Clone(p.Delete)
	if p.Prune {
		deleted = append(deleted, missing(current, p.Objects)...)
	}
	next, err := current.With(p.Objects, deleted)
	if err != nil {
		return nil, err
	}
	c := Change{State: Planned, Author: p.Author, Message: p.Message, CreatedAt: s.Now().UTC(), Base: head.Number}
	return s.judge(ctx, &plan{Change: c, head: head, current: current, next: next, may: p.May})
}

// missing returns the keys of a set that are not among some objects.
func missing(set *resource.Set, objects []resource.Object) []resource.Key {
	given := map[resource.Key]bool{}
	for _, o := range objects {
		given[o.Key] = true
	}
	var keys []resource.Key
	for o := range set.All() {
		if !given[o.Key] {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

// replan judges a kept change against the head of now. What it edits must be as
// it was.
func (s *Service) replan(ctx context.Context, c Change) (*plan, error) {
	head, current, err := s.Set(ctx, 0)
	if err != nil {
		return nil, err
	}
	var objects []resource.Object
	var deleted []resource.Key
	for _, e := range c.Edits {
		if current.HashOf(e.Key) != e.Before {
			c.State = Stale
			return &plan{Change: c}, nil
		}
		if e.Op == resource.Delete {
			deleted = append(deleted, e.Key)
			continue
		}
		o, err := resource.Decode(e.Object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	next, err := current.With(objects, deleted)
	if err != nil {
		return nil, err
	}
	hash, was := c.Hash, c.State
	p, err := s.judge(ctx, &plan{Change: c, head: head, current: current, next: next})
	if err != nil {
		return nil, err
	}
	if p.Hash != hash {
		return nil, errs.New(errs.Conflict, "the change is not what was approved; propose it again")
	}
	if p.State == Planned {
		p.State = was
	}
	return p, nil
}

// judge fills in all that is known of a change.
func (s *Service) judge(ctx context.Context, p *plan) (*plan, error) {
	var err error
	if p.Edits, err = p.current.Diff(p.next); err != nil {
		return nil, err
	}
	if p.Hash, err = editsHash(p.Edits); err != nil {
		return nil, err
	}
	if len(p.Edits) == 0 {
		p.State = Unchanged
		return p, nil
	}
	p.Refusals = nil
	report, err := resource.Check(p.next, s.Engine, s.Now())
	if err != nil {
		return nil, err
	}
	if err := s.judgeItems(p, report); err != nil {
		return nil, err
	}
	if p.before, err = resource.Compile(p.head.Number, p.current); err != nil {
		return nil, err
	}
	if p.after, err = resource.Compile(p.head.Number+1, p.next); err == nil {
		err = s.judgeEffect(p)
	}
	if err != nil && len(p.Refusals) == 0 { // a set that was refused need not compile
		return nil, err
	}
	s.judgeApprovals(p)
	s.chooseRollout(p)
	if err := s.judgeLockout(ctx, p); err != nil {
		return nil, err
	}
	// What must be approved first is not applied now, so that the moment does not
	// count yet.
	if p.Needed == 0 || p.ID != "" {
		if err := s.judgeMoment(ctx, p); err != nil {
			return nil, err
		}
	}
	p.State = Planned
	if len(p.Refusals) > 0 {
		p.State = Refused
	}
	return p, nil
}

func (p *plan) refuse(format string, args ...any) {
	p.Refusals = append(p.Refusals, fmt.Sprintf(format, args...))
}

// maxRefusals bounds how much a refusal says; the items say all.
const maxRefusals = 20

// judgeAuthor refuses what the author's roles do not reach. It comes before what
// governs raises the tier.
func (p *plan) judgeAuthor(governs bool) {
	switch may := p.may; {
	case may == nil:
	case governs && !may.Govern:
		p.refuse("your roles do not let you edit what governs: policies, roles, approvals and the like need the permission govern.write")
	case p.Tier > may.Tier:
		p.refuse("your roles let you bring agents what has tier %s; this has tier %s", may.Tier, p.Tier)
	}
}

func (s *Service) judgeItems(p *plan, report resource.Report) error {
	edited := []resource.Key{}
	governs := false
	for _, e := range p.Edits {
		edited = append(edited, e.Key)
		kind, _ := resource.LookupKind(e.Kind)
		governs = governs || kind.Governs || e.Kind == onDiskKind
	}
	p.Tier = report.Tier(edited)
	if err := s.judgeReplaced(p); err != nil {
		return err
	}
	p.judgeAuthor(governs)
	if governs {
		p.Tier = policy.Dangerous // who changes the rules can do what they forbid
	}
	p.Items = []resource.Item{}
	for _, item := range report.Items {
		allowed := item.Allowed(Limit)
		if slices.Contains(edited, item.Key) || !allowed {
			p.Items = append(p.Items, item)
		}
		if !allowed && len(p.Refusals) < maxRefusals {
			p.refuse("%s", sentence(item))
		}
	}
	return nil
}

// onDiskKind governs too: its nodes are served nothing to run. Unlike what else
// governs it is in what a node runs, so that going back undoes it.
const onDiskKind = "OnDisk"

// judgeReplaced gives the change the tier of what it takes away, with an object or
// out of one: who removes what sees blinds.
func (s *Service) judgeReplaced(p *plan) error {
	var replaced []resource.Key
	for _, e := range p.Edits {
		if e.Op != resource.Create {
			replaced = append(replaced, e.Key)
		}
	}
	if len(replaced) == 0 {
		return nil
	}
	report, err := resource.Check(p.current, s.Engine, s.Now())
	p.Tier = max(p.Tier, report.Tier(replaced))
	return err
}

// sentence says why an item is refused, and what to do.
func sentence(i resource.Item) string {
	where := i.String()
	if i.Path != "" {
		where += " " + i.Path
	}
	for _, f := range i.Verdict.Findings {
		if f.Severity == policy.Refused {
			return where + ": " + f.Message
		}
	}
	why := "it needs a PolicyException that names it"
	if len(i.Verdict.Reasons) > 0 {
		r := i.Verdict.Reasons[0]
		why = fmt.Sprintf("%s %s: %s", r.Kind, r.Name, r.Why)
	}
	return fmt.Sprintf("%s has tier %s (%s); allow it by a PolicyException, or change it", where, i.Verdict.Tier, why)
}

// sample bounds the ids that an Effect names.
const sample = 10

// judgeEffect finds whose config becomes another, and what schedules cost.
func (s *Service) judgeEffect(p *plan) error {
	e := Effect{Platforms: map[string]int{}, Sample: []string{}, Unpriced: s.unpriced(p)}
	now := s.Now()
	budgets := budgets(p.next)
	var failed error
	priced := map[string]rollout.Day{}
	for n := range s.Nodes.All {
		before, errBefore := p.before.Config(n)
		then := p.after.As(n)
		after, errAfter := p.after.Config(then)
		if failed = cmp.Or(errBefore, errAfter); errAfter != nil {
			p.refuse("node %s: %v", n.ID, errAfter)
			break
		} else if failed != nil {
			break
		}
		if before.Hash != after.Hash {
			e.Nodes++
			e.Platforms[cmp.Or(n.Platform, "unknown")]++
			if n.Online(now) {
				e.Online++
			}
			if len(e.Sample) < sample {
				e.Sample = append(e.Sample, n.ID)
			}
			e.Before = e.Before.Max(s.price(p.before, n, priced))
			e.After = e.After.Max(s.price(p.after, then, priced))
		}
		if p.asksOther(n, then) {
			if e.Asked++; before.Hash == after.Hash && len(e.Sample) < sample {
				e.Sample = append(e.Sample, n.ID)
			}
		}
		for _, b := range budgets {
			if b.means(n) || b.means(then) {
				b.judge(p, n, s.price(p.before, n, priced), s.price(p.after, then, priced))
			}
		}
	}
	p.Effect = e
	return failed
}

// asksOther reports whether what reaches a node besides its config becomes
// another.
func (p *plan) asksOther(n, then *node.Identity) bool {
	return p.before.AsksOther(p.before.As(n), p.after, then)
}

func (s *Service) judgeApprovals(p *plan) {
	for k, spec := range resource.Specs[*resource.ApprovalPolicy](p.current) {
		for i, r := range spec.Rules {
			if r.Approvals > p.Needed && int(p.Tier) >= r.Tier && s.fits(p, r) {
				p.Needed, p.Rule = r.Approvals, fmt.Sprintf("%s, rule %d", k, i+1)
			}
		}
	}
}

// judgeLockout refuses rules that nobody could ever meet, not even to change them.
func (s *Service) judgeLockout(ctx context.Context, p *plan) error {
	people, err := s.People(ctx)
	if err != nil {
		return err
	}
	for k, spec := range resource.Specs[*resource.ApprovalPolicy](p.next) {
		for i, r := range spec.Rules {
			if r.Approvals > people-1 {
				p.refuse("%s rules[%d] asks for %d other people; %d may approve in all: make some by muster user create --role operator", k, i, r.Approvals, people)
			}
		}
	}
	return nil
}

// fits reports whether a rule is for the nodes that a change affects. A node that
// the change's tag rules bring under the rule, or out of it, is one of them: else
// who took its tag away first would need nobody for what comes after.
func (s *Service) fits(p *plan, r resource.ApprovalRule) bool {
	if r.NodesOver > 0 && max(p.Effect.Nodes, p.Effect.Asked) <= r.NodesOver {
		return false
	}
	if r.Selector == "" || p.after == nil {
		return true
	}
	w, err := node.ParseWhere("selector", r.Selector)
	if err != nil {
		return true // it was checked; one that cannot be read fits
	}
	for n := range s.Nodes.All {
		then := p.after.As(n)
		was, is := w.Match(p.before.As(n)), w.Match(then)
		if was != is {
			return true
		}
		if !was && !w.Match(n) {
			continue
		}
		if p.asksOther(n, then) {
			return true
		}
		before, errBefore := p.before.Config(n)
		after, errAfter := p.after.Config(then)
		if errBefore != nil || errAfter != nil || before.Hash != after.Hash {
			return true
		}
	}
	return false
}

// chooseRollout finds the policy by which the change rolls out. The one that
// holds now counts, so that no change takes away the stages of its own way.
func (s *Service) chooseRollout(p *plan) {
	for _, set := range []*resource.Set{p.current, p.next} {
		if p.policy == nil {
			p.rolloutName, p.policy = rolloutPolicy(set, p.Tier)
		}
	}
	if p.policy == nil && len(p.Effect.Unpriced) > 0 && len(budgets(p.next)) > 0 {
		p.rolloutName, p.policy = canaryName, canary()
	}
	p.Rollout = ""
	if p.policy != nil && p.Effect.Nodes > 0 {
		p.Rollout = p.rolloutName
	}
}

func rolloutPolicy(set *resource.Set, tier policy.Tier) (name string, best *resource.RolloutPolicy) {
	for k, spec := range resource.Specs[*resource.RolloutPolicy](set) {
		if spec.MinTier <= int(tier) && (best == nil || spec.MinTier > best.MinTier) {
			name, best = k.Name, spec
		}
	}
	return name, best
}

// judgeMoment refuses what is right, but not now.
func (s *Service) judgeMoment(ctx context.Context, p *plan) error {
	serving, err := s.Store.Serving(ctx) // before the freeze is asked for: one that begins after has another version
	if err != nil {
		return err
	}
	p.version = serving.Version
	if reason, frozen := s.Freezer.Frozen(); frozen {
		p.refuse("changes are frozen: %s; muster freeze break asks for break-glass", reason)
	}
	if r := serving.Rollout; r != nil {
		p.refuse("revision %d is still rolling out (%s); finish it, or go back, before the next: muster rollout status", r.Revision, r.State)
	}
	return nil
}

// The way of a query that nobody knows the cost of, where budgets are set and no
// RolloutPolicy says another: one node of each platform first.
const canaryName = "built-in canary"

func canary() *resource.RolloutPolicy {
	return &resource.RolloutPolicy{
		Stages:    []resource.Stage{{Name: "canary", Nodes: 1, Bake: resource.Duration(canaryBake)}, {Name: "all", Selector: "all"}},
		OnFailure: resource.FailureRollback,
	}
}

// unpriced returns the queries that the change brings and that have no evidence.
func (s *Service) unpriced(p *plan) []string {
	var names []string
	for _, e := range p.Edits {
		o, ok := p.next.Get(e.Key)
		if !ok {
			continue
		}
		pack, ok := o.Spec.(*resource.Pack)
		if !ok {
			continue
		}
		for name, q := range pack.Queries {
			agentName := resource.AgentName(o.Name, name)
			if _, ok := s.Pricer.Cost(agentName, policy.Hash(q.Query)); !ok {
				names = append(names, agentName)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
