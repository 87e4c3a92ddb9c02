package resource

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/condition"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Rule looks at events as they come, and acts on those that fit. It is the
// server's alone: no config has it, and it holds as soon as its revision is there.
type Rule struct {
	Events    RuleEvents        `json:"events" yaml:"events" doc:"Which events it looks at"`
	Condition string            `json:"condition,omitempty" yaml:"condition,omitempty" doc:"What an event must have, in expr: columns.path startsWith \"/tmp/\"; any event fits if it is left out"`
	Resolve   string            `json:"resolve,omitempty" yaml:"resolve,omitempty" doc:"What an event has that says that it is over, in expr; it resolves the alert of the same key"`
	Threshold *RuleThreshold    `json:"threshold,omitempty" yaml:"threshold,omitempty" doc:"How often it must match; once if it is left out"`
	Key       string            `json:"key,omitempty" yaml:"key,omitempty" doc:"What it is about, as a template: matches with equal keys are one alert; the node if it is left out"`
	Severity  string            `json:"severity,omitempty" yaml:"severity,omitempty" enum:"info,low,medium,high,critical" doc:"medium if it is left out"`
	Title     string            `json:"title,omitempty" yaml:"title,omitempty" doc:"One line for people, as a template with values as {{columns.path}} and {{node.hostname}}"`
	Text      string            `json:"text,omitempty" yaml:"text,omitempty" doc:"More for people, as a template"`
	Labels    map[string]string `json:"labels,omitempty" yaml:"labels,omitempty" doc:"For grouping and silences; the values are templates"`
	Actions   RuleActions       `json:"actions,omitzero" yaml:"actions,omitempty" doc:"What a match does; an alert to the default notifiers if it is left out"`
	Suppress  Duration          `json:"suppress,omitempty" yaml:"suppress,omitempty" doc:"How long a match does nothing after one with the same key that did, up to 720h"`
	Shadow    bool              `json:"shadow,omitempty" yaml:"shadow,omitempty" doc:"Matches are counted, and do nothing"`
	Enabled   *bool             `json:"enabled,omitempty" yaml:"enabled,omitempty" doc:"false turns it off; true if it is left out"`
}

// RuleEvents says which events a rule looks at: those of any of its queries,
// tables and severities that pass the rest.
type RuleEvents struct {
	Queries    []string `json:"queries,omitempty" yaml:"queries,omitempty" doc:"Names of queries as in events, * for any text: pack_base_*, enrollment/who, trigger/rule:docker-run, osquery:status, muster:health"`
	Tables     []string `json:"tables,omitempty" yaml:"tables,omitempty" doc:"Or queries of packs and enrollment queries that read one of these tables"`
	Severities []string `json:"severities,omitempty" yaml:"severities,omitempty" doc:"Or lines of the agent's own log of these severities: info, warning, error, fatal"`
	Actions    []string `json:"actions,omitempty" yaml:"actions,omitempty" doc:"added, removed, snapshot or status; all but removed if it is left out"`
	Selector   string   `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes whose events it looks at; all if it is left out"`
}

// RuleThreshold asks for several matches of one key.
type RuleThreshold struct {
	Count    int      `json:"count,omitempty" yaml:"count,omitempty" doc:"So many matches, 2 to 1000"`
	Percent  float64  `json:"percent,omitempty" yaml:"percent,omitempty" doc:"Or matches on so many percent of the nodes that the rule's selector means"`
	Distinct string   `json:"distinct,omitempty" yaml:"distinct,omitempty" doc:"Count each value of this once, as columns.username; with percent it is the node"`
	Window   Duration `json:"window" yaml:"window" doc:"Within so long, 1s to 24h, by the time at which events were received"`
}

// RuleActions are what a match does.
type RuleActions struct {
	Alert *RuleAlert `json:"alert,omitempty" yaml:"alert,omitempty" doc:"Raise an alert"`
	Query *RuleQuery `json:"query,omitempty" yaml:"query,omitempty" doc:"Ask the node of the event a live query"`
	Tag   []string   `json:"tag,omitempty" yaml:"tag,omitempty" doc:"Tags that the node gets; it keeps them until the rule's resolve, an untag, or somebody takes them"`
	Untag []string   `json:"untag,omitempty" yaml:"untag,omitempty" doc:"Tags that rules gave the node and that it loses"`
}

