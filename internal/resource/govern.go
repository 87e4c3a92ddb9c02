package resource

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/policy"
)

// TablePolicy changes what the shipped policy says. Several are joined; where
// two name one thing, the higher tier holds.
type TablePolicy struct {
	Tables    map[string]TierRule `json:"tables,omitempty" yaml:"tables,omitempty" doc:"Tiers by table"`
	Columns   map[string]TierRule `json:"columns,omitempty" yaml:"columns,omitempty" doc:"Tiers by table.column"`
	Functions map[string]TierRule `json:"functions,omitempty" yaml:"functions,omitempty" doc:"Tiers by function"`
	Options   map[string]TierRule `json:"options,omitempty" yaml:"options,omitempty" doc:"Tiers by osquery flag"`
	// Arguments are the literals that a column may be compared with.
	Arguments map[string][]string `json:"arguments,omitempty" yaml:"arguments,omitempty" doc:"Patterns (% within a level, %% below) that an argument may have, by table.column, as file.path; anything else is not provable"`
	// Extensions are tables that osquery itself does not have.
	Extensions map[string]Extension `json:"extensions,omitempty" yaml:"extensions,omitempty" doc:"Tables of osquery extensions"`
}

// TierRule is a tier with its reason.
type TierRule struct {
	Tier   int    `json:"tier" yaml:"tier" doc:"0 harmless, 1 internal, 2 sensitive, 3 dangerous"`
	Reason string `json:"reason,omitempty" yaml:"reason,omitempty" doc:"Why"`
}

// Extension is a table that an osquery extension adds.
type Extension struct {
	Columns []string `json:"columns" yaml:"columns" doc:"Its columns"`
	Tier    int      `json:"tier" yaml:"tier" doc:"Its tier"`
	Reason  string   `json:"reason,omitempty" yaml:"reason,omitempty" doc:"Why"`
}

func (p *TablePolicy) check(c *checker) {
	for path, rules := range map[string]map[string]TierRule{"tables": p.Tables, "columns": p.Columns, "functions": p.Functions, "options": p.Options} {
		for name, r := range rules {
			c.tier(path+"."+name+".tier", r.Tier)
		}
	}
	for name, x := range p.Extensions {
		c.tier("extensions."+name+".tier", x.Tier)
		if len(x.Columns) == 0 {
			c.refuse("extensions."+name+".columns", "no-columns", "are missing")
		}
	}
}

// PolicyException allows one exact text or option, whatever its tier is. It
// names either sql, or sha256, or option with value.
type PolicyException struct {
	SQL     string `json:"sql,omitempty" yaml:"sql,omitempty" doc:"The exact SQL text"`
	SHA256  string `json:"sha256,omitempty" yaml:"sha256,omitempty" doc:"Or the SHA-256 of the exact text, in hex"`
	Path    string `json:"path,omitempty" yaml:"path,omitempty" doc:"Or a part of a profile, as options.verbose or yara.signature_urls[0], with value"`
	Value   any    `json:"value,omitempty" yaml:"value,omitempty" doc:"The exact value at path"`
	Reason  string `json:"reason" yaml:"reason" doc:"Why it is needed, and who agreed"`
	Expires Moment `json:"expires,omitzero" yaml:"expires,omitempty" doc:"When it ends; changes that rely on it are refused from then on"`
}

// Pin returns the hash by which an exact text is allowed, "" if the exception
// is for something else.
func (e *PolicyException) Pin() string {
	if e.SQL != "" {
		return policy.Hash(e.SQL)
	}
	return strings.ToLower(e.SHA256)
}

// allows reports whether the exception is for the value at a path of a profile.
func (e *PolicyException) allows(path string, value any) bool {
	if e.Path == "" || e.Path != path {
		return false
	}
	a, errA := json.Marshal(e.Value)
	b, errB := json.Marshal(value)
	return errA == nil && errB == nil && string(a) == string(b)
}

func (e *PolicyException) check(c *checker) {
	named := 0
	for _, given := range []bool{e.SQL != "", e.SHA256 != "", e.Path != ""} {
		if given {
			named++
		}
	}
	if named != 1 {
		c.refuse("", "exception-names", "name exactly one of sql, sha256 or path")
	}
	if e.SHA256 != "" && (len(e.SHA256) != 64 || strings.Trim(strings.ToLower(e.SHA256), "0123456789abcdef") != "") {
		c.refuse("sha256", "bad-hash", "is no SHA-256 in hex; muster policy check -o json prints it")
	}
	if strings.TrimSpace(e.Reason) == "" {
		c.refuse("reason", "no-reason", "is missing; write why it is needed, and who agreed")
	}
	if e.expired(c.now) {
		c.warn("expires", "expired", "the exception ended at %s; it allows nothing", e.Expires.UTC().Format(time.RFC3339))
	}
}

