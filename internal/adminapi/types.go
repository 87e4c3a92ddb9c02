package adminapi

import (
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// The documents of the REST API. Times are RFC 3339 in UTC; a zero time is
// left out. Lists are never null.

// SetupState says whether the first administrator is still to be made.
type SetupState struct {
	Needed bool `json:"needed"`
}

// SetupInput makes the first administrator.
type SetupInput struct {
	Token    string `json:"token" doc:"What the data directory's setup-token file holds" maxLength:"128"`
	Username string `json:"username" doc:"Name of the administrator" minLength:"1" maxLength:"64"`
	Password string `json:"password" doc:"At least 12 characters" maxLength:"1024"`
	Kind     string `json:"kind,omitempty" doc:"cookie (the default, for browsers) or bearer (answers a token, for programs)" enum:"cookie,bearer"`
}

// LoginInput opens a session.
type LoginInput struct {
	Username string `json:"username" maxLength:"64"`
	Password string `json:"password" maxLength:"1024"`
	Kind     string `json:"kind,omitempty" doc:"cookie (the default, for browsers) or bearer (answers a token, for programs)" enum:"cookie,bearer"`
}

// Session tells who is calling and what they may do.
type Session struct {
	Username    string    `json:"username"`
	Permissions []string  `json:"permissions"`
	ExpiresAt   time.Time `json:"expires_at"`
	Token       string    `json:"token,omitempty" doc:"Only in the answer that opens a bearer session"`
	Version     string    `json:"version" doc:"The server's version"`
}

// Node is one enrolled agent.
type Node struct {
	ID             string    `json:"id"`
	HostIdentifier string    `json:"host_identifier"`
	Hostname       string    `json:"hostname"`
	Platform       string    `json:"platform" doc:"linux, darwin or windows"`
	OS             string    `json:"os" doc:"Name and version of the operating system"`
	OsqueryVersion string    `json:"osquery_version"`
	Address        string    `json:"address" doc:"Where its last request came from"`
	Tags           []string  `json:"tags"`
	Status         string    `json:"status" doc:"online or offline" enum:"online,offline"`
	LastSeen       time.Time `json:"last_seen"`
	EnrolledAt     time.Time `json:"enrolled_at"`
	EnrollSecret   string    `json:"enroll_secret" doc:"Name of the enroll secret it used last"`
	Enrolments     int       `json:"enrolments" doc:"How often it enrolled; more than one means that it lost its key or was cloned"`
}

// NodeDetail is a node with everything it said at enrolment.
type NodeDetail struct {
	Node
	Details map[string]map[string]string `json:"details" doc:"First row of os_version, osquery_info, platform_info and system_info, by table"`
}

// NodePage is one page of nodes.
type NodePage struct {
	Nodes      []Node `json:"nodes"`
	Total      int    `json:"total" doc:"Nodes that match, on all pages"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

// Facets counts nodes by what one can filter them by.
type Facets struct {
	Total     int     `json:"total"`
	Online    int     `json:"online"`
	Platforms []Count `json:"platforms"`
	Tags      []Count `json:"tags"`
	Versions  []Count `json:"versions" doc:"By osquery version"`
}

// Count is how many things have a value.
type Count struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

// TagsInput replaces a node's tags.
type TagsInput struct {
	Tags []string `json:"tags" maxItems:"64"`
}

// Secret is an enroll secret without its value, which is not kept.
type Secret struct {
	Name      string     `json:"name"`
	Tags      []string   `json:"tags" doc:"Given to nodes that enrol with it"`
	MaxUses   int        `json:"max_uses" doc:"0 is no limit"`
	Uses      int        `json:"uses"`
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// SecretInput makes an enroll secret.
type SecretInput struct {
	Name      string     `json:"name" doc:"Lower-case letters, digits, dots, dashes" pattern:"^[a-z0-9][a-z0-9._-]*$" maxLength:"64"`
	Tags      []string   `json:"tags,omitempty" maxItems:"16"`
	MaxUses   int        `json:"max_uses,omitempty" minimum:"0"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// NewSecret is the one answer that shows an enroll secret's value.
type NewSecret struct {
	Secret
	Value string `json:"value" doc:"Shown once; give it to agents as their enroll secret"`
}

// SecretList is all enroll secrets, revoked ones too.
type SecretList struct {
	Secrets []Secret `json:"secrets"`
}

// Selector says which nodes. Nothing is selected unless asked for.
type Selector struct {
	All   bool     `json:"all,omitempty" doc:"Every node"`
	Nodes []string `json:"nodes,omitempty" doc:"Ids, host identifiers or hostnames" maxItems:"10000"`
	Tags  []string `json:"tags,omitempty" doc:"Nodes with any of these tags" maxItems:"64"`
}

// LivePreview is what a live query would reach.
type LivePreview struct {
	Matching int `json:"matching"`
	Online   int `json:"online"`
}

// LiveInput starts a live query.
type LiveInput struct {
	SQL            string   `json:"sql" minLength:"1" maxLength:"65536"`
	Selector       Selector `json:"selector"`
	ExpiresSeconds int      `json:"expires_seconds,omitempty" doc:"Nodes that did not take it by then never will; 600 by default" minimum:"5" maximum:"604800"`
}

// Live is a live query. Each of its nodes is counted in exactly one state.
type Live struct {
	ID        string         `json:"id"`
	SQL       string         `json:"sql"`
	State     string         `json:"state" doc:"running, done, expired or stopped" enum:"running,done,expired,stopped"`
	CreatedBy string         `json:"created_by"`
	CreatedAt time.Time      `json:"created_at"`
	ExpiresAt time.Time      `json:"expires_at"`
	EndedAt   *time.Time     `json:"ended_at,omitempty"`
	Nodes     int            `json:"nodes" doc:"How many nodes it was sent to"`
	Counts    map[string]int `json:"counts" doc:"Nodes by state: waiting, sent, answered, empty, failed, denylisted, expired, stopped, over_limit"`
	Rows      int            `json:"rows" doc:"Rows received so far"`
}

// LivePage is the newest live queries.
type LivePage struct {
	Live       []Live `json:"live"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// LiveAnswer is what one node answered.
type LiveAnswer struct {
	NodeID         string             `json:"node_id"`
	HostIdentifier string             `json:"host_identifier"`
	Hostname       string             `json:"hostname"`
	State          string             `json:"state"`
	Message        string             `json:"message,omitempty" doc:"The error of a failed node"`
	AnsweredAt     *time.Time         `json:"answered_at,omitempty"`
	Stats          osquery.QueryStats `json:"stats"`
	Rows           []osquery.Row      `json:"rows"`
}

// LiveAnswers is a page of a live query's nodes with their rows, in the order
// in which they answered; nodes that did not are at the end.
type LiveAnswers struct {
	Answers    []LiveAnswer `json:"answers"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// LiveUpdate is one message of a live query's event stream. The event named
// "answer" carries Answer, the event named "counts" carries Live. The stream
// begins with all that is known and ends after the query's end.
type LiveUpdate struct {
	Live   *Live       `json:"live,omitempty"`
	Answer *LiveAnswer `json:"answer,omitempty"`
}

// Event is one row that a node logged.
type Event struct {
	ID             string          `json:"id"`
	Time           time.Time       `json:"time" doc:"When it happened, by the node's clock if that is believable"`
	ReceivedAt     time.Time       `json:"received_at"`
	NodeID         string          `json:"node_id"`
	HostIdentifier string          `json:"host_identifier"`
	Hostname       string          `json:"hostname,omitempty" doc:"Of the node today, if it still exists"`
	Query          string          `json:"query" doc:"Name of the query as the agent knows it; osquery:status for lines of the agent's own log"`
	Action         string          `json:"action" doc:"added, removed, snapshot or status"`
	Epoch          int64           `json:"epoch"`
	Counter        int64           `json:"counter"`
	Columns        json.RawMessage `json:"columns" doc:"The row, an object of strings; empty for an empty snapshot"`
	Decorations    json.RawMessage `json:"decorations,omitempty"`
}

// EventPage is a page of events, newest first.
type EventPage struct {
	Events     []Event `json:"events"`
	NextCursor string  `json:"next_cursor,omitempty"`
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

// Overview is the first page's figures.
type Overview struct {
	Nodes         Facets   `json:"nodes"`
	NewNodes      int      `json:"new_nodes" doc:"Enrolled within a day"`
	LiveRunning   int      `json:"live_running"`
	EventsStored  int64    `json:"events_stored"`
	BytesStored   int64    `json:"bytes_stored"`
	EventsPerHour []Bucket `json:"events_per_hour" doc:"Of the last 24 hours"`
	RequestsTotal int64    `json:"requests_total" doc:"Agents' requests since the server started"`
	UptimeSeconds int64    `json:"uptime_seconds"`
	Version       string   `json:"version"`
	AgentURL      string   `json:"agent_url" doc:"What agents put into tls_hostname"`
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	Seq    int64     `json:"seq"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Target string    `json:"target"`
	Detail string    `json:"detail"`
	Hash   string    `json:"hash" doc:"SHA-256 over this entry and the hash before it"`
}

// AuditPage is a page of the audit log, newest first.
type AuditPage struct {
	Entries    []AuditEntry `json:"entries"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// ConfigDocument is what agents are served.
type ConfigDocument struct {
	Revision string          `json:"revision"`
	Hash     string          `json:"hash" doc:"What osquery_info.config_hash says on a node that runs it"`
	Config   json.RawMessage `json:"config"`
}
