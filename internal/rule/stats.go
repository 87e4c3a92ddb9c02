package rule

import (
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/resource"
)

// Counts are what a rule did since the server started, or since it changed.
type Counts struct {
	Evaluated  int64 // events that it looked at
	Matched    int64
	Unknown    int64 // events that lack something that it looks at
	Fired      int64 // matches that did something, or would in shadow mode
	Suppressed int64
	Resolved   int64
	Alerted    int64 // firings that were raised
	Merged     int64 // further firings of one key in one message, which were not raised
	Asked      int64 // live queries that were started
	Tagged     int64 // nodes whose tags it set
	Refused    int64 // queries that were not started: over a limit, or not allowed
	Failed     int64 // actions that failed for another reason, and were given up
	Evicted    int64 // keys that were forgotten, because there were too many
}

func (c *Counts) add(d Counts) {
	c.Evaluated += d.Evaluated
	c.Matched += d.Matched
	c.Unknown += d.Unknown
	c.Fired += d.Fired
	c.Suppressed += d.Suppressed
	c.Resolved += d.Resolved
	c.Alerted += d.Alerted
	c.Merged += d.Merged
	c.Asked += d.Asked
	c.Tagged += d.Tagged
	c.Refused += d.Refused
	c.Failed += d.Failed
	c.Evicted += d.Evicted
}

// State is whether a rule works.
type State string

// The states.
const (
	On       State = "on"
	Off      State = "off"
	Shadow   State = "shadow"
	SetAside State = "set aside" // it broke, and is left out until it changes or the server starts anew
)

// Status is a rule and how it does.
type Status struct {
	Plan   *resource.RulePlan
	State  State
	Why    string // why it is set aside
	Counts Counts
	Keys   int           // that it remembers
	Spent  time.Duration // on its evaluation
	// LastMatch and LastError are the newest; zero without one.
	LastMatch   time.Time
	LastError   string
	LastErrorAt time.Time
	// ToMatch is from the event's time to its match; Queued from its arrival.
	ToMatch, Queued Latency
	// Groups and Platforms are ToMatch by group and by platform, of those that fired.
	Groups    map[Group]Latency
	Platforms map[string]Latency
}

// Cost returns what the rule takes for one event; 0 before there was one.
func (s Status) Cost() time.Duration {
	if s.Counts.Evaluated == 0 {
		return 0
	}
	return s.Spent / time.Duration(s.Counts.Evaluated)
}

// Latency is of the last firings.
type Latency struct {
	Samples         int
	P50, P99, Worst time.Duration
}

// maxSamples is of how many firings it is known how long they took.
const maxSamples = 1000

// sample is how long one firing took.
type sample struct {
	group           Group
	toMatch, queued time.Duration
}

// samples keeps the last ones.
type samples struct {
	ring []sample
	next int
}

func (s *samples) add(v sample) {
	// A node's clock may be ahead of ours: that is no time at all.
	v.toMatch, v.queued = max(0, v.toMatch), max(0, v.queued)
	if len(s.ring) < maxSamples {
		s.ring = append(s.ring, v)
		return
	}
	s.ring[s.next] = v
	s.next = (s.next + 1) % maxSamples
}

// latencies sums up samples by a key.
func latencies[K comparable](list []sample, key func(sample) K, took func(sample) time.Duration) map[K]Latency {
	times := map[K][]time.Duration{}
	for _, s := range list {
		times[key(s)] = append(times[key(s)], took(s))
	}
	out := make(map[K]Latency, len(times))
	for k, list := range times {
		out[k] = latency(list)
	}
	return out
}

// measure fills in how long the last firings took.
func (s *Status) measure(list []sample) {
	toMatch, queued := func(s sample) time.Duration { return s.toMatch }, func(s sample) time.Duration { return s.queued }
	all := func(sample) struct{} { return struct{}{} }
	s.ToMatch, s.Queued = latencies(list, all, toMatch)[struct{}{}], latencies(list, all, queued)[struct{}{}]
	s.Groups = latencies(list, func(s sample) Group { return s.group }, toMatch)
	s.Platforms = latencies(list, func(s sample) string { return s.group.Platform }, toMatch)
}

func latency(times []time.Duration) Latency {
	n := len(times)
	sorted := slices.Sorted(slices.Values(times))
	rank := func(percent int) time.Duration { return sorted[(n*percent+99)/100-1] }
	return Latency{Samples: n, P50: rank(50), P99: rank(99), Worst: sorted[n-1]}
}

// stats are of one rule. Safe for concurrent use.
type stats struct {
	hash string

	mu          sync.Mutex
	counts      Counts
	spent       time.Duration
	broken      string
	lastMatch   time.Time
	lastError   string
	lastErrorAt time.Time
	samples     samples
}

// Bounds of what a rule may cost: a rule that takes longer holds up all others.
const (
	// maxCost is the most that it may take for an event in the mean, of at least
	// minEvents. A hundred usual rules together take a tenth of it.
	maxCost   = 500 * time.Microsecond
	minEvents = 500
	// maxRun is the most that a few events may take.
	maxRun = 5 * time.Second
)

// spend notes what events cost, and returns why the rule is too dear; "" if it
// is not.
func (s *stats) spend(events int, took time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent += took
	s.counts.Evaluated += int64(events)
	switch {
	case took > maxRun:
		return "it took " + took.Round(time.Millisecond).String() + " for a few events"
	case s.counts.Evaluated >= minEvents && s.spent/time.Duration(s.counts.Evaluated) > maxCost:
		return "it takes over " + maxCost.String() + " for an event"
	}
	return ""
}

// setAside reports whether the rule was not set aside before.
func (s *stats) setAside(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.broken == ""
	if first {
		s.broken = why
	}
	return first
}

func (s *stats) isAside() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken != ""
}

// failed notes an action that did not come about.
func (s *stats) failed(err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError, s.lastErrorAt = err.Error(), now
}

// result is what a message gave for one rule.
type result struct {
	counts    Counts
	lastMatch time.Time
	samples   []sample
}

// keep adds the result of a message that is done with.
func (s *stats) keep(r *result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.add(r.counts)
	if r.lastMatch.After(s.lastMatch) {
		s.lastMatch = r.lastMatch
	}
	for _, v := range r.samples {
		s.samples.add(v)
	}
}

// status fills in what is known.
func (s *stats) status(p *resource.RulePlan) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Plan: p, State: On, Why: s.broken, Counts: s.counts, Spent: s.spent, LastMatch: s.lastMatch,
		LastError: s.lastError, LastErrorAt: s.lastErrorAt,
	}
	st.measure(s.samples.ring)
	switch {
	case !p.On():
		st.State = Off
	case s.broken != "":
		st.State = SetAside
	case p.Shadow:
		st.State = Shadow
	}
	return st
}
