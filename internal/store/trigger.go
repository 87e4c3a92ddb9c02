package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/trigger"
)

var (
	_ trigger.Store           = (*Store)(nil)
	_ trigger.EnrollmentStore = (*Store)(nil)
	_ trigger.StatsStore      = (*Store)(nil)
)

// SetTriggerToken gives a trigger the token with that hash, in place of the one
// before, which stops working now.
func (s *Store) SetTriggerToken(ctx context.Context, t trigger.Token, hash node.KeyHash) error {
	err := s.tx(ctx, func(tx *tx) error {
		_, err := tx.exec(ctx, `
			INSERT INTO trigger_token (name, hash, created_at, created_by, last_used) VALUES ($1, $2, $3, $4, 0)
			ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, created_at = excluded.created_at, created_by = excluded.created_by, last_used = 0`,
			text(t.Trigger), hash[:], micros(t.CreatedAt), text(t.CreatedBy))
		return err
	})
	if taken(err) {
		return errs.New(errs.Conflict, "a trigger has that token")
	}
	return fail("keep trigger token", err)
}

// RevokeTriggerToken ends a trigger's token; NotFound without one.
func (s *Store) RevokeTriggerToken(ctx context.Context, name string) error {
	return fail("revoke trigger token", s.tx(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `DELETE FROM trigger_token WHERE name = $1`, text(name))
		if err == nil && n == 0 {
			return errs.New(errs.NotFound, "the trigger has no token")
		}
		return err
	}))
}

// TriggerOfToken returns the name of the trigger that a token is of; "" without.
func (s *Store) TriggerOfToken(ctx context.Context, hash node.KeyHash) (name string, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT name FROM trigger_token WHERE hash = $1`, hash[:]).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return name, fail("look for a trigger token", err)
}

// TriggerTokens returns the tokens that work, by trigger, without what they are.
func (s *Store) TriggerTokens(ctx context.Context) ([]trigger.Token, error) {
	list, err := all(ctx, s.read, func(row scanner) (t trigger.Token, err error) {
		var created int64
		err = row.Scan(&t.Trigger, &created, &t.CreatedBy)
		t.CreatedAt = moment(created)
		return t, err
	}, `SELECT name, created_at, created_by FROM trigger_token ORDER BY name`)
	return list, fail("list trigger tokens", err)
}

// Fired implements [trigger.Store].
func (s *Store) Fired(ctx context.Context, f trigger.FiredFilter) ([]trigger.Firing, error) {
	list, err := all(ctx, s.read, func(row scanner) (t trigger.Firing, err error) {
		var received int64
		err = row.Scan(&t.Trigger, &t.NodeID, &t.LiveID, &t.Dedup, &received)
		t.ReceivedAt = moment(received)
		return t, err
	}, `
		SELECT f.name, f.node_id, f.live_id, f.dedup, f.received_at FROM trigger_firing f
		WHERE f.name = $1 AND f.received_at > $2 AND ($3 = '' OR f.dedup = $3) AND EXISTS (SELECT 1 FROM live l WHERE l.id = f.live_id)
		ORDER BY f.received_at DESC, f.live_id LIMIT $4`, text(f.Trigger), micros(f.Since), text(f.Dedup), f.Limit)
	return list, fail("read what a trigger started", err)
}

// Started implements [trigger.Store].
func (s *Store) Started(ctx context.Context, liveID string) (there bool, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM live WHERE id = $1)`, text(liveID)).Scan(&there)
	return there, fail("look for a live query", err)
}

// SaveFiring implements [trigger.Store].
func (s *Store) SaveFiring(ctx context.Context, f trigger.Firing) error {
	return fail("keep what a trigger starts", s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `UPDATE trigger_token SET last_used = $1 WHERE name = $2`, micros(f.ReceivedAt), text(f.Trigger)); err != nil {
			return err
		}
		_, err := t.exec(ctx, `
			INSERT INTO trigger_firing (live_id, name, node_id, dedup, received_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (live_id) DO NOTHING`,
			f.LiveID, text(f.Trigger), text(f.NodeID), text(f.Dedup), micros(f.ReceivedAt))
		return err
	}))
}

// PruneFirings implements [trigger.Store].
func (s *Store) PruneFirings(ctx context.Context, before time.Time) error {
	return fail("drop old firings", s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM trigger_firing WHERE received_at < $1`, micros(before))
		return err
	}))
}

// StandEnrollment implements [trigger.EnrollmentStore].
func (s *Store) StandEnrollment(ctx context.Context, liveID, name string, since time.Time) (time.Time, error) {
	var kept int64
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO enrollment (live_id, name, since) VALUES ($1, $2, $3) ON CONFLICT (live_id) DO NOTHING`,
			text(liveID), text(name), micros(since))
		if err != nil {
			return err
		}
		return t.QueryRowContext(ctx, `SELECT since FROM enrollment WHERE live_id = $1`, text(liveID)).Scan(&kept)
	})
	return moment(kept), fail("keep enrollment query", err)
}

