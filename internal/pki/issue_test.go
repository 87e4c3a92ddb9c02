package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/pki"
)

func TestReadAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := pki.ReadAuthority(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no CA: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("reading made %v, %v", entries, err)
	}
	a := open(t, dir, time.Now())
	b, err := pki.ReadAuthority(dir)
	if err != nil || !b.Certificate().Equal(a.Certificate()) || !b.Pool().Equal(a.Pool()) {
		t.Errorf("another CA: %v", err)
	}
}

func TestIssueAgent(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := open(t, t.TempDir(), now)
	clients, _ := bundle(t, a.Certificate())
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 61)
	for _, tt := range []struct {
		name   string
		dns    bool
		common bool
	}{
		{"web-1.example.com", true, true},
		{"WEB-1", true, true},
		{"4C4C4544-0042-3510-8051-B4C04F564432", true, true},
		{"00000000-0000-0000-0000-000000000001", true, true},
		{long, true, false},
		{"192.0.2.1", false, true},
		{"2001:db8::1", false, true},
		{"12345", false, true},
		{"win_pc", false, true},
		{"-web", false, true},
		{"web-", false, true},
		{"web..1", false, true},
		{"web.", false, true},
		{"*.example.com", false, true},
		{"Anna's laptop, \"old\"; =x", false, true},
		{"日本", false, true},
		{strings.Repeat("x y", 21) + "z", false, true},
	} {
		certPEM, keyPEM, err := a.IssueAgent(tt.name, 24*time.Hour, now)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		leaf := pair.Leaf
		if (len(leaf.DNSNames) == 1) != tt.dns || len(leaf.URIs)+len(leaf.IPAddresses) > 0 || (leaf.Subject.CommonName == tt.name) != tt.common {
			t.Errorf("%s: common name %q, DNS names %q", tt.name, leaf.Subject.CommonName, leaf.DNSNames)
		}
		if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() || leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("%s: a key of %T, CA %v, use %v", tt.name, leaf.PublicKey, leaf.IsCA, leaf.KeyUsage)
		}
		got, err := clients.Verify([]*x509.Certificate{leaf}, now.Add(23*time.Hour))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff([]string{tt.name}, got.Names); diff != "" || !got.For(tt.name) || !got.For(strings.ToLower(tt.name)) || got.For("other") {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if _, err := clients.Verify([]*x509.Certificate{leaf}, now.Add(25*time.Hour)); err == nil {
			t.Errorf("%s: good after its life", tt.name)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
			t.Errorf("%s: good for a server", tt.name)
		}
	}
	for _, tt := range []struct {
		name  string
		life  time.Duration
		field string
	}{
		{"", time.Hour, "name"},
		{strings.Repeat("x", 65) + " y", time.Hour, "name"},
		{long + "d", time.Hour, "name"},
		{"web\n1", time.Hour, "name"},
		{"web\x00", time.Hour, "name"},
		{"web\xff", time.Hour, "name"},
		{"web", 0, "life"},
		{"web", -time.Hour, "life"},
		{"web", 21 * 365 * 24 * time.Hour, "life"},
	} {
		_, _, err := a.IssueAgent(tt.name, tt.life, now)
		if e, ok := errors.AsType[*errs.Error](err); !ok || e.Kind != errs.Invalid || e.Field != tt.field {
			t.Errorf("%q for %v: %v, want an error of %s", tt.name, tt.life, err, tt.field)
		}
	}
}
