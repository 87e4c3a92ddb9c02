package adminapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// How a broken stream is made again.
const (
	// streamSilence is how long a server may say nothing. It says that it lives
	// every streamIdle; a connection that a firewall forgot says nothing for ever.
	streamSilence = 3 * streamIdle
	// streamRetries in a row without one event are about half a minute, in which
	// a server restarts.
	streamRetries    = 9
	streamFirstPause = 250 * time.Millisecond
	streamMaxPause   = 5 * time.Second
)

// StreamEvent is one server-sent event (WHATWG HTML §9.2).
type StreamEvent struct {
	ID   string
	Name string
	Data []byte
}

// Stream calls use with each server-sent event of a path until use says that it
// was the last. A connection that breaks is made again, with Last-Event-ID: the
// server goes on after the last event that it gave an id. Events without an id
// come again then, so use must know what it has seen.
func (c *Client) Stream(ctx context.Context, path string, use func(StreamEvent) (last bool, err error)) error {
	s := stream{c: c, path: path, use: use}
	pause := time.Duration(0) // the first try again is at once
	for failures := 0; ; failures++ {
		before := s.events
		last, err := s.connect(ctx)
		switch {
		case last:
			return nil
		case s.failed != nil:
			return s.failed
		case ctx.Err() != nil:
			return ctx.Err()
		case !again(err):
			return err
		}
		if s.events > before {
			failures, pause = 0, streamFirstPause // not at once, lest a proxy that cuts streams makes this a loop
		}
		if failures >= streamRetries {
			return fmt.Errorf("the connection broke and could not be made again: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(max(streamFirstPause, 2*pause), streamMaxPause)
	}
}

// again reports whether a request that failed may succeed later.
func again(err error) bool {
	p, ok := errors.AsType[*Problem](err)
	return !ok || p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests
}

// stream is what outlives one connection.
type stream struct {
	c      *Client
	path   string
	use    func(StreamEvent) (bool, error)
	lastID string
	events int
	failed error // of use
}

// connect reads one connection to its end.
func (s *stream) connect(ctx context.Context) (last bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	head := http.Header{"Accept": {"text/event-stream"}}
	if s.lastID != "" {
		head.Set("Last-Event-ID", s.lastID)
	}
	answer, err := s.c.send(ctx, http.MethodGet, s.path, nil, nil, head)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	lines := bufio.NewReader(answer.Body)
	var e StreamEvent
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return false, err
		}
		silence.Reset(streamSilence)
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			e.field(line)
			continue
		}
		if e.Data == nil { // the end of a comment, or of an event that browsers drop, too
			e = StreamEvent{}
			continue
		}
		last, s.failed = s.use(e)
		if last || s.failed != nil {
			return last && s.failed == nil, s.failed
		}
		s.events++
		if e.ID != "" {
			s.lastID = e.ID
		}
		e = StreamEvent{}
	}
}

var errSilent = errors.New("the server says nothing any more")

// field takes one line of an event; comments and unknown fields are nothing.
func (e *StreamEvent) field(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		e.ID = value
	case "event":
		e.Name = value
	case "data":
		if e.Data != nil {
			e.Data = append(e.Data, '\n')
		}
		e.Data = append(e.Data, value...)
		if e.Data == nil {
			e.Data = []byte{} // an event with empty data is one
		}
	}
}

// Names of a live query's events.
const (
	EventAnswer = "answer"
	EventCounts = "counts"
	EventEnd    = "end"
)

// LiveStream is the path of a live query's events.
func LiveStream(id string) string { return "/live/" + url.PathEscape(id) + "/stream" }

// Follow calls use with each update of a live query until it ended, which is
// no error. The first updates tell all that is known; each answer comes once,
// also if the connection breaks.
func (c *Client) Follow(ctx context.Context, id string, use func(LiveUpdate) error) error {
	seen := map[string]bool{}
	err := c.Stream(ctx, LiveStream(id), func(e StreamEvent) (bool, error) {
		var u LiveUpdate
		switch e.Name {
		case EventAnswer:
			if err := json.Unmarshal(e.Data, &u.Answer); err != nil {
				return false, err
			}
			if seen[u.Answer.NodeID] {
				return false, nil
			}
			seen[u.Answer.NodeID] = true
		case EventCounts, EventEnd:
			if err := json.Unmarshal(e.Data, &u.Live); err != nil {
				return false, err
			}
		default:
			return false, nil // of a newer server
		}
		return e.Name == EventEnd, use(u)
	})
	if err != nil {
		return fmt.Errorf("follow live query: %w", err)
	}
	return nil
}
