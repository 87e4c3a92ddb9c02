package store

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// tokensKept is how long a token that ended is still listed.
const tokensKept = 30 * 24 * time.Hour

// CreateToken implements [account.TokenStore]. It forgets tokens that ended long
// ago.
func (s *Store) CreateToken(ctx context.Context, k account.Token) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := t.oneTokenAtATime(ctx, k.CreatedAt); err != nil {
			return err
		}
		var same int
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM token WHERE account_id = $1 AND name = $2 AND revoked_at = 0 AND expires_at > $3`,
			k.UserID, text(k.Name), micros(k.CreatedAt)).Scan(&same); err != nil {
			return err
		}
		if same > 0 {
			return errs.New(errs.Conflict, "%s has a token %s; revoke or rotate it, or choose another name", k.UserName, k.Name)
		}
		return t.insertToken(ctx, k)
	})
	return fail("create token", err)
}

// ReplaceToken implements [account.TokenStore].
func (s *Store) ReplaceToken(ctx context.Context, old string, until time.Time, k account.Token) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := t.oneTokenAtATime(ctx, k.CreatedAt); err != nil {
			return err
		}
		if err := t.change(ctx, errNoToken(), `
			UPDATE token SET expires_at = CASE WHEN expires_at > $3 THEN $3 ELSE expires_at END
			WHERE id = $1 AND account_id = $2 AND revoked_at = 0 AND expires_at > $4`, old, k.UserID, micros(until), micros(k.CreatedAt)); err != nil {
			return err
		}
		return t.insertToken(ctx, k)
	})
	return fail("replace token", err)
}

func errNoToken() error { return errs.New(errs.NotFound, "there is no such token that works") }

// oneTokenAtATime lets nobody else make a token meanwhile, and forgets those that
// ended long ago.
func (t *tx) oneTokenAtATime(ctx context.Context, now time.Time) error {
	if _, err := t.next(ctx, counterAccount, 1); err != nil {
		return err
	}
	_, err := t.exec(ctx, `DELETE FROM token WHERE expires_at < $1 OR revoked_at <> 0 AND revoked_at < $1`, micros(now.Add(-tokensKept)))
	return err
}

func (t *tx) insertToken(ctx context.Context, k account.Token) error {
	scope, err := document(k.Scope)
	if err != nil {
		return err
	}
	networks, err := document(append([]netip.Prefix{}, k.Networks...))
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO token (id, account_id, name, hash, scope, networks, created_at, created_by, expires_at, revoked_at, last_used, last_from, factor)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, '', $10)`,
		k.ID, k.UserID, text(k.Name), k.Hash[:], scope, networks, micros(k.CreatedAt), text(k.CreatedBy), micros(k.ExpiresAt), flag(k.Factor))
	return err
}

// tokenColumns are what scanToken reads of token k and account a.
const tokenColumns = `k.id, k.account_id, a.name, k.name, k.scope, k.networks, k.created_at, k.created_by, k.expires_at, k.revoked_at, k.last_used, k.last_from, k.factor` //nolint:gosec // names of columns

func scanToken(row scanner, more ...any) (k account.Token, err error) {
	var scope, networks string
	var created, expires, revoked, used, factor int64
	into := append([]any{&k.ID, &k.UserID, &k.UserName, &k.Name, &scope, &networks, &created, &k.CreatedBy, &expires, &revoked, &used, &k.LastFrom, &factor}, more...)
	if err = row.Scan(into...); err != nil {
		return k, err
	}
	k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsed = moment(created), moment(expires), moment(revoked), moment(used)
	k.Factor = factor != 0
	if err = json.Unmarshal([]byte(scope), &k.Scope); err != nil {
		return k, err
	}
	return k, json.Unmarshal([]byte(networks), &k.Networks)
}

// TokenByHash implements [account.TokenStore].
func (s *Store) TokenByHash(ctx context.Context, hash node.KeyHash, now time.Time) (account.Token, account.User, error) {
	var owner account.User
	var roles string
	var service, factors int64
	k, err := scanToken(s.read.QueryRowContext(ctx, `
		SELECT `+tokenColumns+`, a.roles, a.service, `+factorsOf+`
		FROM token k JOIN account a ON a.id = k.account_id
		WHERE k.hash = $1 AND k.expires_at > $2 AND k.revoked_at = 0 AND a.disabled_at = 0`, hash[:], micros(now)), &roles, &service, &factors)
	if err == nil {
		err = json.Unmarshal([]byte(roles), &owner.Roles)
	}
	if err != nil {
		return account.Token{}, owner, fail("read token", missing(err, "there is no such token"))
	}
	owner.ID, owner.Name, owner.Service, owner.Factor = k.UserID, k.UserName, service != 0, factors > 0
	return k, owner, nil
}

// UseToken implements [account.TokenStore].
func (s *Store) UseToken(ctx context.Context, id string, now time.Time, from string) error {
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE token SET last_used = $2, last_from = $3 WHERE id = $1 AND last_used < $2`, id, micros(now), text(from))
		return err
	})
	return fail("note that a token was used", err)
}

// Tokens implements [account.TokenStore].
func (s *Store) Tokens(ctx context.Context, userID string) ([]account.Token, error) {
	list, err := all(ctx, s.read, func(row scanner) (account.Token, error) { return scanToken(row) }, `
		SELECT `+tokenColumns+` FROM token k JOIN account a ON a.id = k.account_id
		WHERE $1 = '' OR k.account_id = $1 ORDER BY k.created_at DESC, k.id`, userID)
	return list, fail("list tokens", err)
}

// EndToken implements [account.TokenStore].
func (s *Store) EndToken(ctx context.Context, userID, id string, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errNoToken(),
			`UPDATE token SET revoked_at = $3 WHERE id = $1 AND account_id = $2 AND revoked_at = 0 AND expires_at > $3`, id, userID, micros(now))
	})
	return fail("end token", err)
}
