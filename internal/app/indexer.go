package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/stream"
)

// appender is the stream as the agents' API sees it.
type appender struct{ stream *stream.Stream }

func (d appender) AppendEvents(ctx context.Context, batch []byte) error {
	return d.stream.Append(ctx, stream.Events, batch)
}

func (d appender) AppendAnswers(ctx context.Context, answers []byte) error {
	return d.stream.Append(ctx, stream.Answers, answers)
}

// indexer carries events from the stream into the search engine. The engine
// knows up to where its segments reach; from there on the stream is read again
// after a start, so that its memory is as it was.
type indexer struct {
	engine *search.Engine
	stream *stream.Stream
	seen   *event.Seen
	log    *slog.Logger
	start  uint64             // the stream's newest message when the server started
	watch  func(*event.Batch) // of what came since
	tails  *event.Tails       // too
	live   *answerEvents

	caughtUp chan struct{} // closed when everything up to start is in
	once     sync.Once

	mu   sync.Mutex
	wake chan struct{} // closed when a message is in
}

func newIndexer(engine *search.Engine, s *stream.Stream, seen *event.Seen, start uint64, watch func(*event.Batch), log *slog.Logger) *indexer {
	i := &indexer{engine: engine, stream: s, seen: seen, log: log, start: start, watch: watch, tails: event.NewTails(), live: newAnswerEvents(), caughtUp: make(chan struct{}), wake: make(chan struct{})}
	if start == 0 {
		i.once.Do(func() { close(i.caughtUp) })
	}
	return i
}

// retryIndex is the pause after a failure, as of a full disk.
const retryIndex = time.Second

// Run indexes until ctx ends. It begins with the oldest message there is, as
// also those in segments tell which lines were stored last. When the engine
// cannot take a message, it is tried again: agents go on writing to the stream
// meanwhile.
func (i *indexer) Run(ctx context.Context) error {
	var from uint64
	for {
		err := i.stream.Read(ctx, stream.Events, from, i.index)
		if err == nil {
			return nil
		}
		i.log.ErrorContext(ctx, "events cannot be indexed; trying again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryIndex):
		}
		from = i.engine.Seen() + 1
	}
}

func (i *indexer) index(ctx context.Context, m stream.Message) error {
	batches := make([]event.Batch, 0, len(m.Records))
	for _, r := range m.Records {
		b, err := event.DecodeBatch(r)
		if err != nil {
			i.log.ErrorContext(ctx, "events in the stream cannot be read; they are skipped", "seq", m.Seq, "error", err)
			continue
		}
		switch {
		case m.Seq > i.start:
		case b.LogType == event.LiveLog:
			i.live.replay(&b)
		case b.LogType == event.ServerLog:
		default:
			i.seen.Replay(&b)
		}
		batches = append(batches, b)
	}
	if err := i.engine.Add(m.Seq, batches); err != nil {
		return err
	}
	if m.Seq > i.start {
		for n := range batches {
			i.watch(&batches[n])
		}
		i.tails.Publish(m.Seq, batches)
	}
	if m.Seq >= i.start {
		i.once.Do(func() { close(i.caughtUp) })
	}
	i.mu.Lock()
	close(i.wake)
	i.wake = make(chan struct{})
	i.mu.Unlock()
	return nil
}

// freshWait bounds how long a search waits for what was appended before it.
const freshWait = 2 * time.Second

