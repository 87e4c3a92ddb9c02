package change

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// ServedLog keeps what each node was served, for whoever owns the host to read.
// Safe for concurrent use.
type ServedLog struct {
	store ServedStore
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	pending map[string][]Served // by node, in order
}

// NewServedLog returns a log on a store.
func NewServedLog(store ServedStore, log *slog.Logger, now func() time.Time) *ServedLog {
	return &ServedLog{store: store, log: log, now: now, pending: map[string][]Served{}}
}

// Note notes that a node is served a config that is another than before, or the
// first since the server started. It is kept within seconds: a crash may lose
// the last of them, never what is kept of why, which is in the audit log.
func (l *ServedLog) Note(n *node.Identity, c *resource.Config) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[n.ID] = append(l.pending[n.ID], Served{NodeID: n.ID, Revision: c.Revision, Hash: c.Hash, First: now, Last: now})
}

// keepServedEvery is how long a crash loses.
const keepServedEvery = 5 * time.Second

// Run keeps what was noted until ctx ends, then the rest.
func (l *ServedLog) Run(ctx context.Context) error {
	t := time.NewTicker(keepServedEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.flush(context.WithoutCancel(ctx))
		case <-t.C:
		}
		if err := l.flush(ctx); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "what nodes were served was not kept; trying again", "error", err)
		}
	}
}

func (l *ServedLog) flush(ctx context.Context) error {
	l.mu.Lock()
	pending := l.pending
	l.pending = map[string][]Served{}
	l.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	var served []Served
	for _, s := range pending {
		served = append(served, s...)
	}
	err := l.store.SaveServed(ctx, served)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id, s := range pending {
			l.pending[id] = append(s, l.pending[id]...)
		}
	}
	return err
}
