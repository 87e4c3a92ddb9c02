package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
)

var (
	_ audit.Store  = (*Store)(nil)
	_ audit.Reader = (*Store)(nil)
)

const auditColumns = `version, seq, time, actor, session, address, action, outcome, target, object, content_hash, reason, approvals, detail, prev, hash`

func scanAudit(row scanner) (audit.Entry, error) {
	var e audit.Entry
	var at int64
	var approvals string
	err := row.Scan(&e.Version, &e.Seq, &at, &e.Actor, &e.Session, &e.Address, &e.Action, &e.Outcome, &e.Target, &e.Object,
		&e.ContentHash, &e.Reason, &approvals, &e.Detail, &e.Prev, &e.Hash)
	e.Time = auditTime(at)
	e.Approvals = auditApprovals(approvals)
	return e, err
}

// auditTime is the time of an entry: not moment, as the hash is over this very
// time. One that was edited to what no document can hold is some other.
func auditTime(us int64) time.Time {
	at := time.UnixMicro(us).UTC()
	if y := at.Year(); y < 1 || y > 9999 {
		return time.Time{}
	}
	return at
}

// auditApprovals reads a list as AppendAudit writes it. What it did not write is
// one name, so that the entry's hash does not fit.
func auditApprovals(text string) []string {
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err == nil && names != nil {
		if again, err := document(names); err == nil && again == text {
			return names
		}
	}
	return []string{text}
}

// AppendAudit implements [audit.Store]. One entry is appended at a time, so
// that the chain never forks.
func (s *Store) AppendAudit(ctx context.Context, e audit.Entry) (audit.Entry, error) {
	approvals, err := auditText(&e)
	if err != nil {
		return audit.Entry{}, err
	}
	err = s.tx(ctx, func(t *tx) error {
		seq, err := t.next(ctx, counterAudit, 1)
		if err != nil {
			return err
		}
		last, err := all(ctx, t, scanText, `SELECT hash FROM audit WHERE seq = $1`, seq-1)
		if err != nil {
			return err
		}
		e.Version, e.Seq, e.Prev = 0, seq, strings.Join(last, "")
		e.Seal()
		_, err = t.exec(ctx, `
			INSERT INTO audit (`+auditColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
			e.Version, e.Seq, e.Time.UnixMicro(), e.Actor, e.Session, e.Address, e.Action, string(e.Outcome), e.Target, e.Object,
			e.ContentHash, e.Reason, approvals, e.Detail, e.Prev, e.Hash)
		if err != nil {
			return err
		}
		return t.appendLeaf(ctx, &e)
	})
	if err != nil {
		return audit.Entry{}, fail("append to audit log", err)
	}
	return e, nil
}

// auditText gives an entry the form in which it is read again, before it is
// sealed, and returns its approvals as text.
func auditText(e *audit.Entry) (approvals string, err error) {
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	e.Outcome = audit.Outcome(text(string(cmp.Or(e.Outcome, audit.Done))))
	for _, field := range []*string{&e.Actor, &e.Session, &e.Address, &e.Action, &e.Target, &e.Object, &e.ContentHash, &e.Reason, &e.Detail} {
		*field = text(*field)
	}
	names := make([]string, 0, len(e.Approvals))
	for _, name := range e.Approvals {
		names = append(names, text(name))
	}
	e.Approvals = names
	return document(names)
}

// appendLeaf keeps the hashes of the tree that an entry completes: two on
// average, for which about one is read. Few statements of one row cost less
// than one that opens JSON.
func (t *tx) appendLeaf(ctx context.Context, e *audit.Entry) error {
	n := e.Seq - 1
	hashes, err := tlog.StoredHashes(n, e.Leaf(), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		known := map[int64]tlog.Hash{}
		for _, i := range indexes {
			found, err := all(ctx, t, scanAuditHash, `SELECT id, hash FROM audit_hash WHERE id = $1`, i)
			if err != nil {
				return nil, err
			}
			for _, h := range found {
				known[h.id] = h.hash
			}
		}
		return audit.InOrder(known, indexes)
	}))
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, n)
	for i, h := range hashes {
		if _, err := t.exec(ctx, `INSERT INTO audit_hash (id, hash) VALUES ($1, $2)`, first+int64(i), h.String()); err != nil {
			return err
		}
	}
	return nil
}

