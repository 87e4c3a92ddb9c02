package node

import (
	"crypto/hmac"
	"crypto/sha256"
)

// KeyHash is the keyed hash under which a node key or enroll secret is kept.
// Whoever reads the database without the server's key can neither use nor
// guess the secret.
type KeyHash [sha256.Size]byte

// Keyer hashes secrets with the server's key. Safe for concurrent use.
type Keyer struct{ key []byte }

// NewKeyer returns a Keyer with a key of at least 32 random bytes.
func NewKeyer(key []byte) Keyer { return Keyer{key} }

// Hash returns HMAC-SHA-256 of a secret for one purpose, so that a hash made
// for one is of no use for another. Looking a hash up is not a side channel:
// whoever times it learns of hashes that they cannot compute.
func (k Keyer) Hash(purpose, secret string) KeyHash {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write([]byte(secret))
	var sum KeyHash
	h.Sum(sum[:0])
	return sum
}

// The purposes.
const (
	PurposeNodeKey      = "node_key"
	PurposeEnrollSecret = "enroll_secret"
	PurposeSession      = "session"
)
