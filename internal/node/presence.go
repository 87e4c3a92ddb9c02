package node

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// presence is what changes with a node's requests. It survives changes of the
// node, so that no touch is lost. The atomics are for the hot path; what it
// seldom needs is behind the lock.
type presence struct {
	seen  atomic.Int64 // unix microseconds
	at    [endpoints]atomic.Int64
	dirty atomic.Bool

	address  atomic.Pointer[netip.Addr]
	interval atomic.Int64 // microseconds between requests, as observed
	gap      atomic.Int64 // the last time between two requests
	said     atomic.Uint64
	revision atomic.Int64 // that it was served last, 0 if not known

	watch watch // of the Reaper alone

	mu         sync.Mutex
	keptAt     string // the address that the store has
	before     netip.Addr
	flips      int // how often the address went back to the one before, lately
	flipped    time.Time
	attributes map[string]string // to be kept; nil for nothing new
	described  time.Time         // when attributes were kept last
	clashed    string
}

func newPresence(n Node) *presence {
	p := &presence{keptAt: n.Address}
	if !n.LastSeen.IsZero() {
		p.seen.Store(n.LastSeen.UnixMicro())
	}
	for i, at := range n.Seen {
		if !at.IsZero() {
			p.at[i].Store(at.UnixMicro())
		}
	}
	if a, err := netip.ParseAddr(n.Address); err == nil {
		p.address.Store(&a)
	}
	p.interval.Store((n.Patience / missedPolls).Microseconds())
	return p
}

func (p *presence) lastSeen() time.Time { return micros(p.seen.Load()) }

func micros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// How patient the server is with a node's silence.
const (
	missedPolls = 3             // so many of its own intervals
	maxPatience = 6 * time.Hour // a node that sleeps is offline
)

// MaxAhead is how far ahead of the clock a time may be that the server noted: of
// one that is further ahead, which a clock that jumped left behind, nothing is
// known.
const MaxAhead = 5 * time.Minute

// online reports whether a node seen then is online now.
func online(seen, now time.Time, patience time.Duration) bool {
	silent := now.Sub(seen)
	return silent <= patience && silent >= -MaxAhead
}

// patience returns how long the node may be silent and still be online.
func (p *presence) patience() time.Duration {
	own := missedPolls * time.Duration(p.interval.Load()) * time.Microsecond
	return min(max(own, OfflineAfter), maxPatience)
}

func (p *presence) touch(now time.Time, from netip.Addr, at Endpoint) {
	us := now.UnixMicro()
	p.learn(us - p.seen.Swap(us))
	p.at[at].Store(us)
	if old := p.address.Load(); from.IsValid() && (old == nil || *old != from) {
		p.move(now, old, from)
	}
	if !p.dirty.Load() { // most often it is: no write to memory that cores share
		p.dirty.Store(true)
	}
}

// learn observes the node's interval: the longest gap between requests that
// came twice in a row, fading when gaps are shorter. A single long gap, as of a
// night or of an outage, is none of its habits.
func (p *presence) learn(gap int64) {
	const burst = 1_000_000 // requests within a second are one visit
	if gap < burst {
		return
	}
	twice := min(gap, p.gap.Swap(gap))
	if interval := p.interval.Load(); twice > interval {
		p.interval.Store(twice)
	} else {
		p.interval.Store(interval - (interval-twice)/8)
	}
}

// When one key is used at two addresses.
const (
	flipWindow = 10 * time.Minute // going back later is a machine that travels
	flipsClash = 4                // so often to and fro is two machines, or two ways out of one network
)

func (p *presence) move(now time.Time, old *netip.Addr, from netip.Addr) {
	p.address.Store(&from)
	if old == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.flipped) > flipWindow {
		p.flips = 0
	}
	if p.before == from {
		p.flips++
	}
	p.before, p.flipped = *old, now
	if p.flips == flipsClash {
		p.flips = 0
		p.clashed = fmt.Sprintf("one key is used from two addresses, %s and %s", old, from)
	}
}

// Limits of a node's attributes: a decorator is for a few words.
const (
	maxAttributes     = 32
	maxAttributeName  = 64
	maxAttributeValue = 256
	// describeEvery bounds what a decorator that always says something else,
	// as the time, costs the database.
	describeEvery = time.Minute
)

var seed = maphash.MakeSeed() //nolint:gochecknoglobals // of hashes that never leave the process

func (p *presence) decorate(decorations []byte) {
	hash := maphash.Bytes(seed, decorations)
	if p.said.Load() == hash || len(decorations) == 0 {
		return
	}
	p.said.Store(hash)
	var words map[string]any
	if json.Unmarshal(decorations, &words) != nil {
		return // no object: nothing is said
	}
	attributes := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(words)) {
		if value, ok := words[name].(string); ok && len(name) <= maxAttributeName && len(attributes) < maxAttributes {
			if len(value) > maxAttributeValue {
				value = strings.ToValidUTF8(value[:maxAttributeValue], "")
			}
			attributes[name] = value
		}
	}
	p.mu.Lock()
	p.attributes = attributes
	p.mu.Unlock()
	p.dirty.Store(true)
}

func (p *presence) clash(reason string) {
	p.mu.Lock()
	p.clashed = reason
	p.mu.Unlock()
	p.dirty.Store(true)
}

// take returns what the store is to keep.
func (p *presence) take(id string, now time.Time) Touch {
	t := Touch{ID: id, Seen: p.lastSeen(), Patience: p.patience()}
	for i := range t.At {
		t.At[i] = micros(p.at[i].Load())
	}
	if a := p.address.Load(); a != nil {
		t.Address = a.String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.Address != p.keptAt {
		t.Moved = p.keptAt
	}
	if now.Sub(p.described) >= describeEvery {
		t.Attributes, p.attributes = p.attributes, nil
	}
	t.Clash, p.clashed = p.clashed, ""
	return t
}

// kept notes that the store has it.
func (p *presence) kept(t Touch, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keptAt = t.Address
	if t.Attributes != nil {
		p.described = now
	}
	if p.attributes != nil {
		p.dirty.Store(true) // they wait for their minute
	}
}

// giveBack takes back what the store did not keep, unless there is newer.
func (p *presence) giveBack(t Touch) {
	p.mu.Lock()
	if p.attributes == nil {
		p.attributes = t.Attributes
	}
	if p.clashed == "" {
		p.clashed = t.Clash
	}
	p.mu.Unlock()
	p.dirty.Store(true)
}
