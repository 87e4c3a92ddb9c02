// Package trigger is about questions that nobody types: what something outside,
// or a rule, makes one node answer (triggers), and what every node answers once
// after it enrolled (enrollment queries). Both are resources; what starts is a
// live query.
package trigger

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// PurposeToken is what the tokens of triggers are hashed for.
const PurposeToken = "trigger_token"

// limit is the highest tier that a finished text may have, as for people without
// a reason.
const limit = policy.Sensitive

// Store keeps what fired.
type Store interface {
	// Fired returns what a trigger started since a time, the newest first: to the
	// node or, if dedup is not "", by that. Of what was noted only what became a
	// live query counts.
	Fired(ctx context.Context, f FiredFilter) ([]Firing, error)
	// SaveFiring keeps a firing; its live query need not be there yet.
	SaveFiring(ctx context.Context, f Firing) error
	// PruneFirings drops firings from before a time.
	PruneFirings(ctx context.Context, before time.Time) error
}

// Firing is one live query that a trigger started.
type Firing struct {
	Trigger    string
	NodeID     string
	LiveID     string
	Dedup      string // hash of what makes two the same
	ReceivedAt time.Time
}

// FiredFilter selects firings of a trigger.
type FiredFilter struct {
	Trigger string
	Since   time.Time
	Dedup   string // only of that; "" for all
	Limit   int
}

// Finder finds nodes by what they had at a time.
type Finder interface {
	Who(ctx context.Context, w node.Who) ([]node.Sighting, error)
}

// Registry knows the nodes that are there; see node.Registry.
type Registry interface {
	Lookup(id string) *node.Identity
}

// Starter starts live queries; see live.Coordinator.
type Starter interface {
	Start(ctx context.Context, q live.Query, nodes []*node.Identity) (live.Query, error)
}

// Recorder is the audit log.
type Recorder interface {
	Record(ctx context.Context, actor, action, target string, detail any) error
	Refused(ctx context.Context, actor, action, target, reason string, detail any) error
}

// Options are what a Service needs. All are required.
type Options struct {
	Store    Store
	Finder   Finder
	Registry Registry
	Live     Starter
	Catalog  *resource.Catalog
	Policy   *policy.Engine // the shipped one
	Audit    Recorder
	Log      *slog.Logger
	Now      func() time.Time
}

// Service fires triggers. Safe for concurrent use.
type Service struct {
	Options

	mu    sync.Mutex
	turns map[string]*sync.Mutex // by trigger: who counts and starts is alone
}

// NewService returns a Service.
func NewService(o Options) *Service { return &Service{Options: o, turns: map[string]*sync.Mutex{}} }

// Result is what became of a payload.
type Result struct {
	LiveID string
	NodeID string
	// Duplicate says that the same started LiveID before, and nothing now.
	Duplicate bool
}

// Request asks to fire a trigger.
type Request struct {
	Trigger string
	Payload Payload
	// Actor is who is written into the audit log: ActorOf for the trigger itself,
	// a person's name, a rule's.
	Actor      string
	ReceivedAt time.Time
}

// ActorOf returns the actor of what a trigger does by itself.
func ActorOf(name string) string { return "trigger:" + name }

// Lookup returns a trigger as it is served, whichever revision has it; nil
// without one.
func (s *Service) Lookup(name string) *resource.TriggerPlan {
	plan := s.Catalog.Plan()
	if t := plan.Newest().Trigger(name); t != nil {
		return t
	}
	return plan.Base.Trigger(name)
}

// Fire starts the live query that a payload asks for. The errors say what a
// sender can do: NotFound for a node that nobody knows, Conflict if several fit,
// Forbidden for a node or a text that may not be asked, Busy over a limit,
// Invalid for a payload that does not fit.
func (s *Service) Fire(ctx context.Context, r Request) (Result, error) {
	out, err := s.fire(ctx, r)
	if err != nil && !errs.Is(err, errs.Internal) {
		reason := ""
		if known := errs.KindOf(err); known != errs.Internal {
			reason = err.Error()
		}
		if err := s.Audit.Refused(ctx, r.Actor, "trigger.fire", r.Trigger, reason, nil); err != nil {
			return Result{}, err
		}
	}
	return out, err
}

