package live

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

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
	Cut        bool               `json:"cut,omitempty"`  // there were more rows

	// Known once it is taken in, not in the stream.
	Late       bool      `json:"-"` // see Target
	EnrolledAt time.Time `json:"-"` // see Target
}

// Bytes returns the bytes of the rows.
func (a Answer) Bytes() int64 {
	n := int64(0)
	for _, r := range a.Rows {
		n += int64(len(r))
	}
	return n
}

// Limits bound what a query may give. Zero fields mean the default, which for
// one node is also the most. What is over is cut, and the node is marked; over
// what the query may give in all, it ends.
type Limits struct {
	RowsPerNode  int   `json:"rows_per_node,omitempty"`
	BytesPerNode int   `json:"bytes_per_node,omitempty"`
	Rows         int   `json:"rows,omitempty"`
	Bytes        int64 `json:"bytes,omitempty"`
}

// The most that is kept, so that one query cannot fill the store.
const (
	MaxRows  = 10_000  // of one node
	MaxBytes = 8 << 20 // of one node
	// DefaultTotalRows and DefaultTotalBytes are what a person still can look
	// through, and a search or export holds; those who need more ask for it.
	DefaultTotalRows  = 1_000_000
	DefaultTotalBytes = 1 << 30
	// MaxTotalRows and MaxTotalBytes are a thousand rows of 10,000 nodes.
	MaxTotalRows  = 10_000_000
	MaxTotalBytes = 8 << 30
	// maxMessage is far above what SQLite says; agents set no limit.
	maxMessage = 4 << 10
)

// orDefaults returns the limits without zero fields or such over the most.
func (l Limits) orDefaults() Limits {
	return Limits{
		RowsPerNode:  min(cmp.Or(l.RowsPerNode, MaxRows), MaxRows),
		BytesPerNode: min(cmp.Or(l.BytesPerNode, MaxBytes), MaxBytes),
		Rows:         min(cmp.Or(l.Rows, DefaultTotalRows), MaxTotalRows),
		Bytes:        min(cmp.Or(l.Bytes, DefaultTotalBytes), MaxTotalBytes),
	}
}

func cut(message string) string {
	if len(message) > maxMessage {
		return strings.ToValidUTF8(message[:maxMessage], "") + " …"
	}
	return message
}

// Receive judges what a node answered, within the limits of its query.
func Receive(nodeID string, a osquery.QueryAnswer, limits Limits, now time.Time) (Answer, error) {
	limits = limits.orDefaults()
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
		if size += row.Len(); i == limits.RowsPerNode || size > limits.BytesPerNode {
			out.State, out.Cut = OverLimit, true
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
