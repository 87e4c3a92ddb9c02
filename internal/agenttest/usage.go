package agenttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Usage is what a process has used so far.
type Usage struct {
	CPU     time.Duration // user and system, of all its threads
	RSS     int64         // bytes resident now
	PeakRSS int64         // bytes resident at most
	Session int64         // id of its session
}

// clockTick is the unit of /proc/PID/stat; USER_HZ is 100 on every Linux.
const clockTick = 10 * time.Millisecond

// ProcessUsage reads the usage of a process of this machine from /proc, which
// only Linux has.
func ProcessUsage(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat") //nolint:gosec // a number made the path
	if err != nil {
		return Usage{}, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	status, err := os.ReadFile(dir + "/status") //nolint:gosec // a number made the path
	if err != nil {
		return Usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold spaces and parentheses. After it come
	// state, parent, group, session, …, and as the 12th and 13th field the two
	// times.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("read the CPU time of process %d: unknown form of stat", pid)
	}
	session, err1 := strconv.ParseInt(string(fields[3]), 10, 64)
	user, err2 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err3 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return Usage{}, fmt.Errorf("read the CPU time of process %d: unknown form of stat", pid)
	}
	return Usage{
		CPU:     time.Duration(user+system) * clockTick,
		RSS:     kilobytes(status, "VmRSS:"),
		PeakRSS: kilobytes(status, "VmHWM:"),
		Session: session,
	}, nil
}

// kilobytes returns a line of /proc/PID/status in bytes, 0 if it is missing
// (as for a process that is ending).
func kilobytes(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(string(f[0]), 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// ResetPeak makes a process's PeakRSS begin anew with what is resident now. It
// needs the rights of its owner.
func ResetPeak(pid int) error {
	const resetPeak = "5" // CLEAR_REFS_MM_HIWATER_RSS, proc_pid_clear_refs(5)
	f, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reset the peak memory of process %d: %w", pid, err)
	}
	_, err = f.WriteString(resetPeak)
	return errors.Join(err, f.Close())
}
