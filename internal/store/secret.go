package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

//nolint:gosec // names of columns, no secret
const secretColumns = `name, tags, max_uses, uses, created_at, created_by, expires_at, revoked_at, last_used`

func scanSecret(row scanner) (node.Secret, error) {
	var s node.Secret
	var tags string
	var created, expires, revoked, used int64
	if err := row.Scan(&s.Name, &tags, &s.MaxUses, &s.Uses, &created, &s.CreatedBy, &expires, &revoked, &used); err != nil {
		return node.Secret{}, err
	}
	s.CreatedAt, s.ExpiresAt, s.RevokedAt, s.LastUsed = moment(created), moment(expires), moment(revoked), moment(used)
	err := json.Unmarshal([]byte(tags), &s.Tags)
	return s, err
}

// CreateSecret keeps a new enroll secret under the hash of its value. A name
// that any secret has, even a revoked one, is a Conflict.
func (s *Store) CreateSecret(ctx context.Context, secret node.Secret, hash node.KeyHash) error {
	tags, err := tagList(secret.Tags)
	if err != nil {
		return fail("create enroll secret", err)
	}
	err = s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `
			INSERT INTO secret (name, hash, tags, max_uses, uses, created_at, created_by, expires_at, revoked_at, last_used)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			text(secret.Name), hash[:], tags, secret.MaxUses, secret.Uses, micros(secret.CreatedAt), text(secret.CreatedBy),
			micros(secret.ExpiresAt), micros(secret.RevokedAt), micros(secret.LastUsed))
		return err
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is an enroll secret with that name, maybe a revoked one; choose another name")
	}
	return fail("create enroll secret", err)
}

// Secrets returns all enroll secrets by name, revoked ones too.
func (s *Store) Secrets(ctx context.Context) ([]node.Secret, error) {
	secrets, err := all(ctx, s.read, scanSecret, `SELECT `+secretColumns+` FROM secret ORDER BY name`)
	return secrets, fail("list enroll secrets", err)
}

// RevokeSecret makes an enroll secret unusable from now on; it stays in the
// list. NotFound without one; revoking again changes nothing.
func (s *Store) RevokeSecret(ctx context.Context, name string, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		n, err := t.exec(ctx, `
			UPDATE secret SET revoked_at = CASE revoked_at WHEN 0 THEN $1 ELSE revoked_at END WHERE name = $2`,
			micros(now), text(name))
		if err == nil && n == 0 {
			return errs.New(errs.NotFound, "there is no enroll secret with that name")
		}
		return err
	})
	return fail("revoke enroll secret", err)
}

// use counts a use of the secret with that hash and returns the secret as it
// was before; nil without one. Nobody else can use it until the transaction
// ends, so that a limit is kept however many enrol at once.
func (t *tx) use(ctx context.Context, hash node.KeyHash, now time.Time) (*node.Secret, error) {
	secrets, err := all(ctx, t, scanSecret,
		`UPDATE secret SET uses = uses + 1, last_used = $1 WHERE hash = $2 RETURNING `+secretColumns, micros(now), hash[:])
	if err != nil || len(secrets) == 0 {
		return nil, err
	}
	secrets[0].Uses--
	return &secrets[0], nil
}

// tagList is how tags are kept in their owner's row.
func tagList(tags []string) (string, error) {
	if tags == nil {
		tags = []string{}
	}
	return document(tags)
}
