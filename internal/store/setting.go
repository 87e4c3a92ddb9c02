package store

import (
	"context"
	"database/sql"
	"errors"
)

// counterServing counts what changes what agents are served: revisions,
// rollouts, settings. Who takes it is alone until the end of the transaction.
const counterServing = "serving"

// ServingVersion implements [change.Revisions].
func (s *Store) ServingVersion(ctx context.Context) (int64, error) {
	v, err := servingVersion(ctx, s.read)
	return v, fail("look for what is to be served", err)
}

func servingVersion(ctx context.Context, q querier) (v int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM counter WHERE name = $1`, counterServing).Scan(&v)
	return v, err
}

// Setting implements [change.Store].
func (s *Store) Setting(ctx context.Context, name string) (string, error) {
	value, err := setting(ctx, s.read, name)
	return value, fail("read setting", err)
}

func setting(ctx context.Context, q querier, name string) (value string, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM setting WHERE name = $1`, text(name)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

// SetSetting implements [change.Store].
func (s *Store) SetSetting(ctx context.Context, name, value string) error {
	return fail("keep setting", s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterServing, 1)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `
			INSERT INTO setting (name, value, version) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, version = excluded.version`, text(name), text(value), version)
		return err
	}))
}
