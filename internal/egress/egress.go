// Package egress opens connections to addresses that people name, without
// becoming their way into what only this server can reach: the address is looked
// at when it is dialled, after names were resolved, so that no name and no
// redirect leads around it.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Guard refuses addresses that are not public. The zero Guard allows no
// exception. Safe for concurrent use.
type Guard struct {
	// Allow are networks that may be reached although they are not public.
	Allow []netip.Prefix
}

// Timing of connections.
const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 15 * time.Second
	idleTimeout   = 90 * time.Second
	maxHeader     = 64 << 10 // of answers
)

// Check refuses an address that may not be reached, as Forbidden.
func (g *Guard) Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	for _, p := range g.Allow {
		if p.Contains(a) {
			return nil
		}
	}
	if !public(a) {
		return errs.New(errs.Forbidden, "%s is no public address; egress_allow lets networks through", a)
	}
	return nil
}

// Dialer returns a dialer that checks each address that it is about to connect to.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, Control: g.control}
}

func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errs.New(errs.Forbidden, "%s address %s is not understood", network, address)
	}
	return g.Check(ap.Addr())
}

// Client returns an HTTP client that dials through the guard, asks no proxy, and
// follows no redirect: its answer is the redirect itself.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: g.Dialer().DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: 2, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// DialContext is that of [Guard.Dialer].
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return g.Dialer().DialContext(ctx, network, address)
}

// ParseNetworks reads networks as 10.0.0.0/8, or addresses.
func ParseNetworks(texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			a = a.Unmap().WithZone("")
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no network; write 10.0.0.0/8 or 10.1.2.3", text)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// IsRefusal reports whether a connection was not made because of the guard.
func IsRefusal(err error) bool {
	var e *errs.Error
	return errors.As(err, &e) && e.Kind == errs.Forbidden
}

// reserved are networks that are not public beside those that netip knows.
// Source: the IANA registries of special-purpose addresses.
var reserved = []netip.Prefix{ //nolint:gochecknoglobals // a constant
	netip.MustParsePrefix("0.0.0.0/8"),       // this host
	netip.MustParsePrefix("100.64.0.0/10"),   // carriers' NAT; some clouds' metadata
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments; a cloud's metadata
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // relays to IPv6
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // future use, and broadcast
	netip.MustParsePrefix("64:ff9b::/96"),    // IPv4 behind NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),  // the same, local
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // Teredo and other protocols
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4, which holds an IPv4 address
	netip.MustParsePrefix("3fff::/20"),       // documentation
	netip.MustParsePrefix("5f00::/16"),       // segment routing
	netip.MustParsePrefix("fec0::/10"),       // site-local
	netip.MustParsePrefix("::/96"),           // IPv4 in its old form
}

// public reports whether an address is one of the open internet's.
func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
