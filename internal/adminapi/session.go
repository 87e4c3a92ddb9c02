package adminapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

type body[T any] struct{ Body T }

type sessionOutput struct {
	SetCookie string `header:"Set-Cookie"`
	Body      Session
}

type none struct{}

func (a *API) registerSession() {
	register(a, account.Public, http.MethodGet, "/setup", "Whether the first administrator is still to be made", a.setupState)
	register(a, account.Public, http.MethodPost, "/setup", "Make the first administrator", a.setup)
	register(a, account.Public, http.MethodPost, "/session", "Log in", a.login)
	register(a, account.Public, http.MethodPost, "/session/passkey", "Be asked for a passkey, to log in with it", a.askLogin)
	register(a, account.Self, http.MethodGet, "/session", "Who is calling", a.whoami)
	register(a, account.Self, http.MethodDelete, "/session", "Log out", a.logout)
}

func (a *API) setupState(ctx context.Context, _ *none) (*body[SetupState], error) {
	needed, err := a.Accounts.SetUpNeeded(ctx)
	return &body[SetupState]{SetupState{Needed: needed}}, err
}

func (a *API) setup(ctx context.Context, in *body[SetupInput]) (*sessionOutput, error) {
	if err := checkOwnName(in.Body.Username); err != nil {
		return nil, err
	}
	u, err := a.Setup.Make(ctx, in.Body.Token, in.Body.Username, in.Body.Password)
	if errs.Is(err, errs.Forbidden) {
		a.refused(ctx, "setup", "user.create", in.Body.Username, err)
	}
	if err != nil {
		return nil, err
	}
	return a.open(ctx, u, in.Body.Kind)
}

func (a *API) login(ctx context.Context, in *body[LoginInput]) (*sessionOutput, error) {
	second, err := in.Body.second()
	if err != nil {
		return nil, err
	}
	u, err := a.Accounts.Login(ctx, in.Body.Username, in.Body.Password, second)
	if err != nil {
		a.notLoggedIn(ctx, in.Body.Username, in.Body.Code != "" || in.Body.Passkey != nil, err)
		return nil, err
	}
	return a.open(ctx, u, in.Body.Kind)
}

func (a *API) askLogin(ctx context.Context, in *body[PasskeyLoginInput]) (*body[PasskeyQuestion], error) {
	q, err := a.Accounts.AskLogin(ctx, in.Body.Username, in.Body.Password)
	if err != nil {
		a.notLoggedIn(ctx, in.Body.Username, false, err)
		return nil, err
	}
	return &body[PasskeyQuestion]{PasskeyQuestion(q)}, nil
}

// notLoggedIn keeps that a login was refused; that a second proof is asked for, which
// was not given, is no refusal.
func (a *API) notLoggedIn(ctx context.Context, name string, second bool, err error) {
	a.Log.WarnContext(ctx, "login refused", "user", name)
	e, ok := errors.AsType[*errs.Error](err)
	asked := ok && !second && (e.Field == account.CodeField || e.Field == account.PasskeyField)
	if ok && (e.Kind == errs.Unauthenticated && !asked || e.Kind == errs.Limited) {
		a.refused(ctx, name, "session.open", name, err)
	}
}

func (a *API) open(ctx context.Context, u account.User, kind string) (*sessionOutput, error) {
	if err := a.Audit.Record(ctx, u.Name, "session.open", u.Name, map[string]string{"kind": kind}); err != nil {
		return nil, err
	}
	secret, s, err := a.Accounts.Open(ctx, u, account.Kind(kindOr(kind)), originOf(ctx))
	if err != nil {
		return nil, err
	}
	doc, err := a.document(ctx, s)
	if err != nil {
		return nil, err
	}
	out := &sessionOutput{Body: doc}
	if s.Kind == account.Bearer {
		out.Body.Token = secret
	} else {
		out.SetCookie = a.cookie(secret, s.ExpiresAt)
	}
	return out, nil
}

func kindOr(kind string) string {
	if kind == "" {
		return string(account.Cookie)
	}
	return kind
}

// cookie returns a Set-Cookie that keeps a session's secret until expires; the
// zero time removes it.
func (a *API) cookie(secret string, expires time.Time) string {
	c := http.Cookie{ //nolint:gosec // Secure unless on loopback without TLS, see config.Validate
		Name: a.cookieName(), Value: secret, Path: "/", Expires: expires, HttpOnly: true,
		Secure: a.Secure, SameSite: http.SameSiteStrictMode,
	}
	if expires.IsZero() {
		c.MaxAge = -1
	}
	return c.String()
}

func (a *API) document(ctx context.Context, s account.Session) (Session, error) {
	proofs, provider, err := a.Accounts.Proofs(ctx, s)
	if err != nil {
		return Session{}, err
	}
	until := s.ProvedUntil()
	if !a.Now().Before(until) {
		until = time.Time{}
	}
	by := []string{}
	for _, p := range proofs {
		by = append(by, string(p))
	}
	permissions := []string{}
	for _, p := range s.Permissions() {
		permissions = append(permissions, string(p))
	}
	return Session{
		ID: s.ID, Username: s.UserName, Roles: list(s.Roles), Permissions: permissions, MustEnrol: s.MustEnrol, MustProve: s.MustProve, Proofs: by, Provider: provider,
		ProvedUntil: at(until), ExpiresAt: s.ExpiresAt, Version: a.Version,
	}, nil
}

func (a *API) whoami(ctx context.Context, _ *none) (*body[Session], error) {
	doc, err := a.document(ctx, session(ctx))
	return &body[Session]{doc}, err
}

type logoutOutput struct {
	SetCookie string `header:"Set-Cookie"`
}

func (a *API) logout(ctx context.Context, _ *none) (*logoutOutput, error) {
	if err := session(ctx).Personal(); err != nil {
		return nil, err
	}
	if err := a.Accounts.Close(ctx, session(ctx)); err != nil {
		return nil, err
	}
	return &logoutOutput{SetCookie: a.cookie("", time.Time{})}, nil
}
