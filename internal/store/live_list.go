package store

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/musterhq/muster/internal/live"
)

const noLive = "there is no live query with that id"

const liveColumns = `id, sql, selector, phase, created_by, created_at, expires_at, ended_at, counts, row_count, kind, source`

// scanLive reads a query. The counts of one that runs are not kept.
func scanLive(row scanner) (live.Query, error) {
	var q live.Query
	var selector, counts string
	var created, expires, ended int64
	err := row.Scan(&q.ID, &q.SQL, &selector, &q.Phase, &q.CreatedBy, &created, &expires, &ended, &counts, &q.Rows, &q.Kind, &q.Source)
	if err != nil {
		return live.Query{}, err
	}
	q.CreatedAt, q.ExpiresAt, q.EndedAt = moment(created), moment(expires), moment(ended)
	if err := json.Unmarshal([]byte(selector), &q.Selector); err != nil {
		return live.Query{}, err
	}
	err = json.Unmarshal([]byte(counts), &q.Counts)
	return q, err
}

const targetColumns = `t.node_id, t.host_identifier, t.hostname, t.state, t.attempts, t.sent_at, t.answered_at, t.seq,
	t.message, t.wall_time_ms, t.user_time, t.system_time, t.memory`

func scanTarget(row scanner, more ...any) (t live.Target, err error) {
	var sent, answered int64
	dest := []any{
		&t.NodeID, &t.HostIdentifier, &t.Hostname, &t.State, &t.Attempts, &sent, &answered, &t.Seq,
		&t.Message, &t.Stats.WallTimeMs, &t.Stats.UserTime, &t.Stats.SystemTime, &t.Stats.Memory,
	}
	err = row.Scan(append(dest, more...)...)
	t.SentAt, t.AnsweredAt = moment(sent), moment(answered)
	return t, err
}

// RunningLive implements [live.Store].
func (s *Store) RunningLive(ctx context.Context) (map[string]live.Query, map[string][]live.Target, error) {
	running, err := all(ctx, s.read, scanLive, `SELECT `+liveColumns+` FROM live WHERE phase = 'running'`)
	if err != nil {
		return nil, nil, fail("read running live queries", err)
	}
	queries, targets := map[string]live.Query{}, map[string][]live.Target{}
	for _, q := range running {
		list, err := all(ctx, s.read, func(row scanner) (live.Target, error) {
			return scanTarget(row)
		}, `SELECT `+targetColumns+` FROM live_target t WHERE t.live_id = $1 ORDER BY t.node_id`, q.ID)
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
	err = s.countRunning(ctx, &q)
	return q, fail("read live query", err)
}

// countRunning fills the counts of a query that runs.
func (s *Store) countRunning(ctx context.Context, q *live.Query) (err error) {
	if q.Phase == live.Running {
		q.Counts, err = countTargets(ctx, s.read, q.ID)
	}
	return err
}

// liveCursor is where a page of live queries ended.
type liveCursor struct {
	Created int64  `json:"c"`
	ID      string `json:"i"`
}

// LiveList returns a page of all live queries, the newest first, and the cursor
// of the next page, "" on the last.
func (s *Store) LiveList(ctx context.Context, cursor string, limit int) (queries []live.Query, next string, err error) {
	w := &where{}
	w.add(`1 = 1`)
	if cursor != "" {
		var c liveCursor
		if err := openCursor(cursor, &c); err != nil {
			return nil, "", err
		}
		w.add(`(created_at, id) < (?, ?)`, c.Created, text(c.ID))
	}
	limit = limited(limit)
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
		if err := s.countRunning(ctx, &queries[i]); err != nil {
			return nil, "", fail("list live queries", err)
		}
	}
	return queries, next, nil
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
		w := answerWhere(f, id)
		w.add(`t.seq > ?`, max(at.Seq, f.AfterSeq))
		if targets, more, err = s.targets(ctx, w, `t.seq`, limit); err != nil {
			return nil, "", fail("read answers", err)
		}
	}
	if !more && len(targets) < limit && !f.AnsweredOnly && f.AfterSeq == 0 {
		w := answerWhere(f, id)
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

func answerWhere(f live.AnswerFilter, id string) *where {
	w := &where{}
	w.add(`t.live_id = ?`, id)
	if f.State != "" {
		w.add(`t.state = ?`, text(string(f.State)))
	}
	return w
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
