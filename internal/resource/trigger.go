package resource

import (
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Trigger starts a live query on one node when something outside, or a rule, says
// so. It is no part of any config.
type Trigger struct {
	Selector   string                      `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that it may ask at all; all if it is left out"`
	Node       TriggerNode                 `json:"node" yaml:"node" doc:"Which node the payload means"`
	SQL        string                      `json:"sql" yaml:"sql" doc:"One SELECT; :name is replaced by a parameter as a literal"`
	Parameters map[string]TriggerParameter `json:"parameters,omitempty" yaml:"parameters,omitempty" doc:"Values from the payload, by name"`
	Expires    Duration                    `json:"expires,omitempty" yaml:"expires,omitempty" doc:"How long the node is asked until it answers, 1m to 720h; 10m if it is left out"`
	Limits     TriggerLimits               `json:"limits,omitzero" yaml:"limits,omitempty" doc:"How often it may fire"`
	Dedup      TriggerDedup                `json:"dedup,omitzero" yaml:"dedup,omitempty" doc:"What counts as the same again"`
}

// TriggerNode says how a payload names a node.
type TriggerNode struct {
	Match string  `json:"match" yaml:"match" enum:"id,host_identifier,hostname,address" doc:"What of the node the payload holds; an address is what the server saw, or said by a proxy it trusts"`
	Path  Pointer `json:"path" yaml:"path" doc:"Where it is in the payload, a JSON pointer (RFC 6901) such as /actor/host"`
	At    Pointer `json:"at,omitempty" yaml:"at,omitempty" doc:"Where the payload holds the time at which the node had that host identifier, hostname or address: RFC 3339, or seconds or milliseconds since 1970; now if it is left out"`
}

// TriggerParameter is a value from the payload.
type TriggerParameter struct {
	Path      Pointer `json:"path" yaml:"path" doc:"Where it is in the payload, a JSON pointer (RFC 6901)"`
	Type      string  `json:"type,omitempty" yaml:"type,omitempty" enum:"text,integer" doc:"text, the default, or integer: digits alone"`
	MaxLength int     `json:"max_length,omitempty" yaml:"max_length,omitempty" doc:"In bytes, up to 4096; 256 if it is left out"`
	Pattern   string  `json:"pattern,omitempty" yaml:"pattern,omitempty" doc:"A regular expression (RE2) that the whole value must match"`
	Wildcards bool    `json:"wildcards,omitempty" yaml:"wildcards,omitempty" doc:"Let % _ * ? and [ pass where the value becomes a pattern of LIKE or GLOB; else such a payload is refused"`
}

// TriggerLimits bound how often a trigger fires. What is over is refused.
type TriggerLimits struct {
	PerNode int `json:"per_node,omitempty" yaml:"per_node,omitempty" doc:"Queries a minute to one node; 6 if it is left out"`
	Total   int `json:"total,omitempty" yaml:"total,omitempty" doc:"Queries a minute to all nodes; 60 if it is left out"`
}

// TriggerDedup says what is the same again.
type TriggerDedup struct {
	Window Duration `json:"window,omitempty" yaml:"window,omitempty" doc:"How long the same again starts nothing, and is answered with the query that runs or ran, up to 24h; none if it is left out"`
	Path   Pointer  `json:"path,omitempty" yaml:"path,omitempty" doc:"Where the payload holds what tells two apart, a JSON pointer; the node and the finished text if it is left out"`
}

// Defaults and bounds of triggers.
const (
	defaultTriggerExpiry  = 10 * time.Minute
	defaultTriggerPerNode = 6
	defaultTriggerTotal   = 60
	maxTriggerRate        = 6000 // a minute: each is several rows on disk
	maxDedupWindow        = 24 * time.Hour
)

// ExpiresAfter returns how long a node is asked.
func (t *Trigger) ExpiresAfter() time.Duration { return orDefault(t.Expires, defaultTriggerExpiry) }

func (l TriggerLimits) perNode() int { return orNumber(l.PerNode, defaultTriggerPerNode) }

func (l TriggerLimits) total() int { return orNumber(l.Total, defaultTriggerTotal) }

func orNumber(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func (t *Trigger) check(c *checker) {
	c.selector("selector", t.Selector)
	c.expires("expires", t.Expires)
	t.checkNode(c)
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		p := t.Parameters[name]
		path := "parameters." + name
		c.pointer(path+".path", p.Path, true)
		if p.Type != "" && p.Type != string(policy.TextParameter) && p.Type != string(policy.IntegerParameter) {
			c.refuse(path+".type", "bad-type", "is %q; use text or integer", p.Type)
		}
		if p.MaxLength < 0 || p.MaxLength > policy.MaxParameterLength {
			c.refuse(path+".max_length", "range", "must be 1 to %d, or left out", policy.MaxParameterLength)
		}
		if _, err := p.pattern(); err != nil {
			c.refuse(path+".pattern", "bad-pattern", "%v", err)
		}
	}
	for path, n := range map[string]int{"limits.per_node": t.Limits.PerNode, "limits.total": t.Limits.Total} {
		if n < 0 || n > maxTriggerRate {
			c.refuse(path, "range", "must be 1 to %d a minute, or left out", maxTriggerRate)
		}
	}
	c.pointer("dedup.path", t.Dedup.Path, false)
	if time.Duration(t.Dedup.Window) > maxDedupWindow {
		c.refuse("dedup.window", "range", "must be at most 24h")
	}
	if t.Dedup.Path != "" && t.Dedup.Window == 0 {
		c.refuse("dedup.window", "no-window", "is missing; write how long the same again starts nothing, as 10m")
	}
	template, err := t.template()
	if err != nil {
		c.refuse("sql", "bad-template", "%v", err)
		return
	}
	c.item("sql", c.engine.Template(template, policy.Query{Use: policy.Live}))
}

func (t *Trigger) checkNode(c *checker) {
	if !slices.Contains([]string{"id", node.AttributeHostIdentifier, node.AttributeHostname, node.AttributeAddress}, t.Node.Match) {
		c.refuse("node.match", "bad-match", "is %q; use id, host_identifier, hostname or address", t.Node.Match)
	}
	c.pointer("node.path", t.Node.Path, true)
	c.pointer("node.at", t.Node.At, false)
	if t.Node.At != "" && t.Node.Match == "id" {
		c.refuse("node.at", "no-time", "says when a node had a name; an id is always the same node's")
	}
}

func (c *checker) pointer(path string, p Pointer, required bool) {
	if p == "" && !required {
		return
	}
	if err := p.check(); err != nil {
		c.refuse(path, "bad-pointer", "%v", err)
	}
}

func (p TriggerParameter) pattern() (*regexp.Regexp, error) {
	if p.Pattern == "" {
		return nil, nil //nolint:nilnil // any value fits
	}
	return policy.WholePattern(p.Pattern)
}

// template compiles the SQL with its parameters.
func (t *Trigger) template() (*policy.Template, error) {
	parameters := make(map[string]policy.Parameter, len(t.Parameters))
	for name, p := range t.Parameters {
		pattern, err := p.pattern()
		if err != nil {
			return nil, errs.Field("parameters."+name+".pattern", "%v", err)
		}
		parameters[name] = policy.Parameter{Type: policy.ParameterType(p.Type), MaxLength: p.MaxLength, Pattern: pattern, Wildcards: p.Wildcards}
	}
	return policy.ParseTemplate(t.SQL, parameters)
}

// TriggerPlan is a Trigger as it is served.
type TriggerPlan struct {
	Name     string
	Template *policy.Template
	// PerNode and Total are how many queries a minute it may start.
	PerNode, Total int
	*Trigger

	who chosen[struct{}]
}

// Means reports whether the trigger may ask a node.
func (t *TriggerPlan) Means(n *node.Identity) bool { return t.who.means(n) }

func (s *Snapshot) addTrigger(o Object, t *Trigger) error {
	who, err := choose(o, t.Selector, struct{}{})
	if err != nil {
		return err
	}
	template, err := t.template()
	if err != nil {
		return err
	}
	s.triggers = append(s.triggers, &TriggerPlan{
		Name: o.Name, Template: template, PerNode: t.Limits.perNode(), Total: t.Limits.total(), Trigger: t, who: who,
	})
	return nil
}

// Triggers returns the triggers by name. Do not change it.
func (s *Snapshot) Triggers() []*TriggerPlan { return s.triggers }

// Trigger returns a trigger by its name; nil without one.
func (s *Snapshot) Trigger(name string) *TriggerPlan {
	for _, t := range s.triggers {
		if t.Name == name {
			return t
		}
	}
	return nil
}
