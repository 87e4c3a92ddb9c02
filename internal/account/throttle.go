package account

import (
	"net/netip"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// throttle slows guessing down. It counts what failed three ways: for an account
// from a network, for a network whatever the account, and for an account whatever
// the network. The last does not hold for networks from which its owner is logged
// in: who guesses from elsewhere must not lock the owner out. Safe for concurrent
// use; what it knows is in memory.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex
	tries map[tryKey]tries
}

type tryKey struct {
	account string // empty: any
	network netip.Prefix
}

type tries struct {
	failed int
	last   time.Time
}

// Bounds of guessing.
const (
	// freeTries are how many wrong tries cost nothing: people mistype.
	freeTries        = 5  // for an account from a network
	freeNetworkTries = 30 // from a network, as an office behind one address
	freeAccountTries = 20 // for an account, from networks that do not know it
	// longestWait bounds what a wrong try costs; the wait doubles up to it.
	longestWait = 15 * time.Minute
	// forgetAfter is when what failed is forgotten.
	forgetAfter = time.Hour
	// maxTries bounds memory. When it is full the oldest go: a wide attack has
	// spread its tries already.
	maxTries = 50_000
)

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, tries: map[tryKey]tries{}}
}

// networkOf is what one attacker commonly has: a /24 of IPv4, a /56 of IPv6. The
// zero prefix is an address that is not known.
func networkOf(address string) netip.Prefix {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	const v4, v6 = 24, 56
	bits := v6
	if addr = addr.Unmap(); addr.Is4() {
		bits = v4
	}
	p, _ := addr.WithZone("").Prefix(bits) // fails for more bits than there are
	return p
}

// keys are what a try counts for, with how many are free.
func keys(account string, network netip.Prefix) map[tryKey]int {
	return map[tryKey]int{{account, network}: freeTries, {"", network}: freeNetworkTries, {account, netip.Prefix{}}: freeAccountTries}
}

// wait returns how long a try must wait; 0 if it may be made now. known says that
// the account's owner is logged in from that network.
func (t *throttle) wait(account string, network netip.Prefix, known bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	longest := time.Duration(0)
	for k, free := range keys(account, network) {
		if known && k.network == (netip.Prefix{}) {
			continue
		}
		longest = max(longest, t.tries[k].wait(free, now))
	}
	return longest
}

func (t tries) wait(free int, now time.Time) time.Duration {
	if t.failed < free || now.Sub(t.last) > forgetAfter {
		return 0
	}
	wait := longestWait
	if over := t.failed - free; over < 10 { //nolint:mnd // 2^10 s are more than longestWait
		wait = min(wait, time.Second<<over)
	}
	return max(0, wait-now.Sub(t.last))
}

// failed notes a wrong try.
func (t *throttle) failed(account string, network netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for k := range keys(account, network) {
		had := t.tries[k]
		if now.Sub(had.last) > forgetAfter {
			had.failed = 0
		}
		if len(t.tries) >= maxTries {
			t.sweep(now)
		}
		t.tries[k] = tries{had.failed + 1, now}
	}
}

// sweep forgets what is old; of very many, half of them.
func (t *throttle) sweep(now time.Time) {
	for k, v := range t.tries {
		if now.Sub(v.last) > forgetAfter {
			delete(t.tries, k)
		}
	}
	for k := range t.tries {
		if len(t.tries) <= maxTries/2 {
			return
		}
		delete(t.tries, k)
	}
}

// succeeded forgets what failed for an account from a network.
func (t *throttle) succeeded(account string, network netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tries, tryKey{account, network})
}

func errWait(wait time.Duration) error {
	wait = wait.Truncate(time.Second) + time.Second
	return &errs.Error{Kind: errs.Limited, Message: "too many wrong tries; try again in " + wait.String(), After: wait}
}
