package carve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/seal"
)

// Limits are what carves take at most. Their defaults are the settings'.
type Limits struct {
	PerCarve int64 // bytes of one archive
	PerNode  int64 // bytes of all that a node has sent and that is kept
	Total    int64 // bytes of all nodes
	Free     int64 // bytes that stay free on the disk: others need it more
	Sessions int   // uploads at a time
	// SessionsPerNode: a real agent sends one archive after another; more are
	// left over from carvers that were killed.
	SessionsPerNode int
	BlockSize       int64         // the largest block
	Idle            time.Duration // an upload without blocks for so long is abandoned
	Keep            time.Duration // finished ones are kept so long
	// Unrequested says that archives which nobody asked for are taken.
	Unrequested bool
}

// Bounds that are no settings.
const (
	// maxBlocks bounds what is remembered of one upload: 256 KiB for two bits a
	// block. 2 GiB in osquery's default blocks of 8 KiB has a quarter of it.
	maxBlocks = 1 << 20
	// MaxPaths bounds the paths of one carve: the node packs one after another.
	MaxPaths = 16
	// maxOpen bounds the carves that are awaited at a time, all in memory.
	maxOpen = 10_000
	// maxOpenPerNode bounds those of one node, which it looks through at each
	// start.
	maxOpenPerNode = 64
	// AskFor is how long a node is asked, unless wished otherwise.
	AskFor = time.Hour
	// MaxAskFor is the longest that a node is asked.
	MaxAskFor = 7 * 24 * time.Hour
)

// Options of a Service. All are required.
type Options struct {
	Store   Keeper
	Ledger  Ledger
	Spool   Spool
	Blobs   Store
	Key     seal.Key
	Asker   Asker
	Nodes   Nodes
	Keyer   node.Keyer
	Audit   Auditor
	Metrics Metrics
	Limits  Limits
	Log     *slog.Logger
	Now     func() time.Time
}

// Service is all carves. Safe for concurrent use.
type Service struct {
	Options

	// change is held by whoever changes a carve, also while the store is asked, so
	// that changes are one after another. Blocks do not need it.
	change chan struct{}

	mu       sync.RWMutex
	open     map[string]*Carve // that are not settled; each is never changed, but replaced
	uploads  map[string]*upload
	sessions map[node.KeyHash]*upload
	ended    map[node.KeyHash]ending
	used     map[string]int64 // reserved bytes by node
	total    int64

	finish chan string // ids of archives of which all blocks are there
}

// purposeSession is what sessions are hashed for.
const purposeSession = "carve_session"

// finishQueue holds more archives than there can be uploads.
const finishQueue = 4096

// New returns a Service without carves; Load takes up what is awaited.
func New(o Options) *Service {
	return &Service{
		Options: o, change: make(chan struct{}, 1), open: map[string]*Carve{}, uploads: map[string]*upload{},
		sessions: map[node.KeyHash]*upload{}, ended: map[node.KeyHash]ending{}, used: map[string]int64{},
		finish: make(chan string, finishQueue),
	}
}

// lock takes the right to change carves.
func (s *Service) lock(ctx context.Context) error {
	select {
	case s.change <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) unlock() { <-s.change }

// get returns a copy of a carve that is awaited, or nil.
func (s *Service) get(id string) *Carve {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.open[id]; c != nil {
		return c.clone()
	}
	return nil
}

// of returns copies of a node's open carves, the oldest first.
func (s *Service) of(nodeID string) []*Carve {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*Carve
	for _, c := range s.open {
		if c.NodeID == nodeID && c.State.Open() {
			list = append(list, c.clone())
		}
	}
	sortCarves(list)
	return list
}

// save keeps carves and shows them. The caller holds the lock.
func (s *Service) save(ctx context.Context, carves ...*Carve) error {
	now := s.Now()
	for _, c := range carves {
		c.judge(now, s.Limits.Keep)
	}
	if err := s.Store.SaveCarves(ctx, carves...); err != nil {
		return err
	}
	s.show(carves...)
	return nil
}

func (s *Service) show(carves ...*Carve) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range carves {
		if c.Settled {
			delete(s.open, c.ID)
		} else {
			s.open[c.ID] = c.clone()
		}
	}
}

// Current returns a carve as it is now if it is awaited, with the blocks that
// have come.
func (s *Service) Current(id string) (*Carve, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.open[id]
	if c == nil {
		return nil, false
	}
	c = c.clone()
	for i := range c.Archives {
		if u := s.uploads[c.Archives[i].ID]; u != nil {
			c.Archives[i].Received = u.received.Load()
		}
	}
	if q, ok := s.Asker.Running(c.LiveID); ok && c.State == Asked && q.Counts[live.Sent] > 0 {
		c.State = Sent
	}
	return c, true
}

// Usage returns the bytes that carves take, and how many they may.
func (s *Service) Usage() (used, limit int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.total, s.Limits.Total
}

// Stats tells of the moment, for metrics.
func (s *Service) Stats() (byState map[State]int, uploads int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	byState = map[State]int{}
	for _, c := range s.open {
		byState[c.State]++
	}
	return byState, len(s.sessions)
}

// Request is what somebody wants of a node. ID is chosen by the caller, so that
// the audit log can name it first.
type Request struct {
	ID        string
	Node      *node.Identity
	Paths     []string
	Tier      int
	Reason    string
	By        string
	ExpiresAt time.Time // zero for AskFor
}

