package change

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/rollout"
)

// Store keeps changes and revisions.
type Store interface {
	Changes
	Revisions
	// Setting returns a value by its name; "" without one.
	Setting(ctx context.Context, name string) (string, error)
	// SetSetting keeps a value durably, and raises the serving version.
	SetSetting(ctx context.Context, name, value string) error
}

// Changes keeps changes.
type Changes interface {
	// CreateChange keeps a change and gives it the next number as its ID.
	CreateChange(ctx context.Context, c Change) (Change, error)
	// SaveChange keeps a change that was in a state; Conflict if it is in another
	// now, or has other approvals than those that c has but the last.
	SaveChange(ctx context.Context, c Change, was State) error
	// Change returns a change; NotFound without one.
	Change(ctx context.Context, id string) (Change, error)
	// ListChanges returns changes, the newest first: those before an id ("" for
	// the newest) and, if state is not "", in that state.
	ListChanges(ctx context.Context, state State, before string, limit int) ([]Change, error)
}

// Revisions keeps revisions.
type Revisions interface {
	// Head returns the newest revision, without objects; NotFound if there is none.
	Head(ctx context.Context) (Revision, error)
	// Revision returns one with its objects; NotFound without it.
	Revision(ctx context.Context, number int64) (Revision, error)
	// ListRevisions returns revisions without objects, the newest first, before a
	// number (0 for the newest).
	ListRevisions(ctx context.Context, before int64, limit int) ([]Revision, error)
	// Objects returns the canonical forms of some hashes.
	Objects(ctx context.Context, hashes []string) (map[string][]byte, error)
	// Commit keeps a revision, and in the same transaction what belongs to it. It
	// raises the serving version. Conflict if the head is not the revision's
	// parent, another rollout is open, or the serving version is not that of c.
	Commit(ctx context.Context, c Commit) error
	// Serving returns what is to be served now.
	Serving(ctx context.Context) (Serving, error)
	// ServingVersion returns the version of that, which grows with each change of
	// it; it costs one look at one row.
	ServingVersion(ctx context.Context) (int64, error)
}

// Commit is a revision and what becomes of it.
type Commit struct {
	Revision Revision
	// Objects are the canonical forms of those objects that may be new, by hash.
	Objects map[string][]byte
	// Change is applied by it, and was in the state Was; nil if none is.
	Change *Change
	Was    State
	// Opens is the rollout that brings the revision; nil for at once.
	Opens *rollout.Rollout
	// Closes is the rollout that ends with it; nil for none.
	Closes *rollout.Rollout
	// Version is the serving version that it was judged by: a freeze that began
	// since must not be passed. 0 for any.
	Version int64
}

// Serving is what is to be served, as it was at one moment.
type Serving struct {
	Version int64
	Head    Revision         // with objects
	Rollout *rollout.Rollout // the open one; nil if there is none
	Safe    string           // the setting SafeSetting
	Freeze  string           // the setting FreezeSetting
}

// Served is what a node was served, and in which time it asked for it.
type Served struct {
	NodeID   string
	Revision int64 // the first that had this config for the node
	Hash     string
	First    time.Time
	Last     time.Time
}

// ServedStore keeps what nodes were served.
type ServedStore interface {
	// SaveServed keeps what nodes were served since: a row of the same node and
	// hash as the node's newest moves its Last, another is new. A later revision
	// that changes nothing for a node is not told of.
	SaveServed(ctx context.Context, served []Served) error
	// ServedTo returns what a node was served, the newest first.
	ServedTo(ctx context.Context, nodeID string, limit int) ([]Served, error)
}

// SafeSetting is the setting that holds whom the safe config is served, a
// JSON document of [Safe]; "" is nobody.
const SafeSetting = "safe_config"

// FreezeSetting is the setting that holds the freeze made by hand, and the
// break-glass, a JSON document.
const FreezeSetting = "freeze"
