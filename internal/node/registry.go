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
	"unique"
)

// Identity is what the hot path knows of a node. It never changes: a change of
// the node makes a new one.
type Identity struct {
	ID             string
	HostIdentifier string
	Hostname       string
	Platform       string
	OS             string
	OsqueryVersion string
	Secret         string // name of the enroll secret that it used last
	Tags           []string
	TagSources     []TagSource // what gives it its tags, sorted
	Details        Details
	Certificate    string // fingerprint of the one it enrolled with; "" without
	Quarantined    bool

	presence *presence
	memo     atomic.Pointer[memo]
	judged   atomic.Int64 // of the Retagger alone
}

// memo is what somebody derived from an Identity.
type memo struct{ key, value any }

// Memo returns what SetMemo kept under that very key, or nil. There is room for
// one: it is for what every request of the node needs, and costs one look.
func (i *Identity) Memo(key any) any {
	if m := i.memo.Load(); m != nil && m.key == key {
		return m.value
	}
	return nil
}

// SetMemo keeps a value that was derived from the Identity, which never changes,
// and from key, which must be comparable and never change either.
func (i *Identity) SetMemo(key, value any) { i.memo.Store(&memo{key, value}) }

// IdentityOf returns a node as selectors see it, with its details, for one that
// the registry does not know yet.
func IdentityOf(n Node) *Identity {
	i := identityOf(n, PackDetails(n.Details))
	i.presence = newPresence(n)
	return i
}

func identityOf(n Node, d Details) *Identity {
	return &Identity{
		ID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, Platform: n.Platform, OS: n.OS,
		OsqueryVersion: n.OsqueryVersion, Secret: n.Secret, Tags: n.Tags, TagSources: n.TagSources, Details: d,
		Certificate: n.Certificate, Quarantined: n.Quarantined(),
	}
}

// compact makes one copy in memory of the words that many nodes have.
func (i *Identity) compact() {
	for _, word := range []*string{&i.Platform, &i.OS, &i.OsqueryVersion, &i.Secret} {
		*word = unique.Make(*word).Value()
	}
	tags, sources := make([]string, len(i.Tags)), make([]TagSource, len(i.TagSources))
	for n, tag := range i.Tags {
		tags[n] = unique.Make(tag).Value()
	}
	for n, s := range i.TagSources {
		sources[n] = unique.Make(s).Value()
	}
	i.Tags, i.TagSources = tags, sources
}

// LastSeen returns when the node's last request arrived; zero if none did.
func (i *Identity) LastSeen() time.Time { return i.presence.lastSeen() }

// Serve notes the revision whose config the node is being served.
func (i *Identity) Serve(revision int64) { i.presence.revision.Store(revision) }

// Revision returns what Serve noted last, 0 before the node's first request for
// a config since the server started.
func (i *Identity) Revision() int64 { return i.presence.revision.Load() }

// Given returns the tags that other sources than rules give it.
func (i *Identity) Given() []string {
	if len(i.TagSources) == 0 {
		return i.Tags
	}
	return TagsOf(given(i.TagSources))
}

// WithTags returns the node as it would be with other tags, for what follows
// from them. It is nobody's: requests of the node do not reach it.
func (i *Identity) WithTags(tags []string) *Identity {
	return &Identity{
		ID: i.ID, HostIdentifier: i.HostIdentifier, Hostname: i.Hostname, Platform: i.Platform, OS: i.OS,
		OsqueryVersion: i.OsqueryVersion, Secret: i.Secret, Tags: tags, Details: i.Details,
		Certificate: i.Certificate, Quarantined: i.Quarantined, presence: i.presence,
	}
}

// Online reports whether the node was heard from lately; see Node.Patience.
func (i *Identity) Online(now time.Time) bool {
	return online(i.presence.lastSeen(), now, i.presence.patience())
}

// Touch notes that a request arrived. It costs a few atomic writes; the store
// learns of it later, together with others.
func (i *Identity) Touch(now time.Time, from netip.Addr, at Endpoint) {
	i.presence.touch(now, from, at)
}

// Decorate notes what the node's decorators said, a JSON object. What was said
// before costs a hash.
func (i *Identity) Decorate(decorations []byte) { i.presence.decorate(decorations) }

// Clash notes that another machine uses the node's key, and how that is known.
func (i *Identity) Clash(reason string) { i.presence.clash(reason) }

// Change is a node as the store tells of it after a change: its keys, or that
// it is gone.
type Change struct {
	Node Node // without Details
	// Details returns what the agent said when it enrolled. It is called only if
	// the node is not known as it is; nil is nothing.
	Details  func() Details
	Key      KeyHash
	OldKey   KeyHash   // the key before, if OldUntil is not zero
	OldUntil time.Time // when OldKey stops working
	Gone     bool      // deleted
}

// Touch is one node's presence, to be kept.
type Touch struct {
	ID       string
	Seen     time.Time
	At       Seen
	Patience time.Duration
	Address  string // "" to leave it
	// Moved is the address that it had before, if Address is another than what
	// was kept last; it becomes history.
	Moved string
	// Attributes replace what was kept; nil leaves it.
	Attributes map[string]string
	// Clash is why another machine seems to use its key; "" is nothing new.
	Clash string
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
	changes int64 // grows when a node is another Identity than before
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
	now := r.now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.byID {
		if e.identity.Online(now) {
			online++
		}
	}
	return len(r.byID), online
}

