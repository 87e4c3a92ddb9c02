package rollout

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// Cost is what one run of a query costs: what 95 of 100 nodes stay below.
type Cost struct {
	CPUMillis float64   `json:"cpu_millis"`
	Bytes     float64   `json:"bytes"` // of its rows, as osquery counts them
	Rows      float64   `json:"rows"`
	Nodes     int       `json:"nodes"` // how many nodes it was measured on
	At        time.Time `json:"at"`    // when
}

// Day returns what the query costs a node in a day, if it runs at an interval in
// seconds; nothing without one.
func (c Cost) Day(interval int) Day {
	if interval <= 0 {
		return Day{}
	}
	runs := (24 * time.Hour).Seconds() / float64(interval)
	return Day{CPUSeconds: runs * c.CPUMillis / 1000, Rows: runs * c.Rows, Bytes: runs * c.Bytes}
}

// Day is what a schedule, or a query of it, costs a node in a day.
type Day struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	Rows       float64 `json:"rows"`
	Bytes      float64 `json:"bytes"`
}

// Add returns the cost of both.
func (d Day) Add(e Day) Day {
	return Day{d.CPUSeconds + e.CPUSeconds, d.Rows + e.Rows, d.Bytes + e.Bytes}
}

// Max returns the dearer of both, figure by figure.
func (d Day) Max(e Day) Day {
	return Day{max(d.CPUSeconds, e.CPUSeconds), max(d.Rows, e.Rows), max(d.Bytes, e.Bytes)}
}

// QueryCost is the cost of one text under one name.
type QueryCost struct {
	Name    string // on agents
	SQLHash string // of its text; see policy.Hash
	Cost
}

// CostStore keeps costs.
type CostStore interface {
	// SaveCosts keeps costs over those of the same name and hash.
	SaveCosts(ctx context.Context, costs []QueryCost) error
	// LoadCosts returns what is kept.
	LoadCosts(ctx context.Context) ([]QueryCost, error)
}

type queryKey struct{ name, hash string }

// query is shared by the nodes that have it in their schedule.
type query struct {
	key  queryKey
	held int
}

// hold returns the shared query; release gives it back.
func (m *Monitor) hold(k queryKey) *query {
	q := m.queries[k]
	if q == nil {
		q = &query{key: k}
		m.queries[k] = q
	}
	q.held++
	return q
}

func (m *Monitor) release(q *query) {
	if q.held--; q.held == 0 {
		delete(m.queries, q.key)
	}
}

// drop removes the queries of a node that its last snapshot did not have.
func (m *Monitor) drop(r *record) {
	r.usages = slices.DeleteFunc(r.usages, func(u usage) bool {
		gone := u.seen != r.snapshot
		if gone {
			m.release(u.query)
		}
		return gone
	})
}

// usage is what a node's query has used, as osquery counts it: on and on, and
// anew when the text changes or the agent's database is lost.
type usage struct {
	query      *query
	seen       uint32 // time of the last snapshot that had it
	interval   uint32 // seconds
	executions uint32
	cpu        uint32 // milliseconds
	size       uint64 // bytes
	rows       uint32 // since the last snapshot in which executions grew
	measured   bool
	counted    bool // rows were, too
	denied     bool
	run        struct{ cpu, bytes, rows float32 } // of one run, in milliseconds
}

// measure takes in the counters of a snapshot. The cost of a run is the
// difference to the last one; of the first, and after the counters went back,
// the average of all runs.
func (u *usage) measure(executions, cpu, size int64) {
	was := *u
	u.executions, u.cpu, u.size = clamp(executions), clamp(cpu), uint64(size) //nolint:gosec // not negative
	if u.executions < was.executions || u.cpu < was.cpu || u.size < was.size {
		was = usage{}
	}
	runs := float32(u.executions - was.executions)
	if runs == 0 {
		return
	}
	u.run.cpu, u.run.bytes = float32(u.cpu-was.cpu)/runs, float32(u.size-was.size)/runs
	if was.measured { // else it is not known since when the rows were counted
		u.run.rows, u.counted = float32(u.rows)/runs, true
	}
	u.rows, u.measured = 0, true
}

func clamp(n int64) uint32 { return uint32(min(n, math.MaxUint32)) } //nolint:gosec // in range

// price sums up what a day of the node's schedule costs. A denylisted query
// costs nothing.
func (r *record) price() {
	r.day, r.idle = day{}, 0
	for i := range r.usages {
		u := &r.usages[i]
		if u.seen != r.snapshot || u.denied || u.interval == 0 {
			continue
		}
		if !u.measured {
			r.idle++
			continue
		}
		runs := float32((24 * time.Hour).Seconds()) / float32(u.interval)
		r.day.cpu += runs * u.run.cpu / 1000
		r.day.bytes += runs * u.run.bytes
		r.day.rows += runs * u.run.rows
	}
}

