package agentconn_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// from makes connections seem to come from other addresses than loopback.
type from struct {
	net.Listener

	addresses chan string
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return elsewhere{c, <-f.addresses}, nil
}

type elsewhere struct {
	net.Conn

	address string
}

func (e elsewhere) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(e.address))
}

// seen is what the handler of the tests answers.
type seen struct {
	Path    string
	Address string
	Names   []string
	Direct  bool
	Refused bool
}

type server struct {
	t         *testing.T
	listener  *agentconn.Listener
	address   string
	addresses chan string
	refused   chan netip.Addr
}

func serve(t *testing.T, o agentconn.Options, peers *agentconn.Peers) *server {
	t.Helper()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, address: tcp.Addr().String(), addresses: make(chan string, 100), refused: make(chan netip.Addr, 100)}
	o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	o.Describe = func(*tls.ConnectionState) node.Certificate { return node.Certificate{} }
	o.Refused = func(a netip.Addr) { s.refused <- a }
	s.listener = agentconn.Listen(from{tcp, s.addresses}, o)
	h := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext:       s.listener.Context,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			peer, err := peers.Of(r)
			answer := seen{r.URL.Path, peer.Address.String(), peer.Certificate.Names, peer.Direct, errs.Is(err, errs.Forbidden)}
			_ = json.NewEncoder(w).Encode(answer)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(s.listener) }()
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), s.listener.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		<-ended
	})
	return s
}

func (s *server) dial(address string) (net.Conn, error) {
	s.t.Helper()
	s.addresses <- address
	raw, err := new(net.Dialer).DialContext(s.t.Context(), "tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = raw.Close() })
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

// ask sends the pieces of a request one by one and reads the answer.
func (s *server) ask(c net.Conn, pieces ...string) (a seen) {
	s.t.Helper()
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			s.t.Fatal(err)
		}
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		s.t.Fatalf("status %d: %v", r.StatusCode, err)
	}
	return a
}

// TestSpaces: flagfiles with a space at the end of an endpoint, over real TLS,
// with the request in one record and in several, twice on one connection.
func TestSpaces(t *testing.T) {
	t.Parallel()
	s := serve(t, agentconn.Options{Most: 10}, &agentconn.Peers{})
	c, err := s.dial("192.0.2.1:5")
	if err != nil {
		t.Fatal(err)
	}
	const head = "Host: h\r\nContent-Length: 2\r\n\r\n{}"
	if a := s.ask(c, "POST /start_uploads  HTTP/1.1\r\n"+head); a.Path != "/start_uploads/" {
		t.Errorf("%+v", a)
	}
	if a := s.ask(c, "POST", " /upload_blocks  ", "HTTP/1.1\r\n", head); a.Path != "/upload_blocks/" {
		t.Errorf("%+v", a)
	}
	if a := s.ask(c, "POST /config HTTP/1.1\r\n"+head); a.Path != "/config" {
		t.Errorf("%+v", a)
	}
}

// TestPlain: who speaks no TLS is told so.
func TestPlain(t *testing.T) {
	t.Parallel()
	s := serve(t, agentconn.Options{Most: 10}, &agentconn.Peers{})
	s.addresses <- "192.0.2.1:5"
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /enroll HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); !strings.Contains(string(b), "TLS") {
		t.Errorf("%q, %v", b, err)
	}
}

// TestPerAddress: one address gets so many connections, and others still get
// theirs; this machine and proxies are not counted.
func TestPerAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, agentconn.Options{Most: 100, PerAddress: 2, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, &agentconn.Peers{})
	ok := func(address string) net.Conn {
		t.Helper()
		c, err := s.dial(address)
		if err != nil {
			t.Fatal(address, err)
		}
		return c
	}
	first := ok("192.0.2.1:1")
	ok("192.0.2.1:2")
	if _, err := s.dial("192.0.2.1:3"); err == nil {
		t.Error("a third connection of one address")
	}
	if a := <-s.refused; a.String() != "192.0.2.1" {
		t.Error(a)
	}
	for range 5 {
		ok("192.0.2.2:1").Close()
		ok("127.0.0.1:1")
		ok("10.1.2.3:1")
	}
	// When one leaves there is room again; its end reaches the server some time
	// after.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := s.dial("192.0.2.1:4")
		if err == nil {
			c.Close()
			break
		}
		<-s.refused
	}
}

