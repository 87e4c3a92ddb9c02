package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message is one message of the stream, or a group of them: records, oldest first. The
// records may be kept, and must not be changed: each message has memory of its own,
// and one record that is kept holds all of it.
type Message struct {
	Seq     uint64
	Records [][]byte
}

// Read calls handle with every message of a subject from the given sequence
// on (0: the oldest), in order and each once, until ctx ends, which is no
// error, or handle returns an error, which Read returns. The reader keeps its
// position itself.
func (s *Stream) Read(ctx context.Context, subject Subject, from uint64, handle func(context.Context, Message) error) error {
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{string(subject)},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
	if from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	consumer, err := s.js.OrderedConsumer(ctx, streamName, cfg)
	if err != nil {
		return s.ended(ctx, fmt.Errorf("read %s: %w", subject, err))
	}
	return s.ended(ctx, s.each(ctx, consumer, func(m jetstream.Msg, seq uint64) error {
		return deliver(ctx, m, seq, handle)
	}))
}

// retryDelay is the pause after a failure.
const retryDelay = time.Second

// Grouping of a durable reader's messages.
const (
	// MaxGroup is the most messages that a reader may ask for at once. As many
	// are out unacknowledged.
	MaxGroup = pullMessages
	// groupBytes closes a group: what is handled as one is held in memory, and
	// the last waits for the first.
	groupBytes = 1 << 20
	// groupWait is how long a group waits for company. A commit takes longer.
	groupWait = 2 * time.Millisecond
)

// ReadDurable is Read with a position that the stream keeps under name: a
// message counts as read when handle returns nil, and comes again, after a
// pause, when it does not. After a crash messages may come again. Up to atOnce
// messages that wait are given to handle as one, with the sequence of the
// newest: for readers that commit, which costs the same for one as for many.
func (s *Stream) ReadDurable(ctx context.Context, name string, subject Subject, atOnce int, handle func(context.Context, Message) error) error {
	consumer, err := s.durable(ctx, name, subject, atOnce)
	if err != nil {
		return s.ended(ctx, fmt.Errorf("read %s as %s: %w", subject, name, err))
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages+pullSpare, pullBytes))
	if err != nil {
		return s.ended(ctx, fmt.Errorf("read %s as %s: %w", subject, name, err))
	}
	defer messages.Stop()
	g := &grouper{messages: messages, atOnce: atOnce}
	for {
		group, message, err := g.next(ctx)
		if err != nil {
			return s.ended(ctx, err)
		}
		for err = handle(ctx, message); err != nil; err = handle(ctx, message) {
			s.log.WarnContext(ctx, "a reader failed; the messages come again", "reader", name, "seq", message.Seq, "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(retryDelay):
			}
			for _, m := range group {
				_ = m.InProgress() // else it is only delivered again, see grouper
			}
		}
		for _, m := range group {
			if err := m.Ack(); err != nil {
				return s.ended(ctx, err)
			}
		}
		g.done = message.Seq
	}
}

// grouper puts together what is handled as one.
type grouper struct {
	messages jetstream.MessagesContext
	atOnce   int
	done     uint64 // what is delivered again up to there, because handling took longer than AckWait, is dropped
}

// next waits for a message, and a moment for others.
func (g *grouper) next(ctx context.Context) (group []jetstream.Msg, all Message, err error) {
	size := 0
	for len(group) < g.atOnce && size < groupBytes {
		wait := jetstream.NextContext(ctx)
		if len(group) > 0 {
			wait = jetstream.NextMaxWait(groupWait)
		}
		m, err := g.messages.Next(wait)
		if len(group) > 0 && errors.Is(err, nats.ErrTimeout) {
			break
		}
		if err != nil {
			return nil, all, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, all, err
		}
		if seq := meta.Sequence.Stream; seq > max(g.done, all.Seq) {
			group, size, all.Seq = append(group, m), size+len(m.Data()), seq
			err = all.add(m)
		} else if seq <= g.done {
			err = m.Ack()
		}
		if err != nil {
			return nil, all, err
		}
	}
	return group, all, nil
}

// durable returns the consumer that keeps a reader's position.
//
// A message that was delivered and not acknowledged when the server stopped
// comes again when AckWait is over, by the wall clock of its delivery: if the
// clock went back meanwhile, that is as much later. So a consumer that waits
// for an acknowledgement, which nobody can send any more, is made anew.
func (s *Stream) durable(ctx context.Context, name string, subject Subject, atOnce int) (jetstream.Consumer, error) {
	config := jetstream.ConsumerConfig{
		Durable: name, FilterSubject: string(subject), AckPolicy: jetstream.AckExplicitPolicy,
		MaxAckPending: atOnce,
		AckWait:       time.Minute,
	}
	consumer, err := s.stream.Consumer(ctx, name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return s.stream.CreateConsumer(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return nil, err
	}
	if info.NumAckPending == 0 {
		if info.Config.MaxAckPending == atOnce {
			return consumer, nil
		}
		config = info.Config // of a version that read otherwise
		config.MaxAckPending = atOnce
		return s.stream.UpdateConsumer(ctx, config)
	}
	if err := s.stream.DeleteConsumer(ctx, name); err != nil {
		return nil, err
	}
	// After a crash here the reader begins with the oldest message that is there.
	config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, info.AckFloor.Stream+1
	return s.stream.CreateConsumer(ctx, config)
}

// ReadPosition returns where a durable reader stands: it has done with all
// messages up to there.
func (s *Stream) ReadPosition(ctx context.Context, name string) (uint64, error) {
	consumer, err := s.stream.Consumer(ctx, name)
	if err != nil {
		return 0, err
	}
	all, err := s.stream.Info(ctx) // before the consumer's state, so never beyond it
	if err != nil {
		return 0, err
	}
	info, err := consumer.Info(ctx)
	if err != nil {
		return 0, err
	}
	if info.NumPending == 0 && info.NumAckPending == 0 {
		return all.State.LastSeq, nil
	}
	return info.AckFloor.Stream, nil
}

// pullBytes bounds what a reader holds in memory beyond the message at hand.
const (
	pullMessages = 64 // the client makes a channel as long as that
	// pullSpare is room in the channel of a durable reader for what is no message, as
	// heartbeats while it is slow. What finds no room is dropped, and a message would
	// be taken for one that was handled when it comes again; but at most MaxAckPending
	// are ever out. Of Read the client notices itself, and asks again.
	pullSpare = 192
	pullBytes = 2 * maxPayload
)

func (s *Stream) each(ctx context.Context, c jetstream.Consumer, use func(jetstream.Msg, uint64) error) error {
	messages, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := use(m, meta.Sequence.Stream); err != nil {
			return err
		}
	}
}

func deliver(ctx context.Context, m jetstream.Msg, seq uint64, handle func(context.Context, Message) error) error {
	message := Message{Seq: seq}
	if err := message.add(m); err != nil {
		return err
	}
	return handle(ctx, message)
}

func (m *Message) add(from jetstream.Msg) error { return m.split(from.Data()) }

func (m *Message) split(data []byte) error {
	err := split(data, func(record []byte) error {
		m.Records = append(m.Records, record)
		return nil
	})
	if err != nil {
		return fmt.Errorf("message %d: %w", m.Seq, err)
	}
	return nil
}

func (s *Stream) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, jetstream.ErrMsgIteratorClosed) {
		return nil //nolint:nilerr // the reader was ended, whatever it met then
	}
	return err
}
