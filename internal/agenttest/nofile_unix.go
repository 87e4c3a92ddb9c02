//go:build unix

package agenttest

import (
	"fmt"
	"syscall"
)

// RaiseOpenFiles raises the process's limit of open files to the most it may
// have, and returns it. Each kept-alive node holds one.
func RaiseOpenFiles() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, fmt.Errorf("raise the limit of open files to %d: %w", limit.Max, err)
		}
	}
	return uint64(limit.Cur), nil //nolint:unconvert // signed on FreeBSD
}
