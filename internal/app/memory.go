package app

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// spare is how much may be allocated between two garbage collections while
	// little is in use. Each handshake leaves some 60 KB behind, and with Go's
	// default a server that holds 10 MB would collect after every few hundred.
	spare = 48 << 20
	// The percentages of what is in use that spare is kept within: a server that
	// holds many connections must not double its memory for it.
	leastPercent, mostPercent = 50, 300

	tuneEvery = 10 * time.Second
)

// tuneMemory adapts the garbage collector to what is in use, until ctx ends. It
// leaves it alone if the operator set GOGC.
func tuneMemory(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	t := time.NewTicker(tuneEvery)
	defer t.Stop()
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := 0
	for {
		runtimemetrics.Read(sample)
		if percent := gcPercent(sample[0].Value.Uint64()); percent != last {
			debug.SetGCPercent(percent)
			last = percent
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// gcPercent returns how much may be allocated, in percent of the bytes in use,
// before garbage is collected.
func gcPercent(inUse uint64) int {
	percent := spare * 100 / max(inUse, 1)
	const step = 10 // a change stops the world for a moment, so there are few
	return int(min(max(percent/step*step, leastPercent), mostPercent))
}
