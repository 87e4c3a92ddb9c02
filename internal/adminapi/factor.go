package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
)

func (a *API) registerFactors() {
	register(a, account.Self, http.MethodGet, "/session/factors", "List one's own authenticators and passkeys, and how many recovery codes are left", a.ownFactors)
	register(a, account.Self, http.MethodPost, "/session/factors", "Begin to add an authenticator", a.addFactor)
	register(a, account.Self, http.MethodPost, "/session/factors/{id}/confirm", "Show that an authenticator works; from then on logins need it", a.confirmFactor)
	register(a, account.Self, http.MethodPost, "/session/factors/{id}/remove", "Remove one of one's own authenticators or passkeys", a.removeFactor)
	register(a, account.Self, http.MethodPost, "/session/recovery-codes", "Make new recovery codes in place of those before", a.newRecovery)
	register(a, account.UserWrite, http.MethodPost, "/users/{name}/factors/remove", "Remove all authenticators and passkeys of a person who lost them; their sessions end", a.resetFactors)
}

// FactorInfo is an authenticator or a passkey.
type FactorInfo struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind" enum:"totp,passkey"`
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// FactorList is one's authenticators.
type FactorList struct {
	Factors      []FactorInfo `json:"factors"`
	RecoveryLeft int          `json:"recovery_codes_left"`
}

// FactorInput begins to add an authenticator.
type FactorInput struct {
	Name string `json:"name" minLength:"1" maxLength:"64" doc:"As phone"`
	Own  string `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// FactorSecret is what an authenticator is to know, shown once.
type FactorSecret struct {
	ID     string `json:"id"`
	Secret string `json:"secret" doc:"Base32, to type"`
	URI    string `json:"uri" doc:"otpauth://, to scan"`
	QR     string `json:"qr" doc:"The uri as a picture: a data: URL of a PNG"`
}

// FactorCode is what an authenticator shows.
type FactorCode struct {
	Code string `json:"code" minLength:"6" maxLength:"6"`
}

// RecoveryCodes are shown once; each stands in for a code once.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes" doc:"With one's first authenticator, or new ones; else empty"`
}

// self is the caller as a user, who must not be a token.
func (a *API) self(ctx context.Context) (account.User, error) {
	if err := session(ctx).Personal(); err != nil {
		return account.User{}, err
	}
	return a.Accounts.UserByName(ctx, session(ctx).UserName)
}

func (a *API) ownFactors(ctx context.Context, _ *none) (*body[FactorList], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	list, left, err := a.Accounts.Factors(ctx, u)
	out := FactorList{Factors: make([]FactorInfo, 0, len(list)), RecoveryLeft: left}
	for _, f := range list {
		out.Factors = append(out.Factors, FactorInfo{ID: f.ID, Kind: string(f.Kind), Name: f.Name, CreatedAt: f.CreatedAt.UTC(), LastUsed: at(f.LastUsed)})
	}
	return &body[FactorList]{out}, err
}

func (a *API) addFactor(ctx context.Context, in *body[FactorInput]) (*body[FactorSecret], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "factor.add", u.Name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.add", u.Name, map[string]any{"name": in.Body.Name}); err != nil {
		return nil, err
	}
	f, err := a.Accounts.AddFactor(ctx, u, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &body[FactorSecret]{FactorSecret(f)}, nil
}

// FactorRef names an authenticator in a path.
type FactorRef struct {
	ID string `path:"id" maxLength:"64"`
}

type confirmFactorInput struct {
	FactorRef
	Body FactorCode
}

func (a *API) confirmFactor(ctx context.Context, in *confirmFactorInput) (*body[RecoveryCodes], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.confirm", u.Name, map[string]any{"factor": in.ID}); err != nil {
		return nil, err
	}
	codes, err := a.Accounts.ConfirmFactor(ctx, u, in.ID, in.Body.Code)
	return &body[RecoveryCodes]{RecoveryCodes{list(codes)}}, err
}

type removeFactorInput struct {
	FactorRef
	Body PasswordInput
}

func (a *API) removeFactor(ctx context.Context, in *removeFactorInput) (*none, error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "factor.remove", u.Name, in.Body.Password); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.remove", u.Name, map[string]any{"factor": in.ID}); err != nil {
		return nil, err
	}
	return nil, a.Accounts.RemoveFactor(ctx, u, in.ID)
}

func (a *API) newRecovery(ctx context.Context, in *body[PasswordInput]) (*body[RecoveryCodes], error) {
	u, err := a.self(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "factor.recovery", u.Name, in.Body.Password); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.recovery", u.Name, nil); err != nil {
		return nil, err
	}
	codes, err := a.Accounts.NewRecovery(ctx, u)
	return &body[RecoveryCodes]{RecoveryCodes{list(codes)}}, err
}

func (a *API) resetFactors(ctx context.Context, in *ownPasswordInput) (*none, error) {
	u, err := a.Accounts.UserByName(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, "factor.reset", in.Name, in.Body.Password); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, "factor.reset", in.Name, nil); err != nil {
		return nil, err
	}
	if err := a.Accounts.RemoveFactor(ctx, u, ""); err != nil {
		return nil, err
	}
	_, err = a.Accounts.EndSessions(ctx, u, account.Session{})
	return nil, err
}
