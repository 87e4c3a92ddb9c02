package resource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
)

// LivePolicy says which live queries run at once, and which need more. The first
// rule that fits holds; of several policies, they are read by name. Where none
// fits, what Decide says holds.
type LivePolicy struct {
	Rules []LiveRule `json:"rules" yaml:"rules" doc:"Rules in their order; the first that fits holds. If none does: tier 2 needs a reason above 500 nodes, tier 3 is refused unless a PolicyException names the text, and anything else runs"`
}

// LiveRule is one rule.
type LiveRule struct {
	MinTier  int      `json:"min_tier,omitempty" yaml:"min_tier,omitempty" doc:"Fits texts of this tier and above; a text of tier 3 without an exception is fitted by 3 alone"`
	MinNodes int      `json:"min_nodes,omitempty" yaml:"min_nodes,omitempty" doc:"Fits questions to so many nodes and more; what is of another kind than person asks one at a time"`
	Kinds    []string `json:"kinds,omitempty" yaml:"kinds,omitempty" doc:"Fits questions of these kinds, as person, enrollment, trigger or carve; of people alone if it is left out"`
	Require  string   `json:"require" yaml:"require" doc:"run: it runs; reason: once a reason is given; approval: once a second person agrees; refuse: never" enum:"run,reason,approval,refuse"`
}

// What a rule may require.
const (
	RequireRun      = "run"
	RequireReason   = "reason"
	RequireApproval = "approval"
	RequireRefuse   = "refuse"
)

const maxLiveRules = 100

func (p *LivePolicy) check(c *checker) {
	if len(p.Rules) > maxLiveRules {
		c.refuse("rules", "range", "must be at most %d", maxLiveRules)
	}
	for i, r := range p.Rules {
		r.check(c, indexed("rules", i))
	}
}

func (r LiveRule) check(c *checker, path string) {
	c.tier(path+".min_tier", r.MinTier)
	if r.MinNodes < 0 {
		c.refuse(path+".min_nodes", "range", "must not be negative")
	}
	if !slices.Contains([]string{RequireRun, RequireReason, RequireApproval, RequireRefuse}, r.Require) {
		c.refuse(path+".require", "unknown", "must be run, reason, approval or refuse")
	}
	if r.MinTier >= int(policy.Dangerous) && r.Require == RequireRun {
		c.refuse(path+".require", "dangerous", "must not be run for tier 3: a text that may hurt needs a reason at least")
	}
	for j, kind := range r.Kinds {
		at := indexed(path+".kinds", j)
		switch live.Kind(kind) {
		case live.Person:
		case live.Carve:
			if r.Require == RequireApproval {
				c.refuse(at, "nobody-to-ask", "nobody can approve a carve; require reason or refuse")
			}
		case live.Enrollment, live.Trigger:
			if r.Require == RequireReason || r.Require == RequireApproval {
				c.refuse(at, "nobody-to-ask", "%s is started by no person, who could give a reason or be asked for approval; require run or refuse", kind)
			}
		default:
			c.refuse(at, "unknown", "%q is no kind; there are person, enrollment, trigger and carve", kind)
		}
	}
}

func (r LiveRule) fits(kind live.Kind, tier policy.Tier, pinned bool, nodes int) bool {
	if !slices.Contains(r.Kinds, string(kind)) && (len(r.Kinds) > 0 || kind != live.Person) {
		return false
	}
	// A rule about lower tiers was not written with dangerous texts in mind.
	if tier >= policy.Dangerous && !pinned && r.MinTier < int(policy.Dangerous) {
		return false
	}
	return int(tier) >= r.MinTier && nodes >= r.MinNodes
}

// LiveDecision is what has to happen before a live query runs.
type LiveDecision struct {
	// Require is RequireRun, RequireReason, RequireApproval or RequireRefuse.
	Require string
	Why     string // a sentence for people
	// Policy names the LivePolicy that decided; "" if none did.
	Policy string
}

// ReasonNodes is above how many nodes a sensitive text needs a reason where no
// rule fits: a question to a few hosts is an everyday one, one to a fleet is not.
const ReasonNodes = 500

// Decide says what a live query needs. provable is whether the policy understood
// the text, pinned whether a PolicyException names it; what is not provable never
// runs. The kinds that no person starts need nothing but a text that may run:
// their resources were reviewed when they changed.
func (s *Set) Decide(kind live.Kind, tier policy.Tier, pinned, provable bool, nodes int) LiveDecision {
	if !provable {
		return LiveDecision{Require: RequireRefuse, Why: "the policy does not understand the text, or agents would refuse it"}
	}
	if kind == "" {
		kind = live.Person
	}
	for k, p := range Specs[*LivePolicy](s) {
		for i, r := range p.Rules {
			if r.fits(kind, tier, pinned, nodes) {
				return r.decide(k.Name, i, tier)
			}
		}
	}
	return byDefault(kind, tier, pinned, nodes)
}

func (r LiveRule) decide(name string, i int, tier policy.Tier) LiveDecision {
	d := LiveDecision{Require: r.Require, Policy: name, Why: fmt.Sprintf("rule %d of LivePolicy/%s for %s", i+1, name, r.words())}
	if tier >= policy.Dangerous && r.Require == RequireRun {
		d.Require, d.Why = RequireReason, "a text of tier "+tier.String()+" needs a reason at least"
	}
	return d
}

func (r LiveRule) words() string {
	words := []string{}
	if len(r.Kinds) > 0 {
		words = append(words, strings.Join(r.Kinds, " and "))
	}
	if r.MinTier > 0 {
		words = append(words, "tier "+policy.Tier(r.MinTier).String()+" and above") //nolint:gosec // checked to be 0 to 3
	}
	if r.MinNodes > 0 {
		words = append(words, fmt.Sprintf("%d nodes and more", r.MinNodes))
	}
	if len(words) == 0 {
		return "any text"
	}
	return strings.Join(words, ", ")
}

func byDefault(kind live.Kind, tier policy.Tier, pinned bool, nodes int) LiveDecision {
	person := kind == live.Person || kind == live.Carve
	switch {
	case tier >= policy.Dangerous && !pinned:
		return LiveDecision{Require: RequireRefuse, Why: "a text of tier " + tier.String() + " is refused; a PolicyException can allow exactly this text"}
	case tier >= policy.Dangerous && person:
		return LiveDecision{Require: RequireReason, Why: "a text of tier " + tier.String() + " needs a reason, also by an exception"}
	case tier == policy.Sensitive && nodes > ReasonNodes && person:
		return LiveDecision{Require: RequireReason, Why: fmt.Sprintf("a text of tier %s to more than %d nodes needs a reason", tier, ReasonNodes)}
	}
	return LiveDecision{Require: RequireRun, Why: "a text of tier " + tier.String() + " runs"}
}
