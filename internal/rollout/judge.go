package rollout

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// View is what a judgement looks at.
type View struct {
	Nodes iter.Seq[Subject]
	// Before is how long nodes were watched before the rollout began.
	Before  time.Duration
	Budgets []Budget
}

// Subject is one node as a judgement sees it.
type Subject struct {
	Node     *node.Identity
	Online   bool
	Admitted bool // it is to have the revision
	// Hash and Former are the config_hash of the revision and of its base on
	// this node. Where they are equal the revision changes nothing, and the node
	// says nothing about it.
	Hash, Former string
	Evidence     Evidence
}

// Budget bounds what the schedule of some nodes may cost in a day.
type Budget struct {
	Name  string
	Spec  *resource.Budget
	Means func(n *node.Identity) bool
}

// What a judgement goes by, besides the gates' own limits.
const (
	// Patience is how long after the end of its bake time a stage waits for
	// evidence that is missing. Agents tell of themselves every ten minutes.
	Patience = 15 * time.Minute
	// heartbeat is how long a node that is well may log nothing: ten minutes,
	// osquery's splay of a tenth, and some tries to send.
	heartbeat = 12 * time.Minute
	// minControl is the least number of other nodes that a multiple of theirs
	// means something of. With fewer, the stage's nodes are compared with what
	// they themselves showed before the rollout, if they were watched for
	// minBefore; else with the figures below.
	minControl = 5
	minBefore  = 30 * time.Minute
	// minWindow is the shortest time by which rates are computed, so that a
	// line in the first second is not thousands an hour.
	minWindow = 10 * time.Minute
	// Below these no multiple is bad, and without anything to compare with these
	// are the limits. In an hour, of one node; CPU seconds in a day.
	fewLines, fewRows, fewCPU = 2.0, 200.0, 60.0
	maxLines, maxRows, maxCPU = 20.0, 5000.0, 432.0 // 432 s a day are half a percent of a core
	// maxFirst is how many rows of first results a node may send, which no other
	// node's can be compared with: all packages of a server are 3,000.
	maxFirst = 20_000.0
	// budgetShare is the percentage of nodes that may be over a budget: what is
	// measured scatters.
	budgetShare = 5.0
	// maxOffenders is how many nodes a result names.
	maxOffenders = 10
)

// withDefaults fills the limits that a policy leaves out.
func withDefaults(g resource.Gates) resource.Gates {
	g.Evidence = cmp.Or(g.Evidence, 95)
	g.Restarts = cmp.Or(g.Restarts, 1)
	g.QueryFailures = cmp.Or(g.QueryFailures, 0.1)
	g.Errors = cmp.Or(g.Errors, 2)
	g.Silent = cmp.Or(g.Silent, 1)
	g.Rows = cmp.Or(g.Rows, 3)
	g.CPU = cmp.Or(g.CPU, 2)
	return g
}

// Judge says what each gate of a rollout's running stage says now. Only nodes
// that the revision changes count: those in the stage are compared with the
// others that are online. A gate is OK, or Waiting for evidence, or failed.
func Judge(r *Rollout, v View, now time.Time) []Result {
	results, _ := judge(r, v, now)
	return results
}

func judge(r *Rollout, v View, now time.Time) ([]Result, *tally) {
	t := &tally{r: r, now: now, gates: withDefaults(r.Gates), before: v.Before, budgets: make([]spent, len(v.Budgets))}
	for i, b := range v.Budgets {
		t.budgets[i].budget = b
	}
	for s := range v.Nodes {
		t.add(&s)
	}
	var results []Result
	for _, g := range []struct {
		name  string
		judge func(*tally) Result
	}{
		{"evidence", (*tally).evidence},
		{"restarts", (*tally).restarts},
		{"query_failures", (*tally).queryFailures},
		{"denylisted", (*tally).denylisted},
		{"errors", (*tally).errors},
		{"silent", (*tally).silent},
		{"rows", (*tally).rows},
		{"cpu", (*tally).cpu},
	} {
		if !slices.Contains(r.Gates.Skip, g.name) {
			result := g.judge(t)
			result.Gate = g.name
			results = append(results, result)
		}
	}
	for i := range t.budgets {
		results = append(results, t.budget(&t.budgets[i]))
	}
	return results, t
}

// tally is what nodes showed, added up.
type tally struct {
	r       *Rollout
	now     time.Time
	gates   resource.Gates
	before  time.Duration
	stage   group
	control group
	budgets []spent
	nodes   int // all, whether the revision changes anything for them or not
}

// group is the stage or the control: only nodes that the revision changes.
type group struct {
	admitted int // all of them; the others are those that could be heard
	nodes    int // online, or heard of lately
	online   int
	told     offenders // of online ones: that they do not run the revision yet
	wrong    offenders // that they run something else

	restarted, failed, denied, refused, silent, purged offenders
	queries                                            map[string]int // that failed or were denylisted, nodes by query

	lines, rows, first, linesBefore, rowsBefore top
	cpu, cpuBefore                              top
	idle                                        int // most queries of a node that have not run
}

