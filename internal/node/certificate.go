package node

import (
	"slices"
	"strings"
)

// Certificate is what is known of an agent's certificate after it was
// verified. The zero value is none.
type Certificate struct {
	// Fingerprint is the SHA-256 of its public key (SubjectPublicKeyInfo), in
	// hex, so that a renewed certificate of the same key is the same.
	Fingerprint string
	// Names are its DNS names, addresses, e-mail addresses and URIs, or without
	// any of these its common name.
	Names []string
}

// IsZero reports whether there is no certificate.
func (c Certificate) IsZero() bool { return c.Fingerprint == "" }

// For reports whether the certificate was made for a host identifier.
func (c Certificate) For(hostIdentifier string) bool {
	return hostIdentifier != "" && slices.ContainsFunc(c.Names, func(n string) bool { return strings.EqualFold(n, hostIdentifier) })
}
