package adminapi

import (
	"encoding/json"
	"time"
)

// TriggerStatus is a trigger and how it does.
type TriggerStatus struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	HasToken    bool           `json:"has_token"`
	TokenSince  *time.Time     `json:"token_since,omitempty"`
	Fired       int            `json:"fired" doc:"Queries that it started within 30 days"`
	Answered    int            `json:"answered"`
	LastFiredAt *time.Time     `json:"last_fired_at,omitempty"`
	Latency     TriggerLatency `json:"latency" doc:"From when the payload was received"`
}

// TriggerLatency is in milliseconds; 0 where nothing was.
type TriggerLatency struct {
	DeliveredP50 int64 `json:"delivered_p50_ms"`
	DeliveredP99 int64 `json:"delivered_p99_ms"`
	AnsweredP50  int64 `json:"answered_p50_ms"`
	AnsweredP99  int64 `json:"answered_p99_ms"`
}

// TriggerToken is a new token; no other answer shows it.
type TriggerToken struct {
	Token string `json:"token"`
	URL   string `json:"url" doc:"Path to POST payloads to, with the token as Authorization: Bearer or X-Muster-Token"`
}

// FireInput is a payload, from a person who tries a trigger.
type FireInput struct {
	Payload json.RawMessage `json:"payload" doc:"What would be sent to the trigger's path"`
}

// Fired is what became of a payload.
type Fired struct {
	LiveID    string `json:"live_id"`
	NodeID    string `json:"node_id"`
	Duplicate bool   `json:"duplicate" doc:"The same started live_id before; nothing was started now"`
}

// EnrollmentStatus is an EnrollmentQuery and how it does.
type EnrollmentStatus struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Selector    string         `json:"selector"`
	SQL         string         `json:"sql"`
	LiveID      string         `json:"live_id"`
	Asked       int            `json:"asked" doc:"Nodes, at their last enrolment"`
	Answered    int            `json:"answered" doc:"With or without rows"`
	Waiting     int            `json:"waiting"`
	Failed      int            `json:"failed"`
	Expired     int            `json:"expired"`
	Latency     TriggerLatency `json:"latency" doc:"From the enrolment"`
}

// LiveBound is how soon a group of nodes is asked and answers.
type LiveBound struct {
	Group      string       `json:"group" doc:"A selector: all, platform = linux, tag = web"`
	Nodes      int          `json:"nodes"`
	Mute       int          `json:"mute" doc:"Nodes of it whose config turns live queries off"`
	Poll       float64      `json:"poll_seconds_max" doc:"Longest interval between two polls, as served configs say"`
	Guaranteed float64      `json:"guaranteed_seconds" doc:"Until an idle node that is online has a question, at most"`
	Observed   LiveObserved `json:"observed" doc:"Answers to triggers and enrollment queries within 30 days"`
}

// LiveObserved is how long answers took, from the trigger or enrolment.
type LiveObserved struct {
	Answered int   `json:"answered"`
	P50      int64 `json:"p50_ms"`
	P99      int64 `json:"p99_ms"`
}
