package adminapi

import (
	"context"
	"slices"
	"sync"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/result"
)

// registerScoped is register for an operation that answers about the nodes alone
// that its caller's roles mean. All others take a permission for every node.
func registerScoped[I, O any](a *API, permission account.Permission, method, path, summary string, handle func(context.Context, *I) (*O, error)) {
	registerLimited(a, Route{method, base + path, permission, true}, summary, maxBody, handle)
}

// scope returns the ids of the nodes for which the caller has a permission; nil for
// all of them. Nodes that are gone are none of those.
func (a *API) scope(ctx context.Context, p account.Permission) []string {
	s := session(ctx)
	if s.Everywhere(p) {
		return nil
	}
	ids := []string{}
	for n := range a.Registry.All {
		if s.On(p, n) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// on refuses a caller without a permission for a node, as if there were no such
// node: who may not see it does not learn that it is there.
func (a *API) on(ctx context.Context, p account.Permission, nodeID string) error {
	if session(ctx).On(p, a.Registry.Lookup(nodeID)) {
		return nil
	}
	return errs.New(errs.NotFound, "there is no such node, or your roles do not show it")
}

// readers are for whom a live query's rows may be shown to the caller; nil for all
// nodes. Rows of a text of a high tier take more than those of others.
func (a *API) readers(ctx context.Context, q live.Query) []string {
	s := session(ctx)
	tier := policy.Tier(q.Tier) //nolint:gosec // 0 to 3
	if t, ok := s.RowTier(account.LiveRead, nil); ok && t >= tier {
		return nil
	}
	ids := []string{}
	for n := range a.Registry.All {
		if t, ok := s.RowTier(account.LiveRead, n); ok && t >= tier {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// reader reads a live query's rows as far as the caller may.
func (a *API) reader(ctx context.Context, q live.Query) *result.Reader {
	nodes := a.readers(ctx, q)
	if nodes == nil {
		return a.results.Reader
	}
	slices.Sort(nodes)
	return result.NewReader(someResults{a.Results, nodes})
}

// someResults are those of some nodes.
type someResults struct {
	result.Store

	nodes []string // sorted ids
}

// LiveTargets implements [result.Store].
func (s someResults) LiveTargets(ctx context.Context, id string, states []live.State, after string, limit int) ([]live.Target, error) {
	var out []live.Target
	for {
		page, err := s.Store.LiveTargets(ctx, id, states, after, limit)
		if err != nil {
			return nil, err
		}
		for _, t := range page {
			if _, ok := slices.BinarySearch(s.nodes, t.NodeID); ok {
				if out = append(out, t); len(out) == limit {
					return out, nil
				}
			}
		}
		if len(page) < limit {
			return out, nil
		}
		after = page[len(page)-1].NodeID
	}
}

// visible returns the nodes and queries whose events the caller may read, of some
// nodes; nil for all of either. Who may read different tiers on different nodes
// reads, of all that are asked for, what may be read of each.
func (a *API) visible(ctx context.Context, of []string) (nodes []string, queries func(string) bool, err error) {
	s := session(ctx)
	nodes = of
	tier, everywhere := s.RowTier(account.EventRead, nil)
	if !everywhere || of != nil && tier < policy.Dangerous {
		nodes, tier = a.visibleOf(s, of)
	}
	if tier >= policy.Dangerous {
		return nodes, nil, nil
	}
	tierOf, err := a.tiers.of(a)
	return nodes, func(query string) bool { return tierOf(query) <= tier }, err
}

// visibleOf returns those of some nodes whose events may be read, and the tier that
// may be read of each.
func (a *API) visibleOf(s account.Session, of []string) (nodes []string, tier policy.Tier) {
	if of == nil {
		for n := range a.Registry.All {
			of = append(of, n.ID)
		}
	}
	nodes, tier = []string{}, policy.Dangerous
	for _, id := range of {
		if t, ok := s.RowTier(account.EventRead, a.Registry.Lookup(id)); ok {
			nodes, tier = append(nodes, id), min(tier, t)
		}
	}
	return nodes, tier
}

// queryTiers knows the tier of each query's rows, by its name in events.
type queryTiers struct {
	mu    sync.Mutex
	plan  *resource.Plan
	tiers map[string]policy.Tier
}

// of returns the tiers of the plan that is served; of texts of one name the higher
// holds. A query that is not known, as of a pack that is gone, has the highest.
func (q *queryTiers) of(a *API) (func(query string) policy.Tier, error) {
	plan := a.Catalog.Plan()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.plan != plan {
		tiers := map[string]policy.Tier{event.FindingQuery: policy.Harmless, event.StatusQuery: policy.Internal}
		for _, s := range []*resource.Snapshot{plan.Base, plan.Newest()} {
			err := s.JudgeEventQueries(a.Policy, a.Now(), func(name string, v policy.Verdict) { tiers[name] = max(tiers[name], v.Tier) })
			if err != nil {
				return nil, err
			}
		}
		q.plan, q.tiers = plan, tiers
	}
	tiers := q.tiers
	return func(query string) policy.Tier {
		if t, ok := tiers[query]; ok {
			return t
		}
		return policy.Dangerous
	}, nil
}

// wherePermitted keeps what the caller may see of a list.
func wherePermitted[T any](ctx context.Context, a *API, p account.Permission, list []T, nodeID func(T) string) []T {
	s := session(ctx)
	if s.Everywhere(p) {
		return list
	}
	return slices.DeleteFunc(list, func(v T) bool { return !s.On(p, a.Registry.Lookup(nodeID(v))) })
}
