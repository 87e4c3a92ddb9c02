package store

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
)

var _ live.Store = (*Store)(nil)

// targetChunk bounds the rows of one statement that keeps targets or answers.
const targetChunk = 5000

// CreateLive implements [live.Store].
func (s *Store) CreateLive(ctx context.Context, q live.Query, targets []live.Target) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := t.insertLive(ctx, q, ""); err != nil {
			return err
		}
		for chunk := range slices.Chunk(targets, targetChunk) {
			if err := t.addTargets(ctx, q.ID, chunk); err != nil {
				return err
			}
		}
		return nil
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is a live query with that id, or it has a node twice")
	}
	return fail("create live query", err)
}

// insertLive keeps a new query; conflict says what if there is one.
func (t *tx) insertLive(ctx context.Context, q live.Query, conflict string) error {
	selector, err := document(q.Selector)
	if err != nil {
		return err
	}
	limits, err := document(q.Limits)
	if err != nil {
		return err
	}
	waves, err := document(q.Waves)
	if err != nil {
		return err
	}
	approval, err := document(q.Approval)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO live (id, sql, selector, phase, created_by, created_at, expires_at, ended_at, counts, row_count, kind, source,
			reason, tier, not_before, standing, rerun_of, approval, limits, waves, held, bytes, truncated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '{}', 0, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 0, 0)`+conflict,
		q.ID, text(q.SQL), selector, string(q.Phase), text(q.CreatedBy), micros(q.CreatedAt), micros(q.ExpiresAt), micros(q.EndedAt),
		string(q.Kind), text(q.Source), text(q.Reason), q.Tier, micros(q.NotBefore), flag(q.Standing), text(q.RerunOf), text(approval), limits,
		waves, text(q.Held))
	return err
}

// flag is how a truth is kept.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// AlterLive implements [live.Store].
func (s *Store) AlterLive(ctx context.Context, q live.Query, from live.Phase) error {
	err := s.tx(ctx, func(t *tx) error {
		waves, err := document(q.Waves)
		if err != nil {
			return err
		}
		approval, err := document(q.Approval)
		if err != nil {
			return err
		}
		return t.change(ctx, errs.New(errs.Conflict, "the live query ended, or somebody else was faster"), `
			UPDATE live SET phase = $1, expires_at = $2, waves = $3, held = $4, approval = $5 WHERE id = $6 AND phase = $7`,
			string(q.Phase), micros(q.ExpiresAt), waves, text(q.Held), text(approval), text(q.ID), string(from))
	})
	return fail("keep live query", err)
}

func (t *tx) addTargets(ctx context.Context, liveID string, targets []live.Target) error {
	rows := make([][]any, 0, len(targets))
	for _, target := range targets {
		rows = append(rows, []any{text(target.NodeID), text(target.HostIdentifier), text(target.Hostname), target.State})
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO live_target (live_id, node_id, host_identifier, hostname, state,
			attempts, sent_at, answered_at, seq, message, wall_time_ms, user_time, system_time, memory)
		SELECT CAST($1 AS TEXT), t.node_id, t.host_identifier, t.hostname, t.state, 0, 0, 0, 0, '', 0, 0, 0, 0
		FROM `+t.dialect.bulk(2, "node_id text", "host_identifier text", "hostname text", "state text"), liveID, list)
	return err
}

// MarkSent implements [live.Store]. A node that answered meanwhile stays
// answered; when it took the query is kept all the same.
func (s *Store) MarkSent(ctx context.Context, sent []live.Delivery) error {
	// Each target once, the last attempt: which of two rows UPDATE takes is not
	// defined. In the order of the key, as in TouchNodes.
	sent = slices.Clone(sent)
	slices.SortFunc(sent, func(a, b live.Delivery) int {
		if c := compareKey(a, b); c != 0 {
			return c
		}
		return b.Attempts - a.Attempts
	})
	sent = slices.CompactFunc(sent, func(a, b live.Delivery) bool { return compareKey(a, b) == 0 })
	err := s.tx(ctx, func(t *tx) error {
		for chunk := range slices.Chunk(sent, targetChunk) {
			rows := make([][]any, 0, len(chunk))
			for _, d := range chunk {
				rows = append(rows, []any{text(d.LiveID), text(d.NodeID), micros(d.At), d.Attempts})
			}
			list, err := document(rows)
			if err != nil {
				return err
			}
			_, err = t.exec(ctx, `
				UPDATE live_target SET sent_at = t.at, attempts = t.attempts,
					state = CASE live_target.state WHEN 'waiting' THEN 'sent' ELSE live_target.state END
				FROM `+s.dialect.bulk(1, "live_id text", "node_id text", "at bigint", "attempts bigint")+`
				WHERE live_target.live_id = t.live_id AND live_target.node_id = t.node_id
					AND live_target.attempts <= t.attempts`, list)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return fail("keep what was sent", err)
}

func compareKey(a, b live.Delivery) int {
	if c := strings.Compare(a.LiveID, b.LiveID); c != 0 {
		return c
	}
	return strings.Compare(a.NodeID, b.NodeID)
}

// EndLive implements [live.Store].
func (s *Store) EndLive(ctx context.Context, id string, phase live.Phase, open live.State, at time.Time) error {
	id = text(id)
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterLive, 0); err != nil { // no answer gets in between
			return err
		}
		var was live.Phase
		if err := t.QueryRowContext(ctx, `SELECT phase FROM live WHERE id = $1`, id).Scan(&was); err != nil {
			return missing(err, noLive)
		}
		if !was.Open() {
			return nil
		}
		n, err := t.exec(ctx, `UPDATE live_target SET state = $1 WHERE live_id = $2 AND state IN ('waiting', 'sent')`, string(open), id)
		if err != nil {
			return err
		}
		if err := t.changeLive(ctx, id, &liveChange{counts: map[live.State]int{open: int(n)}}); err != nil {
			return err
		}
		_, err = t.exec(ctx, `UPDATE live SET phase = $1, ended_at = $2 WHERE id = $3`, string(phase), micros(at), id)
		return err
	})
	return fail("end live query", err)
}