// RuleAlert says who is told, and how the rule's alerts are treated.
type RuleAlert struct {
	Notifiers    []string   `json:"notifiers,omitempty" yaml:"notifiers,omitempty" doc:"Names of notifiers, webhooks among them; the default ones if it is left out"`
	ResolveAfter Duration   `json:"resolve_after,omitempty" yaml:"resolve_after,omitempty" doc:"An alert is over when nothing fired for so long, 1m to 720h; never if it is left out"`
	ReopenWithin Duration   `json:"reopen_within,omitempty" yaml:"reopen_within,omitempty" doc:"How long after its end an alert that fires again is the same, 1m to 720h; 24h if it is left out"`
	Flood        *RuleFlood `json:"flood,omitempty" yaml:"flood,omitempty" doc:"How many alerts it may open; what is over is counted by one alert; 50 in 10m if it is left out"`
}

// RuleFlood is a limit.
type RuleFlood struct {
	Max    int      `json:"max" yaml:"max" doc:"So many alerts, 1 to 1000"`
	Window Duration `json:"window,omitempty" yaml:"window,omitempty" doc:"Within so long, 1m to 24h; 10m if it is left out"`
}

// RuleQuery is asked of the node of the event, within the limits of triggers.
type RuleQuery struct {
	SQL        string                   `json:"sql" yaml:"sql" doc:"One SELECT; :name is replaced by a parameter as a literal"`
	Parameters map[string]RuleParameter `json:"parameters,omitempty" yaml:"parameters,omitempty" doc:"Values of the event, by name"`
	Expires    Duration                 `json:"expires,omitempty" yaml:"expires,omitempty" doc:"How long the node is asked until it answers, 1m to 720h; 10m if it is left out"`
	Limits     TriggerLimits            `json:"limits,omitzero" yaml:"limits,omitempty" doc:"How often it may ask"`
}

// RuleParameter is a value of an event.
type RuleParameter struct {
	Value     string `json:"value" yaml:"value" doc:"Which, in expr: columns.pid"`
	Type      string `json:"type,omitempty" yaml:"type,omitempty" enum:"text,integer" doc:"text, the default, or integer: digits alone"`
	MaxLength int    `json:"max_length,omitempty" yaml:"max_length,omitempty" doc:"In bytes, up to 4096; 256 if it is left out"`
	Pattern   string `json:"pattern,omitempty" yaml:"pattern,omitempty" doc:"A regular expression (RE2) that the whole value must match"`
	Wildcards bool   `json:"wildcards,omitempty" yaml:"wildcards,omitempty" doc:"Let % _ * ? and [ pass where the value becomes a pattern of LIKE or GLOB; else the node is not asked"`
}

// Severities are those of rules, the least first.
func Severities() []string { return []string{"info", "low", "medium", "high", "critical"} }

// statusSeverities are those of status lines; osquery numbers them in this order.
func statusSeverities() []string { return []string{"info", "warning", "error", "fatal"} }

// Bounds of rules.
const (
	defaultSeverity   = "medium"
	maxRuleNames      = 100
	maxThresholdCount = 1000 // matches of a key are in memory until it is reached
	maxRuleWindow     = 24 * time.Hour
	maxSuppress       = 30 * 24 * time.Hour
	maxRuleLabels     = 20
	maxFlood          = 1000 // more than anybody looks at, or a notifier bears
)

func (r *Rule) check(c *checker) {
	r.Events.check(c)
	if r.Severity != "" && !slices.Contains(Severities(), r.Severity) {
		c.refuse("severity", "unknown", "is %q; use %s", r.Severity, strings.Join(Severities(), ", "))
	}
	if time.Duration(r.Suppress) > maxSuppress {
		c.refuse("suppress", "range", "must be at most 720h")
	}
	if r.Threshold != nil {
		r.Threshold.check(c)
	}
	if a := r.Actions.Alert; a != nil {
		a.check(c)
	}
	c.tags("actions.tag", r.Actions.Tag)
	c.tags("actions.untag", r.Actions.Untag)
	if len(r.Labels) > maxRuleLabels {
		c.refuse("labels", "range", "must be at most %d", maxRuleLabels)
	}
	plan, wrong := r.plan(c.object, c.set.hashes[c.object.Key])
	for _, w := range wrong {
		c.refuse(w.path, "bad-expression", "%v", w.err)
	}
	if q := r.Actions.Query; q != nil {
		q.check(c)
		if plan.Question != nil {
			c.item("actions.query.sql", c.engine.Template(plan.Question.Template, policy.Query{Use: policy.Live}))
		}
	}
	if len(wrong) == 0 {
		plan.checkColumns(c)
	}
}

