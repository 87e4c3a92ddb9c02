package carve

import (
	"context"
	"io"
	"time"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
)

// Keeper keeps carves. Every method is one transaction.
type Keeper interface {
	// SaveCarves keeps carves as they are, with their archives, new or not.
	SaveCarves(ctx context.Context, carves ...*Carve) error
	// Carve returns a carve; NotFound without one.
	Carve(ctx context.Context, id string) (*Carve, error)
	// DeleteCarve removes a carve and the lists of its files.
	DeleteCarve(ctx context.Context, id string) error
	// SaveListing keeps a carve as it is with the files of one of its archives.
	SaveListing(ctx context.Context, c *Carve, archiveID string, files []File) error
}

// Ledger tells of all carves.
type Ledger interface {
	// UnsettledCarves returns those of which something is awaited.
	UnsettledCarves(ctx context.Context) ([]*Carve, error)
	// CarvesDue returns up to limit that were kept as long as they should.
	CarvesDue(ctx context.Context, now time.Time, limit int) ([]*Carve, error)
	// CarveUsage returns the sealed sizes of all archives that are there, or whose
	// room is reserved, by node.
	CarveUsage(ctx context.Context) (map[string]int64, error)
	// KnowsGUID reports whether a node has sent an archive of that name, or was to.
	KnowsGUID(ctx context.Context, nodeID, guid string) (bool, error)
	// KnowsArchive reports whether an archive of that id is there, or comes.
	KnowsArchive(ctx context.Context, id string) (bool, error)
}

// Spool keeps the files of archives that come. Their names are ids of archives.
type Spool interface {
	// Open opens a file, or makes it if create is set; NotFound without one.
	Open(name string, create bool) (SpoolFile, error)
	// Path is where a file is, for an Adopter.
	Path(name string) string
	// Remove removes a file; none is no error.
	Remove(name string) error
	// List calls yield with each file and when it was changed.
	List(yield func(name string, modified time.Time) error) error
	// Free returns how many bytes are free where the files are.
	Free() (uint64, error)
}

// SpoolFile is an open file of a Spool.
type SpoolFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync returns when what was written is on disk.
	Sync() error
	// Truncate makes the file empty.
	Truncate(size int64) error
}

// Asker asks nodes; see live.Coordinator.
type Asker interface {
	Start(ctx context.Context, q live.Query, nodes []*node.Identity) (live.Query, error)
	Stop(ctx context.Context, id string) error
	Running(id string) (live.Query, bool)
}

// Nodes knows the nodes; see node.Registry.
type Nodes interface {
	Lookup(id string) *node.Identity
}

// Auditor keeps who did what; see audit.Log.
type Auditor interface {
	Record(ctx context.Context, actor, action, target string, detail any) error
}

// Metrics counts.
type Metrics interface {
	// Block counts a block of so many bytes that was kept.
	Block(bytes int)
	// Refused counts a request of an agent that was refused, and why.
	Refused(why string)
}
