package adminapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

func (a *API) registerLivePreview() {
	registerScoped(a, account.LiveRead, http.MethodPost, "/live/preview", "What a live query would reach, whether it may run, and what it costs", a.previewLive)
}

// previewNodes is how many nodes a preview names: enough to see a mistake.
const previewNodes = 20

func (a *API) previewLive(ctx context.Context, in *body[PreviewInput]) (*body[LivePreview], error) {
	nodes, err := a.selected(in.Body.Selector)
	if err != nil {
		return nil, err
	}
	nodes = wherePermitted(ctx, a, account.LiveRead, nodes, func(n *node.Identity) string { return n.ID })
	out := LivePreview{Matching: len(nodes), Platforms: a.platformsOf(nodes), Nodes: []PreviewNode{}}
	asked := nodes
	if in.Body.SamplePercent > 0 {
		asked = live.Sample(nodes, in.Body.SamplePercent)
	}
	out.Asked = len(asked)
	now := a.Now()
	for _, n := range asked {
		if n.Online(now) {
			out.Online++
		}
	}
	asked = slices.SortedFunc(slices.Values(asked), func(a, b *node.Identity) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range asked[:min(previewNodes, len(asked))] {
		out.Nodes = append(out.Nodes, PreviewNode{n.ID, n.Hostname, n.Online(now)})
	}
	if in.Body.SQL == "" {
		return &body[LivePreview]{out}, nil
	}
	d, err := a.decide(in.Body.SQL, out.Asked)
	if err != nil {
		return nil, err
	}
	if err := a.mayAsk(ctx, in.Body.SQL, d.Tier, asked); err != nil {
		d.Outcome, d.Why = OutcomeRefused, err.Error()
	}
	out.Tier, out.Decision, out.Why = int(d.Tier), string(d.Outcome), d.Why
	out.Estimate, err = a.estimate(ctx, in.Body.SQL)
	return &body[LivePreview]{out}, err
}

// platformsOf counts nodes by platform.
func (a *API) platformsOf(nodes []*node.Identity) []PreviewPlatform {
	now, counts := a.Now(), map[string]*PreviewPlatform{}
	for _, n := range nodes {
		c := counts[n.Platform]
		if c == nil {
			c = &PreviewPlatform{Platform: n.Platform}
			counts[n.Platform] = c
		}
		c.Matching++
		if n.Online(now) {
			c.Online++
		}
	}
	list := make([]PreviewPlatform, 0, len(counts))
	for _, c := range counts {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b PreviewPlatform) int {
		return cmp.Or(b.Matching-a.Matching, cmp.Compare(a.Platform, b.Platform))
	})
	return list
}

// estimate tells what a text cost when it ran before: as a live query, or else
// by a schedule. Nothing without evidence.
func (a *API) estimate(ctx context.Context, sql string) (*LiveEstimate, error) {
	costs, err := a.Results.LiveCosts(ctx, sql)
	if err != nil {
		return nil, err
	}
	if wall, ok := costs.Wall(); ok {
		return &LiveEstimate{Nodes: costs.Nodes, WallMsPerNode: wall, RowsPerNode: costs.Rows, Basis: "live", At: costs.At.UTC()}, nil
	}
	return a.estimateScheduled(policy.Hash(sql)), nil
}

// estimateScheduled takes the dearest of the scheduled queries with a text.
func (a *API) estimateScheduled(hash string) (out *LiveEstimate) {
	for k, p := range resource.Specs[*resource.Pack](a.Catalog.Plan().Newest().Set()) {
		for name, q := range p.Queries {
			if policy.Hash(q.Query) != hash {
				continue
			}
			agentName := resource.AgentName(k.Name, name)
			c, ok := a.Evidence.Cost(agentName, hash)
			if ok && (out == nil || c.CPUMillis > out.WallMsPerNode) {
				out = &LiveEstimate{Nodes: c.Nodes, WallMsPerNode: c.CPUMillis, RowsPerNode: c.Rows, Basis: "scheduled", At: c.At.UTC(), Query: agentName}
			}
		}
	}
	return out
}