func (e RuleEvents) check(c *checker) {
	c.selector("events.selector", e.Selector)
	if len(e.Queries)+len(e.Tables)+len(e.Severities) == 0 {
		c.refuse("events", "no-events", "names nothing; write queries, tables or severities")
	}
	if len(e.Queries)+len(e.Tables) > maxRuleNames {
		c.refuse("events", "range", "names over %d queries and tables", maxRuleNames)
	}
	for i, name := range e.Queries {
		if name == "" {
			c.refuse(indexed("events.queries", i), "no-name", "is empty; write a name, as pack_base_processes")
		}
	}
	for i, name := range e.Tables {
		if _, ok := c.engine.Table(name); !ok {
			c.refuse(indexed("events.tables", i), "unknown-table", "%q is no table that this server knows", name)
		}
	}
	for i, s := range e.Severities {
		if !slices.Contains(statusSeverities(), s) {
			c.refuse(indexed("events.severities", i), "unknown", "%q is no severity; there are %s", s, strings.Join(statusSeverities(), ", "))
		}
	}
	for i, a := range e.Actions {
		if !slices.Contains([]string{event.Added, event.Removed, event.Snapshot, event.Status}, a) {
			c.refuse(indexed("events.actions", i), "unknown", "%q is no action; there are added, removed, snapshot and status", a)
		}
	}
}

func (a *RuleAlert) check(c *checker) {
	c.between("actions.alert.resolve_after", a.ResolveAfter, time.Minute, maxSuppress)
	c.between("actions.alert.reopen_within", a.ReopenWithin, time.Minute, maxSuppress)
	if f := a.Flood; f != nil {
		if f.Max < 1 || f.Max > maxFlood {
			c.refuse("actions.alert.flood.max", "range", "must be 1 to %d", maxFlood)
		}
		c.between("actions.alert.flood.window", f.Window, time.Minute, maxRuleWindow)
	}
}

func (t *RuleThreshold) check(c *checker) {
	if (t.Count != 0) == (t.Percent != 0) {
		c.refuse("threshold", "threshold-names", "name either count or percent")
	}
	if t.Count < 0 || t.Count == 1 || t.Count > maxThresholdCount {
		c.refuse("threshold.count", "range", "must be 2 to %d", maxThresholdCount)
	}
	if !(t.Percent >= 0 && t.Percent <= 100) {
		c.refuse("threshold.percent", "range", "must be more than 0 and at most 100")
	}
	if t.Percent != 0 && t.Distinct != "" {
		c.refuse("threshold.distinct", "both", "stands beside percent, which counts nodes")
	}
	if w := time.Duration(t.Window); w < time.Second || w > maxRuleWindow {
		c.refuse("threshold.window", "range", "must be 1s to 24h")
	}
}

func (q *RuleQuery) check(c *checker) {
	c.expires("actions.query.expires", q.Expires)
	for path, n := range map[string]int{"actions.query.limits.per_node": q.Limits.PerNode, "actions.query.limits.total": q.Limits.Total} {
		if n < 0 || n > maxTriggerRate {
			c.refuse(path, "range", "must be 1 to %d a minute, or left out", maxTriggerRate)
		}
	}
	for name, p := range q.Parameters {
		if p.Type != "" && p.Type != string(policy.TextParameter) && p.Type != string(policy.IntegerParameter) {
			c.refuse("actions.query.parameters."+name+".type", "bad-type", "is %q; use text or integer", p.Type)
		}
		if p.MaxLength < 0 || p.MaxLength > policy.MaxParameterLength {
			c.refuse("actions.query.parameters."+name+".max_length", "range", "must be 1 to %d, or left out", policy.MaxParameterLength)
		}
	}
}

// RulePlan is a Rule as it is served.
type RulePlan struct {
	Name        string
	Description string
	Hash        string // of the object
	*Rule

	Severity  string
	Condition *condition.Condition // nil: any event
	Resolve   *condition.Condition // nil: none
	Distinct  *condition.Value     // nil: every match counts
	Key       *condition.Template  // nil: the node
	Title     *condition.Template
	Text      *condition.Template
	Labels    map[string]*condition.Template
	Question  *RuleQuestion // nil: none

	who chosen[struct{}]
}