func (e *PolicyException) expired(now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires.Time)
}

// ApprovalPolicy says who else must agree. Of several rules that fit, the one
// that asks for most people holds.
type ApprovalPolicy struct {
	Rules []ApprovalRule `json:"rules" yaml:"rules" doc:"Rules; of those that fit, the one that asks for most holds"`
}

// ApprovalRule is one rule.
type ApprovalRule struct {
	Tier      int    `json:"tier,omitempty" yaml:"tier,omitempty" doc:"Fits changes of this tier and above"`
	Selector  string `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Fits changes that affect one of these nodes; any if it is left out"`
	NodesOver int    `json:"nodes_over,omitempty" yaml:"nodes_over,omitempty" doc:"Fits changes that affect more nodes than this"`
	Approvals int    `json:"approvals" yaml:"approvals" doc:"How many other people must approve"`
}

// maxApprovals is as many people as anybody gets together.
const maxApprovals = 10

func (p *ApprovalPolicy) check(c *checker) {
	for i, r := range p.Rules {
		path := indexed("rules", i)
		c.tier(path+".tier", r.Tier)
		c.selector(path+".selector", r.Selector)
		if r.Approvals < 0 || r.Approvals > maxApprovals {
			c.refuse(path+".approvals", "range", "must be 0 to %d", maxApprovals)
		}
		if r.NodesOver < 0 {
			c.refuse(path+".nodes_over", "range", "must not be negative")
		}
	}
}

// RolloutPolicy says how a revision reaches the nodes. The one with the highest
// min_tier that is not above the change's tier holds; of equal ones, the first
// by name. Without any, all nodes are served at once.
type RolloutPolicy struct {
	MinTier int     `json:"min_tier,omitempty" yaml:"min_tier,omitempty" doc:"Holds for changes of this tier and above"`
	Stages  []Stage `json:"stages" yaml:"stages" doc:"Stages in their order; a last one of all nodes is added if it is missing"`
	Gates   Gates   `json:"gates,omitzero" yaml:"gates,omitempty" doc:"What must hold at the end of each stage"`
	// OnFailure is pause or rollback.
	OnFailure string `json:"on_failure,omitempty" yaml:"on_failure,omitempty" doc:"What a failed gate does: pause, or rollback; pause if it is left out" enum:"pause,rollback"`
}

// Stage is a part of the nodes: those that a selector means, or a number, or a
// percentage, by a stable hash of the node's id, within each platform. Nodes of
// the stages before are in it.
type Stage struct {
	Name     string   `json:"name,omitempty" yaml:"name,omitempty" doc:"A word for people"`
	Selector string   `json:"selector,omitempty" yaml:"selector,omitempty" doc:"These nodes"`
	Nodes    int      `json:"nodes,omitempty" yaml:"nodes,omitempty" doc:"Or so many nodes of each platform"`
	Percent  float64  `json:"percent,omitempty" yaml:"percent,omitempty" doc:"Or that percentage of each platform's nodes"`
	Bake     Duration `json:"bake,omitempty" yaml:"bake,omitempty" doc:"How long the stage is watched before the next, as 30m"`
}

// Gates are the limits of what nodes in a stage may show, compared with those
// that still have the former revision. Zero values are the defaults.
type Gates struct {
	// Evidence is the least share of a stage's online nodes that must have told
	// that they run the revision.
	Evidence      float64 `json:"evidence,omitempty" yaml:"evidence,omitempty" doc:"Least percentage of the stage's online nodes that must have told that they run the revision; 95 if it is left out"`
	Restarts      float64 `json:"restarts,omitempty" yaml:"restarts,omitempty" doc:"Most percentage of nodes whose osquery worker restarted, above the other nodes' percentage; 1"`
	QueryFailures float64 `json:"query_failures,omitempty" yaml:"query_failures,omitempty" doc:"Most percentage of nodes that report that a scheduled query may have failed; 0.1"`
	Denylisted    float64 `json:"denylisted,omitempty" yaml:"denylisted,omitempty" doc:"Most percentage of nodes with a newly denylisted query; 0"`
	Errors        float64 `json:"errors,omitempty" yaml:"errors,omitempty" doc:"Most status lines of severity error or warning, as a multiple of the other nodes'; 2"`
	Silent        float64 `json:"silent,omitempty" yaml:"silent,omitempty" doc:"Most percentage of nodes that went silent, above the other nodes' percentage; 1"`
	Rows          float64 `json:"rows,omitempty" yaml:"rows,omitempty" doc:"Most rows of a node in an hour, as a multiple of the other nodes'; 3"`
	CPU           float64 `json:"cpu,omitempty" yaml:"cpu,omitempty" doc:"Most CPU time of a node's queries, as a multiple of the other nodes'; 2"`
	// Skip names gates that are not looked at.
	Skip []string `json:"skip,omitempty" yaml:"skip,omitempty" doc:"Gates that are left out, by their names here"`
}

