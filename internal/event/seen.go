package event

import (
	"context"
	"slices"
	"sync"

	"github.com/musterhq/muster/internal/osquery"
)

// Seen recognises lines that an agent sends again. An agent whose request
// failed, or whose answer was lost, sends the same lines again, together with
// newer ones; it sends nothing else before they are acknowledged. So the lines
// of each node's last stored request are all there is to remember. Safe for
// concurrent use.
type Seen struct {
	mu    sync.Mutex
	nodes map[seenKey]*seenNode
}

type seenKey struct{ node, logType string }

// seenNode is held by the one request of a node that is being stored.
type seenNode struct {
	busy  chan struct{} // capacity 1: a lock that a context can leave
	lines []uint64      // of the last stored request, by Event.Line
}

// NewSeen returns an empty memory.
func NewSeen() *Seen { return &Seen{nodes: map[seenKey]*seenNode{}} }

// Begin waits until no other request of this node and log type is being
// stored and returns its guard. An agent's HTTP client sends a request again
// at once when the connection breaks, so that both may be here; the second
// must not be acknowledged before the first is stored.
func (s *Seen) Begin(ctx context.Context, nodeID, logType string) (*Guard, error) {
	if logType != osquery.LogTypeStatus {
		logType = osquery.LogTypeResult
	}
	s.mu.Lock()
	n := s.nodes[seenKey{nodeID, logType}]
	if n == nil {
		n = &seenNode{busy: make(chan struct{}, 1)}
		s.nodes[seenKey{nodeID, logType}] = n
	}
	s.mu.Unlock()
	select {
	case n.busy <- struct{}{}:
		return &Guard{n}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Guard is the right to store one node's lines. End it.
type Guard struct{ n *seenNode }

// Fresh returns the events whose line was not in the node's last stored
// request, in events' own array, and how many lines were. Equal lines are
// repeated only as often as they were stored, as an agent may log the same
// twice.
func (g *Guard) Fresh(events []Event) (fresh []Event, repeated int) {
	if len(g.n.lines) == 0 {
		return events, 0
	}
	stored := make(map[uint64]int, len(g.n.lines))
	for _, l := range g.n.lines {
		stored[l]++
	}
	fresh = events[:0]
	again := false
	for _, e := range events {
		if !e.Continues {
			again = stored[e.Line] > 0
			if again {
				stored[e.Line]--
				repeated++
			}
		}
		if !again {
			fresh = append(fresh, e)
		}
	}
	return fresh, repeated
}

// maxLines bounds what is remembered of one node: far more than a request of an
// agent holds, and reached only by one that repeats a line in every request.
const maxLines = 64 << 10

// Stored remembers the lines of events that are on disk now. With joins they
// add to those before, see Batch.Joins.
func (g *Guard) Stored(events []Event, joins bool) {
	if !joins {
		g.n.lines = nil // not reused: most requests are small, few are large
	}
	for _, e := range events {
		if !e.Continues {
			g.n.lines = append(g.n.lines, e.Line)
		}
	}
	if over := len(g.n.lines) - maxLines; over > 0 {
		g.n.lines = slices.Clone(g.n.lines[over:])
	}
}

// End lets the node's next request go on.
func (g *Guard) End() { <-g.n.busy }

// Forget drops what is known of a node that is gone.
func (s *Seen) Forget(nodeID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, seenKey{nodeID, osquery.LogTypeResult})
	delete(s.nodes, seenKey{nodeID, osquery.LogTypeStatus})
}

// Replay remembers the lines of a batch that the stream holds already, as the
// server starts.
func (s *Seen) Replay(b *Batch) {
	g, err := s.Begin(context.Background(), b.NodeID, b.LogType)
	if err != nil {
		return // cannot be: the context does not end
	}
	defer g.End()
	g.Stored(b.Events, b.Joins)
}
