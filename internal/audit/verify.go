package audit

import (
	"context"
	"math"

	"golang.org/x/mod/sumdb/tlog"
)

// verifyChunk bounds the entries in memory while the log is checked.
const verifyChunk = 1000

// Verify checks the whole log, its tree, and that both fit the checkpoints. It
// reads everything; what is appended meanwhile does no harm. The error is that
// the log could not be read; what is wrong with it is in the report.
func Verify(ctx context.Context, r Reader, checkpoints ...Checkpoint) (Report, error) {
	size, err := r.AuditSize(ctx) // before the entries: all up to it must be among them
	if err != nil {
		return Report{}, err
	}
	c := NewChecker(checkpoints...)
	after := int64(math.MinInt64)
	for {
		entries, err := r.AuditEntries(ctx, Filter{After: after, Ascending: true, Limit: verifyChunk})
		if err != nil {
			return Report{}, err
		}
		if len(entries) == 0 {
			break
		}
		if err := addAll(ctx, r, c, entries); err != nil {
			return Report{}, err
		}
		after = entries[len(entries)-1].Seq
	}
	newest, err := r.AuditSize(ctx) // after the entries: none may be above it
	if err != nil {
		return Report{}, err
	}
	if c.prev.Seq > newest {
		c.find(Inserted, newest+1, c.prev.Seq, "beyond the number of entries that the server counted")
	}
	return c.End(size), nil
}

func addAll(ctx context.Context, r Reader, c *Checker, entries []Entry) error {
	var indexes []int64
	for _, e := range entries {
		if possible(e.Seq) {
			indexes = append(indexes, storedBy(e.Seq)...)
		}
	}
	known, err := r.AuditHashes(ctx, indexes)
	if err != nil {
		return err
	}
	for _, e := range entries {
		c.Add(e, storedOf(known, e.Seq))
	}
	return nil
}

// possible reports whether a number is one that an entry can have; larger ones
// have no place in a tree.
func possible(seq int64) bool { return seq > 0 && seq < 1<<48 }

// storedOf returns the hashes that were kept with an entry, up to the first
// that is missing; never nil.
func storedOf(known map[int64]tlog.Hash, seq int64) []tlog.Hash {
	stored := []tlog.Hash{}
	if !possible(seq) {
		return stored
	}
	for _, i := range storedBy(seq) {
		h, ok := known[i]
		if !ok {
			break
		}
		stored = append(stored, h)
	}
	return stored
}
