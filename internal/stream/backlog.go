package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog is what there is of a subject after a message.
type Backlog struct {
	Messages uint64
	Bytes    uint64    // about: as if all messages of the stream were of one size
	Oldest   time.Time // when the oldest was appended; zero without one
}

// Backlog tells what there is of a subject after a sequence. It costs some requests
// to the embedded server, unless there is nothing.
func (s *Stream) Backlog(ctx context.Context, subject Subject, after uint64) (b Backlog, err error) {
	if last := s.last[subject].Load(); last > 0 && after >= last {
		return b, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backlog of %s: %w", subject, err)
		}
	}()
	oldest, err := s.stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(string(subject)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	b.Oldest = oldest.Time
	// Only a consumer counts the messages of one subject from a sequence on.
	consumer, err := s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: string(subject), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, InactiveThreshold: backlogGone,
	})
	if err != nil {
		return b, err
	}
	info := consumer.CachedInfo() // of its making
	b.Messages = info.NumPending
	if err := s.stream.DeleteConsumer(ctx, info.Name); err != nil {
		return b, err
	}
	all, err := s.stream.Info(ctx)
	if err != nil || all.State.Msgs == 0 {
		return b, err
	}
	b.Bytes = b.Messages * (all.State.Bytes / all.State.Msgs)
	return b, nil
}

// backlogGone is when a consumer that was not deleted goes by itself.
const backlogGone = 10 * time.Second

// Extent is what the stream holds.
type Extent struct {
	First, Last uint64 // sequences of the oldest and the newest message
	Bytes, Max  uint64 // on disk, and at which it refuses more
}

// Extent returns what the stream holds, of all subjects.
func (s *Stream) Extent(ctx context.Context) (Extent, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return Extent{}, err
	}
	return Extent{First: info.State.FirstSeq, Last: info.State.LastSeq, Bytes: info.State.Bytes, Max: uint64(max(0, info.Config.MaxBytes))}, nil
}
