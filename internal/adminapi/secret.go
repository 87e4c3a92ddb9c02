package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerSecrets() {
	register(a, account.SecretRead, http.MethodGet, "/secrets", "List enroll secrets", a.listSecrets)
	register(a, account.SecretWrite, http.MethodPost, "/secrets", "Make an enroll secret; the answer is the only one that shows it", a.createSecret)
	register(a, account.SecretWrite, http.MethodDelete, "/secrets/{name}", "Revoke an enroll secret; nodes that used it stay", a.revokeSecret)
}

func (a *API) listSecrets(ctx context.Context, _ *none) (*body[SecretList], error) {
	secrets, err := a.Secrets.Secrets(ctx)
	if err != nil {
		return nil, err
	}
	out := SecretList{Secrets: make([]Secret, 0, len(secrets))}
	for _, s := range secrets {
		out.Secrets = append(out.Secrets, secret(s))
	}
	return &body[SecretList]{out}, nil
}

func secret(s node.Secret) Secret {
	tags := s.Tags
	if tags == nil {
		tags = []string{}
	}
	return Secret{
		Name: s.Name, Tags: tags, MaxUses: s.MaxUses, Uses: s.Uses, CreatedAt: s.CreatedAt.UTC(), CreatedBy: s.CreatedBy,
		ExpiresAt: at(s.ExpiresAt), RevokedAt: at(s.RevokedAt), LastUsed: at(s.LastUsed),
	}
}

func (a *API) createSecret(ctx context.Context, in *body[SecretInput]) (*body[NewSecret], error) {
	tags, err := node.CleanTags("tags", in.Body.Tags)
	if err != nil {
		return nil, err
	}
	s := node.Secret{
		Name: in.Body.Name, Tags: tags, MaxUses: in.Body.MaxUses,
		CreatedAt: a.Now(), CreatedBy: session(ctx).UserName,
	}
	if e := in.Body.ExpiresAt; e != nil {
		if !e.After(a.Now()) {
			return nil, errs.Field("expires_at", "is in the past")
		}
		s.ExpiresAt = *e
	}
	if err := a.Audit.Record(ctx, s.CreatedBy, "secret.create", s.Name, in.Body); err != nil {
		return nil, err
	}
	value := ident.Secret()
	if err := a.Secrets.CreateSecret(ctx, s, a.Keyer.Hash(node.PurposeEnrollSecret, value)); err != nil {
		return nil, err
	}
	return &body[NewSecret]{NewSecret{Secret: secret(s), Value: value}}, nil
}

type secretInput struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) revokeSecret(ctx context.Context, in *secretInput) (*none, error) {
	if err := a.Audit.Record(ctx, session(ctx).UserName, "secret.revoke", in.Name, nil); err != nil {
		return nil, err
	}
	return nil, a.Secrets.RevokeSecret(ctx, in.Name, a.Now())
}
