package rule

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/resource"
)

// Group are the nodes of a platform that run a query.
type Group struct {
	Query    string
	Platform string // empty of nodes that did not tell
}

func (g Group) compare(h Group) int {
	return cmp.Or(cmp.Compare(g.Query, h.Query), cmp.Compare(g.Platform, h.Platform))
}

// Bound is the most that passes on nodes of a group from a change on a host until
// its row is here, if the node is online: interval, splay and log period. What
// follows is measured.
type Bound struct {
	Group

	Nodes    int // that run the query and that the rule looks at
	Interval time.Duration
	Worst    time.Duration
}

// boundsFor is how long bounds are believed: they look at each node.
const boundsFor = time.Minute

// bounds are those of one plan.
type bounds struct {
	force  *force
	at     time.Time
	byRule map[string][]Bound
}

// Bounds returns how late rows arrive at most that a rule looks at, the latest
// first; none of an unknown rule. They may be a minute old.
func (e *Engine) Bounds(ctx context.Context, name string) []Bound {
	f := e.current(ctx)
	e.mu.Lock()
	had := e.bounds
	e.mu.Unlock()
	if age := e.Now().Sub(had.at); had.force != f || age < 0 || age > boundsFor {
		had = bounds{f, e.Now(), e.bound(f)}
		e.mu.Lock()
		e.bounds = had
		e.mu.Unlock()
	}
	return had.byRule[name]
}

// schedule has the queries of a config; few configs are served to many nodes.
type schedule struct {
	logging resource.Logging
	queries []resource.Scheduled
	byRule  [][]int // indices of queries, by the rules of a force
}

// bound works out the bounds of all rules.
func (e *Engine) bound(f *force) map[string][]Bound {
	known := map[*resource.Config]*schedule{}
	found := make([]map[Group]*Bound, len(f.rules))
	for n := range e.Registry.All {
		config := e.Catalog.Expected(n)
		s := known[config]
		if s == nil {
			s = &schedule{logging: config.Logging(), queries: e.Catalog.Snapshot(n).Schedule(n)}
			s.choose(f.rules)
			known[config] = s
		}
		for i, r := range f.rules {
			if len(s.byRule[i]) == 0 || !r.Means(n) {
				continue
			}
			for _, q := range s.byRule[i] {
				found[i] = s.widen(found[i], Group{s.queries[q].Name, n.Platform}, s.queries[q].Interval)
			}
		}
	}
	byRule := make(map[string][]Bound, len(f.rules))
	for i, r := range f.rules {
		byRule[r.Name] = latestFirst(found[i])
	}
	return byRule
}

// choose finds the queries that each rule looks at.
func (s *schedule) choose(rules []*running) {
	s.byRule = make([][]int, len(rules))
	for i, r := range rules {
		for q := range s.queries {
			if looksAt(r.RulePlan, r.tables, scheduled, s.queries[q].Name) {
				s.byRule[i] = append(s.byRule[i], q)
			}
		}
	}
}

// widen counts one more node of a group.
func (s *schedule) widen(found map[Group]*Bound, g Group, seconds int) map[Group]*Bound {
	if found == nil {
		found = map[Group]*Bound{}
	}
	b := found[g]
	if b == nil {
		b = &Bound{Group: g}
		found[g] = b
	}
	b.Nodes++
	b.Interval = max(b.Interval, time.Duration(seconds)*time.Second)
	b.Worst = max(b.Worst, s.logging.Bound(seconds))
	return found
}

func latestFirst(found map[Group]*Bound) []Bound {
	out := make([]Bound, 0, len(found))
	for _, b := range found {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(x, y Bound) int { return cmp.Or(cmp.Compare(y.Worst, x.Worst), x.compare(y.Group)) })
	return out
}
