package rule

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// Engine evaluates rules. Handle is for one caller; all else is safe for
// concurrent use.
type Engine struct {
	Options

	mu     sync.Mutex // of these four
	force  *force
	stats  map[string]*stats
	bounds bounds
	mended []alert.Firing // rules that were set aside and changed, to be told of

	// Of Handle alone.
	windows    *windows
	population map[string]population
	tries      int    // how often actions of the message failed
	trying     uint64 // the message
	swept      time.Time
	rows       []occurrence // used again and again

	keys    atomic.Pointer[map[string]int] // windows by rule, for Status
	skipped atomic.Int64                   // messages that were left out
	behind  atomic.Int64                   // when the newest event that was judged was received, in microseconds
}

// NewEngine returns an Engine without windows; see Load.
func NewEngine(o Options) *Engine {
	return &Engine{Options: o, stats: map[string]*stats{}, windows: newWindows(), population: map[string]population{}, rows: make([]occurrence, maxRows)}
}

// Load takes up the windows that are kept. last is the stream's newest message:
// places behind it are those of another stream, as after a restored backup, and
// are forgotten.
func (e *Engine) Load(ctx context.Context, last uint64) error {
	kept, err := e.Store.Windows(ctx, maxLoaded)
	if err != nil {
		return err
	}
	for i := range kept {
		if kept[i].Last.Seq > last {
			kept[i].Last = event.Position{}
		}
	}
	e.windows.put(kept, func(string) int { return maxKeys })
	return nil
}

// force are the rules of one plan.
type force struct {
	plan   *resource.Plan
	rules  []*running
	byRule map[string]*running
	byName map[query][]*running // as far as they were seen
}

// query is a name with who says it.
type query struct {
	class class
	name  string
}

// running is a rule that is in force.
type running struct {
	*resource.RulePlan

	stats  *stats
	tables map[string]bool // names of queries that read the rule's tables
}

// maxNames bounds the names whose rules are remembered: nodes make up names.
const maxNames = 10_000

// rulesFor returns the rules that look at a query.
func (f *force) rulesFor(q query) []*running {
	if rules, ok := f.byName[q]; ok {
		return rules
	}
	var rules []*running
	for _, r := range f.rules {
		if r.On() && looksAt(r.RulePlan, r.tables, q.class, q.name) {
			rules = append(rules, r)
		}
	}
	if len(f.byName) >= maxNames {
		clear(f.byName)
	}
	f.byName[q] = rules
	return rules
}

// current returns the rules of the plan that is served.
func (e *Engine) current(ctx context.Context) *force {
	plan := e.Catalog.Plan()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.force != nil && e.force.plan == plan {
		return e.force
	}
	f := &force{plan: plan, byRule: map[string]*running{}, byName: map[query][]*running{}}
	names := map[string]bool{}
	tables := e.tablesOf(ctx, plan)
	for _, p := range plan.Newest().EventRules() {
		names[p.Name] = true
		st := e.stats[p.Name]
		if st == nil || st.hash != p.Hash {
			if st != nil && st.isAside() {
				e.mended = append(e.mended, brokenFiring(p.Name, "it changed", e.Now(), true))
			}
			st = &stats{hash: p.Hash}
			e.stats[p.Name] = st
		}
		r := &running{RulePlan: p, stats: st, tables: tables(p.Events.Tables)}
		f.rules, f.byRule[p.Name] = append(f.rules, r), r
	}
	for name := range e.stats {
		if !names[name] {
			delete(e.stats, name)
		}
	}
	e.force = f
	return f
}

// tablesOf returns which queries of a plan read some tables. It asks the policy
// only if a rule does.
func (e *Engine) tablesOf(ctx context.Context, plan *resource.Plan) func(tables []string) map[string]bool {
	reads := sync.OnceValue(func() map[string][]string {
		m, err := QueryTables(e.Policy, e.Now(), plan.Base, plan.Newest())
		if err != nil {
			e.Log.ErrorContext(ctx, "rules that name tables look at nothing: the policy cannot be asked", "error", err)
		}
		return m
	})
	return func(tables []string) map[string]bool {
		if len(tables) == 0 {
			return nil
		}
		return Reads(tables, reads())
	}
}

// QueryTables returns the tables that the queries of some snapshots read, by the
// queries' names in events.
func QueryTables(engine *policy.Engine, now time.Time, snapshots ...*resource.Snapshot) (map[string][]string, error) {
	reads := map[string][]string{}
	for _, s := range snapshots {
		err := s.JudgeEventQueries(engine, now, func(name string, v policy.Verdict) { reads[name] = append(reads[name], v.Tables...) })
		if err != nil {
			return reads, err
		}
	}
	return reads, nil
}

// population is how many nodes a rule means.
type population struct {
	hash  string
	nodes int
	at    time.Time
}

// populationFor is how long a number of nodes is believed: counting looks at each.
const populationFor = time.Minute

