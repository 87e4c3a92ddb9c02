package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/rollout"
)

func (a *API) registerUsers() {
	register(a, account.UserRead, http.MethodGet, "/users", "List people", a.listUsers)
	register(a, account.UserRead, http.MethodGet, "/users/{name}", "Show a person", a.showUser)
	register(a, account.UserWrite, http.MethodPost, "/users", "Make a further person", a.createUser)
	register(a, account.UserWrite, http.MethodPut, "/users/{name}/roles", "Give a person these roles and no others; it holds at once", a.setRoles)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/disable", "End all that a person can do: sessions and tokens end, no login works", a.disableUser)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/enable", "Let a person log in again", a.enableUser)
	register(a, account.UserWrite, http.MethodPut, "/users/{name}/password", "Give a person another password; their sessions end", a.resetPassword)
	register(a, account.UserRead, http.MethodGet, "/users/{name}/sessions", "List a person's sessions, the newest first", a.userSessions)
	register(a, account.UserWrite, http.MethodDelete, "/users/{name}/sessions", "End all sessions of a person", a.endUserSessions)
	register(a, account.UserWrite, http.MethodDelete, "/users/{name}/sessions/{id}", "End a session of a person", a.endUserSession)

	register(a, account.Self, http.MethodGet, "/sessions", "List one's own sessions, the newest first", a.ownSessions)
	register(a, account.Self, http.MethodDelete, "/sessions", "End all of one's own sessions but this one", a.endOwnSessions)
	register(a, account.Self, http.MethodDelete, "/sessions/{id}", "End one of one's own sessions", a.endOwnSession)
	register(a, account.Self, http.MethodPut, "/session/password", "Change one's own password; one's other sessions end", a.changePassword)
}

func (a *API) listUsers(ctx context.Context, _ *none) (*body[UserList], error) {
	users, err := a.Accounts.Users(ctx)
	if err != nil {
		return nil, err
	}
	activity, err := a.Accounts.Activity(ctx)
	if err != nil {
		return nil, err
	}
	out := UserList{Users: []ListedUser{}}
	for _, u := range users {
		does := activity[u.ID]
		out.Users = append(out.Users, ListedUser{
			User: userDocument(u), LastLogin: at(does.LastLogin), Sessions: does.Sessions, SecondFactor: does.Factors > 0,
		})
	}
	return &body[UserList]{out}, nil
}

func userDocument(u account.User) User {
	return User{ID: u.ID, Name: u.Name, Service: u.Service, Roles: list(u.Roles), Origin: u.Origin, CreatedAt: u.CreatedAt.UTC(), DisabledAt: at(u.DisabledAt)}
}

func answerUser(u account.User, err error) (*body[User], error) {
	if err != nil {
		return nil, err
	}
	return &body[User]{userDocument(u)}, nil
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
	if in.Body.Service && in.Body.Password != "" {
		return nil, errs.Field("password", "stands beside service: a program has tokens and no password")
	}
	if err := a.Accounts.CheckRoles(in.Body.Roles); err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "user.create", in.Body.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "user.create", in.Body.Name, map[string]any{"roles": in.Body.Roles, "service": in.Body.Service}); err != nil {
		return nil, err
	}
	if in.Body.Service {
		return answerUser(a.Accounts.CreateService(ctx, in.Body.Name, in.Body.Roles))
	}
	return answerUser(a.Accounts.Create(ctx, in.Body.Name, in.Body.Password, in.Body.Roles))
}

func (a *API) recordUser(ctx context.Context, action, name string, detail any) error {
	return a.Audit.Record(ctx, session(ctx).UserName, action, name, detail)
}

// UserRef names a person in a path.
type UserRef struct {
	Name string `path:"name" maxLength:"64"`
}

type rolesInput struct {
	UserRef
	Body UserRolesInput
}

func (a *API) setRoles(ctx context.Context, in *rolesInput) (*body[User], error) {
	before, err := a.Accounts.UserByName(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "user.roles", in.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "user.roles", in.Name, map[string]any{"before": before.Roles, "roles": in.Body.Roles}); err != nil {
		return nil, err
	}
	return answerUser(a.Accounts.SetRoles(ctx, in.Name, in.Body.Roles))
}

func (a *API) disableUser(ctx context.Context, in *UserRef) (*body[User], error) {
	if err := a.recordUser(ctx, "user.disable", in.Name, nil); err != nil {
		return nil, err
	}
	return answerUser(a.Accounts.Disable(ctx, in.Name))
}

type ownPasswordInput struct {
	UserRef
	Body PasswordInput
}

func (a *API) enableUser(ctx context.Context, in *ownPasswordInput) (*body[User], error) {
	if err := a.prove(ctx, "user.enable", in.Name, in.Body.Password); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "user.enable", in.Name, nil); err != nil {
		return nil, err
	}
	return answerUser(a.Accounts.Enable(ctx, in.Name))
}

type resetInput struct {
	UserRef
	Body NewPasswordInput
}

func (a *API) resetPassword(ctx context.Context, in *resetInput) (*body[User], error) {
	if err := a.prove(ctx, "user.password", in.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "user.password", in.Name, nil); err != nil {
		return nil, err
	}
	return answerUser(a.Accounts.SetPassword(ctx, in.Name, in.Body.Password, account.Session{}))
}

func (a *API) changePassword(ctx context.Context, in *body[NewPasswordInput]) (*body[User], error) {
	s := session(ctx)
	if err := a.prove(ctx, "user.password", s.UserName, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "user.password", s.UserName, nil); err != nil {
		return nil, err
	}
	return answerUser(a.Accounts.SetPassword(ctx, s.UserName, in.Body.Password, s))
}

