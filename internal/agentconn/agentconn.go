// Package agentconn is the agents' side of the network: connections over TLS
// with their caps, and who is at the other end of one: its address and its
// certificate, or those that a trusted proxy tells of.
//
// It stands between TLS and net/http, because there alone can be mended what
// agents send and net/http refuses before any handler sees it; see tidy.
package agentconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// Options of a Listener. TLS, Most and Describe are required.
type Options struct {
	TLS *tls.Config
	// Most is how many connections there may be at a time. A further one waits
	// in the system's queue until another ends.
	Most int
	// PerAddress is how many of them one address may have; 0 is no limit. A
	// further one is closed at once. This machine and trusted proxies are not
	// counted, as others are behind them.
	PerAddress int
	// Proxies are the networks whose word is taken for who the client is.
	Proxies []netip.Prefix
	// Describe says what is known of a verified client certificate.
	Describe func(*tls.ConnectionState) node.Certificate
	// Refused is called for each connection over PerAddress; may be nil.
	Refused func(netip.Addr)
}

// Listener accepts connections of agents.
type Listener struct {
	net.Listener

	o      Options
	places chan struct{}
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	counts map[netip.Addr]int
}

// Listen returns a listener over TCP listener l.
func Listen(l net.Listener, o Options) *Listener {
	return &Listener{
		Listener: l, o: o, places: make(chan struct{}, o.Most), closed: make(chan struct{}), counts: map[netip.Addr]int{},
	}
}

// Accept waits for a place, then for a connection. The TLS handshake is part of
// the connection's first Read.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		c := &Conn{listener: l, raw: raw, address: address(raw.RemoteAddr())}
		c.proxy = l.trusts(c.address)
		if !c.keepsAlive() && !l.count(c.address) {
			if l.o.Refused != nil {
				l.o.Refused(c.address)
			}
			_ = raw.Close() // it has had no answer, so its agent keeps its data
			continue
		}
		c.Conn = tls.Server(raw, l.o.TLS)
		return c, nil
	}
}

// Close ends waiting Accepts, too.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Len returns how many connections there are.
func (l *Listener) Len() int { return len(l.places) }

// Context returns a connection's context, in which Of finds it; see
// http.Server.ConnContext.
func (l *Listener) Context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// trusts reports whether an address is a proxy's.
func (l *Listener) trusts(a netip.Addr) bool {
	for _, p := range l.o.Proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// count takes a place of an address's own, if there is one.
func (l *Listener) count(a netip.Addr) bool {
	if l.o.PerAddress == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[a] >= l.o.PerAddress {
		return false
	}
	l.counts[a]++
	return true
}

func (l *Listener) leave(c *Conn) {
	<-l.places
	if l.o.PerAddress == 0 || c.keepsAlive() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts[c.address]--; l.counts[c.address] == 0 {
		delete(l.counts, c.address)
	}
}

// key is where a connection's context holds it.
type key struct{}

// Of returns the connection of a request's context, or nil.
func Of(ctx context.Context) *Conn {
	c, _ := ctx.Value(key{}).(*Conn)
	return c
}

// Conn is a connection of an agent or a proxy.
type Conn struct {
	*tls.Conn

	listener *Listener
	raw      net.Conn
	address  netip.Addr
	proxy    bool
	left     sync.Once
	line     line

	described   bool
	certificate node.Certificate
}

// Read reads what was decrypted, with request lines tidied. The first call does
// the handshake; a client that speaks no TLS is told so.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.line.read(c.Conn, p)
	if noTLS, ok := errors.AsType[tls.RecordHeaderError](err); ok && noTLS.Conn != nil {
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.raw.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nThis port speaks TLS only; use https://.\n"))
	}
	return n, err
}

// Write ends a request: what is read next begins another one.
func (c *Conn) Write(p []byte) (int, error) {
	c.line.restart()
	return c.Conn.Write(p)
}

// Close closes the connection and gives its place back.
func (c *Conn) Close() error {
	defer c.left.Do(func() { c.listener.leave(c) })
	return c.Conn.Close()
}

// keepsAlive reports whether the other end may use the connection for more than
// a request: a proxy does, which may be on this machine; an agent never does.
func (c *Conn) keepsAlive() bool { return c.proxy || c.address.IsLoopback() }

// Certificate returns the client's certificate, which the handshake verified;
// the zero value without one. Call it after a request was read, and not
// concurrently.
func (c *Conn) Certificate() node.Certificate {
	if !c.described {
		c.described = true
		if s := c.ConnectionState(); len(s.PeerCertificates) > 0 {
			c.certificate = c.listener.o.Describe(&s)
		}
	}
	return c.certificate
}

// address returns the other end's, without writing it out: each request of an
// agent is a connection.
func address(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