// enough returns how many nodes the percentage of a rule is, at least one.
func (e *Engine) enough(p *resource.RulePlan) int {
	had, now := e.population[p.Name], e.Now()
	if age := now.Sub(had.at); had.hash != p.Hash || age < 0 || age > populationFor {
		had = population{hash: p.Hash, at: now}
		for n := range e.Registry.All {
			if p.Means(n) {
				had.nodes++
			}
		}
		e.population[p.Name] = had
	}
	return nodesOf(had.nodes, p.Threshold.Percent)
}

// nodesOf returns how many nodes are more than a percentage.
func nodesOf(nodes int, percent float64) int {
	return max(1, int(math.Floor(float64(nodes)*percent/100))+1) //nolint:mnd // percent
}

// Handle judges one message of the stream. With an error nothing of it counts,
// and it is to be given again.
func (e *Engine) Handle(ctx context.Context, seq uint64, batches []event.Batch) error {
	t := &turn{engine: e, force: e.current(ctx), now: e.Now(), results: map[*running]*result{}, judge: judge{windows: e.windows, changed: map[windowKey]Window{}, enough: e.enough}}
	e.mu.Lock()
	t.firings = append(t.firings, e.mended...)
	e.mu.Unlock()
	mended := len(t.firings)
	place := event.Position{Seq: seq}
	for i := range batches {
		t.batch(&batches[i], &place)
		e.behind.Store(batches[i].Received.UnixMicro())
	}
	if seq != e.trying {
		e.trying, e.tries = seq, 0
	}
	if err := t.act(ctx); err != nil {
		return err
	}
	if err := e.keep(ctx, t); err != nil {
		return err
	}
	e.mu.Lock()
	e.mended = e.mended[mended:]
	e.mu.Unlock()
	for r, got := range t.results {
		r.stats.keep(got)
	}
	return nil
}

// sweepEvery is how often windows are looked through for old ones.
const sweepEvery = 10 * time.Minute

// keep keeps the windows that a message changed.
func (e *Engine) keep(ctx context.Context, t *turn) error {
	plans := t.force.byRule
	sweep := t.now.Sub(e.swept) > sweepEvery
	if len(t.judge.changed) == 0 && !sweep {
		return nil
	}
	changed := make([]Window, 0, len(t.judge.changed))
	for _, w := range t.judge.changed {
		changed = append(changed, w)
	}
	slices.SortFunc(changed, func(a, b Window) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Key, b.Key)) })
	if err := e.Store.SaveWindows(ctx, changed); err != nil {
		return fmt.Errorf("keep what rules remember: %w", err)
	}
	gone := e.windows.put(changed, func(rule string) int {
		if r := plans[rule]; r != nil && r.Threshold != nil && r.Threshold.Count > 0 {
			return min(maxKeys, maxHits/r.Threshold.Count)
		}
		return maxKeys
	})
	if sweep {
		e.swept = t.now
		gone = append(gone, e.windows.expire(t.now, func(rule string) (time.Duration, bool) {
			r := plans[rule]
			if r == nil || !stateful(r.RulePlan) {
				return 0, false
			}
			span := time.Duration(r.Suppress)
			if r.Threshold != nil {
				span = max(span, time.Duration(r.Threshold.Window))
			}
			return span, true
		})...)
	}
	keys := map[string]int{}
	for rule, kept := range e.windows.kept {
		keys[rule] = len(kept)
	}
	e.keys.Store(&keys)
	for rule, n := range e.windows.evicted {
		if r := plans[rule]; r != nil {
			t.of(r).counts.Evicted += n
		}
	}
	clear(e.windows.evicted)
	if len(gone) == 0 {
		return nil
	}
	if err := e.Store.SaveWindows(ctx, gone); err != nil {
		// They are only more than are needed; the next start has them again.
		e.Log.WarnContext(ctx, "windows of rules that are over were not removed", "error", err)
	}
	return nil
}

// Skip tells that messages were left out because they could not be waited for.
func (e *Engine) Skip(messages int64) { e.skipped.Add(messages) }

// Skipped returns how many messages were left out.
func (e *Engine) Skipped() int64 { return e.skipped.Load() }

// Judged returns when the newest event that was judged had been received; zero
// before the first.
func (e *Engine) Judged() time.Time {
	if at := e.behind.Load(); at != 0 {
		return time.UnixMicro(at).UTC()
	}
	return time.Time{}
}

// Status returns all rules and how they do, by name.
func (e *Engine) Status(ctx context.Context) []Status {
	f := e.current(ctx)
	keys := map[string]int{}
	if known := e.keys.Load(); known != nil {
		keys = *known
	}
	list := make([]Status, 0, len(f.rules))
	for _, r := range f.rules {
		s := r.stats.status(r.RulePlan)
		s.Keys = keys[r.Name]
		list = append(list, s)
	}
	return list
}

// Plan returns a rule as it is served; nil without one.
func (e *Engine) Plan(name string) *resource.RulePlan {
	return e.Catalog.Plan().Newest().EventRule(name)
}

var _ Registry = (*node.Registry)(nil)
