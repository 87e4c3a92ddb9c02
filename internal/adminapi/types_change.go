package adminapi

import (
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// File is one file of YAML documents.
type File struct {
	Name    string `json:"name" doc:"For messages" maxLength:"1024"`
	Content string `json:"content" doc:"YAML documents"`
}

// ChangeInput proposes a change.
type ChangeInput struct {
	Message string         `json:"message,omitempty" doc:"Why; required unless it is a dry run" maxLength:"2000"`
	Files   []File         `json:"files,omitempty" doc:"Objects to create, or to replace" maxItems:"1000"`
	Delete  []resource.Key `json:"delete,omitempty" doc:"Objects to delete" maxItems:"5000"`
	Prune   bool           `json:"prune,omitempty" doc:"Delete all objects that are not in files"`
	DryRun  bool           `json:"dry_run,omitempty" doc:"Tell what would happen, and do nothing"`
	Expect  string         `json:"expect,omitempty" doc:"The hash that the dry run told: refuse if the change is another by now" maxLength:"64"`
}

// Change is a proposed edit of resources.
type Change struct {
	ID        string          `json:"id" doc:"Empty if it is kept nowhere: a dry run, a refused one, or none"`
	State     string          `json:"state" enum:"planned,unchanged,refused,pending,approved,applied,rejected,withdrawn,stale"`
	Author    string          `json:"author"`
	Message   string          `json:"message"`
	CreatedAt time.Time       `json:"created_at"`
	Base      int64           `json:"base" doc:"The revision that it was made against"`
	Hash      string          `json:"hash" doc:"SHA-256 of the edits; approvals bind it"`
	Tier      int             `json:"tier" doc:"0 harmless to 3 dangerous"`
	Diff      []resource.Edit `json:"diff"`
	Findings  []resource.Item `json:"findings" doc:"Parts that have a tier or findings"`
	Refusals  []string        `json:"refusals" doc:"Why it is refused; empty if it is not"`
	Effect    Effect          `json:"effect"`
	Needed    int             `json:"needed" doc:"How many other people must approve"`
	Rule      string          `json:"rule,omitempty" doc:"Which policy asks for that"`
	Approvals []Approval      `json:"approvals"`
	Rollout   string          `json:"rollout,omitempty" doc:"The policy by which it rolls out; absent if all nodes get it at once"`
	Revision  int64           `json:"revision,omitempty" doc:"The revision that it became"`
	DecidedBy string          `json:"decided_by,omitempty"`
	DecidedAt *time.Time      `json:"decided_at,omitempty"`
	Decision  string          `json:"decision,omitempty" doc:"The reason given for it"`
}

// Approval is one person's consent.
type Approval struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Hash string    `json:"hash"`
}

// Effect is what a change does to the nodes that are known now.
type Effect struct {
	Nodes     int            `json:"nodes" doc:"Nodes whose config becomes another"`
	Online    int            `json:"online"`
	Platforms map[string]int `json:"platforms"`
	Sample    []string       `json:"sample" doc:"Ids of up to ten of them"`
	Asked     int            `json:"asked" doc:"Nodes that a changed EnrollmentQuery or Trigger means, before or after"`
	Before    DayCost        `json:"cost_before" doc:"Of the dearest node that is affected, in a day, as observed"`
	After     DayCost        `json:"cost_after"`
	Unpriced  []string       `json:"unpriced" doc:"Queries of the change for which there is no evidence yet"`
}

// DayCost is what a schedule costs one node in a day.
type DayCost struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	Rows       float64 `json:"rows"`
	Bytes      float64 `json:"bytes"`
}

