package resource

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // osquery's config_hash is SHA-1; nothing relies on it for safety
	"crypto/sha256"
	"encoding/hex"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/errs"
)

// maxConfig is the largest config that osquery up to 5.23.1 takes; over it an
// agent drops its schedule.
const maxConfig = 1 << 20

// Config is a rendered config. Do not write to its bodies.
type Config struct {
	// JSON is the body to serve, compact, with sorted keys.
	JSON []byte
	// Tagged is JSON with a top-level "etag" besides, for agents that send one;
	// ETag is its value, and an agent that sends it has this config.
	Tagged []byte
	ETag   string
	// JSONGzip and TaggedGzip are the same bodies compressed.
	JSONGzip, TaggedGzip []byte
	// Revision is the number of the revision that it was rendered from.
	Revision int64
	// Hash is what osquery_info.config_hash says on an agent that runs it.
	Hash string
}

// newConfig makes the forms in which a config is served.
func newConfig(revision int64, doc map[string]any) (*Config, error) {
	body, err := encode(doc)
	if err != nil {
		return nil, err
	}
	if len(body) > maxConfig {
		return nil, errs.New(errs.TooLarge, "the config has %d bytes; osquery takes %d and drops its schedule over that", len(body), maxConfig)
	}
	sum := sha256.Sum256(body)
	c := &Config{JSON: body, Revision: revision, Hash: ConfigHash(body), ETag: hex.EncodeToString(sum[:16])}
	c.Tagged = []byte(`{"etag":"` + c.ETag + `"}`)
	if len(body) > len("{}") {
		c.Tagged = append([]byte(`{"etag":"`+c.ETag+`",`), body[1:]...)
	}
	c.JSONGzip, err = compress(c.JSON)
	if err != nil {
		return nil, err
	}
	c.TaggedGzip, err = compress(c.Tagged)
	return c, err
}

func compress(body []byte) ([]byte, error) {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression) // once per config
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(body); err != nil {
		return nil, err
	}
	err = z.Close()
	return buf.Bytes(), err
}

// ConfigHash is what osquery_info.config_hash says of a config that is the only
// source, from a server or a file: the hash of the list of the sources' hashes
// (osquery/config/config.cpp). A file is hashed as it is, so a newline at its end
// counts; what comes over TLS, as osquery writes it back, which is as it came if
// it is compact, and ASCII but for UTF-8 text.
func ConfigHash(body []byte) string {
	source := sha1.Sum(body)                               //nolint:gosec // see the import
	all := sha1.Sum([]byte(hex.EncodeToString(source[:]))) //nolint:gosec // see the import
	return hex.EncodeToString(all[:])
}
