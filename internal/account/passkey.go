package account

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
)

// Passkeys speaks WebAuthn with browsers: keys that sign for one site alone, so that a
// site that looks like it gets nothing. What it asked is in memory. Safe for concurrent
// use.
type Passkeys struct {
	party *webauthn.WebAuthn // nil where browsers allow no passkeys
	now   func() time.Time

	mu    sync.Mutex
	asked map[string]question
}

// question is one that a browser has not answered yet.
type question struct {
	userID  string
	name    string // of a key that is being made; "" to use one
	session webauthn.SessionData
	until   time.Time
}

// Bounds of questions.
const (
	questionLife = 5 * time.Minute // to find the key, and touch it
	maxQuestions = 10_000          // then the oldest go: those who asked ask again
)

// NewPasskeys returns Passkeys of the site at a URL. Where browsers allow none, as under
// an address or without TLS, each call is a Conflict that says so.
func NewPasskeys(site string, now func() time.Time) (*Passkeys, error) {
	p := &Passkeys{now: now, asked: map[string]question{}}
	u, err := url.Parse(site)
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	name := u.Hostname()
	if _, err := netip.ParseAddr(name); err == nil || name == "" || u.Scheme != "https" && name != "localhost" {
		return p, nil
	}
	p.party, err = webauthn.New(&webauthn.Config{
		RPID: name, RPDisplayName: issuer, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	return p, nil
}

// Question is what a browser is asked: options for navigator.credentials, create or
// get.
type Question struct {
	ID      string
	Options json.RawMessage
}

// PasskeyAnswer is what a browser says to a Question. It counts once.
type PasskeyAnswer struct {
	ID         string
	Credential json.RawMessage // PublicKeyCredential.toJSON
}

// keep remembers a question.
func (p *Passkeys) keep(userID, name string, options any, session *webauthn.SessionData) (Question, error) {
	b, err := json.Marshal(options)
	if err != nil {
		return Question{}, fmt.Errorf("passkeys: %w", err)
	}
	now, id := p.now(), ident.New()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, q := range p.asked {
		if !now.Before(q.until) {
			delete(p.asked, id)
		}
	}
	if len(p.asked) >= maxQuestions {
		oldest := ""
		for id, q := range p.asked {
			if oldest == "" || q.until.Before(p.asked[oldest].until) {
				oldest = id
			}
		}
		delete(p.asked, oldest)
	}
	p.asked[id] = question{userID, name, *session, now.Add(questionLife)}
	return Question{id, b}, nil
}

// take returns a question of a user, once.
func (p *Passkeys) take(id, userID string) (question, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q, ok := p.asked[id]
	if !ok || q.userID != userID || !p.now().Before(q.until) {
		return q, errors.New("it was not asked, answered before, or asked too long ago")
	}
	delete(p.asked, id)
	return q, nil
}

func (p *Passkeys) possible() error {
	if p.party == nil {
		return errs.New(errs.Conflict, "passkeys need public_url to be an https URL with a name, or http://localhost")
	}
	return nil
}

// owner is a user with their keys. It implements webauthn.User.
type owner struct {
	User

	keys []webauthn.Credential
}

// WebAuthnID implements webauthn.User.
func (o owner) WebAuthnID() []byte { return []byte(o.ID) }

// WebAuthnName implements webauthn.User.
func (o owner) WebAuthnName() string { return o.Name }

// WebAuthnDisplayName implements webauthn.User.
func (o owner) WebAuthnDisplayName() string { return o.Name }

// WebAuthnCredentials implements webauthn.User.
func (o owner) WebAuthnCredentials() []webauthn.Credential { return o.keys }

// owner returns a user with their passkeys among list.
func (a *Accounts) owner(u User, list []Factor) (owner, error) {
	o := owner{User: u}
	for _, f := range list {
		if f.Kind != Passkey {
			continue
		}
		text, err := a.sealer.open(f.ID, f.Sealed)
		if err != nil {
			return o, err
		}
		var c webauthn.Credential
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return o, fmt.Errorf("passkey %s: %w", f.ID, err)
		}
		o.keys = append(o.keys, c)
	}
	return o, nil
}

// AddPasskey asks a browser to make a passkey, which ConfirmPasskey keeps.
func (a *Accounts) AddPasskey(ctx context.Context, u User, name string) (Question, error) {
	if err := a.passkeys.possible(); err != nil {
		return Question{}, err
	}
	had, err := a.mayAdd(ctx, u, name)
	if err != nil {
		return Question{}, err
	}
	o, err := a.owner(u, had)
	if err != nil {
		return Question{}, err
	}
	has := webauthn.Credentials(o.keys).CredentialDescriptors()
	made, session, err := a.passkeys.party.BeginRegistration(o, webauthn.WithExclusions(has), webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
		ResidentKey: protocol.ResidentKeyRequirementDiscouraged, UserVerification: protocol.VerificationPreferred,
	}))
	if err != nil {
		return Question{}, fmt.Errorf("passkeys: %w", err)
	}
	return a.passkeys.keep(u.ID, name, made.Response, session)
}

