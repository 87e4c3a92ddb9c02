package health

import (
	"fmt"
	"strconv"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
)

// flagNames are the flags that a query flags of the health pack asks for, which
// people add: see docs/health.md.
var flagNames = map[string]bool{ //nolint:gochecknoglobals // constant
	"disable_watchdog": true, "watchdog_level": true, "watchdog_utilization_limit": true, "watchdog_memory_limit": true,
	"watchdog_latency_limit": true,
}

// flag takes in a row of osquery_flags.
func (n noting) flag(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	if err != nil || e.Action == event.Removed {
		return
	}
	name, value := string(v.GetStringBytes("name")), string(v.GetStringBytes("value"))
	if !flagNames[name] || len(value) > 32 {
		return
	}
	if n.c.flags == nil {
		n.c.flags = map[string]string{}
	}
	n.c.flags[name] = value
}

// Limit is when a node's watchdog ends its worker, by osquery/core/watcher.cpp:
// when it uses more CPU time than percent of all logical cores, for some seconds.
type Limit struct {
	Level    int
	Off      bool
	Percent  int
	Cores    int
	Seconds  int
	MemoryMB int
	// Threshold is in cores: Percent of Cores.
	Threshold float64
	// Bites is false if a query that keeps one core busy goes on for ever.
	Bites bool
	Why   string // a line for people
}

// watchdogLimits by level: memory in MB, CPU in percent, seconds.
func watchdogLimits(level int) (memory, percent, seconds int) {
	switch {
	case level < 0:
		return 10_000, 100, 1000
	case level == 1:
		return 100, 5, 6
	}
	return 200, 10, 12
}

// limit returns what is known of a node's watchdog; false if it did not tell.
func limit(flags map[string]string, n *node.Identity) (l Limit, known bool) {
	if len(flags) == 0 {
		return l, false
	}
	number := func(name string) int {
		i, err := strconv.Atoi(flags[name])
		if err != nil {
			return 0
		}
		return i
	}
	l.Level, l.Off = number("watchdog_level"), flags["disable_watchdog"] == "true"
	l.MemoryMB, l.Percent, l.Seconds = watchdogLimits(l.Level)
	for name, to := range map[string]*int{
		"watchdog_utilization_limit": &l.Percent, "watchdog_memory_limit": &l.MemoryMB, "watchdog_latency_limit": &l.Seconds,
	} {
		if own := number(name); own > 0 { // 0 is the level's
			*to = own
		}
	}
	cores, _ := n.Attribute("system_info.cpu_logical_cores")
	l.Cores, _ = strconv.Atoi(cores)
	l.Threshold = float64(l.Percent) * float64(l.Cores) / 100
	l.Bites = !l.Off && l.Level >= 0 && l.Cores > 0 && l.Threshold < 1
	l.Why = l.why()
	return l, true
}

func (l Limit) why() string {
	switch {
	case l.Off:
		return "the watchdog is off: nothing ends a worker that runs wild"
	case l.Level < 0:
		return "the watchdog's level is -1: its limits are never reached"
	case l.Cores == 0:
		return "how many cores it has is not known"
	case l.Threshold >= 1:
		return fmt.Sprintf("%d %% of %d cores are %.1f: a query that keeps one core busy is never ended; set --watchdog_utilization_limit=%d",
			l.Percent, l.Cores, l.Threshold, max(1, 50/l.Cores))
	}
	return fmt.Sprintf("over %.2f cores for %d s, or %d MB, it is ended; a CPU quota of the host below that, which no table shows, keeps it from being reached",
		l.Threshold, l.Seconds, l.MemoryMB)
}
