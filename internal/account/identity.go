package account

import (
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// Identity is who a provider of sign-on vouches for. It is never an address of
// mail: those change hands.
type Identity struct {
	Issuer  string
	Subject string
}

// IdentityStore keeps identities.
type IdentityStore interface {
	// UserByIdentity returns who is linked to an identity; NotFound without one.
	UserByIdentity(ctx context.Context, i Identity) (User, error)
	// CreateLinked keeps a new user with an identity; Conflict if either is there.
	CreateLinked(ctx context.Context, u User, i Identity) error
	// Link gives a user an identity; Conflict if somebody has it.
	Link(ctx context.Context, userID string, i Identity, now time.Time) error
	// Unlink takes it; NotFound if the user does not have it.
	Unlink(ctx context.Context, userID string, i Identity) error
	Identities(ctx context.Context, userID string) ([]Identity, error)
}

// Vouched is what a provider says of a person.
type Vouched struct {
	Identity

	Provider string
	Username string   // of a new user
	Roles    []string // that the provider gives
	Create   bool     // a new user may be made
}

// SignIn returns who a provider vouches for. A user whom the provider made has the
// roles that it says, from now on; one that was linked keeps their own.
func (a *Accounts) SignIn(ctx context.Context, v Vouched) (User, error) {
	u, err := a.store.UserByIdentity(ctx, v.Identity)
	switch {
	case errs.Is(err, errs.NotFound) && v.Create:
		return a.admit(ctx, v)
	case errs.Is(err, errs.NotFound):
		return u, errs.New(errs.Forbidden, "you are not known here; ask an administrator to link you: %s", v.Subject)
	case err != nil:
		return u, err
	case !u.DisabledAt.IsZero():
		return User{}, errs.New(errs.Forbidden, "your account does not work any more; ask an administrator")
	}
	roles := sorted(v.Roles)
	if u.Origin != v.Provider || slices.Equal(roles, u.Roles) {
		return u, nil
	}
	return a.store.UpdateUser(ctx, u.Name, func(u *User, others []User) error {
		if was := u.Is(Admin); was && !slices.Contains(roles, Admin) && !hasAdmin(others...) {
			return nil // the last one stays one
		}
		u.Roles = roles
		return nil
	})
}

// admit makes a user of somebody whom a provider vouches for.
func (a *Accounts) admit(ctx context.Context, v Vouched) (User, error) {
	if err := checkName(v.Username); err != nil {
		return User{}, errs.New(errs.Forbidden, "the provider tells no name that you can have here; ask an administrator to link you: %s", v.Subject)
	}
	u := User{ID: ident.New(), Name: v.Username, Roles: sorted(v.Roles), Origin: v.Provider, CreatedAt: a.now()}
	if err := a.store.CreateLinked(ctx, u, v.Identity); errs.Is(err, errs.Conflict) {
		return User{}, errs.New(errs.Forbidden, "there is a user %s already; if that is you, ask an administrator to link you: %s", v.Username, v.Subject)
	} else if err != nil {
		return User{}, err
	}
	return u, nil
}

// Link gives a user an identity, and Unlink takes it.
func (a *Accounts) Link(ctx context.Context, u User, i Identity) error {
	return a.store.Link(ctx, u.ID, i, a.now())
}

// Unlink takes an identity from a user, and ends all their sessions: which of them it
// opened is not known.
func (a *Accounts) Unlink(ctx context.Context, u User, i Identity) error {
	if err := a.store.Unlink(ctx, u.ID, i); err != nil {
		return err
	}
	_, err := a.store.EndSessions(ctx, u.ID, node.KeyHash{})
	return err
}

// Identities returns a user's identities.
func (a *Accounts) Identities(ctx context.Context, u User) ([]Identity, error) {
	return a.store.Identities(ctx, u.ID)
}
