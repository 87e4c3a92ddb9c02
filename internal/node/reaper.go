package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Expirer removes nodes.
type Expirer interface {
	// ExpireNodes removes nodes as if each was deleted, and returns the ids of
	// those that were there, also with an error.
	ExpireNodes(ctx context.Context, ids []string) (gone []string, err error)
}

// Recorder keeps entries of the audit log; see audit.Log.
type Recorder interface {
	Record(ctx context.Context, actor, action, target string, detail any) error
}

// ReaperOptions say who is removed.
type ReaperOptions struct {
	// TTL is how long a node may be silent; 0 is for ever.
	TTL time.Duration
	// TagTTL goes before TTL for nodes with the tag; of several the shortest
	// counts.
	TagTTL   map[string]time.Duration
	Registry *Registry
	Store    Expirer
	Audit    Recorder
	Log      *slog.Logger
	Now      func() time.Time // the wall clock
}

// Reaper removes nodes that were silent for too long. A node that was never
// heard of, as one that was imported, is not silent: it stays.
//
// It never removes many because of the server. It measures silence itself, on a
// clock that knows no jumps and stands still while no node at all is online:
// then it is the server that does not hear. After a start, a jump of the wall
// clock, or when somebody is heard again, it first listens for settle.
type Reaper struct {
	ReaperOptions
	last    time.Duration // of the sweep before, since Run began
	wall    time.Time     // the same
	at      time.Duration // on the reaper's clock
	settled time.Duration // when listening began
	deaf    bool
}

// watch is what the Reaper notes of a node.
type watch struct {
	seen  int64         // of presence, when it was looked at last
	at    time.Duration // when that was, on the reaper's clock
	known bool          // whether it was looked at
	heard bool          // whether it was heard of since; else at is by the wall clock
}

// NewReaper returns a Reaper; Run makes it work.
func NewReaper(o ReaperOptions) *Reaper { return &Reaper{ReaperOptions: o} }

const (
	sweepEvery = 10 * time.Second
	// sweepMax bounds what one sweep removes and one audit entry names. Removing
	// thousands by a mistake takes minutes, in which somebody may see it.
	sweepMax = 100
	// settle is how long it takes until every node that lives was heard of, if
	// its TTL is not shorter.
	settle = time.Hour
	// jump is how far the wall clock may drift from the monotonic one between two
	// sweeps; more is a jump, of the clock or of a machine that slept.
	jump = 30 * time.Second
)

// Run sweeps until ctx ends. What fails is logged and tried again.
func (r *Reaper) Run(ctx context.Context) error {
	if r.TTL == 0 && len(r.TagTTL) == 0 {
		<-ctx.Done()
		return nil
	}
	start := time.Now()
	r.wall = r.now()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := r.sweep(ctx, time.Since(start)); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "silent nodes were not removed; retrying", "error", err)
		}
	}
}

// now returns the wall clock's time without the monotonic one that Go keeps
// beside it and would compare instead.
func (r *Reaper) now() time.Time { return r.Now().Round(0) }

// sweep removes those who are silent, at a time since Run began.
func (r *Reaper) sweep(ctx context.Context, elapsed time.Duration) error {
	step, wall := elapsed-r.last, r.now()
	by := wall.Sub(r.wall) - step
	r.last, r.wall = elapsed, wall
	if jumped := by.Abs() > jump; r.listen(step, jumped) {
		r.Log.InfoContext(ctx, "the clock jumped, or no node was online; none is removed for a while", "jump", by)
	}
	nodes := r.due()
	if len(nodes) == 0 {
		return nil
	}
	entry := sweepEntry{Nodes: make([]sweptNode, 0, len(nodes))}
	last := make(map[string]time.Time, len(nodes))
	for _, n := range nodes {
		last[n.ID] = n.LastSeen()
		entry.Nodes = append(entry.Nodes, sweptNode{n.ID, n.HostIdentifier, last[n.ID]})
	}
	if err := r.Audit.Record(ctx, "muster", "node.expire", fmt.Sprintf("%d nodes", len(nodes)), entry); err != nil {
		return err
	}
	ids := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if n.LastSeen().Equal(last[n.ID]) { // else it came back meanwhile
			ids = append(ids, n.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	gone, err := r.Store.ExpireNodes(ctx, ids)
	for _, id := range gone {
		r.Registry.Forget(id)
		r.Log.InfoContext(ctx, "removed a node that was silent for too long", "node_id", id, "last_seen", last[id])
	}
	return err
}

// sweepEntry is the detail of an audit entry.
type sweepEntry struct {
	Nodes []sweptNode `json:"nodes"`
}

type sweptNode struct {
	ID             string    `json:"id"`
	HostIdentifier string    `json:"host_identifier"`
	LastSeen       time.Time `json:"last_seen"`
}

// listen notes who was heard of in a step of time, and goes on with the clock if
// anybody is online. It reports whether listening began anew.
func (r *Reaper) listen(step time.Duration, jumped bool) (anew bool) {
	hears, now := false, r.at+step
	for i := range r.Registry.All {
		seen, w := i.presence.seen.Load(), &i.presence.watch
		switch {
		case !w.known:
			*w = watch{seen: seen, at: r.guess(seen, now), known: true}
		case seen != w.seen:
			*w = watch{seen: seen, at: now, known: true, heard: true}
		case jumped && !w.heard: // the clock was wrong before, or is now
			w.at = max(w.at, r.guess(seen, now))
		}
		hears = hears || seen != 0 && now-w.at <= i.presence.patience()
	}
	if hears {
		r.at = now
	}
	if anew = jumped || hears && r.deaf; anew {
		r.settled = r.at
	}
	r.deaf = !hears
	return anew
}

// guess returns when a node was seen last, by the wall clock: all that is known
// of it at first.
func (r *Reaper) guess(seen int64, now time.Duration) time.Duration {
	return now - max(0, r.wall.Sub(micros(seen)))
}

// due returns the nodes that are to go, at most sweepMax, the longest silent
// first. Silence is measured up to when anybody was heard of.
func (r *Reaper) due() (nodes []*Identity) {
	var newest time.Duration
	for i := range r.Registry.All {
		newest = max(newest, i.presence.watch.at)
	}
	for i := range r.Registry.All {
		w, ttl := i.presence.watch, r.ttl(i.Tags)
		if ttl > 0 && w.seen != 0 && r.at-r.settled >= min(ttl, settle) && newest-w.at > max(ttl, i.presence.patience()) {
			nodes = append(nodes, i)
		}
	}
	slices.SortFunc(nodes, func(a, b *Identity) int {
		return cmp.Or(cmp.Compare(a.presence.watch.at, b.presence.watch.at), strings.Compare(a.ID, b.ID))
	})
	return nodes[:min(len(nodes), sweepMax)]
}

// ttl returns how long a node with these tags may be silent; 0 is for ever.
func (r *Reaper) ttl(tags []string) time.Duration {
	shortest, tagged := r.TTL, false
	for _, tag := range tags {
		if ttl, ok := r.TagTTL[tag]; ok && (!tagged || ttl < shortest) {
			shortest, tagged = ttl, true
		}
	}
	return shortest
}
