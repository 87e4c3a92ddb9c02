package stream

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// batcher gathers records into messages and publishes one at a time.
type batcher struct {
	publish func(message []byte) error
	records chan pending
	closed  chan struct{}
	done    chan struct{}
	once    sync.Once
}

type pending struct {
	record []byte
	result chan error // capacity 1
}

var errClosed = errs.New(errs.Busy, "the server is stopping")

func newBatcher(publish func([]byte) error) *batcher {
	return &batcher{
		publish: publish, records: make(chan pending),
		closed: make(chan struct{}), done: make(chan struct{}),
	}
}

func (b *batcher) append(ctx context.Context, record []byte) error {
	p := pending{record, make(chan error, 1)}
	select {
	case b.records <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closed:
		return errClosed
	}
	// From here on the record may be kept, so ctx says nothing any more: who sends
	// it again must know.
	return <-p.result
}

// close waits until all records that were taken are published.
func (b *batcher) close() {
	b.once.Do(func() { close(b.closed) })
	<-b.done
}

func (b *batcher) run() {
	defer close(b.done)
	var message []byte
	var waiting []chan error
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		select {
		case p := <-b.records:
			message, waiting = add(message[:0], p), append(waiting[:0], p.result)
		case <-b.closed:
			return
		}
		timer.Reset(gather)
		message, waiting = b.gather(message, waiting, timer.C)
		err := b.publish(message)
		for _, w := range waiting {
			w <- err
		}
		if cap(message) > 4*batchBytes {
			message = nil // one huge record must not stay in memory
		}
	}
}

// gather adds records until the batch is full or the time is over.
func (b *batcher) gather(message []byte, waiting []chan error, over <-chan time.Time) ([]byte, []chan error) {
	for len(message) < batchBytes {
		select {
		case p := <-b.records:
			if len(message)+len(p.record) > maxPayload-maxFrame {
				err := b.publish(message)
				for _, w := range waiting {
					w <- err
				}
				message, waiting = message[:0], waiting[:0]
			}
			message, waiting = add(message, p), append(waiting, p.result)
		case <-over:
			return message, waiting
		}
	}
	return message, waiting
}

// maxFrame bounds what framing adds to a batch.
const maxFrame = 64 << 10

func add(message []byte, p pending) []byte {
	message = binary.AppendUvarint(message, uint64(len(p.record)))
	message = append(message, p.record...)
	return message
}
