package node

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is what the hot path knows of a node. It never changes: a change of
// the node makes a new one.
type Identity struct {
	ID             string
	HostIdentifier string
	Hostname       string
	Platform       string
	Tags           []string

	presence *presence
}

// presence is what changes with every request. It survives changes of the
// node, so that no touch is lost.
type presence struct {
	seen    atomic.Int64 // unix microseconds
	address atomic.Pointer[netip.Addr]
	dirty   atomic.Bool
}

// LastSeen returns when the node's last request arrived.
func (i *Identity) LastSeen() time.Time { return time.UnixMicro(i.presence.seen.Load()).UTC() }

// Touch notes that a request arrived. It costs two atomic writes; the store
// learns of it later, together with others.
func (i *Identity) Touch(now time.Time, from netip.Addr) {
	p := i.presence
	p.seen.Store(now.UnixMicro())
	if old := p.address.Load(); from.IsValid() && (old == nil || *old != from) {
		p.address.Store(&from)
	}
	p.dirty.Store(true)
}

// Change is a node as the store tells of it after a change: its keys, or that
// it is gone.
type Change struct {
	Node     Node // without Details
	Key      KeyHash
	OldKey   KeyHash   // the key before, if OldUntil is not zero
	OldUntil time.Time // when OldKey stops working
	Gone     bool      // deleted
}

// Touch is one node's presence, to be kept.
type Touch struct {
	ID      string
	Seen    time.Time
	Address string // "" to leave it
}

// RegistryStore is where the registry learns of nodes.
type RegistryStore interface {
	// NodesSince calls yield for each node that changed after version, and
	// returns the version up to which that is all. Version 0 is before
	// everything; then nodes that are gone may be left out.
	NodesSince(ctx context.Context, version int64, yield func(Change)) (int64, error)
	// TouchNodes keeps many touches at once. A node that is gone is no error.
	TouchNodes(ctx context.Context, touches []Touch) error
}

// Registry holds every node in memory, so that telling who calls costs no
// query and goes on when the database is gone. Safe for concurrent use.
type Registry struct {
	store RegistryStore
	keyer Keyer
	log   *slog.Logger
	now   func() time.Time

	mu      sync.RWMutex
	byKey   map[KeyHash]*Identity
	byID    map[string]*entry
	version int64
	// forgotten is not nil while Sync reads: nodes that it may still see and
	// that must not come back.
	forgotten map[string]bool
}

type entry struct {
	identity *Identity
	version  int64
	key      KeyHash
	oldKey   KeyHash
	oldUntil time.Time
}

// NewRegistry returns an empty registry; Sync fills it.
func NewRegistry(store RegistryStore, keyer Keyer, log *slog.Logger, now func() time.Time) *Registry {
	return &Registry{
		store: store, keyer: keyer, log: log, now: now,
		byKey: map[KeyHash]*Identity{}, byID: map[string]*entry{},
	}
}

// Authenticate returns the node that a key belongs to, or nil. It looks only
// at memory: a failing database never makes a known key unknown.
func (r *Registry) Authenticate(key string) *Identity {
	if key == "" {
		return nil
	}
	hash := r.keyer.Hash(PurposeNodeKey, key)
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byKey[hash]
}

// Lookup returns a node by its id, or nil.
func (r *Registry) Lookup(id string) *Identity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if e := r.byID[id]; e != nil {
		return e.identity
	}
	return nil
}

// Len returns how many nodes there are, and how many of them are online.
func (r *Registry) Len() (all, online int) {
	since := r.now().Add(-OfflineAfter).UnixMicro()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.byID {
		if e.identity.presence.seen.Load() >= since {
			online++
		}
	}
	return len(r.byID), online
}