// Start asks a node for paths. They were judged by the policy before.
func (s *Service) Start(ctx context.Context, r Request) (*Carve, error) {
	sql, err := AskSQL(r.Paths)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	if r.ExpiresAt.IsZero() {
		r.ExpiresAt = now.Add(AskFor)
	}
	c := &Carve{
		ID: r.ID, NodeID: r.Node.ID, HostIdentifier: r.Node.HostIdentifier, Hostname: r.Node.Hostname, Paths: r.Paths, Tier: r.Tier,
		State: Asked, Reason: r.Reason, CreatedBy: r.By, CreatedAt: now, ExpiresAt: r.ExpiresAt, LiveID: ident.New(),
	}
	for i, path := range r.Paths {
		c.Archives = append(c.Archives, Archive{ID: ident.New(), N: i, Path: path, State: Asked})
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	if err := s.room(r.Node.ID); err != nil {
		return nil, err
	}
	if err := s.save(ctx, c); err != nil {
		return nil, err
	}
	if err := s.ask(ctx, c, r.Node, c.LiveID, sql, c.ExpiresAt); err != nil {
		c.end(Failed, s.Now(), "the node could not be asked")
		return nil, errors.Join(err, s.save(context.WithoutCancel(ctx), c))
	}
	return c, nil
}

// room refuses more carves than are to be awaited at a time.
func (s *Service) room(nodeID string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	of := 0
	for _, c := range s.open {
		if c.NodeID == nodeID && c.State.Open() {
			of++
		}
	}
	switch {
	case of >= maxOpenPerNode:
		return errs.New(errs.Busy, "%d carves of this node are not finished; wait, or cancel some", of)
	case len(s.open) >= maxOpen:
		return errs.New(errs.Busy, "%d carves are not finished; wait, or cancel some", len(s.open))
	}
	return nil
}

// ask starts the live query of a carve.
func (s *Service) ask(ctx context.Context, c *Carve, n *node.Identity, id, sql string, until time.Time) error {
	q := live.Query{
		ID: id, Kind: live.Carve, Source: c.ID, SQL: sql, Selector: node.Selector{Nodes: []string{n.ID}},
		CreatedBy: c.CreatedBy, ExpiresAt: until,
	}
	_, err := s.Asker.Start(ctx, q, []*node.Identity{n})
	return err
}

// Cancel ends a carve that is not finished; what came of it is removed. One
// that has ended stays as it is.
func (s *Service) Cancel(ctx context.Context, id, by string) (*Carve, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	c := s.get(id)
	if c == nil || !c.State.Open() {
		return s.Store.Carve(ctx, id)
	}
	return c, s.abort(ctx, c, Cancelled, "cancelled by "+by)
}

// abort ends an open carve, with its uploads. The caller holds the lock.
func (s *Service) abort(ctx context.Context, c *Carve, state State, message string) error {
	if err := s.stopAsking(ctx, c); err != nil {
		return err
	}
	open := make([]string, 0, len(c.Archives))
	done := false
	for _, a := range c.Archives {
		if a.State.Open() {
			open = append(open, a.ID)
		}
		done = done || a.State == Done
	}
	if was := c.State; done && state == Failed { // the others are good
		c.end(state, s.Now(), message)
		c.State, c.EndedAt = was, time.Time{}
	} else {
		c.end(state, s.Now(), message)
	}
	if done {
		c.KeptUntil = s.Now().Add(s.Limits.Keep)
	}
	if err := s.save(ctx, c); err != nil {
		return err
	}
	for _, id := range open {
		s.discard(ctx, id)
	}
	return nil
}

func (s *Service) stopAsking(ctx context.Context, c *Carve) error {
	for _, id := range []string{c.LiveID, c.CheckID} {
		if id == "" {
			continue
		}
		if err := s.Asker.Stop(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes a carve and all that came of it; an open one is cancelled
// first.
func (s *Service) Delete(ctx context.Context, id, by string) error {
	if _, err := s.Cancel(ctx, id, by); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c, err := s.Store.Carve(ctx, id)
	if err != nil {
		return err
	}
	if err := s.stopAsking(ctx, c); err != nil {
		return err
	}
	if err := s.removeBlobs(ctx, c); err != nil {
		return err
	}
	if err := s.Store.DeleteCarve(ctx, id); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.open, id)
	s.mu.Unlock()
	return nil
}

// removeBlobs removes what a carve's archives take. The caller holds the lock.
func (s *Service) removeBlobs(ctx context.Context, c *Carve) error {
	for _, a := range c.Archives {
		s.discard(ctx, a.ID)
		if a.State != Done {
			continue
		}
		if err := s.Blobs.Delete(ctx, a.ID); err != nil {
			return fmt.Errorf("remove archive %s: %w", a.ID, err)
		}
		s.release(c.NodeID, sealedSize(a))
	}
	return nil
}

// Expire removes what a carve's archives take, and says so. It is for those
// that were kept as long as they should.
func (s *Service) expire(ctx context.Context, c *Carve) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if err := s.removeBlobs(ctx, c); err != nil {
		return err
	}
	for i := range c.Archives {
		if c.Archives[i].State == Done {
			c.Archives[i].State, c.Archives[i].Message = Expired, "removed after its time"
		}
	}
	c.State = Expired
	c.Message = "kept until " + c.KeptUntil.UTC().Format(time.RFC3339) + ", then removed"
	return s.save(ctx, c)
}

// sealed returns how an archive is sealed.
func (s *Service) sealed(a Archive) (seal.Archive, error) {
	return s.Key.Archive(a.ID, a.BlockSize, a.Size)
}

// sealedSize is what an archive takes sealed; see seal.Archive.SealedSize.
func sealedSize(a Archive) int64 { return seal.HeaderSize + a.Size + a.Blocks*seal.Overhead }
