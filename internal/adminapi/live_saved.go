package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// SavedStore keeps the queries that people keep.
type SavedStore interface {
	SavedQueries(ctx context.Context) ([]live.Saved, error)
	// SavedQuery returns one; NotFound without.
	SavedQuery(ctx context.Context, name string) (live.Saved, error)
	// SaveQuery keeps a query over that of its name, and returns what is kept.
	SaveQuery(ctx context.Context, q live.Saved) (live.Saved, error)
	DeleteSavedQuery(ctx context.Context, name string) error
}

func (a *API) registerSavedQueries() {
	registerScoped(a, account.LiveRead, http.MethodGet, "/saved-queries", "List saved queries", a.savedQueries)
	registerScoped(a, account.LiveRead, http.MethodGet, "/saved-queries/{name}", "Show a saved query", a.savedQuery)
	register(a, account.LiveRun, http.MethodPut, "/saved-queries/{name}", "Save a query for all, over that of the name", a.saveQuery)
	register(a, account.LiveRun, http.MethodDelete, "/saved-queries/{name}", "Delete a saved query", a.deleteSavedQuery)
}

func savedDocument(q live.Saved) SavedQuery {
	return SavedQuery{
		Name: q.Name, Description: q.Description, SQL: q.SQL, Selector: Selector(q.Selector),
		CreatedBy: q.CreatedBy, CreatedAt: q.CreatedAt.UTC(), UpdatedBy: q.UpdatedBy, UpdatedAt: q.UpdatedAt.UTC(),
	}
}

func (a *API) savedQueries(ctx context.Context, _ *none) (*body[SavedQueries], error) {
	queries, err := a.Saved.SavedQueries(ctx)
	if err != nil {
		return nil, err
	}
	out := SavedQueries{SavedQueries: make([]SavedQuery, 0, len(queries))}
	for _, q := range queries {
		out.SavedQueries = append(out.SavedQueries, savedDocument(q))
	}
	return &body[SavedQueries]{out}, nil
}

// SavedRef names a saved query.
type SavedRef struct {
	Name string `path:"name" maxLength:"63"`
}

func (a *API) savedQuery(ctx context.Context, in *SavedRef) (*body[SavedQuery], error) {
	q, err := a.Saved.SavedQuery(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &body[SavedQuery]{savedDocument(q)}, nil
}

type saveInput struct {
	SavedRef
	Body SavedQueryInput
}

func (a *API) saveQuery(ctx context.Context, in *saveInput) (*body[SavedQuery], error) {
	now, who := a.Now(), session(ctx).UserName
	q := live.Saved{
		Name: in.Name, Description: in.Body.Description, SQL: in.Body.SQL,
		CreatedBy: who, CreatedAt: now, UpdatedBy: who, UpdatedAt: now,
	}
	if in.Body.Selector != nil {
		q.Selector = node.Selector(*in.Body.Selector)
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	e, err := a.rules()
	if err != nil {
		return nil, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	v := e.Query(policy.Query{SQL: q.SQL, Use: policy.Live})
	detail := map[string]any{"sql": q.SQL, "selector": q.Selector, "hash": v.Hash, "tier": v.Tier}
	if err := a.Audit.Record(ctx, who, "saved_query.save", q.Name, detail); err != nil {
		return nil, err
	}
	if q, err = a.Saved.SaveQuery(ctx, q); err != nil {
		return nil, err
	}
	out := savedDocument(q)
	out.Verdict = &PolicyVerdict{Allowed: v.Allowed(change.Limit), Verdict: v}
	return &body[SavedQuery]{out}, nil
}

func (a *API) deleteSavedQuery(ctx context.Context, in *SavedRef) (*none, error) {
	if _, err := a.Saved.SavedQuery(ctx, in.Name); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "saved_query.delete", in.Name, nil); err != nil {
		return nil, err
	}
	// Somebody else may have been faster; it is gone either way.
	if err := a.Saved.DeleteSavedQuery(ctx, in.Name); err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	return &none{}, nil
}
