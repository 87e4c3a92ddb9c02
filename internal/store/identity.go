package store

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

// UserByIdentity implements [account.IdentityStore].
func (s *Store) UserByIdentity(ctx context.Context, i account.Identity) (account.User, error) {
	u, err := scanUser(s.read.QueryRowContext(ctx, `SELECT `+userColumns+` FROM account
		WHERE id = (SELECT account_id FROM identity WHERE issuer = $1 AND subject = $2)`, text(i.Issuer), text(i.Subject)))
	if err != nil {
		return account.User{}, fail("read user", missing(err, "nobody is linked to that identity"))
	}
	return u, nil
}

// CreateLinked implements [account.IdentityStore].
func (s *Store) CreateLinked(ctx context.Context, u account.User, i account.Identity) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := insertUser(ctx, t, u); err != nil {
			return err
		}
		return link(ctx, t, u.ID, i, u.CreatedAt)
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is a user of that name, or the identity is another's")
	}
	return fail("create user", err)
}

// Link implements [account.IdentityStore].
func (s *Store) Link(ctx context.Context, userID string, i account.Identity, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error { return link(ctx, t, userID, i, now) })
	if taken(err) {
		return errs.New(errs.Conflict, "the identity is linked already; unlink it first")
	}
	return fail("link identity", err)
}

func link(ctx context.Context, t *tx, userID string, i account.Identity, now time.Time) error {
	_, err := t.exec(ctx, `INSERT INTO identity (issuer, subject, account_id, linked_at) VALUES ($1, $2, $3, $4)`,
		text(i.Issuer), text(i.Subject), userID, micros(now))
	return err
}

// Unlink implements [account.IdentityStore].
func (s *Store) Unlink(ctx context.Context, userID string, i account.Identity) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, "the user is not linked to that identity"),
			`DELETE FROM identity WHERE account_id = $1 AND issuer = $2 AND subject = $3`, userID, text(i.Issuer), text(i.Subject))
	})
	return fail("unlink identity", err)
}

// Identities implements [account.IdentityStore].
func (s *Store) Identities(ctx context.Context, userID string) ([]account.Identity, error) {
	list, err := all(ctx, s.read, func(row scanner) (i account.Identity, err error) {
		return i, row.Scan(&i.Issuer, &i.Subject)
	}, `SELECT issuer, subject FROM identity WHERE account_id = $1 ORDER BY issuer, subject`, userID)
	return list, fail("list identities", err)
}