// EndEnrollment implements [trigger.EnrollmentStore].
func (s *Store) EndEnrollment(ctx context.Context, liveID string) error {
	return fail("end enrollment query", s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM enrollment WHERE live_id = $1`, text(liveID))
		return err
	}))
}

// StandingEnrollments implements [trigger.EnrollmentStore].
func (s *Store) StandingEnrollments(ctx context.Context) (map[string]string, error) {
	type pair struct{ id, name string }
	list, err := all(ctx, s.read, func(row scanner) (p pair, err error) {
		err = row.Scan(&p.id, &p.name)
		return p, err
	}, `SELECT live_id, name FROM enrollment`)
	if err != nil {
		return nil, fail("list enrollment queries", err)
	}
	names := make(map[string]string, len(list))
	for _, p := range list {
		names[p.id] = p.name
	}
	return names, nil
}

// EnrolledSince implements [trigger.EnrollmentStore].
func (s *Store) EnrolledSince(ctx context.Context, since time.Time) (map[string]time.Time, error) {
	type enrolled struct {
		id string
		at int64
	}
	list, err := all(ctx, s.read, func(row scanner) (e enrolled, err error) {
		err = row.Scan(&e.id, &e.at)
		return e, err
	}, `SELECT id, enrolled_at FROM node WHERE gone_at = 0 AND enrolled_at >= $1`, micros(since))
	if err != nil {
		return nil, fail("list who enrolled", err)
	}
	nodes := make(map[string]time.Time, len(list))
	for _, e := range list {
		nodes[e.id] = moment(e.at)
	}
	return nodes, nil
}

// maxSpans bounds how many answers of one query or trigger are looked at for how
// long they took.
const maxSpans = 5000

// TriggerSpans implements [trigger.StatsStore].
func (s *Store) TriggerSpans(ctx context.Context, since time.Time) ([]trigger.Span, error) {
	list, err := all(ctx, s.read, scanSpan, `
		SELECT f.name, f.node_id, t.state, f.received_at, t.sent_at, t.answered_at
		FROM trigger_firing f JOIN live_target t ON t.live_id = f.live_id AND t.node_id = f.node_id
		WHERE f.received_at >= $1 ORDER BY f.received_at DESC LIMIT $2`, micros(since), maxSpans)
	return list, fail("read how long triggers took", err)
}

// EnrollmentSpans implements [trigger.StatsStore].
func (s *Store) EnrollmentSpans(ctx context.Context, liveID string) ([]trigger.Span, error) {
	list, err := all(ctx, s.read, scanSpan, `
		SELECT l.source, t.node_id, t.state, t.enrolled_at, t.sent_at, t.answered_at
		FROM live_target t JOIN live l ON l.id = t.live_id
		WHERE t.live_id = $1 ORDER BY t.answered_at DESC, t.node_id LIMIT $2`, text(liveID), maxSpans)
	return list, fail("read how long enrollment queries took", err)
}

func scanSpan(row scanner) (span trigger.Span, err error) {
	var began, sent, answered int64
	var state string
	err = row.Scan(&span.Name, &span.NodeID, &state, &began, &sent, &answered)
	span.State, span.Began, span.Sent, span.Answered = live.State(state), moment(began), moment(sent), moment(answered)
	return span, err
}

// FiringsPerTrigger implements [trigger.StatsStore].
func (s *Store) FiringsPerTrigger(ctx context.Context) (map[string]trigger.Count, error) {
	type named struct {
		name string
		trigger.Count
	}
	list, err := all(ctx, s.read, func(row scanner) (n named, err error) {
		var last int64
		err = row.Scan(&n.name, &n.Fired, &n.Answered, &last)
		n.Last = moment(last)
		return n, err
	}, `
		SELECT f.name, count(*), COALESCE(sum(CASE WHEN t.answered_at > 0 THEN 1 ELSE 0 END), 0), max(f.received_at)
		FROM trigger_firing f JOIN live_target t ON t.live_id = f.live_id AND t.node_id = f.node_id
		GROUP BY f.name`)
	if err != nil {
		return nil, fail("count what triggers started", err)
	}
	counts := make(map[string]trigger.Count, len(list))
	for _, n := range list {
		counts[n.name] = n.Count
	}
	return counts, nil
}
