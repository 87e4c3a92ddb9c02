package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// Pauses after a failure: they double from the first to the last, and each is
// somewhere in its upper half, so that servers that failed together do not come
// again together.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = time.Minute
	// mostLater bounds for how long the other side may send us away.
	mostLater = 5 * time.Minute
	// sendTime bounds one attempt.
	sendTime = 2 * time.Minute
)

// staleAfter is after how many failures in a row a connection is made anew, and the
// secrets are read again.
const staleAfter = 3

// errReconnect is the error of a connection that is of no use any more.
var errReconnect = errors.New("the connection ended")

// runner runs one sink. Its state outlives its connections.
type runner struct {
	*Manager

	plan *resource.SinkPlan
	dead *dead

	sending sync.Mutex // held during one attempt
	sender  Sender     // nil until it is open

	mu     sync.Mutex
	state  State
	stale  bool   // the sender is to be opened anew
	dirty  bool   // the state is not kept yet
	kept   uint64 // the position that is
	health health
	wake   chan struct{} // something of the state, or the dead letters, is to be sent again

	cancel context.CancelFunc // nil while it does not run
	done   chan struct{}
}

// health is how a sink does since it runs.
type health struct {
	failures int // in a row
	err      string
	since    time.Time // of the first of them
	last     time.Time // when something was delivered
}

// start begins to send.
func (r *runner) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
}

// stop ends sending and returns when it ended.
func (r *runner) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	<-r.done
	r.cancel = nil
}

// run sends until ctx ends: what comes, and what is to be sent again.
func (r *runner) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		r.failed(ctx, err)
		r.pause(ctx, err)
	}
}

// session is one connection.
func (r *runner) session(ctx context.Context) (err error) {
	if err := r.connect(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.disconnect()) }()
	group, ctx := errgroup.WithContext(ctx)
	g := newGather(r)
	group.Go(func() error { return g.read(ctx) })
	group.Go(func() error { return g.flushLate(ctx) })
	group.Go(func() error { return r.again(ctx) })
	return group.Wait()
}

// connect opens the sender, in place of the one before.
func (r *runner) connect() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	return r.reconnect()
}

func (r *runner) reconnect() error {
	s, err := r.open(r.plan)
	if err != nil {
		return err
	}
	old := r.sender
	r.sender = s
	r.mu.Lock()
	r.stale = false
	r.mu.Unlock()
	if old != nil {
		_ = old.Close() // it failed already
	}
	return nil
}

func (r *runner) disconnect() error {
	r.sending.Lock()
	defer r.sending.Unlock()
	old := r.sender
	r.sender = nil
	return old.Close()
}

// deliver returns when the items are delivered or dead letters, or ctx ends.
func (r *runner) deliver(ctx context.Context, items []Item) error {
	for {
		refused, err := r.send(ctx, items)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case err == nil:
			err = r.bury(items, refused)
		case isRefused(err) && len(items) > 1:
			half := len(items) / 2
			if err := r.deliver(ctx, items[:half]); err != nil {
				return err
			}
			return r.deliver(ctx, items[half:])
		case isRefused(err):
			refused = []Refusal{{0, err.Error()}}
			err = r.bury(items, refused)
		}
		if err == nil {
			r.delivered(len(items) - len(refused))
			return nil
		}
		r.failed(ctx, err)
		if !r.pause(ctx, err) {
			return ctx.Err()
		}
	}
}

