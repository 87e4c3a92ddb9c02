package adminapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/rollout"
)

func (a *API) registerUsers() {
	register(a, account.UserRead, http.MethodGet, "/users", "List people", a.listUsers)
	register(a, account.UserWrite, http.MethodPost, "/users", "Make a further administrator", a.createUser)
}

func (a *API) listUsers(ctx context.Context, _ *none) (*body[UserList], error) {
	users, err := a.Accounts.Users(ctx)
	if err != nil {
		return nil, err
	}
	out := UserList{Users: []User{}}
	for _, u := range users {
		out.Users = append(out.Users, userDocument(u))
	}
	return &body[UserList]{out}, nil
}

func userDocument(u account.User) User {
	return User{ID: u.ID, Name: u.Name, CreatedAt: u.CreatedAt.UTC()}
}

// checkOwnName refuses names under which Muster itself is in the audit log: what
// such a person does would be taken for what the server did.
func checkOwnName(name string) error {
	if slices.Contains([]string{rollout.System, "setup"}, name) {
		return errs.Field("username", "%q is how the audit log calls Muster itself; choose another", name)
	}
	return nil
}

func (a *API) createUser(ctx context.Context, in *body[UserInput]) (*body[User], error) {
	if err := checkOwnName(in.Body.Name); err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "user.create", in.Body.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "user.create", in.Body.Name, nil); err != nil {
		return nil, err
	}
	u, err := a.Accounts.Create(ctx, in.Body.Name, in.Body.Password)
	if err != nil {
		return nil, err
	}
	return &body[User]{userDocument(u)}, nil
}
