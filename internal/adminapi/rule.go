package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rule"
)

func (a *API) registerRules() {
	register(a, account.ResourceRead, http.MethodGet, "/rules", "List rules and how they do", a.listRules)
	register(a, account.ResourceRead, http.MethodGet, "/rules/{name}", "Show a rule and how it does", a.showRule)
	register(a, account.EventRead, http.MethodPost, "/rules/test", "What a rule would have done with the events of the past", a.testRule)
}

func (a *API) listRules(ctx context.Context, _ *none) (*body[[]RuleStatus], error) {
	out := []RuleStatus{}
	for _, s := range a.Rules.Status(ctx) {
		out = append(out, ruleDocument(s))
	}
	return &body[[]RuleStatus]{out}, nil
}

// RuleRef names a rule in a path.
type RuleRef struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) showRule(ctx context.Context, in *RuleRef) (*body[RuleStatus], error) {
	for _, s := range a.Rules.Status(ctx) {
		if s.Plan.Name != in.Name {
			continue
		}
		out := ruleDocument(s)
		if o, ok := a.Catalog.Plan().Newest().Set().Get(resource.Key{Kind: "Rule", Name: in.Name}); ok {
			b, err := resource.YAML([]resource.Object{o})
			if err != nil {
				return nil, err
			}
			out.Document = string(b)
		}
		out.Bounds = ruleBounds(a.Rules.Bounds(ctx, in.Name), s.Groups)
		return &body[RuleStatus]{out}, nil
	}
	return nil, errNoRule(in.Name)
}

// ruleBounds are of one rule, with what was measured beside what is guaranteed.
func ruleBounds(list []rule.Bound, measured map[rule.Group]rule.Latency) []RuleBound {
	out := make([]RuleBound, 0, len(list))
	for _, b := range list {
		out = append(out, RuleBound{
			Query: b.Query, Platform: b.Platform, Nodes: b.Nodes, Interval: int(b.Interval.Seconds()), Seconds: int(b.Worst.Seconds()),
			ToMatch: ruleLatency(measured[b.Group]),
		})
	}
	return out
}

func errNoRule(name string) error {
	return errs.New(errs.NotFound, "there is no rule %s; apply one first", name)
}

func ruleDocument(s rule.Status) RuleStatus {
	c, p := s.Counts, s.Plan
	return RuleStatus{
		Name: p.Name, Description: p.Description, State: string(s.State), Why: s.Why, Severity: p.Severity,
		Queries: nonNil(p.Events.Queries), Tables: nonNil(p.Events.Tables), Condition: p.Rule.Condition,
		Counts: RuleCounts{
			Evaluated: c.Evaluated, Matched: c.Matched, Unknown: c.Unknown, Fired: c.Fired, Suppressed: c.Suppressed, Resolved: c.Resolved,
			Alerted: c.Alerted, Merged: c.Merged, Asked: c.Asked, Tagged: c.Tagged, Refused: c.Refused, Failed: c.Failed, Evicted: c.Evicted,
		},
		CostNS: s.Cost().Nanoseconds(), SpentMS: s.Spent.Milliseconds(), Keys: s.Keys, LastMatchAt: at(s.LastMatch),
		LastError: s.LastError, LastErrorAt: at(s.LastErrorAt), ToMatch: ruleLatency(s.ToMatch), Queued: ruleLatency(s.Queued),
	}
}

func nonNil(list []string) []string { return append([]string{}, list...) }

func ruleLatency(l rule.Latency) RuleLatency {
	return RuleLatency{Samples: l.Samples, P50: l.P50.Milliseconds(), P99: l.P99.Milliseconds(), Worst: l.Worst.Milliseconds()}
}

// Bounds of a test: its events are in memory, since windows need them in the
// order in which they came.
const (
	maxTestEvents  = 100_000
	testPage       = 10_000
	defaultMatches = 10
	testAtOnce     = 1
)