func (s *Service) fire(ctx context.Context, r Request) (Result, error) {
	asked := s.Lookup(r.Trigger)
	if asked == nil {
		return Result{}, errs.New(errs.NotFound, "there is no trigger %s", r.Trigger)
	}
	n, err := s.find(ctx, asked, r)
	if err != nil {
		return Result{}, err
	}
	// While another revision rolls out, the node's own says what it may be asked.
	t := s.Catalog.Snapshot(n).Trigger(r.Trigger)
	safe := s.Catalog.Plan().Safe
	switch {
	case n.Quarantined:
		return Result{}, errs.New(errs.Forbidden, "the node is under quarantine; it is asked nothing")
	case safe != nil && safe(n):
		return Result{}, errs.New(errs.Forbidden, "the node is served the safe config in an emergency; it is asked nothing")
	case t == nil:
		return Result{}, errs.New(errs.Forbidden, "the trigger is not for that node yet: its revision rolls out")
	case !t.Means(n):
		return Result{}, errs.New(errs.Forbidden, "the trigger's selector does not mean that node")
	}
	sql, tier, err := s.text(t, r.Payload)
	if err != nil {
		return Result{}, err
	}
	dedup, err := dedupOf(t, n.ID, sql, r.Payload)
	if err != nil {
		return Result{}, err
	}
	return s.start(ctx, t, n, r, live.Query{
		ID: ident.New(), Kind: live.Trigger, Source: t.Name, SQL: sql, Tier: int(tier), Selector: node.Selector{Nodes: []string{n.ID}},
		CreatedBy: r.Actor, ExpiresAt: s.Now().Add(t.ExpiresAfter()),
	}, dedup)
}

// start counts, then starts. One payload of a trigger is at it at a time, so that
// none gets past a limit beside another.
func (s *Service) start(ctx context.Context, t *resource.TriggerPlan, n *node.Identity, r Request, q live.Query, dedup string) (Result, error) {
	turn := s.turn(t.Name)
	turn.Lock()
	defer turn.Unlock()
	now := s.Now()
	if window := time.Duration(t.Dedup.Window); window > 0 {
		same, err := s.Store.Fired(ctx, FiredFilter{Trigger: t.Name, Since: now.Add(-window), Dedup: dedup, Limit: 1})
		if err != nil {
			return Result{}, err
		}
		if len(same) > 0 {
			return Result{LiveID: same[0].LiveID, NodeID: same[0].NodeID, Duplicate: true}, nil
		}
	}
	if err := s.countLimits(ctx, t, n.ID, now); err != nil {
		return Result{}, err
	}
	detail := map[string]any{"trigger": t.Name, "node_id": n.ID, "sql": q.SQL, "tier": q.Tier, "received_at": r.ReceivedAt.UTC()}
	if err := s.Audit.Record(ctx, r.Actor, "trigger.fire", q.ID, detail); err != nil {
		return Result{}, err
	}
	err := s.Store.SaveFiring(ctx, Firing{Trigger: t.Name, NodeID: n.ID, LiveID: q.ID, Dedup: dedup, ReceivedAt: r.ReceivedAt})
	if err != nil {
		return Result{}, err
	}
	if _, err := s.Live.Start(ctx, q, []*node.Identity{n}); err != nil {
		return Result{}, fmt.Errorf("start the query of trigger %s: %w", t.Name, err)
	}
	return Result{LiveID: q.ID, NodeID: n.ID}, nil
}

func (s *Service) countLimits(ctx context.Context, t *resource.TriggerPlan, nodeID string, now time.Time) error {
	fired, err := s.Store.Fired(ctx, FiredFilter{Trigger: t.Name, Since: now.Add(-time.Minute), Limit: t.Total})
	if err != nil {
		return err
	}
	mine := 0
	for _, f := range fired {
		if f.NodeID == nodeID {
			mine++
		}
	}
	switch {
	case len(fired) >= t.Total:
		return errs.New(errs.Busy, "the trigger started %d queries within a minute; that is its limit", t.Total)
	case mine >= t.PerNode:
		return errs.New(errs.Busy, "the trigger started %d queries to that node within a minute; that is its limit", t.PerNode)
	}
	return nil
}

