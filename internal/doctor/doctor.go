// Package doctor judges how a server fares: it takes facts that others gathered and
// says of each whether it is well, what was seen, and what to do. It asks nobody.
package doctor

import (
	"fmt"
	"slices"
	"time"
)

// Status is how a check came out.
type Status string

// The statuses, from well to worse.
const (
	OK   Status = "ok"
	Warn Status = "warn" // look at it by day
	Fail Status = "fail" // something does not work, or soon will not
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status" enum:"ok,warn,fail"`
	Saw    string `json:"saw"`
	Do     string `json:"do,omitempty" doc:"The next step; empty if all is well"`
}

// Worst returns the worst status of all; OK of none.
func Worst(checks []Check) Status {
	order := []Status{OK, Warn, Fail}
	worst := 0
	for _, c := range checks {
		worst = max(worst, slices.Index(order, c.Status))
	}
	return order[worst]
}

// Well is a check that found nothing wrong.
func Well(name, format string, args ...any) Check {
	return Check{Name: name, Status: OK, Saw: fmt.Sprintf(format, args...)}
}

// Bad is a check that failed.
func Bad(name, do, format string, args ...any) Check {
	return Check{Name: name, Status: Fail, Saw: fmt.Sprintf(format, args...), Do: do}
}

// doubt is a check that warns.
func doubt(name, do, format string, args ...any) Check {
	return Check{Name: name, Status: Warn, Saw: fmt.Sprintf(format, args...), Do: do}
}

// Days of warnings.
const day = 24 * time.Hour

// days prints a long time.
func days(d time.Duration) string {
	if d < 2*day {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", d/day)
}

// size prints a number of bytes.
func size(n uint64) string {
	const step = 1 << 10
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/step, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB", "PiB"} {
		if value < step {
			break
		}
		value, unit = value/step, next
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
