// Package sink sends events to systems outside: files, syslog, Splunk, Kafka and
// others. Each sink reads the stream from a position of its own, so one that is
// slow or dead holds up neither agents nor another sink. It knows nothing of HTTP
// from the server's side, nor of the stream's and the state's engines.
//
// An event is sent at least once. Its id, SEQ-INDEX, never changes: by it the other
// side recognises what comes twice.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// Item is one event on its way out.
type Item struct {
	Record event.Record
	// ID is the event's own, the same each time that it is sent.
	ID string
	// Line is the event in the sink's format: JSON without a line's end.
	Line []byte
}

// idOf returns the id of an event, as the API shows it.
func idOf(r *event.Record) string {
	b := strconv.AppendUint(make([]byte, 0, 24), r.Seq, 10)
	b = append(b, '-')
	return string(strconv.AppendUint(b, uint64(r.Index), 10))
}

// Sender speaks to one system. One call of Send is under way at a time.
type Sender interface {
	// Send delivers items, oldest first, and returns when the other side has them.
	// What it refuses for good is in the answer. After an error nobody knows, and all
	// are sent again; if the error is a [RefusedError], the other side refuses the items
	// together for good, and they are sent in smaller parts, to find the one.
	Send(ctx context.Context, items []Item) ([]Refusal, error)
	Close() error
}

// Refusal is an item that the other side will never take.
type Refusal struct {
	Index  int // among the items
	Reason string
}

// RefusedError says that the other side refuses what it was sent for good: sending it
// again is of no use.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (r *RefusedError) Error() string { return "refused: " + r.Reason }

// LaterError is an error of who said when to come again.
type LaterError struct {
	After time.Duration
	Err   error
}

// Error returns the cause.
func (l *LaterError) Error() string { return l.Err.Error() }

// Unwrap returns the cause.
func (l *LaterError) Unwrap() error { return l.Err }

// maxReason bounds what the other side says that is shown and kept.
const maxReason = 300

func refusedf(format string, args ...any) error {
	return &RefusedError{cut(fmt.Sprintf(format, args...))}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// cut returns a valid text of not much more than maxReason bytes.
func cut(s string) string {
	return event.ValidText(s[:min(len(s), maxReason)])
}

// State is what is kept of a sink, whatever becomes of the server.
type State struct {
	Name string
	// Seq is the stream's message up to which everything was sent.
	Seq uint64
	// Sent counts events that were delivered, Lost the stream's messages that were
	// removed before they were sent.
	Sent, Lost int64
	PausedAt   time.Time // zero if it runs
	PausedBy   string
	Replay     *Replay // nil for none
}

// Replay sends events once more that the search has.
type Replay struct {
	From, Until time.Time // by the events' time; Until is exclusive
	// Seq is the last message of the stream that it sends of: what is newer goes the
	// usual way.
	Seq  uint64
	Done time.Time // up to there it was sent
	Sent int64
	By   string
}

// Stream is what events are read from.
type Stream interface {
	// Read calls handle with every message of events after a sequence, in order, until
	// ctx ends, which is no error, or handle returns an error, which Read returns.
	Read(ctx context.Context, after uint64, handle func(ctx context.Context, seq uint64, records [][]byte) error) error
	// Last returns the sequence of the newest message of events.
	Last(ctx context.Context) (uint64, error)
	// Backlog tells what events there are after a sequence.
	Backlog(ctx context.Context, after uint64) (Backlog, error)
}

// Backlog is what was not sent yet.
type Backlog struct {
	Messages uint64    // of the stream, each some events
	Bytes    uint64    // about, in the stream
	Oldest   time.Time // when the oldest was received; zero without one
}

// Store keeps states.
type Store interface {
	Sinks(ctx context.Context) ([]State, error)
	// SaveSinks keeps states, in one transaction.
	SaveSinks(ctx context.Context, states []State) error
	DeleteSink(ctx context.Context, name string) error
}

// Search finds events that the stream has no more.
type Search interface {
	Search(ctx context.Context, f event.Filter) (event.Page, error)
}

// Nodes knows what nodes are.
type Nodes interface {
	// Lookup returns a node by its id; nil without one.
	Lookup(id string) *node.Identity
}

// Options of a Manager. All are required, but for MaxDead and Version.
type Options struct {
	Stream Stream
	Store  Store
	Search Search
	Nodes  Nodes
	// Plans returns the sinks that are to run now, by name.
	Plans   func() []*resource.SinkPlan
	Secrets *credential.Reader
	Egress  *egress.Guard
	// Dir is where dead letters are, FileDir where the files of file sinks are.
	Dir, FileDir string
	// Stdout is where sinks of stdout write.
	Stdout  Writer
	MaxDead int64  // bytes of dead letters of one sink; 64 MiB if 0
	Version string // of Muster, for the user agent
	Log     *slog.Logger
	Now     func() time.Time
}
