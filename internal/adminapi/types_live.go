package adminapi

import (
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// LiveInput starts a live query.
type LiveInput struct {
	SQL            string      `json:"sql" minLength:"1" maxLength:"65536"`
	Selector       Selector    `json:"selector"`
	ExpiresSeconds int         `json:"expires_seconds,omitempty" doc:"Nodes that did not take it by then never will; counted from not_before; 600 by default" minimum:"5" maximum:"604800"`
	NotBefore      *time.Time  `json:"not_before,omitempty" doc:"No node gets it earlier"`
	Reason         string      `json:"reason,omitempty" doc:"Why; kept in the audit log; some queries are refused without" maxLength:"1000"`
	SamplePercent  float64     `json:"sample_percent,omitempty" doc:"Ask this percentage of each platform's nodes, always the same ones; all if it is left out" minimum:"0" maximum:"100"`
	MaxNodes       int         `json:"max_nodes,omitempty" doc:"Refuse it if it is for more nodes" minimum:"1"`
	Limits         *LiveLimits `json:"limits,omitempty"`
	Waves          *LiveWaves  `json:"waves,omitempty"`
	RerunOf        string      `json:"rerun_of,omitempty" doc:"Id of the live query that this one repeats" maxLength:"64"`
}

// LiveLimits bound what a live query may give. What is over is cut, and marked.
type LiveLimits struct {
	RowsPerNode  int   `json:"rows_per_node,omitempty" doc:"10,000 by default" minimum:"1" maximum:"10000"`
	BytesPerNode int   `json:"bytes_per_node,omitempty" doc:"8 MiB by default" minimum:"1024" maximum:"8388608"`
	Rows         int   `json:"rows,omitempty" doc:"In all, 1,000,000 by default; over it the query ends" minimum:"1" maximum:"10000000"`
	Bytes        int64 `json:"bytes,omitempty" doc:"In all, 1 GiB by default; over it the query ends" minimum:"1024" maximum:"8589934592"`
}

// LiveWaves say how a live query reaches many nodes.
type LiveWaves struct {
	First         int `json:"first,omitempty" doc:"So many nodes may have it unanswered at first; each good answer makes room for one more. 500 by default, 100 from tier 2 on" minimum:"1" maximum:"100000"`
	MaxBadPercent int `json:"max_bad_percent,omitempty" doc:"It is held when more of the nodes that are done with it failed, refused it or did not answer, and at least 5; 5 by default; queries to at most first nodes are never held" minimum:"1" maximum:"100"`
}

// LiveApproval is the consent of a second person.
type LiveApproval struct {
	Needed bool       `json:"needed"`
	By     string     `json:"by,omitempty" doc:"Who agreed, or rejected it"`
	At     *time.Time `json:"at,omitempty"`
}

// LiveLatency tells how long answers took, from when nodes might get the query.
type LiveLatency struct {
	FirstMs int64 `json:"first_ms"`
	P50Ms   int64 `json:"p50_ms"`
	P95Ms   int64 `json:"p95_ms"`
}

// Live is a live query. Each of its nodes is counted in exactly one state.
type Live struct {
	ID        string         `json:"id"`
	Kind      string         `json:"kind" doc:"Why it was asked" enum:"person,enrollment,trigger,carve"`
	Source    string         `json:"source,omitempty" doc:"What asked it: the name of the EnrollmentQuery or Trigger, the id of the carve"`
	SQL       string         `json:"sql"`
	Selector  *Selector      `json:"selector,omitempty" doc:"Absent in lists and streams"`
	Reason    string         `json:"reason,omitempty"`
	Tier      int            `json:"tier" doc:"The policy's, of the text"`
	State     string         `json:"state" doc:"pending: it waits for a second person; over_limit: it gave more than it may in all" enum:"pending,running,done,expired,stopped,rejected,over_limit"`
	Held      string         `json:"held" doc:"Why delivery stands still; empty if it does not"`
	Approval  LiveApproval   `json:"approval"`
	CreatedBy string         `json:"created_by"`
	CreatedAt time.Time      `json:"created_at"`
	NotBefore *time.Time     `json:"not_before,omitempty"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty" doc:"Absent if it stands, as the query of an EnrollmentQuery does"`
	EndedAt   *time.Time     `json:"ended_at,omitempty"`
	RerunOf   string         `json:"rerun_of,omitempty"`
	Limits    LiveLimits     `json:"limits"`
	Waves     LiveWaves      `json:"waves"`
	Nodes     int            `json:"nodes" doc:"How many nodes it is for"`
	Counts    map[string]int `json:"counts" doc:"Nodes by state: waiting, sent, answered, empty, failed, denylisted, expired, stopped, over_limit"`
	Rows      int            `json:"rows" doc:"Rows received so far"`
	Bytes     int64          `json:"bytes" doc:"Bytes of these rows"`
	Truncated bool           `json:"truncated" doc:"Rows were cut, of one node or in all"`
	Latency   *LiveLatency   `json:"latency,omitempty" doc:"Absent in lists, and before the first answer"`
}

// LiveAnswer is what one node answered.
type LiveAnswer struct {
	NodeID         string             `json:"node_id"`
	HostIdentifier string             `json:"host_identifier"`
	Hostname       string             `json:"hostname"`
	State          string             `json:"state"`
	Message        string             `json:"message,omitempty" doc:"The error of a failed node"`
	SentAt         *time.Time         `json:"sent_at,omitempty" doc:"When it took the query last"`
	Attempts       int                `json:"attempts" doc:"How often it took the query"`
	AnsweredAt     *time.Time         `json:"answered_at,omitempty"`
	Late           bool               `json:"late,omitempty" doc:"It answered after its time, or after the query's end"`
	Cut            bool               `json:"cut,omitempty" doc:"It gave more rows than are kept"`
	Stats          osquery.QueryStats `json:"stats"`
	Rows           []osquery.Row      `json:"rows"`
}

// LiveStopped tells which live queries were stopped.
type LiveStopped struct {
	Stopped []string `json:"stopped" doc:"Their ids"`
}
