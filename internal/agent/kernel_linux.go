package agent

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// threadTimes returns the processor time of the calling thread.
func threadTimes() (user, system time.Duration) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0, 0
	}
	return time.Duration(unix.TimevalToNsec(u.Utime)), time.Duration(unix.TimevalToNsec(u.Stime))
}

// lockFile takes a file for this process until it is closed, or fails at once.
func lockFile(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
