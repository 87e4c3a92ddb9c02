package adminapi

import "time"

// RuleStatus is a Rule and how it does since the server started, or since it
// changed.
type RuleStatus struct {
	Name        string      `json:"name"`
	Description string      `json:"description"`
	State       string      `json:"state" enum:"on,off,shadow,set aside" doc:"A rule that broke is set aside until it changes or the server starts anew"`
	Why         string      `json:"why,omitempty" doc:"Why it is set aside"`
	Severity    string      `json:"severity"`
	Queries     []string    `json:"queries" doc:"Names that it looks at, * for any text"`
	Tables      []string    `json:"tables" doc:"Tables whose queries it looks at"`
	Condition   string      `json:"condition"`
	Document    string      `json:"document,omitempty" doc:"Of one rule: all that it says, as YAML"`
	Counts      RuleCounts  `json:"counts"`
	CostNS      int64       `json:"cost_ns_per_event" doc:"What its evaluation takes; 0 before there was an event"`
	SpentMS     int64       `json:"spent_ms" doc:"What it took in all"`
	Keys        int         `json:"keys" doc:"That it remembers, for thresholds and the like"`
	LastMatchAt *time.Time  `json:"last_match_at,omitempty"`
	LastError   string      `json:"last_error,omitempty" doc:"Of an action"`
	LastErrorAt *time.Time  `json:"last_error_at,omitempty"`
	ToMatch     RuleLatency `json:"to_match" doc:"From the event, by the node's clock, to its match"`
	Queued      RuleLatency `json:"queued" doc:"From its arrival to its match"`
	Bounds      []RuleBound `json:"bounds,omitempty" doc:"Of one rule: how late a scheduled query's row arrives at most"`
}

// RuleBound is the most that passes on nodes of a platform from a change on a host
// until its row arrives, if the node is online: interval, splay and log period. What
// follows is measured: queued, and the delivery of alerts.
type RuleBound struct {
	Query    string `json:"query"`
	Platform string `json:"platform" doc:"Empty if a node did not tell"`
	Nodes    int    `json:"nodes" doc:"That run the query and that the rule looks at"`
	Interval int    `json:"interval_seconds"`
	Seconds  int    `json:"seconds"`

	ToMatch RuleLatency `json:"to_match" doc:"What was measured of this query on these nodes"`
}

// RuleCounts are of events and of what followed.
type RuleCounts struct {
	Evaluated  int64 `json:"evaluated" doc:"Events that it looked at"`
	Matched    int64 `json:"matched"`
	Unknown    int64 `json:"unknown" doc:"Events that lack something that it looks at, or have no number where it needs one"`
	Fired      int64 `json:"fired" doc:"Matches that did something, or would in shadow mode"`
	Suppressed int64 `json:"suppressed"`
	Resolved   int64 `json:"resolved"`
	Alerted    int64 `json:"alerted" doc:"Firings that were handed to alerts"`
	Merged     int64 `json:"merged" doc:"Further firings of one key in one message, not handed on"`
	Asked      int64 `json:"asked" doc:"Live queries that it started"`
	Tagged     int64 `json:"tagged" doc:"Times that it set a node's tags"`
	Refused    int64 `json:"refused" doc:"Live queries over a limit, or not allowed"`
	Failed     int64 `json:"failed" doc:"Actions that failed and were given up"`
	Evicted    int64 `json:"evicted" doc:"Keys that were forgotten because there were too many"`
}

// RuleLatency is of the last thousand firings, in milliseconds.
type RuleLatency struct {
	Samples int   `json:"samples"`
	P50     int64 `json:"p50_ms"`
	P99     int64 `json:"p99_ms"`
	Worst   int64 `json:"worst_ms"`
}

// RuleTestInput asks what a rule would have done.
type RuleTestInput struct {
	Name     string `json:"name,omitempty" maxLength:"64" doc:"A rule that is served"`
	Document string `json:"document,omitempty" maxLength:"65536" doc:"Or the YAML document of one"`
	Since    string `json:"since" maxLength:"64" doc:"RFC 3339, or how long ago, as in 24h or 7d"`
	First    int    `json:"first,omitempty" minimum:"0" maximum:"1000" doc:"How many matches are told; 10 if it is left out"`
}

// RuleTest is what a rule would have done.
type RuleTest struct {
	Rule       string      `json:"rule"`
	Events     int64       `json:"events" doc:"That were looked through"`
	Evaluated  int64       `json:"evaluated" doc:"Of these, that the rule looks at"`
	Matched    int64       `json:"matched"`
	Unknown    int64       `json:"unknown" doc:"That lack something that it looks at"`
	Fired      int64       `json:"fired" doc:"That would have done something"`
	Suppressed int64       `json:"suppressed"`
	Resolved   int64       `json:"resolved"`
	Nodes      int         `json:"nodes" doc:"On which it would have fired"`
	Keys       int         `json:"keys" doc:"That would be alerts of their own"`
	PerDay     float64     `json:"fired_per_day" doc:"At the rate of the time that the events span"`
	CostNS     int64       `json:"cost_ns_per_event"`
	From       *time.Time  `json:"from,omitempty" doc:"Arrival of the first event"`
	To         *time.Time  `json:"to,omitempty"`
	Truncated  bool        `json:"truncated" doc:"There were more events than are looked through; these are the newest"`
	Notes      []string    `json:"notes"`
	Matches    []RuleMatch `json:"matches" doc:"The first"`
}

// RuleMatch is one event that fits a rule.
type RuleMatch struct {
	Event  Event  `json:"event"`
	Key    string `json:"key"`
	Title  string `json:"title"`
	Fired  bool   `json:"fired" doc:"false if it only counts towards a threshold, or is suppressed"`
	Closes bool   `json:"closes" doc:"It says that what was found is over"`
}