// ConfirmPasskey keeps the passkey that a browser made. Recovery codes are as those of
// ConfirmFactor.
func (a *Accounts) ConfirmPasskey(ctx context.Context, u User, answer PasskeyAnswer) (recovery []string, err error) {
	wrong := func(err error) error {
		return &errs.Error{Kind: errs.Invalid, Field: "credential", Message: "does not fit this site and what was asked; begin again", Err: err}
	}
	q, err := a.passkeys.take(answer.ID, u.ID)
	if err != nil || q.name == "" {
		return nil, wrong(err)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBody(bytes.NewReader(answer.Credential))
	if err != nil {
		return nil, wrong(err)
	}
	c, err := a.passkeys.party.CreateCredential(owner{User: u}, q.session, parsed)
	if err != nil {
		return nil, wrong(err)
	}
	before, err := a.factors(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	f := Factor{ID: ident.New(), UserID: u.ID, Kind: Passkey, Name: q.name, CreatedAt: a.now()}
	if f.Sealed, err = a.sealPasskey(f.ID, c); err != nil {
		return nil, err
	}
	if err := a.store.AddFactor(ctx, f); err != nil {
		return nil, err
	}
	if err := a.store.ConfirmFactor(ctx, f.ID, 0, f.CreatedAt); err != nil || len(before) > 0 {
		return nil, err
	}
	return a.NewRecovery(ctx, u)
}

func (a *Accounts) sealPasskey(id string, c *webauthn.Credential) ([]byte, error) {
	b, err := json.Marshal(c)
	return a.sealer.seal(id, string(b)), err
}

// AskPasskey asks a browser to use one of a user's passkeys; a Conflict without any.
func (a *Accounts) AskPasskey(ctx context.Context, u User) (Question, error) {
	if err := a.passkeys.possible(); err != nil {
		return Question{}, err
	}
	list, err := a.factors(ctx, u.ID)
	if err != nil {
		return Question{}, err
	}
	o, err := a.owner(u, list)
	if err != nil {
		return Question{}, err
	}
	if len(o.keys) == 0 {
		return Question{}, errs.New(errs.Conflict, "you have no passkey")
	}
	get, session, err := a.passkeys.party.BeginLogin(o, webauthn.WithUserVerification(protocol.VerificationPreferred))
	if err != nil {
		return Question{}, fmt.Errorf("passkeys: %w", err)
	}
	return a.passkeys.keep(u.ID, "", get.Response, session)
}

// AskLogin is AskPasskey for who is about to log in, and as Login until there.
func (a *Accounts) AskLogin(ctx context.Context, name, password string) (Question, error) {
	u, err := a.tried(ctx, name, func() (User, error) { return a.check(ctx, name, password) })
	if err != nil {
		return Question{}, err
	}
	return a.AskPasskey(ctx, u)
}

// usePasskey checks a browser's answer with one of the passkeys among list.
func (a *Accounts) usePasskey(ctx context.Context, u User, list []Factor, answer PasskeyAnswer) error {
	wrong := func(err error) error {
		return &errs.Error{Kind: errs.Unauthenticated, Field: PasskeyField, Message: "does not fit; try again", Err: err}
	}
	q, err := a.passkeys.take(answer.ID, u.ID)
	if err != nil || q.name != "" {
		return wrong(err)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBody(bytes.NewReader(answer.Credential))
	if err != nil {
		return wrong(err)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(f Factor) bool { return f.Kind != Passkey })
	o, err := a.owner(u, list)
	if err != nil {
		return err
	}
	c, err := a.passkeys.party.ValidateLogin(o, q.session, parsed)
	if err != nil {
		return wrong(err)
	}
	if c.Authenticator.CloneWarning { // its counter went back: there are two
		return wrong(errors.New("the key was copied"))
	}
	i := slices.IndexFunc(o.keys, func(k webauthn.Credential) bool { return bytes.Equal(k.ID, c.ID) })
	if i < 0 {
		return wrong(errors.New("a key of nobody"))
	}
	sealed, err := a.sealPasskey(list[i].ID, c)
	if err != nil {
		return err
	}
	return a.store.UsePasskey(ctx, list[i].ID, sealed, a.now())
}
