package store

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/live"
)

const noLive = "there is no live query with that id"

const liveColumns = `id, sql, selector, phase, created_by, created_at, expires_at, ended_at, counts, row_count, kind, source,
	reason, tier, not_before, standing, rerun_of, approval, limits, waves, held, bytes, truncated`

// scanLive reads a query. Its counts are without the targets that are open.
func scanLive(row scanner) (live.Query, error) {
	var q live.Query
	var selector, counts, approval, limits, waves string
	var created, expires, ended, notBefore int64
	var standing, truncated int
	err := row.Scan(&q.ID, &q.SQL, &selector, &q.Phase, &q.CreatedBy, &created, &expires, &ended, &counts, &q.Rows, &q.Kind, &q.Source,
		&q.Reason, &q.Tier, &notBefore, &standing, &q.RerunOf, &approval, &limits, &waves, &q.Held, &q.Bytes, &truncated)
	if err != nil {
		return live.Query{}, err
	}
	q.CreatedAt, q.ExpiresAt, q.EndedAt, q.NotBefore = moment(created), moment(expires), moment(ended), moment(notBefore)
	q.Standing, q.Truncated = standing == 1, truncated == 1
	for _, d := range []struct {
		from string
		to   any
	}{{selector, &q.Selector}, {counts, &q.Counts}, {approval, &q.Approval}, {limits, &q.Limits}, {waves, &q.Waves}} {
		if err := json.Unmarshal([]byte(d.from), d.to); err != nil {
			return live.Query{}, err
		}
	}
	return q, nil
}

const targetColumns = `t.node_id, t.host_identifier, t.hostname, t.state, t.attempts, t.sent_at, t.answered_at, t.seq,
	t.message, t.wall_time_ms, t.user_time, t.system_time, t.memory, t.enrolled_at, t.expires_at, t.late, t.cut, t.row_count`

func scanTarget(row scanner, more ...any) (t live.Target, err error) {
	var sent, answered, enrolled, expires int64
	var late, isCut int
	dest := []any{
		&t.NodeID, &t.HostIdentifier, &t.Hostname, &t.State, &t.Attempts, &sent, &answered, &t.Seq,
		&t.Message, &t.Stats.WallTimeMs, &t.Stats.UserTime, &t.Stats.SystemTime, &t.Stats.Memory,
		&enrolled, &expires, &late, &isCut, &t.RowCount,
	}
	err = row.Scan(append(dest, more...)...)
	t.SentAt, t.AnsweredAt, t.EnrolledAt, t.ExpiresAt = moment(sent), moment(answered), moment(enrolled), moment(expires)
	t.Late, t.Cut = late == 1, isCut == 1
	return t, err
}

// openTargets are the nodes of live query $1 that have not answered. As a query of
// its own it is answered by the index that holds only them; else SQLite reads the
// 100,000 that a standing query may have.
const openTargets = `SELECT o.node_id FROM live_target o WHERE o.live_id = $1 AND o.state IN ('waiting', 'sent')`

// RunningLive implements [live.Store].
func (s *Store) RunningLive(ctx context.Context) (map[string]live.Query, map[string][]live.Target, error) {
	running, err := all(ctx, s.read, scanLive, `SELECT `+liveColumns+` FROM live WHERE phase IN ('running', 'pending')`)
	if err != nil {
		return nil, nil, fail("read running live queries", err)
	}
	queries, targets := map[string]live.Query{}, map[string][]live.Target{}
	for _, q := range running {
		list, err := all(ctx, s.read, func(row scanner) (live.Target, error) {
			return scanTarget(row)
		}, `SELECT `+targetColumns+` FROM live_target t
			WHERE t.live_id = $1 AND t.node_id IN (`+openTargets+`) ORDER BY t.node_id`, q.ID)
		if err != nil {
			return nil, nil, fail("read running live queries", err)
		}
		for _, t := range list {
			q.Counts[t.State]++
		}
		queries[q.ID], targets[q.ID] = q, list
	}
	return queries, targets, nil
}

// Live returns a live query with its counts of this moment; NotFound without
// one.
func (s *Store) Live(ctx context.Context, id string) (live.Query, error) {
	q, err := scanLive(s.read.QueryRowContext(ctx, `SELECT `+liveColumns+` FROM live WHERE id = $1`, text(id)))
	if err != nil {
		return live.Query{}, fail("read live query", missing(err, noLive))
	}
	err = s.countOpen(ctx, &q)
	return q, fail("read live query", err)
}

// countOpen completes the counts of a query that has not ended.
func (s *Store) countOpen(ctx context.Context, q *live.Query) error {
	if !q.Phase.Open() {
		return nil
	}
	return addOpen(ctx, s.read, q.ID, q.Counts)
}

// liveCursor is where a page of live queries ended.
type liveCursor struct {
	Created int64  `json:"c"`
	ID      string `json:"i"`
}