// fresh waits until everything that was acknowledged before is in the engine.
// An engine that is far behind is searched as it is.
func (i *indexer) fresh(ctx context.Context) {
	want := i.stream.Appended(stream.Events)
	late := time.NewTimer(freshWait)
	defer late.Stop()
	for {
		i.mu.Lock()
		wake := i.wake
		i.mu.Unlock()
		if i.engine.Seen() >= want {
			return
		}
		select {
		case <-wake:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Search finds events, with all that was acknowledged before the call.
func (i *indexer) Search(ctx context.Context, f event.Filter) (event.Page, error) {
	i.fresh(ctx)
	return i.engine.Search(ctx, f)
}

// Count counts events, with all that was acknowledged before the call.
func (i *indexer) Count(ctx context.Context, c event.Counting) (event.Groups, error) {
	i.fresh(ctx)
	return i.engine.Count(ctx, c)
}

// State returns what nodes' last results are; see adminapi.Search.
func (i *indexer) State(ctx context.Context, f event.Filter, after string) (event.State, error) {
	i.fresh(ctx)
	return i.engine.State(ctx, f, after)
}

// Queries counts events; see adminapi.Search.
func (i *indexer) Queries(ctx context.Context, f event.Filter, buckets int) ([]event.Summary, []event.Bucket, error) {
	i.fresh(ctx)
	since, until := f.Since, f.Until
	if since.IsZero() {
		since = i.engine.Stats().Oldest
	}
	if until.IsZero() {
		until = time.Now()
	}
	width := event.Step(until.Sub(since) / time.Duration(buckets))
	summaries, counted, err := i.engine.Queries(ctx, f, width)
	if err != nil || f.Since.IsZero() {
		return summaries, counted, err
	}
	return summaries, fill(counted, since, until, width), nil
}

// fill adds the empty buckets from since to until, so that a chart shows the
// time that was asked for.
func fill(counted []event.Bucket, since, until time.Time, width time.Duration) []event.Bucket {
	counts := map[int64]int64{}
	for _, b := range counted {
		counts[b.Start.UnixMicro()] = b.Count
	}
	var all []event.Bucket
	first := since.UnixMicro() / width.Microseconds() * width.Microseconds() // as the engine's buckets begin
	for t := time.UnixMicro(first).UTC(); t.Before(until); t = t.Add(width) {
		all = append(all, event.Bucket{Start: t, Count: counts[t.UnixMicro()]})
	}
	return all
}

// Stats tells what the engine holds.
func (i *indexer) Stats() event.Stats { return i.engine.Stats() }

// QueryStats tells what the engine holds of each query.
func (i *indexer) QueryStats() []event.QueryStats { return i.engine.QueryStats() }

// answerReader is the name of the position up to which answers are kept.
const answerReader = "live"

// readAnswers carries answers to live queries from the stream into the state.
func (a *App) readAnswers(ctx context.Context) error {
	return a.stream.ReadDurable(ctx, answerReader, stream.Answers, stream.MaxGroup, func(ctx context.Context, m stream.Message) error {
		if err := a.live.Accept(ctx, a.answersIn(ctx, m)); err != nil {
			return err
		}
		a.indexer.live.kept(m.Seq)
		return nil
	})
}

// answersIn returns the answers of a message: together, as each transaction
// waits for the disk.
func (a *App) answersIn(ctx context.Context, m stream.Message) []live.Answer {
	var all []live.Answer
	for _, r := range m.Records {
		var answers []live.Answer
		if err := json.Unmarshal(r, &answers); err != nil {
			a.log.ErrorContext(ctx, "an answer in the stream cannot be read; it is skipped", "seq", m.Seq, "error", err)
			continue
		}
		all = append(all, answers...)
	}
	return all
}

// trimEvery is the pace of trimming; what was read at one look is trimmed at
// the next, so that the stream keeps the last requests of every node that may
// still repeat them after a crash.
const trimEvery = time.Minute

// trim removes from the stream what every reader has done with.
func (a *App) trim(ctx context.Context) error {
	t := time.NewTicker(trimEvery)
	defer t.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		done, err := a.read(ctx, answerReader, answerEventReader, healthReader)
		if err == nil {
			err = a.trimStream(ctx, before)
		}
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "the stream could not be trimmed; retrying", "error", err)
			continue
		}
		before, err = a.ruled(ctx, min(done, a.engine.Position()))
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "how far rules are is not known; what they may not have looked at is not trimmed", "error", err)
			before = 0
		}
	}
}

// read returns up to where all of these durable readers are.
func (a *App) read(ctx context.Context, readers ...string) (uint64, error) {
	done := uint64(math.MaxUint64)
	for _, name := range readers {
		at, err := a.stream.ReadPosition(ctx, name)
		if err != nil {
			return 0, err
		}
		done = min(done, at)
	}
	return done, nil
}