// addOpen adds the targets that are open to the counts of one query.
func addOpen(ctx context.Context, q querier, id string, counts map[live.State]int) error {
	open, err := all(ctx, q, scanCount, `
		SELECT state, count(*) FROM live_target WHERE live_id = $1 AND state IN ('waiting', 'sent') GROUP BY state`, id)
	for _, c := range open {
		counts[live.State(c.Value)] += c.Count
	}
	return err
}

// answerChunk bounds the answers of one statement.
const answerChunk = 1000

// SaveAnswers implements [live.Store]. An answer is new if its node was asked
// and has not answered, be it that its time is over or somebody stopped the
// query. Answers to what nobody asked are left out without an error, as they
// come from outside.
func (s *Store) SaveAnswers(ctx context.Context, answers []live.Answer) ([]live.Answer, error) {
	var fresh []live.Answer
	err := s.tx(ctx, func(t *tx) error {
		fresh = nil
		for chunk := range slices.Chunk(answers, answerChunk) {
			kept, err := t.saveAnswers(ctx, chunk)
			if err != nil {
				return err
			}
			fresh = append(fresh, kept...)
		}
		return nil
	})
	if err != nil {
		return nil, fail("keep answers", err)
	}
	return fresh, nil
}

// awaited is a target that an answer is for.
type awaited struct {
	answer   int // its place among the answers
	state    live.State
	late     bool
	enrolled time.Time
}

