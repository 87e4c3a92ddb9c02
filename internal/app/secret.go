package app

import (
	"context"

	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// CreateSecret makes an enroll secret without the API, for whoever runs the
// server in the same process. The value cannot be read again.
func (a *App) CreateSecret(ctx context.Context, actor, name string, tags []string) (value string, err error) {
	if err := a.audit.Record(ctx, actor, "secret.create", name, nil); err != nil {
		return "", err
	}
	value = ident.Secret()
	s := node.Secret{Name: name, Tags: tags, CreatedAt: a.now(), CreatedBy: actor}
	return value, a.store.CreateSecret(ctx, s, a.keyer.Hash(node.PurposeEnrollSecret, value))
}
