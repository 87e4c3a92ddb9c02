package store

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

var _ account.Store = (*Store)(nil)

// CreateFirstUser implements [account.Store].
func (s *Store) CreateFirstUser(ctx context.Context, u account.User) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterAccount, 1); err != nil { // one at a time
			return err
		}
		has, err := hasUsers(ctx, t)
		if err != nil {
			return err
		}
		if has {
			return errs.New(errs.Conflict, "there is an administrator already; log in")
		}
		_, err = t.exec(ctx, `INSERT INTO account (id, name, password_hash, created_at) VALUES ($1, $2, $3, $4)`,
			u.ID, text(u.Name), u.PasswordHash, micros(u.CreatedAt))
		return err
	})
	return fail("create first user", err)
}

// CreateUser implements [account.Store].
func (s *Store) CreateUser(ctx context.Context, u account.User) error {
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO account (id, name, password_hash, created_at) VALUES ($1, $2, $3, $4)`,
			u.ID, text(u.Name), u.PasswordHash, micros(u.CreatedAt))
		return err
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is a user of that name")
	}
	return fail("create user", err)
}

// Users implements [account.Store].
func (s *Store) Users(ctx context.Context) ([]account.User, error) {
	users, err := all(ctx, s.read, func(row scanner) (u account.User, err error) {
		var created int64
		err = row.Scan(&u.ID, &u.Name, &created)
		u.CreatedAt = moment(created)
		return u, err
	}, `SELECT id, name, created_at FROM account ORDER BY name`)
	return users, fail("list users", err)
}

// HasUsers implements [account.Store].
func (s *Store) HasUsers(ctx context.Context) (bool, error) {
	has, err := hasUsers(ctx, s.read)
	return has, fail("look for users", err)
}

func hasUsers(ctx context.Context, q querier) (has bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM account)`).Scan(&has)
	return has, err
}

// UserByName implements [account.Store].
func (s *Store) UserByName(ctx context.Context, name string) (account.User, error) {
	var u account.User
	var created int64
	err := s.read.QueryRowContext(ctx, `SELECT id, name, password_hash, created_at FROM account WHERE name = $1`, text(name)).
		Scan(&u.ID, &u.Name, &u.PasswordHash, &created)
	if err != nil {
		return account.User{}, fail("read user", missing(err, "there is no user with that name"))
	}
	u.CreatedAt = moment(created)
	return u, nil
}

// CreateSession implements [account.Store]. It forgets sessions that ended.
func (s *Store) CreateSession(ctx context.Context, hash node.KeyHash, session account.Session) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM session WHERE expires_at <= $1`, micros(session.CreatedAt)); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO session (hash, account_id, kind, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`,
			hash[:], session.UserID, string(session.Kind), micros(session.CreatedAt), micros(session.ExpiresAt))
		return err
	})
	return fail("create session", err)
}

// SessionByHash implements [account.Store].
func (s *Store) SessionByHash(ctx context.Context, hash node.KeyHash, now time.Time) (account.Session, error) {
	var session account.Session
	var created, expires int64
	err := s.read.QueryRowContext(ctx, `
		SELECT a.id, a.name, s.kind, s.created_at, s.expires_at
		FROM session s JOIN account a ON a.id = s.account_id
		WHERE s.hash = $1 AND s.expires_at > $2`, hash[:], micros(now)).
		Scan(&session.UserID, &session.UserName, &session.Kind, &created, &expires)
	if err != nil {
		return account.Session{}, fail("read session", missing(err, "there is no such session"))
	}
	session.CreatedAt, session.ExpiresAt = moment(created), moment(expires)
	return session, nil
}

// DeleteSession implements [account.Store].
func (s *Store) DeleteSession(ctx context.Context, hash node.KeyHash) error {
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM session WHERE hash = $1`, hash[:])
		return err
	})
	return fail("delete session", err)
}
