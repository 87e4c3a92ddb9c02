package agenttest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// loop makes requests of one kind as fast as they are answered: its workers
// share the nodes out, take turns with theirs, and ask as soon as the last
// answer is there. Enrolments are of ever new nodes, over the connections of
// the first ones.
type loop struct {
	fleet *Fleet
	op    Op
	next  []int         // the node whose turn it is, of each worker
	took  time.Duration // by runFor
	fresh atomic.Int64
}

func (f *Fleet) newLoop(op Op, concurrency int) (*loop, error) {
	switch {
	case op >= OpWrite:
		return nil, fmt.Errorf("requests of the kind %s cannot be made alone", op)
	case concurrency < 1 || concurrency > len(f.nodes):
		return nil, fmt.Errorf("concurrency is %d; it must be 1 to %d, the number of nodes", concurrency, len(f.nodes))
	}
	l := &loop{fleet: f, op: op, next: make([]int, concurrency)}
	for w := range l.next {
		l.next[w] = w
	}
	return l, nil
}

// run works until ctx ends, then waits for the requests under way for
// FleetOptions.Grace. Called again, it goes on where it was.
func (l *loop) run(ctx context.Context) {
	defer l.fleet.waitCarves()
	requests, cancel := l.fleet.graceful(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for w := range l.next {
		wg.Go(func() { l.next[w] = l.work(ctx, requests, w) })
	}
	wg.Wait()
}

// work is one worker, which returns whose turn is next. After a failure it
// waits a little.
func (l *loop) work(ctx, requests context.Context, w int) int {
	i, failures := l.next[w], 0
	for ctx.Err() == nil {
		n := l.fleet.nodes[i]
		if l.op == OpEnroll {
			n.become(l.fleet.o.First + len(l.fleet.nodes) + int(l.fresh.Add(1)))
		} else if i += len(l.next); i >= len(l.fleet.nodes) {
			i = w
		}
		if err := l.fleet.one(requests, n, l.op); err == nil {
			failures = 0
			continue
		}
		failures++
		_ = wait(ctx, Backoff{10 * time.Millisecond, time.Second}.After(failures))
	}
	return i
}

func (f *Fleet) one(ctx context.Context, n *Node, op Op) error {
	var err error
	switch op {
	case OpEnroll:
		err = n.Enroll(ctx)
	case OpConfig:
		_, err = n.Config(ctx)
	case OpLog:
		err = f.flush(ctx, n)
	case OpRead:
		_, err = n.Poll(ctx)
	case OpWrite, OpCarveStart, OpCarveBlock, opCount:
	}
	return err
}

// runFor runs for that time and counts how long it was until the last request
// had its answer.
func (l *loop) runFor(ctx context.Context, d time.Duration) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	l.run(ctx)
	l.took += time.Since(start)
}

// forget drops what was measured so far, as at the end of a warm-up.
func (l *loop) forget() {
	l.took = 0
	l.fleet.forget()
}
