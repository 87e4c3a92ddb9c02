// Package alert is about what people are told: alerts, who is told of them, and
// what became of that.
package alert

import (
	"encoding/json"
	"time"
)

// Firing says that a rule matched, or that what it watches is over.
type Firing struct {
	Rule     string            // name of the rule
	Key      string            // what it is about: equal rule and key are one alert
	Event    string            // the event's place in the stream, as 17-3; "" if it is about none
	Severity string            // info | low | medium | high | critical
	Title    string            // one line, bounded
	Text     string            // bounded
	Labels   map[string]string // for grouping, silences, notifiers' templates

	NodeID, HostIdentifier string // "" if it is about no one node

	Query     string          // event's query
	Columns   json.RawMessage // of the event, or nil
	Notifiers []string        // names; empty: the default ones
	Resolved  bool            // the condition is over

	EventTime, Received, Matched time.Time // for time to alert
}
