package adminapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// Costs is what scheduled queries cost, the dearest first.
type Costs struct {
	Revision int64       `json:"revision"`
	NodeID   string      `json:"node_id,omitempty" doc:"Whose schedule it is; absent for all packs"`
	Total    DayCost     `json:"total" doc:"Of what there is evidence for; of all packs, as if one node ran them all"`
	Queries  []QueryCost `json:"queries"`
}

// QueryCost is what one query costs.
type QueryCost struct {
	Query     string     `json:"query" doc:"Its name on agents"`
	Interval  int        `json:"interval" doc:"Seconds between runs"`
	Evidence  bool       `json:"evidence" doc:"False if no node has told yet"`
	CPUMillis float64    `json:"cpu_ms" doc:"CPU milliseconds of a run: 95 of 100 nodes stay below"`
	Rows      float64    `json:"rows" doc:"Of a run"`
	Bytes     float64    `json:"bytes" doc:"Of a run's rows, as osquery counts them"`
	Day       DayCost    `json:"day"`
	Nodes     int        `json:"nodes" doc:"How many nodes it was measured on"`
	At        *time.Time `json:"at,omitempty" doc:"When it was measured"`
}

type costsInput struct {
	Node string `query:"node" doc:"A node's id, host identifier or hostname; all packs if it is left out" maxLength:"255"`
}

func (a *API) costs(ctx context.Context, in *costsInput) (*body[Costs], error) {
	out := Costs{Queries: []QueryCost{}}
	var schedule []resource.Scheduled
	if in.Node != "" {
		n, err := a.identity(ctx, in.Node)
		if err != nil {
			return nil, err
		}
		s := a.Catalog.Snapshot(n)
		out.NodeID, out.Revision, schedule = n.ID, s.Revision(), s.Schedule(n)
	} else {
		s := a.Catalog.Plan().Newest()
		out.Revision = s.Revision()
		for k, p := range resource.Specs[*resource.Pack](s.Set()) {
			for name, q := range p.Queries {
				schedule = append(schedule, resource.Scheduled{Name: resource.AgentName(k.Name, name), Hash: policy.Hash(q.Query), Interval: q.Interval})
			}
		}
	}
	var total rollout.Day
	for _, q := range schedule {
		c := a.queryCost(q)
		out.Queries = append(out.Queries, c)
		total = total.Add(rollout.Day(c.Day))
	}
	out.Total = DayCost(total)
	slices.SortFunc(out.Queries, func(a, b QueryCost) int {
		return cmp.Or(cmp.Compare(b.Day.CPUSeconds, a.Day.CPUSeconds), cmp.Compare(a.Query, b.Query))
	})
	return &body[Costs]{out}, nil
}

func (a *API) queryCost(q resource.Scheduled) QueryCost {
	out := QueryCost{Query: q.Name, Interval: q.Interval}
	c, ok := a.Evidence.Cost(q.Name, q.Hash)
	if !ok || q.Interval <= 0 {
		return out
	}
	out.Evidence, out.CPUMillis, out.Rows, out.Bytes, out.Nodes, out.At = true, c.CPUMillis, c.Rows, c.Bytes, c.Nodes, at(c.At)
	out.Day = DayCost(c.Day(q.Interval))
	return out
}
