package audit_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

// shelf is a log and what was signed of it, in memory.
type shelf struct {
	entries []audit.Entry
	hashes  []tlog.Hash
	err     error // of reading
	signed  [][]byte
	full    error // of keeping
}

func (s *shelf) grow(size int) *shelf {
	s.entries, s.hashes = chain(size), nil
	var tree audit.Frontier
	for _, e := range s.entries {
		s.hashes = append(s.hashes, tree.Add(tlog.RecordHash(e.Leaf()))...)
	}
	return s
}

func (s *shelf) KeepCheckpoint(signed []byte) error {
	if s.full == nil {
		s.signed = append(s.signed, signed)
	}
	return s.full
}

func (s *shelf) Checkpoints() ([][]byte, error) { return s.signed, s.err }

func (s *shelf) AuditSize(context.Context) (int64, error) { return int64(len(s.entries)), s.err }

func (s *shelf) AuditEntries(_ context.Context, f audit.Filter) ([]audit.Entry, error) {
	var found []audit.Entry
	for _, e := range s.entries {
		if e.Seq > f.After && len(found) < f.Limit {
			found = append(found, e)
		}
	}
	return found, s.err
}

func (s *shelf) AuditHashes(_ context.Context, indexes []int64) (map[int64]tlog.Hash, error) {
	known := map[int64]tlog.Hash{}
	for _, i := range indexes {
		if i < int64(len(s.hashes)) && s.hashes[i] != (tlog.Hash{}) {
			known[i] = s.hashes[i]
		}
	}
	return known, s.err
}

func notary(t *testing.T, s *shelf, k audit.Keys) *audit.Notary {
	t.Helper()
	return audit.NewNotary(audit.NotaryOptions{
		Reader: s, Shelf: s, Keys: k, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at },
	})
}

func TestNotary(t *testing.T) {
	t.Parallel()
	k := keyPair(t, "muster-audit-1")
	s := new(shelf)
	n := notary(t, s, k)
	if err := n.Resume(t.Context(), nil); err != nil || n.Broken() != "" {
		t.Fatal(err, n.Broken())
	}
	if _, err := n.Checkpoint(t.Context()); !errs.Is(err, errs.NotFound) {
		t.Errorf("an empty log: %v", err)
	}
	for _, size := range []int{1, 2, 3, 7, 7, 64, 65, 100} {
		s.grow(size)
		got, err := n.Checkpoint(t.Context())
		if err != nil || got.Size != int64(size) || got.Root != signed(s.entries, size).Root || n.Size() != int64(size) {
			t.Fatalf("%d: %+v %v", size, got, err)
		}
	}
	if len(s.signed) != 7 {
		t.Errorf("%d were kept", len(s.signed))
	}
	for _, one := range s.signed {
		if _, err := audit.OpenCheckpoint(one, k.Verifier); err != nil {
			t.Error(err)
		}
	}
	// What cannot be kept or read was not signed, and is tried again.
	s.grow(101)
	s.full = errors.New("disk full")
	if _, err := n.Checkpoint(t.Context()); !errors.Is(err, s.full) || n.Size() != 100 || n.Broken() != "" {
		t.Error(err)
	}
	s.full, s.err = nil, errors.New("database is away")
	if _, err := n.Checkpoint(t.Context()); !errors.Is(err, s.err) || n.Broken() != "" {
		t.Error(err)
	}
	s.err = nil
	if got, err := n.Checkpoint(t.Context()); err != nil || got.Size != 101 {
		t.Error(err)
	}
}

