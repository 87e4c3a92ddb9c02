package rollout

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// Store keeps rollouts.
type Store interface {
	// OpenRollout returns the rollout that is open; nil if there is none.
	OpenRollout(ctx context.Context) (*Rollout, error)
	// SaveRollout keeps r if what is kept has r.Version, to which it then adds
	// one in both; else it is a Conflict. All servers learn of it.
	SaveRollout(ctx context.Context, r *Rollout) error
	// Rollout returns the rollout of a revision; NotFound if it had none.
	Rollout(ctx context.Context, revision int64) (*Rollout, error)
	// Rollouts returns rollouts, the newest first, before a revision (0 for the
	// newest).
	Rollouts(ctx context.Context, before int64, limit int) ([]Rollout, error)
}

// Fleet is the nodes that are known; see node.Registry.
type Fleet interface {
	// All yields them in no order; meanwhile Lookup must not be called.
	All(yield func(*node.Identity) bool)
	// Lookup returns a node, or nil.
	Lookup(id string) *node.Identity
}

// Catalog says what nodes are served; see resource.Catalog.
type Catalog interface {
	Plan() *resource.Plan
}

// Recorder keeps audit entries; see audit.Log. Nothing is done when it fails.
type Recorder interface {
	Record(ctx context.Context, actor, action, target string, detail any) error
}

// Freezer knows whether what agents run may change.
type Freezer interface {
	Frozen() (reason string, frozen bool)
}

// Reverter takes a revision back: all nodes are served what the rollout's base
// holds, and the rollout is rolled back, in one transaction.
type Reverter interface {
	Revert(ctx context.Context, r *Rollout, reason string) error
}

// Options are what an Engine needs. All are required.
type Options struct {
	Store    Store
	Fleet    Fleet
	Catalog  Catalog
	Monitor  *Monitor
	Audit    Recorder
	Freezer  Freezer
	Reverter Reverter
	Log      *slog.Logger
	Now      func() time.Time
}

// Engine moves the open rollout on. Several servers may each run one: the store
// lets one of them make each move. Safe for concurrent use.
type Engine struct {
	Options

	wake chan struct{}

	mu       sync.Mutex // held while a rollout is looked at and moved
	looked   time.Time  // the last look
	results  []Result   // of it
	lost     bool       // what the stage showed so far cannot be relied on
	reverted time.Time  // when going back failed last
	hashes   hashes
}

// NewEngine returns an Engine; Run starts it. Its Monitor learns from the catalog
// which SQL nodes run.
func NewEngine(o Options) *Engine {
	o.Monitor.Learn(NewServedTexts(o.Fleet, o.Catalog))
	return &Engine{Options: o, wake: make(chan struct{}, 1)}
}

// System is the actor of what Muster does by itself.
const System = "system"

// How the Engine looks.
const (
	lookEvery = 5 * time.Second
	// jump is how far the clock may go between two looks, beyond lookEvery,
	// before the time between them is not believed to have been watched.
	jump = time.Minute
	// revertEvery is how often it is tried to go back, if that fails.
	revertEvery = time.Minute
)

// Run looks at the open rollout every few seconds until ctx ends, and after
// Wake. What fails is logged and tried again.
func (e *Engine) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-e.wake:
		}
		err := e.look(ctx)
		if errs.Is(err, errs.Conflict) {
			err = nil // another server was faster
		}
		if err != nil && !failing && ctx.Err() == nil {
			e.Log.WarnContext(ctx, "the rollout cannot be moved on; trying again", "error", err)
		}
		failing = err != nil
	}
}

// Wake makes Run look at once, as after a rollout was opened.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// look does what is due.
func (e *Engine) look(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now().UTC()
	e.lost = e.jumped(now) || e.lost
	r, err := e.open(ctx)
	switch {
	case errs.Is(err, errs.NotFound):
		e.results, e.hashes, e.lost, e.reverted = nil, hashes{}, false, time.Time{}
		return nil
	case err != nil:
		return err
	case !e.served(r):
		return nil // the servers are about to
	case r.Stages[r.Stage].BeganAt.IsZero():
		if _, frozen := e.Freezer.Frozen(); frozen || r.State != Running {
			return nil
		}
		return e.begin(ctx, r, r.Stage, System, "", now)
	case e.lost || e.unseen(r) || r.StageAt.After(now.Add(node.MaxAhead)):
		return e.again(ctx, r, now)
	}
	e.Monitor.Watch(r.Revision, r.StageAt)
	if e.results, _, err = e.judge(r, now); err != nil {
		return err
	}
	return e.decide(ctx, r, now)
}

