package vault

import (
	"slices"
	"sync"
	"time"
)

// cache remembers what Vault said of a token, for seconds.
type cache struct {
	key  func(token string) tokenKey
	keep time.Duration
	now  func() time.Time

	mu      sync.Mutex
	entries map[tokenKey]entry
}

type entry struct {
	id    Identity
	err   error
	until time.Time
}

func newCache(keep time.Duration, now func() time.Time) *cache {
	return &cache{key: newTokenKeyer(), keep: keep, now: now, entries: map[tokenKey]entry{}}
}

// get returns what is remembered, which may be an error, and whether anything is.
func (c *cache) get(key tokenKey) (id Identity, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || !c.now().Before(e.until) {
		return Identity{}, false, nil
	}
	e.id.Policies = slices.Clone(e.id.Policies) // the caller's own
	return e.id, true, e.err
}

func (c *cache) put(key tokenKey, id Identity, err error) {
	keep := c.keep
	if err != nil {
		keep = min(keep, failedCache)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCached {
		c.prune()
	}
	c.entries[key] = entry{id, err, c.now().Add(keep)}
}

// prune makes room: what is over, and if that is nothing then everything,
// which costs no more than asking again.
func (c *cache) prune() {
	now := c.now()
	for k, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, k)
		}
	}
	if len(c.entries) >= maxCached {
		clear(c.entries)
	}
}
