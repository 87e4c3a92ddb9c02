package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// evidence looks for nodes that told that they run the revision.
func (t *tally) evidence() Result {
	s := &t.stage
	told := s.online - s.told.count
	r := Result{Stage: percent(told, s.online), Limit: t.gates.Evidence, Nodes: s.told.ids}
	switch {
	case s.admitted == 0 && t.control.nodes == 0:
		r.OK, r.Message = true, fmt.Sprintf("revision %d changes nothing for the nodes that are online", t.r.Revision)
		return r
	case s.refused.count > 0:
		r.Final, r.Nodes = true, s.refused.ids
		r.Message = fmt.Sprintf("%d nodes could not parse the config", s.refused.count)
		return r
	case s.online == 0:
		r.Waiting = true
		r.Message = fmt.Sprintf("none of the %d nodes of the stage that revision %d changes is online", s.admitted, t.r.Revision)
		return r
	}
	r.OK = r.Stage >= r.Limit
	r.Message = fmt.Sprintf("%s online nodes told that they run revision %d; %.4g %% must", ofNodes(told, s.online), t.r.Revision, r.Limit)
	if !r.OK && s.wrong.count > 0 {
		r.Message += fmt.Sprintf("; %d run another config", s.wrong.count)
		r.Nodes = s.wrong.ids
	}
	r.Waiting = !r.OK && percent(s.wrong.count, s.online) <= 100-r.Limit
	return r
}

// above judges a percentage of nodes that must not be more than a limit above
// that of the others.
func (t *tally) above(what string, stage, control *offenders, limit float64) Result {
	r := Result{
		Stage: percent(stage.count, t.stage.nodes), Control: percent(control.count, t.control.nodes), Nodes: stage.ids,
	}
	r.Limit = r.Control + limit
	r.OK = r.Stage <= r.Limit
	r.Message = fmt.Sprintf("%s nodes %s, and %s others; %.4g %% is the most", ofNodes(stage.count, t.stage.nodes), what,
		ofNodes(control.count, t.control.nodes), r.Limit)
	return r
}

func (t *tally) restarts() Result {
	r := t.above("restarted their worker", &t.stage.restarted, &t.control.restarted, t.gates.Restarts)
	r.Final = !r.OK
	return r
}

// queryFailures and denylisted have limits of their own, whatever the others
// show: one query that kills workers is too many.
func (t *tally) queryFailures() Result {
	return t.absolute("report that a scheduled query may have failed", &t.stage.failed, &t.control.failed, t.gates.QueryFailures)
}

func (t *tally) denylisted() Result {
	return t.absolute("newly denylisted a query", &t.stage.denied, &t.control.denied, t.gates.Denylisted)
}

func (t *tally) absolute(what string, stage, control *offenders, limit float64) Result {
	r := Result{
		Stage: percent(stage.count, t.stage.nodes), Control: percent(control.count, t.control.nodes), Limit: limit, Nodes: stage.ids,
	}
	r.OK = r.Stage <= limit
	r.Final = !r.OK
	r.Message = fmt.Sprintf("%s nodes %s; %.4g %% is the most", ofNodes(stage.count, t.stage.nodes), what, limit)
	if len(t.stage.queries) > 0 && stage.count > 0 {
		r.Message += ": " + t.stage.blamed()
	}
	return r
}

// maxBlamed is how many queries a sentence names.
const maxBlamed = 3