// jumped reports whether the clock went on otherwise than it should have since
// the last look: by its hands, as other times are kept, not by the time that
// passed.
func (e *Engine) jumped(now time.Time) bool {
	last := e.looked
	e.looked = now
	if last.IsZero() {
		return false
	}
	went := now.Round(0).Sub(last.Round(0))
	return went < -jump || went > lookEvery+jump
}

// unseen reports whether the stage began before this server listened. By the
// clock that is asked only of a stage that another server began, because a clock
// may be set back.
func (e *Engine) unseen(r *Rollout) bool {
	return !e.Monitor.Watching(r.Revision, r.StageAt) && r.StageAt.Before(e.Monitor.Since())
}

// open returns the open rollout; NotFound without one.
func (e *Engine) open(ctx context.Context) (*Rollout, error) {
	r, err := e.Store.OpenRollout(ctx)
	if err == nil && r == nil {
		err = errs.New(errs.NotFound, "no rollout is open")
	}
	return r, err
}

// served reports whether the catalog serves what the rollout says.
func (e *Engine) served(r *Rollout) bool {
	p := e.Catalog.Plan()
	return p.Next != nil && p.Next.Revision() == r.Revision && p.Base.Revision() == r.Base
}

// decide fails the stage, ends it, or waits.
func (e *Engine) decide(ctx context.Context, r *Rollout, now time.Time) error {
	elapsed, stage := now.Sub(r.StageAt), r.Stages[r.Stage]
	_, frozen := e.Freezer.Frozen()
	failed := failure(e.results, elapsed, stage.Bake)
	if r.State == Paused { // somebody looks after it
		failed = slices.DeleteFunc(failed, func(r Result) bool { return !r.Final })
	}
	if len(failed) > 0 {
		return e.fail(ctx, r, stage.Name+": "+sentence(failed), now)
	}
	if r.State == Paused || frozen || elapsed < stage.Bake || !passed(e.results) {
		return nil
	}
	return e.advance(ctx, r, System, "", now)
}

// fail goes back or pauses, as the policy says. A rollout that is paused already
// only goes back: its nodes still run the revision. One that cannot go back is
// paused at least.
func (e *Engine) fail(ctx context.Context, r *Rollout, reason string, now time.Time) error {
	var err error
	if r.OnFailure == resource.FailureRollback {
		if !e.reverted.IsZero() && now.Sub(e.reverted).Abs() < revertEvery {
			return nil
		}
		r.Results = e.results
		if err = e.revert(ctx, r, System, reason); err == nil {
			return nil
		}
		e.reverted = now
		reason += "; going back failed, and is tried again"
	}
	if r.State == Running {
		err = errors.Join(err, e.pause(ctx, r, System, reason))
	}
	return err
}

// advance begins the next stage, or ends the rollout after the last.
func (e *Engine) advance(ctx context.Context, r *Rollout, actor, reason string, now time.Time) error {
	if r.Stage+1 < len(r.Stages) {
		return e.begin(ctx, r, r.Stage+1, actor, reason, now)
	}
	return e.move(ctx, r, actor, "rollout.done", reason, func() {
		r.State, r.EndedAt, r.Reason = Done, now, ""
	})
}

// begin begins a stage: from then on its nodes are admitted.
func (e *Engine) begin(ctx context.Context, r *Rollout, stage int, actor, reason string, now time.Time) error {
	action := "rollout.stage"
	if stage == 0 {
		action = "rollout.start"
	}
	var candidates []candidate
	subjects, err := e.subjects(r, nil, now)
	if err != nil {
		return err
	}
	for s := range subjects {
		if s.Hash != s.Former {
			candidates = append(candidates, candidate{s.Node, s.Online})
		}
	}
	err = e.move(ctx, r, actor, action, reason, func() {
		r.Stage, r.StageAt, r.State, r.Reason = stage, now, Running, ""
		r.Stages[stage].begin(candidates, now)
	})
	return e.watch(r, err)
}

// watch makes the Monitor watch a stage that begins, or begins anew, unless that
// failed.
func (e *Engine) watch(r *Rollout, err error) error {
	if err == nil {
		e.Monitor.Watch(r.Revision, r.StageAt)
		e.lost = false
	}
	return err
}

// again begins to watch the running stage anew: what its nodes showed so far is
// not known, or not to be relied on.
func (e *Engine) again(ctx context.Context, r *Rollout, now time.Time) error {
	err := e.move(ctx, r, System, "rollout.watch_again", "evidence was lost by a restart or a jump of the clock", func() { r.StageAt = now })
	return e.watch(r, err)
}

