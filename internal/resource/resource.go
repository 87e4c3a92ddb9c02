// Package resource says what agents run. For now that is one document that
// comes with the program; it becomes versioned resources with changes and
// rollouts. A node's config is rendered once per distinct result and kept as
// bytes, so that serving one costs nothing.
package resource

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // osquery's config_hash is SHA-1; nothing relies on it for safety
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/node"
)

//go:embed default.yaml
var defaultYAML []byte

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
	// Revision names the resources that it was rendered from.
	Revision string
	// Hash is what osquery_info.config_hash says on an agent that runs it.
	Hash string
}

// Catalog renders configs. Safe for concurrent use.
type Catalog struct{ config, quarantine *Config }

// document is the form of the YAML file. Its top-level keys are osquery's own.
// Fields are in the order of their keys, so that the JSON is.
type document struct {
	Decorators map[string]any  `yaml:"decorators" json:"decorators,omitempty"`
	Options    map[string]any  `yaml:"options" json:"options,omitempty"`
	Packs      map[string]pack `yaml:"packs" json:"packs,omitempty"`
}

type pack struct {
	Platform string           `yaml:"platform" json:"platform,omitempty"`
	Queries  map[string]query `yaml:"queries" json:"queries"`
}

// query has the keys of osquery's schedule (osquery/config/packs.cpp). The
// description is for people and is not sent.
type query struct {
	Interval        int    `yaml:"interval" json:"interval"`
	Platform        string `yaml:"platform" json:"platform,omitempty"`
	Query           string `yaml:"query" json:"query"`
	Snapshot        bool   `yaml:"snapshot" json:"snapshot,omitempty"`
	StartupPriority int    `yaml:"startup_priority" json:"startup_priority,omitempty"`
	Version         string `yaml:"version" json:"version,omitempty"`
	Description     string `yaml:"description" json:"-"`
}

// Default returns the catalog that comes with the program.
func Default() (*Catalog, error) { return Parse(defaultYAML) }

// Parse reads a document in the form of default.yaml; unknown keys are errors.
func Parse(b []byte) (*Catalog, error) {
	var d document
	if err := yaml.UnmarshalWithOptions(b, &d, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("config for agents: %w", err)
	}
	config, err := render(d)
	if err != nil {
		return nil, fmt.Errorf("config for agents: %w", err)
	}
	// A node under quarantine keeps the settings by which it talks to the
	// server, and runs nothing.
	d.Decorators, d.Packs = nil, map[string]pack{}
	quarantine, err := render(d)
	if err != nil {
		return nil, fmt.Errorf("config for agents: %w", err)
	}
	return &Catalog{config, quarantine}, nil
}

func render(d document) (*Config, error) {
	body, err := encode(d)
	if err != nil {
		return nil, err
	}
	if len(body) > maxConfig {
		return nil, fmt.Errorf("it has %d bytes; osquery takes %d", len(body), maxConfig)
	}
	sum := sha256.Sum256(body)
	c := &Config{JSON: body, Revision: "builtin-" + hex.EncodeToString(sum[:4]), Hash: configHash(body), ETag: hex.EncodeToString(sum[:16])}
	c.Tagged = append([]byte(`{"etag":"`+c.ETag+`",`), body[1:]...) // the body is an object with members
	c.JSONGzip, err = compress(c.JSON)
	if err != nil {
		return nil, err
	}
	c.TaggedGzip, err = compress(c.Tagged)
	return c, err
}

func encode(d document) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false) // as osquery writes it, for its hash
	err := e.Encode(d)
	return bytes.TrimSpace(buf.Bytes()), err
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

// Config returns what a node is to run. It never fails and touches no disk.
func (c *Catalog) Config(n *node.Identity) *Config {
	if n.Quarantined {
		return c.quarantine
	}
	return c.config
}

// configHash is what osquery computes of a config that came over TLS: the hash
// of the list of its sources' hashes, of which there is one. It holds for JSON
// that osquery writes back as it came: compact, and ASCII but for UTF-8 text.
func configHash(body []byte) string {
	source := sha1.Sum(body)                               //nolint:gosec // see the import
	all := sha1.Sum([]byte(hex.EncodeToString(source[:]))) //nolint:gosec // see the import
	return hex.EncodeToString(all[:])
}
