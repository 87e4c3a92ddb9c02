package pki

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is a certificate that is read again when its files change.
// Connections that exist are not touched. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	current           atomic.Pointer[loaded]
}

type loaded struct {
	pair    tls.Certificate
	changed [2]time.Time
}

// LoadCertificate reads a chain and its key from PEM files.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	return c, c.Reload()
}

// Reload reads the files now. After an error the certificate before stays in
// use.
func (c *Certificate) Reload() error {
	changed, err := c.changes()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.current.Store(&loaded{pair, changed})
	return nil
}

func (c *Certificate) changes() (changed [2]time.Time, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return changed, err
		}
		changed[i] = info.ModTime()
	}
	return changed, nil
}

// checkEvery is how often files are looked at for changes.
const checkEvery = 2 * time.Second

// Run reads the files again when they change, until ctx ends. Files that do not
// fit together, as while one of both is being replaced, are tried again.
func (c *Certificate) Run(ctx context.Context) error {
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		changed, err := c.changes()
		if err == nil && changed == c.current.Load().changed {
			continue
		}
		if err == nil {
			err = c.Reload()
		}
		if err != nil {
			c.log.WarnContext(ctx, "the changed certificate cannot be used; the one before stays", "error", err)
			continue
		}
		c.log.InfoContext(ctx, "certificate reloaded", "file", c.certFile)
	}
}

// Get returns the certificate for a handshake; see tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.current.Load().pair, nil
}

// ServerConfig returns how a listener of ours speaks TLS: 1.2 with AEAD suites
// and 1.3. Session tickets are off: agents never resume, and minting tickets
// costs every handshake.
func (c *Certificate) ServerConfig() *tls.Config {
	return &tls.Config{
		GetCertificate:         c.Get,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}
