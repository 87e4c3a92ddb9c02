// Package ident makes the random names of things: ids that people may read
// and secrets that nobody may guess.
package ident

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
)

// idBytes gives 80 random bits: among 10 million ids a collision has a
// chance of about 4 in 10^11, and the store refuses one anyway.
const idBytes = 10

// secretBytes gives 256 bits, the strength DESIGN asks of node keys.
const secretBytes = 32

// New returns a new id: 16 lower-case letters and digits.
func New() string {
	b := make([]byte, idBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(b)
}

// Secret returns 256 random bits as 43 characters that are safe in URLs,
// headers, files and JSON.
func Secret() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
