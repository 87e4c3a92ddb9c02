package osquery

import (
	"encoding/json"
)

// The two values of log_type. Snapshot lines travel as results.
const (
	LogTypeResult = "result"
	LogTypeStatus = "status"
)

// LogRequest is the body of POST log as an agent makes it. The server decodes
// it in package event, straight into events.
type LogRequest struct {
	Data    []json.RawMessage `json:"data"`
	LogType string            `json:"log_type"`
	NodeKey string            `json:"node_key"`
}

// Encode returns the body that osquery sends. Compressed bodies have node_key
// and log_type first, plain ones last (seen on the wire).
func (r LogRequest) Encode(compressed bool) ([]byte, error) {
	if r.Data == nil {
		r.Data = []json.RawMessage{}
	}
	if compressed {
		return encode(struct {
			NodeKey string            `json:"node_key"`
			LogType string            `json:"log_type"`
			Data    []json.RawMessage `json:"data"`
		}{r.NodeKey, r.LogType, r.Data})
	}
	return encode(r)
}

// StatusLine is one line of the agent's own log.
type StatusLine struct {
	HostIdentifier string            `json:"hostIdentifier"`
	CalendarTime   string            `json:"calendarTime"`
	UnixTime       int64             `json:"unixTime"`
	Severity       int               `json:"severity"` // 0 info, 1 warning, 2 error, 3 fatal
	Filename       string            `json:"filename"`
	Line           int               `json:"line"`
	Message        string            `json:"message"`
	Version        string            `json:"version"`
	Decorations    map[string]string `json:"decorations,omitempty"`
}

// Encode returns the line as osquery writes it.
func (l StatusLine) Encode() ([]byte, error) { return encode(l) }
