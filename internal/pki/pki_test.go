package pki_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/pki"
)

func open(t *testing.T, dir string, now time.Time) *pki.Authority {
	t.Helper()
	a, err := pki.OpenAuthority(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func logger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// listener serves TLS as ServerConfig says, sending back what comes.
func listener(t *testing.T, c *pki.Certificate) net.Addr {
	t.Helper()
	addr, _ := listen(t, c.ServerConfig())
	return addr
}

// listen serves TLS, sending back what comes, and tells how each handshake
// ended, in their order.
func listen(t *testing.T, config *tls.Config) (_ net.Addr, handshakes <-chan error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 100) // more than any test makes
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	t.Cleanup(func() { _ = l.Close() })
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				ended <- conn.(*tls.Conn).HandshakeContext(t.Context())
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	return l.Addr(), ended
}

// dial connects as a client that trusts pool alone and asks for name.
func dial(t *testing.T, addr net.Addr, pool *x509.CertPool, name string, versions ...uint16) (*tls.Conn, error) {
	t.Helper()
	cfg := &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS10}
	if len(versions) > 0 {
		cfg.MaxVersion = versions[0]
	}
	conn, err := tls.Dial("tcp", addr.String(), cfg)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func echo(t *testing.T, conn *tls.Conn) {
	t.Helper()
	if err := exchange(conn); err != nil {
		t.Fatal(err)
	}
}

// exchange sends something and waits until it comes back. A client of TLS 1.3
// hears only then that its certificate is refused.
func exchange(conn *tls.Conn) error {
	b := make([]byte, 2)
	if _, err := conn.Write([]byte("hi")); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	if string(b) != "hi" {
		return fmt.Errorf("%q came back", b)
	}
	return nil
}

func TestOpenAuthority(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, now)
	cert, key := a.CertPath(), filepath.Join(dir, "ca-key.pem")
	first, firstKey := read(t, cert), read(t, key)
	if cert != filepath.Join(dir, "ca.pem") || mode(t, key) != 0o600 || mode(t, cert) != 0o644 {
		t.Errorf("%s has mode %v, the key %v", cert, mode(t, cert), mode(t, key))
	}
	for range 2 {
		if b := open(t, dir, now.Add(time.Hour)); !b.Pool().Equal(a.Pool()) || read(t, cert) != first || read(t, key) != firstKey {
			t.Error("the CA is another one when opened again")
		}
	}

	// Agents have pinned ca.pem: without its key it must not be replaced.
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenAuthority(dir, now); err == nil || read(t, cert) != first {
		t.Errorf("a CA without a key: %v", err)
	}
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenAuthority(dir, now); err == nil || read(t, cert) != first || read(t, key) != "broken" {
		t.Errorf("a CA with a broken key: %v", err)
	}
	// Nor is a key replaced: it may be all that is left.
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.OpenAuthority(dir, now); err == nil || read(t, key) != "broken" {
		t.Errorf("a broken key alone: %v", err)
	}
	if _, err := pki.OpenAuthority(filepath.Join(dir, "none"), now); err == nil {
		t.Error("a CA in a directory that is not there")
	}
}

