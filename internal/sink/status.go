package sink

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/resource"
)

// Condition is how a sink does.
type Condition string

// The conditions.
const (
	Running Condition = "running"
	Failing Condition = "failing" // what is sent is not taken, and tried again
	Paused  Condition = "paused"
)

// Status is a sink and how it does.
type Status struct {
	State

	Plan      *resource.SinkPlan
	Condition Condition
	Error     string    // of the last attempt that failed, while it is failing
	Since     time.Time // when it began to fail
	Delivered time.Time // the last time; zero if nothing was since the server started
	Backlog   Backlog
	// Letters are the dead letters, which take Bytes.
	Letters int
	Bytes   int64
}

// List returns the sinks by name.
func (m *Manager) List(ctx context.Context) ([]Status, error) {
	list := []Status{}
	for _, r := range m.all() {
		s, ok, err := r.status(ctx)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, s)
		}
	}
	return list, nil
}

// Show returns one sink.
func (m *Manager) Show(ctx context.Context, name string) (Status, error) {
	r, err := m.find(name)
	if err != nil {
		return Status{}, err
	}
	s, _, err := r.status(ctx)
	return s, err
}

func (r *runner) status(ctx context.Context) (Status, bool, error) {
	r.mu.Lock()
	s := Status{State: r.state.clone(), Plan: r.plan, Condition: Running, Delivered: r.health.last}
	if r.health.failures > 0 {
		s.Condition, s.Error, s.Since = Failing, r.health.err, r.health.since
	}
	r.mu.Unlock()
	if s.Plan == nil {
		return s, false, nil
	}
	if !s.PausedAt.IsZero() {
		s.Condition = Paused
	}
	s.Letters, s.Bytes = r.dead.size()
	var err error
	s.Backlog, err = r.Stream.Backlog(ctx, s.Seq)
	return s, true, err
}

// Shares of the stream that events may take which only sinks still need. Beyond it
// the oldest are removed, whatever sinks have not got: agents go before sinks.
const (
	optionalShare = 0.5
	requiredShare = 0.9
)

// Fill says how full the stream is.
type Fill struct {
	First, Last uint64 // sequences of the oldest and the newest message
	Bytes, Max  uint64
}

// Keep returns up to where the stream may be trimmed, if everybody else has done
// with it up to a sequence. What sinks still need stays, as long as there is room:
// beyond that, what is over the share, oldest first.
func (m *Manager) Keep(ctx context.Context, upTo uint64, f Fill) (uint64, error) {
	last, err := m.Stream.Last(ctx)
	if err != nil {
		return 0, err
	}
	keep := upTo
	for _, r := range m.all() {
		r.mu.Lock()
		at, share := r.kept, optionalShare
		if r.plan != nil && r.plan.Spec.Required || r.plan == nil { // not known yet: be careful
			share = requiredShare
		}
		r.mu.Unlock()
		if at < last { // else what comes after it is of no event
			keep = min(keep, max(at, f.over(share)))
		}
	}
	return keep, nil
}

// over returns the sequence up to which messages are more than a share, if all were
// of one size.
func (f Fill) over(share float64) uint64 {
	room := share * float64(f.Max)
	if float64(f.Bytes) <= room || f.Bytes == 0 {
		return 0
	}
	return f.First + uint64((1-room/float64(f.Bytes))*float64(f.Last-f.First))
}

// Trimming is called before the stream is trimmed up to a sequence. Sinks that did
// not get that far have lost it.
func (m *Manager) Trimming(ctx context.Context, upTo uint64) error {
	for _, r := range m.all() {
		at := r.position()
		if at >= upTo {
			continue
		}
		before, err := m.Stream.Backlog(ctx, at)
		if err != nil {
			return err
		}
		after, err := m.Stream.Backlog(ctx, upTo)
		if err != nil {
			return err
		}
		lost := int64(before.Messages) - int64(after.Messages) //nolint:gosec // far from 2^63
		if lost <= 0 {
			continue
		}
		m.Log.ErrorContext(ctx, "the stream is full of what a sink did not take; the oldest is lost to it, and stays in the search: muster sink replay sends it",
			"sink", r.state.Name, "messages", lost)
		if err := r.change(ctx, func(s *State) { s.Seq, s.Lost = max(s.Seq, upTo), s.Lost+lost }); err != nil {
			return err
		}
	}
	return nil
}