// GateNames are the names that Skip knows.
func GateNames() []string {
	return []string{"evidence", "restarts", "query_failures", "denylisted", "errors", "silent", "rows", "cpu"}
}

// OnFailure's values.
const (
	FailurePause    = "pause"
	FailureRollback = "rollback"
)

const maxStages = 20

func (p *RolloutPolicy) check(c *checker) {
	c.tier("min_tier", p.MinTier)
	if !slices.Contains([]string{"", FailurePause, FailureRollback}, p.OnFailure) {
		c.refuse("on_failure", "unknown", "must be %s or %s", FailurePause, FailureRollback)
	}
	if len(p.Stages) == 0 || len(p.Stages) > maxStages {
		c.refuse("stages", "range", "must be 1 to %d", maxStages)
	}
	last := 0.0
	for i, s := range p.Stages {
		path := indexed("stages", i)
		c.selector(path+".selector", s.Selector)
		named := 0
		for _, given := range []bool{s.Selector != "", s.Nodes != 0, s.Percent != 0} {
			if given {
				named++
			}
		}
		if named != 1 {
			c.refuse(path, "stage-names", "name exactly one of selector, nodes or percent")
		}
		if s.Nodes < 0 || s.Percent < 0 || s.Percent > 100 {
			c.refuse(path, "range", "nodes must be positive, and percent at most 100")
		}
		if s.Percent != 0 && s.Percent <= last {
			c.warn(path+".percent", "not-growing", "is not more than in the stage before")
		}
		last = max(last, s.Percent)
	}
	p.Gates.check(c)
	for i, name := range p.Gates.Skip {
		if !slices.Contains(GateNames(), name) {
			c.refuse(indexed("gates.skip", i), "unknown", "%q is no gate; there are %s", name, strings.Join(GateNames(), ", "))
		}
	}
}

// check refuses limits that are none.
func (g Gates) check(c *checker) {
	for name, limit := range map[string]float64{
		"evidence": g.Evidence, "restarts": g.Restarts, "query_failures": g.QueryFailures, "denylisted": g.Denylisted,
		"errors": g.Errors, "silent": g.Silent, "rows": g.Rows, "cpu": g.CPU,
	} {
		if !(limit >= 0) || math.IsInf(limit, 0) || name == "evidence" && limit > 100 {
			c.refuse("gates."+name, "range", "must not be negative, and evidence at most 100; skip a gate by its name in gates.skip")
		}
	}
}

// FreezeWindow is a time in which nothing that agents run may change: either
// from and until, or each week.
type FreezeWindow struct {
	From     Moment  `json:"from,omitzero" yaml:"from,omitempty" doc:"When it begins"`
	Until    Moment  `json:"until,omitzero" yaml:"until,omitempty" doc:"When it ends"`
	Weekly   *Weekly `json:"weekly,omitempty" yaml:"weekly,omitempty" doc:"Or each week"`
	Timezone string  `json:"timezone,omitempty" yaml:"timezone,omitempty" doc:"Of weekly, as Europe/Berlin; UTC if it is left out"`
	Reason   string  `json:"reason,omitempty" yaml:"reason,omitempty" doc:"What people who are refused read"`
}

// Weekly is a time of every week, as from "fri 16:00" until "mon 08:00".
type Weekly struct {
	From  string `json:"from" yaml:"from" doc:"As fri 16:00"`
	Until string `json:"until" yaml:"until" doc:"As mon 08:00"`
}

func (f *FreezeWindow) check(c *checker) {
	if f.Weekly == nil {
		if f.From.IsZero() || !f.Until.After(f.From.Time) {
			c.refuse("until", "range", "must be after from; or write weekly")
		}
		return
	}
	if !f.From.IsZero() || !f.Until.IsZero() {
		c.refuse("weekly", "both", "stands beside from and until; write one or the other")
	}
	if _, err := time.LoadLocation(f.Timezone); err != nil {
		c.refuse("timezone", "unknown", "%q is not known; write one as Europe/Berlin", f.Timezone)
	}
	from, err := minuteOfWeek(f.Weekly.From)
	if err != nil {
		c.refuse("weekly.from", "bad-time", "%v", err)
	}
	until, err := minuteOfWeek(f.Weekly.Until)
	if err != nil {
		c.refuse("weekly.until", "bad-time", "%v", err)
	}
	if from == until {
		c.refuse("weekly.until", "range", "is the same as from")
	}
}

