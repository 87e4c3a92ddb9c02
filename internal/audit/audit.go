// Package audit is the log of who did what. Each entry holds the hash of the
// one before, so that a removed or changed entry shows. An entry is kept before
// the action that it tells of takes effect.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Entry is one line of the log.
type Entry struct {
	Seq    int64 // 1, 2, 3 … without gaps
	Time   time.Time
	Actor  string // name of the person, or "system"
	Action string // verb.noun, as in live.start
	Target string // what it was done to
	Detail string // a JSON object, or ""
	Prev   string // Hash of the entry before; "" of the first
	Hash   string
}

// Seal computes the entry's hash over all its other fields. The form that is
// hashed is a JSON array of texts and numbers, so that no two entries look
// alike.
func (e *Entry) Seal() {
	b, _ := json.Marshal([]any{e.Seq, e.Time.UTC().UnixMicro(), e.Actor, e.Action, e.Target, e.Detail, e.Prev}) // cannot fail: texts and numbers
	sum := sha256.Sum256(b)
	e.Hash = hex.EncodeToString(sum[:])
}

// Follows reports whether e is whole and comes right after prev. The first
// entry follows the zero Entry.
func (e Entry) Follows(prev Entry) bool {
	sealed := e
	sealed.Seal()
	return sealed.Hash == e.Hash && e.Prev == prev.Hash && e.Seq == prev.Seq+1
}

// Store keeps the log.
type Store interface {
	// AppendAudit gives the entry its number, links and seals it, and keeps it
	// durably.
	AppendAudit(ctx context.Context, e Entry) (Entry, error)
}

// Log writes entries. Safe for concurrent use.
type Log struct {
	store Store
	now   func() time.Time
}

// NewLog returns a Log on a store.
func NewLog(store Store, now func() time.Time) *Log { return &Log{store, now} }

// Record keeps one entry durably; detail may be nil. Do not act when it fails.
func (l *Log) Record(ctx context.Context, actor, action, target string, detail any) error {
	e := Entry{
		Time:  l.now().UTC().Truncate(time.Microsecond),
		Actor: valid(actor), Action: valid(action), Target: valid(target),
	}
	if detail != nil {
		b, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		e.Detail = string(b)
	}
	_, err := l.store.AppendAudit(ctx, e)
	return err
}

// valid makes UTF-8 of s: in JSON, which is hashed, all bytes that are not look
// alike.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
