// Package event is about one record that a node logged: how it is read from
// what agents send, how it travels in the stream, and how people ask for it.
// It knows nothing of HTTP, files or the engines that keep events.
package event

import (
	"bytes"
	"encoding/json"
	"time"
)

// The actions of an event, as osquery names them; Status is ours, for lines of
// the agent's own log.
const (
	Added    = "added"
	Removed  = "removed"
	Snapshot = "snapshot"
	Status   = "status"
)

// StatusQuery is the query name under which status lines are found. osquery
// cannot have a query of that name, since a colon breaks its denylist.
const StatusQuery = "osquery:status"

// LiveLog is the log type of batches that hold answers to live queries, which
// are never repeated: the server makes them.
const LiveLog = "live"

// ServerLog is the log type of batches that the server makes of what it finds
// out itself; ServerPrefix is that of their query names, which what an
// agent logs never has. FindingQuery is the name of those about how nodes fare:
// an added row when a finding opens, a removed one when it closes.
const (
	ServerLog    = "server"
	ServerPrefix = "muster:"
	FindingQuery = ServerPrefix + "health"
)

// Event is one row that a node logged, or one line of its own log.
type Event struct {
	// Time is when it happened by the node's clock, or when it was received if
	// that clock cannot be right.
	Time time.Time
	// AgentTime is what the node's clock said, in seconds since 1970, if Time is
	// another: a clock that cannot be right. 0 if Time is what it said.
	AgentTime int64
	Query     string // scheduled name, as pack_<pack>_<query>; StatusQuery for status lines
	// Action is Added, Removed, Snapshot or Status.
	Action  string
	Epoch   int64
	Counter int64
	// Columns is the row: a JSON object whose values are all strings. A
	// snapshot without rows is one event with the object {}. A status line has
	// severity, filename, line, message and version.
	Columns json.RawMessage
	// Decorations is a JSON object of strings, or nil.
	Decorations json.RawMessage
	// Line identifies the log line by its content: the rows of one snapshot
	// or batch line share it. A line that an agent sends again has it again.
	Line uint64
	// Continues says that this is a further row of the line of the event
	// before. Two equal lines are two lines.
	Continues bool
}

// Quarantined is the mark of events that a node under quarantine logged.
const Quarantined = "muster_quarantined"

// Mark returns decorations, a JSON object of strings or nil, with a mark that
// only the server sets: what the agent said under that name is behind it, and
// of two members of one name the first counts.
func Mark(decorations json.RawMessage, mark string) json.RawMessage {
	marked := append([]byte(`{"`+mark+`":"true"`), '}')
	if rest := bytes.TrimSpace(bytes.TrimPrefix(decorations, []byte("{"))); len(rest) > 1 {
		marked = append(append(marked[:len(marked)-1], ','), rest...)
	}
	return marked
}

// Batch is what one log request held, stamped. It is the unit in the stream.
type Batch struct {
	NodeID         string
	HostIdentifier string
	Received       time.Time
	Tags           []string // of the node at that time
	// Revision is the number of the revision whose config the node was served
	// last, 0 if it asked for none since the server started.
	Revision int64
	LogType  string // osquery.LogTypeResult, LogTypeStatus, LiveLog or ServerLog
	// Joins says that the agent will send these lines again together with those
	// of its batch before, if it sends any again: they were one request, or the
	// request repeated lines that were stored before. See Seen.
	Joins  bool
	Events []Event
}

// Record is an event as it is kept, with the stamps of its batch.
type Record struct {
	Event
	NodeID         string
	HostIdentifier string
	Received       time.Time
	Tags           []string // of the node when it was received
	Revision       int64    // that it was served then, 0 if not known
	// Seq and Index say where it stood in the stream: the message's sequence
	// and the event's number within the message. Together they are unique, never
	// change, and order events by arrival.
	Seq   uint64
	Index uint32
}
