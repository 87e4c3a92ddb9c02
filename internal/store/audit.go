package store

import (
	"context"
	"math"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

var _ audit.Store = (*Store)(nil)

const auditColumns = `seq, time, actor, action, target, detail, prev, hash`

func scanAudit(row scanner) (audit.Entry, error) {
	var e audit.Entry
	var at int64
	err := row.Scan(&e.Seq, &at, &e.Actor, &e.Action, &e.Target, &e.Detail, &e.Prev, &e.Hash)
	e.Time = time.UnixMicro(at).UTC() // not moment: the hash is over this very time
	return e, err
}

// AppendAudit implements [audit.Store]. One entry is appended at a time, so
// that the chain never forks.
func (s *Store) AppendAudit(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	for _, field := range []*string{&e.Actor, &e.Action, &e.Target, &e.Detail} {
		*field = text(*field) // before it is sealed
	}
	err := s.tx(ctx, func(t *tx) error {
		seq, err := t.next(ctx, counterAudit, 1)
		if err != nil {
			return err
		}
		last, err := all(ctx, t, scanText, `SELECT hash FROM audit WHERE seq = $1`, seq-1)
		if err != nil {
			return err
		}
		e.Seq, e.Prev = seq, ""
		if len(last) == 1 {
			e.Prev = last[0]
		}
		e.Seal()
		_, err = t.exec(ctx, `
			INSERT INTO audit (seq, time, actor, action, target, detail, prev, hash)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			e.Seq, e.Time.UnixMicro(), e.Actor, e.Action, e.Target, e.Detail, e.Prev, e.Hash)
		return err
	})
	if err != nil {
		return audit.Entry{}, fail("append to audit log", err)
	}
	return e, nil
}

// AuditEntries returns the entries with numbers below before, the newest first;
// 0 is above all.
func (s *Store) AuditEntries(ctx context.Context, before int64, limit int) ([]audit.Entry, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	entries, err := all(ctx, s.read, scanAudit, `
		SELECT `+auditColumns+` FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT $2`, before, limited(limit))
	return entries, fail("read audit log", err)
}

// verifyChunk bounds the entries in memory while the chain is checked.
const verifyChunk = 1000

// VerifyAudit follows the chain from its first entry and returns how many
// entries are whole. A Conflict names the first that is missing or was changed.
// Who can write to the database can make a new chain; compare the newest hash
// with one kept elsewhere to see that.
func (s *Store) VerifyAudit(ctx context.Context) (int64, error) {
	var newest int64
	if err := s.read.QueryRowContext(ctx, `SELECT value FROM counter WHERE name = $1`, counterAudit).Scan(&newest); err != nil {
		return 0, fail("verify audit log", err)
	}
	var prev audit.Entry
	for {
		entries, err := all(ctx, s.read, scanAudit, `
			SELECT `+auditColumns+` FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2`, prev.Seq, verifyChunk)
		if err != nil {
			return prev.Seq, fail("verify audit log", err)
		}
		for _, e := range entries {
			if !e.Follows(prev) {
				return prev.Seq, errs.New(errs.Conflict, "audit entry %d is missing or was changed", prev.Seq+1)
			}
			prev = e
		}
		if len(entries) < verifyChunk {
			break
		}
	}
	if prev.Seq < newest {
		return prev.Seq, errs.New(errs.Conflict, "audit entry %d is missing: entries were removed from the end", prev.Seq+1)
	}
	return prev.Seq, nil
}
