package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Follow is Read, after a sequence, for readers that may stand still for hours: it
// takes one message when the one before is done with, and holds nothing meanwhile.
// (What Read has in advance is dropped when nobody takes it, and asked for again.)
func (s *Stream) Follow(ctx context.Context, subject Subject, after uint64, handle func(context.Context, Message) error) error {
	for {
		m, err := s.next(ctx, subject, after)
		if err != nil {
			return s.ended(ctx, fmt.Errorf("follow %s: %w", subject, err))
		}
		if err := handle(ctx, m); err != nil {
			return s.ended(ctx, err)
		}
		after = m.Seq
	}
}

// next waits for the first message of a subject after a sequence.
func (s *Stream) next(ctx context.Context, subject Subject, after uint64) (m Message, err error) {
	for {
		news := s.news[subject].wait() // before the look, so that nothing is missed
		raw, err := s.stream.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(string(subject)))
		if err == nil {
			m.Seq = raw.Sequence
			return m, m.split(raw.Data)
		}
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return m, err
		}
		select {
		case <-news:
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}

// news tells those who wait that something was appended.
type news struct {
	mu sync.Mutex
	ch chan struct{}
}

func newNews() *news { return &news{ch: make(chan struct{})} }

// wait returns a channel that is closed at the next append.
func (n *news) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ch
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.ch)
	n.ch = make(chan struct{})
}
