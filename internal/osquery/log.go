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

// EncodeLog returns the body that osquery sends. Lines are JSON and copied as
// they are, bytes that are not UTF-8 included. Compressed bodies have node_key
// and log_type first, plain ones last (seen on the wire).
func EncodeLog[L ~[]byte](nodeKey, logType string, lines []L, compressed bool) []byte {
	size := len(`{"node_key":,"log_type":,"data":[]}`) + len(nodeKey) + len(logType) + 16
	for _, line := range lines {
		size += len(line) + 1
	}
	body := append(make([]byte, 0, size), '{')
	if compressed {
		body = appendMember(body, "node_key", nodeKey)
		body = append(appendMember(append(body, ','), "log_type", logType), ',')
	}
	body = append(body, `"data":[`...)
	for i, line := range lines {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, line...)
	}
	body = append(body, ']')
	if !compressed {
		body = appendMember(append(body, ','), "log_type", logType)
		body = appendMember(append(body, ','), "node_key", nodeKey)
	}
	return append(body, '}')
}

// appendMember appends a member whose value is a text.
func appendMember(dst []byte, name, value string) []byte {
	quoted, _ := encode(value) // cannot fail: a text
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return append(dst, quoted...)
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
