package adminapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/sink"
)

func (a *API) registerSinks() {
	register(a, account.SinkRead, http.MethodGet, "/sinks", "List sinks and how they do", a.listSinks)
	register(a, account.SinkRead, http.MethodGet, "/sinks/{name}", "Show a sink", a.showSink)
	register(a, account.SinkWrite, http.MethodPost, "/sinks/{name}/pause", "Pause a sink; its events wait in the stream", a.pauseSink)
	register(a, account.SinkWrite, http.MethodPost, "/sinks/{name}/resume", "Let a paused sink go on where it was", a.resumeSink)
	register(a, account.SinkWrite, http.MethodPost, "/sinks/{name}/test", "Send one event of the query muster:test", a.testSink)
	register(a, account.SinkWrite, http.MethodPost, "/sinks/{name}/replay", "Send events of a span of time once more", a.replaySink)
	register(a, account.SinkWrite, http.MethodDelete, "/sinks/{name}/replay", "End a replay", a.stopReplay)
	register(a, account.SinkWrite, http.MethodGet, "/sinks/{name}/dead", "List events that the other side refused for good, oldest first", a.deadLetters)
	register(a, account.SinkWrite, http.MethodPost, "/sinks/{name}/dead/retry", "Send dead letters once more", a.retryDead)
	register(a, account.SinkWrite, http.MethodDelete, "/sinks/{name}/dead", "Discard dead letters", a.discardDead)
}

// SinkRef names a sink in a path.
type SinkRef struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) sinkDocument(s sink.Status) Sink {
	out := Sink{
		Name: s.Name, Type: s.Plan.Spec.Way(), Format: cmp.Or(s.Plan.Spec.Format, "muster"), Required: s.Plan.Spec.Required,
		State: string(s.Condition), Error: s.Error, FailingAt: at(s.Since), PausedAt: at(s.PausedAt), PausedBy: s.PausedBy,
		DeliveredAt: at(s.Delivered), Position: s.Seq, Sent: s.Sent, Lost: s.Lost,
		Lag:  SinkLag{Messages: s.Backlog.Messages, Bytes: s.Backlog.Bytes, Oldest: at(s.Backlog.Oldest)},
		Dead: SinkDead{Letters: s.Letters, Bytes: s.Bytes},
	}
	if !s.Backlog.Oldest.IsZero() {
		out.Lag.Seconds = max(0, a.Now().Sub(s.Backlog.Oldest).Seconds())
	}
	if r := s.Replay; r != nil {
		out.Replay = &SinkReplay{Since: r.From.UTC(), Until: r.Until.UTC(), Done: r.Done.UTC(), Sent: r.Sent, By: r.By}
	}
	return out
}

func (a *API) listSinks(ctx context.Context, _ *none) (*body[[]Sink], error) {
	list, err := a.Sinks.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Sink, 0, len(list))
	for _, s := range list {
		out = append(out, a.sinkDocument(s))
	}
	return &body[[]Sink]{out}, nil
}

func (a *API) showSink(ctx context.Context, in *SinkRef) (*body[Sink], error) {
	s, err := a.Sinks.Show(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &body[Sink]{a.sinkDocument(s)}, nil
}

// actOnSink records an act on a sink that is there, and does it.
func (a *API) actOnSink(ctx context.Context, action, name string, details any, act func() error) error {
	if _, err := a.Sinks.Show(ctx, name); err != nil {
		return err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, action, name, details); err != nil {
		return err
	}
	return act()
}

func (a *API) pauseSink(ctx context.Context, in *SinkRef) (*body[Sink], error) {
	if err := a.actOnSink(ctx, "sink.pause", in.Name, nil, func() error { return a.Sinks.Pause(ctx, in.Name, session(ctx).UserName) }); err != nil {
		return nil, err
	}
	return a.showSink(ctx, in)
}

func (a *API) resumeSink(ctx context.Context, in *SinkRef) (*body[Sink], error) {
	if err := a.actOnSink(ctx, "sink.resume", in.Name, nil, func() error { return a.Sinks.Resume(ctx, in.Name) }); err != nil {
		return nil, err
	}
	return a.showSink(ctx, in)
}

func (a *API) testSink(ctx context.Context, in *SinkRef) (*body[SinkTested], error) {
	began := a.Now()
	if err := a.actOnSink(ctx, "sink.test", in.Name, nil, func() error { return a.Sinks.Test(ctx, in.Name) }); err != nil {
		return nil, err
	}
	return &body[SinkTested]{SinkTested{Milliseconds: a.Now().Sub(began).Milliseconds()}}, nil
}

type sinkReplayInput struct {
	SinkRef
	Body SinkReplayInput
}

func (a *API) replaySink(ctx context.Context, in *sinkReplayInput) (*body[Sink], error) {
	since, err := moment("since", in.Body.Since, a.Now())
	if err != nil {
		return nil, err
	}
	if since.IsZero() {
		return nil, errs.Field("since", "is missing; write from when on, as 1h or 2026-01-31T12:00:00Z")
	}
	until, err := moment("until", in.Body.Until, a.Now())
	if err != nil {
		return nil, err
	}
	if err := a.actOnSink(ctx, "sink.replay", in.Name, in.Body, func() error {
		return a.Sinks.Replay(ctx, in.Name, since, until, session(ctx).UserName)
	}); err != nil {
		return nil, err
	}
	return a.showSink(ctx, &in.SinkRef)
}

func (a *API) stopReplay(ctx context.Context, in *SinkRef) (*body[Sink], error) {
	if err := a.actOnSink(ctx, "sink.replay_stop", in.Name, nil, func() error { return a.Sinks.StopReplay(ctx, in.Name) }); err != nil {
		return nil, err
	}
	return a.showSink(ctx, in)
}

type deadInput struct {
	SinkRef
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) deadLetters(ctx context.Context, in *deadInput) (*body[[]SinkLetter], error) {
	list, err := a.Sinks.Dead(ctx, in.Name, in.Limit)
	if err != nil {
		return nil, err
	}
	out := make([]SinkLetter, 0, len(list))
	for _, l := range list {
		out = append(out, SinkLetter(l))
	}
	return &body[[]SinkLetter]{out}, nil
}

func (a *API) retryDead(ctx context.Context, in *SinkRef) (*body[Sink], error) {
	if err := a.actOnSink(ctx, "sink.retry", in.Name, nil, func() error { return a.Sinks.Retry(ctx, in.Name) }); err != nil {
		return nil, err
	}
	return a.showSink(ctx, in)
}

func (a *API) discardDead(ctx context.Context, in *SinkRef) (*body[SinkDiscarded], error) {
	var n int
	err := a.actOnSink(ctx, "sink.discard", in.Name, nil, func() (err error) {
		n, err = a.Sinks.Discard(ctx, in.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &body[SinkDiscarded]{SinkDiscarded{n}}, nil
}
