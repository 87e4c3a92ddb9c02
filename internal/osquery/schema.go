package osquery

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

//go:embed schema.json
var schemaJSON []byte

// SchemaColumn is one column of a table.
type SchemaColumn struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"` // TEXT, INTEGER, BIGINT, UNSIGNED_BIGINT, DOUBLE
	Description string   `json:"description"`
	Required    bool     `json:"required,omitempty"` // a query must constrain one of the required columns
	Index       bool     `json:"index,omitempty"`
	Additional  bool     `json:"additional,omitempty"`
	Optimized   bool     `json:"optimized,omitempty"`
	Hidden      bool     `json:"hidden,omitempty"` // not in SELECT *
	Collate     string   `json:"collate,omitempty"`
	Platforms   []string `json:"platforms,omitempty"` // where it is not hidden and empty; none means all
	Aliases     []string `json:"aliases,omitempty"`
}

// SchemaTable is one table of osquery.
type SchemaTable struct {
	Name        string         `json:"name"`
	Platforms   []string       `json:"platforms"` // darwin, linux, windows
	Description string         `json:"description"`
	Evented     bool           `json:"evented,omitempty"`
	Cacheable   bool           `json:"cacheable,omitempty"`
	UserData    bool           `json:"user_data,omitempty"`
	Utility     bool           `json:"utility,omitempty"`
	Aliases     []string       `json:"aliases,omitempty"`
	Examples    []string       `json:"examples,omitempty"`
	Columns     []SchemaColumn `json:"columns"`
}

// SchemaJSON returns all 284 tables as a JSON array of SchemaTable, sorted by
// name: the form that the UI takes, without parsing it here. Do not write to
// it.
func SchemaJSON() []byte { return schemaJSON }

// LoadSchema parses the schema. It costs about a megabyte; keep the result.
func LoadSchema() ([]SchemaTable, error) {
	var tables []SchemaTable
	if err := json.Unmarshal(schemaJSON, &tables); err != nil {
		return nil, fmt.Errorf("embedded osquery schema: %w", err)
	}
	return tables, nil
}

// On reports whether the table exists on a platform.
func (t SchemaTable) On(platform string) bool { return slices.Contains(t.Platforms, platform) }

// On reports whether the column is a visible one on a platform.
func (c SchemaColumn) On(platform string) bool {
	return len(c.Platforms) == 0 || slices.Contains(c.Platforms, platform)
}