func (e *Engine) pause(ctx context.Context, r *Rollout, actor, reason string) error {
	return e.move(ctx, r, actor, "rollout.pause", reason, func() { r.State, r.Reason = Paused, reason })
}

// revert takes the revision back.
func (e *Engine) revert(ctx context.Context, r *Rollout, actor, reason string) error {
	if err := e.record(ctx, r, actor, "rollout.rollback", reason); err != nil {
		return err
	}
	return e.Reverter.Revert(ctx, r, reason)
}

// move records and keeps a change of the rollout.
func (e *Engine) move(ctx context.Context, r *Rollout, actor, action, reason string, change func()) error {
	r.Results = e.results
	before := *r
	change()
	if err := e.record(ctx, r, actor, action, reason); err != nil {
		*r = before
		return err
	}
	return e.Store.SaveRollout(ctx, r)
}

// record keeps an audit entry of what is about to be done.
func (e *Engine) record(ctx context.Context, r *Rollout, actor, action, reason string) error {
	detail := map[string]any{"base": r.Base, "stage": r.Stages[r.Stage].Name, "state": r.State, "policy": r.Policy}
	if reason != "" {
		detail["reason"] = reason
	}
	return e.Audit.Record(ctx, actor, action, strconv.FormatInt(r.Revision, 10), detail)
}

// judge looks at all nodes.
func (e *Engine) judge(r *Rollout, now time.Time) ([]Result, *tally, error) {
	subjects, err := e.subjects(r, e.Monitor, now)
	if err != nil {
		return nil, nil, err
	}
	results, t := judge(r, View{subjects, e.Monitor.Before(), Budgets(e.Catalog.Plan().Next.Set())}, now)
	return results, t, nil
}

// subjects yields the nodes that run a revision, as of now. Those that get the
// settings alone run none. Without a monitor they have no evidence.
func (e *Engine) subjects(r *Rollout, m *Monitor, now time.Time) (iter.Seq[Subject], error) {
	admits, err := r.Admission()
	if err != nil {
		return nil, err
	}
	plan, nodes := e.Catalog.Plan(), slices.Collect(e.Fleet.All)
	e.hashes.prepare(plan, len(nodes))
	return func(yield func(Subject) bool) {
		for _, n := range nodes {
			if n.Quarantined || plan.Safe != nil && plan.Safe(n) {
				continue
			}
			s := Subject{Node: n, Online: n.Online(now), Admitted: admits(n)}
			s.Former, s.Hash = e.hashes.of(n)
			if m != nil && s.Hash != s.Former {
				s.Evidence = m.Evidence(n.ID)
			}
			if !yield(s) {
				return
			}
		}
	}, nil
}

// hashes remembers what configs nodes have by the two revisions of a plan,
// because that is looked at every few seconds. An Identity never changes.
type hashes struct {
	base, next *resource.Snapshot
	known      map[*node.Identity][2]*resource.Config
}

// prepare forgets what is of another plan, and nodes that changed meanwhile, once
// they are as many as there are nodes.
func (h *hashes) prepare(p *resource.Plan, nodes int) {
	if h.base != p.Base || h.next != p.Next || len(h.known) > 2*nodes {
		*h = hashes{p.Base, p.Next, make(map[*node.Identity][2]*resource.Config, nodes)}
	}
}

// of returns the config_hash of a node by the base and by the next revision, ""
// if it has none.
func (h *hashes) of(n *node.Identity) (base, next string) {
	c, ok := h.known[n]
	if !ok {
		for i, s := range []*resource.Snapshot{h.base, h.next} {
			if config, err := s.Config(s.As(n)); err == nil {
				c[i] = config
			}
		}
		h.known[n] = c
	}
	return hashOf(c[0]), hashOf(c[1])
}

func hashOf(c *resource.Config) string {
	if c == nil {
		return ""
	}
	return c.Hash
}

// Budgets returns the budgets of a set, by name.
func Budgets(set *resource.Set) []Budget {
	var list []Budget
	for k, spec := range resource.Specs[*resource.Budget](set) {
		b := Budget{Name: k.Name, Spec: spec, Means: func(*node.Identity) bool { return true }}
		if spec.Selector != "" {
			w, err := node.ParseWhere("selector", spec.Selector)
			if err != nil {
				continue // it was checked
			}
			b.Means = w.Match
		}
		list = append(list, b)
	}
	return list
}

// describe says where a rollout stands.
func (r *Rollout) describe() string {
	return fmt.Sprintf("the rollout of revision %d is %s at %s", r.Revision, r.State, r.Stages[r.Stage].Name)
}