// Select returns the nodes that a selector means, in no order, and the names
// in it that mean no node.
func (r *Registry) Select(s Selector) (nodes []*Identity, unknown []string) {
	named := map[string]bool{}
	for _, n := range s.Nodes {
		named[n] = false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.byID {
		i := e.identity
		hit := s.All || slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(i.Tags, t) })
		for _, name := range []string{i.ID, i.HostIdentifier, i.Hostname} {
			if _, ok := named[name]; ok {
				named[name], hit = true, true
			}
		}
		if hit {
			nodes = append(nodes, i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !named[name] {
			unknown = append(unknown, name)
		}
	}
	return nodes, unknown
}

// Sync learns of all changes since the last call. Call it from one goroutine.
func (r *Registry) Sync(ctx context.Context) error {
	r.mu.Lock()
	version := r.version
	r.forgotten = map[string]bool{}
	r.mu.Unlock()
	var changes []Change
	version, err := r.store.NodesSince(ctx, version, func(c Change) { changes = append(changes, c) })
	r.mu.Lock()
	defer r.mu.Unlock()
	forgotten := r.forgotten
	r.forgotten = nil
	if err != nil {
		return err
	}
	for _, c := range changes {
		if !forgotten[c.Node.ID] {
			r.apply(c)
		}
	}
	r.version = version
	return nil
}

func (r *Registry) apply(c Change) {
	old := r.byID[c.Node.ID]
	if old != nil {
		if c.Node.Version < old.version && !c.Gone {
			return // Sync read it before an enrolment that is known already
		}
		delete(r.byKey, old.key)
		delete(r.byKey, old.oldKey)
	}
	if c.Gone {
		delete(r.byID, c.Node.ID)
		return
	}
	i := &Identity{
		ID: c.Node.ID, HostIdentifier: c.Node.HostIdentifier, Hostname: c.Node.Hostname,
		Platform: c.Node.Platform, Tags: c.Node.Tags,
	}
	if old != nil {
		i.presence = old.identity.presence
	} else {
		i.presence = &presence{}
		i.presence.seen.Store(c.Node.LastSeen.UnixMicro())
	}
	e := &entry{identity: i, version: c.Node.Version, key: c.Key}
	r.byKey[c.Key] = i
	if c.OldUntil.After(r.now()) {
		e.oldKey, e.oldUntil = c.OldKey, c.OldUntil
		r.byKey[c.OldKey] = i
	}
	r.byID[i.ID] = e
}

// add makes a node known at once, without waiting for Sync.
func (r *Registry) add(n Node, key KeyHash, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Change{Node: n, Key: key}
	old := r.byID[n.ID]
	switch {
	case old == nil || old.key == key:
	case n.Version < old.version: // a later enrolment was faster; this key is the one before
		delete(r.byKey, old.oldKey)
		old.oldKey, old.oldUntil = key, now.Add(KeyGrace)
		r.byKey[key] = old.identity
	default:
		c.OldKey, c.OldUntil = old.key, now.Add(KeyGrace)
	}
	r.apply(c)
	r.byID[n.ID].identity.presence.seen.Store(now.UnixMicro())
}

// Forget makes a node's keys unknown at once, without waiting for Sync.
func (r *Registry) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apply(Change{Node: Node{ID: id}, Gone: true})
	if r.forgotten != nil {
		r.forgotten[id] = true
	}
}

// expire drops keys whose grace has passed.
func (r *Registry) expire() {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.byID {
		if !e.oldUntil.IsZero() && !now.Before(e.oldUntil) {
			if e.oldKey != e.key {
				delete(r.byKey, e.oldKey)
			}
			e.oldKey, e.oldUntil = KeyHash{}, time.Time{}
		}
	}
}

// Flush keeps the presence of all nodes touched since the last call.
func (r *Registry) Flush(ctx context.Context) error {
	var touches []Touch
	var dirty []*presence
	r.mu.RLock()
	for _, e := range r.byID {
		p := e.identity.presence
		if !p.dirty.CompareAndSwap(true, false) {
			continue
		}
		t := Touch{ID: e.identity.ID, Seen: e.identity.LastSeen()}
		if a := p.address.Load(); a != nil {
			t.Address = a.String()
		}
		touches, dirty = append(touches, t), append(dirty, p)
	}
	r.mu.RUnlock()
	if len(touches) == 0 {
		return nil
	}
	err := r.store.TouchNodes(ctx, touches)
	if err != nil {
		for _, p := range dirty {
			p.dirty.Store(true)
		}
	}
	return err
}

// How often memory and database meet.
const (
	syncEvery  = time.Second     // a key revoked elsewhere is refused within it
	flushEvery = 5 * time.Second // lists show presence that old
)

// Run keeps memory and database together until ctx ends, then keeps the last
// touches. A database that fails is logged and tried again; what is in memory
// goes on working.
func (r *Registry) Run(ctx context.Context) error {
	sync, flush := time.NewTicker(syncEvery), time.NewTicker(flushEvery)
	defer sync.Stop()
	defer flush.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return r.Flush(context.WithoutCancel(ctx))
		case <-sync.C:
			r.expire()
			err = r.Sync(ctx)
		case <-flush.C:
			err = r.Flush(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "nodes in memory and database are apart; retrying", "error", err)
		}
	}
}
