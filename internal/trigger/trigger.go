// Package trigger is about questions that nobody types: what something outside,
// or a rule, makes one node answer (triggers), and what every node answers once
// after it enrolled (enrollment queries). Both are resources; what starts is a
// live query.
package trigger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	// Started reports whether there is a live query of that id.
	Started(ctx context.Context, liveID string) (bool, error)
	// SaveFiring keeps a firing; its live query need not be there yet. One that is
	// kept already stays.
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
	return s.told(ctx, r.Actor, actionFire, r.Trigger, out, err)
}

// Question is what one node is asked, for a trigger or a rule.
type Question struct {
	// Name is what it is counted and limited by: that of the trigger, rule:NAME.
	Name string
	// Source is the live query's.
	Source   string
	Template *policy.Template
	Values   map[string]string // by parameter
	Expires  time.Duration
	// PerNode and Total are how many a minute may start under the name.
	PerNode, Total int
	// Window is how long the same again starts nothing; 0 for none. Same is what
	// makes two the same, besides the name; "": the node and the finished text.
	Window time.Duration
	Same   string
	// Event is the place in the stream of what a rule matched; "" for a trigger. One
	// event asks once, however often it is read.
	Event string

	Actor      string
	ReceivedAt time.Time
}

// Ask asks a node for a rule, with the errors of Fire. The same event again starts
// nothing, also after a crash.
func (s *Service) Ask(ctx context.Context, n *node.Identity, q Question) (Result, error) {
	out, err := s.ask(ctx, n, q, actionAsk)
	return s.told(ctx, q.Actor, actionAsk, q.Name, out, err)
}

// The actions in the audit log.
const (
	actionFire = "trigger.fire"
	actionAsk  = "rule.query"
)

