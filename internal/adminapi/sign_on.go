package adminapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/signon"
)

func (a *API) registerSignOn(mux *http.ServeMux) {
	register(a, account.Public, http.MethodGet, "/sign-on", "List providers of sign-on", a.listProviders)
	a.plain(mux, "GET /api/v1/sign-on/{name}", account.Public, a.beginSignOn)
	a.plain(mux, "GET /api/v1/sign-on/{name}/callback", account.Public, a.endSignOn)
	name := &huma.Param{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: "Of the provider"}
	next := &huma.Param{Name: "next", In: "query", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: new(maxNext)}, Description: "A path of this site to go to then"}
	prove := &huma.Param{Name: "prove", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"1"}}, Description: "1: prove who one is once more"}
	a.describe("/api/v1/sign-on/{name}", "Log in by a provider of sign-on, in a browser", "303", "To the provider", "", []*huma.Param{name, next, prove})
	a.describe("/api/v1/sign-on/{name}/callback", "Come back from a provider of sign-on", "303", "Logged in, or to the login page", "", []*huma.Param{name})
	register(a, account.UserRead, http.MethodGet, "/users/{name}/identities", "List who at providers a person is", a.listIdentities)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/identities", "Link a person to who they are at a provider", a.linkIdentity)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/identities/remove", "Unlink a person from who they are at a provider; their sessions end", a.unlinkIdentity)
}

// SignOnProvider is one way to log in.
type SignOnProvider struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

func (a *API) listProviders(context.Context, *none) (*body[[]SignOnProvider], error) {
	out := []SignOnProvider{}
	for _, p := range a.SignOn.Providers {
		out = append(out, SignOnProvider{p.Name, p.Title})
	}
	return &body[[]SignOnProvider]{out}, nil
}

// wayCookie keeps, sealed, what belongs to a login while its person is at the
// provider. It is Lax, since the way back begins there.
func (a *API) wayCookie(value string, life time.Duration) *http.Cookie {
	name := "muster-sign-on"
	if a.Secure {
		name = "__Host-" + name
	}
	return &http.Cookie{ //nolint:gosec // Secure unless on loopback without TLS, see config.Validate
		Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, Secure: a.Secure, SameSite: http.SameSiteLaxMode,
	}
}

func (a *API) beginSignOn(w http.ResponseWriter, r *http.Request) error {
	next := r.URL.Query().Get("next")
	if !localPath(next) {
		next = "/"
	}
	to, kept, err := a.SignOn.Begin(r.Context(), r.PathValue("name"), next, r.URL.Query().Get("prove") == "1")
	if err != nil {
		return a.notSignedOn(w, r, err)
	}
	http.SetCookie(w, a.wayCookie(kept, signon.WayLife))
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // to where the operator says
	return nil
}

// maxNext bounds the path to which a login goes.
const maxNext = 1023

// localPath reports whether a text is a path of this site and nothing else: no
// browser takes it for another host's.
func localPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.ContainsAny(path, "\\\r\n\t") && len(path) <= maxNext
}

func (a *API) endSignOn(w http.ResponseWriter, r *http.Request) error {
	ctx, name := r.Context(), r.PathValue("name")
	kept := ""
	if c, err := r.Cookie(a.wayCookie("", 0).Name); err == nil {
		kept = c.Value
	}
	http.SetCookie(w, a.wayCookie("", -time.Second))
	p, err := a.SignOn.End(ctx, name, kept, r.URL.Query())
	if err != nil {
		return a.notSignedOn(w, r, err)
	}
	u, err := a.Accounts.SignIn(ctx, account.Vouched{
		Identity: account.Identity{Issuer: p.Issuer, Subject: p.Subject}, Provider: p.Provider, Username: p.Username, Roles: p.Roles, Create: p.Create,
	})
	if err != nil {
		return a.notSignedOn(w, r, err)
	}
	detail := map[string]any{"kind": string(account.Cookie), "provider": p.Provider, "subject": p.Subject, "roles": u.Roles, "proved": p.Prove}
	if err := a.Audit.Record(ctx, u.Name, "session.open", u.Name, detail); err != nil {
		return err
	}
	from := originOf(ctx)
	from.Provided, from.SecondFactor = true, p.SecondFactor
	if p.Prove {
		from.ProvedAt = a.Now()
	}
	secret, s, err := a.Accounts.Open(ctx, u, account.Cookie, from)
	if err != nil {
		return err
	}
	w.Header().Add("Set-Cookie", a.cookie(secret, s.ExpiresAt))
	http.Redirect(w, r, p.Next, http.StatusSeeOther)
	return nil
}

// notSignedOn keeps that a login was refused, and takes its person back to the login
// page, which says so. Why is in the audit log alone where it would help a guesser.
func (a *API) notSignedOn(w http.ResponseWriter, r *http.Request, err error) error {
	why := "failed"
	switch {
	case errs.Is(err, errs.Forbidden):
		why = "unknown"
	case errs.Is(err, errs.Busy):
		why = "down"
	case errs.Is(err, errs.NotFound):
		return err
	}
	a.Log.WarnContext(r.Context(), "sign-on refused", "provider", r.PathValue("name"), "error", err)
	a.refused(r.Context(), "sign-on:"+r.PathValue("name"), "session.open", r.PathValue("name"), errs.New(errs.KindOf(err), "%s", httpx.Message(err)))
	http.Redirect(w, r, "/login?sign_on="+why, http.StatusSeeOther)
	return nil
}

// IdentityInput names who somebody is at a provider.
type IdentityInput struct {
	Provider string `json:"provider" minLength:"1" maxLength:"31" doc:"Its name"`
	Subject  string `json:"subject" minLength:"1" maxLength:"255" doc:"The claim sub: what the refused login is told"`
	Own      string `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// UserIdentity is who somebody is at a provider.
type UserIdentity struct {
	Provider string `json:"provider,omitempty" doc:"Its name; nothing of one that sign_on_file does not name any more"`
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
}

func (a *API) listIdentities(ctx context.Context, in *UserRef) (*body[[]UserIdentity], error) {
	u, err := a.Accounts.UserByName(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	list, err := a.Accounts.Identities(ctx, u)
	out := make([]UserIdentity, 0, len(list))
	for _, i := range list {
		out = append(out, UserIdentity{Provider: a.SignOn.Named(i.Issuer), Issuer: i.Issuer, Subject: i.Subject})
	}
	return &body[[]UserIdentity]{out}, err
}

type identityInput struct {
	UserRef
	Body IdentityInput
}

func (a *API) linkIdentity(ctx context.Context, in *identityInput) (*none, error) {
	return a.changeIdentity(ctx, "identity.link", in, a.Accounts.Link)
}

func (a *API) unlinkIdentity(ctx context.Context, in *identityInput) (*none, error) {
	return a.changeIdentity(ctx, "identity.unlink", in, a.Accounts.Unlink)
}

func (a *API) changeIdentity(ctx context.Context, action string, in *identityInput, change func(context.Context, account.User, account.Identity) error) (*none, error) {
	u, err := a.Accounts.UserByName(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	issuer, err := a.SignOn.Issuer(in.Body.Provider)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, action, in.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, action, in.Name, map[string]string{"provider": in.Body.Provider, "subject": in.Body.Subject}); err != nil {
		return nil, err
	}
	return nil, change(ctx, u, account.Identity{Issuer: issuer, Subject: in.Body.Subject})
}
