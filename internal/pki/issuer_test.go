package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/pki"
)

// An issuer signs what a test needs, good or bad. It knows nothing of
// pki.Authority.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate of a year's life for pub, which change may spoil.
func sign(t *testing.T, parent *x509.Certificate, signer crypto.Signer, pub crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		BasicConstraintsValid: true,
	}
	change(template)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func asCA(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name}
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	key := newKey(t)
	return issuer{sign(t, nil, key, key.Public(), asCA(name)), key}
}

// intermediate makes an issuer below i.
func (i issuer) intermediate(t *testing.T, name string) issuer {
	t.Helper()
	key := newKey(t)
	return issuer{sign(t, i.cert, i.key, key.Public(), asCA(name)), key}
}

// client makes a client's certificate for agent-1, which change may spoil.
func (i issuer) client(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	cert := sign(t, i.cert, i.key, key.Public(), func(c *x509.Certificate) {
		c.Subject, c.DNSNames = pkix.Name{CommonName: "agent-1"}, []string{"agent-1"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if change != nil {
			change(c)
		}
	})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// server makes the certificate of a server on this machine and loads it.
func (i issuer) server(t *testing.T, key crypto.Signer) *pki.Certificate {
	t.Helper()
	cert := sign(t, i.cert, i.key, key.Public(), func(c *x509.Certificate) {
		c.DNSNames = []string{"localhost"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, encode(cert))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	c, err := pki.LoadCertificate(certFile, keyFile, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (i issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return pool
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// encode returns certificates as PEM.
func encode(certs ...*x509.Certificate) []byte {
	var all bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return all.Bytes()
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// bundle loads client CAs from a file of their own.
func bundle(t *testing.T, certs ...*x509.Certificate) (c *pki.ClientCAs, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "clients.pem")
	write(t, file, encode(certs...))
	c, err := pki.LoadClientCAs(file, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	return c, file
}