// keepHashes keeps many hashes under the numbers from first on.
func (t *tx) keepHashes(ctx context.Context, first int64, hashes []tlog.Hash) error {
	rows := make([][]any, 0, len(hashes))
	for i, h := range hashes {
		rows = append(rows, []any{first + int64(i), h.String()})
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO audit_hash (id, hash) SELECT id, hash FROM `+t.dialect.bulk(1, "id bigint", "hash text"), list)
	return err
}

// AuditHashes implements [audit.Reader]. One that was edited to what is none is
// the zero hash.
func (s *Store) AuditHashes(ctx context.Context, indexes []int64) (map[int64]tlog.Hash, error) {
	ids := make([][]int64, 0, len(indexes))
	for _, i := range indexes {
		ids = append(ids, []int64{i})
	}
	list, err := document(ids)
	if err != nil {
		return nil, err
	}
	hashes, err := all(ctx, s.read, scanAuditHash, `SELECT h.id, h.hash FROM `+s.dialect.bulk(1, "id bigint")+` CROSS JOIN audit_hash h WHERE h.id = t.id`, list)
	known := make(map[int64]tlog.Hash, len(hashes))
	for _, h := range hashes {
		known[h.id] = h.hash
	}
	return known, fail("read the audit log's tree", err)
}

type auditHash struct {
	id   int64
	hash tlog.Hash
}

func scanAuditHash(row scanner) (h auditHash, err error) {
	var text string
	if err = row.Scan(&h.id, &text); err != nil {
		return h, err
	}
	if known, err := tlog.ParseHash(text); err == nil {
		h.hash = known
	}
	return h, nil
}

// AuditSize implements [audit.Reader].
func (s *Store) AuditSize(ctx context.Context) (int64, error) {
	size, err := auditSize(ctx, s.read)
	return size, fail("read audit log", err)
}

func auditSize(ctx context.Context, q querier) (size int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM counter WHERE name = $1`, counterAudit).Scan(&size)
	return size, err
}

// AuditEntries implements [audit.Reader].
func (s *Store) AuditEntries(ctx context.Context, f audit.Filter) ([]audit.Entry, error) {
	where, order, args := `seq < $1`, `DESC`, []any{cmp.Or(f.Before, math.MaxInt64)}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += fmt.Sprintf(` AND `+condition, len(args))
	}
	if f.Ascending {
		order = `ASC`
		and(`seq > $%d`, f.After)
	}
	if f.Actor != "" {
		and(`actor = $%d`, text(f.Actor))
	}
	if f.Target != "" {
		and(`target = $%d`, text(f.Target))
	}
	if f.Outcome != "" {
		and(`outcome = $%d`, string(f.Outcome))
	}
	if f.Action != "" {
		and(`substr(action, 1, length(CAST($%[1]d AS TEXT))) = CAST($%[1]d AS TEXT)`, text(f.Action))
	}
	if !f.Since.IsZero() {
		and(`time >= $%d`, f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		and(`time < $%d`, f.Until.UnixMicro())
	}
	args = append(args, limited(f.Limit))
	entries, err := all(ctx, s.read, scanAudit, fmt.Sprintf(`SELECT `+auditColumns+` FROM audit WHERE %s ORDER BY seq %s LIMIT $%d`, where, order, len(args)), args...)
	return entries, fail("read audit log", err)
}

// adoptAudit makes the tree of a log that has none, or not a whole one: it is
// from before there was a tree, or somebody removed a part. A tree that is made
// anew of entries that were changed shows at the checkpoints.
func (s *Store) adoptAudit(ctx context.Context) error {
	size, has, err := s.auditTree(ctx, s.read)
	if err != nil || has == tlog.StoredHashCount(size) {
		return fail("read the audit log's tree", err)
	}
	err = s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterAudit, 0); err != nil { // nobody appends meanwhile
			return err
		}
		size, has, err = s.auditTree(ctx, t)
		if err != nil || has == tlog.StoredHashCount(size) { // another server was faster
			return err
		}
		if _, err := t.exec(ctx, `DELETE FROM audit_hash`); err != nil {
			return err
		}
		return t.growTree(ctx, size)
	})
	if err == nil {
		s.log.InfoContext(ctx, "made the audit log's tree anew", "entries", size, "hashes_before", has)
	}
	return fail("make the audit log's tree", err)
}

// auditTree returns how many entries and hashes there are.
func (*Store) auditTree(ctx context.Context, q querier) (size, hashes int64, err error) {
	if size, err = auditSize(ctx, q); err != nil {
		return 0, 0, err
	}
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM audit_hash`).Scan(&hashes)
	return size, hashes, err
}

// treeChunk bounds the entries in memory while a tree is made.
const treeChunk = 1000

// growTree makes the tree of entries 1 to size. One that is missing is an empty
// leaf, so that the server can go on.
func (t *tx) growTree(ctx context.Context, size int64) error {
	var tree audit.Frontier
	for from := int64(1); from <= size; from += treeChunk {
		to := min(from+treeChunk-1, size)
		entries, err := all(ctx, t, scanAudit, `SELECT `+auditColumns+` FROM audit WHERE seq BETWEEN $1 AND $2 ORDER BY seq`, from, to)
		if err != nil {
			return err
		}
		var hashes []tlog.Hash
		for seq := from; seq <= to; seq++ {
			var leaf []byte
			if len(entries) > 0 && entries[0].Seq == seq {
				leaf, entries = entries[0].Leaf(), entries[1:]
			}
			hashes = append(hashes, tree.Add(tlog.RecordHash(leaf))...)
		}
		if err := t.keepHashes(ctx, tlog.StoredHashIndex(0, from-1), hashes); err != nil {
			return err
		}
	}
	return nil
}