// costAge is how old Cost may be: to compute it all nodes are looked at.
const costAge = time.Minute

// enoughNodes is from how many nodes on a cost that was measured now holds, even
// if the one that was kept is of more.
const enoughNodes = 10

// Cost returns what a run of a query costs, by its name on agents and the hash
// of its text; false without evidence.
func (m *Monitor) Cost(agentName, sqlHash string) (Cost, bool) {
	m.costMu.Lock()
	defer m.costMu.Unlock()
	if now := m.now(); m.costs == nil || now.Sub(m.costsAt).Abs() >= costAge {
		m.costs, m.costsAt = m.measured(now), now
	}
	k := queryKey{agentName, sqlHash}
	c, ok := m.costs[k]
	kept, had := m.kept[k]
	if had && (!ok || c.Nodes < enoughNodes && c.Nodes < kept.Nodes) {
		return kept, true
	}
	return c, ok
}

// samples are the costs of one query's runs on all nodes.
type samples struct{ cpu, bytes, rows []float32 }

// measured returns the costs of all queries that nodes have now.
func (m *Monitor) measured(now time.Time) map[queryKey]Cost {
	all := m.gather()
	costs := make(map[queryKey]Cost, len(all))
	for q, s := range all {
		costs[q.key] = Cost{CPUMillis: p95(s.cpu), Bytes: p95(s.bytes), Rows: p95(s.rows), Nodes: len(s.cpu), At: now.UTC()}
	}
	return costs
}

// gather copies what nodes told, so that they do not wait while it is sorted.
func (m *Monitor) gather() map[*query]*samples {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[*query]*samples, len(m.queries))
	for _, r := range m.nodes {
		for i := range r.usages {
			u := &r.usages[i]
			if !u.measured {
				continue
			}
			s := all[u.query]
			if s == nil {
				s = &samples{}
				all[u.query] = s
			}
			s.cpu, s.bytes = append(s.cpu, u.run.cpu), append(s.bytes, u.run.bytes)
			if u.counted {
				s.rows = append(s.rows, u.run.rows)
			}
		}
	}
	return all
}

// p95 sorts values; 0 without any.
func p95(values []float32) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return float64(values[(len(values)*95+99)/100-1])
}

// load learns the costs that are kept.
func (m *Monitor) load(ctx context.Context) bool {
	if m.store == nil {
		return false
	}
	list, err := m.store.LoadCosts(ctx)
	if err != nil {
		m.log.WarnContext(ctx, "what queries cost could not be loaded; trying again", "error", err)
		return false
	}
	m.costMu.Lock()
	defer m.costMu.Unlock()
	for _, c := range list {
		m.kept[queryKey{c.Name, c.SQLHash}] = c.Cost
	}
	return true
}

// maxKept bounds what is kept, since a node can name any query: what most nodes
// have comes first.
const maxKept = 20_000

// save keeps the costs that were measured on enough nodes, or are known no
// better.
func (m *Monitor) save(ctx context.Context) {
	list := m.worthKeeping()
	if len(list) == 0 {
		return
	}
	if err := m.store.SaveCosts(ctx, list); err != nil {
		m.log.WarnContext(ctx, "what queries cost could not be kept; trying again", "error", err)
		return
	}
	m.costMu.Lock()
	defer m.costMu.Unlock()
	for _, c := range list {
		m.kept[queryKey{c.Name, c.SQLHash}] = c.Cost
	}
}

func (m *Monitor) worthKeeping() []QueryCost {
	m.costMu.Lock()
	defer m.costMu.Unlock()
	var list []QueryCost
	for k, c := range m.measured(m.now()) {
		if kept, had := m.kept[k]; k.hash == "" || had && c.Nodes < enoughNodes && c.Nodes < kept.Nodes {
			continue
		}
		list = append(list, QueryCost{k.name, k.hash, c})
	}
	room := maxKept - len(m.kept)
	known := func(c QueryCost) bool { _, ok := m.kept[queryKey{c.Name, c.SQLHash}]; return ok }
	slices.SortFunc(list, func(a, b QueryCost) int { return cmp.Compare(b.Nodes, a.Nodes) })
	return slices.DeleteFunc(list, func(c QueryCost) bool {
		if known(c) {
			return false
		}
		room--
		return room < 0
	})
}
