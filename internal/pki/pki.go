// Package pki makes the server's private CA and its certificate, keeps them in
// files, and serves a certificate that can change while connections live.
package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/durable"
)

// Lifetimes. Agents pin the CA, so it outlives every machine; the server's own
// certificate is made anew by itself.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	leafLife = 365 * 24 * time.Hour
	renewal  = 30 * 24 * time.Hour // before its end a certificate is made anew
	backdate = time.Hour           // for agents whose clock is behind
	// caBackdate is the same for the CA and the server's own certificate. A
	// server that is started once with a clock that is ahead must not leave
	// certificates behind that begin in the future, and agents' clocks may be
	// far behind.
	caBackdate = 2 * 365 * 24 * time.Hour
	// renewEvery is how often the server's own certificate is looked at.
	renewEvery = time.Hour
)

// Files of an Authority, in its directory.
const (
	caCert   = "ca.pem"
	caKey    = "ca-key.pem"
	leafCert = "agent-cert.pem"
	leafKey  = "agent-key.pem"
)

// Authority is the server's private CA.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// OpenAuthority reads the CA in dir, or makes one: ca.pem for agents to pin,
// and its key, which only the server's user can read.
func OpenAuthority(dir string, now time.Time) (*Authority, error) {
	a := &Authority{dir: dir}
	if _, err := os.Stat(a.CertPath()); !errors.Is(err, fs.ErrNotExist) {
		// A certificate without its key is not made anew: agents have pinned it.
		return ReadAuthority(dir)
	}
	if err := a.make(now); err != nil {
		return nil, err
	}
	return a, nil
}

// ReadAuthority reads the CA in dir and never makes one. Without ca.pem or its
// key the error is fs.ErrNotExist.
func ReadAuthority(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	pair, err := tls.LoadX509KeyPair(a.CertPath(), filepath.Join(dir, caKey))
	if err != nil {
		return nil, fmt.Errorf("the server's CA (%s and %s in %s): %w", caCert, caKey, dir, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the server's CA: a key of type %T cannot sign", pair.PrivateKey)
	}
	a.cert, a.key = pair.Leaf, signer
	return a, nil
}

func (a *Authority) make(now time.Time) error {
	key, err := a.openKey()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Muster CA", Organization: []string{"Muster"}},
		NotBefore: now.Add(-caBackdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	a.key = key
	return writeCert(a.CertPath(), der)
}

// openKey returns the CA's key, which is kept before there is a certificate: a
// CA without its key would be pinned and never usable. With the same key,
// agents that pinned a certificate which was lost accept the next one, too.
func (a *Authority) openKey() (crypto.Signer, error) {
	path := filepath.Join(a.dir, caKey)
	b, err := os.ReadFile(path) //nolint:gosec // a file of our own directory
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		return key, writeKey(path, key)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("the key of the server's CA: %s is not PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the key of the server's CA, %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the key of the server's CA: a key of type %T cannot sign", key)
	}
	return signer, nil
}

// CertPath returns the file of the CA certificate.
func (a *Authority) CertPath() string { return CertPath(a.dir) }

// CertPath returns the file of the certificate of the CA in dir, also if there is
// none yet.
func CertPath(dir string) string { return filepath.Join(dir, caCert) }

// ServerCertPath returns the file of the certificate that the CA in dir makes for
// its server; see Authority.ServerCert.
func ServerCertPath(dir string) string { return filepath.Join(dir, leafCert) }

// Certificate returns the CA's certificate, which must not be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Pool returns the CA as a pool.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// ServerCert returns the files of a server certificate for the given names and
// addresses. It keeps the one that is there while it fits and lasts, else makes
// another.
func (a *Authority) ServerCert(names []string, now time.Time) (certFile, keyFile string, err error) {
	if len(names) == 0 {
		return "", "", errors.New("a server certificate needs a name")
	}
	certFile, keyFile = filepath.Join(a.dir, leafCert), filepath.Join(a.dir, leafKey)
	if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil && a.fits(pair.Leaf, names, now) {
		return certFile, keyFile, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0], Organization: []string{"Muster"}},
		NotBefore: a.cert.NotBefore, NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", err
	}
	if err := writeKey(keyFile, key); err != nil {
		return "", "", err
	}
	if err := writeCert(certFile, der); err != nil {
		return "", "", err
	}
	return certFile, keyFile, nil
}

// KeepServerCert makes another server certificate before the one that is there
// runs out, until ctx ends; see ServerCert. Who serves it reads it again; see
// Certificate.Run.
func (a *Authority) KeepServerCert(ctx context.Context, names []string, now func() time.Time, log *slog.Logger) error {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if _, _, err := a.ServerCert(names, now()); err != nil {
			log.ErrorContext(ctx, "the server's certificate cannot be renewed; retrying", "error", err)
		}
	}
}

func (a *Authority) fits(leaf *x509.Certificate, names []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(a.cert) != nil || now.Add(renewal).After(leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(names, func(n string) bool { return leaf.VerifyHostname(n) != nil })
}

// serial returns a random serial number of 127 bits.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return big.NewInt(time.Now().UnixNano()) // crypto/rand never fails
	}
	return n
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	b, err := encodeKey(key)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, 0o600, b)
}

func writeCert(path string, der []byte) error {
	return durable.WriteFile(path, 0o644, encodeCert(der))
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
