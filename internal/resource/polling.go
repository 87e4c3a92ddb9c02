package resource

import (
	"encoding/json"
	"strconv"
	"time"
)

// Polling is how often an agent asks for live queries.
type Polling struct {
	Every time.Duration
	// Off says that it never does.
	Off bool
}

// defaultPoll is osquery's distributed_interval (osquery/distributed/distributed.cpp).
const defaultPoll = 60 * time.Second

// Polling returns how often a node with this config asks for live queries. What
// the host's own flagfile says, which the server does not know, is osquery's
// default: a config that names the option overrides it.
func (c *Config) Polling() Polling {
	var doc struct {
		Options map[string]any `json:"options"`
	}
	p := Polling{Every: defaultPoll}
	if json.Unmarshal(c.JSON, &doc) != nil {
		return p
	}
	switch v := doc.Options["distributed_interval"].(type) {
	case float64:
		p.Every = time.Duration(v) * time.Second
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			p.Every = time.Duration(n) * time.Second
		}
	}
	if p.Every <= 0 {
		p.Every = defaultPoll
	}
	switch v := doc.Options["disable_distributed"].(type) {
	case bool:
		p.Off = v
	case string:
		p.Off = v == "true" || v == "1"
	}
	return p
}
