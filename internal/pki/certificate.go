package pki

import (
	"crypto/tls"
	"fmt"
	"log/slog"
)

// Certificate is a server certificate that is read again when its files change.
// Connections that exist are not touched. Safe for concurrent use.
type Certificate struct {
	reloaded[tls.Certificate]
}

// LoadCertificate reads a chain and its key from PEM files.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := new(Certificate)
	read := func() (tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return pair, fmt.Errorf("%s with key %s: %w", certFile, keyFile, err)
		}
		return pair, nil
	}
	if err := c.load("certificate", log, read, certFile, keyFile); err != nil {
		return nil, err
	}
	return c, nil
}

// Get returns the certificate for a handshake; see tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.value(), nil }

// ServerConfig returns how a listener of ours speaks TLS: 1.2 with AEAD suites
// and 1.3, HTTP/1.1 inside, and no client certificates. Session tickets are off: agents never
// resume, and minting tickets costs every handshake. Key exchanges are Go's
// own, which begin with the post-quantum X25519MLKEM768. A Go server never
// renegotiates.
func (c *Certificate) ServerConfig() *tls.Config {
	return &tls.Config{
		GetCertificate:         c.Get,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"}, // here, as net/http would add it to the outer config of ServerConfigFor only
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}
