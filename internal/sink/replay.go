package sink

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// Windows of a replay. The search finds the newest first, so time is walked through
// in windows that hold few enough events to be turned around.
const (
	firstWindow = time.Minute
	lastWindow  = 24 * time.Hour
	leastWindow = time.Millisecond // then its events are paged through, the newest first
	pageEvents  = 2000
)

// again sends what is to be sent again: dead letters, and replays.
func (r *runner) again(ctx context.Context) error {
	for {
		for r.dead.retrying() {
			if err := r.retry(ctx); err != nil {
				return err
			}
		}
		if err := r.replay(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
	}
}

// retry sends the dead letters that were taken. Those that are refused again are
// dead letters again. After a crash it begins anew.
func (r *runner) retry(ctx context.Context) error {
	b := newBatch(r)
	err := eachLine(r.dead.path(retryFile), func(line []byte) error {
		var kept Letter
		var l letter
		if err := json.Unmarshal(line, &kept); err != nil {
			return err
		}
		if err := json.Unmarshal(kept.Event, &l); err != nil {
			return err
		}
		if rec, ok := l.record(); ok {
			b.filter.row.read(&rec)
			b.put(&rec)
		}
		if b.full() {
			return b.send(ctx)
		}
		return nil
	})
	if err == nil {
		err = b.send(ctx)
	}
	if err != nil {
		return err
	}
	return r.dead.retried()
}

// replay goes on with the replay that is asked for, to its end.
func (r *runner) replay(ctx context.Context) error {
	width := firstWindow
	b := newBatch(r)
	for {
		p := r.replaying()
		if p == nil {
			return nil
		}
		until := p.Done.Add(width)
		if until.After(p.Until) {
			until = p.Until
		}
		f := event.Filter{Since: p.Done, Until: until, Limit: pageEvents}
		found, err := r.Search.Search(ctx, f)
		if err != nil {
			return err
		}
		if !found.Next.IsZero() && until.Sub(p.Done) > leastWindow {
			width = max(leastWindow, until.Sub(p.Done)/4)
			continue
		}
		sent := 0
		for {
			n, err := b.replay(ctx, found.Records, p.Seq)
			if err != nil {
				return err
			}
			sent += n
			if found.Next.IsZero() {
				break
			}
			f.Before = found.Next
			if found, err = r.Search.Search(ctx, f); err != nil {
				return err
			}
		}
		if err := b.send(ctx); err != nil {
			return err
		}
		r.replayed(p, until, sent)
		if len(found.Records) < pageEvents/8 {
			width = min(lastWindow, width*2)
		}
	}
}

// replay takes a page of events, which is the newest first. Those after a message of
// the stream go the usual way.
func (b *batch) replay(ctx context.Context, found []event.Record, upTo uint64) (n int, err error) {
	for i := range slices.Backward(found) {
		rec := &found[i]
		if rec.Seq > upTo || !b.filter.means(rec.NodeID, rec.HostIdentifier, rec.Tags) || !b.add(rec) {
			continue
		}
		n++
		if b.full() {
			if err := b.send(ctx); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// replaying returns a copy of the replay under way; nil without one.
func (r *runner) replaying() *Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Replay == nil {
		return nil
	}
	p := *r.state.Replay
	return &p
}

// replayed notes how far a replay came, unless another was asked for meanwhile.
func (r *runner) replayed(p *Replay, until time.Time, sent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.state.Replay
	if now == nil || !now.From.Equal(p.From) || now.Seq != p.Seq || !now.Done.Equal(p.Done) {
		return
	}
	r.dirty = true
	if !until.Before(p.Until) {
		r.state.Replay = nil
		r.Log.Info("a sink was sent again what was asked for", "sink", r.plan.Name, "events", p.Sent+int64(sent))
		return
	}
	now.Done, now.Sent = until, now.Sent+int64(sent)
}
