package carve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/seal"
)

// finishOne looks at an archive whose blocks are all there, and stores it. Each
// step can be done again after a crash: what the archive's state and hash tell,
// and which of spool and blob is there, says how far it came.
func (s *Service) finishOne(ctx context.Context, id string) error {
	s.mu.RLock()
	u := s.uploads[id]
	s.mu.RUnlock()
	if u == nil {
		return nil
	}
	a, err := s.step(ctx, id, func(a *Archive) bool {
		if a.State == Uploading {
			a.State, a.Received = Verifying, a.Blocks
			return true
		}
		return false
	})
	if err != nil || a == nil {
		return err
	}
	if a.SHA256 == "" {
		if err := s.look(ctx, u, a); err != nil {
			return err
		}
	}
	if err := s.store(ctx, u); err != nil {
		return err
	}
	a, err = s.step(ctx, id, func(a *Archive) bool { a.State = Done; return true })
	if err != nil {
		return err
	}
	if a == nil { // it was cancelled while it was being stored
		return s.Blobs.Delete(ctx, id)
	}
	s.mu.Lock()
	delete(s.uploads, id) // its room stays taken, by the blob
	s.mu.Unlock()
	return s.Spool.Remove(id)
}

// step changes an archive, wherever it is by now, and keeps its carve if that
// did anything. It returns a copy; nil if the archive has ended meanwhile.
func (s *Service) step(ctx context.Context, id string, f func(*Archive) bool) (*Archive, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.unlock()
	c := s.holder(id)
	if c == nil {
		return nil, nil //nolint:nilnil // it was cancelled
	}
	a := c.archive(id)
	if f(a) {
		if err := s.save(ctx, c); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// holder returns a copy of the carve that has an open archive, or nil.
func (s *Service) holder(archive string) *Carve {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.open {
		if a := c.archive(archive); a != nil && a.State.Open() {
			return c.clone()
		}
	}
	return nil
}

// look hashes and lists an archive, in one pass over the spool.
func (s *Service) look(ctx context.Context, u *upload, a *Archive) error {
	u.mu.Lock()
	err := u.load(s.Spool)
	file := u.file
	u.mu.Unlock()
	if err != nil {
		return err
	}
	sum, l, err := inspect(ctx, u.sealed, seal.At(file), a.Size)
	if errors.Is(err, seal.ErrDamaged) && ctx.Err() == nil {
		s.Log.ErrorContext(ctx, "a carve's spool was damaged after it was written", "archive", a.ID, "error", err)
		return s.spoilt(ctx, a.ID)
	}
	if err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c := s.holder(a.ID)
	if c == nil {
		return nil
	}
	kept := c.archive(a.ID)
	kept.SHA256, kept.Format, kept.Files, kept.Truncated, kept.Message = sum, l.format, len(l.files), l.truncated, l.problem
	if err := s.Store.SaveListing(ctx, c, a.ID, l.files); err != nil {
		return err
	}
	s.show(c)
	return nil
}

// spoilt fails an archive that cannot be read any more.
func (s *Service) spoilt(ctx context.Context, id string) error {
	_, err := s.step(ctx, id, func(a *Archive) bool {
		a.State, a.Message = Failed, "what was written could not be read again; the server's disk is failing"
		return true
	})
	if err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.discard(ctx, id)
	return nil
}

// inspect reads a whole archive once, for its hash and its files.
func inspect(ctx context.Context, sealed seal.Archive, source seal.Source, size int64) (sum string, l listing, err error) {
	r, err := seal.NewReader(sealed, source, 0, -1)
	if err != nil {
		return "", l, err
	}
	defer r.Close() //nolint:errcheck // read only
	pr, pw := io.Pipe()
	listed := make(chan listing, 1)
	go func() {
		l := list(pr, size)
		_ = pr.CloseWithError(io.ErrClosedPipe) // the rest is for the hash alone
		listed <- l
	}()
	h := sha256.New()
	_, err = io.CopyBuffer(hashed{h, pw}, untilDone{ctx, r}, make([]byte, 64<<10))
	_ = pw.CloseWithError(err) // the end, if there was no error
	l = <-listed
	return hex.EncodeToString(h.Sum(nil)), l, err
}

// hashed writes to a hash, and to a list for as long as that takes it.
type hashed struct {
	hash.Hash
	list *io.PipeWriter
}

func (h hashed) Write(p []byte) (int, error) {
	_, _ = h.list.Write(p) // it may have seen enough
	return h.Hash.Write(p)
}

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context //nolint:containedctx // of the one pass
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// store brings a sealed archive from the spool to the blobs.
func (s *Service) store(ctx context.Context, u *upload) error {
	a, err := s.step(ctx, u.archive, func(*Archive) bool { return false })
	if err != nil || a == nil {
		return err
	}
	u.close()
	f, err := s.Spool.Open(u.archive, false)
	if errs.Is(err, errs.NotFound) { // it was renamed just before a crash
		r, err := s.Blobs.Open(ctx, u.archive, 0, 1)
		if err != nil {
			return fmt.Errorf("archive %s is neither in the spool nor stored: %w", u.archive, err)
		}
		return r.Close()
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if adopter, ok := s.Blobs.(Adopter); ok {
		return adopter.Adopt(ctx, u.archive, s.Spool.Path(u.archive))
	}
	size := u.sealed.SealedSize()
	return s.Blobs.Put(ctx, u.archive, size, io.NewSectionReader(f, 0, size))
}

// checkFor is how long a node is asked what it sent.
const checkFor = time.Hour

// check asks the node of a carve what it knows of its archives. The caller holds
// the lock. Who cannot be asked is taken to know nothing.
func (s *Service) check(ctx context.Context, c *Carve) error {
	now := s.Now()
	var guids []string
	for _, a := range c.Archives {
		if a.GUID != "" {
			guids = append(guids, a.GUID)
		}
	}
	c.CheckedAt = now
	n := s.Nodes.Lookup(c.NodeID)
	if n == nil || len(guids) == 0 {
		c.unknown()
		return s.save(ctx, c)
	}
	c.CheckID = ident.New()
	if err := s.save(ctx, c); err != nil { // first, so that the answer is known
		return err
	}
	return s.ask(ctx, c, n, c.CheckID, checkSQL(guids), now.Add(checkFor))
}

// unknown settles what the node was asked and did not answer.
func (c *Carve) unknown() {
	c.CheckID = ""
	for i := range c.Archives {
		if a := &c.Archives[i]; a.State == Done && a.Verification == "" {
			a.Verification = Unavailable
		}
	}
}

// unanswered reports whether the query that asks what the node sent has ended.
func (s *Service) unanswered(c *Carve) bool {
	q, ok := s.Asker.Running(c.CheckID)
	return !ok || q.Phase != live.Running
}

// Open returns n bytes of a stored archive from a byte on, to its end if n is
// negative, as the node sent it.
func (s *Service) Open(ctx context.Context, a Archive, from, n int64) (io.ReadCloser, error) {
	if a.State != Done {
		return nil, errs.New(errs.NotFound, "the archive is not there: it is %s", a.State)
	}
	sealed, err := s.sealed(a)
	if err != nil {
		return nil, err
	}
	return seal.NewReader(sealed, func(offset, n int64) (io.ReadCloser, error) { return s.Blobs.Open(ctx, a.ID, offset, n) }, from, n)
}
