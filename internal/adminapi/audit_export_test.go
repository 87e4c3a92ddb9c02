package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/errs"
)

// Forbid adds a route whose permission nobody has.
func (a *API) Forbid(path string) {
	register(a, "nobody.has", http.MethodPost, path, "Never", func(context.Context, *none) (*none, error) {
		return nil, errs.New(errs.Internal, "it was called")
	})
}