// Holds reports whether the window is open at a time.
func (f *FreezeWindow) Holds(now time.Time) bool {
	if f.Weekly == nil {
		return !now.Before(f.From.Time) && now.Before(f.Until.Time)
	}
	zone, err := time.LoadLocation(f.Timezone)
	if err != nil {
		return true // it was checked; a system that lost its zones freezes
	}
	from, errFrom := minuteOfWeek(f.Weekly.From)
	until, errUntil := minuteOfWeek(f.Weekly.Until)
	if errFrom != nil || errUntil != nil {
		return true
	}
	t := now.In(zone)
	at := int(t.Weekday())*24*60 + t.Hour()*60 + t.Minute()
	if from < until {
		return from <= at && at < until
	}
	return at >= from || at < until // over Saturday night
}

// minuteOfWeek reads "fri 16:00"; Sunday 00:00 is 0.
func minuteOfWeek(s string) (int, error) {
	day, clock, _ := strings.Cut(strings.ToLower(strings.TrimSpace(s)), " ")
	i := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, day)
	t, err := time.Parse("15:04", strings.TrimSpace(clock))
	if i < 0 || err != nil {
		return 0, errs.New(errs.Invalid, "%q is no time of a week; write it as fri 16:00", s)
	}
	return i*24*60 + t.Hour()*60 + t.Minute(), nil
}

// Budget bounds what the schedule of each node of a group may cost in a day, as
// observed. 0 is no bound.
type Budget struct {
	Selector   string  `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that it is for; all if it is left out"`
	CPUSeconds float64 `json:"cpu_seconds_per_day,omitempty" yaml:"cpu_seconds_per_day,omitempty" doc:"CPU seconds of a node in a day; 432 is half a percent of a core"`
	Rows       float64 `json:"rows_per_day,omitempty" yaml:"rows_per_day,omitempty" doc:"Rows of a node in a day"`
	Bytes      float64 `json:"bytes_per_day,omitempty" yaml:"bytes_per_day,omitempty" doc:"Bytes of a node in a day"`
}

func (b *Budget) check(c *checker) {
	c.selector("selector", b.Selector)
	if b.CPUSeconds < 0 || b.Rows < 0 || b.Bytes < 0 {
		c.refuse("", "range", "bounds must not be negative")
	}
	if b.CPUSeconds == 0 && b.Rows == 0 && b.Bytes == 0 {
		c.warn("", "no-bound", "the budget bounds nothing")
	}
}

// Rules joins the Set's table policies and exceptions.
func (s *Set) Rules(now time.Time) policy.Rules {
	r := policy.Rules{
		Tables: map[string]policy.Rule{}, Columns: map[string]policy.Rule{}, Functions: map[string]policy.Rule{}, Options: map[string]policy.Rule{},
		Arguments: map[string][]string{}, Extensions: map[string][]string{}, Views: map[string]string{}, Pins: map[string]string{},
	}
	for _, p := range Specs[*TablePolicy](s) {
		join(r.Tables, p.Tables)
		join(r.Columns, p.Columns)
		join(r.Functions, p.Functions)
		join(r.Options, p.Options)
		maps.Copy(r.Arguments, p.Arguments)
		for name, x := range p.Extensions {
			name = strings.ToLower(name)
			r.Extensions[name] = x.Columns
			join(r.Tables, map[string]TierRule{name: {x.Tier, x.Reason}})
		}
	}
	for k, e := range Specs[*PolicyException](s) {
		if e.Pin() != "" && !e.expired(now) {
			r.Pins[e.Pin()] = k.Name
		}
	}
	for _, p := range Specs[*Profile](s) {
		maps.Copy(r.Views, p.Views)
		for name, t := range p.AutoTables {
			r.Extensions[strings.ToLower(name)] = append([]string{"path"}, t.Columns...)
		}
	}
	return r
}

func join(to map[string]policy.Rule, from map[string]TierRule) {
	for name, r := range from {
		name = strings.ToLower(name)
		tier := policy.Tier(min(max(r.Tier, 0), int(policy.Dangerous)))
		if had, ok := to[name]; !ok || tier > had.Tier {
			to[name] = policy.Rule{Tier: tier, Reason: r.Reason}
		}
	}
}
