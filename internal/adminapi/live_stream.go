package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
)

type streamLiveInput struct {
	LiveRef
	LastEventID string `header:"Last-Event-ID" doc:"Id of the last answer that was seen; those before it are not sent again" maxLength:"32"`
	Answers     bool   `query:"answers" doc:"False for counts alone: of use to who reads results by the page" default:"true"`
}

func (a *API) streamLive(ctx context.Context, in *streamLiveInput) (*huma.StreamResponse, error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	after, err := strconv.ParseInt(in.LastEventID, 10, 64)
	if err != nil {
		after = 0 // none, or not one of ours: all is sent
	}
	readers := a.readers(ctx, q)
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		s := a.stream(ctx)
		if err := a.follow(ctx.Context(), in, live.AnswerFilter{AnsweredOnly: true, Nodes: readers, AfterSeq: after, Limit: streamPage}, s); err != nil && ctx.Context().Err() == nil {
			a.report(ctx.Context(), "follow live query", err)
		}
	}}, nil
}

// eventStream is the content type of server-sent events.
const eventStream = "text/event-stream"

// Pace of a stream.
const (
	// streamPause is the shortest time between two looks at a query that many
	// nodes answer at once.
	streamPause = 200 * time.Millisecond
	// streamIdle is how long a stream is silent before it says that it lives.
	streamIdle = 15 * time.Second
	streamPage = 200
)

// follow sends what is known of a query and the answers that are meant, then what
// changes, until it ended.
func (a *API) follow(ctx context.Context, in *streamLiveInput, f live.AnswerFilter, s *sse) error {
	id := in.ID
	for {
		changed, release := a.Live.Watch(id) // before looking, so that no change is missed
		q, err := a.query(ctx, id)
		if err == nil && in.Answers {
			err = a.sendAnswers(ctx, id, &f, s)
		}
		var document Live
		if err == nil {
			document, err = a.timed(ctx, q)
		}
		if err == nil {
			err = s.send("counts", "", document)
		}
		if err == nil && !q.Phase.Open() {
			release()
			return s.send("end", "", document)
		}
		if err == nil {
			err = s.wait(ctx, changed)
		}
		release()
		if err != nil {
			return err
		}
	}
}

// sendAnswers sends the answers that came after the filter's last.
func (a *API) sendAnswers(ctx context.Context, id string, f *live.AnswerFilter, s *sse) error {
	for {
		targets, _, err := a.LiveList.LiveAnswers(ctx, id, *f)
		if err != nil {
			return err
		}
		for _, t := range targets {
			if err := s.send("answer", strconv.FormatInt(t.Seq, 10), liveAnswer(t)); err != nil {
				return err
			}
			f.AfterSeq = t.Seq
		}
		if len(targets) < f.Limit {
			return nil
		}
	}
}

// sse writes server-sent events (WHATWG HTML §9.2).
type sse struct {
	w         http.ResponseWriter
	c         *http.ResponseController
	stopping  <-chan struct{}
	permitted func() error // why the caller may not see it any more
	looked    time.Time
}

// stream begins to answer with events.
func (a *API) stream(ctx huma.Context) *sse {
	ctx.SetHeader("Content-Type", eventStream)
	ctx.SetHeader("X-Accel-Buffering", "no") // nginx would hold events back
	_, w := humago.Unwrap(ctx)
	return &sse{
		w: w, c: http.NewResponseController(w), stopping: a.Stopping, looked: time.Now(),
		permitted: func() error { return stillPermitted(ctx.Context()) },
	}
}

// errStopping ends streams when the server stops; browsers come back.
var errStopping = errs.New(errs.Busy, "the server is stopping")

// look ends a stream whose caller may not see it any more; it looks now and then.
func (s *sse) look() error {
	if time.Since(s.looked) < streamIdle {
		return nil
	}
	s.looked = time.Now()
	return s.permitted()
}

// send sends an event. A client that comes back names the id that it saw last.
func (s *sse) send(name, id string, document any) error {
	if err := s.look(); err != nil {
		return err
	}
	b, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\n%sdata: %s\n\n", name, id, b); err != nil {
		return err
	}
	return s.c.Flush()
}

// alive sends a comment, as a stream that is silent for long is taken for dead.
func (s *sse) alive() error {
	if err := s.look(); err != nil {
		return err
	}
	if _, err := fmt.Fprint(s.w, ": alive\n\n"); err != nil {
		return err
	}
	return s.c.Flush()
}

// wait returns when something changed, but not too soon.
func (s *sse) wait(ctx context.Context, changed <-chan struct{}) error {
	pause, idle := time.NewTimer(streamPause), time.NewTicker(streamIdle)
	defer pause.Stop()
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return errStopping
		case <-idle.C:
			if err := s.alive(); err != nil {
				return err
			}
		case <-changed:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-pause.C:
				return nil
			}
		}
	}
}
