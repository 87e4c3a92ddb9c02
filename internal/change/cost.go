package change

import (
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// canaryBake is long enough for the queries' own statistics, which agents send
// every ten minutes, to come twice.
const canaryBake = 25 * time.Minute

// price returns what a node's schedule costs in a day, as far as there is
// evidence. Nodes with equal configs cost the same.
func (s *Service) price(snapshot *resource.Snapshot, n *node.Identity, priced map[string]rollout.Day) rollout.Day {
	config, err := snapshot.Config(n)
	if err != nil {
		return rollout.Day{}
	}
	if c, ok := priced[config.Hash]; ok {
		return c
	}
	var day rollout.Day
	for _, q := range snapshot.Schedule(n) {
		if c, ok := s.Pricer.Cost(q.Name, q.Hash); ok {
			day = day.Add(c.Day(q.Interval))
		}
	}
	priced[config.Hash] = day
	return day
}

// budget is a Budget that is judged, once for all of its nodes.
type budget struct {
	rollout.Budget

	over bool // it refused already
}

func budgets(set *resource.Set) []*budget {
	var list []*budget
	for _, b := range rollout.Budgets(set) {
		list = append(list, &budget{Budget: b})
	}
	return list
}

func (b *budget) means(n *node.Identity) bool { return !b.over && b.Means(n) }

// judge refuses a change that brings a node over the budget, or further over.
func (b *budget) judge(p *plan, n *node.Identity, before, after rollout.Day) {
	for _, bound := range []struct {
		what                 string
		limit, before, after float64
	}{
		{"CPU seconds", b.Spec.CPUSeconds, before.CPUSeconds, after.CPUSeconds},
		{"rows", b.Spec.Rows, before.Rows, after.Rows},
		{"bytes", b.Spec.Bytes, before.Bytes, after.Bytes},
	} {
		if bound.limit > 0 && bound.after > bound.limit && bound.after > bound.before {
			b.over = true
			p.refuse("%s", fmt.Sprintf("Budget/%s: node %s would have %.4g %s a day; %.4g is the most, and it has %.4g now", b.Name, n.ID, bound.after, bound.what, bound.limit, bound.before))
		}
	}
}