// RuleQuestion is what a rule asks.
type RuleQuestion struct {
	Template       *policy.Template
	Values         map[string]*condition.Value
	Expires        time.Duration
	PerNode, Total int // a minute
}

// Means reports whether the rule looks at a node's events; n is nil for a node
// that is gone, which rules without a selector still do.
func (p *RulePlan) Means(n *node.Identity) bool {
	if n == nil {
		return p.who.all
	}
	return p.who.means(n)
}

// On reports whether the rule is enabled.
func (p *RulePlan) On() bool { return p.Enabled == nil || *p.Enabled }

// Alerts reports whether a match raises an alert.
func (p *RulePlan) Alerts() bool {
	a := p.Actions
	return a.Alert != nil || a.Query == nil && len(a.Tag) == 0 && len(a.Untag) == 0
}

// Takes reports whether the rule looks at events of an action.
func (p *RulePlan) Takes(action string) bool {
	if len(p.Events.Actions) == 0 {
		return action != event.Removed
	}
	return slices.Contains(p.Events.Actions, action)
}

// TakesStatus reports whether it looks at status lines of a severity, as osquery
// numbers them.
func (p *RulePlan) TakesStatus(severity string) bool {
	if len(p.Events.Severities) == 0 {
		return true
	}
	return slices.ContainsFunc(p.Events.Severities, func(s string) bool {
		return severity == s || severity == fmt.Sprint(slices.Index(statusSeverities(), s))
	})
}

// wrongPart is what cannot be compiled of a rule.
type wrongPart struct {
	path string
	err  error
}

// ruleParts compiles the parts of a rule and keeps what is wrong with each.
type ruleParts struct{ wrong []wrongPart }

// part notes the error of a part; its text does not repeat the path.
func (b *ruleParts) part(path string, err error) {
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*errs.Error](err); ok && e.Field == path {
		err = errs.New(e.Kind, "%s", e.Message)
	}
	b.wrong = append(b.wrong, wrongPart{path, err})
}

func (b *ruleParts) condition(path, text string) *condition.Condition {
	if text == "" {
		return nil
	}
	c, err := condition.Compile(path, text)
	b.part(path, err)
	return c
}

func (b *ruleParts) value(path, text string) *condition.Value {
	v, err := condition.CompileValue(path, text)
	b.part(path, err)
	return v
}

func (b *ruleParts) template(path, text string) *condition.Template {
	t, err := condition.ParseTemplate(path, text)
	b.part(path, err)
	return t
}

// plan compiles the rule, and says of all parts what is wrong.
func (r *Rule) plan(o Object, hash string) (*RulePlan, []wrongPart) {
	b := &ruleParts{}
	p := &RulePlan{
		Name: o.Name, Description: o.Description, Hash: hash, Rule: r, Severity: r.Severity,
		Condition: b.condition("condition", r.Condition), Resolve: b.condition("resolve", r.Resolve),
		Text: b.template("text", r.Text), Labels: map[string]*condition.Template{},
	}
	if p.Severity == "" {
		p.Severity = defaultSeverity
	}
	title := r.Title
	if title == "" {
		title = o.Name + " on {{node.hostname}}"
	}
	p.Title = b.template("title", title)
	if r.Key != "" {
		p.Key = b.template("key", r.Key)
	}
	for name, text := range r.Labels {
		p.Labels[name] = b.template("labels."+name, text)
	}
	if t := r.Threshold; t != nil && t.Distinct != "" {
		p.Distinct = b.value("threshold.distinct", t.Distinct)
	}
	if r.Actions.Query != nil {
		p.Question = r.Actions.Query.question(b)
	}
	slices.SortFunc(b.wrong, func(a, c wrongPart) int { return strings.Compare(a.path, c.path) })
	return p, b.wrong
}

func (q *RuleQuery) question(b *ruleParts) *RuleQuestion {
	values := map[string]*condition.Value{}
	parameters := map[string]policy.Parameter{}
	for name, p := range q.Parameters {
		path := "actions.query.parameters." + name
		values[name] = b.value(path+".value", p.Value)
		pattern, err := TriggerParameter{Pattern: p.Pattern}.pattern()
		b.part(path+".pattern", err)
		parameters[name] = policy.Parameter{Type: policy.ParameterType(p.Type), MaxLength: p.MaxLength, Pattern: pattern, Wildcards: p.Wildcards}
	}
	template, err := policy.ParseTemplate(q.SQL, parameters)
	if err != nil {
		b.part("actions.query.sql", err)
		return nil
	}
	return &RuleQuestion{
		Template: template, Values: values, Expires: orDefault(q.Expires, defaultTriggerExpiry),
		PerNode: q.Limits.perNode(), Total: q.Limits.total(),
	}
}

