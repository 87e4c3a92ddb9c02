package carve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/seal"
)

// upload is one archive that comes, or that came and is looked at.
type upload struct {
	archive string
	node    string
	sealed  seal.Archive

	received atomic.Int64 // blocks
	last     atomic.Int64 // when the last block came, Unix seconds

	// Of the session; guarded by the service's mu.
	session     node.KeyHash
	certificate string
	working     bool // the finisher has it

	mu     sync.Mutex
	file   SpoolFile // nil until it is needed
	have   bitmap    // blocks that are there
	fresh  bitmap    // those of them that came in this session
	whole  bool      // all are there; nothing is written any more
	closed bool      // given up
}

// bitmap is a set of blocks.
type bitmap []uint64

func newBitmap(n int64) bitmap        { return make(bitmap, (n+63)/64) }
func (b bitmap) has(i int64) bool     { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i int64)          { b[i/64] |= 1 << (i % 64) }
func (b bitmap) clear()               { clear(b) }
func (u *upload) touch(now time.Time) { u.last.Store(now.Unix()) }

// ending is what is remembered of a session that ended: an agent that did not
// hear the answer to its last block sends that once more.
type ending struct {
	node, certificate string
	block             int64
	at                time.Time
}

// Sender is who sends a request, as far as it shows.
type Sender struct {
	// Node is nil if the request holds no key, as that of a block from agents
	// before 5.23.0.
	Node *node.Identity
	// Certificate is the fingerprint of the sender's, "" without.
	Certificate string
}

// Begin opens a session for an archive that a node wants to send, and returns
// its secret. The same archive may begin again: then the new session replaces
// the old one, and blocks that are there stay until they come again.
func (s *Service) Begin(ctx context.Context, from Sender, r osquery.CarveStart) (session string, err error) {
	defer func() {
		if err != nil {
			s.Metrics.Refused("start_" + errs.KindOf(err).String())
		}
	}()
	if from.Node == nil || from.Node.Quarantined {
		return "", errs.New(errs.Forbidden, "the node is under quarantine; it may send no files")
	}
	if err := s.checkStart(r); err != nil {
		return "", err
	}
	if err := s.lock(ctx); err != nil {
		return "", err
	}
	defer s.unlock()
	c, a, err := s.bind(ctx, from.Node, r)
	if err != nil {
		return "", err
	}
	if a.State == Verifying {
		return "", errs.New(errs.Conflict, "all of this carve is here already")
	}
	if a.State == Uploading && (a.Size != r.Size || a.BlockSize != r.BlockSize) {
		s.discard(ctx, a.ID) // it was packed anew, and is another
		a.State = Scheduled
	}
	s.mu.RLock()
	again := a.State == Uploading && s.uploads[a.ID] != nil
	s.mu.RUnlock()
	a.Size, a.BlockSize, a.Blocks = r.Size, r.BlockSize, r.Blocks
	if err := s.admit(from.Node.ID, *a, again); err != nil {
		return "", err
	}
	session = ident.Secret()
	a.State, a.StartedAt, a.Session, a.Certificate = Uploading, s.Now(), s.Keyer.Hash(purposeSession, session), from.Certificate
	u, err := s.newUpload(c, a)
	if err == nil {
		err = s.save(ctx, c)
	}
	if err != nil {
		if !again {
			s.release(c.NodeID, sealedSize(*a))
		}
		return "", err
	}
	s.arm(u, a)
	return session, nil
}

// checkStart refuses numbers that cannot be, and more than is taken at all.
func (s *Service) checkStart(r osquery.CarveStart) error {
	switch {
	case r.CarveID == "" || !goodName(r.CarveID):
		return errs.Field("carve_id", "is none that an agent makes")
	case !goodName(r.RequestID):
		return errs.Field("request_id", "is none that an agent makes")
	case r.Size < 1 || r.BlockSize < 1 || r.Blocks < 1:
		return errs.Field("carve_size", "block_size and block_count must be above 0")
	case r.BlockSize > s.Limits.BlockSize:
		return errs.New(errs.TooLarge, "blocks have %d bytes, and at most %d are taken; set --carver_block_size", r.BlockSize, s.Limits.BlockSize)
	case r.Size > s.Limits.PerCarve:
		return errs.New(errs.TooLarge, "the archive has %d bytes, and at most %d are taken", r.Size, s.Limits.PerCarve)
	case r.Blocks > maxBlocks:
		return errs.New(errs.TooLarge, "the archive has %d blocks, and at most %d are taken; set a larger --carver_block_size", r.Blocks, maxBlocks)
	case r.Blocks != (r.Size+r.BlockSize-1)/r.BlockSize:
		return errs.Field("block_count", "is %d; %d bytes are %d blocks of %d", r.Blocks, r.Size, (r.Size+r.BlockSize-1)/r.BlockSize, r.BlockSize)
	}
	return nil
}

