package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/alert"
)

var _ alert.Outbox = (*Store)(nil)

// keepNotification puts one into the outbox. It is due with those of its group that
// wait already and were not tried, so that they are told together. The plus keeps
// SQLite from looking through all of a notifier's instead of the group's.
func (t *tx) keepNotification(ctx context.Context, seq int64, n alert.Notification) error {
	_, err := t.exec(ctx, `
		INSERT INTO notification (seq, notifier, group_key, alert_id, rule, action, state, due_at, silence, attempts, error,
			event_time, received_at, matched_at, created_at, tried_at, delivered_at)
		SELECT $1, CAST($2 AS TEXT), CAST($3 AS TEXT), $4, $5, $6, 'waiting', COALESCE((
				SELECT min(o.due_at) FROM notification o WHERE o.notifier = CAST($2 AS TEXT) AND o.group_key = CAST($3 AS TEXT) AND o.state = 'waiting'
				AND o.attempts = 0 AND o.silence = '' AND o.action <> 'reminded' AND +o.due_at > $7 AND +o.due_at < $8), CAST($8 AS BIGINT)), '', 0, '',
			CAST($9 AS BIGINT), CAST($10 AS BIGINT), CAST($11 AS BIGINT), CAST($7 AS BIGINT), 0, 0`,
		seq, text(n.Notifier), text(n.Group), n.AlertID, text(n.Rule), string(n.Action), micros(n.CreatedAt), micros(n.DueAt),
		micros(n.EventTime), micros(n.Received), micros(n.Matched))
	return err
}

const notificationColumns = `n.seq, n.notifier, n.group_key, n.rule, n.action, n.state, n.due_at, n.silence, n.attempts, n.error,
	n.event_time, n.received_at, n.matched_at, n.created_at, n.tried_at, n.delivered_at`

// scanNotification reads notificationColumns and alertColumns, after those that
// dest are for.
func scanNotification(row scanner, dest ...any) (n alert.Notification, err error) {
	var due, event, received, matched, created, tried, delivered int64
	n.Alert, err = scanAlert(row, append(dest, &n.Seq, &n.Notifier, &n.Group, &n.Rule, &n.Action, &n.State, &due, &n.Silence, &n.Attempts, &n.Error,
		&event, &received, &matched, &created, &tried, &delivered)...)
	n.AlertID = n.Alert.ID
	n.DueAt, n.CreatedAt, n.TriedAt = moment(due), moment(created), moment(tried)
	n.Span = alert.Span{EventTime: moment(event), Received: moment(received), Matched: moment(matched), Delivered: moment(delivered)}
	return n, err
}

// DueNotifications implements [alert.Outbox].
func (s *Store) DueNotifications(ctx context.Context, notifier string, now time.Time, limit int) (due []alert.Notification, next time.Time, err error) {
	due, err = all(ctx, s.read, func(row scanner) (n alert.Notification, err error) {
		var told int
		var columns string
		n, err = scanNotification(row, &told, &columns)
		if n.Told = told == 1; columns != "" {
			n.Columns = json.RawMessage(columns)
		}
		return n, err
	}, `
		SELECT CASE WHEN EXISTS (SELECT 1 FROM notification d
				WHERE d.alert_id = n.alert_id AND d.notifier = n.notifier AND d.state = 'delivered') THEN 1 ELSE 0 END,
			COALESCE((SELECT s.columns FROM alert_sample s WHERE s.alert_id = n.alert_id ORDER BY s.number DESC LIMIT 1), ''), `+notificationColumns+`, `+alertColumns+`
		FROM notification n JOIN alert a ON a.id = n.alert_id
		WHERE n.notifier = $1 AND n.state = 'waiting' AND n.due_at <= $2 ORDER BY n.due_at, n.seq LIMIT $3`, text(notifier), micros(now), limit)
	if err != nil || len(due) > 0 {
		return due, time.Time{}, fail("read the outbox", err)
	}
	var at int64
	err = s.read.QueryRowContext(ctx, `SELECT due_at FROM notification WHERE notifier = $1 AND state = 'waiting' ORDER BY due_at, seq LIMIT 1`, text(notifier)).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	return nil, moment(at), fail("read the outbox", err)
}

