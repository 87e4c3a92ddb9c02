package adminapi

import (
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// PreviewInput asks what a live query would reach, and whether it may run.
type PreviewInput struct {
	Selector      Selector `json:"selector"`
	SQL           string   `json:"sql,omitempty" doc:"Without it only the nodes are told" maxLength:"65536"`
	SamplePercent float64  `json:"sample_percent,omitempty" doc:"Ask this percentage of each platform's nodes, always the same ones; all if it is left out" minimum:"0" maximum:"100"`
}

// LivePreview is what a live query would reach, and what it needs to run.
type LivePreview struct {
	Matching  int               `json:"matching" doc:"Nodes that the selector means"`
	Online    int               `json:"online" doc:"Of those that would be asked"`
	Platforms []PreviewPlatform `json:"platforms" doc:"Those of most nodes first"`
	Asked     int               `json:"asked" doc:"Nodes that would be asked: of the sample, if there is one"`
	Tier      int               `json:"tier" doc:"Of the text: 0 harmless to 3 dangerous"`
	Decision  string            `json:"decision" doc:"run: it runs; reason: with a reason; approval: once a second person agrees; refused: not at all. Empty without a text"`
	Why       string            `json:"why" doc:"Why it is so, for people"`
	Estimate  *LiveEstimate     `json:"estimate,omitempty" doc:"Absent if there is no evidence"`
	Nodes     []PreviewNode     `json:"nodes" doc:"The first 20 by hostname, of those that would be asked"`
}

// PreviewPlatform is how many nodes of a platform a selector means.
type PreviewPlatform struct {
	Platform string `json:"platform"`
	Matching int    `json:"matching"`
	Online   int    `json:"online" doc:"Of all that match"`
}

// PreviewNode is a node that would be asked.
type PreviewNode struct {
	NodeID   string `json:"node_id"`
	Hostname string `json:"hostname"`
	Online   bool   `json:"online"`
}

// LiveEstimate is what a text cost when it ran before.
type LiveEstimate struct {
	Nodes         int       `json:"nodes" doc:"How many answers or nodes it was measured on"`
	WallMsPerNode float64   `json:"wall_ms_per_node" doc:"95 of 100 stay below. Of a scheduled query it is CPU time, which is what agents tell of those"`
	RowsPerNode   float64   `json:"rows_per_node" doc:"The mean of live queries; of a scheduled one 95 of 100 nodes stay below"`
	Basis         string    `json:"basis" doc:"What it was measured on: earlier live queries with this text, or a scheduled one" enum:"live,scheduled"`
	At            time.Time `json:"at" doc:"When, the last time"`
	Query         string    `json:"query,omitempty" doc:"Name of the scheduled query on agents"`
}

// LiveColumn is a column of a live query's result.
type LiveColumn struct {
	Name string `json:"name"`
	Type string `json:"type" doc:"By osquery's schema; of an expression by its values" enum:"text,integer,double"`
}

// LiveRow is one row of a node.
type LiveRow struct {
	NodeID         string      `json:"node_id"`
	HostIdentifier string      `json:"host_identifier"`
	Hostname       string      `json:"hostname"`
	Columns        osquery.Row `json:"columns" doc:"An object of texts"`
}

// LiveResults is a page of a live query's rows.
type LiveResults struct {
	Columns    []LiveColumn `json:"columns" doc:"Those that rows have: of all rows where they are filtered or sorted, else of those on this page"`
	Rows       []LiveRow    `json:"rows"`
	Total      int          `json:"total" doc:"Rows that there are so far"`
	Matched    int          `json:"matched" doc:"Rows that pass where"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// LiveGroups is how many rows have which value of a column.
type LiveGroups struct {
	Groups    []LiveGroup `json:"groups" doc:"Those of most rows first"`
	Distinct  int         `json:"distinct" doc:"How many values there are; at least, if more is true"`
	More      bool        `json:"more" doc:"There are more values than are told apart; their rows are in other_rows"`
	OtherRows int         `json:"other_rows" doc:"Rows that pass and are in none of groups"`
}

// LiveGroup is the rows with one value.
type LiveGroup struct {
	Value string `json:"value" doc:"A long one is cut, with its length and SHA-256"`
	Rows  int    `json:"rows"`
	Nodes int    `json:"nodes"`
}

// LiveComparison is what a live query has that a former one had not, and the
// other way round. Nodes that answered only one of them are not compared.
type LiveComparison struct {
	Added      []LiveRow `json:"added"`
	Gone       []LiveRow `json:"gone"`
	Same       int       `json:"same" doc:"Rows that both have"`
	AddedTotal int       `json:"added_total"`
	GoneTotal  int       `json:"gone_total"`
	Nodes      int       `json:"nodes" doc:"Nodes that answered both"`
	OnlyNew    int       `json:"only_new" doc:"Nodes that answered this one only"`
	OnlyOld    int       `json:"only_old" doc:"Nodes that answered the other one only"`
	CutNodes   int       `json:"cut_nodes" doc:"Nodes of which not all rows were kept in one of the two: theirs may be told as added or gone wrongly"`
}

// LiveNode is where a node of a live query stands, as exported.
type LiveNode struct {
	NodeID         string             `json:"node_id"`
	HostIdentifier string             `json:"host_identifier"`
	Hostname       string             `json:"hostname"`
	State          string             `json:"state"`
	Message        string             `json:"message,omitempty"`
	Attempts       int                `json:"attempts"`
	SentAt         *time.Time         `json:"sent_at,omitempty"`
	AnsweredAt     *time.Time         `json:"answered_at,omitempty"`
	Rows           int                `json:"rows" doc:"How many are kept"`
	Cut            bool               `json:"cut" doc:"It sent more"`
	Late           bool               `json:"late" doc:"It answered after the end"`
	Stats          osquery.QueryStats `json:"stats"`
}

// SavedQueryInput is what a saved query says.
type SavedQueryInput struct {
	Description string    `json:"description,omitempty" maxLength:"4096"`
	SQL         string    `json:"sql" minLength:"1" maxLength:"65536"`
	Selector    *Selector `json:"selector,omitempty" doc:"Whom it is for; people may choose others"`
}

// SavedQuery is a query that people keep for all.
type SavedQuery struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	SQL         string    `json:"sql"`
	Selector    Selector  `json:"selector"`
	CreatedBy   string    `json:"created_by"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedBy   string    `json:"updated_by"`
	UpdatedAt   time.Time `json:"updated_at"`
	// Verdict is only in the answer of who saves it.
	Verdict *PolicyVerdict `json:"verdict,omitempty" doc:"What the policy says of the text now; only in the answer to who saves it"`
}

// SavedQueries is all saved queries, by name.
type SavedQueries struct {
	SavedQueries []SavedQuery `json:"saved_queries"`
}
