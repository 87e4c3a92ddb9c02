package agentwire_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/musterhq/muster/internal/agentwire"
)

// handshake makes one request of a server with that TLS configuration and
// returns what was agreed and the groups that the client offered.
func handshake(t *testing.T, server *tls.Config, k agentwire.KeyExchange) (agreed tls.ConnectionState, offered []tls.CurveID) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = server
	s.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered = hello.SupportedCurves
		return nil, nil
	}
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c, err := agentwire.New(agentwire.Options{
		URL: s.URL, RootCAs: roots, Version: "5.23.1", KeyExchange: k,
		Connected: func(state tls.ConnectionState) { agreed = state },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Post(t.Context(), agentwire.Request{Path: "/x"}); err != nil {
		t.Fatal(err)
	}
	return agreed, offered
}

// TestKeyExchange asks a server of Go's defaults, which would rather have
// ML-KEM. No retry means that the share was for the group that was agreed on.
func TestKeyExchange(t *testing.T) {
	for k, want := range map[agentwire.KeyExchange][]tls.CurveID{
		"":               {tls.X25519, tls.CurveP256, tls.CurveP384},
		agentwire.X25519: {tls.X25519, tls.CurveP256, tls.CurveP384},
		agentwire.P256:   {tls.CurveP256, tls.CurveP384},
		agentwire.MLKEM:  {tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
	} {
		agreed, offered := handshake(t, &tls.Config{MinVersion: tls.VersionTLS12}, k)
		if agreed.Version != tls.VersionTLS13 || agreed.CurveID != want[0] || agreed.HelloRetryRequest || !slices.Equal(offered, want) {
			t.Errorf("%q: offered %v, agreed on %v of %s, retry %t", k, offered, agreed.CurveID, tls.VersionName(agreed.Version), agreed.HelloRetryRequest)
		}
	}
	agreed, _ := handshake(t, &tls.Config{MinVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP384}}, agentwire.X25519)
	if agreed.CurveID != tls.CurveP384 {
		t.Errorf("with a server of P-384 alone: %v", agreed.CurveID)
	}
	agreed, _ = handshake(t, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}, agentwire.X25519)
	if agreed.Version != tls.VersionTLS12 || agreed.CurveID != tls.X25519 {
		t.Errorf("with a server of TLS 1.2: %v of %s", agreed.CurveID, tls.VersionName(agreed.Version))
	}
	if _, err := agentwire.New(agentwire.Options{URL: "https://x", KeyExchange: "rot13"}); err == nil || !strings.Contains(err.Error(), "rot13") {
		t.Errorf("an unknown key exchange: %v", err)
	}
}

// TestTickets checks that the server is asked for session tickets, as real
// agents ask it, and that none is used.
func TestTickets(t *testing.T) {
	var minted atomic.Int32
	for range 2 {
		server := &tls.Config{MinVersion: tls.VersionTLS12}
		server.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			minted.Add(1)
			return server.EncryptTicket(state, session)
		}
		if agreed, _ := handshake(t, server, agentwire.X25519); agreed.DidResume {
			t.Error("resumed")
		}
	}
	if minted.Load() != 2 {
		t.Errorf("%d tickets for 2 connections", minted.Load())
	}
}

// noted tells what was done last before it was closed.
type noted struct {
	net.Conn

	last, atClose string
}

func (n *noted) Read(b []byte) (int, error) {
	n.last = "read"
	return n.Conn.Read(b)
}

func (n *noted) Write(b []byte) (int, error) {
	n.last = "write"
	return n.Conn.Write(b)
}

func (n *noted) Close() error {
	n.atClose = n.last
	return n.Conn.Close()
}

// TestClose checks that a connection ends as a real agent's does: nothing is
// written after the answer was read.
func TestClose(t *testing.T) {
	s, _ := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	conn := new(noted)
	c, err := agentwire.New(agentwire.Options{
		URL: s.URL, RootCAs: roots, Version: "5.23.1",
		Dial: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			conn.Conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Post(t.Context(), agentwire.Request{Path: "/x"}); err != nil {
		t.Fatal(err)
	}
	if conn.atClose != "read" {
		t.Errorf("the last thing before closing was a %s", conn.atClose)
	}
}
