package node

import "crypto/sha256"

// KeyHash is the keyed hash under which a node key or enroll secret is kept.
// Whoever reads the database without the server's key can neither use nor
// guess the secret.
type KeyHash [sha256.Size]byte

// Keyer hashes secrets with the server's key. Safe for concurrent use.
type Keyer struct{ inner, outer [sha256.BlockSize]byte }

// NewKeyer returns a Keyer with a key of at least 32 random bytes.
func NewKeyer(key []byte) Keyer {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	var k Keyer
	copy(k.inner[:], key)
	k.outer = k.inner
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

// Hash returns HMAC-SHA-256 of a secret for one purpose, so that a hash made
// for one is of no use for another. Looking a hash up is not a side channel:
// whoever times it learns of hashes that they cannot compute.
//
// It is HMAC by its definition (RFC 2104) over one buffer: every request of an
// agent pays for it, and crypto/hmac costs three times as much and ten
// allocations.
func (k Keyer) Hash(purpose, secret string) KeyHash {
	b := make([]byte, 0, sha256.BlockSize+128) // on the stack for keys as ours
	b = append(b, k.inner[:]...)
	b = append(b, purpose...)
	b = append(b, 0)
	b = append(b, secret...)
	sum := sha256.Sum256(b)
	b = append(append(b[:0], k.outer[:]...), sum[:]...)
	return sha256.Sum256(b)
}

// The purposes.
const (
	PurposeNodeKey      = "node_key"
	PurposeEnrollSecret = "enroll_secret"
	PurposeSession      = "session"
	PurposeToken        = "token"
	PurposeFactor       = "factor" // the key of seeds of authenticators
	PurposeRecovery     = "recovery_code"
	PurposeInvitation   = "invitation"
	PurposeSignOn       = "sign_on"   // the key of what browsers keep while at a provider
	PurposeRedaction    = "redaction" // of secrets in what agents send; see redact.Redactor
	PurposeLine         = "line"      // of log lines; see agentapi.Redactor

	PurposeTransparency = "transparency" // of links for owners; see transparency.Signer
)
