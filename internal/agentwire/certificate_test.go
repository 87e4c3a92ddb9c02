package agentwire_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/pki"
)

// issue makes a client certificate of a CA of ours.
func issue(t *testing.T, a *pki.Authority) *tls.Certificate {
	t.Helper()
	cert, key, err := a.IssueAgent("host-1", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// selfSigned makes a certificate that is of no CA.
func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"host-1"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificate connects to Muster's own listener. A foreign certificate is
// shown, too, and refused even where none would do: so does a real agent, which
// knows nothing of the CAs that a server names.
func TestCertificate(t *testing.T) {
	ours, err := pki.OpenAuthority(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good, foreign := issue(t, ours), selfSigned(t)
	certFile, keyFile, err := ours.ServerCert([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cert, err := pki.LoadCertificate(certFile, keyFile, log)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := pki.LoadClientCAs(ours.CertPath(), log)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		auth  pki.ClientAuth
		shown *tls.Certificate
		want  string // the server's answer; empty if the connection must fail
	}{
		{pki.ClientAuthRequired, good, "host-1"},
		{pki.ClientAuthRequired, foreign, ""},
		{pki.ClientAuthRequired, nil, ""},
		{pki.ClientAuthOptional, good, "host-1"},
		{pki.ClientAuthOptional, foreign, ""},
		{pki.ClientAuthOptional, nil, "nobody"},
		{pki.ClientAuthOff, good, "nobody"},
	} {
		config, err := cert.ServerConfigFor(clients, tt.auth)
		if err != nil {
			t.Fatal(err)
		}
		c, err := agentwire.New(agentwire.Options{URL: "https://" + whoAmI(t, config), RootCAs: ours.Pool(), Certificate: tt.shown, Version: "5.23.1"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		answer, err := c.PostRaw(t.Context(), agentwire.Request{Path: "/x", Body: []byte(`{}`)})
		if string(answer) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s, with certificate %v, foreign %v: %q, %v", tt.auth, tt.shown != nil, tt.shown == foreign, answer, err)
		}
	}
}

// whoAmI serves TLS and answers with the name in the client's certificate.
func whoAmI(t *testing.T, config *tls.Config) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.VerifiedChains) > 0 {
			name = pki.Describe(r.TLS.PeerCertificates[0]).Names[0]
		}
		_, _ = io.WriteString(w, name)
	})
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return l.Addr().String()
}
