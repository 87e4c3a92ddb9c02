package store

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// AddFactor implements [account.FactorStore].
func (s *Store) AddFactor(ctx context.Context, f account.Factor) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM factor WHERE account_id = $1 AND confirmed_at = 0`, f.UserID); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO factor (id, account_id, kind, name, sealed, step, created_at, confirmed_at, last_used) VALUES ($1, $2, $3, $4, $5, 0, $6, 0, 0)`,
			f.ID, f.UserID, string(f.Kind), text(f.Name), f.Sealed, micros(f.CreatedAt))
		return err
	})
	return fail("add factor", err)
}

// Factors implements [account.FactorStore].
func (s *Store) Factors(ctx context.Context, userID string) ([]account.Factor, error) {
	list, err := all(ctx, s.read, func(row scanner) (f account.Factor, err error) {
		var created, confirmed, used int64
		err = row.Scan(&f.ID, &f.UserID, &f.Kind, &f.Name, &f.Sealed, &f.Step, &created, &confirmed, &used)
		f.CreatedAt, f.ConfirmedAt, f.LastUsed = moment(created), moment(confirmed), moment(used)
		return f, err
	}, `SELECT id, account_id, kind, name, sealed, step, created_at, confirmed_at, last_used FROM factor WHERE account_id = $1 ORDER BY created_at, id`, userID)
	return list, fail("read factors", err)
}

// ConfirmFactor implements [account.FactorStore].
func (s *Store) ConfirmFactor(ctx context.Context, id string, step int64, now time.Time) error {
	return s.factor(ctx, `UPDATE factor SET confirmed_at = $3, step = $2, last_used = $3 WHERE id = $1 AND confirmed_at = 0`, id, step, now)
}

// UseFactor implements [account.FactorStore].
func (s *Store) UseFactor(ctx context.Context, id string, step int64, now time.Time) error {
	return s.factor(ctx, `UPDATE factor SET step = $2, last_used = $3 WHERE id = $1 AND confirmed_at <> 0 AND step < $2`, id, step, now)
}

// UsePasskey implements [account.FactorStore].
func (s *Store) UsePasskey(ctx context.Context, id string, sealed []byte, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.Conflict, "the passkey was removed"),
			`UPDATE factor SET sealed = $2, last_used = $3 WHERE id = $1 AND confirmed_at <> 0`, id, sealed, micros(now))
	})
	return fail("use passkey", err)
}

// factor changes one factor; Conflict if there is nothing to change.
func (s *Store) factor(ctx context.Context, query, id string, step int64, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.Conflict, "the code was used before"), query, id, step, micros(now))
	})
	return fail("use factor", err)
}

// DeleteFactor implements [account.FactorStore].
func (s *Store) DeleteFactor(ctx context.Context, userID, id string) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := t.change(ctx, errs.New(errs.NotFound, "there is no such authenticator"),
			`DELETE FROM factor WHERE account_id = $1 AND ($2 = '' OR id = $2)`, userID, id); err != nil {
			return err
		}
		_, err := t.exec(ctx, `
			DELETE FROM recovery_code WHERE account_id = $1
				AND NOT EXISTS (SELECT 1 FROM factor f WHERE f.account_id = $1 AND f.confirmed_at <> 0)`, userID)
		return err
	})
	return fail("remove factor", err)
}

// SetRecovery implements [account.RecoveryStore].
func (s *Store) SetRecovery(ctx context.Context, userID string, hashes []node.KeyHash) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM recovery_code WHERE account_id = $1`, userID); err != nil {
			return err
		}
		for _, h := range hashes {
			if _, err := t.exec(ctx, `INSERT INTO recovery_code (account_id, hash) VALUES ($1, $2)`, userID, h[:]); err != nil {
				return err
			}
		}
		return nil
	})
	return fail("keep recovery codes", err)
}

// UseRecovery implements [account.RecoveryStore].
func (s *Store) UseRecovery(ctx context.Context, userID string, hash node.KeyHash) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, "there is no such recovery code"),
			`DELETE FROM recovery_code WHERE account_id = $1 AND hash = $2`, userID, hash[:])
	})
	return fail("use recovery code", err)
}

// RecoveryLeft implements [account.RecoveryStore].
func (s *Store) RecoveryLeft(ctx context.Context, userID string) (n int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM recovery_code WHERE account_id = $1`, userID).Scan(&n)
	return n, fail("count recovery codes", err)
}