// spent is a budget with the nodes that are over it.
type spent struct {
	budget Budget
	nodes  int
	over   offenders
	worst  Day
}

// offenders counts nodes and names some.
type offenders struct {
	count int
	ids   []string
}

func (o *offenders) add(bad bool, id string) {
	if !bad {
		return
	}
	o.count++
	if len(o.ids) < maxOffenders {
		o.ids = append(o.ids, id)
	}
}

// top adds values up and names the nodes with the greatest.
type top struct {
	count int
	sum   float64
	most  []ranked // the greatest first
}

type ranked struct {
	value float64
	id    string
}

func (t *top) add(v float64, id string) {
	t.count++
	t.sum += v
	if v == 0 || len(t.most) == maxOffenders && v <= t.most[maxOffenders-1].value {
		return
	}
	i, _ := slices.BinarySearchFunc(t.most, v, func(r ranked, v float64) int { return cmp.Compare(v, r.value) })
	t.most = slices.Insert(t.most, i, ranked{v, id})
	t.most = t.most[:min(len(t.most), maxOffenders)]
}

func (t *top) mean() float64 {
	if t.count == 0 {
		return 0
	}
	return t.sum / float64(t.count)
}

func (t *top) ids() []string {
	var ids []string
	for _, r := range t.most {
		ids = append(ids, r.id)
	}
	return ids
}

// add takes in one node.
func (t *tally) add(s *Subject) {
	t.nodes++
	if s.Hash == s.Former {
		return
	}
	g := &t.control
	if s.Admitted {
		g = &t.stage
		t.stage.admitted++
	}
	e, id := &s.Evidence, s.Node.ID
	heard := !e.LastLog.Before(t.r.StageAt.Add(-heartbeat)) && !e.LastLog.IsZero()
	if !s.Online && !heard {
		return
	}
	g.nodes++
	if s.Online {
		g.online++
	}
	runs := e.Hash == s.Hash && s.Hash != "" // "" if its config is too large to be served
	g.told.add(s.Online && !runs, id)
	g.wrong.add(s.Online && !runs && e.Hash != s.Former && !e.HashAt.Before(t.r.StageAt), id)
	g.restarted.add(e.Restarts > 0 || e.DaemonRestarts > 1, id) // one of the daemon is a reboot or an update
	g.failed.add(e.Failed > 0, id)
	g.denied.add(e.Denied > 0, id)
	g.refused.add(e.Refused > 0, id)
	g.purged.add(e.Purged > 0, id)
	g.silent.add(!s.Online || t.now.Sub(later(e.LastLog, t.r.StageAt)) > heartbeat, id)
	for _, q := range e.Queries {
		if g.queries == nil {
			g.queries = map[string]int{}
		}
		g.queries[q]++
	}
	t.rates(g, s, runs)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rates takes in what is compared by its amount.
func (t *tally) rates(g *group, s *Subject, runs bool) {
	e, id := &s.Evidence, s.Node.ID
	g.lines.add(float64(e.Lines), id)
	g.rows.add(float64(e.Rows), id)
	g.first.add(float64(e.FirstRows), id)
	g.linesBefore.add(float64(e.Before.Lines), id)
	g.rowsBefore.add(float64(e.Before.Rows), id)
	if e.Before.Day != (Day{}) {
		g.cpuBefore.add(e.Before.Day.CPUSeconds, id)
	}
	// The schedule's cost counts once the node told of it under the config that it
	// is to run.
	if !e.Priced || s.Admitted && !runs {
		return
	}
	g.cpu.add(e.Day.CPUSeconds, id)
	g.idle = max(g.idle, e.Idle)
	if !s.Admitted {
		return
	}
	for i := range t.budgets {
		t.budgets[i].add(s)
	}
}

func (b *spent) add(s *Subject) {
	if !b.budget.Means(s.Node) {
		return
	}
	b.nodes++
	spec, day, was := b.budget.Spec, s.Evidence.Day, s.Evidence.Before.Day
	over := func(limit, is, was float64) bool { return limit > 0 && is > limit && is > was }
	b.over.add(over(spec.CPUSeconds, day.CPUSeconds, was.CPUSeconds) || over(spec.Rows, day.Rows, was.Rows) ||
		over(spec.Bytes, day.Bytes, was.Bytes), s.Node.ID)
	b.worst = b.worst.Max(day)
}

// percent returns a share as a percentage; 0 of nothing.
func percent(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(part) / float64(of)
}

// ofNodes writes "3 of 60 (5 %)".
func ofNodes(part, of int) string {
	return fmt.Sprintf("%d of %d (%.3g %%)", part, of, percent(part, of))
}
