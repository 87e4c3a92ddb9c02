package main

import (
	"cmp"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

// What the API says of live queries, as far as these commands print it.

// liveInput starts a live query.
type liveInput struct {
	SQL            string            `json:"sql"`
	Selector       adminapi.Selector `json:"selector"`
	ExpiresSeconds int               `json:"expires_seconds,omitempty"`
	NotBefore      *time.Time        `json:"not_before,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	SamplePercent  float64           `json:"sample_percent,omitempty"`
	MaxNodes       int               `json:"max_nodes,omitempty"`
	Limits         *liveLimits       `json:"limits,omitempty"`
}

type liveLimits struct {
	RowsPerNode  int   `json:"rows_per_node,omitempty"`
	BytesPerNode int   `json:"bytes_per_node,omitempty"`
	Rows         int   `json:"rows,omitempty"`
	Bytes        int64 `json:"bytes,omitempty"`
}

type liveWaves struct {
	First         int `json:"first,omitempty"`
	MaxBadPercent int `json:"max_bad_percent,omitempty"`
}

// liveQuery is a live query.
type liveQuery struct {
	ID        string             `json:"id"`
	Kind      string             `json:"kind"`
	Source    string             `json:"source,omitempty"`
	SQL       string             `json:"sql"`
	Selector  *adminapi.Selector `json:"selector,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Tier      int                `json:"tier"`
	State     string             `json:"state"`
	Held      string             `json:"held"`
	Approval  liveApproval       `json:"approval"`
	CreatedBy string             `json:"created_by"`
	CreatedAt time.Time          `json:"created_at"`
	NotBefore *time.Time         `json:"not_before,omitempty"`
	ExpiresAt *time.Time         `json:"expires_at,omitempty"`
	EndedAt   *time.Time         `json:"ended_at,omitempty"`
	RerunOf   string             `json:"rerun_of,omitempty"`
	Limits    liveLimits         `json:"limits"`
	Waves     liveWaves          `json:"waves"`
	Nodes     int                `json:"nodes"`
	Counts    map[string]int     `json:"counts"`
	Rows      int                `json:"rows"`
	Bytes     int64              `json:"bytes"`
	Truncated bool               `json:"truncated"`
	Latency   *liveLatency       `json:"latency,omitempty"`
}

type liveApproval struct {
	Needed bool       `json:"needed"`
	By     string     `json:"by,omitempty"`
	At     *time.Time `json:"at,omitempty"`
}

type liveLatency struct {
	FirstMs int64 `json:"first_ms"`
	P50Ms   int64 `json:"p50_ms"`
	P95Ms   int64 `json:"p95_ms"`
}

// States of a live query that matter here.
const (
	livePending = "pending"
	liveRunning = "running"
)

// unanswered counts the nodes without an answer.
func unanswered(counts map[string]int) int {
	n := 0
	for _, state := range []string{"waiting", "sent", "expired", "stopped"} {
		n += counts[state]
	}
	return n
}

type livePage struct {
	Live       []liveQuery `json:"live"`
	NextCursor string      `json:"next_cursor,omitempty"`
}

// liveAnswer is one node of a live query with what it answered.
type liveAnswer struct {
	NodeID         string             `json:"node_id"`
	HostIdentifier string             `json:"host_identifier"`
	Hostname       string             `json:"hostname"`
	State          string             `json:"state"`
	Message        string             `json:"message,omitempty"`
	SentAt         *time.Time         `json:"sent_at,omitempty"`
	Attempts       int                `json:"attempts"`
	AnsweredAt     *time.Time         `json:"answered_at,omitempty"`
	Late           bool               `json:"late,omitempty"`
	Cut            bool               `json:"cut,omitempty"`
	Stats          osquery.QueryStats `json:"stats"`
	Rows           []osquery.Row      `json:"rows"`
}

func (a *liveAnswer) host() string { return cmp.Or(a.Hostname, a.HostIdentifier) }

type liveAnswers struct {
	Answers    []liveAnswer `json:"answers"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// livePreview is what a live query would reach, and what the policy says.
type livePreview struct {
	Matching  int               `json:"matching"`
	Online    int               `json:"online"`
	Asked     int               `json:"asked"`
	Platforms []previewPlatform `json:"platforms"`
	Tier      int               `json:"tier"`
	Decision  string            `json:"decision"`
	Why       string            `json:"why,omitempty"`
	Estimate  *liveEstimate     `json:"estimate,omitempty"`
	Nodes     []previewNode     `json:"nodes"`
}

type previewPlatform struct {
	Platform string `json:"platform"`
	Matching int    `json:"matching"`
	Online   int    `json:"online"`
}

type liveEstimate struct {
	Nodes         int     `json:"nodes"`
	WallMSPerNode float64 `json:"wall_ms_per_node"`
	RowsPerNode   float64 `json:"rows_per_node"`
	Basis         string  `json:"basis"`
}

type previewNode struct {
	NodeID   string `json:"node_id"`
	Hostname string `json:"hostname"`
	Online   bool   `json:"online"`
}

// liveResults is a page of the rows of a live query.
type liveResults struct {
	Columns    []resultColumn `json:"columns"`
	Rows       []resultRow    `json:"rows"`
	Total      int            `json:"total"`
	Matched    int            `json:"matched"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

type resultColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type resultRow struct {
	NodeID         string      `json:"node_id"`
	HostIdentifier string      `json:"host_identifier"`
	Hostname       string      `json:"hostname,omitempty"`
	Columns        osquery.Row `json:"columns"`
}

type liveGroups struct {
	Groups []struct {
		Value string `json:"value"`
		Rows  int    `json:"rows"`
		Nodes int    `json:"nodes"`
	} `json:"groups"`
	Distinct  int `json:"distinct"`
	OtherRows int `json:"other_rows"`
}

type liveComparison struct {
	Added      []resultRow `json:"added"`
	Gone       []resultRow `json:"gone"`
	Same       int         `json:"same"`
	AddedTotal int         `json:"added_total"`
	GoneTotal  int         `json:"gone_total"`
	Nodes      int         `json:"nodes"`
	OnlyNew    int         `json:"only_new"`
	OnlyOld    int         `json:"only_old"`
	CutNodes   int         `json:"cut_nodes"`
}

// savedQuery is a SQL text under a name.
type savedQuery struct {
	Name        string             `json:"name"`
	Description string             `json:"description"`
	SQL         string             `json:"sql"`
	Selector    *adminapi.Selector `json:"selector,omitempty"`
	CreatedBy   string             `json:"created_by"`
	UpdatedBy   string             `json:"updated_by"`
	UpdatedAt   time.Time          `json:"updated_at"`
}
