package trigger

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// Token is who may fire a trigger, without the secret itself.
type Token struct {
	Trigger   string
	CreatedAt time.Time
	CreatedBy string
}

// Span is how long one node took: from what began it, a payload or an enrolment,
// until it took the query and until it answered; zero for what did not happen.
type Span struct {
	Name     string
	NodeID   string
	State    live.State
	Began    time.Time
	Sent     time.Time
	Answered time.Time
}

// Count is how often a trigger fired, of what is kept.
type Count struct {
	Fired, Answered int
	Last            time.Time
}

// StatsStore knows how long answers took.
type StatsStore interface {
	// TriggerSpans returns what triggers started since a time, the newest first, of
	// many only some thousands.
	TriggerSpans(ctx context.Context, since time.Time) ([]Span, error)
	// EnrollmentSpans returns the nodes of an enrollment query, those that answered
	// last first, of many only some thousands.
	EnrollmentSpans(ctx context.Context, liveID string) ([]Span, error)
	FiringsPerTrigger(ctx context.Context) (map[string]Count, error)
}

// Latency is of spans: until delivery, and until the answer.
type Latency struct {
	Answered                   int
	DeliveredP50, DeliveredP99 time.Duration
	AnsweredP50, AnsweredP99   time.Duration
}

// Measure returns the percentiles of some spans.
func Measure(spans []Span) Latency {
	var delivered, answered []time.Duration
	for _, s := range spans {
		if !s.Sent.IsZero() {
			delivered = append(delivered, max(0, s.Sent.Sub(s.Began)))
		}
		if !s.Answered.IsZero() {
			answered = append(answered, max(0, s.Answered.Sub(s.Began)))
		}
	}
	const half, most = 50, 99
	return Latency{
		Answered:     len(answered),
		DeliveredP50: percentile(delivered, half), DeliveredP99: percentile(delivered, most),
		AnsweredP50: percentile(answered, half), AnsweredP99: percentile(answered, most),
	}
}

// percentile returns the smallest duration that p of a hundred do not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	times = slices.Sorted(slices.Values(times))
	const hundred = 100
	return times[(len(times)*p+hundred-1)/hundred-1]
}

// Bound says for a group of nodes how long a question takes at most to reach
// those of them that are online.
type Bound struct {
	// Group is a selector: all, platform = linux, tag = web.
	Group string
	Nodes int
	// Mute is how many of them never ask for questions, as their config says.
	Mute int
	// Poll is the longest interval between two polls of a node of the group.
	Poll time.Duration
	// Observed are answers of the group's nodes to triggers and enrollment queries.
	Observed []Span
}

// Overhead is what a poll takes beside its interval, at most: the agent's timer has
// whole seconds, and connecting, TLS and the answer take the rest.
const Overhead = 2 * time.Second

// Guaranteed returns how long an idle node that is online takes at most to be
// given a question: it asks once an interval. What it still runs of former
// questions comes before.
func (b Bound) Guaranteed() time.Duration { return b.Poll + Overhead }

// Bounds groups nodes by platform and by tag, after all of them.
func Bounds(nodes func(yield func(*node.Identity) bool), catalog *resource.Catalog, spans []Span) []Bound {
	byNode := map[string][]Span{}
	for _, s := range spans {
		byNode[s.NodeID] = append(byNode[s.NodeID], s)
	}
	groups := map[string]*Bound{}
	polls := map[*resource.Config]resource.Polling{}
	for n := range nodes {
		config := catalog.Expected(n)
		p, ok := polls[config]
		if !ok {
			p = config.Polling()
			polls[config] = p
		}
		names := []string{"all", "platform = " + cmp.Or(n.Platform, `""`)}
		for _, tag := range n.Tags {
			names = append(names, "tag = "+tag)
		}
		for _, name := range names {
			b := groups[name]
			if b == nil {
				b = &Bound{Group: name}
				groups[name] = b
			}
			b.Nodes++
			if p.Off {
				b.Mute++
			} else {
				b.Poll = max(b.Poll, p.Every)
			}
			b.Observed = append(b.Observed, byNode[n.ID]...)
		}
	}
	list := make([]Bound, 0, len(groups))
	for _, b := range groups {
		list = append(list, *b)
	}
	slices.SortFunc(list, func(a, b Bound) int {
		return cmp.Or(cmp.Compare(order(a.Group), order(b.Group)), cmp.Compare(a.Group, b.Group))
	})
	return list
}

func order(group string) int {
	switch group[0] {
	case 'a':
		return 0
	case 'p':
		return 1
	}
	return 2
}
