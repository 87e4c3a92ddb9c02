package adminapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

func (a *API) registerPasskeys() {
	register(a, account.Self, http.MethodPost, "/session/passkeys", "Begin to make a passkey", a.addPasskey)
	register(a, account.Self, http.MethodPost, "/session/passkeys/confirm", "Keep the passkey that a browser made; from then on logins need a second proof", a.confirmPasskey)
	register(a, account.Self, http.MethodPost, "/session/prove/passkey", "Be asked for a passkey, to prove who one is", a.askProof)
	register(a, account.Self, http.MethodPost, "/session/prove", "Prove who one is: for five minutes nothing asks for one's password", a.proveSession)
}

// PasskeyQuestion is what a browser is asked.
type PasskeyQuestion struct {
	ID      string          `json:"id" doc:"Goes back with the answer"`
	Options json.RawMessage `json:"options" doc:"For PublicKeyCredential.parseCreationOptionsFromJSON or parseRequestOptionsFromJSON"`
}

// PasskeyAnswer is what a browser says.
type PasskeyAnswer struct {
	ID         string         `json:"id" minLength:"1" maxLength:"64" doc:"Of the question"`
	Credential map[string]any `json:"credential" doc:"What PublicKeyCredential.toJSON gives"`
}

func (p *PasskeyAnswer) account() (account.PasskeyAnswer, error) {
	if p == nil {
		return account.PasskeyAnswer{}, nil
	}
	b, err := json.Marshal(p.Credential)
	return account.PasskeyAnswer{ID: p.ID, Credential: b}, err
}

// PasskeyLoginInput is the first step of a login with a passkey.
type PasskeyLoginInput struct {
	Username string `json:"username" minLength:"1" maxLength:"64"`
	Password string `json:"password" minLength:"1" maxLength:"1024"`
}

// SecondInput is a second proof.
type SecondInput struct {
	Code    string         `json:"code,omitempty" maxLength:"64" doc:"What one's authenticator shows, or a recovery code"`
	Passkey *PasskeyAnswer `json:"passkey,omitempty" doc:"What the browser says when it is asked"`
}

func (s SecondInput) second() (account.Second, error) {
	key, err := s.Passkey.account()
	if s.Passkey != nil && s.Code != "" {
		return account.Second{}, errs.Field("passkey", "stands beside code; give one")
	}
	return account.Second{Code: s.Code, Passkey: key}, err
}

// ProofInput proves who one is, by one of these.
type ProofInput struct {
	SecondInput

	Password string `json:"password,omitempty" maxLength:"1024"`
}

func (a *API) addPasskey(ctx context.Context, in *body[FactorInput]) (*body[PasskeyQuestion], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "factor.add", u.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.add", u.Name, map[string]any{"name": in.Body.Name, "kind": account.Passkey}); err != nil {
		return nil, err
	}
	q, err := a.Accounts.AddPasskey(ctx, u, in.Body.Name)
	return &body[PasskeyQuestion]{PasskeyQuestion(q)}, err
}

func (a *API) confirmPasskey(ctx context.Context, in *body[PasskeyAnswer]) (*body[RecoveryCodes], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := in.Body.account()
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.confirm", u.Name, map[string]any{"question": answer.ID, "kind": account.Passkey}); err != nil {
		return nil, err
	}
	codes, err := a.Accounts.ConfirmPasskey(ctx, u, answer)
	return &body[RecoveryCodes]{RecoveryCodes{list(codes)}}, err
}

func (a *API) askProof(ctx context.Context, _ *none) (*body[PasskeyQuestion], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	q, err := a.Accounts.AskPasskey(ctx, u)
	return &body[PasskeyQuestion]{PasskeyQuestion(q)}, err
}

func (a *API) proveSession(ctx context.Context, in *body[ProofInput]) (*none, error) {
	s, action := session(ctx), "session.prove"
	second, err := in.Body.second()
	if err != nil {
		return nil, err
	}
	err = a.Accounts.CheckProof(ctx, s, in.Body.Password, second)
	if errs.Is(err, errs.Forbidden) || errs.Is(err, errs.Limited) {
		a.refused(ctx, s.UserName, action, s.UserName, err)
	}
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, action, s.UserName, nil); err != nil {
		return nil, err
	}
	return nil, a.Accounts.ProveSession(ctx, s)
}
