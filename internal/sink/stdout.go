package sink

import (
	"context"
	"io"
)

// Writer is where lines go.
type Writer = io.Writer

// stdoutSender writes lines to a pipe or terminal. Whoever reads it may stop: then a
// write does not end, and nobody but this sink waits for it.
type stdoutSender struct {
	w    io.Writer
	busy chan error // the result of a write that was given up waiting for; nil without
}

func newStdout(w io.Writer) *stdoutSender { return &stdoutSender{w: w} }

// Send implements Sender.
func (s *stdoutSender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	if s.busy != nil { // the lines of before may be out by half: they come first
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
	var b []byte
	for i := range items {
		b = append(append(b, items[i].Line...), '\n')
	}
	done := make(chan error, 1)
	s.busy = done
	go func() {
		_, err := s.w.Write(b)
		done <- err
	}()
	return nil, s.wait(ctx)
}

func (s *stdoutSender) wait(ctx context.Context) error {
	select {
	case err := <-s.busy:
		s.busy = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements Sender.
func (s *stdoutSender) Close() error { return nil }