// TestOpenAuthority_lostCert: agents that pinned a lost certificate accept what
// the next one signs.
func TestOpenAuthority_lostCert(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	pinned := open(t, dir, now).Pool()
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	cert, key, err := open(t, dir, now).ServerCert([]string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.LoadCertificate(cert, key, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(t, listener(t, c), pinned, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn)
}

func TestServerCert(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, now)
	names := []string{"muster.example.com", "192.0.2.1", "::1", "localhost"}
	var certFile, keyFile string
	leaf := func(names []string, now time.Time) string {
		t.Helper()
		var err error
		if certFile, keyFile, err = a.ServerCert(names, now); err != nil {
			t.Fatal(err)
		}
		return read(t, certFile) + read(t, keyFile)
	}
	first := leaf(names, now)
	if mode(t, keyFile) != 0o600 || mode(t, certFile) != 0o644 {
		t.Errorf("modes %v, %v", mode(t, keyFile), mode(t, certFile))
	}
	year, month := 365*24*time.Hour, 30*24*time.Hour
	for _, keep := range []string{leaf(names, now), leaf(names[1:], now), leaf([]string{"localhost"}, now.Add(year-month-time.Hour))} {
		if keep != first {
			t.Error("made anew without a reason")
		}
	}
	renewed := leaf(names, now.Add(year-month+time.Hour))
	if renewed == first {
		t.Error("not renewed before its end")
	}
	more := leaf(append(slices.Clone(names), "new.example.com"), now)
	if more == renewed {
		t.Error("kept without the new name")
	}
	if err := os.WriteFile(keyFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	mended := leaf(names, now)
	if mended == more {
		t.Error("kept with a broken key")
	}
	// A certificate of another CA is none.
	other := t.TempDir()
	open(t, other, now)
	for _, f := range []string{"agent-cert.pem", "agent-key.pem"} {
		if err := os.WriteFile(filepath.Join(other, f), []byte(read(t, filepath.Join(dir, f))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a = open(t, other, now)
	if leaf(names, now) == mended {
		t.Error("kept a certificate of another CA")
	}
	if _, _, err := a.ServerCert(nil, now); err == nil {
		t.Error("a certificate for no name")
	}

	c, err := pki.LoadCertificate(certFile, keyFile, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	addr := listener(t, c)
	for _, name := range names {
		conn, err := dial(t, addr, a.Pool(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		echo(t, conn)
		if s := conn.ConnectionState(); s.Version != tls.VersionTLS13 || len(s.VerifiedChains) != 1 {
			t.Errorf("version %x, chains %v", s.Version, s.VerifiedChains)
		}
	}
	var unknown x509.UnknownAuthorityError
	if _, err := dial(t, addr, open(t, t.TempDir(), now).Pool(), "localhost"); !errors.As(err, &unknown) {
		t.Errorf("another CA: %v", err)
	}
	var hostname x509.HostnameError
	if _, err := dial(t, addr, a.Pool(), "other.example.com"); !errors.As(err, &hostname) {
		t.Errorf("another name: %v", err)
	}
	if _, err := dial(t, addr, a.Pool(), "localhost", tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if _, err := dial(t, addr, a.Pool(), "localhost", tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func serial(conn *tls.Conn) string {
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, now)
	certFile, keyFile, err := a.ServerCert([]string{"localhost"}, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.LoadCertificate(certFile, keyFile, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	addr := listener(t, c)
	connect := func() *tls.Conn {
		t.Helper()
		conn, err := dial(t, addr, a.Pool(), "localhost")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	before := connect()
	echo(t, before)
	if _, _, err := a.ServerCert([]string{"localhost", "more"}, now); err != nil {
		t.Fatal(err)
	}
	if serial(connect()) != serial(before) {
		t.Error("changed without a reload")
	}
	if err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	after := connect()
	if serial(after) == serial(before) {
		t.Error("not changed by a reload")
	}
	echo(t, before) // lives on
	echo(t, after)

	good := read(t, keyFile)
	for what, broken := range map[string]string{"empty": "", "not PEM": "x", "another's": read(t, filepath.Join(dir, "ca-key.pem"))} {
		if err := os.WriteFile(keyFile, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.Reload() == nil {
			t.Errorf("%s: taken", what)
		}
		if serial(connect()) != serial(after) {
			t.Errorf("%s: the certificate before is gone", what)
		}
		if _, err := pki.LoadCertificate(certFile, keyFile, logger(t)); err == nil {
			t.Errorf("%s: loaded", what)
		}
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); !errors.Is(err, fs.ErrNotExist) || serial(connect()) != serial(after) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(keyFile, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err != nil || serial(connect()) != serial(after) {
		t.Errorf("mended: %v", err)
	}
}

// TestRun changes the files of a certificate that is looked after.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		a := open(t, dir, now)
		certFile, keyFile, err := a.ServerCert([]string{"localhost"}, now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.LoadCertificate(certFile, keyFile, logger(t))
		if err != nil {
			t.Fatal(err)
		}
		current := func() []byte {
			pair, err := c.Get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return pair.Certificate[0]
		}
		// touch gives files times of their own, which a fast test does not.
		stamp := now.Add(time.Hour)
		touch := func() {
			stamp = stamp.Add(time.Second)
			for _, f := range []string{certFile, keyFile} {
				if err := os.Chtimes(f, stamp, stamp); err != nil {
					t.Fatal(err)
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		wait := func() {
			time.Sleep(3 * time.Second) //nolint:forbidigo // synctest's clock
			synctest.Wait()
		}
		first := current()
		good := read(t, keyFile)
		wait()
		if err := os.WriteFile(keyFile, []byte("half a k"), 0o600); err != nil {
			t.Fatal(err)
		}
		touch()
		wait()
		if !bytes.Equal(current(), first) {
			t.Error("changed by a broken file")
		}
		if err := os.WriteFile(keyFile, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.ServerCert([]string{"localhost", "more"}, now); err != nil {
			t.Fatal(err)
		}
		touch()
		wait()
		if bytes.Equal(current(), first) {
			t.Error("the new files are not noticed")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestServerCert_clock: a start with a clock that is a year ahead leaves a
// certificate behind that is good today, too.
func TestServerCert_clock(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	a := open(t, dir, now)
	for _, by := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour, 0} {
		certFile, keyFile, err := a.ServerCert([]string{"localhost"}, now.Add(by))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Duration{0, by} {
			_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "localhost", CurrentTime: now.Add(at)})
			if err != nil {
				t.Errorf("made at %s, looked at %s: %v", by, at, err)
			}
		}
	}
}

// TestKeepServerCert: a server that runs for years has a good certificate all
// the time.
func TestKeepServerCert(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir, time.Now())
		names := []string{"localhost"}
		certFile, _, err := a.ServerCert(names, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.KeepServerCert(ctx, names, time.Now, slog.New(slog.DiscardHandler)) }()
		first := read(t, certFile)
		for range 25 { // months
			time.Sleep(30 * 24 * time.Hour) //nolint:forbidigo // synctest's clock
			synctest.Wait()
			block, _ := pem.Decode([]byte(read(t, certFile)))
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if time.Now().After(leaf.NotAfter) {
				t.Fatalf("it ran out on %s", leaf.NotAfter)
			}
		}
		if read(t, certFile) == first {
			t.Error("it is the first one still")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
