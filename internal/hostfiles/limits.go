package hostfiles

import (
	"fmt"
	"slices"

	"github.com/musterhq/muster/internal/errs"
)

// Percent is --watchdog_utilization_limit: whole percents of all CPUs, as the
// watchdog's limit is that times their number, and 0 would mean its default.
func (l Limits) Percent() int { return max(1, l.WatchdogCPU/max(1, l.Cores)) }

// Kill is at how many percent of one CPU the watchdog acts on a host.
func (l Limits) Kill(cores int) int { return l.Percent() * cores }

// quota is the lowest CPUQuota under which the watchdog of a host can act: a
// process that the quota slows to just its limit never goes over it.
func (l Limits) quota(cores int) int { return (l.Kill(cores)*5 + 3) / 4 }

// baseMemory is what an agent has before it grows, MiB: two processes and their
// database. The watchdog counts from there, the cgroup from nothing.
const baseMemory = 200

// bound is a limit with the values that make sense for it.
type bound struct {
	field     string
	value     int
	low, high int
}

func (l Limits) check(platform Platform) error {
	const mib = 1 << 20 // a terabyte in MiB: more is a mistake
	bounds := []bound{
		{"cores", l.Cores, 1, 4096},
		{"watchdog_cpu", l.WatchdogCPU, 1, 10000},
		{"watchdog_seconds", l.WatchdogSeconds, 3, 3600}, // it looks every 3 seconds
		{"watchdog_memory", l.WatchdogMemory, 50, mib},
	}
	if platform == Linux {
		bounds = append(bounds,
			bound{"cpu_quota", l.CPUQuota, 1, 100 * 4096},
			bound{"memory_max", l.MemoryMax, 100, mib},
			bound{"tasks_max", l.TasksMax, 32, 1 << 15}, // osquery has some 20 threads
			bound{"io_weight", l.IOWeight, 1, 10000},
		)
	}
	for _, b := range bounds {
		if b.value < b.low || b.value > b.high {
			return errs.Field(b.field, "must be from %d to %d", b.low, b.high)
		}
	}
	if platform != Linux {
		return nil
	}
	if need := l.quota(l.Cores); l.CPUQuota < need {
		return errs.Field("cpu_quota", "is so low that the watchdog cannot act: with %d CPUs it acts at %d%% of one, in steps of %d%%; give at least %d, or lower watchdog_cpu", l.Cores, l.Kill(l.Cores), l.Cores, need)
	}
	if need := l.WatchdogMemory + baseMemory; l.MemoryMax < need {
		return errs.Field("memory_max", "is so low that the kernel would end the agent before its watchdog does; give at least %d, or lower watchdog_memory", need)
	}
	return nil
}

// CPURow says what the limits of CPU mean on hosts of one size.
type CPURow struct {
	Cores int
	Kill  int    // the watchdog acts at so many percent of one CPU
	Note  string // what else there is to know; "" for nothing
}

// CPUTable tells people what the limits of CPU mean on their hosts.
func (s *sheet) CPUTable() []CPURow {
	sizes := []int{1, 2, 4, 8, 16, 32, 64, 128, s.Limits.Cores}
	slices.Sort(sizes)
	var rows []CPURow
	for _, n := range slices.Compact(sizes) {
		rows = append(rows, CPURow{n, s.Limits.Kill(n), s.cpuNote(n)})
	}
	return rows
}

func (s *sheet) cpuNote(cores int) string {
	switch kill := s.Limits.Kill(cores); {
	case s.Platform == Linux && s.Limits.CPUQuota < s.Limits.quota(cores):
		return "the watchdog cannot act; the cgroup slows the agent down"
	case kill >= 100:
		return "a query that keeps one CPU busy goes unnoticed"
	case kill < 5: // osquery's own stricter level
		return "ordinary queries may be ended"
	}
	return ""
}

// cpuWarning is about the largest host.
func (l Limits) cpuWarning() string {
	if kill := l.Kill(l.Cores); kill > l.WatchdogCPU {
		return fmt.Sprintf("with %d CPUs osquery's watchdog cannot be set below %d%% of one CPU; watchdog_cpu asked for %d%%", l.Cores, kill, l.WatchdogCPU)
	}
	return ""
}