func (s *Snapshot) addEventRule(o Object, r *Rule) error {
	p, wrong := r.plan(o, s.set.HashOf(o.Key))
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %s: %w", o.Key, wrong[0].path, wrong[0].err)
	}
	var err error
	p.who, err = choose(o, r.Events.Selector, struct{}{})
	s.eventRules = append(s.eventRules, p)
	return err
}

// EventRules returns the Rules, by name. Do not change it.
func (s *Snapshot) EventRules() []*RulePlan { return s.eventRules }

// EventRule returns a Rule by its name; nil without one.
func (s *Snapshot) EventRule(name string) *RulePlan {
	i := slices.IndexFunc(s.eventRules, func(p *RulePlan) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return s.eventRules[i]
}

// NewRulePlan compiles one Rule that is in no Set, to try it.
func NewRulePlan(o Object) (*RulePlan, error) {
	if _, ok := o.Spec.(*Rule); !ok {
		return nil, errs.New(errs.Invalid, "%s is no Rule", o.Key)
	}
	set, err := NewSet([]Object{o})
	if err != nil {
		return nil, err
	}
	s, err := Compile(0, set)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%v", err)
	}
	return s.eventRules[0], nil
}

// EventQueries yields the queries that give events, by their names there, with
// their texts.
func (s *Set) EventQueries() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for k, p := range Specs[*Pack](s) {
			for _, name := range slices.Sorted(maps.Keys(p.Queries)) {
				if !yield(AgentName(k.Name, name), p.Queries[name].Query) {
					return
				}
			}
		}
		for k, q := range Specs[*EnrollmentQuery](s) {
			if !yield("enrollment/"+k.Name, q.SQL) {
				return
			}
		}
	}
}

// JudgeEventQueries calls yield with what the policy says of each query that gives
// events, by its name there, under the snapshot's own rules.
func (s *Snapshot) JudgeEventQueries(shipped *policy.Engine, now time.Time, yield func(name string, v policy.Verdict)) error {
	own, err := shipped.With(s.set.Rules(now))
	if err != nil {
		return err
	}
	for name, sql := range s.set.EventQueries() {
		yield(name, own.Query(policy.Query{SQL: sql}))
	}
	return own.Close()
}

// MatchName reports whether a name fits a pattern, in which * is any text.
func MatchName(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for {
		var middle string
		middle, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, middle)
		}
		i := strings.Index(name, middle)
		if i < 0 {
			return false
		}
		name = name[i+len(middle):]
	}
}

// checkColumns warns of names that no query of the set has: a misspelt column is
// one that no event has, and the rule would never match.
func (p *RulePlan) checkColumns(c *checker) {
	known, complete := map[string]bool{}, true
	found := false
	for name, sql := range c.set.EventQueries() {
		if !slices.ContainsFunc(p.Events.Queries, func(pattern string) bool { return MatchName(pattern, name) }) {
			continue
		}
		found = true
		columns := c.engine.Result(sql)
		complete = complete && columns != nil
		for _, column := range columns {
			known[column.Name] = true
		}
	}
	if len(p.Events.Tables)+len(p.Events.Severities) > 0 || slices.ContainsFunc(p.Events.Queries, ownName) {
		return
	}
	if !found {
		c.warn("events.queries", "no-such-query", "no pack or enrollment query has a name that fits; the rule has nothing to look at")
		return
	}
	for _, name := range p.columns() {
		if complete && !known[name] {
			c.warn("condition", "unknown-column", "no query that the rule looks at has a column %s", name)
		}
	}
}

// ownName reports whether a pattern may mean events that are no query's of a set.
func ownName(pattern string) bool {
	for _, prefix := range []string{"osquery:", "muster:", "trigger/", "live", "*"} {
		if strings.HasPrefix(pattern, prefix) {
			return true
		}
	}
	return false
}

// columns returns the columns that conditions look at, sorted, each once.
func (p *RulePlan) columns() []string {
	var names []string
	for _, c := range []*condition.Condition{p.Condition, p.Resolve} {
		if c != nil {
			names = append(names, c.Columns()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