// ChangeList is some changes, the newest first.
type ChangeList struct {
	Changes    []Change `json:"changes"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

// ApproveInput gives one's consent to a change.
type ApproveInput struct {
	Hash     string `json:"hash" doc:"The change's hash: what was read is what is approved" maxLength:"64"`
	Password string `json:"password" doc:"One's own, once more: a token alone cannot approve" maxLength:"1024"`
}

// ReasonInput says why.
type ReasonInput struct {
	Reason string `json:"reason" doc:"Why, for whoever reads it later" maxLength:"2000"`
}

// Revision is the state of all resources after a change.
type Revision struct {
	Number    int64     `json:"number"`
	Hash      string    `json:"hash"`
	Parent    int64     `json:"parent" doc:"The one before; 0 for the first"`
	Change    string    `json:"change,omitempty" doc:"The change that made it"`
	Author    string    `json:"author"`
	Message   string    `json:"message"`
	CreatedAt time.Time `json:"created_at"`
	Restores  int64     `json:"restores,omitempty" doc:"The revision whose content it brings back"`
	Objects   []Ref     `json:"objects,omitempty" doc:"Only when one revision is shown"`
}

// Ref names an object's content.
type Ref struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Hash string `json:"hash"`
}

// RevisionList is some revisions, the newest first.
type RevisionList struct {
	Revisions  []Revision `json:"revisions"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// Edits is what differs between two revisions.
type Edits struct {
	From int64           `json:"from"`
	To   int64           `json:"to"`
	Diff []resource.Edit `json:"diff"`
}

// Resources is the objects of a revision.
type Resources struct {
	Revision int64             `json:"revision"`
	Objects  []json.RawMessage `json:"objects" doc:"apiVersion, kind, name, description and spec of each"`
	YAML     string            `json:"yaml" doc:"The same as YAML documents"`
}

// NodeConfig is what a node is to run, and where it comes from.
type NodeConfig struct {
	NodeID   string           `json:"node_id"`
	Revision int64            `json:"revision"`
	Hash     string           `json:"hash" doc:"What osquery_info.config_hash says on an agent that runs it"`
	Config   json.RawMessage  `json:"config" doc:"As it is served"`
	Sources  []resource.Entry `json:"sources" doc:"Which object each part comes from, and which others lost"`
	OnDisk   bool             `json:"on_disk,omitempty" doc:"The node takes its config from files; the server answers it an empty one"`
	Bare     string           `json:"bare,omitempty" doc:"Why the node gets the settings alone: quarantine, or the safe config"`
	Reported string           `json:"reported,omitempty" doc:"The config_hash that the node told last"`
}

// NodeActivity is what a node was served and asked.
type NodeActivity struct {
	Entries []Activity `json:"entries" doc:"The newest first"`
}

// Activity is one thing that a node was given.
type Activity struct {
	Time     time.Time  `json:"time"`
	Last     *time.Time `json:"last,omitempty" doc:"When the node asked for it last"`
	Kind     string     `json:"kind" enum:"config,live_query,tag"`
	Revision int64      `json:"revision,omitempty"`
	Hash     string     `json:"hash,omitempty"`
	ID       string     `json:"id,omitempty" doc:"Of the live query"`
	SQL      string     `json:"sql,omitempty"`
	By       string     `json:"by,omitempty" doc:"Whose change or query it was"`
	Message  string     `json:"message,omitempty"`
	State    string     `json:"state,omitempty"`
}

// Rollout is how a revision reaches the nodes.
type Rollout struct {
	Revision  int64            `json:"revision"`
	Base      int64            `json:"base" doc:"What the other nodes run"`
	State     string           `json:"state" enum:"running,paused,done,rolled_back"`
	Policy    string           `json:"policy"`
	Stages    []RolloutStage   `json:"stages"`
	Stage     int              `json:"stage" doc:"Index of the stage that runs"`
	StageAt   time.Time        `json:"stage_at"`
	StartedAt time.Time        `json:"started_at"`
	EndedAt   *time.Time       `json:"ended_at,omitempty"`
	Reason    string           `json:"reason,omitempty"`
	Results   []rollout.Result `json:"gates"`
	Counts    *RolloutCounts   `json:"counts,omitempty" doc:"Only of the one that is open"`
	Frozen    string           `json:"frozen,omitempty" doc:"Why no stage begins, if changes are frozen"`
}

// RolloutStage is one stage.
type RolloutStage struct {
	Name        string `json:"name"`
	BakeSeconds int    `json:"bake_seconds"`
}

// RolloutCounts says how far a rollout is.
type RolloutCounts struct {
	Nodes    int `json:"nodes" doc:"All that are known"`
	Changed  int `json:"changed" doc:"Whose config the revision changes; what follows counts these"`
	Admitted int `json:"admitted" doc:"Nodes that are to have the revision"`
	Online   int `json:"online" doc:"Of these"`
	Applied  int `json:"applied" doc:"Of these, told that they run it"`
	Control  int `json:"control" doc:"Online nodes that run the former one"`
}

// RolloutList is some rollouts, the newest first.
type RolloutList struct {
	Rollouts   []Rollout `json:"rollouts"`
	NextCursor string    `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

// Freeze says whether what agents run may change.
type Freeze struct {
	Frozen  bool       `json:"frozen"`
	Reasons []string   `json:"reasons"`
	ByHand  string     `json:"by_hand,omitempty" doc:"Who froze by hand"`
	Since   *time.Time `json:"since,omitempty"`
	Break   *Break     `json:"break,omitempty" doc:"Break-glass that is asked for, or in force"`
}

// Break is break-glass.
type Break struct {
	By         string     `json:"by"`
	Reason     string     `json:"reason"`
	At         time.Time  `json:"at"`
	ApprovedBy string     `json:"approved_by,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
}

// PasswordInput proves who calls.
type PasswordInput struct {
	Password string `json:"password" doc:"One's own, once more" maxLength:"1024"`
}

// SafeInput serves the safe config.
type SafeInput struct {
	Selector string `json:"selector" doc:"Whom; all, or an expression over tags and attributes" maxLength:"4096"`
	Reason   string `json:"reason" maxLength:"2000"`
}

// Safe says whom the safe config is served.
type Safe struct {
	Active   bool       `json:"active"`
	Selector string     `json:"selector,omitempty"`
	By       string     `json:"by,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	At       *time.Time `json:"at,omitempty"`
}

// PolicyInput asks what the policy says of a text.
type PolicyInput struct {
	SQL       string   `json:"sql" maxLength:"65536"`
	Use       string   `json:"use,omitempty" enum:"live,scheduled,discovery,decorator,view,file_paths,enrollment"`
	Interval  int      `json:"interval,omitempty"`
	Snapshot  bool     `json:"snapshot,omitempty"`
	Platforms []string `json:"platforms,omitempty" maxItems:"3"`
}

// PolicyVerdict is what the policy says of a text.
type PolicyVerdict struct {
	Allowed bool `json:"allowed" doc:"It may run without an exception"`
	policy.Verdict
}