func (a *API) testRule(ctx context.Context, in *body[RuleTestInput]) (*body[RuleTest], error) {
	plan, err := a.testedRule(in.Body)
	if err != nil {
		return nil, err
	}
	since, err := moment("since", in.Body.Since, a.Now())
	if err != nil {
		return nil, err
	}
	if since.IsZero() {
		return nil, errs.Field("since", "is missing; write how far back, as 24h")
	}
	select {
	case a.ruleTests <- struct{}{}:
		defer func() { <-a.ruleTests }()
	default:
		return nil, errs.New(errs.Busy, "another rule is being tested; try again in a moment")
	}
	served := a.Catalog.Plan()
	reads, err := rule.QueryTables(a.Policy, a.Now(), served.Base, served.Newest())
	if err != nil {
		return nil, err
	}
	tables := rule.Reads(plan.Events.Tables, reads)
	records, truncated, err := a.eventsOf(ctx, rule.Filters(plan, tables), since)
	if err != nil {
		return nil, err
	}
	first := in.Body.First
	if first == 0 {
		first = defaultMatches
	}
	nodes := 0
	for n := range a.Registry.All {
		if plan.Means(n) {
			nodes++
		}
	}
	t := rule.NewTrial(rule.TrialOptions{Plan: plan, Tables: tables, Lookup: a.Registry.Lookup, Nodes: nodes, First: first, Now: a.Now})
	for _, r := range records {
		t.Look(r)
	}
	out := RuleTestOf(plan, t.Report(), a.event)
	out.Truncated = truncated
	return &body[RuleTest]{out}, nil
}

// testedRule returns the rule of a test.
func (a *API) testedRule(in RuleTestInput) (*resource.RulePlan, error) {
	if (in.Name == "") == (in.Document == "") {
		return nil, errs.Field("name", "give either name or document")
	}
	if in.Name != "" {
		if p := a.Rules.Plan(in.Name); p != nil {
			return p, nil
		}
		return nil, errNoRule(in.Name)
	}
	objects, err := resource.Parse("document", []byte(in.Document))
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, errs.Field("document", "holds %d documents; one Rule is needed", len(objects))
	}
	return resource.NewRulePlan(objects[0])
}

// eventsOf returns the events of some searches in the order in which they came,
// of very many the newest.
func (a *API) eventsOf(ctx context.Context, names []string, since time.Time) (records []event.Record, truncated bool, err error) {
	nodes, readable, err := a.visible(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	for _, name := range names {
		f := event.Filter{Query: name, Since: since, Nodes: nodes, Readable: readable, Limit: testPage}
		if name == "*" {
			f.Query = ""
		}
		for {
			page, err := a.Search.Search(ctx, f)
			if err != nil {
				return nil, false, err
			}
			records = append(records, page.Records...)
			if page.Next.IsZero() {
				break
			}
			if len(records) >= maxTestEvents {
				truncated = true
				break
			}
			f.Before = page.Next
		}
	}
	slices.SortFunc(records, func(x, y event.Record) int {
		switch {
		case x.Seq != y.Seq && x.Seq < y.Seq, x.Seq == y.Seq && x.Index < y.Index:
			return -1
		case x.Seq == y.Seq && x.Index == y.Index:
			return 0
		}
		return 1
	})
	records = slices.CompactFunc(records, func(x, y event.Record) bool { return x.Seq == y.Seq && x.Index == y.Index })
	return records, truncated, nil
}

// RuleTestOf returns the document of a report, whose events are made by document.
func RuleTestOf(p *resource.RulePlan, r rule.TrialReport, document func(event.Record) Event) RuleTest {
	out := RuleTest{
		Rule: p.Name, Events: r.Events, Evaluated: r.Evaluated, Matched: r.Matched, Unknown: r.Unknown, Fired: r.Fired,
		Suppressed: r.Suppressed, Resolved: r.Resolved, Nodes: r.Nodes, Keys: r.Keys, From: at(r.From), To: at(r.To),
		Notes: []string{}, Matches: []RuleMatch{},
	}
	if r.Evaluated > 0 {
		out.CostNS = r.Spent.Nanoseconds() / r.Evaluated
	}
	if span := r.To.Sub(r.From); span > 0 {
		out.PerDay = float64(r.Fired) * float64(24*time.Hour) / float64(span)
	}
	for _, m := range r.Matches {
		out.Matches = append(out.Matches, RuleMatch{Event: document(m.Event), Key: m.Key, Title: m.Title, Fired: m.Fired, Closes: m.Closes})
	}
	if r.Evaluated > 0 && r.Unknown == r.Evaluated {
		out.Notes = append(out.Notes, "every event lacks something that the condition looks at; is a column misspelt, or no number?")
	}
	return out
}
