package alert

import (
	"context"
	"time"
)

// Step has a notifier's worker look into the outbox once.
func (c *Courier) Step(ctx context.Context, name string) (next time.Time, err error) {
	c.mu.Lock()
	w := c.workers[name]
	if w == nil {
		w = newWorker(ctx, c, name)
		c.workers[name] = w
	}
	c.mu.Unlock()
	return w.step(ctx)
}

// Look is one look for notifiers that came and went.
func (c *Courier) Look(ctx context.Context) { c.abandon(ctx) }

// The limits that tests are about.
const (
	MaxKey    = maxKey
	MaxTitle  = maxTitle
	MaxItems  = maxItems
	MaxTried  = maxRefused
	FailAfter = failsAfter
)

// Wild is the matching of patterns.
func Wild(pattern, s string) bool { return wild(pattern, s) }
