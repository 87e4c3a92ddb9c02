package event

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of tails, which refer to whole messages of the stream.
const (
	// MaxTails is how many may watch at once.
	MaxTails = 64

	// maxBehind is how many messages a reader may be behind. The stream's groups
	// of a few milliseconds are a message each.
	maxBehind = 64
	// maxBehindEvents is how many events it may be behind: enough for a burst of
	// agents' largest requests, and some megabytes.
	maxBehindEvents = 20_000
)

// Tails hands events to those who watch as they arrive. It never waits for them:
// who reads too slowly misses messages, and is told how many events. Safe for
// concurrent use.
type Tails struct {
	watched atomic.Int32

	mu    sync.Mutex
	tails map[*Tail]struct{}
}

// NewTails returns tails that nobody watches yet.
func NewTails() *Tails { return &Tails{tails: map[*Tail]struct{}{}} }

// Tail is one who watches. Close it.
type Tail struct {
	all      *Tails
	matcher  *Matcher
	messages chan message
	behind   atomic.Int64 // events in messages
	missed   atomic.Int64 // events since the last look
}

type message struct {
	seq     uint64
	batches []Batch
	events  int
}

// Watch begins to watch what the filter means.
func (t *Tails) Watch(f Filter) (*Tail, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tails) >= MaxTails {
		return nil, errs.New(errs.Busy, "%d others watch events already; try again when one has ended", MaxTails)
	}
	tail := &Tail{all: t, matcher: NewMatcher(f), messages: make(chan message, maxBehind)}
	t.tails[tail] = struct{}{}
	t.watched.Store(int32(len(t.tails))) //nolint:gosec // at most MaxTails
	return tail, nil
}

// Publish hands a message's batches, which never change anymore, to all who watch.
func (t *Tails) Publish(seq uint64, batches []Batch) {
	if t.watched.Load() == 0 {
		return
	}
	m := message{seq: seq, batches: batches}
	for i := range batches {
		m.events += len(batches[i].Events)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for tail := range t.tails {
		tail.offer(m)
	}
}

func (t *Tail) offer(m message) {
	if n := t.behind.Add(int64(m.events)); n <= maxBehindEvents || n == int64(m.events) {
		select {
		case t.messages <- m:
			return
		default:
		}
	}
	t.behind.Add(-int64(m.events))
	t.missed.Add(int64(m.events))
}

// Next waits for events that are meant. They are in the order of their arrival.
// missed is how many events were not looked at since the last call, because it
// came too late. It returns nothing when wake is ready, and an error when ctx
// ends.
func (t *Tail) Next(ctx context.Context, wake <-chan time.Time) (records []Record, missed int64, err error) {
	var row Row
	for {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-wake:
			return nil, t.missed.Swap(0), nil
		case m := <-t.messages:
			t.behind.Add(-int64(m.events))
			if records = m.matching(t.matcher, &row); len(records) > 0 {
				return records, t.missed.Swap(0), nil
			}
		}
	}
}

func (m *message) matching(matcher *Matcher, row *Row) (records []Record) {
	var index uint32
	for i := range m.batches {
		b := &m.batches[i]
		for j := range b.Events {
			e := &b.Events[j]
			if row.Set(b, e); matcher.Match(row) {
				records = append(records, Record{
					Event: *e, NodeID: b.NodeID, HostIdentifier: b.HostIdentifier, Received: b.Received, Tags: b.Tags, Revision: b.Revision,
					Seq: m.seq, Index: index,
				})
			}
			index++
		}
	}
	return records
}

// Close ends the watching.
func (t *Tail) Close() {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	delete(t.all.tails, t)
	t.all.watched.Store(int32(len(t.all.tails))) //nolint:gosec // at most MaxTails
}
