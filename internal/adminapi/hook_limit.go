package adminapi

import (
	"net/netip"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
)

// Limits of the path that takes payloads from outside, a minute. Each trigger has
// limits of its own besides, of what it starts.
const (
	// hooksPerAddress is far above what one sender of events does, and lets nobody
	// try tokens or keep the database busy.
	hooksPerAddress = 600
	// hooksPerTrigger counts payloads with the right token, also those that start
	// nothing.
	hooksPerTrigger = 1200
	// maxHookKeys bounds how many addresses or triggers are told apart; others share
	// one count.
	maxHookKeys = 4096
)

func errHookBusy() error {
	return errs.New(errs.Busy, "too many payloads within a minute; try again later")
}

// hookLimits counts payloads.
type hookLimits struct {
	bodies    *httpx.Bodies
	addresses *minuteCounts[netip.Prefix]
	triggers  *minuteCounts[string]
}

func newHookLimits(now func() time.Time) hookLimits {
	return hookLimits{bodies: &httpx.Bodies{}, addresses: newMinuteCounts[netip.Prefix](now), triggers: newMinuteCounts[string](now)}
}

func (h hookLimits) address(a netip.Addr) bool { return h.addresses.allow(network(a), hooksPerAddress) }

// network is what counts as one address.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64 // who has one address there has all of these
	}
	p, _ := a.WithZone("").Prefix(bits) // of no address: the zero one, for all who have none
	return p
}

func (h hookLimits) trigger(name string) bool { return h.triggers.allow(name, hooksPerTrigger) }

// minuteCounts counts by key since the minute began. Safe for concurrent use.
type minuteCounts[K comparable] struct {
	now func() time.Time

	mu     sync.Mutex
	minute int64
	counts map[K]int
	others int
}

func newMinuteCounts[K comparable](now func() time.Time) *minuteCounts[K] {
	return &minuteCounts[K]{now: now, counts: map[K]int{}}
}

func (m *minuteCounts[K]) allow(key K, most int) bool {
	minute := m.now().Unix() / 60 //nolint:mnd // seconds
	m.mu.Lock()
	defer m.mu.Unlock()
	if minute != m.minute {
		m.minute, m.others = minute, 0
		clear(m.counts)
	}
	if _, ok := m.counts[key]; !ok && len(m.counts) >= maxHookKeys {
		m.others++
		return m.others <= most
	}
	m.counts[key]++
	return m.counts[key] <= most
}
