package change

import (
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// canaryBake is long enough for the queries' own statistics, which agents send
// every ten minutes, to come twice.
const canaryBake = 25 * time.Minute

func (c DayCost) max(d DayCost) DayCost {
	return DayCost{max(c.CPUSeconds, d.CPUSeconds), max(c.Rows, d.Rows), max(c.Bytes, d.Bytes)}
}

// price returns what a node's schedule costs in a day, as far as there is
// evidence. Nodes with equal configs cost the same.
func (s *Service) price(snapshot *resource.Snapshot, n *node.Identity, priced map[string]DayCost) DayCost {
	config, err := snapshot.Config(n)
	if err != nil {
		return DayCost{}
	}
	if c, ok := priced[config.Hash]; ok {
		return c
	}
	var day DayCost
	for _, q := range snapshot.Schedule(n) {
		c, ok := s.Pricer.Cost(q.Name, q.Hash)
		if !ok || q.Interval <= 0 {
			continue
		}
		runs := (24 * time.Hour).Seconds() / float64(q.Interval)
		day.CPUSeconds += runs * c.CPUMillis / 1000
		day.Rows += runs * c.Rows
		day.Bytes += runs * c.Bytes
	}
	priced[config.Hash] = day
	return day
}

// budget is a Budget that is judged, once for all of its nodes.
type budget struct {
	key  resource.Key
	spec *resource.Budget
	all  bool
	who  node.Where
	over bool // it refused already
}

func budgets(set *resource.Set) []*budget {
	var list []*budget
	for k, spec := range resource.Specs[*resource.Budget](set) {
		b := &budget{key: k, spec: spec, all: spec.Selector == ""}
		if w, err := node.ParseWhere("selector", spec.Selector); err == nil {
			b.who = w
		}
		list = append(list, b)
	}
	return list
}

func (b *budget) means(n *node.Identity) bool { return !b.over && (b.all || b.who.Match(n)) }

// judge refuses a change that brings a node over the budget, or further over.
func (b *budget) judge(p *plan, n *node.Identity, before, after DayCost) {
	for _, bound := range []struct {
		what                 string
		limit, before, after float64
	}{
		{"CPU seconds", b.spec.CPUSeconds, before.CPUSeconds, after.CPUSeconds},
		{"rows", b.spec.Rows, before.Rows, after.Rows},
		{"bytes", b.spec.Bytes, before.Bytes, after.Bytes},
	} {
		if bound.limit > 0 && bound.after > bound.limit && bound.after > bound.before {
			b.over = true
			p.refuse("%s", fmt.Sprintf("%s: node %s would have %.4g %s a day; %.4g is the most, and it has %.4g now", b.key, n.ID, bound.after, bound.what, bound.limit, bound.before))
		}
	}
}