// TestMost fills the listener: the next connection is accepted when another
// ends, and a closed listener lets nobody wait.
func TestMost(t *testing.T) {
	t.Parallel()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := agentconn.Listen(tcp, agentconn.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Most: 2})
	accepted, failed := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection where there is room for two")
	default:
	}
	_ = first.Close()
	_ = first.Close()
	third := <-accepted // comes only because the first left, once
	if l.Len() != 2 {
		t.Errorf("%d places are taken", l.Len())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting from a closed listener: %v", err)
	}
	_ = second.Close()
	_ = third.Close()
}

// TestPeers: whose word is taken for who the client is.
func TestPeers(t *testing.T) {
	t.Parallel()
	peers := &agentconn.Peers{Header: "Client-Cert", Verify: func(h string) (node.Certificate, error) {
		if h != "good" {
			return node.Certificate{}, errors.New("no certificate")
		}
		return node.Certificate{Fingerprint: "f", Names: []string{"agent"}}, nil
	}}
	s := serve(t, agentconn.Options{Most: 100, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}}, peers)
	for _, tt := range []struct {
		name, from, headers string
		want                seen
	}{
		{"an agent", "192.0.2.1:1", "", seen{Address: "192.0.2.1", Direct: true}},
		{"an agent over IPv6", "[2001:db8::1]:1", "", seen{Address: "2001:db8::1", Direct: true}},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:1", "", seen{Address: "192.0.2.1", Direct: true}},
		{"a stranger who claims", "192.0.2.1:1", "X-Forwarded-For: 198.51.100.9\r\nClient-Cert: good\r\n", seen{Address: "192.0.2.1"}},
		{"a proxy", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\n", seen{Address: "192.0.2.7"}},
		{"a proxy that adds", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1, 192.0.2.7\r\n", seen{Address: "192.0.2.7"}},
		{"two proxies", "10.0.0.1:1", "X-Forwarded-For: 203.0.113.1, 192.0.2.7,10.9.9.9\r\n", seen{Address: "192.0.2.7"}},
		{"two headers", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.9.9.9\r\n", seen{Address: "192.0.2.7"}},
		{"with ports", "10.0.0.1:1", "X-Forwarded-For: [2001:db8::7]:99, 10.9.9.9:80\r\n", seen{Address: "2001:db8::7"}},
		{"rubbish", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7, unknown\r\n", seen{Address: "10.0.0.1"}},
		{"a proxy that says nothing", "10.0.0.1:1", "", seen{Address: "10.0.0.1"}},
		{"a certificate", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\nClient-Cert: good\r\n", seen{Address: "192.0.2.7", Names: []string{"agent"}}},
		{"two certificates", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\nClient-Cert: good\r\nClient-Cert: good\r\n", seen{Address: "192.0.2.7", Refused: true}},
		{"an empty header", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\nClient-Cert:\r\n", seen{Address: "192.0.2.7"}},
		{"a bad certificate", "10.0.0.1:1", "X-Forwarded-For: 192.0.2.7\r\nClient-Cert: bad\r\n", seen{Address: "192.0.2.7", Refused: true}},
	} {
		c, err := s.dial(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		got := s.ask(c, "GET /x HTTP/1.1\r\nHost: h\r\n"+tt.headers+"\r\n")
		if got.Address != tt.want.Address || got.Direct != tt.want.Direct || got.Refused != tt.want.Refused || strings.Join(got.Names, " ") != strings.Join(tt.want.Names, " ") {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