func (t *tx) saveAnswers(ctx context.Context, answers []live.Answer) ([]live.Answer, error) {
	// Numbers that no answer gets are left out. From here on no query ends and
	// no other answer is kept.
	last, err := t.next(ctx, counterLive, len(answers))
	if err != nil {
		return nil, err
	}
	targets, err := t.dialect.awaited(ctx, t, answers)
	if err != nil {
		return nil, err
	}
	var fresh []live.Answer
	changes := map[string]*liveChange{}
	for _, target := range targets {
		a := answers[target.answer]
		a.Late, a.EnrolledAt = target.late, target.enrolled
		fresh = append(fresh, a)
		c := changes[a.LiveID]
		if c == nil {
			c = &liveChange{counts: map[live.State]int{}}
			changes[a.LiveID] = c
		}
		c.rows, c.bytes, c.cut = c.rows+len(a.Rows), c.bytes+a.Bytes(), c.cut || a.Cut
		if target.state != live.Waiting && target.state != live.Sent {
			c.counts[target.state]--
		}
		c.counts[a.State]++
	}
	if err := t.keepAnswers(ctx, fresh, last-int64(len(answers))); err != nil {
		return nil, err
	}
	for _, a := range fresh {
		if err := t.keepRows(ctx, a); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(changes)) {
		if err := t.changeLive(ctx, id, changes[id]); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// awaited returns the targets whose answers are new, in the order of the
// answers, each once. Nobody was asked by a query that waits for a second person
// or was rejected.
func (d dialect) awaited(ctx context.Context, q querier, answers []live.Answer) ([]awaited, error) {
	rows := make([][]any, 0, len(answers))
	seen := map[[2]string]bool{}
	for i, a := range answers {
		key := [2]string{a.LiveID, a.NodeID}
		if !seen[key] {
			seen[key] = true
			rows = append(rows, []any{i, text(a.LiveID), text(a.NodeID)})
		}
	}
	list, err := document(rows)
	if err != nil {
		return nil, err
	}
	return all(ctx, q, func(row scanner) (awaited, error) {
		var target awaited
		var phase live.Phase
		var enrolled int64
		err := row.Scan(&target.answer, &target.state, &enrolled, &phase)
		target.late = phase != live.Running || target.state == live.Expired || target.state == live.Halted
		target.enrolled = moment(enrolled)
		return target, err
	}, `
		SELECT t.answer, a.state, a.enrolled_at, l.phase
		FROM `+d.bulk(1, "answer bigint", "live_id text", "node_id text")+`
		JOIN live_target a ON a.live_id = t.live_id AND a.node_id = t.node_id
		JOIN live l ON l.id = a.live_id
		WHERE a.state IN ('waiting', 'sent', 'expired', 'stopped') AND l.phase NOT IN ('pending', 'rejected') ORDER BY t.answer`, list)
}

// Awaited implements [live.Store].
func (s *Store) Awaited(ctx context.Context, answers []live.Answer) ([]live.Answer, map[string]live.Query, error) {
	targets, err := s.dialect.awaited(ctx, s.read, answers)
	if err != nil {
		return nil, nil, fail("read what is awaited", err)
	}
	var list []live.Answer
	queries := map[string]live.Query{}
	for _, target := range targets {
		a := answers[target.answer]
		a.Late, a.EnrolledAt = target.late, target.enrolled
		list = append(list, a)
		if _, ok := queries[a.LiveID]; ok {
			continue
		}
		if queries[a.LiveID], err = scanLive(s.read.QueryRowContext(ctx, `SELECT `+liveColumns+` FROM live WHERE id = $1`, text(a.LiveID))); err != nil {
			return nil, nil, fail("read what is awaited", err)
		}
	}
	return list, queries, nil
}

// keepAnswers numbers answers from after seq on and keeps them without rows.
func (t *tx) keepAnswers(ctx context.Context, fresh []live.Answer, seq int64) error {
	if len(fresh) == 0 {
		return nil
	}
	rows := make([][]any, 0, len(fresh))
	for _, a := range fresh {
		seq++
		rows = append(rows, []any{
			a.LiveID, a.NodeID, a.State, micros(a.ReceivedAt), seq, text(a.Message),
			a.Stats.WallTimeMs, a.Stats.UserTime, a.Stats.SystemTime, a.Stats.Memory, flag(a.Late), flag(a.Cut), len(a.Rows), a.Bytes(),
		})
	}
	list, err := document(rows)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		UPDATE live_target SET state = t.state, answered_at = t.answered_at, seq = t.seq, message = t.message,
			wall_time_ms = t.wall_time_ms, user_time = t.user_time, system_time = t.system_time, memory = t.memory,
			late = t.late, cut = t.cut, row_count = t.row_count, bytes = t.bytes
		FROM `+t.dialect.bulk(1, "live_id text", "node_id text", "state text", "answered_at bigint", "seq bigint", "message text",
		"wall_time_ms bigint", "user_time bigint", "system_time bigint", "memory bigint",
		"late bigint", "cut bigint", "row_count bigint", "bytes bigint")+`
		WHERE live_target.live_id = t.live_id AND live_target.node_id = t.node_id`, list)
	return err
}

func (t *tx) keepRows(ctx context.Context, a live.Answer) error {
	if len(a.Rows) == 0 {
		return nil
	}
	var data strings.Builder
	for i, row := range a.Rows {
		data.WriteByte("[,"[min(i, 1)])
		data.Write(row)
	}
	data.WriteByte(']')
	_, err := t.exec(ctx, `INSERT INTO live_rows (live_id, node_id, data) VALUES ($1, $2, $3)`, a.LiveID, a.NodeID, text(data.String()))
	return err
}

// liveChange is what answers change of their query.
type liveChange struct {
	rows   int
	bytes  int64
	cut    bool
	counts map[live.State]int // to add; of states that are not open
}

// changeLive adds to a query's rows and counts.
func (t *tx) changeLive(ctx context.Context, id string, c *liveChange) error {
	var list string
	if err := t.QueryRowContext(ctx, `SELECT counts FROM live WHERE id = $1`, id).Scan(&list); err != nil {
		return err
	}
	counts := map[live.State]int{}
	if err := json.Unmarshal([]byte(list), &counts); err != nil {
		return err
	}
	for state, n := range c.counts {
		if counts[state] += n; counts[state] == 0 {
			delete(counts, state)
		}
	}
	list, err := document(counts)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		UPDATE live SET row_count = row_count + $1, bytes = bytes + $2, counts = $3, truncated = CASE WHEN truncated = 1 THEN 1 ELSE $4 END
		WHERE id = $5`, c.rows, c.bytes, list, flag(c.cut), id)
	return err
}
