package rule

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/condition"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
)

// Trial runs one rule over events of the past, and does nothing else. Not safe
// for concurrent use.
type Trial struct {
	TrialOptions

	judge  judge
	report TrialReport
	nodes  map[string]bool
	keys   map[string]bool
}

// TrialOptions are what a Trial needs.
type TrialOptions struct {
	Plan *resource.RulePlan
	// Tables are the names of queries that read the rule's tables; nil if that is
	// not known: then any query may be one of them.
	Tables map[string]bool
	// Lookup finds nodes; nil for events whose nodes nobody knows, which a selector
	// lets pass.
	Lookup func(id string) *node.Identity
	// Nodes is how many nodes there are, for thresholds of percent.
	Nodes int
	First int // most matches that are told
	Now   func() time.Time
}

// TrialReport is what a rule would have done.
type TrialReport struct {
	Events     int64 // that there were
	Evaluated  int64 // of these, that it looked at
	Matched    int64
	Unknown    int64
	Fired      int64
	Suppressed int64
	Resolved   int64
	Nodes      int // on which it would have fired
	Keys       int // that are alerts of their own
	Spent      time.Duration
	From, To   time.Time // of the events, by their arrival; zero without any
	Matches    []Match   // the first
}

// Match is one event that fits.
type Match struct {
	Event  event.Record
	Key    string
	Title  string
	Fired  bool // it would have done something
	Closes bool // it is resolved by the event
}

// NewTrial returns a Trial that has seen nothing.
func NewTrial(o TrialOptions) *Trial {
	t := &Trial{TrialOptions: o, nodes: map[string]bool{}, keys: map[string]bool{}}
	t.judge = judge{windows: newWindows(), changed: map[windowKey]Window{}, enough: func(p *resource.RulePlan) int { return nodesOf(o.Nodes, p.Threshold.Percent) }}
	return t
}

// Look gives it the next event, in the order of arrival.
func (t *Trial) Look(r event.Record) {
	t.report.Events++
	if t.report.From.IsZero() || r.Received.Before(t.report.From) {
		t.report.From = r.Received
	}
	if r.Received.After(t.report.To) {
		t.report.To = r.Received
	}
	n, known := t.lookup(r.NodeID)
	c := classOfQuery(r.Query)
	named := looksAt(t.Plan, t.Tables, c, r.Query) || t.Tables == nil && len(t.Plan.Events.Tables) > 0 && (c == scheduled || c == answer)
	if !named || !t.Plan.Takes(r.Action) || known && !t.Plan.Means(n) || slices.Contains(chainOf(r.Query), t.Plan.Name) {
		return
	}
	b := event.Batch{NodeID: r.NodeID, HostIdentifier: r.HostIdentifier, Received: r.Received}
	if n != nil {
		b.Tags = n.Tags
	}
	t.judgeOne(r, newOccurrence(&b, &r.Event, n, place(r), nil), c)
}

// place returns where the record stood. All that never was in a stream stands at
// the zero place, which is judged each time.
func place(r event.Record) event.Position { return event.Position{Seq: r.Seq, Index: r.Index} }

func (t *Trial) lookup(id string) (n *node.Identity, known bool) {
	if t.Lookup == nil {
		return nil, false
	}
	return t.Lookup(id), true
}

func (t *Trial) judgeOne(r event.Record, o occurrence, c class) {
	if c == status {
		if severity, _ := o.Columns.Get("severity"); !t.Plan.TakesStatus(severity) {
			return
		}
	}
	began := t.Now()
	v, key := t.judge.look(t.Plan, &o)
	t.report.Spent += t.Now().Sub(began)
	t.report.Evaluated++
	if v.matched() {
		t.report.Matched++
	}
	switch v {
	case unknown:
		t.report.Unknown++
	case suppressed:
		t.report.Suppressed++
	case fired:
		t.report.Fired++
		t.nodes[r.NodeID], t.keys[key] = true, true
	case resolved:
		t.report.Resolved++
	case nothing, counted, repeated:
	}
	if (v.matched() || v == resolved) && len(t.report.Matches) < t.First {
		t.report.Matches = append(t.report.Matches, Match{
			Event: r, Key: key, Title: t.Plan.Title.Render(&o.Event, maxTitleWord, maxTitle), Fired: v == fired, Closes: v == resolved,
		})
	}
}

// Report returns what was found so far.
func (t *Trial) Report() TrialReport {
	t.report.Nodes, t.report.Keys = len(t.nodes), len(t.keys)
	return t.report
}

// Filters returns searches that find all events that a rule may look at, and
// others. tables are as for a Trial.
func Filters(p *resource.RulePlan, tables map[string]bool) []string {
	var names []string
	for _, pattern := range p.Events.Queries {
		before, _, star := strings.Cut(pattern, "*")
		if star {
			before += "*"
		}
		names = append(names, before)
	}
	for name := range tables {
		names = append(names, name)
	}
	if len(p.Events.Severities) > 0 {
		names = append(names, event.StatusQuery)
	}
	slices.SortFunc(names, func(a, b string) int { // prefixes first
		return cmp.Or(cmp.Compare(len(strings.TrimSuffix(a, "*")), len(strings.TrimSuffix(b, "*"))), cmp.Compare(a, b))
	})
	var list []string
	for _, name := range names {
		if !slices.ContainsFunc(list, func(wide string) bool { return resource.MatchName(wide, name) }) {
			list = append(list, name)
		}
	}
	return list
}

// Reads returns the names of queries that read one of some tables, of what
// QueryTables returned.
func Reads(tables []string, reads map[string][]string) map[string]bool {
	names := map[string]bool{}
	for name, read := range reads {
		if slices.ContainsFunc(tables, func(t string) bool { return slices.Contains(read, t) }) {
			names[name] = true
		}
	}
	return names
}

// Columns returns the columns of an event, for people: those that a rule looks at
// first.
func Columns(p *resource.RulePlan, r event.Record) osquery.Row {
	row := osquery.AppendRow(nil, r.Columns)
	var looked []string
	for _, c := range []*condition.Condition{p.Condition, p.Resolve} {
		if c != nil {
			looked = append(looked, c.Columns()...)
		}
	}
	slices.SortStableFunc(row, func(a, b osquery.Column) int {
		first := func(c osquery.Column) int {
			if slices.Contains(looked, c.Name) {
				return 0
			}
			return 1
		}
		return cmp.Compare(first(a), first(b))
	})
	return row
}
