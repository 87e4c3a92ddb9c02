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
	options := c.options()
	p := Polling{Every: time.Duration(optionNumber(options["distributed_interval"], 0)) * time.Second}
	if p.Every <= 0 {
		p.Every = defaultPoll
	}
	switch v := options["disable_distributed"].(type) {
	case bool:
		p.Off = v
	case string:
		p.Off = v == "true" || v == "1"
	}
	return p
}

// options returns the config's options; nil if it has none.
func (c *Config) options() map[string]any {
	var doc struct {
		Options map[string]any `json:"options"`
	}
	if json.Unmarshal(c.JSON, &doc) != nil {
		return nil
	}
	return doc.Options
}

// optionNumber reads an option that is a number or a text of one.
func optionNumber(v any, otherwise int) int {
	switch v := v.(type) {
	case float64:
		return int(v)
	case string:
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
	}
	return otherwise
}

// Osquery's defaults (plugins/logger/tls_logger.cpp, osquery/config/config.cpp).
const (
	defaultLogPeriod = 4  // seconds
	defaultSplay     = 10 // percent
)

// Logging is how late a row arrives that a scheduled query finds: the query runs
// every interval, which the agent lengthens by up to Splay percent, and its rows wait
// for the next of the log requests that come every Every.
type Logging struct {
	Every time.Duration
	Splay int
}

// Logging returns how late rows arrive from a node with this config. What the host's
// own flagfile says is osquery's default here, as in Polling.
func (c *Config) Logging() Logging {
	options := c.options()
	l := Logging{Every: time.Duration(optionNumber(options["logger_tls_period"], defaultLogPeriod)) * time.Second, Splay: optionNumber(options["schedule_splay_percent"], defaultSplay)}
	if l.Every <= 0 {
		l.Every = defaultLogPeriod * time.Second
	}
	l.Splay = max(0, min(l.Splay, 100))
	return l
}

// Bound returns the most that passes from a change on a host until its row is
// here, when a query looks for it every interval seconds.
func (l Logging) Bound(interval int) time.Duration {
	return time.Duration(interval)*time.Second*time.Duration(100+l.Splay)/100 + l.Every
}