// told writes a refusal into the audit log.
func (s *Service) told(ctx context.Context, actor, action, target string, out Result, err error) (Result, error) {
	if err == nil || errs.Is(err, errs.Internal) {
		return out, err
	}
	if err := s.Audit.Refused(ctx, actor, action, target, err.Error(), nil); err != nil {
		return Result{}, err
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
	if err := s.askable(n); err != nil {
		return Result{}, err
	}
	// While another revision rolls out, the node's own says what it may be asked.
	t := s.Catalog.Snapshot(n).Trigger(r.Trigger)
	switch {
	case t == nil:
		return Result{}, errs.New(errs.Forbidden, "the trigger is not for that node yet: its revision rolls out")
	case !t.Means(n):
		return Result{}, errs.New(errs.Forbidden, "the trigger's selector does not mean that node")
	}
	values, err := valuesOf(t, r.Payload)
	if err != nil {
		return Result{}, err
	}
	q := Question{
		Name: t.Name, Source: t.Name, Template: t.Template, Values: values, Expires: t.ExpiresAfter(), PerNode: t.PerNode, Total: t.Total,
		Window: time.Duration(t.Dedup.Window), Actor: r.Actor, ReceivedAt: r.ReceivedAt,
	}
	if t.Dedup.Path != "" {
		v, err := r.Payload.text(t.Dedup.Path)
		if err != nil {
			return Result{}, errs.Field("dedup.path", "%v", err)
		}
		q.Same = n.ID + "\x01" + v
	}
	return s.ask(ctx, n, q, actionFire)
}

// askable refuses nodes that are asked nothing.
func (s *Service) askable(n *node.Identity) error {
	safe := s.Catalog.Plan().Safe
	switch {
	case n.Quarantined:
		return errs.New(errs.Forbidden, "the node is under quarantine; it is asked nothing")
	case safe != nil && safe(n):
		return errs.New(errs.Forbidden, "the node is served the safe config in an emergency; it is asked nothing")
	}
	return nil
}

func (s *Service) ask(ctx context.Context, n *node.Identity, question Question, action string) (Result, error) {
	if err := s.askable(n); err != nil {
		return Result{}, err
	}
	sql, tier, err := s.text(question)
	if err != nil {
		return Result{}, err
	}
	return s.start(ctx, n, question, action, live.Query{
		ID: question.liveID(n.ID), Kind: live.Trigger, Source: question.Source, SQL: sql, Tier: int(tier), Selector: node.Selector{Nodes: []string{n.ID}},
		CreatedBy: question.Actor, ExpiresAt: s.Now().Add(question.Expires),
	})
}

// liveID returns the id of the live query: that of an event is always the same.
func (q Question) liveID(nodeID string) string {
	if q.Event == "" {
		return ident.New()
	}
	sum := sha256.Sum256([]byte(q.Name + "\x00" + nodeID + "\x00" + q.Event))
	const bytes = 8
	return "rule-" + hex.EncodeToString(sum[:bytes])
}

// start counts, then starts. One question of a name is at it at a time, so that
// none gets past a limit beside another.
func (s *Service) start(ctx context.Context, n *node.Identity, asked Question, action string, q live.Query) (Result, error) {
	turn := s.turn(asked.Name)
	turn.Lock()
	defer turn.Unlock()
	now, dedup := s.Now(), dedupOf(n.ID, q.SQL, asked.Same)
	if asked.Event != "" {
		if there, err := s.Store.Started(ctx, q.ID); err != nil || there {
			return Result{LiveID: q.ID, NodeID: n.ID, Duplicate: there}, err
		}
	}
	if asked.Window > 0 {
		same, err := s.Store.Fired(ctx, FiredFilter{Trigger: asked.Name, Since: now.Add(-asked.Window), Dedup: dedup, Limit: 1})
		if err != nil {
			return Result{}, err
		}
		if len(same) > 0 {
			return Result{LiveID: same[0].LiveID, NodeID: same[0].NodeID, Duplicate: true}, nil
		}
	}
	if err := s.countLimits(ctx, asked, n.ID, now); err != nil {
		return Result{}, err
	}
	detail := map[string]any{"trigger": asked.Name, "node_id": n.ID, "sql": q.SQL, "tier": q.Tier, "received_at": asked.ReceivedAt.UTC()}
	if err := s.Audit.Record(ctx, asked.Actor, action, q.ID, detail); err != nil {
		return Result{}, err
	}
	err := s.Store.SaveFiring(ctx, Firing{Trigger: asked.Name, NodeID: n.ID, LiveID: q.ID, Dedup: dedup, ReceivedAt: asked.ReceivedAt})
	if err != nil {
		return Result{}, err
	}
	if _, err := s.Live.Start(ctx, q, []*node.Identity{n}); err != nil {
		return Result{}, fmt.Errorf("start the query of %s: %w", asked.Name, err)
	}
	return Result{LiveID: q.ID, NodeID: n.ID}, nil
}

func (s *Service) countLimits(ctx context.Context, q Question, nodeID string, now time.Time) error {
	fired, err := s.Store.Fired(ctx, FiredFilter{Trigger: q.Name, Since: now.Add(-time.Minute), Limit: q.Total})
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
	case len(fired) >= q.Total:
		return errs.New(errs.Busy, "the trigger started %d queries within a minute; that is its limit", q.Total)
	case mine >= q.PerNode:
		return errs.New(errs.Busy, "the trigger started %d queries to that node within a minute; that is its limit", q.PerNode)
	}
	return nil
}

// turn returns the lock of a trigger or rule. There are as many as those, which
// are resources.
func (s *Service) turn(name string) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns[name] == nil {
		s.turns[name] = new(sync.Mutex)
	}
	return s.turns[name]
}

// valuesOf returns the values of a trigger's parameters.
func valuesOf(t *resource.TriggerPlan, p Payload) (map[string]string, error) {
	values := make(map[string]string, len(t.Parameters))
	for name, parameter := range t.Parameters {
		v, err := p.text(parameter.Path)
		if err != nil {
			return nil, errs.Field("parameters."+name, "%v", err)
		}
		values[name] = v
	}
	return values, nil
}

// text binds the parameters and judges what came out: a value may make a text of
// a higher tier than the template has.
func (s *Service) text(q Question) (string, policy.Tier, error) {
	sql, err := q.Template.Render(q.Values)
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
