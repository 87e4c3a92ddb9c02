// Package carve fetches files from nodes. Somebody asks for paths of one node;
// a live query makes the node's carver pack them; the node sends each archive
// in blocks, which are kept sealed at their offset; when all are there, the
// archive is hashed, listed, stored, and compared with what the node says it
// sent. Everything that comes from a node is its word only: which carve it is
// for, how large it is, what is in it.
//
// The package decides and holds no connection, no SQL and no file; the store,
// the spool and the blobs are other packages'.
package carve

import (
	"slices"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// State is where a carve, or one of its archives, stands.
type State string

// The states.
const (
	Asked     State = "asked"     // the node has not polled yet
	Sent      State = "sent"      // the node took the request
	Scheduled State = "scheduled" // the node said that it will send
	Uploading State = "uploading" // blocks come
	Verifying State = "verifying" // all blocks are there, and are looked at
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Expired   State = "expired" // never came, or was kept as long as it should
)

// States returns all states.
func States() []State {
	return []State{Asked, Sent, Scheduled, Uploading, Verifying, Done, Failed, Cancelled, Expired}
}

// Open reports whether something may still come.
func (s State) Open() bool {
	switch s {
	case Asked, Sent, Scheduled, Uploading, Verifying:
		return true
	case Done, Failed, Cancelled, Expired:
	}
	return false
}

// Verification is how an archive compares with what the node says it sent.
type Verification string

// The verifications; "" while it is not known.
const (
	Matched     Verification = "matched"
	Mismatch    Verification = "mismatch"
	Unavailable Verification = "unavailable" // the node does not know, or did not answer
)

// Format is what an archive is, by its first bytes.
type Format string

// The formats; "" is anything else.
const (
	Tar     Format = "tar"
	TarZstd Format = "tar.zst"
)

// Carve is one request for files of one node.
type Carve struct {
	ID             string
	NodeID         string
	HostIdentifier string // at the time of asking
	Hostname       string // likewise
	Paths          []string
	Tier           int
	State          State
	Reason         string
	CreatedBy      string
	CreatedAt      time.Time
	ExpiresAt      time.Time // of the request: what has not been asked by then is not
	AnsweredAt     time.Time // when the node answered the request
	EndedAt        time.Time
	KeptUntil      time.Time // when the archives are removed
	Message        string    // why it is as it is
	LiveID         string    // the live query that asks for it; "" if nobody asked
	CheckID        string    // the live query that asks what the node sent
	CheckedAt      time.Time // when that was asked
	Settled        bool      // nothing is awaited any more
	Archives       []Archive
}

// Archive is what a node sends for one path.
type Archive struct {
	// ID names its content: the spool file and the blob, and the key that they
	// are sealed with.
	ID        string
	N         int
	Path      string
	GUID      string // the node's name for it; "" while that is not known
	RequestID string
	// Guessed says that the node began to send before it told what that is for.
	Guessed      bool
	State        State
	Size         int64
	BlockSize    int64
	Blocks       int64
	Received     int64 // blocks
	SHA256       string
	AgentSHA256  string
	Verification Verification
	Format       Format
	Files        int
	Truncated    bool // there are more files than are listed
	Message      string
	StartedAt    time.Time
	Session      node.KeyHash // of the session that may send blocks
	Certificate  string       // the session began with; "" without
}

// clone returns a copy that shares nothing.
func (c *Carve) clone() *Carve {
	out := *c
	out.Paths, out.Archives = slices.Clone(c.Paths), slices.Clone(c.Archives)
	return &out
}

// Size returns the size of all archives.
func (c *Carve) Size() (size int64) {
	for _, a := range c.Archives {
		size += a.Size
	}
	return size
}

// archive returns the archive with an id, or nil.
func (c *Carve) archive(id string) *Archive {
	for i := range c.Archives {
		if c.Archives[i].ID == id {
			return &c.Archives[i]
		}
	}
	return nil
}

// judge sets the state that the archives make up, at a time, and whether
// something is awaited still. What ended stays.
func (c *Carve) judge(now time.Time, keep time.Duration) {
	in, unknown := map[State]int{}, 0
	for _, a := range c.Archives {
		in[a.State]++
		if a.State == Done && a.Verification == "" {
			unknown++
		}
	}
	if c.State.Open() {
		c.follow(in, now, keep)
	}
	c.Settled = !c.State.Open() && (c.State != Done || unknown == 0)
}

func (c *Carve) follow(in map[State]int, now time.Time, keep time.Duration) {
	switch {
	case in[Uploading] > 0:
		c.State = Uploading
	case in[Scheduled] > 0:
		c.State = Scheduled
	case in[Asked]+in[Sent] > 0: // as it was
	case in[Verifying] > 0:
		c.State = Verifying
	default:
		c.State, c.EndedAt = Failed, now
		if in[Done] > 0 {
			c.State, c.KeptUntil = Done, now.Add(keep)
		}
		if c.Message == "" {
			c.Message = c.failures()
		}
	}
}

func (c *Carve) failures() string {
	for _, a := range c.Archives {
		if a.State != Done && a.Message != "" {
			return a.Message
		}
	}
	return ""
}

// end ends what is open.
func (c *Carve) end(s State, now time.Time, message string) {
	for i := range c.Archives {
		if a := &c.Archives[i]; a.State.Open() {
			a.State, a.Message = s, message
		}
	}
	c.State, c.EndedAt, c.Message = s, now, message
}

// File is one member of an archive, by the node's word. Nothing is ever written
// under such a name.
type File struct {
	Path     string    `json:"path"` // as on the node, without the directory that osquery packed it in
	Size     int64     `json:"size"`
	Mode     string    `json:"mode"` // as -rw-r--r--
	Modified time.Time `json:"modified,omitzero"`
	Type     string    `json:"type"`           // file, directory, link, symlink, device, fifo, other
	Odd      string    `json:"odd,omitempty"`  // why its name is not what it should be
	Link     string    `json:"link,omitempty"` // what it points to
}

// Room returns the bytes that the archive takes sealed, or that are reserved for
// it; 0 if it takes none.
func (a Archive) Room() int64 {
	switch a.State {
	case Uploading, Verifying, Done:
		return sealedSize(a)
	case Asked, Sent, Scheduled, Failed, Cancelled, Expired:
	}
	return 0
}

// Filter says which carves. The zero value is all.
type Filter struct {
	NodeID string
	Nodes  []string // ids of nodes that they may be of; nil for any
	State  State
	Cursor string // where the page before ended
	Limit  int
}
