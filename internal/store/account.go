package store

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
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
		return insertUser(ctx, t, u)
	})
	return fail("create first user", err)
}

// CreateUser implements [account.Store].
func (s *Store) CreateUser(ctx context.Context, u account.User) error {
	err := s.tx(ctx, func(t *tx) error {
		return insertUser(ctx, t, u)
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is a user of that name")
	}
	return fail("create user", err)
}

func insertUser(ctx context.Context, t *tx, u account.User) error {
	roles, err := document(u.Roles)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO account (id, name, password_hash, roles, service, origin, created_at, disabled_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		u.ID, text(u.Name), u.PasswordHash, roles, flag(u.Service), text(u.Origin), micros(u.CreatedAt), micros(u.DisabledAt))
	return err
}

// userColumns are what scanUser reads.
const userColumns = `id, name, password_hash, roles, service, origin, created_at, disabled_at`

func scanUser(row scanner) (u account.User, err error) {
	var roles string
	var service, created, disabled int64
	if err = row.Scan(&u.ID, &u.Name, &u.PasswordHash, &roles, &service, &u.Origin, &created, &disabled); err != nil {
		return u, err
	}
	u.Service, u.CreatedAt, u.DisabledAt = service != 0, moment(created), moment(disabled)
	return u, json.Unmarshal([]byte(roles), &u.Roles)
}

// Users implements [account.Store].
func (s *Store) Users(ctx context.Context) ([]account.User, error) {
	users, err := all(ctx, s.read, scanUser, `SELECT `+userColumns+` FROM account ORDER BY name`)
	for i := range users {
		users[i].PasswordHash = ""
	}
	return users, fail("list users", err)
}

// Activity implements [account.Store].
func (s *Store) Activity(ctx context.Context, now time.Time) ([]account.Activity, error) {
	list, err := all(ctx, s.read, func(row scanner) (a account.Activity, err error) {
		var login int64
		err = row.Scan(&a.UserID, &login, &a.Sessions, &a.Factors)
		a.LastLogin = moment(login)
		return a, err
	}, `
		SELECT a.id, a.last_login, (SELECT count(*) FROM session s WHERE s.account_id = a.id AND s.expires_at > $1),
			`+factorsOf+`
		FROM account a`, micros(now))
	return list, fail("look how users log in", err)
}

// UpdateUser implements [account.Store].
func (s *Store) UpdateUser(ctx context.Context, name string, change func(u *account.User, others []account.User) error) (u account.User, err error) {
	err = s.tx(ctx, func(t *tx) error {
		if _, err := t.next(ctx, counterAccount, 1); err != nil { // one at a time
			return err
		}
		users, err := all(ctx, t, scanUser, `SELECT `+userColumns+` FROM account ORDER BY name`)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(users, func(u account.User) bool { return u.Name == name })
		if i < 0 {
			return errs.New(errs.NotFound, "there is no user with that name")
		}
		u = users[i]
		if err := change(&u, slices.Delete(users, i, i+1)); err != nil {
			return err
		}
		roles, err := document(u.Roles)
		if err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE account SET password_hash = $2, roles = $3, disabled_at = $4 WHERE id = $1`,
			u.ID, u.PasswordHash, roles, micros(u.DisabledAt)); err != nil {
			return err
		}
		if !u.DisabledAt.IsZero() {
			_, errSession := t.exec(ctx, `DELETE FROM session WHERE account_id = $1`, u.ID)
			_, errToken := t.exec(ctx, `UPDATE token SET revoked_at = $2 WHERE account_id = $1 AND revoked_at = 0`, u.ID, micros(u.DisabledAt))
			return errors.Join(errSession, errToken)
		}
		return nil
	})
	return u, fail("change user", err)
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
	u, err := scanUser(s.read.QueryRowContext(ctx, `SELECT `+userColumns+` FROM account WHERE name = $1`, text(name)))
	if err != nil {
		return account.User{}, fail("read user", missing(err, "there is no user with that name"))
	}
	return u, nil
}

// CreateSession implements [account.Store]. It forgets sessions that ended.
func (s *Store) CreateSession(ctx context.Context, hash node.KeyHash, session account.Session) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM session WHERE expires_at <= $1`, micros(session.CreatedAt)); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE account SET last_login = $2 WHERE id = $1 AND last_login < $2`, session.UserID, micros(session.CreatedAt)); err != nil {
			return err
		}
		_, err := t.exec(ctx, `INSERT INTO session (hash, account_id, kind, created_at, expires_at, last_seen, address, agent, factor, must_prove, proved_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			hash[:], session.UserID, string(session.Kind), micros(session.CreatedAt), micros(session.ExpiresAt), micros(session.LastSeen),
			text(session.Address), text(session.Agent), flag(session.SecondFactor), flag(session.MustProve), micros(session.ProvedAt))
		return err
	})
	return fail("create session", err)
}

