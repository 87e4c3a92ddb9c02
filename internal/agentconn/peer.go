package agentconn

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// Peer is the client that sent a request.
type Peer struct {
	Address     netip.Addr       // invalid if a proxy said nothing that can be read
	Certificate node.Certificate // zero without one
	// Direct says that it is an agent with a connection of its own, which it
	// will not use again.
	Direct bool
}

// Peers tells who sent a request. Safe for concurrent use.
type Peers struct {
	// Header holds the client's certificate as a trusted proxy tells of it; ""
	// is none.
	Header string
	// Verify checks what is in the header.
	Verify func(header string) (node.Certificate, error)
}

// Of returns who sent a request, which must have come by a Listener. The word of others than trusted proxies is not
// looked at. The error is Forbidden for a certificate that cannot be trusted.
func (p *Peers) Of(r *http.Request) (Peer, error) {
	c := Of(r.Context())
	peer := Peer{Address: c.address, Certificate: c.Certificate(), Direct: !c.keepsAlive() && !forwarded(r)}
	if !c.proxy {
		return peer, nil
	}
	peer.Address = c.listener.client(r, c.address)
	peer.Certificate = node.Certificate{} // the proxy's own says nothing of the client
	if p.Header == "" {
		return peer, nil
	}
	headers := r.Header.Values(p.Header)
	if len(headers) > 1 { // one may be the client's own, sent on by a proxy that adds instead of replacing
		return peer, errs.New(errs.Forbidden, "the request has %d headers %s; make the proxy replace what clients send", len(headers), p.Header)
	}
	if len(headers) == 1 && headers[0] != "" {
		var err error
		if peer.Certificate, err = p.Verify(headers[0]); err != nil {
			return peer, errs.Wrap(errs.Forbidden, err, "the certificate that the proxy tells of cannot be trusted")
		}
	}
	return peer, nil
}

// forwarded reports whether a proxy, trusted or not, sent the request on.
func forwarded(r *http.Request) bool {
	return r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Via") != "" || r.Header.Get("Forwarded") != ""
}

// maxHops bounds how far X-Forwarded-For is followed.
const maxHops = 32

// client follows X-Forwarded-For from its end, where each proxy adds whom it
// heard, back to the first address that is no trusted proxy's. What is before
// that may be made up. Without any, or at one that is no address, it is the last
// that was good.
func (l *Listener) client(r *http.Request, from netip.Addr) netip.Addr {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && i >= len(hops)-maxHops; i-- {
		a, ok := parseHop(hops[i])
		if !ok {
			break
		}
		if from = a; !l.trusts(a) {
			break
		}
	}
	return from
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if ap, err := netip.ParseAddrPort(hop); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(hop, "[]"))
	return a.Unmap().WithZone(""), err == nil
}
