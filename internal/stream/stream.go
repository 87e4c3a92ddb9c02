// Package stream is the durable buffer between agents and everything that
// reads what they sent: an embedded NATS JetStream, in process, without a
// listener. Append returns when the record is on disk (fsync), and only then
// may an agent be told so. Readers have positions of their own; one that
// stands still never stops another or the agents.
//
// JetStream syncs once per message and does not group commits, so records are
// gathered here for a moment into one message (measured in
// docs/decisions/0004). The stream never drops what was not read: when it is
// full, Append refuses.
package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
)

// Subject is a kind of record. Each has its own batches and readers.
type Subject string

// The subjects.
const (
	Events  Subject = "muster.events"  // event.Batch, from the log endpoint
	Answers Subject = "muster.answers" // live.Answer, from distributed/write
)

const streamName = "MUSTER"

// Limits.
const (
	// MaxRecord bounds one record. JetStream holds a message in memory several
	// times over while it passes.
	MaxRecord = 16 << 20
	// maxPayload leaves room for a full batch with one record of MaxRecord more.
	maxPayload = MaxRecord + 1<<20
	// batchBytes closes a batch.
	batchBytes = 256 << 10
	// gather is how long a batch waits for company. It is the price in latency
	// of one fsync for many requests.
	gather = 3 * time.Millisecond
	// reserve is the free space below which records are refused. JetStream
	// switches itself off when a write fails for lack of space, so that must
	// never happen; SQLite and segments need room, too.
	reserve = 128 << 20
	// DefaultMaxBytes bounds the stream on disk.
	DefaultMaxBytes = 8 << 30
	startTimeout    = 30 * time.Second
	publishTimeout  = 2 * time.Minute // after it nobody knows whether a message is kept
)

// Options of a Stream. Dir and Log are required.
type Options struct {
	Dir      string
	MaxBytes int64 // DefaultMaxBytes if 0
	Log      *slog.Logger
	// Free returns the bytes free where Dir is; the file system's if nil.
	Free func() (uint64, error)
}

// Stream is the open stream. Safe for concurrent use.
type Stream struct {
	log      *slog.Logger
	server   *server.Server
	conn     *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream
	batchers map[Subject]*batcher
	last     map[Subject]*atomic.Uint64
	news     map[Subject]*news
	free     func() (uint64, error)
	maxBytes int64
}

// Open starts the embedded server and its stream, creating both in Dir when
// they are not there.
func Open(ctx context.Context, o Options) (_ *Stream, err error) {
	s := &Stream{log: o.Log, free: o.Free}
	if s.free == nil {
		s.free = func() (uint64, error) { return durable.Free(o.Dir) }
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	s.maxBytes = o.MaxBytes
	s.server, err = newServer(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.shutDown()
		}
	}()
	s.conn, err = nats.Connect("", nats.InProcessServer(s.server), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			o.Log.DebugContext(context.WithoutCancel(ctx), "embedded NATS", "subject", subject, "error", err) // a reader that is slow; see pullSpare
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to embedded NATS: %w", err)
	}
	s.js, err = jetstream.New(s.conn)
	if err != nil {
		return nil, err
	}
	s.stream, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{"muster.>"}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: o.MaxBytes,
		AllowDirect: true,        // Follow gets messages as they are, not in JSON
		Duplicates:  time.Second, // not used: agents' repeats are recognised by content
	})
	if err != nil {
		return nil, fmt.Errorf("open stream in %s: %w", o.Dir, err)
	}
	s.batchers, s.last, s.news = map[Subject]*batcher{}, map[Subject]*atomic.Uint64{}, map[Subject]*news{}
	for _, subject := range []Subject{Events, Answers} {
		b := newBatcher(func(message []byte) error { return s.publish(subject, message) })
		s.batchers[subject], s.last[subject], s.news[subject] = b, new(atomic.Uint64), newNews()
		go b.run()
	}
	return s, nil
}

// newServer starts the embedded server. It has one stream, whose own MaxBytes is
// the bound. A bound of the server's as well would keep a stream from being
// restored, or opened to be made smaller, that has room for more than it.
func newServer(o Options) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "muster", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true,
		JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: 1 << 62,
		MaxPayload: maxPayload, MaxPending: 4 * maxPayload,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s.SetLoggerV2(natsLog{o.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("embedded NATS did not start within %s; is %s on a working disk", startTimeout, o.Dir)
	}
	return s, nil
}

// Append keeps a record and returns when it is on disk. The error is Busy when
// the stream or the disk is full, TooLarge for a record over MaxRecord; after
// any error the record is not there, unless the disk took longer than
// publishTimeout. The end of ctx ends the wait for a place in a message, not
// that for the message.
func (s *Stream) Append(ctx context.Context, subject Subject, record []byte) error {
	if len(record) > MaxRecord {
		return errs.New(errs.TooLarge, "a record of %d bytes is over the limit of %d", len(record), MaxRecord)
	}
	return s.batchers[subject].append(ctx, record)
}

func (s *Stream) publish(subject Subject, message []byte) error {
	if free, err := s.free(); err != nil {
		return errs.Wrap(errs.Busy, err, "cannot tell how much disk is free")
	} else if free < reserve {
		return errs.New(errs.Busy, "the server's disk is full")
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: string(subject), Data: message})
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == 503 {
		return errs.Wrap(errs.Busy, err, "the server's stream is full")
	}
	if err != nil {
		return err
	}
	s.last[subject].Store(ack.Sequence)
	s.news[subject].tell()
	return nil
}

// Last returns the sequence of the newest message of a subject; 0 when there
// never was one, or it was trimmed.
func (s *Stream) Last(ctx context.Context, subject Subject) (uint64, error) {
	if seq := s.last[subject].Load(); seq > 0 {
		return seq, nil
	}
	m, err := s.stream.GetLastMsgForSubject(ctx, string(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

// Appended returns the sequence of the newest message of a subject that this
// process appended; 0 without one.
func (s *Stream) Appended(subject Subject) uint64 { return s.last[subject].Load() }

// Bytes returns what the stream takes on disk.
func (s *Stream) Bytes(ctx context.Context) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Bytes, nil
}

// MaxBytes returns what the stream may take on disk.
func (s *Stream) MaxBytes() int64 { return s.maxBytes }

// Trim removes messages up to and with the given sequence. Only trim what
// every reader that matters has finished with.
func (s *Stream) Trim(ctx context.Context, upTo uint64) error {
	if upTo == 0 {
		return nil
	}
	return s.stream.Purge(ctx, jetstream.WithPurgeSequence(upTo+1))
}

// Close lets records under way be kept, then stops the server. Readers must
// have ended.
func (s *Stream) Close() error {
	for _, b := range s.batchers {
		b.close()
	}
	s.shutDown()
	return nil
}

func (s *Stream) shutDown() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// split calls use with each record of a message.
func split(message []byte, use func(record []byte) error) error {
	for len(message) > 0 {
		n, w := binary.Uvarint(message)
		if w <= 0 || n > uint64(len(message)-w) { //nolint:gosec // w is at most len(message)
			return errors.New("stream: message is corrupt")
		}
		if err := use(message[w : w+int(n)]); err != nil { //nolint:gosec // at most len(message)
			return err
		}
		message = message[w+int(n):] //nolint:gosec // at most len(message)
	}
	return nil
}
