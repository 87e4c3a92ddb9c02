package adminapi

import (
	"encoding/json"
	"time"
)

// Event is one row that a node logged.
type Event struct {
	ID             string          `json:"id"`
	Time           time.Time       `json:"time" doc:"When it happened, by the node's clock if that is believable"`
	ReceivedAt     time.Time       `json:"received_at"`
	AgentTime      int64           `json:"agent_time,omitempty" doc:"What the node's clock said, in seconds since 1970, if that cannot be right; time is then when it arrived"`
	NodeID         string          `json:"node_id"`
	HostIdentifier string          `json:"host_identifier"`
	Hostname       string          `json:"hostname,omitempty" doc:"Of the node today, if it still exists"`
	Tags           []string        `json:"tags,omitempty" doc:"Of the node when it arrived"`
	Revision       int64           `json:"revision,omitempty" doc:"That the node was served when it arrived; left out if not known"`
	Query          string          `json:"query" doc:"Name of the query as the agent knows it; osquery:status for lines of the agent's own log"`
	Action         string          `json:"action" doc:"added, removed, snapshot or status"`
	Epoch          int64           `json:"epoch"`
	Counter        int64           `json:"counter"`
	Columns        json.RawMessage `json:"columns" doc:"The row, an object of strings; empty for an empty snapshot"`
	Decorations    json.RawMessage `json:"decorations,omitempty"`
}

// EventPage is a page of events, newest first unless asked otherwise. Nothing is
// missing between its events.
type EventPage struct {
	Events     []Event  `json:"events"`
	NextCursor string   `json:"next_cursor,omitempty" doc:"Where the search goes on; left out at its end. A page that was cut has one even without events"`
	Progress   Progress `json:"progress"`
}

// Progress is how much of what may have the events wanted was read.
type Progress struct {
	SegmentsDone  int  `json:"segments_done"`
	SegmentsTotal int  `json:"segments_total"`
	Cut           bool `json:"cut" doc:"A limit of time or memory was reached before the end"`
}

// EventQueries is what there is to search, with a histogram of all of it.
type EventQueries struct {
	Queries []EventQuery `json:"queries"`
	Buckets []Bucket     `json:"buckets" doc:"Events by time of arrival, oldest first, evenly spaced"`
}

// EventQuery sums up the events of one query in the time asked for.
type EventQuery struct {
	Query string    `json:"query"`
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
}

// Bucket is one bar of a histogram.
type Bucket struct {
	Start time.Time `json:"start"`
	Count int       `json:"count"`
}

// EventGroups is events counted by the values of columns and stamps.
type EventGroups struct {
	By          []string     `json:"by"`
	Groups      []EventGroup `json:"groups" doc:"With the most events first"`
	Others      *EventGroup  `json:"others,omitempty" doc:"All events of the groups that are not shown, together"`
	OtherGroups int          `json:"other_groups"`
	Events      int64        `json:"events"`
	Nodes       int          `json:"nodes,omitempty" doc:"Distinct nodes, if asked for"`
	Width       string       `json:"width,omitempty" doc:"Of the buckets, if there are any"`
	Progress    Progress     `json:"progress"`
}

// EventGroup is the events that have the same values.
type EventGroup struct {
	Values  []*string `json:"values" doc:"In the order of by; null for events that do not have the column"`
	Events  int64     `json:"events"`
	Nodes   int       `json:"nodes,omitempty"`
	Last    time.Time `json:"last" doc:"When the newest happened"`
	Buckets []Bucket  `json:"buckets,omitempty" doc:"Those with events, oldest first"`
}

// EventState is what nodes' last results of a query are.
type EventState struct {
	Rows       []EventStateRow `json:"rows" doc:"By node"`
	Nodes      int             `json:"nodes" doc:"How many nodes have such rows"`
	Known      int             `json:"known" doc:"How many nodes said anything of the query"`
	NextCursor string          `json:"next_cursor,omitempty"`
	Progress   Progress        `json:"progress"`
}

// EventStateRow is a row that a node has.
type EventStateRow struct {
	Event

	Partial bool `json:"partial,omitempty" doc:"What the node said first is not kept anymore: rows of it may be missing"`
}

// EventStats is what is kept of events.
type EventStats struct {
	Events     int64             `json:"events"`
	Bytes      int64             `json:"bytes" doc:"On disk"`
	Segments   int               `json:"segments"`
	Oldest     *time.Time        `json:"oldest,omitempty" doc:"By arrival"`
	Lost       int               `json:"lost_segments" doc:"Segments that are out of service, as their files are damaged or missing"`
	LostEvents int64             `json:"lost_events"`
	Queries    []EventQueryStats `json:"queries" doc:"With the most bytes first"`
}

// EventQueryStats is what is kept of one query.
type EventQueryStats struct {
	Query    string    `json:"query"`
	Events   int64     `json:"events"`
	Bytes    int64     `json:"bytes"`
	Segments int       `json:"segments"`
	Oldest   time.Time `json:"oldest"`
	Newest   time.Time `json:"newest"`
}

// EventMissed is sent to a watcher that reads too slowly, as the server-sent event
// "missed".
type EventMissed struct {
	Events int64 `json:"events" doc:"How many were not looked at"`
}
