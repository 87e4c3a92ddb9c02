package store

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

//nolint:gosec // names of columns, no secret
const secretColumns = `name, tags, cidrs, agent_tags, max_uses, uses, created_at, created_by, expires_at, revoked_at, last_used, old_until`

func scanSecret(row scanner) (node.Secret, error) {
	var s node.Secret
	var tags, cidrs, agentTags string
	var created, expires, revoked, used, old int64
	if err := row.Scan(&s.Name, &tags, &cidrs, &agentTags, &s.MaxUses, &s.Uses,
		&created, &s.CreatedBy, &expires, &revoked, &used, &old); err != nil {
		return node.Secret{}, err
	}
	s.CreatedAt, s.ExpiresAt, s.RevokedAt = moment(created), moment(expires), moment(revoked)
	s.LastUsed, s.OldUntil = moment(used), moment(old)
	if err := json.Unmarshal([]byte(tags), &s.Tags); err != nil {
		return node.Secret{}, err
	}
	if err := unlessEmpty(cidrs, &s.CIDRs); err != nil {
		return node.Secret{}, err
	}
	err := unlessEmpty(agentTags, &s.AgentTags)
	return s, err
}

// unlessEmpty reads a JSON list that is seldom there; an empty one leaves nil.
func unlessEmpty(list string, dest any) error {
	if list == `[]` {
		return nil
	}
	return json.Unmarshal([]byte(list), dest)
}

// CreateSecret keeps a new enroll secret under the hash of its value. A name
// that any secret has, even a revoked one, is a Conflict, as is a value.
func (s *Store) CreateSecret(ctx context.Context, secret node.Secret, hash node.KeyHash) error {
	tags, err := tagList(secret.Tags)
	if err != nil {
		return fail("create enroll secret", err)
	}
	agentTags, err := tagList(secret.AgentTags)
	if err != nil {
		return fail("create enroll secret", err)
	}
	if secret.CIDRs == nil {
		secret.CIDRs = []netip.Prefix{}
	}
	cidrs, err := document(secret.CIDRs)
	if err != nil {
		return fail("create enroll secret", err)
	}
	err = s.tx(ctx, func(t *tx) error {
		if err := t.newSecretValue(ctx, hash); err != nil {
			return err
		}
		_, err := t.exec(ctx, `
			INSERT INTO secret (name, hash, tags, cidrs, agent_tags, max_uses, uses, created_at, created_by, expires_at, revoked_at, last_used)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			text(secret.Name), hash[:], tags, cidrs, agentTags, secret.MaxUses, secret.Uses, micros(secret.CreatedAt), text(secret.CreatedBy),
			micros(secret.ExpiresAt), micros(secret.RevokedAt), micros(secret.LastUsed))
		return err
	})
	if taken(err) {
		return errs.New(errs.Conflict, "there is an enroll secret with that name, maybe a revoked one; choose another name")
	}
	return fail("create enroll secret", err)
}

// newSecretValue makes sure that no secret has or had a value, so that it means
// one secret. From then on nobody else gives one until the transaction ends.
func (t *tx) newSecretValue(ctx context.Context, hash node.KeyHash) error {
	if _, err := t.next(ctx, counterSecret, 1); err != nil {
		return err
	}
	used, err := all(ctx, t, scanText, `SELECT name FROM secret WHERE hash = $1 OR old_hash = $1`, hash[:])
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return errs.New(errs.Conflict, "an enroll secret has that value, or had it before; choose another value")
	}
	return nil
}

// Secrets returns all enroll secrets by name, revoked ones too.
func (s *Store) Secrets(ctx context.Context) ([]node.Secret, error) {
	secrets, err := all(ctx, s.read, scanSecret, `SELECT `+secretColumns+` FROM secret ORDER BY name`)
	return secrets, fail("list enroll secrets", err)
}

//nolint:gosec // a message
const noSecret = "there is no enroll secret with that name"

// RotateSecret gives an enroll secret a new value. The one before works until a
// time; one before that stops working now. It returns the secret. NotFound
// without one; Conflict if it was revoked or if any secret has or had the value.
func (s *Store) RotateSecret(ctx context.Context, name string, hash node.KeyHash, oldUntil time.Time) (node.Secret, error) {
	var secret node.Secret
	err := s.tx(ctx, func(t *tx) error {
		if err := t.newSecretValue(ctx, hash); err != nil {
			return err
		}
		found, err := all(ctx, t, scanSecret, `
			UPDATE secret SET old_hash = hash, old_until = $1, hash = $2 WHERE name = $3 RETURNING `+secretColumns,
			micros(oldUntil), hash[:], text(name))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return errs.New(errs.NotFound, noSecret)
		}
		if secret = found[0]; !secret.RevokedAt.IsZero() {
			return errs.New(errs.Conflict, "this enroll secret was revoked; create another one")
		}
		return nil
	})
	if err != nil {
		return node.Secret{}, fail("rotate enroll secret", err)
	}
	return secret, nil
}

// RevokeSecret makes an enroll secret unusable from now on; it stays in the
// list. NotFound without one; revoking again changes nothing.
func (s *Store) RevokeSecret(ctx context.Context, name string, now time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		return t.change(ctx, errs.New(errs.NotFound, noSecret), `
			UPDATE secret SET revoked_at = CASE revoked_at WHEN 0 THEN $1 ELSE revoked_at END WHERE name = $2`,
			micros(now), text(name))
	})
	return fail("revoke enroll secret", err)
}

// secretNames are names of enroll secrets by the hashes of their values, as
// they were lately: most nodes enrol with one of a few.
type secretNames struct {
	mu    sync.Mutex
	names map[node.KeyHash]string
}

// maxSecretNames is far more than there are; then it begins anew.
const maxSecretNames = 1000

// secretName returns the name of the secret that a hash means, or that it meant
// lately; "" for none. What is true, use says.
func (s *Store) secretName(ctx context.Context, hash node.KeyHash, now time.Time) (string, error) {
	s.secrets.mu.Lock()
	name := s.secrets.names[hash]
	s.secrets.mu.Unlock()
	if name != "" {
		return name, nil
	}
	names, err := all(ctx, s.read, scanText, `
		SELECT name FROM secret WHERE hash = $1 OR (old_hash = $1 AND old_until > $2)`, hash[:], micros(now))
	if err != nil || len(names) == 0 {
		return "", err
	}
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	if len(s.secrets.names) >= maxSecretNames || s.secrets.names == nil {
		s.secrets.names = map[node.KeyHash]string{}
	}
	s.secrets.names[hash] = names[0]
	return names[0], nil
}

func (s *secretNames) forget(hash node.KeyHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, hash)
}

// use counts a use of the secret with that name, if it has that hash or had it
// before and not too long ago, and returns the secret as it was before; nil
// without one. Nobody else can use it until the transaction ends, so that a
// limit is kept however many enrol at once.
func (t *tx) use(ctx context.Context, name string, hash node.KeyHash, now time.Time) (*node.Secret, error) {
	secrets, err := all(ctx, t, scanSecret, `
		UPDATE secret SET uses = uses + 1, last_used = $1
		WHERE name = $2 AND (hash = $3 OR (old_hash = $3 AND old_until > $1)) RETURNING `+secretColumns, micros(now), name, hash[:])
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
