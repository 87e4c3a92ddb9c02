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

	"github.com/musterhq/muster/internal/node"
)

//go:embed default.yaml
var defaultYAML []byte

// maxConfig is the largest config that osquery up to 5.23.1 takes; over it an
// agent drops its schedule.
const maxConfig = 1 << 20

// Config is a rendered config.
type Config struct {
	// JSON is the body to serve, compact, with sorted keys. Do not write to it.
	JSON []byte
	// Revision names the resources that it was rendered from.
	Revision string
	// Hash is what osquery_info.config_hash says on an agent that runs it.
	Hash string
}

// Catalog renders configs. Safe for concurrent use.
type Catalog struct{ config *Config }

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
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false) // as osquery writes it, for its hash
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("config for agents: %w", err)
	}
	body := bytes.TrimSpace(buf.Bytes())
	if len(body) > maxConfig {
		return nil, fmt.Errorf("config for agents has %d bytes; osquery takes %d", len(body), maxConfig)
	}
	revision := sha256.Sum256(body)
	return &Catalog{&Config{JSON: body, Revision: "builtin-" + hex.EncodeToString(revision[:4]), Hash: configHash(body)}}, nil
}

// Config returns what a node is to run. It never fails and touches no disk.
func (c *Catalog) Config(*node.Identity) *Config { return c.config }

// configHash is what osquery computes of a config that came over TLS: the hash
// of the list of its sources' hashes, of which there is one. It holds for JSON
// that osquery writes back as it came: compact, and ASCII but for UTF-8 text.
func configHash(body []byte) string {
	source := sha1.Sum(body)                               //nolint:gosec // see the import
	all := sha1.Sum([]byte(hex.EncodeToString(source[:]))) //nolint:gosec // see the import
	return hex.EncodeToString(all[:])
}