func (a *API) userSessions(ctx context.Context, in *UserRef) (*body[SessionList], error) {
	return a.sessionsOf(ctx, in.Name)
}

func (a *API) ownSessions(ctx context.Context, _ *none) (*body[SessionList], error) {
	return a.sessionsOf(ctx, session(ctx).UserName)
}

func (a *API) sessionsOf(ctx context.Context, name string) (*body[SessionList], error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err != nil {
		return nil, err
	}
	list, err := a.Accounts.Sessions(ctx, u)
	if err != nil {
		return nil, err
	}
	out := SessionList{Sessions: make([]SessionInfo, 0, len(list))}
	for _, s := range list {
		out.Sessions = append(out.Sessions, SessionInfo{
			ID: s.ID, Kind: string(s.Kind), CreatedAt: s.CreatedAt.UTC(), LastSeen: s.LastSeen.UTC(), ExpiresAt: s.ExpiresAt.UTC(),
			Address: s.Address, Agent: s.Agent, Current: s.ID == session(ctx).ID,
		})
	}
	return &body[SessionList]{out}, nil
}

func (a *API) endUserSessions(ctx context.Context, in *UserRef) (*body[SessionsEnded], error) {
	return a.endSessions(ctx, in.Name, account.Session{})
}

func (a *API) endOwnSessions(ctx context.Context, _ *none) (*body[SessionsEnded], error) {
	if err := session(ctx).Personal(); err != nil {
		return nil, err
	}
	return a.endSessions(ctx, session(ctx).UserName, session(ctx))
}

func (a *API) endSessions(ctx context.Context, name string, keep account.Session) (*body[SessionsEnded], error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "session.end_all", name, nil); err != nil {
		return nil, err
	}
	n, err := a.Accounts.EndSessions(ctx, u, keep)
	return &body[SessionsEnded]{SessionsEnded{n}}, err
}

type userSessionRef struct {
	UserRef
	ID string `path:"id" maxLength:"64"`
}

func (a *API) endUserSession(ctx context.Context, in *userSessionRef) (*none, error) {
	return a.endSession(ctx, in.Name, in.ID)
}

type sessionRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) endOwnSession(ctx context.Context, in *sessionRef) (*none, error) {
	if err := session(ctx).Personal(); err != nil {
		return nil, err
	}
	return a.endSession(ctx, session(ctx).UserName, in.ID)
}

func (a *API) endSession(ctx context.Context, name, id string) (*none, error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "session.end", name, map[string]any{"session": id}); err != nil {
		return nil, err
	}
	return nil, a.Accounts.EndSession(ctx, u, id)
}

// User is one person.
type User struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Service    bool       `json:"service" doc:"A program: it has tokens and no password, and consents to nothing"`
	Roles      []string   `json:"roles" doc:"Names; one that there is no role of gives nothing"`
	Origin     string     `json:"origin,omitempty" doc:"The provider of sign-on that made them and says their roles; they have no password"`
	CreatedAt  time.Time  `json:"created_at"`
	DisabledAt *time.Time `json:"disabled_at,omitempty" doc:"Since when nothing works for them"`
}

// ListedUser is a person, with how they log in.
type ListedUser struct {
	User

	LastLogin    *time.Time `json:"last_login,omitempty" doc:"By password or sign-on; a token is no login"`
	Sessions     int        `json:"sessions" doc:"That did not end"`
	SecondFactor bool       `json:"second_factor" doc:"They have an authenticator"`
}

// UserList is all people by name.
type UserList struct {
	Users []ListedUser `json:"users"`
}

// UserInput makes a person.
type UserInput struct {
	Name     string   `json:"name" minLength:"1" maxLength:"64"`
	Password string   `json:"password,omitempty" doc:"Theirs, at least 15 characters; a person needs one" maxLength:"1024"`
	Service  bool     `json:"service,omitempty" doc:"A service account, for a program"`
	Roles    []string `json:"roles" minItems:"1" maxItems:"20" doc:"Names of roles; see /roles"`
	Own      string   `json:"own_password" doc:"Yours, once more: a token alone makes no second pair of eyes" maxLength:"1024"`
}

// UserRolesInput gives roles.
type UserRolesInput struct {
	Roles []string `json:"roles" maxItems:"20" doc:"Names of roles; none lets the person do nothing"`
	Own   string   `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// NewPasswordInput sets a password.
type NewPasswordInput struct {
	Password string `json:"password" doc:"The new one, at least 15 characters" maxLength:"1024"`
	Own      string `json:"own_password" doc:"Yours as it is now" maxLength:"1024"`
}

// SessionInfo is a session as people see it.
type SessionInfo struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind" enum:"cookie,bearer"`
	CreatedAt time.Time `json:"created_at"`
	LastSeen  time.Time `json:"last_seen" doc:"To a minute"`
	ExpiresAt time.Time `json:"expires_at"`
	Address   string    `json:"address" doc:"From where it was opened"`
	Agent     string    `json:"agent" doc:"The browser or program that opened it, as it says"`
	Current   bool      `json:"current" doc:"It is the one that asks"`
}

// SessionList is sessions, the newest first.
type SessionList struct {
	Sessions []SessionInfo `json:"sessions"`
}

// SessionsEnded is how many sessions ended.
type SessionsEnded struct {
	Ended int `json:"ended"`
}
