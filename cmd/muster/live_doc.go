package main

import (
	"cmp"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

// What the API says of live queries that adminapi has no documents of yet.

// liveInput starts a live query.
type liveInput struct {
	SQL            string               `json:"sql"`
	Selector       adminapi.Selector    `json:"selector"`
	ExpiresSeconds int                  `json:"expires_seconds,omitempty"`
	NotBefore      *time.Time           `json:"not_before,omitempty"`
	Reason         string               `json:"reason,omitempty"`
	SamplePercent  float64              `json:"sample_percent,omitempty"`
	MaxNodes       int                  `json:"max_nodes,omitempty"`
	Limits         *adminapi.LiveLimits `json:"limits,omitempty"`
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

// answerHost names a node to people.
func answerHost(a *adminapi.LiveAnswer) string { return cmp.Or(a.Hostname, a.HostIdentifier) }

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
