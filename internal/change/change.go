// Package change is the only way in which what agents run changes. A proposal
// is checked as a whole, compared with the current revision, given a tier,
// priced, and refused, kept until others approve it, or made a revision at once.
// Revisions are immutable and numbered; going back makes a new one with an
// earlier one's content. A freeze refuses everything but going back.
//
// Service decides, Publisher brings what was decided to the catalog that serves
// agents.
package change

import (
	"time"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// State is where a change stands.
type State string

// The states. Only Pending and Approved ones are open.
const (
	Planned   State = "planned"   // a dry run: kept nowhere
	Unchanged State = "unchanged" // there is nothing to change: kept nowhere
	Refused   State = "refused"   // by policy or a freeze: kept nowhere
	Pending   State = "pending"   // others must approve
	Approved  State = "approved"  // enough did, and it is not applied yet
	Applied   State = "applied"   // it became a revision
	Rejected  State = "rejected"
	Withdrawn State = "withdrawn"
	Stale     State = "stale" // what it edits changed meanwhile
)

// Open reports whether a change may still become a revision.
func (s State) Open() bool { return s == Pending || s == Approved }

// Change is a proposed edit of resources.
type Change struct {
	ID        string // a number, given when it is kept
	State     State
	Author    string
	Message   string
	CreatedAt time.Time
	// Base is the revision that it was made against.
	Base  int64
	Edits []resource.Edit
	// Hash is of the edits: what approvals bind.
	Hash string
	Tier policy.Tier
	// Items are the parts of the edited objects that have a tier or findings, and
	// all parts of other objects that are refused now.
	Items []resource.Item
	// Refusals say in sentences why it is refused; empty if it is not.
	Refusals []string
	Effect   Effect
	// Needed is how many other people must approve, and Rule which policy says so.
	Needed    int
	Rule      string
	Approvals []Approval
	// Rollout is the name of the policy by which it rolls out; "" for at once.
	Rollout string
	// Revision is the one that it became; 0 if it did not.
	Revision  int64
	DecidedBy string
	DecidedAt time.Time
	Decision  string // the reason given for it
}

// Approval is one person's consent to exactly this content.
type Approval struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Hash string    `json:"hash"`
}

// Effect is what a change does to the nodes that are known now.
type Effect struct {
	Nodes     int            `json:"nodes"`     // whose config becomes another
	Online    int            `json:"online"`    // of these
	Platforms map[string]int `json:"platforms"` // of these
	Sample    []string       `json:"sample"`    // ids of up to ten of them, or of those that are asked
	// Asked are nodes that a changed EnrollmentQuery or Trigger means, before or
	// after: no config of theirs changes by that, but it reaches them.
	Asked int `json:"asked"`
	// Cost is that of the dearest node's schedule, as observed, per day.
	Before, After rollout.Day
	// Unpriced are queries of the change for which there is no evidence yet, by
	// their names on agents.
	Unpriced []string `json:"unpriced"`
}

// Revision is the state of all resources after a change. It never changes.
type Revision struct {
	Number    int64
	Hash      string // of the whole set
	Parent    int64  // the one before; 0 for the first
	ChangeID  string // "" if no change made it
	Author    string
	Message   string
	CreatedAt time.Time
	Objects   []Ref
	// Restores is the revision whose content it brings back; 0 if it does not.
	Restores int64
}

// Ref names an object's content.
type Ref struct {
	resource.Key
	Hash string `json:"hash"`
}
