package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

func (a *API) registerTokens() {
	register(a, account.Self, http.MethodGet, "/tokens", "List one's own tokens, the newest first", a.ownTokens)
	register(a, account.Self, http.MethodPost, "/tokens", "Make a token of one's own; its text is shown once", a.makeOwnToken)
	register(a, account.Self, http.MethodPost, "/tokens/{id}/rotate", "Replace one of one's own tokens by one with another text", a.rotateOwnToken)
	register(a, account.Self, http.MethodDelete, "/tokens/{id}", "Revoke one of one's own tokens", a.revokeOwnToken)
	register(a, account.UserRead, http.MethodGet, "/tokens/all", "List everybody's tokens, the newest first", a.allTokens)
	register(a, account.UserRead, http.MethodGet, "/users/{name}/tokens", "List somebody's tokens, the newest first", a.userTokens)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/tokens", "Make a token of a service account; its text is shown once", a.makeServiceToken)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/tokens/{id}/rotate", "Replace a token of a service account by one with another text", a.rotateServiceToken)
	register(a, account.UserWrite, http.MethodDelete, "/users/{name}/tokens/{id}", "Revoke somebody's token", a.revokeUserToken)
}

// Token is a token, without its text.
type Token struct {
	ID        string     `json:"id" doc:"As the audit log names it, in place of a session"`
	Owner     string     `json:"owner"`
	Name      string     `json:"name"`
	Scope     TokenScope `json:"scope"`
	Networks  []string   `json:"networks" doc:"From which it may call; any if there is none"`
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty" doc:"To a minute"`
	LastFrom  string     `json:"last_from,omitempty" doc:"Address"`
	State     string     `json:"state" enum:"works,expires soon,expired,revoked"`
	Text      string     `json:"token,omitempty" doc:"Only in the answer that makes it"`
}

// TokenScope is what is left to a token of what its owner may do.
type TokenScope struct {
	Permissions  []string `json:"permissions,omitempty" maxItems:"100" doc:"As node.read or live.*; all that the owner has if it is left out, but consent and making people, which no token has"`
	Selector     string   `json:"selector,omitempty" maxLength:"4096" doc:"Nodes that it is about"`
	LiveTier     *int     `json:"live_tier,omitempty" minimum:"0" maximum:"3"`
	ScheduleTier *int     `json:"schedule_tier,omitempty" minimum:"0" maximum:"3"`
	RowTier      *int     `json:"row_tier,omitempty" minimum:"0" maximum:"3"`
	MaxNodes     int      `json:"max_nodes,omitempty" minimum:"0" doc:"That a live query may ask at once"`
}