// factorsOf counts the second factors of account a.
const factorsOf = `(SELECT count(*) FROM factor f WHERE f.account_id = a.id AND f.confirmed_at <> 0)`

// sessionColumns are what scanSession reads.
const sessionColumns = `s.hash, a.id, a.name, a.roles, s.kind, s.created_at, s.expires_at, s.last_seen, s.address, s.agent, s.factor, s.must_prove, s.proved_at,
	` + factorsOf

func scanSession(row scanner) (s account.Session, err error) {
	var hash []byte
	var roles string
	var created, expires, seen, factor, must, proved, factors int64
	if err = row.Scan(&hash, &s.UserID, &s.UserName, &roles, &s.Kind, &created, &expires, &seen, &s.Address, &s.Agent, &factor, &must, &proved, &factors); err != nil {
		return s, err
	}
	copy(s.Hash[:], hash)
	s.SecondFactor, s.MustProve, s.ProvedAt = factor != 0, must != 0, moment(proved)
	s.Factor = factors > 0 || s.SecondFactor
	s.CreatedAt, s.ExpiresAt, s.LastSeen = moment(created), moment(expires), moment(seen)
	return s, json.Unmarshal([]byte(roles), &s.Roles)
}

// SessionByHash implements [account.Store].
func (s *Store) SessionByHash(ctx context.Context, hash node.KeyHash, now time.Time) (account.Session, error) {
	session, err := scanSession(s.read.QueryRowContext(ctx, `
		SELECT `+sessionColumns+`
		FROM session s JOIN account a ON a.id = s.account_id
		WHERE s.hash = $1 AND s.expires_at > $2 AND a.disabled_at = 0`, hash[:], micros(now)))
	if err != nil {
		return account.Session{}, fail("read session", missing(err, "there is no such session"))
	}
	return session, nil
}

// SeeSession implements [account.Store].
func (s *Store) SeeSession(ctx context.Context, hash node.KeyHash, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE session SET last_seen = $2 WHERE hash = $1 AND last_seen < $2`, hash[:], micros(now))
		return err
	})
	return fail("note that a session was used", err)
}

// ProveSession implements [account.Store].
func (s *Store) ProveSession(ctx context.Context, hash node.KeyHash, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.Unauthenticated, "log in first"),
			`UPDATE session SET proved_at = $2, must_prove = 0 WHERE hash = $1`, hash[:], micros(now))
	})
	return fail("prove session", err)
}

// Sessions implements [account.Store].
func (s *Store) Sessions(ctx context.Context, userID string, now time.Time) ([]account.Session, error) {
	sessions, err := all(ctx, s.read, scanSession, `
		SELECT `+sessionColumns+`
		FROM session s JOIN account a ON a.id = s.account_id
		WHERE a.id = $1 AND s.expires_at > $2 ORDER BY s.created_at DESC, s.hash`, userID, micros(now))
	return sessions, fail("list sessions", err)
}

// EndSessions implements [account.Store].
func (s *Store) EndSessions(ctx context.Context, userID string, keep node.KeyHash) (ended int, err error) {
	err = s.tx(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `DELETE FROM session WHERE account_id = $1 AND hash <> $2`, userID, keep[:])
		ended = int(n)
		return err
	})
	return ended, fail("end sessions", err)
}

// DeleteSession implements [account.Store].
func (s *Store) DeleteSession(ctx context.Context, hash node.KeyHash) error {
	err := s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM session WHERE hash = $1`, hash[:])
		return err
	})
	return fail("delete session", err)
}
