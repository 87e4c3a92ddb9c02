package store

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/live"
)

// StandLive implements [live.Store].
func (s *Store) StandLive(ctx context.Context, q live.Query) (kept live.Query, err error) {
	err = s.tx(ctx, func(t *tx) error {
		if err := t.insertLive(ctx, q, ` ON CONFLICT (id) DO NOTHING`); err != nil {
			return err
		}
		_, err := t.exec(ctx, `UPDATE live SET phase = 'running', ended_at = 0 WHERE id = $1 AND standing = 1 AND phase = 'done'`, text(q.ID))
		if err != nil {
			return err
		}
		kept, err = scanLive(t.QueryRowContext(ctx, `SELECT `+liveColumns+` FROM live WHERE id = $1`, text(q.ID)))
		if err != nil {
			return err
		}
		return addOpen(ctx, t, kept.ID, kept.Counts)
	})
	return kept, fail("keep standing query", err)
}

// AddTargets implements [live.Store].
func (s *Store) AddTargets(ctx context.Context, joining []live.Joining) ([]live.Joined, error) {
	var joined []live.Joined
	err := s.tx(ctx, func(t *tx) error {
		joined = make([]live.Joined, len(joining))
		if _, err := t.next(ctx, counterLive, 0); err != nil { // no answer gets in between
			return err
		}
		for i, j := range joining { // one statement each: nodes enrol by the hundred at most
			var err error
			if joined[i], err = t.addTarget(ctx, j); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fail("keep who joined", err)
	}
	return joined, nil
}

func (t *tx) addTarget(ctx context.Context, j live.Joining) (live.Joined, error) {
	id, n := text(j.LiveID), j.Target
	was, err := all(ctx, t, func(row scanner) (before before, err error) {
		err = row.Scan(&before.state, &before.enrolled, &before.rows, &before.bytes)
		return before, err
	}, `SELECT state, enrolled_at, row_count, bytes FROM live_target WHERE live_id = $1 AND node_id = $2`, id, text(n.NodeID))
	if err != nil {
		return live.Joined{}, err
	}
	if len(was) == 1 && was[0].enrolled >= micros(n.EnrolledAt) {
		return live.Joined{}, nil
	}
	asked, err := t.exec(ctx, `
		INSERT INTO live_target (live_id, node_id, host_identifier, hostname, state,
			attempts, sent_at, answered_at, seq, message, wall_time_ms, user_time, system_time, memory, enrolled_at, expires_at)
		SELECT id, $2, $3, $4, 'waiting', 0, 0, 0, 0, '', 0, 0, 0, 0, $5, $6 FROM live WHERE id = $1 AND phase = 'running'
		ON CONFLICT (live_id, node_id) DO UPDATE SET host_identifier = excluded.host_identifier, hostname = excluded.hostname,
			state = 'waiting', attempts = 0, sent_at = 0, answered_at = 0, seq = 0, message = '', wall_time_ms = 0, user_time = 0,
			system_time = 0, memory = 0, enrolled_at = excluded.enrolled_at, expires_at = excluded.expires_at, late = 0, cut = 0,
			row_count = 0, bytes = 0`,
		id, text(n.NodeID), text(n.HostIdentifier), text(n.Hostname), micros(n.EnrolledAt), micros(n.ExpiresAt))
	if err != nil || asked == 0 || len(was) == 0 {
		return live.Joined{Asked: asked == 1}, err
	}
	out := live.Joined{Asked: true, Was: was[0].state, Rows: was[0].rows, Bytes: was[0].bytes}
	if out.Was == live.Waiting || out.Was == live.Sent {
		return out, nil
	}
	if _, err := t.exec(ctx, `DELETE FROM live_rows WHERE live_id = $1 AND node_id = $2`, id, text(n.NodeID)); err != nil {
		return live.Joined{}, err
	}
	return out, t.changeLive(ctx, id, &liveChange{rows: -out.Rows, bytes: -out.Bytes, counts: map[live.State]int{out.Was: -1}})
}

// before is what a target was that joins anew.
type before struct {
	state    live.State
	enrolled int64
	rows     int
	bytes    int64
}

// ExpireTargets implements [live.Store].
func (s *Store) ExpireTargets(ctx context.Context, id string, now time.Time) error {
	id = text(id)
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterLive, 0); err != nil { // no answer gets in between
			return err
		}
		n, err := t.exec(ctx, `
			UPDATE live_target SET state = 'expired'
			WHERE live_id = $1 AND node_id IN (`+openTargets+`) AND expires_at > 0 AND expires_at <= $2`, id, micros(now))
		if err != nil || n == 0 {
			return err
		}
		return t.changeLive(ctx, id, &liveChange{counts: map[live.State]int{live.Expired: int(n)}})
	})
	return fail("expire nodes of a standing query", err)
}

// EnrolmentsAsked returns, for each node that ever joined a standing query, the
// enrolment that it was asked for last.
func (s *Store) EnrolmentsAsked(ctx context.Context, id string) (map[string]time.Time, error) {
	type asked struct {
		node string
		at   int64
	}
	list, err := all(ctx, s.read, func(row scanner) (a asked, err error) {
		err = row.Scan(&a.node, &a.at)
		return a, err
	}, `SELECT node_id, enrolled_at FROM live_target WHERE live_id = $1`, text(id))
	if err != nil {
		return nil, fail("read who was asked", err)
	}
	nodes := make(map[string]time.Time, len(list))
	for _, a := range list {
		nodes[a.node] = moment(a.at)
	}
	return nodes, nil
}