// TestNotary_broken: what does not go on from what was signed is not signed.
func TestNotary_broken(t *testing.T) {
	t.Parallel()
	k := keyPair(t, "muster-audit-1")
	other, _ := keys(t, "muster-audit-2")
	forged := func(size, first int) *shelf {
		s := new(shelf).grow(size)
		s.entries[first-1].Actor = "eve"
		s.entries = reseal(s.entries)
		var tree audit.Frontier
		s.hashes = nil
		for _, e := range s.entries {
			s.hashes = append(s.hashes, tree.Add(tlog.RecordHash(e.Leaf()))...)
		}
		return s
	}
	holed := new(shelf).grow(12)
	holed.hashes[tlog.StoredHashIndex(3, 0)] = tlog.Hash{}
	edited := new(shelf).grow(12)
	edited.entries[9].Reason = "x"
	unlike := new(shelf).grow(12)
	unlike.hashes[tlog.StoredHashIndex(0, 11)] = tlog.RecordHash(nil)
	for name, c := range map[string]struct {
		now      *shelf
		notAfter bool // seen only at start
	}{
		"truncated":            {now: new(shelf).grow(9)},
		"emptied":              {now: new(shelf)},
		"rewritten":            {now: forged(10, 3)},
		"rewritten and longer": {now: forged(30, 10)},
		"hash missing":         {now: holed},
		"edited":               {now: edited, notAfter: true},
		"tree edited":          {now: unlike, notAfter: true},
	} {
		good := new(shelf).grow(10)
		n := notary(t, good, k)
		last, err := n.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again := notary(t, c.now, k)
		if err := again.Resume(t.Context(), last.Note); err != nil || again.Broken() == "" {
			t.Errorf("%s: at start: %v %q", name, err, again.Broken())
		}
		if got, err := again.Checkpoint(t.Context()); err != nil || got.Size != 10 || len(c.now.signed) != 0 {
			t.Errorf("%s: signed %d, %v", name, got.Size, err)
		}
		good.entries, good.hashes = c.now.entries, c.now.hashes
		if c.notAfter || name == "rewritten" { // as long as before: nothing to sign
			continue
		}
		if got, err := n.Checkpoint(t.Context()); err != nil || got.Size != 10 || n.Broken() == "" {
			t.Errorf("%s: while it runs: signed %d, %v, %q", name, got.Size, err, n.Broken())
		}
	}
	s := new(shelf).grow(3)
	foreign, err := audit.Checkpoint{Origin: "muster-audit-2", Size: 3, Root: signed(s.entries, 3).Root}.Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	n := notary(t, s, k)
	if err := n.Resume(t.Context(), foreign); err != nil || n.Broken() == "" {
		t.Errorf("a checkpoint of another key: %v", err)
	}
	s.err = errors.New("database is away")
	if err := notary(t, s, k).Resume(t.Context(), nil); !errors.Is(err, s.err) {
		t.Error(err)
	}
}

// TestResume goes on after a restart, with a log longer than what is looked at.
func TestResume(t *testing.T) {
	t.Parallel()
	k := keyPair(t, "muster-audit-1")
	s := new(shelf).grow(300)
	last, err := notary(t, s, k).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.grow(450)
	n := notary(t, s, k)
	if err := n.Resume(t.Context(), last.Note); err != nil || n.Broken() != "" || n.Size() != 300 {
		t.Fatal(err, n.Broken(), n.Size())
	}
	if got, err := n.Checkpoint(t.Context()); err != nil || got.Size != 450 {
		t.Error(got, err)
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := keyPair(t, "muster-audit-1")
		s := new(shelf).grow(1)
		n := notary(t, s, k)
		var sizes []int64
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for size := int64(0); ; {
				next, err := n.Next(ctx, size)
				if err != nil {
					return
				}
				size = next.Size
				sizes = append(sizes, size)
			}
		}()
		for _, size := range []int{1, 5, 5, 9} {
			synctest.Wait()
			s.grow(size)
			if _, err := n.Checkpoint(t.Context()); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !slices.Equal(sizes, []int64{1, 5, 9}) {
			t.Error(sizes)
		}
	})
}

func TestProve(t *testing.T) {
	t.Parallel()
	k := keyPair(t, "muster-audit-1")
	s := new(shelf).grow(21)
	n := notary(t, s, k)
	for _, e := range s.entries {
		p, err := n.Prove(t.Context(), e.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(e); err != nil {
			t.Errorf("entry %d: %v", e.Seq, err)
		}
		forged := e
		forged.Actor = "eve"
		if err := p.Check(forged); !errs.Is(err, errs.Conflict) {
			t.Errorf("an edited entry %d: %v", e.Seq, err)
		}
		forged.Seal()
		if err := p.Check(forged); !errs.Is(err, errs.Conflict) {
			t.Errorf("a forged entry %d: %v", e.Seq, err)
		}
	}
	for _, seq := range []int64{0, -1, 22} {
		if _, err := n.Prove(t.Context(), seq); !errs.Is(err, errs.NotFound) {
			t.Errorf("entry %d: %v", seq, err)
		}
	}
}

// TestNotaryVerify: the whole log against everything that was signed.
func TestNotaryVerify(t *testing.T) {
	t.Parallel()
	k := keyPair(t, "muster-audit-1")
	s := new(shelf)
	n := notary(t, s, k)
	for _, size := range []int{4, 8, 9} {
		s.grow(size)
		if _, err := n.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.signed = append(s.signed, []byte("rubbish"))
	if r, err := n.Verify(t.Context()); err != nil || !r.OK() || r.Signed != 9 {
		t.Errorf("%+v %v", r, err)
	}
	s.entries[5].Actor = "eve"
	s.entries = reseal(s.entries)
	var tree audit.Frontier
	s.hashes = nil
	for _, e := range s.entries {
		s.hashes = append(s.hashes, tree.Add(tlog.RecordHash(e.Leaf()))...)
	}
	r, err := n.Verify(t.Context())
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Kind != audit.Rewritten || r.Findings[0].First != 5 || r.Findings[0].Last != 8 || r.Whole != 4 {
		t.Errorf("%+v %v", r, err)
	}
	s.err = errors.New("database is away")
	if _, err := n.Verify(t.Context()); !errors.Is(err, s.err) {
		t.Error(err)
	}
}
