package alert

import (
	"cmp"
	"time"
)

// Policy is how a rule's alerts are treated. What is zero has its default.
type Policy struct {
	// ResolveAfter is how long after its last firing an alert is over; 0 for never.
	ResolveAfter time.Duration
	// ReopenWithin is how long after its end an alert that fires again is the same.
	ReopenWithin time.Duration
	// FloodMax is how many alerts it may open within FloodPeriod; what is over is
	// counted by one alert.
	FloodMax    int
	FloodPeriod time.Duration
}

// The defaults of Policy, and of what a notifier leaves out.
const (
	DefaultReopenWithin = 24 * time.Hour
	// DefaultFloodMax is more than people can look at within DefaultFloodPeriod.
	DefaultFloodMax    = 50
	DefaultFloodPeriod = 10 * time.Minute

	DefaultGroupWait = 10 * time.Second
	DefaultGiveUp    = 24 * time.Hour
)

func (p Policy) complete() Policy {
	p.ReopenWithin = cmp.Or(p.ReopenWithin, DefaultReopenWithin)
	p.FloodMax = cmp.Or(p.FloodMax, DefaultFloodMax)
	p.FloodPeriod = cmp.Or(p.FloodPeriod, DefaultFloodPeriod)
	return p
}
