package adminapi

import (
	"encoding/json"
	"time"
)

// Sink is a sink and how it does.
type Sink struct {
	Name        string      `json:"name"`
	Type        string      `json:"type" doc:"file, stdout, syslog, http, splunk_hec, kafka, elasticsearch, opensearch, s3 or nats"`
	Format      string      `json:"format" doc:"muster, osquery or ecs"`
	Required    bool        `json:"required"`
	State       string      `json:"state" enum:"running,failing,paused"`
	Error       string      `json:"error,omitempty" doc:"Why the last attempt failed, while it is failing"`
	FailingAt   *time.Time  `json:"failing_since,omitempty"`
	PausedAt    *time.Time  `json:"paused_at,omitempty"`
	PausedBy    string      `json:"paused_by,omitempty"`
	DeliveredAt *time.Time  `json:"delivered_at,omitempty" doc:"The last time, since the server started"`
	Position    uint64      `json:"position" doc:"The stream's message up to which everything was sent"`
	Sent        int64       `json:"sent" doc:"Events that were delivered, some of them more than once"`
	Lost        int64       `json:"lost_messages" doc:"Messages of the stream, each some events, that were removed before they were sent, as the stream was full"`
	Lag         SinkLag     `json:"lag"`
	Dead        SinkDead    `json:"dead"`
	Replay      *SinkReplay `json:"replay,omitempty" doc:"What is being sent again"`
}

// SinkLag is what was not sent yet.
type SinkLag struct {
	Messages uint64     `json:"messages" doc:"Of the stream, each some events"`
	Bytes    uint64     `json:"bytes" doc:"About, in the stream"`
	Oldest   *time.Time `json:"oldest,omitempty" doc:"When the oldest was received"`
	Seconds  float64    `json:"seconds" doc:"Age of the oldest"`
}

// SinkDead is what the other side refused for good.
type SinkDead struct {
	Letters int   `json:"letters"`
	Bytes   int64 `json:"bytes" doc:"At 67108864 the sink stands still"`
}

// SinkReplay is a replay under way.
type SinkReplay struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Done  time.Time `json:"done" doc:"Events before that time were sent"`
	Sent  int64     `json:"sent"`
	By    string    `json:"by"`
}

// SinkReplayInput asks for a replay.
type SinkReplayInput struct {
	Since string `json:"since" maxLength:"64" doc:"RFC 3339, or how long ago, as in 1h or 7d; by the events' time"`
	Until string `json:"until,omitempty" maxLength:"64" doc:"The same; up to what is there if it is left out"`
}

// SinkTested is the outcome of a test that went well.
type SinkTested struct {
	Milliseconds int64 `json:"took_ms"`
}

// SinkLetter is an event that the other side refused for good.
type SinkLetter struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Event  json.RawMessage `json:"event"`
}

// SinkDiscarded says how many dead letters are gone.
type SinkDiscarded struct {
	Letters int `json:"letters"`
}