// blamed names the queries that failed on most nodes.
func (g *group) blamed() string {
	names := slices.SortedFunc(maps.Keys(g.queries), func(a, b string) int {
		if d := g.queries[b] - g.queries[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return strings.Join(names[:min(len(names), maxBlamed)], ", ")
}

func (t *tally) silent() Result {
	return t.above("went silent", &t.stage.silent, &t.control.silent, t.gates.Silent)
}

// errors looks at status lines, and at nodes that lost lines.
func (t *tally) errors() Result {
	if r := t.above("lost log lines", &t.stage.purged, &t.control.purged, 0); !r.OK {
		r.Final = true
		return r
	}
	hours := t.hours()
	r := t.multiple(&amounts{
		what: "status lines in a node's hour", times: t.gates.Errors, few: fewLines, most: maxLines,
		stage: t.stage.lines.mean() / hours, control: t.control.lines.mean() / hours, controls: t.control.lines.count,
		before: t.stage.linesBefore.mean() / t.hoursBefore(), known: t.before >= minBefore,
	})
	r.Nodes = t.stage.lines.ids()
	return r
}

func (t *tally) rows() Result {
	if first := t.stage.first.mean(); first > maxFirst {
		return Result{
			Stage: first, Control: t.control.first.mean(), Limit: maxFirst, Nodes: t.stage.first.ids(), Final: true,
			Message: fmt.Sprintf("%.4g rows of first results from a node; %.4g is the most", first, maxFirst),
		}
	}
	hours := t.hours()
	r := t.multiple(&amounts{
		what: "rows in a node's hour", times: t.gates.Rows, few: fewRows, most: maxRows,
		stage: t.stage.rows.mean() / hours, control: t.control.rows.mean() / hours, controls: t.control.rows.count,
		before: t.stage.rowsBefore.mean() / t.hoursBefore(), known: t.before >= minBefore,
	})
	r.Nodes = t.stage.rows.ids()
	return r
}

// cpu looks at what the stage's schedules cost, once the nodes told.
func (t *tally) cpu() Result {
	s, c := &t.stage, &t.control
	if t.stage.admitted == 0 && t.control.nodes == 0 {
		return Result{OK: true, Message: "the revision changes nothing for the nodes that are online"}
	}
	if percent(s.cpu.count, s.online) < t.gates.Evidence || s.online == 0 {
		return Result{
			Waiting: true, Limit: t.gates.Evidence,
			Message: fmt.Sprintf("%s online nodes told what their queries cost since they run the revision; they do every ten minutes", ofNodes(s.cpu.count, s.online)),
		}
	}
	r := t.multiple(&amounts{
		what: "CPU seconds in a node's day", times: t.gates.CPU, few: fewCPU, most: maxCPU,
		stage: s.cpu.mean(), control: c.cpu.mean(), controls: c.cpu.count,
		before: s.cpuBefore.mean(), known: s.cpuBefore.count > 0,
	})
	r.Nodes = s.cpu.ids()
	if s.idle > 0 {
		r.Message += fmt.Sprintf("; up to %d queries of a node have not run yet", s.idle)
	}
	return r
}

// amounts are what multiple compares.
type amounts struct {
	what           string
	times          float64 // the stage's may be so many times the others'
	few, most      float64 // no limit is below few; most is the limit without anything to compare with
	stage, control float64
	controls       int
	before         float64 // of the stage's nodes
	known          bool    // before means something
}

func (t *tally) multiple(a *amounts) Result {
	r := Result{Stage: a.stage, Control: a.control}
	with := "on other nodes"
	switch {
	case a.controls >= minControl:
		r.Limit = max(a.times*a.control, a.few)
	case a.known:
		with, r.Control = "on these nodes before", a.before
		r.Limit = max(a.times*a.before, a.few)
	default:
		with, r.Limit = "on other nodes, which are too few to compare", a.most
	}
	r.OK = r.Stage <= r.Limit
	r.Message = fmt.Sprintf("%.4g %s, and %.4g %s; %.4g is the most", r.Stage, a.what, r.Control, with, r.Limit)
	return r
}

// hours is how long the stage has been watched, and hoursBefore how long its
// nodes were before the rollout.
func (t *tally) hours() float64 { return max(t.now.Sub(t.r.StageAt), minWindow).Hours() }

func (t *tally) hoursBefore() float64 { return max(t.before, minWindow).Hours() }

// budget looks at the nodes of a budget.
func (t *tally) budget(b *spent) Result {
	r := Result{Gate: "budget/" + b.budget.Name, Stage: percent(b.over.count, b.nodes), Limit: budgetShare, Nodes: b.over.ids}
	r.OK = r.Stage <= r.Limit
	r.Message = fmt.Sprintf("%s nodes are over the budget; the most is %.4g CPU seconds, %.4g rows and %.4g bytes a day",
		ofNodes(b.over.count, b.nodes), b.worst.CPUSeconds, b.worst.Rows, b.worst.Bytes)
	return r
}

// failure returns the gates that fail the stage now. Before its bake time is
// over only final ones do; what is waited for fails it when patience is over,
// too.
func failure(results []Result, elapsed, bake time.Duration) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool {
		return r.OK || !r.Final && elapsed < bake || r.Waiting && elapsed < bake+Patience
	})
}

// passed reports whether all gates are OK.
func passed(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return !r.OK })
}

// sentence says why a stage failed.
func sentence(failed []Result) string {
	var parts []string
	for _, r := range failed {
		parts = append(parts, r.Gate+": "+r.Message)
	}
	return strings.Join(parts, "; ")
}