// LiveList returns a page of live queries, the newest first, and the cursor of
// the next page, "" on the last.
func (s *Store) LiveList(ctx context.Context, f live.Filter) (queries []live.Query, next string, err error) {
	w, err := liveWhere(f)
	if err != nil {
		return nil, "", err
	}
	limit := limited(f.Limit)
	queries, err = all(ctx, s.read, scanLive, `
		SELECT `+liveColumns+` FROM live WHERE `+w.String()+`
		ORDER BY created_at DESC, id DESC LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil {
		return nil, "", fail("list live queries", err)
	}
	if len(queries) > limit {
		queries = queries[:limit]
		last := queries[limit-1]
		if next, err = sealCursor(liveCursor{Created: micros(last.CreatedAt), ID: last.ID}); err != nil {
			return nil, "", fail("list live queries", err)
		}
	}
	for i := range queries {
		if err := s.countOpen(ctx, &queries[i]); err != nil {
			return nil, "", fail("list live queries", err)
		}
	}
	return queries, next, nil
}

func liveWhere(f live.Filter) (*where, error) {
	w := &where{}
	w.add(`1 = 1`)
	if f.Cursor != "" {
		var c liveCursor
		if err := openCursor(f.Cursor, &c); err != nil {
			return nil, err
		}
		w.add(`(created_at, id) < (?, ?)`, c.Created, text(c.ID))
	}
	if f.Kind != "" {
		w.add(`kind = ?`, text(string(f.Kind)))
	}
	if f.CreatedBy != "" {
		w.add(`created_by = ?`, text(f.CreatedBy))
	}
	if f.Phase != "" {
		w.add(`phase = ?`, text(string(f.Phase)))
	}
	if f.Text != "" {
		part := "%" + likeEscaper().Replace(text(strings.ToLower(f.Text))) + "%"
		w.add(`(lower(sql) LIKE ? ESCAPE '!' OR lower(reason) LIKE ? ESCAPE '!')`, part, part)
	}
	return w, nil
}

// answerCursor is where a page of answers ended: at an answer, or among the
// nodes without one.
type answerCursor struct {
	Seq  int64  `json:"s"`
	Node string `json:"n,omitempty"`
}

// answersBytes bounds the rows of one page, which ends early then; a page has
// at least one node.
const answersBytes = 16 << 20

// LiveAnswers returns a page of a live query's nodes with their rows: first
// those that answered, in that order, then the others by id. NotFound without
// such a query. A node that answers while its page is being turned may be
// missed there; who follows along uses AfterSeq.
func (s *Store) LiveAnswers(ctx context.Context, id string, f live.AnswerFilter) (targets []live.Target, next string, err error) {
	id = text(id)
	var at answerCursor
	if f.Cursor != "" {
		if err := openCursor(f.Cursor, &at); err != nil {
			return nil, "", err
		}
	}
	var known int
	if err := s.read.QueryRowContext(ctx, `SELECT 1 FROM live WHERE id = $1`, id).Scan(&known); err != nil {
		return nil, "", fail("read answers", missing(err, noLive))
	}
	limit := limited(f.Limit)
	more := false
	if at.Node == "" {
		w, err := s.answerWhere(f, id)
		if err != nil {
			return nil, "", fail("read answers", err)
		}
		w.add(`t.seq > ?`, max(at.Seq, f.AfterSeq))
		if targets, more, err = s.targets(ctx, w, `t.seq`, limit); err != nil {
			return nil, "", fail("read answers", err)
		}
	}
	if !more && len(targets) < limit && !f.AnsweredOnly && f.AfterSeq == 0 {
		w, err := s.answerWhere(f, id)
		if err != nil {
			return nil, "", fail("read answers", err)
		}
		w.add(`t.seq = 0`)
		w.add(`t.node_id > ?`, text(at.Node))
		var silent []live.Target
		if silent, more, err = s.targets(ctx, w, `t.node_id`, limit-len(targets)); err != nil {
			return nil, "", fail("read answers", err)
		}
		targets = append(targets, silent...)
	} else if !f.AnsweredOnly && f.AfterSeq == 0 && len(targets) == limit {
		more = true // the others may follow
	}
	if more {
		last := targets[len(targets)-1]
		at = answerCursor{Seq: last.Seq}
		if last.Seq == 0 {
			at.Node = last.NodeID
		}
		next, err = sealCursor(at)
	}
	return targets, next, err
}

func (s *Store) answerWhere(f live.AnswerFilter, id string) (*where, error) {
	w := &where{}
	w.add(`t.live_id = ?`, id)
	if f.State != "" {
		w.add(`t.state = ?`, text(string(f.State)))
	}
	return w, w.among(s.dialect, `t.node_id`, f.Nodes)
}

// targetsFrom reads targets with their rows, for scanTarget.
const targetsFrom = `SELECT ` + targetColumns + `, COALESCE(r.data, '[]')
	FROM live_target t LEFT JOIN live_rows r ON r.live_id = t.live_id AND r.node_id = t.node_id WHERE `

// targets reads up to limit targets with rows, and whether there are more.
func (s *Store) targets(ctx context.Context, w *where, order string, limit int) (list []live.Target, more bool, err error) {
	rows, err := s.read.QueryContext(ctx, targetsFrom+w.String()+` ORDER BY `+order+` LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	size := 0
	for rows.Next() {
		if len(list) == limit || size > answersBytes {
			return list, true, nil
		}
		var data []byte
		t, err := scanTarget(rows, &data)
		if err != nil {
			return nil, false, err
		}
		if err := json.Unmarshal(data, &t.Rows); err != nil {
			return nil, false, err
		}
		size += len(data)
		list = append(list, t)
	}
	return list, false, rows.Err()
}
