package resource

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/musterhq/muster/internal/node"
)

// Plan says which node gets what. It never changes; a Catalog gets another one.
type Plan struct {
	// Base is what nodes run that are in no stage of a rollout.
	Base *Snapshot
	// Next is what rolls out, to the nodes that Admits says; nil for none.
	Next   *Snapshot
	Admits func(n *node.Identity) bool
	// Safe says which nodes get nothing to run, in an emergency; nil for none.
	Safe func(n *node.Identity) bool
}

// Newest returns what rolls out, or else what all nodes run.
func (p *Plan) Newest() *Snapshot { return cmp.Or(p.Next, p.Base) }

// snapshot returns the revision for a node.
func (p *Plan) snapshot(n *node.Identity) *Snapshot {
	if p.Next != nil && p.Admits(n) {
		return p.Next
	}
	return p.Base
}

// Catalog serves configs. Safe for concurrent use.
type Catalog struct {
	// Served is called when a node is served another config than before, or asks
	// for the first time since the plan or the node changed; nil for nobody. Set
	// it before the first request.
	Served func(n *node.Identity, c *Config)

	plan atomic.Pointer[Plan]
	log  *slog.Logger
}

// NewCatalog returns a catalog that serves a plan.
func NewCatalog(p *Plan, log *slog.Logger) *Catalog {
	c := &Catalog{log: log}
	c.plan.Store(p)
	return c
}

// Plan returns what is served.
func (c *Catalog) Plan() *Plan { return c.plan.Load() }

// SetPlan makes the next request of every node get what the plan says.
func (c *Catalog) SetPlan(p *Plan) { c.plan.Store(p) }

// Snapshot returns the revision that a node is to run.
func (c *Catalog) Snapshot(n *node.Identity) *Snapshot { return c.Plan().snapshot(n) }

// RuleTags implements [node.Tagger], by the rules of the revision that the node
// is to run: what follows from a new rule rolls out as all else does.
func (c *Catalog) RuleTags(n *node.Identity) []node.RuleTag { return c.Snapshot(n).RuleTags(n) }

// TagOf returns the tag that a query's rows give; see [Snapshot.TagOf].
func (c *Catalog) TagOf(n *node.Identity, agentName string) string {
	return c.Snapshot(n).TagOf(agentName)
}

// Config returns what a node is to run. It never fails and touches no disk; the
// answer to a node's second call costs one look at memory.
func (c *Catalog) Config(n *node.Identity) *Config {
	p := c.plan.Load()
	if config, ok := n.Memo(p).(*Config); ok {
		return config
	}
	config := c.render(p, n)
	n.SetMemo(p, config)
	if c.Served != nil {
		c.Served(n, config)
	}
	return config
}

// Expected returns what a node would be served, without serving it.
func (c *Catalog) Expected(n *node.Identity) *Config { return c.render(c.plan.Load(), n) }

// render falls back to less, never to nothing: an agent that gets an error
// keeps its schedule, but would never learn of a better one.
func (c *Catalog) render(p *Plan, n *node.Identity) *Config {
	s := p.snapshot(n)
	bare := n.Quarantined || p.Safe != nil && p.Safe(n)
	if !bare {
		config, err := s.Config(n)
		if err == nil {
			return config
		}
		c.log.ErrorContext(context.Background(), "a node's config cannot be served; it gets the settings alone", "node_id", n.ID, "revision", s.Revision(), "error", err)
	}
	config, err := s.Bare(n)
	if err == nil {
		return config
	}
	return emptyConfig(s.Revision())
}

// emptyConfig is for a set whose options alone are larger than osquery takes,
// which Check refuses.
func emptyConfig(revision int64) *Config {
	c, err := newConfig(revision, map[string]any{})
	if err != nil {
		return &Config{JSON: []byte("{}"), Tagged: []byte("{}"), Revision: revision}
	}
	return c
}
