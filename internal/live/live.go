// Package live is about questions to nodes that are answered within one poll:
// which node still has to be asked, what it answered, and when a question
// ends. Delivery is decided in memory, so that a poll with nothing pending
// costs one look into a map; everything that must survive is in the store.
package live

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

// State is where one node of a live query stands. Each node is in exactly one.
type State string

// The states of a node.
const (
	Waiting    State = "waiting"    // has not polled yet
	Sent       State = "sent"       // took the query, has not answered
	Answered   State = "answered"   // with rows
	Empty      State = "empty"      // with no rows
	Failed     State = "failed"     // with an error
	Denylisted State = "denylisted" // refused: the text killed its worker before
	OverLimit  State = "over_limit" // with more than is kept; the rows are cut
	Expired    State = "expired"    // did not answer in time
	Halted     State = "stopped"    // had not answered when somebody stopped it
)

// open reports whether the node may still answer in time.
func (s State) open() bool { return s == Waiting || s == Sent }

// Phase is where a live query as a whole stands.
type Phase string

// The phases of a live query.
const (
	Running   Phase = "running"
	Done      Phase = "done"    // every node answered
	TimedOut  Phase = "expired" // some did not in time
	StoppedBy Phase = "stopped" // somebody stopped it
)

// Kind is why a live query was asked.
type Kind string

// The kinds of live queries.
const (
	Person     Kind = "person"     // somebody asked
	Enrollment Kind = "enrollment" // of every matching node that enrols
	Trigger    Kind = "trigger"    // something outside, or a rule
	Carve      Kind = "carve"      // so that the node sends files
)

// Query is one live query.
type Query struct {
	ID string
	// Kind is why it was asked; "" at the start of one means Person.
	Kind Kind
	// Source is what asked it: the name of the resource, the id of the carve; ""
	// for a person's.
	Source    string
	SQL       string
	Selector  node.Selector
	Phase     Phase
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
	EndedAt   time.Time     // zero while it runs
	Counts    map[State]int // nodes by state; states of none may be absent
	Rows      int           // received so far
}

// Nodes returns how many nodes the query was for.
func (q Query) Nodes() int {
	n := 0
	for _, c := range q.Counts {
		n += c
	}
	return n
}

// Target is one node of a live query.
type Target struct {
	NodeID         string
	HostIdentifier string // at the time of asking
	Hostname       string // likewise
	State          State
	Attempts       int // how often it took the query
	SentAt         time.Time
	AnsweredAt     time.Time
	// Seq orders answers by arrival, across all live queries; 0 without one.
	Seq     int64
	Message string // the error of a failed node
	Stats   osquery.QueryStats
	Rows    []osquery.Row // only where asked for
}

// Answer is one node's answer to one live query, as it travels in the stream
// and is kept.
type Answer struct {
	LiveID     string             `json:"live_id"`
	NodeID     string             `json:"node_id"`
	State      State              `json:"state"`
	Message    string             `json:"message,omitempty"`
	Stats      osquery.QueryStats `json:"stats"`
	ReceivedAt time.Time          `json:"received_at"`
	Rows       []json.RawMessage  `json:"rows,omitempty"` // objects of strings, columns in order
}

// Limits of one node's answer, so that one query cannot fill the store. What
// is over is cut, and the node is marked.
const (
	MaxRows  = 10_000
	MaxBytes = 8 << 20
	// maxMessage is far above what SQLite says; agents set no limit.
	maxMessage = 4 << 10
)

func cut(message string) string {
	if len(message) > maxMessage {
		return strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	return message
}

// Receive judges what a node answered.
func Receive(nodeID string, a osquery.QueryAnswer, now time.Time) (Answer, error) {
	out := Answer{LiveID: a.ID, NodeID: nodeID, Message: cut(a.Message), Stats: a.Stats, ReceivedAt: now}
	switch {
	case a.Denylisted():
		out.State = Denylisted
	case a.Status != 0:
		out.State = Failed
	case len(a.Rows) == 0:
		out.State = Empty
	default:
		out.State = Answered
	}
	size := 0
	for i, r := range a.Rows {
		plain, err := r.MarshalJSON()
		if err != nil {
			return Answer{}, err
		}
		// As encoding/json writes a RawMessage; else an answer grows up to
		// sixfold on its way into the stream, beyond what that takes.
		var row bytes.Buffer
		json.HTMLEscape(&row, plain)
		if size += row.Len(); i == MaxRows || size > MaxBytes {
			out.State = OverLimit
			break
		}
		out.Rows = append(out.Rows, row.Bytes())
	}
	return out, nil
}

// Size returns about how many bytes the answer takes.
func (a Answer) Size() int {
	const names = 256 // of the fields, with the stats
	n := names + len(a.LiveID) + len(a.NodeID) + len(a.Message)
	for _, r := range a.Rows {
		n += len(r) + 1
	}
	return n
}

// States returns all states, in the order in which people want to see them.
func States() []State {
	return []State{Answered, Empty, OverLimit, Failed, Denylisted, Waiting, Sent, Expired, Halted}
}
