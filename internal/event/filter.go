package event

import (
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Filter says which events are wanted. Zero fields do not restrict. It is the one
// form in which the UI, the API and the command line ask.
type Filter struct {
	Query  string // exact name, or a prefix when it ends with *
	NodeID string
	// Nodes are the ids of the nodes that are meant; nil for all, empty for none.
	Nodes []string
	// Readable reports whether events of a query may be found at all; nil for all.
	Readable func(query string) bool
	Action   string
	Since    time.Time // inclusive, by Event.Time
	Until    time.Time // exclusive
	Where    *Expr
	// Limit is the most events returned; the newest come first.
	Limit int
	// Oldest makes the oldest come first.
	Oldest bool
	// Before continues a search: only events that come after this position.
	Before Position
	// MaxTime is how long it may take; 0 for as long as it takes. What was not
	// reached by then is left out, and the answer says so.
	MaxTime time.Duration
}

// Progress is how much of the segments that may have what is wanted was read.
type Progress struct {
	Done, Total int
	// Cut says that a limit of time or memory was reached before the end.
	Cut bool
}

// Page is what a search found. There is nothing missing between its records.
type Page struct {
	Records []Record
	// Next continues the search as Filter.Before. It is zero at the end; a page
	// that was cut has one even if it is empty.
	Next Position
	Progress
}

// Position is where a page of a search ended: by time, then by place in the
// stream. The zero value is before everything.
type Position struct {
	Time  time.Time
	Seq   uint64
	Index uint32
}

// IsZero reports whether p is the start of a search.
func (p Position) IsZero() bool { return p == Position{} }

// String returns the form that ParsePosition reads, for use as a cursor.
func (p Position) String() string {
	return fmt.Sprintf("%d-%d-%d", p.Time.UnixMicro(), p.Seq, p.Index)
}

// ParsePosition reads what String wrote; "" is the zero position.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	var micros int64
	var p Position
	if n, err := fmt.Sscanf(s, "%d-%d-%d", &micros, &p.Seq, &p.Index); n != 3 || err != nil {
		return Position{}, errs.Field("cursor", "is not one that a search returned")
	}
	p.Time = time.UnixMicro(micros).UTC()
	if p.String() != s {
		return Position{}, errs.Field("cursor", "is not one that a search returned")
	}
	return p, nil
}

// Position returns where the record stands in a search.
func (r Record) Position() Position {
	return Position{Time: r.Time, Seq: r.Seq, Index: r.Index}
}

// After reports whether p comes after q in a search, which is newest first.
func (p Position) After(q Position) bool {
	if !p.Time.Equal(q.Time) {
		return p.Time.Before(q.Time)
	}
	if p.Seq != q.Seq {
		return p.Seq < q.Seq
	}
	return p.Index < q.Index
}

// Summary sums up the events of one query.
type Summary struct {
	Query string
	Count int64
	Last  time.Time
}

// Bucket counts events that began within a span of time.
type Bucket struct {
	Start time.Time
	Count int64
}

// Counting says how events are to be counted.
type Counting struct {
	Filter // Limit is of groups; Before and Oldest do not count

	// By are the columns or stamps whose values make the groups; none for one group
	// of all.
	By []string
	// Width is of the buckets in which each group is counted by time; 0 for none.
	Width time.Duration
	// Nodes asks for the number of distinct nodes, which takes more time.
	Nodes bool
}

// Groups is what was counted, the largest group first.
type Groups struct {
	Groups []Group
	// Others is about the events in groups beyond the limit, or beyond what memory
	// allows, together.
	Others Group
	// OtherGroups is how many those groups are. If groups were not kept apart for
	// want of memory, they count as one, and Cut says so.
	OtherGroups int
	Events      int64
	Nodes       int // distinct ones, if asked for
	Progress
}

// Group is the events that have the same values.
type Group struct {
	Values  []Value // as Counting.By
	Events  int64
	Nodes   int       // distinct ones, if asked for
	Last    time.Time // of the newest event
	Buckets []Bucket  // those with events, ascending, if asked for
}

// Value is a column's value; Absent of events that do not have the column.
type Value struct {
	Text   string
	Absent bool
}

// State is what the nodes' last results of a query are, row by row.
type State struct {
	// Rows are ordered by node and, of one node, by arrival.
	Rows []StateRow
	// Nodes is how many nodes have rows in State, of those known to have run it.
	Nodes, Known int
	// Next is the node id after which the state goes on, "" at its end.
	Next string
	Progress
}

// StateRow is a row that a node has now.
type StateRow struct {
	Record // the event that said so first
	// Partial says that what the node said first is not kept anymore, so that rows
	// of it may be missing.
	Partial bool
}

// Stats is what a search engine holds.
type Stats struct {
	Events   int64
	Bytes    int64 // on disk
	Segments int
	Oldest   time.Time // by arrival; zero when there is nothing
	// Lost is how many segments are out of service because their files are damaged
	// or missing, and LostEvents the events in them.
	Lost       int
	LostEvents int64
}

// QueryStats is what a search engine holds of one query on disk and in memory.
type QueryStats struct {
	Query          string
	Events, Bytes  int64
	Segments       int
	Oldest, Newest time.Time // by arrival
}

// Step rounds the width of a bucket up to one that people read easily.
func Step(d time.Duration) time.Duration {
	for _, s := range []time.Duration{
		time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if d <= s {
			return s
		}
	}
	return d.Truncate(24*time.Hour) + 24*time.Hour
}
