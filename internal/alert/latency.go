package alert

import (
	"cmp"
	"slices"
	"time"
)

// Told is one notification that arrived, with whose and how long it took.
type Told struct {
	Rule     string
	Notifier string
	Span
}

// Percentiles of some durations; zero of none.
type Percentiles struct{ P50, P99, Worst time.Duration }

// Latency is how soon a notifier was told what a rule found.
type Latency struct {
	Rule     string
	Notifier string
	Told     int
	// Total is from the event, as the node dates it, until it arrived; what has no
	// event counts from when it matched.
	Total     Percentiles
	Received  Percentiles // from the event until it was received
	Matched   Percentiles // from then until the rule matched
	Delivered Percentiles // from then until the notifier was told
}

// Measure sums up what was told, by rule and notifier.
func Measure(list []Told) []Latency {
	type pair struct{ rule, notifier string }
	by := map[pair][]Span{}
	for _, t := range list {
		p := pair{t.Rule, t.Notifier}
		by[p] = append(by[p], t.Span)
	}
	out := make([]Latency, 0, len(by))
	for p, spans := range by {
		l := Latency{Rule: p.rule, Notifier: p.notifier, Told: len(spans)}
		l.Total = percentiles(spans, func(s Span) (time.Time, time.Time) { return s.Began(), s.Delivered })
		l.Received = percentiles(spans, func(s Span) (time.Time, time.Time) { return s.EventTime, s.Received })
		l.Matched = percentiles(spans, func(s Span) (time.Time, time.Time) { return s.Received, s.Matched })
		l.Delivered = percentiles(spans, func(s Span) (time.Time, time.Time) { return s.Matched, s.Delivered })
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Latency) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Notifier, b.Notifier))
	})
	return out
}

// Began is the first that is known of what was told.
func (s Span) Began() time.Time {
	for _, t := range []time.Time{s.EventTime, s.Received, s.Matched} {
		if !t.IsZero() {
			return t
		}
	}
	return s.Delivered
}

// percentiles measures what has both ends. A node's clock may be ahead of ours:
// that is no time at all.
func percentiles(spans []Span, ends func(Span) (from, to time.Time)) Percentiles {
	var times []time.Duration
	for _, s := range spans {
		if from, to := ends(s); !from.IsZero() && !to.IsZero() {
			times = append(times, max(0, to.Sub(from)))
		}
	}
	if len(times) == 0 {
		return Percentiles{}
	}
	slices.Sort(times)
	const half, most, hundred = 50, 99, 100
	at := func(p int) time.Duration { return times[(len(times)*p+hundred-1)/hundred-1] }
	return Percentiles{P50: at(half), P99: at(most), Worst: times[len(times)-1]}
}