// newUpload returns the upload of an archive: the one that is there, or a new
// one that nobody knows yet.
func (s *Service) newUpload(c *Carve, a *Archive) (*upload, error) {
	s.mu.RLock()
	u := s.uploads[a.ID]
	s.mu.RUnlock()
	if u != nil {
		return u, nil
	}
	sealed, err := s.sealed(*a)
	if err != nil {
		return nil, err
	}
	u = &upload{archive: a.ID, node: c.NodeID, sealed: sealed, have: newBitmap(a.Blocks), fresh: newBitmap(a.Blocks)}
	u.touch(s.Now())
	return u, nil
}

// arm makes an archive's session the one that may send.
func (s *Service) arm(u *upload, a *Archive) {
	u.mu.Lock()
	u.fresh.clear()
	u.mu.Unlock()
	u.touch(s.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploads[a.ID] = u
	delete(s.sessions, u.session)
	u.session, u.certificate = a.Session, a.Certificate
	s.sessions[a.Session] = u
}

// Block keeps one block, durably when it returns, and reports whether it was
// the last. It takes data's memory, and the room behind it.
func (s *Service) Block(_ context.Context, from Sender, session string, block int64, data []byte) (last bool, err error) {
	defer func() {
		if err != nil {
			s.Metrics.Refused("block_" + errs.KindOf(err).String())
		}
	}()
	hash := s.Keyer.Hash(purposeSession, session)
	s.mu.RLock()
	u := s.sessions[hash]
	e, over := s.ended[hash]
	nodeID, certificate := e.node, e.certificate
	if u != nil {
		nodeID, certificate = u.node, u.certificate
	}
	s.mu.RUnlock()
	if u == nil && !over {
		return false, errNoSession
	}
	if err := s.mayWrite(from, nodeID, certificate); err != nil {
		return false, err
	}
	if u == nil {
		if e.block == block {
			return true, nil // it did not hear the answer
		}
		return false, errNoSession
	}
	size := len(data)
	whole, fresh, err := u.write(s, block, data)
	if err != nil {
		return false, err
	}
	if fresh {
		s.Metrics.Block(size)
	}
	if whole {
		s.completed(u, hash, block)
	}
	return whole, nil
}

var errNoSession = errs.New(errs.NotFound, "the session is not known, or has ended")

// mayWrite refuses another node's session.
func (s *Service) mayWrite(from Sender, nodeID, certificate string) error {
	switch {
	case from.Node != nil && from.Node.ID != nodeID:
		return errs.New(errs.Forbidden, "the session belongs to another node")
	case from.Node == nil && certificate != "" && from.Certificate != certificate:
		return errs.New(errs.Forbidden, "the session belongs to another client certificate")
	}
	if n := s.Nodes.Lookup(nodeID); n == nil || n.Quarantined {
		return errs.New(errs.Forbidden, "the node is gone, or under quarantine; it may send no files")
	}
	return nil
}

// write keeps a block. Fresh is false if it was there from the same session.
func (u *upload) write(s *Service, block int64, data []byte) (whole, fresh bool, err error) {
	if block < 0 || block >= u.sealed.Blocks() {
		return false, false, errs.Field("block_id", "is %d; the archive has %d blocks", block, u.sealed.Blocks())
	}
	if n := u.sealed.BlockLen(block); int64(len(data)) != n {
		return false, false, errs.Field("data", "has %d bytes; block %d has %d", len(data), block, n)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.whole || u.closed {
		return false, false, errNoSession
	}
	if err := u.load(s.Spool); err != nil {
		return false, false, err
	}
	if !u.whole && !u.fresh.has(block) {
		if err := s.diskFree(); err != nil {
			return false, false, err
		}
		if err := u.put(block, data); err != nil {
			return false, false, err
		}
		fresh = true
	}
	u.touch(s.Now())
	return u.whole, fresh, nil
}

// put writes a block and counts it when it is on disk.
func (u *upload) put(block int64, data []byte) error {
	if cap(data) < len(data)+seal.Overhead { // a tiny one: its base64 is hardly longer
		data = append(make([]byte, 0, len(data)+seal.Overhead), data...)
	}
	record, err := u.sealed.Seal(data[:0], data, block)
	if err != nil {
		return err
	}
	if _, err := u.file.WriteAt(record, u.sealed.Offset(block)); err != nil {
		return fmt.Errorf("write block %d of archive %s: %w", block, u.archive, err)
	}
	if err := u.file.Sync(); err != nil {
		return fmt.Errorf("sync block %d of archive %s: %w", block, u.archive, err)
	}
	u.fresh.set(block)
	u.mark(block)
	return nil
}

func (u *upload) mark(block int64) {
	if !u.have.has(block) {
		u.have.set(block)
		u.whole = u.received.Add(1) == u.sealed.Blocks()
	}
}

// load opens the spool's file, and finds out from it which blocks are there.
func (u *upload) load(spool Spool) error {
	if u.file != nil {
		return nil
	}
	f, err := spool.Open(u.archive, true)
	if err != nil {
		return fmt.Errorf("open the spool of archive %s: %w", u.archive, err)
	}
	if err := u.scan(f); err != nil {
		return errors.Join(fmt.Errorf("read the spool of archive %s: %w", u.archive, err), f.Close())
	}
	u.file = f
	return nil
}

func (u *upload) scan(f SpoolFile) error {
	var header [seal.HeaderSize]byte
	_, err := f.ReadAt(header[:], 0)
	if err == nil {
		err = u.sealed.CheckHeader(header[:])
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, seal.ErrDamaged): // new, or it was just being made
		if err := f.Truncate(0); err != nil {
			return err
		}
		header = u.sealed.Header()
		_, err := f.WriteAt(header[:], 0)
		return err // it is synced with the first block
	case err != nil:
		return err
	}
	record := make([]byte, u.sealed.BlockLen(0)+seal.Overhead)
	for i := range u.sealed.Blocks() {
		r := record[:u.sealed.BlockLen(i)+seal.Overhead]
		if _, err := f.ReadAt(r, u.sealed.Offset(i)); errors.Is(err, io.EOF) {
			return nil // nothing comes behind
		} else if err != nil {
			return err
		}
		if _, err := u.sealed.Open(r[:0], r, i); err == nil {
			u.mark(i)
		}
	}
	return nil
}

// close lets the file go; the upload takes no more.
func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.file != nil {
		_ = u.file.Close() // what was acknowledged was synced
		u.file = nil
	}
}

// completed ends a session whose blocks are all there.
func (s *Service) completed(u *upload, hash node.KeyHash, block int64) {
	s.mu.Lock()
	if s.sessions[hash] == u {
		delete(s.sessions, hash)
		s.ended[hash] = ending{node: u.node, certificate: u.certificate, block: block, at: s.Now()}
	}
	s.mu.Unlock()
	s.queue(u)
}

// queue gives an upload to the finisher.
func (s *Service) queue(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.working {
		return
	}
	select {
	case s.finish <- u.archive:
		u.working = true
	default: // the next tick tries again
	}
}

// discard gives an upload up and removes what came of it. The caller holds the
// lock.
func (s *Service) discard(ctx context.Context, archive string) {
	s.mu.Lock()
	u := s.uploads[archive]
	if u != nil {
		delete(s.uploads, archive)
		delete(s.sessions, u.session)
	}
	s.mu.Unlock()
	if u != nil {
		u.close()
		s.release(u.node, u.sealed.SealedSize())
	}
	if err := s.Spool.Remove(archive); err != nil { // the sweeper finds it
		s.Log.WarnContext(ctx, "the spool of a carve could not be removed", "archive", archive, "error", err)
	}
}
