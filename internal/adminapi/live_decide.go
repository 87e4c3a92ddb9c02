package adminapi

import (
	"context"
	"fmt"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/policy"
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
	Why     string // for people; "" if it just runs
	Hash    string // of the text
	// Broken says that no osquery could run the text: the caller's mistake.
	Broken bool
}

// reasonNodes is up to how many nodes a text of tier 2 needs no reason: an office,
// not a fleet.
const reasonNodes = 500

// decide is the default of Options.Decide.
func (a *API) decide(_ context.Context, sql string, nodes int) (Decision, error) {
	e, err := a.rules()
	if err != nil {
		return Decision{}, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	v := e.Query(policy.Query{SQL: sql, Use: policy.Live})
	d := Decision{Tier: v.Tier, Outcome: OutcomeRun, Hash: v.Hash}
	switch {
	case !v.Provable():
		d.Outcome, d.Broken, d.Why = OutcomeRefused, true, brokenBy(v)
	case !v.Allowed(change.Limit):
		d.Outcome, d.Why = OutcomeRefused, fmt.Sprintf(
			"the policy refuses this text: %s. A PolicyException can allow exactly this text (sha256 %s)", tieredBy(v), v.Hash)
	case v.Tier >= policy.Sensitive && nodes > reasonNodes:
		d.Outcome, d.Why = OutcomeReason, fmt.Sprintf("%s, and it is for %d nodes, more than %d", tieredBy(v), nodes, reasonNodes)
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
