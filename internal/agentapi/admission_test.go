package agentapi

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// TestGate: so many are at work, so many wait and get their turn, others are
// refused at once, and nobody waits longer than an agent does.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 1)
		for range 2 {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		waited := make(chan error, 2)
		for range 2 {
			go func() { waited <- g.enter(t.Context()) }()
		}
		synctest.Wait()
		if err := g.enter(t.Context()); !errs.Is(err, errs.Busy) {
			t.Errorf("a fifth: %v", err)
		}
		g.leave()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		started := time.Now()
		if err := <-waited; !errs.Is(err, errs.Busy) || time.Since(started) != queueWait {
			t.Errorf("nobody left: %v after %s", err, time.Since(started))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.enter(gone); err == nil {
			t.Error("a client that went away was let in")
		}
		g.leave()
		g.leave()
		if n := g.waiting.Load(); n != 0 || len(g.places) != 0 {
			t.Errorf("%d wait, %d are at work", n, len(g.places))
		}
	})
}
