package audit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/errs"
)

// Shelf keeps signed checkpoints.
type Shelf interface {
	// KeepCheckpoint keeps one durably, and those before it.
	KeepCheckpoint(signed []byte) error
	// Checkpoints returns those that were kept, or the newest of very many.
	Checkpoints() ([][]byte, error)
}

// NotaryOptions of a Notary. All are required.
type NotaryOptions struct {
	Reader Reader
	Shelf  Shelf
	Keys   Keys
	Log    *slog.Logger
	Now    func() time.Time
}

// Notary signs checkpoints of a log. It signs only what goes on from what it
// signed before: a log that was truncated or rewritten stays as it was signed
// last, and is called broken, until somebody looks. Entries are kept meanwhile.
// Safe for concurrent use.
type Notary struct {
	o NotaryOptions

	checking sync.Mutex // held while the whole log is checked

	mu      sync.Mutex // held while signing
	last    Signed
	broken  string
	changed chan struct{} // closed when last changes
}

// Signed is a checkpoint and its note.
type Signed struct {
	Checkpoint

	Note []byte
}

// NewNotary returns a Notary.
func NewNotary(o NotaryOptions) *Notary {
	return &Notary{o: o, changed: make(chan struct{})}
}

// lookBack is how many entries are checked at start, against their own hashes
// and the tree; all are by Verify.
const lookBack = 100

// Resume goes on from what was signed last; nil is nothing. A log that does not
// fit it is no error: it is Broken.
func (n *Notary) Resume(ctx context.Context, signed []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	size, err := n.o.Reader.AuditSize(ctx)
	if err != nil {
		return err
	}
	if signed != nil {
		c, err := OpenCheckpoint(signed, n.o.Keys.Verifier)
		if err != nil {
			n.halt(ctx, "the newest checkpoint is not one of this server's key: "+err.Error())
			return nil
		}
		n.last = Signed{c, signed}
	}
	why, err := n.extends(ctx, size)
	if err == nil && why == "" {
		why, err = n.checkEnd(ctx, size)
	}
	if why != "" {
		n.halt(ctx, why)
	}
	return err
}

