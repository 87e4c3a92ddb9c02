// Package audit is the log of who did what, and what was refused. Each entry
// holds the hash of the one before, and all of them are the leaves of a Merkle
// tree (RFC 6962) whose root is signed again and again, so that an entry which
// was edited, removed, moved or slipped in shows, even to somebody who has
// nothing but a former root. An entry is kept before the action that it tells
// of takes effect.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/errs"
)

// Entry is one line of the log.
type Entry struct {
	Version     int   // of the form that is sealed; see Leaf
	Seq         int64 // 1, 2, 3 … without gaps
	Time        time.Time
	Actor       string   // name of the person, or "system"
	Session     string   // short id of their session, never its secret; "" without one
	Address     string   // where the request came from; "" if from within
	Action      string   // noun.verb, as in live.start
	Outcome     Outcome  // what became of it
	Target      string   // what it was done to
	Object      string   // what it is about, if that is not the target, as in revision/17
	ContentHash string   // SHA-256 of what it is about, hex; of the whole detail unless said otherwise
	Reason      string   // why it was done, or why it was refused
	Approvals   []string // names of those who approved it
	Detail      string   // a JSON object, or ""
	Prev        string   // Hash of the entry before; "" of the first
	Hash        string
}

// Outcome says whether an action was allowed.
type Outcome string

// The outcomes. Done is written before the action, which may fail after it.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// The forms of entries. Those of the first have no more than number, time,
// actor, action, target and detail.
const (
	version1 = 1
	version2 = 2
)

// Leaf returns what is hashed of an entry: all but Hash. It is a JSON array of
// texts and numbers, so that no two entries look alike, and the forms differ in
// the kind of their third value.
func (e *Entry) Leaf() []byte {
	at := e.Time.UTC().UnixMicro()
	fields := []any{e.Seq, at, e.Actor, e.Action, e.Target, e.Detail, e.Prev}
	if e.Version != version1 {
		fields = []any{
			e.Version, e.Seq, at, e.Actor, e.Session, e.Address, e.Action, e.Outcome, e.Target, e.Object, e.ContentHash,
			e.Reason, append([]string{}, e.Approvals...), e.Detail, e.Prev,
		}
	}
	b, _ := json.Marshal(fields) // cannot fail: texts and numbers
	return b
}

// Seal computes the entry's hash, in the newest form unless Version is set.
func (e *Entry) Seal() {
	if e.Version == 0 {
		e.Version = version2
	}
	e.Hash = hashOf(e.Leaf())
}

func hashOf(leaf []byte) string {
	sum := sha256.Sum256(leaf)
	return hex.EncodeToString(sum[:])
}

// Follows reports whether e is whole and comes right after prev. The first
// entry follows the zero Entry.
func (e Entry) Follows(prev Entry) bool {
	return e.whole() && e.Prev == prev.Hash && e.Seq == prev.Seq+1 && e.Version >= prev.Version
}

// whole reports whether the entry's hash is that of its content, and nothing is
// set that its form does not cover.
func (e *Entry) whole() bool {
	switch e.Version {
	case version1:
		bare := e.Session + e.Address + e.Object + e.ContentHash + e.Reason
		if bare != "" || len(e.Approvals) > 0 || e.Outcome != Done {
			return false
		}
	case version2:
	default:
		return false
	}
	return hashOf(e.Leaf()) == e.Hash
}

// Store keeps the log.
type Store interface {
	// AppendAudit gives the entry its number, links and seals it, and keeps it
	// and its part of the tree durably. One is appended at a time.
	AppendAudit(ctx context.Context, e Entry) (Entry, error)
}

// Reader reads the log.
type Reader interface {
	// AuditSize returns how many entries were ever appended.
	AuditSize(ctx context.Context) (int64, error)
	// AuditEntries returns the entries that f selects.
	AuditEntries(ctx context.Context, f Filter) ([]Entry, error)
	// AuditHashes returns the hashes of the tree that are kept, by index as
	// tlog.StoredHashIndex gives it; those that are not are left out.
	AuditHashes(ctx context.Context, indexes []int64) (map[int64]tlog.Hash, error)
}

// Filter selects entries; what is empty selects all.
type Filter struct {
	Before    int64 // only lower numbers; 0 is above all
	After     int64 // only higher numbers, if Ascending
	Ascending bool  // the oldest first, else the newest
	Limit     int
	Actor     string
	Action    string // a beginning of it, as in "live."
	Target    string
	Outcome   Outcome
	Since     time.Time
	Until     time.Time // exclusive
}

// Hashes reads the tree of a log for package tlog. A hash that is not kept is
// a Conflict.
func Hashes(ctx context.Context, r Reader) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		known, err := r.AuditHashes(ctx, indexes)
		if err != nil {
			return nil, err
		}
		return InOrder(known, indexes)
	})
}

// InOrder returns the hashes of the indexes. One that is missing is a
// Conflict.
func InOrder(known map[int64]tlog.Hash, indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		h, ok := known[i]
		if !ok {
			return nil, errs.New(errs.Conflict, "hash %d of the audit log's tree is missing; restart the server, which makes the tree anew, then run muster audit verify", i)
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}
