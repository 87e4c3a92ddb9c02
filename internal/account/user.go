package account

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
)

// CheckRoles refuses roles that there are not.
func (a *Accounts) CheckRoles(names []string) error {
	for _, name := range names {
		if a.roles.Role(name) == nil {
			return errs.Field("roles", "there is no role %s; apply a Role first, or use one of %s", name, strings.Join(builtinNames(), ", "))
		}
	}
	return nil
}

func builtinNames() []string {
	var names []string
	for _, r := range Builtin() {
		names = append(names, r.Name)
	}
	return names
}

func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// errLastAdmin keeps a server from having nobody who can let others in.
func errLastAdmin() error {
	return errs.New(errs.Conflict, "nobody would have the role %s then; give it to somebody else first", Admin)
}

func hasAdmin(users ...User) bool {
	return slices.ContainsFunc(users, func(u User) bool { return u.Is(Admin) && !u.Service })
}

// CreateService makes the account of a program.
func (a *Accounts) CreateService(ctx context.Context, name string, roles []string) (User, error) {
	if err := checkName(name); err != nil {
		return User{}, err
	}
	if err := a.CheckRoles(roles); err != nil {
		return User{}, err
	}
	u := User{ID: ident.New(), Name: name, Service: true, Roles: sorted(roles), CreatedAt: a.now()}
	return u, a.store.CreateUser(ctx, u)
}

// SetRoles gives a user these roles and no others. It holds at once, for sessions
// that there are, too.
func (a *Accounts) SetRoles(ctx context.Context, name string, roles []string) (User, error) {
	return a.store.UpdateUser(ctx, name, func(u *User, others []User) error {
		added := slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return slices.Contains(u.Roles, r) })
		if err := a.CheckRoles(added); err != nil {
			return err
		}
		was := u.Is(Admin)
		if u.Roles = sorted(roles); was && !hasAdmin(append(others, *u)...) {
			return errLastAdmin()
		}
		return nil
	})
}

// Disable ends all that a user can do: sessions and tokens end, and no login works.
func (a *Accounts) Disable(ctx context.Context, name string) (User, error) {
	return a.store.UpdateUser(ctx, name, func(u *User, others []User) error {
		if u.Is(Admin) && !hasAdmin(others...) {
			return errLastAdmin()
		}
		if u.DisabledAt.IsZero() {
			u.DisabledAt = a.now()
		}
		return nil
	})
}

// Enable lets a user log in again. Sessions and tokens that ended stay so.
func (a *Accounts) Enable(ctx context.Context, name string) (User, error) {
	return a.store.UpdateUser(ctx, name, func(u *User, _ []User) error {
		u.DisabledAt = time.Time{}
		return nil
	})
}

// SetPassword gives a user another password. All of their sessions end but keep,
// if it is theirs.
func (a *Accounts) SetPassword(ctx context.Context, name, password string, keep Session) (User, error) {
	if err := checkPassword(name, password); err != nil {
		return User{}, err
	}
	hashed, err := a.hashed(ctx, password)
	if err != nil {
		return User{}, err
	}
	u, err := a.store.UpdateUser(ctx, name, func(u *User, _ []User) error {
		u.PasswordHash = hashed
		return u.hasPassword()
	})
	if err != nil {
		return u, err
	}
	_, err = a.store.EndSessions(ctx, u.ID, keep.Hash)
	return u, err
}

// hasPassword refuses who has none here.
func (u User) hasPassword() error {
	if u.Service {
		return errs.New(errs.Conflict, "%s is a service account, which has tokens and no password", u.Name)
	}
	if u.Origin != "" {
		return errs.New(errs.Conflict, "%s logs in by %s, and has no password here", u.Name, u.Origin)
	}
	return nil
}

// UserByName returns a user; NotFound without one.
func (a *Accounts) UserByName(ctx context.Context, name string) (User, error) {
	return a.store.UserByName(ctx, name)
}

// Sessions returns a user's sessions, the newest first.
func (a *Accounts) Sessions(ctx context.Context, u User) ([]Session, error) {
	list, err := a.store.Sessions(ctx, u.ID, a.now())
	for i := range list {
		list[i].ID = sessionID(list[i].Hash)
	}
	return list, err
}

// EndSession ends a user's session by its id; NotFound without one.
func (a *Accounts) EndSession(ctx context.Context, u User, id string) error {
	list, err := a.Sessions(ctx, u)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s Session) bool { return s.ID == id })
	if i < 0 {
		return errs.New(errs.NotFound, "%s has no session %s", u.Name, id)
	}
	return a.store.DeleteSession(ctx, list[i].Hash)
}

// EndSessions ends all sessions of a user but keep, if it is theirs.
func (a *Accounts) EndSessions(ctx context.Context, u User, keep Session) (int, error) {
	return a.store.EndSessions(ctx, u.ID, keep.Hash)
}
