package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/health"
)

var _ health.Store = (*Store)(nil)

const findingColumns = `node_id, kind, subject, opened_at, severity, text, last_at, count, until_at, closed_at, told`

func scanFinding(row scanner) (f health.Finding, err error) {
	var opened, last, until, closed int64
	var told int
	err = row.Scan(&f.NodeID, &f.Kind, &f.Subject, &opened, &f.Severity, &f.Text, &last, &f.Count, &until, &closed, &told)
	f.Opened, f.Last, f.Until, f.Closed = moment(opened), moment(last), moment(until), moment(closed)
	f.Told = told == 1
	return f, err
}

// findingChunk bounds the rows of one statement.
const findingChunk = 2000

// SaveFindings implements [health.Store].
func (s *Store) SaveFindings(ctx context.Context, findings []health.Finding) error {
	err := s.tx(ctx, func(t *tx) error {
		for start := 0; start < len(findings); start += findingChunk {
			rows := [][]any{}
			for _, f := range findings[start:min(start+findingChunk, len(findings))] {
				rows = append(rows, []any{
					text(f.NodeID), string(f.Kind), text(f.Subject), micros(f.Opened), f.Severity, text(f.Text), micros(f.Last), f.Count,
					micros(f.Until), micros(f.Closed), flag(f.Told),
				})
			}
			list, err := document(rows)
			if err != nil {
				return err
			}
			_, err = t.exec(ctx, `
				INSERT INTO finding (`+findingColumns+`)
				SELECT `+findingColumns+` FROM `+t.dialect.bulk(1, "node_id text", "kind text", "subject text", "opened_at bigint", "severity text",
				"text text", "last_at bigint", "count bigint", "until_at bigint", "closed_at bigint", "told bigint")+`
				WHERE true ON CONFLICT (node_id, kind, subject, opened_at) DO UPDATE SET severity = excluded.severity, text = excluded.text,
					last_at = excluded.last_at, count = excluded.count, until_at = excluded.until_at, closed_at = excluded.closed_at, told = excluded.told`, list)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return fail("keep findings", err)
}

// LiveFindings implements [health.Store].
func (s *Store) LiveFindings(ctx context.Context) ([]health.Finding, error) {
	list, err := all(ctx, s.read, scanFinding, `
		SELECT `+findingColumns+` FROM finding WHERE closed_at = 0
		UNION SELECT `+findingColumns+` FROM finding WHERE told = 0
		ORDER BY opened_at, node_id, kind, subject`)
	return list, fail("read findings", err)
}

// Enrolments implements [health.Store].
func (s *Store) Enrolments(ctx context.Context, nodeIDs []string) (map[string]health.Enrolment, error) {
	found := map[string]health.Enrolment{}
	for chunk := range slices.Chunk(nodeIDs, findingChunk) {
		rows := make([][]any, 0, len(chunk))
		for _, id := range chunk {
			rows = append(rows, []any{text(id)})
		}
		list, err := document(rows)
		if err != nil {
			return nil, fail("read enrolments", err)
		}
		_, err = all(ctx, s.read, func(row scanner) (struct{}, error) {
			var id string
			var e health.Enrolment
			err := row.Scan(&id, &e.Count, &e.Secret)
			found[id] = e
			return struct{}{}, err
		}, `SELECT n.id, n.enrolments, n.secret FROM `+s.dialect.bulk(1, "id text")+` JOIN node n ON n.id = t.id`, list)
		if err != nil {
			return nil, fail("read enrolments", err)
		}
	}
	return found, nil
}

// Clashes implements [health.Store].
func (s *Store) Clashes(ctx context.Context, since time.Time) ([]health.Clash, error) {
	list, err := all(ctx, s.read, func(row scanner) (c health.Clash, err error) {
		var at int64
		err = row.Scan(&c.NodeID, &at, &c.Reason)
		c.At = moment(at)
		return c, err
	}, `SELECT id, last_clash, clash_reason FROM node WHERE gone_at = 0 AND last_clash <> 0 AND last_clash > $1 ORDER BY last_clash, id`, micros(since))
	return list, fail("read clashes", err)
}

// ofKinds is a condition on the kind of findings. Kinds are constants of ours.
func ofKinds(kinds []health.Kind) string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, "'"+string(k)+"'")
	}
	return `kind IN (` + strings.Join(names, ", ") + `)`
}

// Moments implements [health.Store].
func (s *Store) Moments(ctx context.Context, since time.Time, kinds ...health.Kind) (map[string]time.Time, error) {
	last := map[string]time.Time{}
	_, err := all(ctx, s.read, func(row scanner) (struct{}, error) {
		var id string
		var at int64
		err := row.Scan(&id, &at)
		last[id] = moment(at)
		return struct{}{}, err
	}, `SELECT node_id, max(opened_at) FROM finding WHERE opened_at > $1 AND `+ofKinds(kinds)+` GROUP BY node_id`, micros(since))
	return last, fail("read moments", err)
}

// LastMoment implements [health.Store].
func (s *Store) LastMoment(ctx context.Context, kinds ...health.Kind) (time.Time, error) {
	var at int64
	err := s.read.QueryRowContext(ctx, `SELECT COALESCE(max(opened_at), 0) FROM finding WHERE `+ofKinds(kinds)).Scan(&at)
	return moment(at), fail("read the newest moment", err)
}

// findingCursor is where a page of findings ended.
type findingCursor struct {
	Opened  int64  `json:"o"`
	Node    string `json:"n"`
	Kind    string `json:"k"`
	Subject string `json:"s"`
}

// Findings returns a page of findings, the newest first, and the cursor of the next
// page, "" on the last.
func (s *Store) Findings(ctx context.Context, f health.Filter) (list []health.Finding, next string, err error) {
	w := &where{}
	w.add(`1 = 1`)
	if f.Cursor != "" {
		var c findingCursor
		if err := openCursor(f.Cursor, &c); err != nil {
			return nil, "", err
		}
		w.add(`(opened_at, node_id, kind, subject) < (?, ?, ?, ?)`, c.Opened, c.Node, c.Kind, c.Subject)
	}
	if f.NodeID != "" {
		w.add(`node_id = ?`, text(f.NodeID))
	}
	if f.Kind != "" {
		w.add(`kind = ?`, text(string(f.Kind)))
	}
	if f.Open {
		w.add(`closed_at = 0`)
	}
	limit := limited(f.Limit)
	list, err = all(ctx, s.read, scanFinding, `
		SELECT `+findingColumns+` FROM finding WHERE `+w.String()+`
		ORDER BY opened_at DESC, node_id DESC, kind DESC, subject DESC LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil || len(list) <= limit {
		return list, "", fail("list findings", err)
	}
	list = list[:limit]
	last := list[limit-1]
	next, err = sealCursor(findingCursor{micros(last.Opened), last.NodeID, string(last.Kind), last.Subject})
	return list, next, fail("list findings", err)
}

// PruneFindings drops what closed before a time, one step of it, and reports
// whether there is more.
func (s *Store) PruneFindings(ctx context.Context, before time.Time) (more bool, err error) {
	err = s.tx(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `
			DELETE FROM finding WHERE (node_id, kind, subject, opened_at) IN (
				SELECT node_id, kind, subject, opened_at FROM finding
				WHERE opened_at < $1 AND closed_at > 0 AND closed_at < $1 AND told = 1 ORDER BY opened_at LIMIT `+strconv.Itoa(findingChunk)+`)`,
			micros(before))
		more = n == findingChunk
		return err
	})
	return more, fail("prune findings", err)
}
