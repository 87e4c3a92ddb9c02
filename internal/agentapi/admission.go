package agentapi

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
)

// Limits are what an API takes at most. Their defaults are the settings'.
type Limits struct {
	// Small bounds the bodies of enroll, config and distributed/read, in bytes,
	// as they come and inflated alike; a real agent's enroll request has under
	// 2 KB.
	Small int64
	// Log: an agent sends up to 1,024 lines of up to 1 MiB each, and repeats what
	// was refused for ever, so the limit must be far above what is sane.
	Log int64
	// Write: an agent puts all rows of all its queries into one body without any
	// limit; 11 MB for 111,000 rows were seen.
	Write int64
	// Block: the largest block of a carve; its body is a third larger.
	Block int64
	// Memory bounds all bodies together that are over httpx.FreeBody. Reading and
	// parsing takes up to fifteen times as much.
	Memory int64
	// Rate is how many bytes a second a body must come with after five seconds.
	// An agent gives up after 16 s.
	Rate int64

	// How many requests of each class are at work at a time; config and
	// distributed/read wait for nothing, and need no such limit. Enrolments share
	// a commit and log requests a sync, and more at a time make none faster.
	// A block is decoded, sealed and synced, and real agents send one at a time.
	Enrolling, Logging, Writing, Carving int
	// Queue is how many times as many may wait.
	Queue int
}

// carveStarts is how many sessions of carves begin at a time: they are kept one
// after another.
const carveStarts = 8

// blockSlack is what the body of a block may have besides its data.
const blockSlack = 16 << 10

// blockMemory bounds the bodies of blocks that are in memory at a time, unless
// one alone is larger: apart from Limits.Memory, so that carves take no room from
// log lines.
const blockMemory = 32 << 20

// blockBody is the largest body of a block: base64 adds a third.
func (l Limits) blockBody() int64 { return l.Block/3*4 + blockSlack }

// queueWait bounds the wait for a place: an agent gives up after 16 s, and what
// it gave up is done for nothing.
const queueWait = 8 * time.Second

// workTime bounds the work for a request, for the same reason.
const workTime = 15 * time.Second

// gate bounds the requests of one class, so that a herd of one cannot starve
// the others: so many at work, and so many that wait. Their bodies were read
// before, so that a slow sender takes no place.
type gate struct {
	places  chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newGate(places, queue int) *gate {
	return &gate{places: make(chan struct{}, places), queue: int64(places) * int64(queue)}
}

// enter waits for a place; leave gives it back.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	if g.waiting.Add(1) > g.queue {
		g.waiting.Add(-1)
		return errs.New(errs.Busy, "too many requests of this kind wait; try again later")
	}
	defer g.waiting.Add(-1)
	late := time.NewTimer(queueWait)
	defer late.Stop()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-late.C:
		return errs.New(errs.Busy, "the server is busy with others; try again later")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) leave() { <-g.places }

// retryAfter says when a refused client may come back, for those that listen:
// real agents have their own times. It differs, so that a herd does not come
// back as one.
func retryAfter() string {
	const least, spread = 15, 30                   // seconds
	return strconv.Itoa(least + rand.IntN(spread)) //nolint:gosec // no secret
}

// limits returns the body limits of an endpoint.
func (l Limits) of(e Endpoint) httpx.Limits {
	switch e {
	case Log:
		return httpx.Limits{Wire: l.Log, Inflated: l.Log}
	case Write:
		return httpx.Limits{Wire: l.Write, Inflated: l.Write}
	case CarveContinue:
		return httpx.Limits{Wire: l.blockBody(), Inflated: l.blockBody()}
	case Enroll, Config, Read, CarveStart:
	}
	return httpx.Limits{Wire: l.Small, Inflated: l.Small}
}
