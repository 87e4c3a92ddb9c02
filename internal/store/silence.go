package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
)

var _ alert.SilenceStore = (*Store)(nil)

const silenceColumns = `id, conditions, comment, created_by, created_at, starts_at, expires_at, ended_by`

func scanSilence(row scanner) (v alert.Silence, err error) {
	var conditions string
	var created, starts, expires int64
	err = row.Scan(&v.ID, &conditions, &v.Comment, &v.CreatedBy, &created, &starts, &expires, &v.EndedBy)
	if err != nil {
		return v, err
	}
	v.CreatedAt, v.StartsAt, v.ExpiresAt = moment(created), moment(starts), moment(expires)
	return v, json.Unmarshal([]byte(conditions), &v.Match)
}

// CreateSilence implements [alert.SilenceStore].
func (s *Store) CreateSilence(ctx context.Context, v alert.Silence) error {
	conditions, err := document(v.Match)
	if err != nil {
		return err
	}
	return fail("keep silence", s.tx(ctx, func(t *tx) error {
		var n int
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM silence WHERE expires_at > $1`, micros(v.CreatedAt)).Scan(&n); err != nil {
			return err
		}
		if n >= alert.MaxSilences {
			return errs.New(errs.Busy, "there are %d silences already; end some, or write fewer that fit more", n)
		}
		_, err := t.exec(ctx, `INSERT INTO silence (`+silenceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			v.ID, text(conditions), text(v.Comment), text(v.CreatedBy), micros(v.CreatedAt), micros(v.StartsAt), micros(v.ExpiresAt), text(v.EndedBy))
		return err
	}))
}

// EndSilence implements [alert.SilenceStore].
func (s *Store) EndSilence(ctx context.Context, id, by string, now time.Time) (v alert.Silence, err error) {
	err = s.tx(ctx, func(t *tx) error {
		v, err = scanSilence(t.QueryRowContext(ctx, `
			UPDATE silence SET expires_at = $1, ended_by = $2 WHERE id = $3 AND expires_at > $1 RETURNING `+silenceColumns, micros(now), text(by), text(id)))
		if err != nil {
			return missing(err, "there is no silence with that id that holds")
		}
		_, err := t.exec(ctx, `UPDATE notification SET due_at = $1 WHERE silence = $2 AND state = 'waiting' AND silence <> ''`, micros(now), v.ID)
		return err
	})
	return v, fail("end silence", err)
}

// Silences implements [alert.SilenceStore].
func (s *Store) Silences(ctx context.Context, after time.Time) ([]alert.Silence, error) {
	list, err := all(ctx, s.read, scanSilence, `SELECT `+silenceColumns+` FROM silence WHERE expires_at > $1 ORDER BY created_at DESC, id`, micros(after))
	return list, fail("list silences", err)
}