// Select returns the nodes that a selector means, in no order, and the names
// in it that mean no node. Nodes under quarantine are asked nothing: they are
// left out, but named they are known. The error is about selector.where.
func (r *Registry) Select(s Selector) (nodes []*Identity, unknown []string, err error) {
	where, err := s.where()
	if err != nil {
		return nil, nil, err
	}
	named := map[string]bool{}
	for _, n := range s.Nodes {
		named[n] = false
	}
	for _, i := range r.nodes() { // agents are not to wait while it looks
		hit := s.All || slices.ContainsFunc(s.Tags, func(t string) bool { return slices.Contains(i.Tags, t) }) || where.Match(i)
		for _, name := range []string{i.ID, i.HostIdentifier, i.Hostname} {
			if _, ok := named[name]; ok {
				named[name], hit = true, true
			}
		}
		if hit && !i.Quarantined {
			nodes = append(nodes, i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !named[name] {
			unknown = append(unknown, name)
		}
	}
	return nodes, unknown, nil
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
		// What was forgotten meanwhile must not come back with its key; one that is
		// revoked comes back without.
		if !forgotten[c.Node.ID] || c.Key == (KeyHash{}) {
			r.apply(c)
		}
	}
	r.version = version
	return nil
}

func (r *Registry) apply(c Change) {
	old := r.byID[c.Node.ID]
	if old != nil {
		if c.Node.Version <= old.version && !c.Gone {
			return // an enrolment here, or a later one that Sync did not read yet
		}
		delete(r.byKey, old.key)
		delete(r.byKey, old.oldKey)
	}
	if c.Gone {
		delete(r.byID, c.Node.ID)
		return
	}
	var details Details
	if c.Details != nil {
		details = c.Details()
	}
	i := identityOf(c.Node, details)
	i.compact()
	r.changes++
	if old != nil {
		i.presence = old.identity.presence
	} else {
		i.presence = newPresence(c.Node)
	}
	e := &entry{identity: i, version: c.Node.Version, key: c.Key}
	if c.Key != (KeyHash{}) { // else it was revoked
		r.byKey[c.Key] = i
	}
	if c.OldUntil.After(r.now()) {
		e.oldKey, e.oldUntil = c.OldKey, c.OldUntil
		r.byKey[c.OldKey] = i
	}
	r.byID[i.ID] = e
}

// add makes a node known at once, without waiting for Sync.
func (r *Registry) add(n Node, details Details, key KeyHash, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Change{Node: n, Details: func() Details { return details }, Key: key}
	old := r.byID[n.ID]
	switch {
	case old == nil || old.key == key || old.key == (KeyHash{}): // no key to keep for a while
	case n.Version < old.version: // a later enrolment was faster; this key is the one before
		delete(r.byKey, old.oldKey)
		old.oldKey, old.oldUntil = key, now.Add(KeyGrace)
		r.byKey[key] = old.identity
	default:
		c.OldKey, c.OldUntil = old.key, now.Add(KeyGrace)
	}
	r.apply(c)
	from, _ := netip.ParseAddr(n.Address)
	r.byID[n.ID].identity.Touch(now, from, EndpointEnroll)
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

// clockSkew is how much later than here another server's clock may be.
const clockSkew = 5 * time.Minute

// expire drops keys whose grace has passed. It trusts the wall clock, as other
// servers and the next start know no other, and no jump of it does harm. A
// current key is never dropped by time. A jump forward ends a grace early: the
// thread of an agent that still used that key enrols once more. A jump back
// would make a grace last until the clock is there again, so one that is longer
// than any can be has passed too.
func (r *Registry) expire() {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.byID {
		if left := e.oldUntil.Sub(now); !e.oldUntil.IsZero() && (left <= 0 || left > KeyGrace+clockSkew) {
			if e.oldKey != e.key {
				delete(r.byKey, e.oldKey)
			}
			e.oldKey, e.oldUntil = KeyHash{}, time.Time{}
		}
	}
}

// Flush keeps the presence of all nodes touched since the last call. Call it
// from one goroutine.
func (r *Registry) Flush(ctx context.Context) error {
	now := r.now()
	var touches []Touch
	var dirty []*presence
	r.mu.RLock()
	for _, e := range r.byID {
		p := e.identity.presence
		if p.dirty.CompareAndSwap(true, false) {
			touches, dirty = append(touches, p.take(e.identity.ID, now)), append(dirty, p)
		}
	}
	r.mu.RUnlock()
	if len(touches) == 0 {
		return nil
	}
	err := r.store.TouchNodes(ctx, touches)
	for i, p := range dirty {
		if err != nil {
			p.giveBack(touches[i])
		} else {
			p.kept(touches[i], now)
		}
	}
	return err
}

// How often memory and database meet.
const (
	syncEvery  = time.Second     // a key revoked elsewhere is refused within it
	flushEvery = 5 * time.Second // filters by presence are that old
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

// All calls yield for each node that is known when it begins, in no order, until
// it returns false. Agents do not wait meanwhile.
func (r *Registry) All(yield func(*Identity) bool) {
	for _, n := range r.nodes() {
		if !yield(n) {
			return
		}
	}
}

// nodes returns all nodes, in no order.
func (r *Registry) nodes() []*Identity {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*Identity, 0, len(r.byID))
	for _, e := range r.byID {
		list = append(list, e.identity)
	}
	return list
}

// changed returns a number that grows with each change of a node.
func (r *Registry) changed() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changes
}
