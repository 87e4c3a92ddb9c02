// Package alert is about what people are told: alerts that rules open, what
// becomes of them, silences, and the notifications that leave until they arrived.
// It decides; the store keeps, and a Sender speaks to the world.
//
// One alert is open for a rule and a key, however often they fire. It goes from
// open to acknowledged to resolved, and is opened again when it fires soon after.
// What notifiers are to be told is kept in the same transaction as the change of
// the alert, and is told at least once.
package alert

import (
	"encoding/json"
	"time"
)

// State is where an alert stands.
type State string

// The states.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged" // somebody is on it
	Resolved     State = "resolved"
)

// Alert is what a rule opened.
type Alert struct {
	ID             string
	Rule           string
	Key            string
	State          State
	Severity       Severity // of the newest firing; what it rises by is told again
	Title          string
	Text           string
	Labels         map[string]string
	NodeID         string
	HostIdentifier string
	Query          string
	Notifiers      []string // empty: the default ones
	Count          int64    // firings
	Episodes       int      // how often it was opened
	Entries        int      // of its history
	Current        bool     // false when a later alert took over its rule and key

	FirstAt        time.Time // of the first firing
	OpenedAt       time.Time // of this episode
	LastAt         time.Time // of the newest firing
	ResolvedAt     time.Time // zero unless it is resolved
	ResolveAt      time.Time // when it resolves by itself; zero for never
	AcknowledgedBy string
	AcknowledgedAt time.Time
	ResolvedBy     string // "rule" for what ended by itself
	Assignee       string

	// Event and EventAt are the mark of the newest firing that was counted.
	Event   string
	EventAt time.Time
}

// Sample is one of an alert's newest firings.
type Sample struct {
	Number    int64 // which firing of the alert it is, from 1
	At        time.Time
	Event     string
	EventTime time.Time
	Title     string
	Columns   json.RawMessage // nil if there are none, or too many
}

// MaxSamples of an alert are kept, the newest.
const MaxSamples = 5

// Action is what happened to an alert.
type Action string

// The actions. Reminded is told to notifiers alone.
const (
	Opened    Action = "opened"
	Reopened  Action = "reopened"
	Escalated Action = "escalated" // its severity rose
	Acked     Action = "acknowledged"
	Ended     Action = "resolved"
	Assigned  Action = "assigned"
	Commented Action = "commented"
	Reminded  Action = "reminded"
)

// Rings reports whether an action says that something is wrong now.
func (a Action) Rings() bool {
	return a == Opened || a == Reopened || a == Escalated || a == Reminded
}

// Entry is one line of an alert's history.
type Entry struct {
	Seq     int64 // ordered over all alerts
	AlertID string
	At      time.Time
	Actor   string // a person, or "rule"
	Action  Action
	Detail  string
}

// ByRule is the actor of what no person did.
const ByRule = "rule"

// Bounds of an alert's history: of what happens by itself, and with what people
// write.
const (
	maxOwnEntries = 500
	maxEntries    = 1000
)

// Filter says which alerts are listed; what is empty lets all pass.
type Filter struct {
	State       State
	Unresolved  bool // open or acknowledged
	Rule        string
	NodeID      string
	Nodes       []string // ids of nodes that it must be about one of; nil for any alert
	Assignee    string
	MinSeverity Severity
	Text        string // part of title, host identifier or key
	Limit       int
	Cursor      string
}

// Counts are of alerts that are not resolved.
type Counts struct {
	States map[State]int
	Open   map[Severity]int // of those that nobody acknowledged
}