// SettleNotifications implements [alert.Outbox].
func (s *Store) SettleNotifications(ctx context.Context, list []alert.Outcome) error {
	if len(list) == 0 {
		return nil
	}
	return fail("keep what became of notifications", s.tx(ctx, func(t *tx) error {
		for _, o := range list {
			if err := t.settle(ctx, o); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (t *tx) settle(ctx context.Context, o alert.Outcome) (err error) {
	switch {
	case o.State == "":
		_, err = t.exec(ctx, `DELETE FROM notification WHERE seq = $1`, o.Seq)
	case o.State == alert.Delivered:
		_, err = t.exec(ctx, `UPDATE notification SET state = 'delivered', delivered_at = $1, error = '' WHERE seq = $2`, micros(o.At), o.Seq)
		if err == nil && !o.Remind.IsZero() {
			err = t.remind(ctx, o)
		}
	case o.Failed:
		_, err = t.exec(ctx, `
			UPDATE notification SET state = $1, due_at = $2, attempts = attempts + 1, error = $3, tried_at = CASE WHEN tried_at = 0 THEN $4 ELSE tried_at END
			WHERE seq = $5`, string(o.State), micros(o.Due), text(o.Error), micros(o.At), o.Seq)
	default:
		_, err = t.exec(ctx, `UPDATE notification SET due_at = $1, silence = $2 WHERE seq = $3 AND state = 'waiting'`, micros(o.Due), text(o.Silence), o.Seq)
	}
	return err
}

// remind has a notifier told again of an alert, once.
func (t *tx) remind(ctx context.Context, o alert.Outcome) error {
	var n alert.Notification
	var id string
	err := t.QueryRowContext(ctx, `SELECT notifier, group_key, alert_id, rule FROM notification WHERE seq = $1`, o.Seq).Scan(&n.Notifier, &n.Group, &id, &n.Rule)
	if err != nil {
		return err
	}
	if _, err := t.exec(ctx, `DELETE FROM notification WHERE alert_id = $1 AND notifier = $2 AND state = 'waiting' AND action = 'reminded'`, id, n.Notifier); err != nil {
		return err
	}
	seq, err := t.next(ctx, counterAlert, 1)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO notification (seq, notifier, group_key, alert_id, rule, action, state, due_at, silence, attempts, error,
			event_time, received_at, matched_at, created_at, tried_at, delivered_at)
		VALUES ($1, $2, $3, $4, $5, 'reminded', 'waiting', $6, '', 0, '', 0, 0, 0, $7, 0, 0)`,
		seq, n.Notifier, n.Group, id, n.Rule, micros(o.Remind), micros(o.At))
	return err
}

// AbandonNotifications implements [alert.Outbox].
func (s *Store) AbandonNotifications(ctx context.Context, known []string, now time.Time) (names []string, err error) {
	list, err := all(ctx, s.read, scanText, `SELECT DISTINCT notifier FROM notification WHERE state = 'waiting'`)
	if err != nil {
		return nil, fail("read the outbox", err)
	}
	is := map[string]bool{}
	for _, name := range known {
		is[name] = true
	}
	for _, name := range list {
		if is[name] {
			continue
		}
		err := s.tx(ctx, func(t *tx) error {
			_, err := t.exec(ctx, `UPDATE notification SET state = 'dead', error = 'there is no such notifier', tried_at = $1 WHERE notifier = $2 AND state = 'waiting'`, micros(now), name)
			return err
		})
		if err != nil {
			return names, fail("give up notifications", err)
		}
		names = append(names, name)
	}
	return names, nil
}

// Backlogs implements [alert.Outbox].
func (s *Store) Backlogs(ctx context.Context) ([]alert.Backlog, error) {
	list, err := all(ctx, s.read, func(row scanner) (b alert.Backlog, err error) {
		var oldest int64
		err = row.Scan(&b.Notifier, &b.Waiting, &b.Dead, &oldest)
		b.Oldest = moment(oldest)
		return b, err
	}, `
		SELECT notifier, sum(waiting), sum(dead), max(oldest) FROM (
			SELECT notifier, count(*) AS waiting, 0 AS dead, min(due_at) AS oldest FROM notification WHERE state = 'waiting' GROUP BY notifier
			UNION ALL
			SELECT notifier, 0, count(*), 0 FROM notification WHERE state = 'dead' GROUP BY notifier) AS b
		GROUP BY notifier ORDER BY notifier`)
	return list, fail("count notifications", err)
}

// Notifications returns notifications, the newest first.
func (s *Store) Notifications(ctx context.Context, f alert.NotificationFilter) ([]alert.Notification, error) {
	w := &where{}
	w.add(`1 = 1`)
	switch f.State { // as part of the text, or the indexes of one state are of no use
	case alert.Waiting:
		w.add(`n.state = 'waiting'`)
	case alert.Dead:
		w.add(`n.state = 'dead'`)
	case alert.Delivered:
		w.add(`n.state = 'delivered'`)
	}
	if f.Notifier != "" {
		w.add(`n.notifier = ?`, text(f.Notifier))
	}
	if f.AlertID != "" {
		w.add(`n.alert_id = ?`, text(f.AlertID))
	}
	if f.Before > 0 {
		w.add(`n.seq < ?`, f.Before)
	}
	w.args = append(w.args, limited(f.Limit))
	list, err := all(ctx, s.read, func(row scanner) (alert.Notification, error) { return scanNotification(row) },
		`SELECT `+notificationColumns+`, `+alertColumns+` FROM notification n JOIN alert a ON a.id = n.alert_id
		WHERE `+w.String()+` ORDER BY n.seq DESC LIMIT `+w.last(), w.args...)
	return list, fail("list notifications", err)
}

// RetryNotifications has dead letters told again: those with some numbers, or else
// all of a notifier. It returns how many.
func (s *Store) RetryNotifications(ctx context.Context, notifier string, seqs []int64, now time.Time) (n int64, err error) {
	const again = `UPDATE notification SET state = 'waiting', due_at = $1, attempts = 0, tried_at = 0, error = '' WHERE state = 'dead' AND `
	err = s.tx(ctx, func(t *tx) (err error) {
		n = 0
		if len(seqs) == 0 {
			n, err = t.exec(ctx, again+`notifier = $2`, micros(now), text(notifier))
			return err
		}
		for _, seq := range seqs {
			done, err := t.exec(ctx, again+`seq = $2`, micros(now), seq)
			if err != nil {
				return err
			}
			n += done
		}
		return nil
	})
	return n, fail("have notifications told again", err)
}

// maxTold bounds what latencies are made of.
const maxTold = 10_000

// ToldSpans returns how long notifications took that arrived since a time, the
// newest of many.
func (s *Store) ToldSpans(ctx context.Context, since time.Time) ([]alert.Told, error) {
	list, err := all(ctx, s.read, func(row scanner) (v alert.Told, err error) {
		var event, received, matched, delivered int64
		err = row.Scan(&v.Rule, &v.Notifier, &event, &received, &matched, &delivered)
		v.Span = alert.Span{EventTime: moment(event), Received: moment(received), Matched: moment(matched), Delivered: moment(delivered)}
		return v, err
	}, `
		SELECT rule, notifier, event_time, received_at, matched_at, delivered_at FROM notification
		WHERE state = 'delivered' AND delivered_at >= $1 AND action IN ('opened', 'reopened', 'escalated') AND matched_at > 0
		ORDER BY delivered_at DESC LIMIT `+strconv.Itoa(maxTold), micros(since))
	return list, fail("read how long notifications took", err)
}
