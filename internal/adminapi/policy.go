package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/policy"
)

func (a *API) registerPolicy() {
	register(a, account.Self, http.MethodPost, "/policy/check", "What the policy says of a SQL text", a.checkPolicy)
	register(a, account.Self, http.MethodGet, "/policy/tables/{name}", "What the policy knows of a table", a.explainTable)
	register(a, account.Self, http.MethodGet, "/policy/options/{name}", "What the policy knows of an osquery flag", a.explainOption)
}

// rules returns the policy with the rules of the newest revision. Close it.
func (a *API) rules() (*policy.Engine, error) {
	return a.Policy.With(a.Catalog.Plan().Newest().Set().Rules(a.Now()))
}

func (a *API) checkPolicy(_ context.Context, in *body[PolicyInput]) (*body[PolicyVerdict], error) {
	e, err := a.rules()
	if err != nil {
		return nil, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	v := e.Query(policy.Query{
		SQL: in.Body.SQL, Use: policy.Use(in.Body.Use), Interval: in.Body.Interval, Snapshot: in.Body.Snapshot, Platforms: in.Body.Platforms,
	})
	return &body[PolicyVerdict]{PolicyVerdict{Allowed: v.Allowed(change.Limit), Verdict: v}}, nil
}

type tableInput struct {
	Name string `path:"name" maxLength:"128"`
}

func (a *API) explainTable(_ context.Context, in *tableInput) (*body[policy.TableInfo], error) {
	e, err := a.rules()
	if err != nil {
		return nil, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	t, ok := e.Table(in.Name)
	if !ok {
		return nil, errs.New(errs.NotFound, "osquery has no table %s", in.Name)
	}
	return &body[policy.TableInfo]{t}, nil
}

func (a *API) explainOption(_ context.Context, in *tableInput) (*body[policy.FlagInfo], error) {
	f, ok := a.Policy.Flag(in.Name)
	if !ok {
		return nil, errs.New(errs.NotFound, "osquery has no flag %s", in.Name)
	}
	return &body[policy.FlagInfo]{f}, nil
}
