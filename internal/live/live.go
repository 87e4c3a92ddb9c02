// Package live is about questions to nodes that are answered within one poll:
// which node still has to be asked, what it answered, and when a question
// ends. Delivery is decided in memory, so that a poll with nothing pending
// costs one look into a map; everything that must survive is in the store.
package live

import (
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
	Pending   Phase = "pending" // waits for a second person; no node gets it
	Running   Phase = "running"
	Done      Phase = "done"       // every node answered, or it stands no longer
	TimedOut  Phase = "expired"    // some did not in time
	StoppedBy Phase = "stopped"    // somebody stopped it
	Rejected  Phase = "rejected"   // the second person did not agree
	Full      Phase = "over_limit" // it gave more than it may in all
)

// Open reports whether the query has not ended.
func (p Phase) Open() bool { return p == Running || p == Pending }

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
	Reason    string // why, in the words of who asked
	Tier      int    // the policy's, of the text
	Phase     Phase
	CreatedBy string
	CreatedAt time.Time
	NotBefore time.Time // no node gets it before; zero for at once
	ExpiresAt time.Time // zero if it stands
	EndedAt   time.Time // zero while it runs
	// Standing says that it has no end of its own, and nodes join it one by one;
	// see Coordinator.Stand.
	Standing bool
	RerunOf  string // the query that it repeats; "" if none
	Approval Approval

	Limits Limits
	Waves  Waves
	// Held says why delivery stands still; "" if it does not.
	Held string

	Counts    map[State]int // nodes by state; states of none may be absent
	Rows      int           // received so far
	Bytes     int64         // of those rows
	Truncated bool          // rows were cut, of one node or in all
}

// heavyTier is the policy's tier from which a text may be felt by a host: two of
// them at once are worse than twice one.
const heavyTier = 2

// Heavy reports whether a node runs it with no other heavy one beside.
func (q Query) Heavy() bool { return q.Tier >= heavyTier }

// Begins returns when nodes may get it for the first time.
func (q Query) Begins() time.Time {
	if at := q.Approval.At; at.After(q.CreatedAt) && at.After(q.NotBefore) {
		return at
	}
	if q.NotBefore.After(q.CreatedAt) {
		return q.NotBefore
	}
	return q.CreatedAt
}

// Nodes returns how many nodes the query was for.
func (q Query) Nodes() int {
	n := 0
	for _, c := range q.Counts {
		n += c
	}
	return n
}

// Approval is the consent of a second person.
type Approval struct {
	Needed bool      `json:"needed,omitempty"`
	By     string    `json:"by,omitempty"` // also who rejected it
	At     time.Time `json:"at,omitzero"`
}

// Waves say how a query reaches many nodes. Zero fields mean the default.
type Waves struct {
	// First is how many nodes may have it unanswered at the beginning. Each good
	// answer makes room for one more.
	First int `json:"first,omitempty"`
	// MaxBadPercent is how many of the nodes that are done with it may have failed
	// before the others are spared.
	MaxBadPercent int `json:"max_bad_percent,omitempty"`
	// Good and Bad are the nodes that were done with it when somebody resumed it;
	// they are not judged again.
	Good int `json:"good,omitempty"`
	Bad  int `json:"bad,omitempty"`
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
	// EnrolledAt and ExpiresAt are of nodes of a standing query: the enrolment
	// that it was asked for, and until when it may take it.
	EnrolledAt time.Time
	ExpiresAt  time.Time
	// Seq orders answers by arrival, across all live queries; 0 without one.
	Seq      int64
	Late     bool   // it answered after its time, or after the query's end
	Cut      bool   // it gave more rows than are kept
	RowCount int    // kept of it
	Message  string // the error of a failed node
	Stats    osquery.QueryStats
	Rows     []osquery.Row // only where asked for
}

// States returns all states, in the order in which people want to see them.
func States() []State {
	return []State{Answered, Empty, OverLimit, Failed, Denylisted, Waiting, Sent, Expired, Halted}
}
