package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// ClientAuth says what a listener wants to see of its clients.
type ClientAuth string

// The ways to ask for client certificates. One that is shown must be good in
// any case: an agent whose certificate ran out is not let in as one without.
const (
	ClientAuthOff      ClientAuth = "off"      // none is asked for
	ClientAuthOptional ClientAuth = "optional" // none will do
	ClientAuthRequired ClientAuth = "required"
)

// maxRSABits is the largest key that crypto/tls takes in a handshake. One that
// came by another way is held to the same: to verify with a key of a megabit
// takes seconds.
const maxRSABits = 8192

// ClientCAs is the bundle of authorities that agents' certificates are checked
// against, read again when its file changes. Connections that exist are not
// touched. Safe for concurrent use.
type ClientCAs struct {
	reloaded[*x509.CertPool]
}

// LoadClientCAs reads a PEM file of one or more CA certificates. The file may
// hold text between them and nothing else: what would be passed over in
// silence, as a half of a certificate, a host's own certificate, a key or a
// revocation list, is an error.
func LoadClientCAs(file string, log *slog.Logger) (*ClientCAs, error) {
	c := new(ClientCAs)
	read := func() (*x509.CertPool, error) {
		b, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, err
		}
		pool, err := bundle(b)
		if err != nil {
			return nil, fmt.Errorf("%s %w", file, err)
		}
		return pool, nil
	}
	if err := c.load("client CAs", log, read, file); err != nil {
		return nil, err
	}
	return c, nil
}

// bundle reads CA certificates; its errors continue the name of the file.
func bundle(b []byte) (*x509.CertPool, error) {
	pool, blocks := x509.NewCertPool(), 0
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s; it must hold CA certificates only", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a broken certificate, its number %d: %w", blocks, err)
		}
		// Roots of version 1, from before there were constraints, say nothing.
		if cert.Version >= 3 && !cert.IsCA {
			return nil, fmt.Errorf("holds the certificate of %s, which is not a CA; it must hold CA certificates only", cert.Subject)
		}
		pool.AddCert(cert)
	}
	if begun := bytes.Count(b, []byte("-----BEGIN ")); begun != blocks {
		return nil, fmt.Errorf("is broken: of %d PEM blocks %d are whole", begun, blocks)
	}
	if blocks == 0 {
		return nil, errors.New("holds no certificate in PEM form")
	}
	return pool, nil
}

// Pool returns the authorities. It must not be changed; it is another one after
// each reload.
func (c *ClientCAs) Pool() *x509.CertPool { return *c.value() }

// Verify checks a certificate and the intermediates that came with it, the leaf
// first, as a TLS listener of ours does, and describes it. An empty chain or
// one that is not good is Unauthenticated. Revocation is not looked at.
func (c *ClientCAs) Verify(chain []*x509.Certificate, now time.Time) (node.Certificate, error) {
	if len(chain) == 0 {
		return node.Certificate{}, errs.New(errs.Unauthenticated, "there is no client certificate; give the agent one with tls_client_cert and tls_client_key")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
			return node.Certificate{}, errs.New(errs.Unauthenticated, "the client certificate comes with an RSA key of %d bits; at most %d are taken", key.N.BitLen(), maxRSABits)
		}
		intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: c.Pool(), Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return node.Certificate{}, errs.Wrap(errs.Unauthenticated, err, "the client certificate is not accepted; give the agent one that a CA of this server signed for clients")
	}
	return Describe(chain[0]), nil
}

// Describe returns what is known of an agent by its certificate, which must
// have been verified.
func Describe(leaf *x509.Certificate) node.Certificate {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	d := node.Certificate{Fingerprint: hex.EncodeToString(sum[:]), Names: altNames(leaf)}
	if len(d.Names) == 0 && leaf.Subject.CommonName != "" {
		d.Names = []string{leaf.Subject.CommonName}
	}
	return d
}

func altNames(cert *x509.Certificate) []string {
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	return names
}

// ServerConfigFor is ServerConfig for a listener that asks for certificates of
// the given authorities, as they are at each handshake. They may be nil if auth
// is off. A word that is none of the three is an error.
func (c *Certificate) ServerConfigFor(clients *ClientCAs, auth ClientAuth) (*tls.Config, error) {
	base := c.ServerConfig()
	switch auth {
	case ClientAuthOff:
		return base, nil
	case ClientAuthOptional:
		base.ClientAuth = tls.VerifyClientCertIfGiven
	case ClientAuthRequired:
		base.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, errs.Field("client_auth", "%q is not known; use %s, %s or %s", string(auth), ClientAuthOff, ClientAuthOptional, ClientAuthRequired)
	}
	if clients == nil {
		return nil, errs.Field("client_auth", "%s needs CA certificates to check agents against", auth)
	}
	base.ClientCAs = clients.Pool()
	var current atomic.Pointer[tls.Config]
	current.Store(base)
	outer := base.Clone()
	// The config of a handshake is made when the authorities change and shared
	// until they do again: this runs once per request of every agent.
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		config, pool := current.Load(), clients.Pool()
		if config.ClientCAs != pool {
			config = config.Clone()
			config.ClientCAs = pool
			current.Store(config)
		}
		return config, nil
	}
	return outer, nil
}