// TokenInput makes a token.
type TokenInput struct {
	Name     string     `json:"name" minLength:"1" maxLength:"64" doc:"What it is for"`
	Scope    TokenScope `json:"scope,omitzero"`
	Networks []string   `json:"networks,omitempty" maxItems:"50" doc:"From which it may call, as 10.0.0.0/8 or 192.0.2.7"`
	Hours    int        `json:"hours,omitempty" minimum:"1" maximum:"8784" doc:"How long it works; 2160, which is 90 days, if it is left out"`
	Own      string     `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// RotateTokenInput replaces a token.
type RotateTokenInput struct {
	OverlapHours int    `json:"overlap_hours,omitempty" minimum:"0" maximum:"168" doc:"How long the old one works, too"`
	Own          string `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// soon is how long before its end a token is marked.
const soon = 7 * 24 * time.Hour

func (a *API) tokenDocument(t account.Token) Token {
	out := Token{
		ID: t.ID, Owner: t.UserName, Name: t.Name, Scope: TokenScope(t.Scope), Networks: []string{}, CreatedAt: t.CreatedAt.UTC(), CreatedBy: t.CreatedBy,
		ExpiresAt: t.ExpiresAt.UTC(), RevokedAt: at(t.RevokedAt), LastUsed: at(t.LastUsed), LastFrom: t.LastFrom, State: "works",
	}
	for _, n := range t.Networks {
		out.Networks = append(out.Networks, n.String())
	}
	now := a.Now()
	switch {
	case !t.RevokedAt.IsZero():
		out.State = "revoked"
	case !t.Works(now):
		out.State = "expired"
	case !t.Works(now.Add(soon)):
		out.State = "expires soon"
	}
	return out
}

func (a *API) tokensOf(ctx context.Context, name string) (*body[[]Token], error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.tokenList(a.Accounts.Tokens(ctx, u))
}

func (a *API) tokenList(tokens []account.Token, err error) (*body[[]Token], error) {
	out := make([]Token, 0, len(tokens))
	for _, t := range tokens {
		out = append(out, a.tokenDocument(t))
	}
	return &body[[]Token]{out}, err
}

func (a *API) ownTokens(ctx context.Context, _ *none) (*body[[]Token], error) {
	return a.tokensOf(ctx, session(ctx).UserName)
}

func (a *API) allTokens(ctx context.Context, _ *none) (*body[[]Token], error) {
	return a.tokenList(a.Accounts.AllTokens(ctx))
}

func (a *API) userTokens(ctx context.Context, in *UserRef) (*body[[]Token], error) {
	return a.tokensOf(ctx, in.Name)
}

// service returns a service account: a token of a person is made by that person.
func (a *API) service(ctx context.Context, name string) (account.User, error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err == nil && !u.Service {
		return u, errs.New(errs.Forbidden, "%s is a person, who makes their own tokens", name)
	}
	return u, err
}

func (a *API) makeOwnToken(ctx context.Context, in *body[TokenInput]) (*body[Token], error) {
	u, err := a.Accounts.UserByName(ctx, session(ctx).UserName)
	if err != nil {
		return nil, err
	}
	return a.makeToken(ctx, u, in.Body)
}

type serviceTokenInput struct {
	UserRef
	Body TokenInput
}

func (a *API) makeServiceToken(ctx context.Context, in *serviceTokenInput) (*body[Token], error) {
	u, err := a.service(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return a.makeToken(ctx, u, in.Body)
}

func (a *API) makeToken(ctx context.Context, owner account.User, in TokenInput) (*body[Token], error) {
	if session(ctx).MustEnrol { // a token must not be a way around it
		return nil, errs.New(errs.Forbidden, "add an authenticator first: muster user factor add, or the account page")
	}
	const action = "token.create"
	target := owner.Name + "/" + in.Name
	if err := a.prove(ctx, action, target, in.Own); err != nil {
		return nil, err
	}
	life := account.TokenLife
	if in.Hours > 0 {
		life = time.Duration(in.Hours) * time.Hour
	}
	detail := map[string]any{"scope": in.Scope, "networks": in.Networks, "hours": life.Hours()}
	if err := a.recordUser(ctx, action, target, detail); err != nil {
		return nil, err
	}
	text, t, err := a.Accounts.MakeToken(ctx, owner, account.TokenRequest{
		Name: in.Name, Scope: account.Scope(in.Scope), Networks: in.Networks, Life: life, By: session(ctx),
	})
	return a.shown(text, t, err)
}

// shown is the one answer that has a token's text.
func (a *API) shown(text string, t account.Token, err error) (*body[Token], error) {
	if err != nil {
		return nil, err
	}
	out := a.tokenDocument(t)
	out.Text = text
	return &body[Token]{out}, nil
}

// TokenRef names a token in a path.
type TokenRef struct {
	ID string `path:"id" maxLength:"64"`
}

type rotateOwnInput struct {
	TokenRef
	Body RotateTokenInput
}

func (a *API) rotateOwnToken(ctx context.Context, in *rotateOwnInput) (*body[Token], error) {
	u, err := a.Accounts.UserByName(ctx, session(ctx).UserName)
	if err != nil {
		return nil, err
	}
	return a.rotateToken(ctx, u, in.ID, in.Body)
}

type rotateServiceInput struct {
	UserRef
	TokenRef
	Body RotateTokenInput
}

func (a *API) rotateServiceToken(ctx context.Context, in *rotateServiceInput) (*body[Token], error) {
	u, err := a.service(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return a.rotateToken(ctx, u, in.ID, in.Body)
}

func (a *API) rotateToken(ctx context.Context, owner account.User, id string, in RotateTokenInput) (*body[Token], error) {
	const action = "token.rotate"
	target := owner.Name + "/" + id
	if err := a.prove(ctx, action, target, in.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, action, target, map[string]any{"overlap_hours": in.OverlapHours}); err != nil {
		return nil, err
	}
	return a.shown(a.Accounts.RotateToken(ctx, owner, id, session(ctx), time.Duration(in.OverlapHours)*time.Hour))
}

func (a *API) revokeOwnToken(ctx context.Context, in *TokenRef) (*none, error) {
	if s := session(ctx); s.ID != in.ID { // a token may end itself
		if err := session(ctx).Personal(); err != nil {
			return nil, err
		}
	}
	return a.revokeToken(ctx, session(ctx).UserName, in.ID)
}

type userTokenRef struct {
	UserRef
	TokenRef
}

func (a *API) revokeUserToken(ctx context.Context, in *userTokenRef) (*none, error) {
	return a.revokeToken(ctx, in.Name, in.ID)
}

// revokeToken needs no proof: to stop a token must be easy.
func (a *API) revokeToken(ctx context.Context, name, id string) (*none, error) {
	u, err := a.Accounts.UserByName(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "token.revoke", name+"/"+id, nil); err != nil {
		return nil, err
	}
	return nil, a.Accounts.EndToken(ctx, u, id)
}
