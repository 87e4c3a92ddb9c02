package adminapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// The server-sent events of a tail.
const (
	EventLogged  = "event"  // an Event
	EventsMissed = "missed" // an EventMissed
)

type tailInput struct {
	EventChoice
}

// tailEvents sends events as they arrive. Who reads too slowly misses some, and is
// told how many.
func (a *API) tailEvents(ctx context.Context, in *tailInput) (*huma.StreamResponse, error) {
	if in.Since != "" || in.Until != "" {
		return nil, errs.Field("since", "is of no use here: a tail begins now; search for what was before")
	}
	f, err := a.chosen(ctx, in.EventChoice)
	if err != nil {
		return nil, err
	}
	tail, err := a.Tails.Watch(f)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer tail.Close()
		s := a.stream(ctx)
		if err := a.tail(ctx.Context(), tail, s); err != nil && ctx.Context().Err() == nil {
			a.report(ctx.Context(), "tail events", err)
		}
	}}, nil
}

// tail sends what is logged until the watcher goes or the server stops.
func (a *API) tail(ctx context.Context, tail *event.Tail, s *sse) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ctx.Done():
		case <-s.stopping:
			cancel(errStopping)
		}
	}()
	idle := time.NewTicker(streamIdle)
	defer idle.Stop()
	if err := s.alive(); err != nil { // so that who watches knows that it has begun
		return err
	}
	for {
		records, missed, err := tail.Next(ctx, idle.C)
		if err != nil {
			return context.Cause(ctx)
		}
		if missed > 0 {
			if err := s.send(EventsMissed, "", EventMissed{missed}); err != nil {
				return err
			}
		}
		for _, r := range records {
			if err := s.send(EventLogged, "", a.event(r)); err != nil {
				return err
			}
		}
		if len(records) == 0 {
			if err := s.alive(); err != nil {
				return err
			}
		}
	}
}
