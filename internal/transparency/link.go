// Package transparency is what the owner of a machine may see of its node: what is
// collected, what was asked and fetched, what changed, and what becomes of it. A
// signed link leads there, and nothing but that node is behind it. The package
// knows links and how the page is written; what stands there is gathered by who
// has it.
package transparency

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// How long links are good for.
const (
	DefaultTTL = 30 * 24 * time.Hour
	MinTTL     = time.Minute
	MaxTTL     = 366 * 24 * time.Hour
)

// Link is what a token says.
type Link struct {
	NodeID  string
	Expires time.Time // in whole seconds
	// Epoch is the node's when the link was made. All links of earlier epochs are
	// revoked.
	Epoch int64
}

// A token is base64url of: version, expiry and epoch, the node's id, and their MAC.
const (
	version  = 1
	fixed    = 1 + 8 + 8
	maxID    = 255
	maxToken = (fixed+maxID+sha256.Size)*4/3 + 1
)

// Signer makes and reads tokens. Safe for concurrent use.
type Signer struct{ keyer node.Keyer }

// NewSigner returns a Signer whose key follows from the server's.
func NewSigner(k node.Keyer) Signer { return Signer{k} }

// Token returns the token of a link, which is safe in URLs.
func (s Signer) Token(l Link) string {
	b := make([]byte, 0, fixed+len(l.NodeID)+sha256.Size)
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(l.Expires.Unix())) //nolint:gosec // read back as it was
	b = binary.BigEndian.AppendUint64(b, uint64(l.Epoch))          //nolint:gosec // likewise
	b = append(b, l.NodeID...)
	sum := s.keyer.Hash(node.PurposeTransparency, string(b))
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:]...))
}

// Read returns the link of a token; not ok if this server did not make it, or if
// it is over. Whether its epoch is still the node's is for the caller to see.
func (s Signer) Read(token string, now time.Time) (l Link, ok bool) {
	if len(token) > maxToken {
		return Link{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) <= fixed+sha256.Size || b[0] != version {
		return Link{}, false
	}
	body, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if sum := s.keyer.Hash(node.PurposeTransparency, string(body)); !hmac.Equal(sum[:], mac) {
		return Link{}, false
	}
	l = Link{
		Expires: time.Unix(int64(binary.BigEndian.Uint64(body[1:])), 0).UTC(), //nolint:gosec // as Token wrote it
		Epoch:   int64(binary.BigEndian.Uint64(body[9:])),                     //nolint:gosec // likewise
		NodeID:  string(body[fixed:]),
	}
	// The decoder passes over line feeds and unused bits: a link has one spelling.
	if base64.RawURLEncoding.EncodeToString(b) != token || !now.Before(l.Expires) {
		return Link{}, false
	}
	return l, true
}