// turn returns the lock of a trigger. There are as many as triggers, which are
// resources.
func (s *Service) turn(name string) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns[name] == nil {
		s.turns[name] = new(sync.Mutex)
	}
	return s.turns[name]
}

// text binds the parameters and judges what came out: a value may make a text of
// a higher tier than the template has.
func (s *Service) text(t *resource.TriggerPlan, p Payload) (string, policy.Tier, error) {
	values := make(map[string]string, len(t.Parameters))
	for name, parameter := range t.Parameters {
		v, err := p.text(parameter.Path)
		if err != nil {
			return "", 0, errs.Field("parameters."+name, "%v", err)
		}
		values[name] = v
	}
	sql, err := t.Template.Render(values)
	if err != nil {
		return "", 0, err
	}
	set := s.Catalog.Plan().Newest().Set()
	engine, err := s.Policy.With(set.Rules(s.Now()))
	if err != nil {
		return "", 0, err
	}
	defer engine.Close() //nolint:errcheck // it holds memory only
	v := engine.Query(policy.Query{SQL: sql, Use: policy.Live})
	if !v.Provable() || v.Tier > limit {
		why := "it could not be proven harmless"
		if len(v.Reasons) > 0 {
			why = fmt.Sprintf("%s %s: %s", v.Reasons[0].Kind, v.Reasons[0].Name, v.Reasons[0].Why)
		}
		return "", 0, errs.New(errs.Forbidden, "the policy refuses what the payload makes of the query: %s", why)
	}
	if why := refused(set, live.Trigger, v); why != "" {
		return "", 0, errs.New(errs.Forbidden, "the policy refuses what the payload makes of the query: %s", why)
	}
	return sql, v.Tier, nil
}

// refused says why the live policies of a set let nobody be asked; "" if they do.
// One node is asked at a time. There is no person to give a reason or to find
// somebody who agrees, so a rule that wants either refuses.
func refused(set *resource.Set, kind live.Kind, v policy.Verdict) string {
	d := set.Decide(kind, v.Tier, v.Exception != "", v.Provable(), 1)
	switch d.Require {
	case resource.RequireRun:
		return ""
	case resource.RequireReason, resource.RequireApproval:
		return d.Why + " requires " + d.Require + ", and there is nobody to give it"
	}
	return d.Why
}

// maxSightings is how many nodes are looked at to find the one that is meant.
const maxSightings = 20

// find returns the node that a payload means.
func (s *Service) find(ctx context.Context, t *resource.TriggerPlan, r Request) (*node.Identity, error) {
	value, err := r.Payload.text(t.Node.Path)
	if err != nil {
		return nil, errs.Field("node.path", "%v", err)
	}
	if t.Node.Match == "id" {
		return s.there(value)
	}
	who := node.Who{Attribute: t.Node.Match, Value: value, At: r.ReceivedAt, Limit: maxSightings}
	if t.Node.At != "" {
		at, err := r.Payload.time(t.Node.At)
		if err != nil {
			return nil, errs.Field("node.at", "%v", err)
		}
		if at.Before(who.At) { // another clock may be before ours
			who.At = at
		}
	}
	sightings, err := s.Finder.Who(ctx, who)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, sighting := range sightings {
		if s.Registry.Lookup(sighting.NodeID) != nil && !slices.Contains(ids, sighting.NodeID) {
			ids = append(ids, sighting.NodeID)
		}
	}
	switch len(ids) {
	case 0:
		return nil, errNoNode()
	case 1:
		return s.there(ids[0])
	}
	return nil, errs.New(errs.Conflict, "%d nodes had that %s at that time; match by something that is one node's alone", len(ids), t.Node.Match)
}

func errNoNode() error {
	return errs.New(errs.NotFound, "no node is known by what the payload says")
}

func (s *Service) there(id string) (*node.Identity, error) {
	n := s.Registry.Lookup(id)
	if n == nil {
		return nil, errNoNode()
	}
	return n, nil
}

// Retention of firings: as long as anybody asks how a trigger does, and far
// longer than any dedup window.
const (
	keepFirings = 30 * 24 * time.Hour
	pruneEvery  = time.Hour
)

// Run drops old firings until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.Store.PruneFirings(ctx, s.Now().Add(-keepFirings)); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "old firings of triggers were not dropped; retrying", "error", err)
		}
	}
}