func (r *runner) send(ctx context.Context, items []Item) ([]Refusal, error) {
	r.sending.Lock()
	defer r.sending.Unlock()
	r.mu.Lock()
	stale := r.stale
	r.mu.Unlock()
	if r.sender == nil {
		return nil, errors.New("the sink is not open")
	}
	if stale {
		if err := r.reconnect(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return r.sender.Send(ctx, items)
}

// bury keeps what was refused.
func (r *runner) bury(items []Item, refused []Refusal) error {
	if len(refused) == 0 {
		return nil
	}
	letters := make([]Letter, 0, len(refused))
	var w row
	for _, f := range refused {
		w.read(&items[f.Index].Record)
		letters = append(letters, Letter{At: r.Now().UTC(), Reason: cut(f.Reason), Event: w.muster(nil, items[f.Index].ID)})
	}
	return r.dead.add(letters)
}

func (r *runner) delivered(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	recovered := r.health.failures > 0
	r.health = health{last: r.Now()}
	r.state.Sent += int64(n)
	r.dirty = true
	if recovered {
		r.Log.Info("a sink takes events again", "sink", r.plan.Name)
	}
}

// failed notes an attempt that failed. The log is told of the first in a row.
func (r *runner) failed(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := cut(err.Error())
	if r.health.failures == 0 || r.health.err != text {
		r.Log.WarnContext(ctx, "a sink takes no events; it is tried again, and its events wait", "sink", r.plan.Name, "error", text)
	}
	if r.health.failures == 0 {
		r.health.since = r.Now()
	}
	r.health.failures++
	r.stale = r.stale || r.health.failures%staleAfter == 0 || errors.Is(err, errReconnect)
	r.health.err = text
}

// pause waits before the next attempt; false when ctx ended.
func (r *runner) pause(ctx context.Context, err error) bool {
	r.mu.Lock()
	n := r.health.failures
	r.mu.Unlock()
	d := min(lastPause, firstPause<<min(max(n-1, 0), 20))
	d = d/2 + rand.N(d/2) //nolint:gosec // no secret
	if later, ok := errors.AsType[*LaterError](err); ok {
		d = max(d, min(later.After, mostLater))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// reached moves the position on.
func (r *runner) reached(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq > r.state.Seq {
		r.state.Seq, r.dirty = seq, true
	}
}

func (r *runner) position() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Seq
}

// gather puts together what is sent at once, of the messages that come.
type gather struct {
	*runner

	batch *batch
	armed chan struct{} // a batch has begun

	mu   sync.Mutex
	done uint64 // the last message whose events are all in the batch, or sent
}

func newGather(r *runner) *gather {
	return &gather{runner: r, batch: newBatch(r), armed: make(chan struct{}, 1)}
}

// read reads the stream on from the position.
func (g *gather) read(ctx context.Context) error {
	err := g.Stream.Read(ctx, g.position(), g.message)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = errors.New("the stream ended")
	}
	return err
}

// message takes the events of one message. It returns when there is room for the
// next: that holds up nobody but this sink.
func (g *gather) message(ctx context.Context, seq uint64, records [][]byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	index := uint32(0)
	for _, b := range records {
		batch, err := event.DecodeBatch(b)
		if err != nil {
			g.Log.ErrorContext(ctx, "events in the stream cannot be read; they are skipped", "sink", g.plan.Name, "seq", seq, "error", err)
			continue
		}
		means := g.batch.filter.means(batch.NodeID, batch.HostIdentifier, batch.Tags)
		for i := range batch.Events {
			r := event.Record{
				Event: batch.Events[i], NodeID: batch.NodeID, HostIdentifier: batch.HostIdentifier, Received: batch.Received,
				Tags: batch.Tags, Revision: batch.Revision, Seq: seq, Index: index,
			}
			index++
			if !means || !g.batch.add(&r) {
				continue
			}
			if g.batch.full() {
				if err := g.flush(ctx); err != nil {
					return err
				}
			} else if len(g.batch.items) == 1 {
				select {
				case g.armed <- struct{}{}:
				default: // a batch before was full first
				}
			}
		}
	}
	g.done = seq
	if len(g.batch.items) == 0 {
		g.reached(seq)
	}
	return nil
}

// flush sends the batch. After it everything up to done is sent.
func (g *gather) flush(ctx context.Context) error {
	if err := g.batch.send(ctx); err != nil {
		return err
	}
	g.reached(g.done)
	return nil
}

// flushLate sends batches that others do not fill.
func (g *gather) flushLate(ctx context.Context) error {
	_, _, wait := g.plan.Spec.Limits()
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.armed:
		}
		t.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		g.mu.Lock()
		err := g.flush(ctx)
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// batch is what is sent at once, filtered and in the sink's format.
type batch struct {
	*runner

	filter      *filter
	format      string
	items       []Item
	lines       []byte // of the items
	rows, bytes int    // limits
}

func newBatch(r *runner) *batch {
	b := &batch{runner: r, filter: newFilter(r.plan, r.Nodes), format: r.plan.Spec.Format}
	b.rows, b.bytes, _ = r.plan.Spec.Limits()
	return b
}

// add takes an event, if the sink wants it. The event's texts must stay as they are
// until it is sent.
func (b *batch) add(r *event.Record) bool {
	if !b.filter.wants(r) {
		return false
	}
	b.put(r)
	return true
}

// put takes the event that the filter's row holds.
func (b *batch) put(r *event.Record) {
	id := idOf(r)
	start := len(b.lines)
	b.lines = b.filter.row.line(b.lines, b.format, id)
	b.items = append(b.items, Item{Record: *r, ID: id, Line: b.lines[start:len(b.lines):len(b.lines)]})
}

func (b *batch) full() bool { return len(b.items) >= b.rows || len(b.lines) >= b.bytes }

func (b *batch) send(ctx context.Context) error {
	if len(b.items) == 0 {
		return nil
	}
	if err := b.deliver(ctx, b.items); err != nil {
		return err
	}
	clear(b.items) // what they hold of messages is free
	b.items = b.items[:0]
	b.lines = b.lines[:0]
	if cap(b.lines) > 2*b.bytes {
		b.lines = nil // one huge event must not stay in memory
	}
	return nil
}

// test sends one event that says that it is none.
func (r *runner) test(ctx context.Context) error {
	sender, err := r.testSender()
	if err != nil {
		return err
	}
	now := r.Now().UTC()
	rec := event.Record{
		Event: event.Event{
			Time: now, Query: TestQuery, Action: event.Snapshot,
			Columns: fmt.Appendf(nil, `{"message":"test of the sink %s"}`, r.plan.Name),
		},
		NodeID: "test", HostIdentifier: "muster", Received: now,
	}
	var w row
	w.read(&rec)
	id := fmt.Sprintf("test-%d", now.UnixNano())
	item := Item{Record: rec, ID: id, Line: w.line(nil, r.plan.Spec.Format, id)}
	refused, err := sender(ctx, []Item{item})
	if err == nil && len(refused) > 0 {
		err = refusedf("%s", refused[0].Reason)
	}
	return err
}

// TestQuery is the query's name in the event of a test.
const TestQuery = "muster:test"

// testSender returns the sender that is at work; one of its own while there is none.
func (r *runner) testSender() (func(context.Context, []Item) ([]Refusal, error), error) {
	r.sending.Lock()
	open := r.sender != nil
	r.sending.Unlock()
	if open {
		return r.send, nil
	}
	s, err := r.open(r.plan)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, items []Item) ([]Refusal, error) {
		refused, err := s.Send(ctx, items)
		return refused, errors.Join(err, s.Close())
	}, nil
}
