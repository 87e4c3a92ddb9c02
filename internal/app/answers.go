package app

import (
	"context"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/stream"
)

// answerEvents turns answers to live queries into events, so that they are found
// where everything else is. It reads the stream of answers a second time, behind
// the reader that keeps them in the state, which alone knows whether an answer
// was asked for. The events go into the stream as those of agents do.
//
// After a crash an answer may be read again whose event is in the stream already.
// That event is behind its answer, and nothing behind an answer that was not read
// is ever trimmed: so the lines of all such events are known again when the
// indexer has read the stream up to where it was at the start.
type answerEvents struct {
	stored map[uint64]bool // lines that are in the stream, of answers that may come again
	full   time.Time       // since when the stream takes nothing; zero if it does

	mu   sync.Mutex
	upTo uint64 // the state has the answers up to here
	wake chan struct{}
}

func newAnswerEvents() *answerEvents {
	return &answerEvents{stored: map[uint64]bool{}, wake: make(chan struct{})}
}

// replay notes a batch that is in the stream as the server starts.
func (e *answerEvents) replay(b *event.Batch) {
	for i := range b.Events {
		e.stored[b.Events[i].Line] = true
	}
}

// kept tells that the state has the answers up to a message.
func (e *answerEvents) kept(seq uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq > e.upTo {
		e.upTo = seq
		close(e.wake)
		e.wake = make(chan struct{})
	}
}

// wait returns when the state has the answers of a message.
func (e *answerEvents) wait(ctx context.Context, seq uint64) error {
	for {
		e.mu.Lock()
		done, wake := e.upTo >= seq, e.wake
		e.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answerEventReader is the name of the position up to which answers are events.
const answerEventReader = "live-events"

// indexAnswers makes events of answers.
func (a *App) indexAnswers(ctx context.Context) error {
	select {
	case <-a.indexer.caughtUp: // from now on answerEvents.stored is complete, and ours
	case <-ctx.Done():
		return nil
	}
	if at, err := a.stream.ReadPosition(ctx, answerReader); err == nil {
		a.indexer.live.kept(at)
	} // else the reader of answers says so when it begins
	return a.stream.ReadDurable(ctx, answerEventReader, stream.Answers, stream.MaxGroup, func(ctx context.Context, m stream.Message) error {
		if err := a.indexer.live.wait(ctx, m.Seq); err != nil {
			return err
		}
		kept, err := a.store.KeptAnswers(ctx, a.answersIn(ctx, m))
		if err != nil {
			return err
		}
		return a.orGiveUp(ctx, a.appendAnswers(ctx, kept))
	})
}

// giveUp is how long a full stream or disk may keep this reader. What it has not
// read cannot be trimmed, so if it waited for ever, a stream that is full of that
// would stay full. The answers are in the state; they are not found as events.
const giveUp = 5 * time.Minute

func (a *App) orGiveUp(ctx context.Context, err error) error {
	e := a.indexer.live
	if !errs.Is(err, errs.Busy) {
		e.full = time.Time{}
		return err
	}
	if e.full.IsZero() {
		e.full = a.now()
	}
	if a.now().Sub(e.full) < giveUp {
		return err
	}
	a.log.ErrorContext(ctx, "answers to live queries are kept, and will not be found as events: the stream is full", "error", err)
	return nil
}

// appendsAtOnce is how many batches are appended together, which the stream
// writes at once.
const appendsAtOnce = 64

func (a *App) appendAnswers(ctx context.Context, kept []live.Kept) error {
	stored := a.indexer.live.stored
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(appendsAtOnce)
	var lines []uint64
	for _, k := range kept {
		if k.Kind == live.Carve || len(k.Answer.Rows) == 0 {
			continue
		}
		line := lineOf(k.Answer)
		lines = append(lines, line)
		mu.Lock()
		again := stored[line]
		mu.Unlock()
		if again {
			continue
		}
		group.Go(func() error {
			b := a.batchOf(k, line)
			if err := a.stream.Append(ctx, stream.Events, b.Append(nil)); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			stored[line] = true
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err // the message comes again
	}
	for _, l := range lines {
		delete(stored, l)
	}
	return nil
}

// lineOf identifies the answer that is kept: a node answers a query once.
func lineOf(a live.Answer) uint64 {
	return xxhash.Sum64String(a.LiveID + "\x00" + a.NodeID + "\x00" + a.ReceivedAt.UTC().Format(time.RFC3339Nano))
}

// batchOf returns an answer as events, a row each.
func (a *App) batchOf(k live.Kept, line uint64) event.Batch {
	b := event.Batch{
		NodeID: k.Answer.NodeID, HostIdentifier: k.HostIdentifier, Received: k.Answer.ReceivedAt, LogType: event.LiveLog,
		Events: make([]event.Event, 0, len(k.Answer.Rows)),
	}
	decorations := k.Decorations()
	if n := a.registry.Lookup(b.NodeID); n != nil {
		b.HostIdentifier, b.Tags, b.Revision = n.HostIdentifier, n.Tags, n.Revision()
		if n.Quarantined {
			decorations = event.Mark(decorations, event.Quarantined)
		}
	}
	for i, row := range k.Answer.Rows {
		b.Events = append(b.Events, event.Event{
			Time: b.Received, Query: k.EventName(), Action: event.Snapshot, Columns: row, Decorations: decorations,
			Line: line, Continues: i > 0,
		})
	}
	return b
}
