package pki_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/pki"
)

func TestLoadClientCAs(t *testing.T) {
	t.Parallel()
	one, two := newIssuer(t, "one"), newIssuer(t, "two")
	c, file := bundle(t, one.cert, two.cert)
	both := one.pool()
	both.AddCert(two.cert)
	if !c.Pool().Equal(both) {
		t.Error("not the two CAs of the file")
	}
	good := encode(one.cert)
	write(t, file, append([]byte("# Our hosts' CA\n"), good...))
	if err := c.Reload(); err != nil || !c.Pool().Equal(one.pool()) {
		t.Errorf("one CA, with text before it: %v", err)
	}
	before := c.Pool()
	for _, tt := range []struct{ content, want string }{
		{"", "no certificate"},
		{"words", "no certificate"},
		{string(good) + string(good[:len(good)/2]), "of 2 PEM blocks 1 are whole"},
		{strings.Replace(string(good), "MII", "M!I", 1) + string(good), "of 2 PEM blocks 1 are whole"},
		{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "broken certificate"},
		{string(good) + string(encode(one.client(t, nil).Leaf)), "CN=agent-1, which is not a CA"},
		{string(good) + string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL"})), "holds a X509 CRL"},
		{string(good) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"})), "holds a PRIVATE KEY"},
	} {
		write(t, file, []byte(tt.content))
		if err := c.Reload(); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%.40q: %v, want %q", tt.content, err, tt.want)
		}
		if c.Pool() != before {
			t.Errorf("%.40q: the CAs before are gone", tt.content)
		}
		if _, err := pki.LoadClientCAs(file, logger(t)); err == nil {
			t.Errorf("%.40q: loaded", tt.content)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); !errors.Is(err, os.ErrNotExist) || c.Pool() != before {
		t.Errorf("no file: %v", err)
	}
}

// TestClientCAs_Run changes the file of a bundle that is looked after. A broken
// one is told of once.
func TestClientCAs_Run(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "clients.pem")
	synctest.Test(t, func(t *testing.T) {
		one, two := newIssuer(t, "one"), newIssuer(t, "two")
		write(t, file, encode(one.cert))
		var log bytes.Buffer
		c, err := pki.LoadClientCAs(file, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		stamp := time.Now()
		pass := func(content []byte) {
			t.Helper()
			stamp = stamp.Add(time.Second) // a time of its own, which a fast test does not give
			write(t, file, content)
			if err := os.Chtimes(file, stamp, stamp); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute) //nolint:forbidigo // synctest's clock
			synctest.Wait()
		}
		pass([]byte("half a"))
		if !c.Pool().Equal(one.pool()) {
			t.Error("changed by a broken file")
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("a broken file is told of %d times, want once: %s", n, log.String())
		}
		pass(encode(two.cert))
		if !c.Pool().Equal(two.pool()) {
			t.Error("the new file is not noticed")
		}
		pass([]byte("half a"))
		if n := strings.Count(log.String(), "level=WARN"); n != 2 {
			t.Errorf("broken again, told of %d times in all, want 2", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.Now()
	root, foreign := newIssuer(t, "root"), newIssuer(t, "foreign")
	middle := root.intermediate(t, "middle")
	c, _ := bundle(t, root.cert)
	below := middle.client(t, nil).Leaf
	direct := root.client(t, nil).Leaf
	// Nobody has such a key. Its certificate is good, and to use it takes long.
	modulus := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 9000), big.NewInt(1))
	giant := sign(t, root.cert, root.key, &rsa.PublicKey{N: modulus, E: 65537}, asCA("giant"))
	for _, tt := range []struct {
		what  string
		chain []*x509.Certificate
		now   time.Time
		good  bool
	}{
		{"of a CA", []*x509.Certificate{direct}, now, true},
		{"with its intermediate", []*x509.Certificate{below, middle.cert}, now, true},
		{"with more than it needs", []*x509.Certificate{below, foreign.cert, root.cert, middle.cert}, now, true},
		{"without its intermediate", []*x509.Certificate{below}, now, false},
		{"none", nil, now, false},
		{"foreign", []*x509.Certificate{foreign.client(t, nil).Leaf}, now, false},
		{"foreign with its CA", []*x509.Certificate{foreign.client(t, nil).Leaf, foreign.cert}, now, false},
		{"expired", []*x509.Certificate{direct}, now.Add(2 * 365 * 24 * time.Hour), false},
		{"not yet", []*x509.Certificate{direct}, now.Add(-2 * time.Hour), false},
		{"a server's", []*x509.Certificate{root.client(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}).Leaf}, now, false},
		{"of any use", []*x509.Certificate{root.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = nil }).Leaf}, now, true},
		{"with a giant key", []*x509.Certificate{direct, giant}, now, false},
	} {
		got, err := c.Verify(tt.chain, tt.now)
		switch {
		case tt.good && (err != nil || !got.For("agent-1")):
			t.Errorf("%s: %+v, %v", tt.what, got, err)
		case !tt.good && (!errs.Is(err, errs.Unauthenticated) || !got.IsZero()):
			t.Errorf("%s: %+v, %v", tt.what, got, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	ca, key := newIssuer(t, "ca"), newKey(t)
	describe := func(change func(*x509.Certificate)) node.Certificate {
		return pki.Describe(sign(t, ca.cert, ca.key, key.Public(), change))
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	name := func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "web 1"} }
	got := describe(func(c *x509.Certificate) {
		name(c)
		c.DNSNames, c.EmailAddresses = []string{"web-1.example.com", "web-1"}, []string{"web-1@example.com"}
		c.IPAddresses = []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")}
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/web/1"}}
	})
	want := node.Certificate{Fingerprint: hex.EncodeToString(sum[:]), Names: []string{
		"web-1.example.com", "web-1", "web-1@example.com", "192.0.2.1", "2001:db8::1", "spiffe://example.com/web/1",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// A renewed one of the same key is the same, and a common name counts alone.
	if diff := cmp.Diff(node.Certificate{Fingerprint: want.Fingerprint, Names: []string{"web 1"}}, describe(name)); diff != "" {
		t.Error(diff)
	}
	if got := describe(func(*x509.Certificate) {}); len(got.Names) != 0 || got.For("") {
		t.Errorf("without a name: %+v", got)
	}
}

// reach connects once with a client certificate, or none, and tells what the
// client and the server saw.
func reach(t *testing.T, addr net.Addr, handshakes <-chan error, roots *x509.CertPool, cert *tls.Certificate, version uint16) (*tls.Conn, error) {
	t.Helper()
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}}
	if cert != nil {
		// Certificates would not be shown to a server that names other CAs.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := tls.Dial("tcp", addr.String(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
		err = exchange(conn)
	}
	if err == nil && conn.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Errorf("%q is spoken", conn.ConnectionState().NegotiatedProtocol)
	}
	server := <-handshakes
	if (err == nil) != (server == nil) {
		t.Errorf("the client saw %v, the server %v", err, server)
	}
	return conn, server
}

func TestServerConfigFor(t *testing.T) {
	t.Parallel()
	ca, foreign := newIssuer(t, "ca"), newIssuer(t, "foreign")
	server := ca.server(t, newKey(t))
	clients, _ := bundle(t, ca.cert)
	middle := ca.intermediate(t, "middle")
	below := middle.client(t, nil)
	below.Certificate = append(below.Certificate, middle.cert.Raw)
	certs := map[string]*tls.Certificate{"none": nil, "good": new(ca.client(t, nil)), "below": &below, "foreign": new(foreign.client(t, nil))}
	certs["expired"] = new(ca.client(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
	certs["server"] = new(ca.client(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
	for auth, good := range map[pki.ClientAuth][]string{
		pki.ClientAuthOff:      {"none", "good", "below", "foreign", "expired", "server"}, // not asked, so not shown
		pki.ClientAuthOptional: {"none", "good", "below"},
		pki.ClientAuthRequired: {"good", "below"},
	} {
		config, err := server.ServerConfigFor(clients, auth)
		if err != nil {
			t.Fatal(err)
		}
		addr, handshakes := listen(t, config)
		for what, cert := range certs {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				_, err := reach(t, addr, handshakes, ca.pool(), cert, version)
				want := slices.Contains(good, what)
				if (err == nil) != want {
					t.Errorf("%s, %s, %s: %v", auth, what, tls.VersionName(version), err)
				}
				if !want && what != "none" && !verification(what, err) {
					t.Errorf("%s, %s, %s is refused for another reason: %v", auth, what, tls.VersionName(version), err)
				}
			}
		}
	}
	if _, err := server.ServerConfigFor(clients, "requird"); !errs.Is(err, errs.Invalid) {
		t.Errorf("an unknown word: %v", err)
	}
	if _, err := server.ServerConfigFor(nil, pki.ClientAuthRequired); !errs.Is(err, errs.Invalid) {
		t.Errorf("no CAs: %v", err)
	}
	if config, err := server.ServerConfigFor(nil, pki.ClientAuthOff); err != nil || config.GetConfigForClient != nil {
		t.Errorf("off: %v, or it costs something", err)
	}
}

// verification reports whether a handshake failed by what is wrong with the
// certificate.
func verification(what string, err error) bool {
	if what == "foreign" {
		_, ok := errors.AsType[x509.UnknownAuthorityError](err)
		return ok
	}
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == map[string]x509.InvalidReason{"expired": x509.Expired, "server": x509.IncompatibleUsage}[what]
}

// TestServerConfigFor_reload changes both what the server shows and whom it
// trusts under a connection that lives on.
func TestServerConfigFor_reload(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, now)
	certFile, keyFile, err := a.ServerCert([]string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	server, err := pki.LoadCertificate(certFile, keyFile, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	one, two := newIssuer(t, "one"), newIssuer(t, "two")
	first, second := new(one.client(t, nil)), new(two.client(t, nil))
	clients, file := bundle(t, one.cert)
	config, err := server.ServerConfigFor(clients, pki.ClientAuthRequired)
	if err != nil {
		t.Fatal(err)
	}
	addr, handshakes := listen(t, config)
	before, err := reach(t, addr, handshakes, a.Pool(), first, tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reach(t, addr, handshakes, a.Pool(), second, tls.VersionTLS13); err == nil {
		t.Error("a CA is trusted before it is there")
	}

	write(t, file, encode(two.cert))
	if _, _, err := a.ServerCert([]string{"localhost", "more"}, now); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(clients.Reload(), server.Reload()); err != nil {
		t.Fatal(err)
	}
	echo(t, before)
	after, err := reach(t, addr, handshakes, a.Pool(), second, tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	if serial(after) == serial(before) {
		t.Error("the server's certificate is the one before")
	}
	if _, err := reach(t, addr, handshakes, a.Pool(), first, tls.VersionTLS13); err == nil {
		t.Error("a CA is trusted that is gone")
	}
	echo(t, before)
}

// TestServerConfigFor_shared checks that a handshake makes no config of its own.
func TestServerConfigFor_shared(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	clients, file := bundle(t, ca.cert)
	config, err := ca.server(t, newKey(t)).ServerConfigFor(clients, pki.ClientAuthOptional)
	if err != nil {
		t.Fatal(err)
	}
	get := func() *tls.Config {
		c, err := config.GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get()
	if get() != first || first.ClientCAs != clients.Pool() {
		t.Error("another config without a change")
	}
	write(t, file, encode(newIssuer(t, "next").cert))
	if err := clients.Reload(); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if get().ClientCAs != clients.Pool() {
				t.Error("a handshake with the CAs before")
			}
		})
	}
	group.Wait()
	if next := get(); next == first || next != get() {
		t.Error("not one new config after a change")
	}
}

// TestServerConfig_policy connects with clients that can only one thing each.
// What is refused is accepted by a server that takes everything, so that it is
// the policy that refuses.
func TestServerConfig_policy(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	keys := map[string]crypto.Signer{"ECDSA": newKey(t), "RSA": rsaKey(t)}
	var everything []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		everything = append(everything, s.ID)
	}
	addrs, lax := map[string]net.Addr{}, map[string]net.Addr{}
	for kind, key := range keys {
		c := ca.server(t, key)
		config := c.ServerConfig()
		if config.Renegotiation != tls.RenegotiateNever {
			t.Error("renegotiates")
		}
		addrs[kind], _ = listen(t, config)
		lax[kind], _ = listen(t, &tls.Config{GetCertificate: c.Get, MinVersion: tls.VersionTLS10, CipherSuites: everything})
	}
	only := func(version uint16, suites ...uint16) *tls.Config {
		return &tls.Config{MinVersion: version, MaxVersion: version, CipherSuites: suites}
	}
	curve := func(id tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: []tls.CurveID{id}} }
	for _, tt := range []struct {
		what   string
		key    string
		client *tls.Config
		want   tls.CurveID // 0 if it must be refused
	}{
		{"as Go comes", "ECDSA", &tls.Config{}, tls.X25519MLKEM768},
		{"as Go comes", "RSA", &tls.Config{}, tls.X25519MLKEM768},
		{"1.3", "ECDSA", only(tls.VersionTLS13), tls.X25519MLKEM768},
		{"1.2", "ECDSA", only(tls.VersionTLS12), tls.X25519},
		{"1.2", "RSA", only(tls.VersionTLS12), tls.X25519},
		{"1.1", "ECDSA", only(tls.VersionTLS11, everything...), 0},
		{"1.0", "ECDSA", only(tls.VersionTLS10, everything...), 0},
		{"1.1", "RSA", only(tls.VersionTLS11, everything...), 0},
		{"1.0", "RSA", only(tls.VersionTLS10, everything...), 0},
		{"X25519", "ECDSA", curve(tls.X25519), tls.X25519},
		{"P-256", "ECDSA", curve(tls.CurveP256), tls.CurveP256},
		{"GCM 128", "ECDSA", only(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), tls.X25519},
		{"GCM 256", "RSA", only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384), tls.X25519},
		{"ChaCha20", "ECDSA", only(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), tls.X25519},
		{"CBC", "ECDSA", only(tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256), 0},
		{"CBC", "RSA", only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256), 0},
		{"3DES", "RSA", only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA), 0},
		{"RSA key exchange, GCM", "RSA", only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384), 0},
		{"RSA key exchange, CBC", "RSA", only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_CBC_SHA), 0},
	} {
		tt.client.RootCAs, tt.client.ServerName = ca.pool(), "localhost"
		conn, err := tls.Dial("tcp", addrs[tt.key].String(), tt.client)
		if err == nil {
			err = exchange(conn)
			_ = conn.Close()
		}
		switch {
		case tt.want == 0 && err == nil:
			t.Errorf("%s, %s: accepted", tt.what, tt.key)
		case tt.want == 0:
			control, err := tls.Dial("tcp", lax[tt.key].String(), tt.client)
			if err != nil {
				t.Errorf("%s, %s: no server accepts this client: %v", tt.what, tt.key, err)
				continue
			}
			_ = control.Close()
		case err != nil:
			t.Errorf("%s, %s: %v", tt.what, tt.key, err)
		case conn.ConnectionState().CurveID != tt.want:
			t.Errorf("%s, %s: key exchange %v, want %v", tt.what, tt.key, conn.ConnectionState().CurveID, tt.want)
		}
	}
}
