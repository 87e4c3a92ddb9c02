package adminapi

import (
	"fmt"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// Outcome is what it takes to run a live query.
type Outcome string

// The outcomes.
const (
	OutcomeRun      Outcome = "run"
	OutcomeReason   Outcome = "reason"   // with a reason
	OutcomeApproval Outcome = "approval" // with a reason and a second person's consent
	OutcomeRefused  Outcome = "refused"
)

// Decision says what it takes to run a text on so many nodes.
type Decision struct {
	Tier    policy.Tier
	Outcome Outcome
	Why     string // for people
	Hash    string // of the text
	// Broken says that no osquery could run the text: the caller's mistake.
	Broken bool
}

// decide judges a person's text by the newest revision: its table policies,
// exceptions and live policies.
func (a *API) decide(sql string, nodes int) (Decision, error) {
	set := a.Catalog.Plan().Newest().Set()
	e, err := a.Policy.With(set.Rules(a.Now()))
	if err != nil {
		return Decision{}, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	v := e.Query(policy.Query{SQL: sql, Use: policy.Live})
	d := Decision{Tier: v.Tier, Hash: v.Hash}
	if !v.Provable() {
		d.Outcome, d.Broken, d.Why = OutcomeRefused, true, brokenBy(v)
		return d, nil
	}
	by := set.Decide(live.Person, v.Tier, v.Exception != "", true, nodes)
	switch by.Require {
	case resource.RequireRun:
		if d.Outcome, d.Why = OutcomeRun, by.Why; len(v.Reasons) > 0 {
			d.Why += ": " + tieredBy(v)
		}
	case resource.RequireReason:
		d.Outcome, d.Why = OutcomeReason, by.Why+": "+tieredBy(v)
	case resource.RequireApproval:
		d.Outcome, d.Why = OutcomeApproval, by.Why+": "+tieredBy(v)
	default:
		d.Outcome, d.Why = OutcomeRefused, fmt.Sprintf("the policy refuses this text: %s: %s", by.Why, tieredBy(v))
		if by.Policy == "" {
			d.Why += fmt.Sprintf(" (sha256 %s)", v.Hash)
		}
	}
	return d, nil
}

// brokenBy says why a text is not understood.
func brokenBy(v policy.Verdict) string {
	for _, f := range v.Findings {
		if f.Severity == policy.Refused {
			return f.Message
		}
	}
	return "is not understood"
}

// tieredBy says why a text has its tier.
func tieredBy(v policy.Verdict) string {
	if len(v.Reasons) > 0 {
		return fmt.Sprintf("%s %s has tier %s: %s", v.Reasons[0].Kind, v.Reasons[0].Name, v.Tier, v.Reasons[0].Why)
	}
	return "it has tier " + v.Tier.String()
}
