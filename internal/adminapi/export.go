package adminapi

import (
	"cmp"
	"context"
	"slices"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

type agentConfigsInput struct {
	Selector string `query:"selector" doc:"Nodes, as tag = web and platform = linux; without it, only what agents need to reach the server" maxLength:"4096"`
	Revision int64  `query:"revision" doc:"The newest if it is left out" minimum:"0"`
}

// Limits of an answer.
const (
	maxAgentConfigs = 50 // distinct configs: more are no group of nodes
	maxAgentNodes   = 10
)

func (a *API) agentConfigs(ctx context.Context, in *agentConfigsInput) (*body[AgentConfigs], error) {
	out := AgentConfigs{Configs: []AgentConfig{}, AgentURL: a.AgentURL, CA: string(a.CA)}
	if in.Selector == "" {
		return &body[AgentConfigs]{out}, nil
	}
	who, err := node.ParseWhere("selector", in.Selector)
	if err != nil {
		return nil, err
	}
	rev, set, err := a.Changes.Set(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	snapshot, err := resource.Compile(rev.Number, set)
	if err != nil {
		return nil, err
	}
	found := map[string]*AgentConfig{}
	for n := range a.Registry.All {
		if !who.Match(n) {
			continue
		}
		if err := count(found, snapshot, n); err != nil {
			return nil, err
		}
		if len(found) > maxAgentConfigs {
			return nil, errs.Field("selector", "means nodes of over %d different configs; choose nodes that run the same", maxAgentConfigs)
		}
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no node matches the selector")
	}
	out.Revision = rev.Number
	for _, c := range found {
		slices.Sort(c.Nodes)
		c.Nodes = c.Nodes[:min(len(c.Nodes), maxAgentNodes)]
		out.Configs = append(out.Configs, *c)
	}
	slices.SortFunc(out.Configs, func(a, b AgentConfig) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Hash, b.Hash)) })
	return &body[AgentConfigs]{out}, nil
}

// count adds a node to the config that it shares.
func count(found map[string]*AgentConfig, s *resource.Snapshot, n *node.Identity) error {
	config, err := s.Files(n)
	if err == nil && config == nil {
		config, err = s.Config(n)
	}
	if err != nil {
		return err
	}
	c := found[config.Hash]
	if c == nil {
		c = &AgentConfig{Hash: config.Hash, Config: string(config.JSON)}
		found[config.Hash] = c
	}
	c.Count++
	c.Nodes = append(c.Nodes, n.ID)
	return nil
}