// extends says why the log of a size does not go on from what was signed last,
// or nothing. The error is that this could not be read.
func (n *Notary) extends(ctx context.Context, size int64) (string, error) {
	last := n.last.Checkpoint
	signed := fmt.Sprintf("the checkpoint of %s signed %d entries", last.Time.Format(time.RFC3339), last.Size)
	if size < last.Size {
		return fmt.Sprintf("%s, and there are %d: entries were removed from the end, or the database is an older one", signed, size), nil
	}
	if last.Size == 0 {
		return "", nil
	}
	hashes := Hashes(ctx, n.o.Reader)
	proof, err := tlog.ProveTree(size, last.Size, hashes)
	var root tlog.Hash
	if err == nil {
		root, err = tlog.TreeHash(size, hashes)
	}
	if errs.Is(err, errs.Conflict) {
		return signed + "; " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	if err := tlog.CheckTree(proof, size, root, last.Size, last.Root); err != nil {
		return fmt.Sprintf("%s, and they are others now: the log was rewritten (%v)", signed, err), nil
	}
	return "", nil
}

// checkEnd says what is wrong with the last entries, or nothing.
func (n *Notary) checkEnd(ctx context.Context, size int64) (string, error) {
	entries, err := n.o.Reader.AuditEntries(ctx, Filter{After: max(size-lookBack, 0), Ascending: true, Limit: lookBack})
	if err != nil || size == 0 {
		return "", err
	}
	if len(entries) == 0 {
		return "the newest entries are missing", nil
	}
	c := NewChecker()
	c.prev = Entry{Seq: max(size-lookBack, 0)}
	if c.prev.Seq > 0 {
		c.prev.Hash = entries[0].Prev // taken as it is: the rest is for Verify
	}
	leaves := make([]int64, 0, len(entries))
	for _, e := range entries {
		leaves = append(leaves, tlog.StoredHashIndex(0, e.Seq-1))
	}
	known, err := n.o.Reader.AuditHashes(ctx, leaves)
	if err != nil {
		return "", err
	}
	for i, e := range entries {
		c.Add(e, nil)
		if h, ok := known[leaves[i]]; !ok || h != tlog.RecordHash(e.Leaf()) {
			c.find(Edited, e.Seq, e.Seq, "not what is in the tree")
		}
	}
	if r := c.End(size); !r.OK() {
		f := r.Findings[0]
		return fmt.Sprintf("entry %s: %s: %s", numbers(f.First, f.Last), f.Kind, f.Message), nil
	}
	return "", nil
}

// Broken says why nothing is signed any more, or nothing.
func (n *Notary) Broken() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

// Key returns the public key, as muster audit verify --key takes it.
func (n *Notary) Key() string { return n.o.Keys.Public }

// Checkpoint returns the newest checkpoint, signed now if the log has grown; of
// a broken log, the last that was good. It is NotFound before the first.
func (n *Notary) Checkpoint(ctx context.Context) (Signed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken == "" {
		if err := n.sign(ctx); err != nil {
			return Signed{}, err
		}
	}
	if n.last.Note == nil {
		return Signed{}, errs.New(errs.NotFound, "nothing was signed yet: the audit log is empty")
	}
	return n.last, nil
}

func (n *Notary) sign(ctx context.Context) error {
	size, err := n.o.Reader.AuditSize(ctx)
	if err != nil || size == n.last.Size {
		return err
	}
	why, err := n.extends(ctx, size)
	if err != nil {
		return err
	}
	if why != "" {
		n.halt(ctx, why)
		return nil
	}
	root, err := tlog.TreeHash(size, Hashes(ctx, n.o.Reader))
	if err != nil {
		return err
	}
	c := Checkpoint{Origin: n.o.Keys.Signer.Name(), Size: size, Root: root, Time: n.o.Now().UTC().Truncate(time.Millisecond)}
	signed, err := c.Sign(n.o.Keys.Signer)
	if err != nil {
		return err
	}
	if err := n.o.Shelf.KeepCheckpoint(signed); err != nil {
		return fmt.Errorf("keep checkpoint of the audit log: %w", err)
	}
	n.last = Signed{c, signed}
	close(n.changed)
	n.changed = make(chan struct{})
	return nil
}

// halt ends the signing.
func (n *Notary) halt(ctx context.Context, why string) {
	n.broken = why
	n.o.Log.ErrorContext(ctx, "the audit log is broken; nothing of it is signed any more; run muster audit verify", "reason", why)
}

// Next waits for a checkpoint of more than size entries, or until ctx ends.
func (n *Notary) Next(ctx context.Context, size int64) (Signed, error) {
	for {
		n.mu.Lock()
		last, changed := n.last, n.changed
		n.mu.Unlock()
		if last.Size > size {
			return last, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Signed{}, ctx.Err()
		}
	}
}

// Verify checks the whole log, and that it fits everything that was signed of
// it. One check runs at a time; it is Busy meanwhile.
func (n *Notary) Verify(ctx context.Context) (Report, error) {
	if !n.checking.TryLock() {
		return Report{}, errs.New(errs.Busy, "the audit log is being checked; try again when that is done")
	}
	defer n.checking.Unlock()
	kept, err := n.o.Shelf.Checkpoints()
	if err != nil {
		return Report{}, err
	}
	n.mu.Lock()
	kept = append(kept, n.last.Note)
	n.mu.Unlock()
	var checkpoints []Checkpoint
	for _, signed := range kept {
		// One that this key did not sign says nothing of the log.
		if c, err := OpenCheckpoint(signed, n.o.Keys.Verifier); err == nil {
			checkpoints = append(checkpoints, c)
		}
	}
	return Verify(ctx, n.o.Reader, checkpoints...)
}

// Size returns how many entries are signed.
func (n *Notary) Size() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last.Size
}

// Proof shows that an entry is in the log: the hashes that lead from its leaf
// to the root of a checkpoint (RFC 6962, audit path).
type Proof struct {
	Signed

	Seq    int64
	Hashes tlog.RecordProof
}

// Prove returns the proof of an entry against the newest checkpoint. It is
// NotFound if there is no such entry, and a Conflict if it cannot be signed.
func (n *Notary) Prove(ctx context.Context, seq int64) (Proof, error) {
	signed, err := n.Checkpoint(ctx)
	if err != nil {
		return Proof{}, err
	}
	if seq < 1 || seq > signed.Size {
		if why := n.Broken(); why != "" && seq > 0 {
			return Proof{}, errs.New(errs.Conflict, "entry %d is not signed: the audit log is broken; run muster audit verify", seq)
		}
		return Proof{}, errs.New(errs.NotFound, "there is no entry %d; the newest is %d", seq, signed.Size)
	}
	hashes, err := tlog.ProveRecord(signed.Size, seq-1, Hashes(ctx, n.o.Reader))
	if err != nil {
		return Proof{}, err
	}
	return Proof{signed, seq, hashes}, nil
}

// Check reports whether the proof is one of an entry.
func (p Proof) Check(e Entry) error {
	if e.Seq != p.Seq || !e.whole() {
		return errs.New(errs.Conflict, "entry %d was edited", p.Seq)
	}
	if err := tlog.CheckRecord(p.Hashes, p.Size, p.Root, p.Seq-1, tlog.RecordHash(e.Leaf())); err != nil {
		return errs.Wrap(errs.Conflict, err, fmt.Sprintf("entry %d is not in the log that was signed", p.Seq))
	}
	return nil
}
