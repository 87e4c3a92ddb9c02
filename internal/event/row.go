package event

import (
	"strconv"
	"strings"
	"time"
)

// The stamps that conditions may test besides columns. Those of time compare with
// RFC 3339 times or dates.
const (
	StampNode      = "@node"       // id
	StampHost      = "@host"       // host identifier
	StampQuery     = "@query"      // name as the agent knows it
	StampAction    = "@action"     // added, removed, snapshot, status
	StampTag       = "@tag"        // any tag of the node when the event arrived
	StampRevision  = "@revision"   // that the node was served; absent if not known
	StampTime      = "@time"       // when it happened
	StampReceived  = "@received"   // when it arrived
	StampAgentTime = "@agent_time" // seconds, of a clock that cannot be right; else absent
	StampEpoch     = "@epoch"
	StampCounter   = "@counter"

	// decorationStamp begins the name of the stamp that is a decoration.
	decorationStamp = "@decoration."
)

// Stamps lists the stamps, for messages and documents.
func Stamps() []string {
	return []string{
		StampNode, StampHost, StampQuery, StampAction, StampTag, StampRevision, StampTime, StampReceived, StampAgentTime,
		StampEpoch, StampCounter, decorationStamp + "NAME",
	}
}

// Decoration returns the name of the decoration that is tested, if the column is
// such a stamp.
func Decoration(column string) (name string, ok bool) {
	return strings.CutPrefix(column, decorationStamp)
}

// IsStamp reports whether a condition's column is a stamp.
func IsStamp(column string) bool { return strings.HasPrefix(column, "@") }

// timeLayout is how the stamps of time are compared: as text of one width.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// TimeText is the value of a stamp of time, given in microseconds since 1970.
func TimeText(micros int64) string { return time.UnixMicro(micros).UTC().Format(timeLayout) }

// Row is an event as conditions see it. It is meant to be filled again and again:
// what was read of the last event is forgotten by Reset. Not safe for concurrent
// use.
type Row struct {
	NodeID, HostIdentifier, Query, Action string
	Time, Received                        int64 // microseconds since 1970
	Epoch, Counter, Revision, AgentTime   int64
	Tags                                  []string
	Columns, Decorations                  []byte // JSON objects of strings; none if empty
	columns, decorations                  Object
	pairs, decorated                      []Pair
	columnsRead, decorationsRead          bool
}

// Reset makes the row forget what it read.
func (r *Row) Reset() {
	r.columns.Reset()
	r.decorations.Reset()
	r.columnsRead, r.decorationsRead = false, false
}

// Set makes the row an event of a batch, which it refers to.
func (r *Row) Set(b *Batch, e *Event) {
	r.Reset()
	r.NodeID, r.HostIdentifier, r.Received, r.Tags, r.Revision = b.NodeID, b.HostIdentifier, b.Received.UnixMicro(), b.Tags, b.Revision
	r.Query, r.Action, r.Time, r.AgentTime = e.Query, e.Action, e.Time.UnixMicro(), e.AgentTime
	r.Epoch, r.Counter, r.Columns, r.Decorations = e.Epoch, e.Counter, e.Columns, e.Decorations
}

// Pairs returns the columns, in the agent's order; valid until Reset. Of a name
// given twice the last counts.
func (r *Row) Pairs() []Pair {
	if !r.columnsRead {
		r.columnsRead = true
		r.pairs, _ = r.columns.Read(r.Columns)
	}
	return r.pairs
}

// Column returns the value of a column, and whether the event has it.
func (r *Row) Column(name string) (value string, found bool) {
	b, found := Lookup(r.Pairs(), name)
	return Peek(b), found
}

func (r *Row) decoration(name string) (value string, found bool) {
	if !r.decorationsRead {
		r.decorationsRead = true
		r.decorated, _ = r.decorations.Read(r.Decorations)
	}
	b, found := Lookup(r.decorated, name)
	return Peek(b), found
}

func (r *Row) test(c *Condition) bool {
	switch {
	case c.Column == AnyColumn:
		for i, p := range r.Pairs() {
			if c.Match(Peek(p.Value), true) && last(r.pairs, i) {
				return true
			}
		}
		return false
	case c.Column == StampTag:
		for _, t := range r.Tags {
			if c.Match(t, true) {
				return true
			}
		}
		return false
	case IsStamp(c.Column):
		return c.Match(r.Stamp(c.Column))
	}
	return c.Match(r.Column(c.Column))
}

// last reports whether no later pair has the name of the i-th.
func last(pairs []Pair, i int) bool {
	for _, p := range pairs[i+1:] {
		if string(p.Name) == string(pairs[i].Name) {
			return false
		}
	}
	return true
}

// Stamp returns the value of any stamp but StampTag, which has several; see Tags.
func (r *Row) Stamp(name string) (value string, found bool) {
	switch name {
	case StampNode:
		return r.NodeID, true
	case StampHost:
		return r.HostIdentifier, true
	case StampQuery:
		return r.Query, true
	case StampAction:
		return r.Action, true
	case StampTime:
		return TimeText(r.Time), true
	case StampReceived:
		return TimeText(r.Received), true
	case StampEpoch:
		return strconv.FormatInt(r.Epoch, 10), true
	case StampCounter:
		return strconv.FormatInt(r.Counter, 10), true
	case StampRevision:
		return strconv.FormatInt(r.Revision, 10), r.Revision != 0
	case StampAgentTime:
		return strconv.FormatInt(r.AgentTime, 10), r.AgentTime != 0
	}
	if d, ok := Decoration(name); ok {
		return r.decoration(d)
	}
	return "", false
}
