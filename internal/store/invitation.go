package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// CreateInvitation implements [account.InvitationStore].
func (s *Store) CreateInvitation(ctx context.Context, i account.Invitation) error {
	err := s.tx(ctx, func(t *tx) error {
		if _, err := t.exec(ctx, `DELETE FROM invitation WHERE name = $1 OR expires_at <= $2`, text(i.Name), micros(i.CreatedAt)); err != nil {
			return err
		}
		roles, err := document(append([]string{}, i.Roles...))
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO invitation (id, name, hash, reset, roles, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			i.ID, text(i.Name), i.Hash[:], flag(i.Reset), roles, text(i.By), micros(i.CreatedAt), micros(i.ExpiresAt))
		return err
	})
	return fail("create invitation", err)
}

const invitationColumns = `id, name, hash, reset, roles, created_by, created_at, expires_at`

func scanInvitation(row scanner) (i account.Invitation, err error) {
	var hash []byte
	var roles string
	var reset, created, expires int64
	if err = row.Scan(&i.ID, &i.Name, &hash, &reset, &roles, &i.By, &created, &expires); err != nil {
		return i, err
	}
	copy(i.Hash[:], hash)
	i.Reset, i.CreatedAt, i.ExpiresAt = reset != 0, moment(created), moment(expires)
	return i, json.Unmarshal([]byte(roles), &i.Roles)
}

// Invitations implements [account.InvitationStore].
func (s *Store) Invitations(ctx context.Context, now time.Time) ([]account.Invitation, error) {
	list, err := all(ctx, s.read, scanInvitation, `SELECT `+invitationColumns+` FROM invitation WHERE expires_at > $1 ORDER BY created_at DESC, id`, micros(now))
	return list, fail("list invitations", err)
}

// InvitationByHash implements [account.InvitationStore].
func (s *Store) InvitationByHash(ctx context.Context, hash node.KeyHash, now time.Time) (account.Invitation, error) {
	i, err := scanInvitation(s.read.QueryRowContext(ctx, `SELECT `+invitationColumns+` FROM invitation WHERE hash = $1 AND expires_at > $2`, hash[:], micros(now)))
	if err != nil {
		return account.Invitation{}, fail("read invitation", missing(err, "there is no such invitation"))
	}
	return i, nil
}

// AcceptInvitation implements [account.InvitationStore].
func (s *Store) AcceptInvitation(ctx context.Context, i account.Invitation, u account.User) error {
	err := s.tx(ctx, func(t *tx) error {
		if err := t.change(ctx, errs.New(errs.NotFound, "the link was used meanwhile"), `DELETE FROM invitation WHERE hash = $1`, i.Hash[:]); err != nil {
			return err
		}
		if !i.Reset {
			return insertUser(ctx, t, u)
		}
		if err := t.change(ctx, errs.New(errs.NotFound, "the account works no more; ask an administrator"),
			`UPDATE account SET password_hash = $2 WHERE name = $1 AND service = 0 AND origin = '' AND disabled_at = 0`, text(u.Name), u.PasswordHash); err != nil {
			return err
		}
		_, err := t.exec(ctx, `DELETE FROM session WHERE account_id = (SELECT id FROM account WHERE name = $1)`, text(u.Name))
		return err
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is a user of that name by now; ask an administrator")
	}
	return fail("accept invitation", err)
}

// DeleteInvitation implements [account.InvitationStore].
func (s *Store) DeleteInvitation(ctx context.Context, id string) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, "there is no such invitation"), `DELETE FROM invitation WHERE id = $1`, id)
	})
	return fail("end invitation", err)
}
