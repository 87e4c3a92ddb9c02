package adminapi_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/descope/virtualwebauthn"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
)

// securityKey is a browser with a security key in it: a real implementation of the other
// side, at an origin that may be a look-alike's.
type securityKey struct {
	t     *testing.T
	party virtualwebauthn.RelyingParty
	key   virtualwebauthn.Authenticator
	cred  virtualwebauthn.Credential
}

func newKey(t *testing.T, origin string) *securityKey {
	t.Helper()
	return &securityKey{
		t: t, party: virtualwebauthn.RelyingParty{Name: "Muster", ID: "muster.example.com", Origin: origin},
		key: virtualwebauthn.NewAuthenticator(), cred: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2),
	}
}

// options makes what the library parses: the options within publicKey.
func (b *securityKey) options(q adminapi.PasskeyQuestion) string {
	return `{"publicKey":` + string(q.Options) + `}`
}

func (b *securityKey) answer(q adminapi.PasskeyQuestion, text string) adminapi.PasskeyAnswer {
	b.t.Helper()
	a := adminapi.PasskeyAnswer{ID: q.ID}
	if err := json.Unmarshal([]byte(text), &a.Credential); err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *securityKey) create(q adminapi.PasskeyQuestion) adminapi.PasskeyAnswer {
	b.t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(b.options(q))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.answer(q, virtualwebauthn.CreateAttestationResponse(b.party, b.key, b.cred, *o))
}

func (b *securityKey) get(q adminapi.PasskeyQuestion) adminapi.PasskeyAnswer {
	b.t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(b.options(q))
	if err != nil {
		b.t.Fatal(err)
	}
	b.cred.Counter++
	return b.answer(q, virtualwebauthn.CreateAssertionResponse(b.party, b.key, b.cred, *o))
}

// TestPasskeys: a passkey is made, is needed at logins, proves who one is, and works
// for this site, this question and this person alone.
func TestPasskeys(t *testing.T) {
	w := newWorld(t, func(w *world) { w.require = account.FactorApproval })
	w.setUp()
	b := newKey(t, site)
	wantStatus(t, w.call("GET", "/nodes", nil, nil, nil), 403, "add an authenticator first")
	ask := func() (q adminapi.PasskeyQuestion) {
		t.Helper()
		if err := w.call("POST", "/session/passkeys", nil, adminapi.FactorInput{Name: "yubikey", Own: password}, &q); err != nil {
			t.Fatal(err)
		}
		return q
	}
	confirm := func(a adminapi.PasskeyAnswer) (codes adminapi.RecoveryCodes, err error) {
		err = w.call("POST", "/session/passkeys/confirm", nil, a, &codes)
		return codes, err
	}
	wantStatus(t, w.call("POST", "/session/passkeys", nil, adminapi.FactorInput{Name: "x", Own: "wrong"}, nil), 403, "password")
	wantStatus(t, w.call("POST", "/session/prove/passkey", nil, nil, nil), 409, "no passkey")
	_, err := confirm(newKey(t, "https://muster.example.com.evil.test").create(ask()))
	wantStatus(t, err, 400, "does not fit")
	q := ask()
	made := b.create(q)
	stale := made
	stale.ID = ask().ID // another question
	_, err = confirm(stale)
	wantStatus(t, err, 400, "does not fit")
	codes, err := confirm(made)
	if err != nil || len(codes.Codes) != 10 {
		t.Fatalf("%+v, %v", codes, err)
	}
	_, err = confirm(made)
	wantStatus(t, err, 400, "does not fit")
	if err := w.call("GET", "/nodes", nil, nil, nil); err != nil {
		t.Errorf("with a passkey: %v", err)
	}

	anybody := adminapi.NewClient(w.url, "", w.http)
	login := func(second adminapi.SecondInput) error {
		return anybody.Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "admin", Password: password, SecondInput: second}, nil)
	}
	err = login(adminapi.SecondInput{})
	if p, ok := errors.AsType[*adminapi.Problem](err); !ok || p.Status != 401 || len(p.Errors) != 1 || p.Errors[0].Location != "passkey" {
		t.Errorf("%v", err)
	}
	question := func() (q adminapi.PasskeyQuestion) {
		t.Helper()
		if err := anybody.Call(t.Context(), "POST", "/session/passkey", nil, adminapi.PasskeyLoginInput{Username: "admin", Password: password}, &q); err != nil {
			t.Fatal(err)
		}
		return q
	}
	wantStatus(t, anybody.Call(t.Context(), "POST", "/session/passkey", nil, adminapi.PasskeyLoginInput{Username: "admin", Password: "wrong"}, nil), 401, "wrong")
	by := func(a adminapi.PasskeyAnswer) adminapi.SecondInput { return adminapi.SecondInput{Passkey: &a} }
	right := b.get(question())
	if err := login(by(right)); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, login(by(right)), 401, "does not fit") // once
	phisher := &securityKey{t: t, party: b.party, key: b.key, cred: b.cred}
	phisher.party.Origin = "https://muster.example.com.evil.test"
	wantStatus(t, login(by(phisher.get(question()))), 401, "does not fit")
	other := newKey(t, site)
	other.cred.ID = b.cred.ID // the same name, another key
	wantStatus(t, login(by(other.get(question()))), 401, "does not fit")
	if err := login(by(b.get(question()))); err != nil {
		t.Error(err)
	}
	back := &securityKey{t: t, party: b.party, key: b.key, cred: b.cred}
	back.cred.Counter = 0
	wantStatus(t, login(by(back.get(question()))), 401, "does not fit") // copied
	if err := login(adminapi.SecondInput{Code: codes.Codes[0]}); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	wantStatus(t, login(adminapi.SecondInput{Code: codes.Codes[1], Passkey: &right}), 400, "give one")

	// A proof stands in for the password for some minutes.
	in := adminapi.UserInput{Name: "grace", Password: password, Roles: []string{"analyst"}}
	wantStatus(t, w.call("POST", "/users", nil, in, nil), 400, "password")
	var s adminapi.Session
	if err := w.call("GET", "/session", nil, nil, &s); err != nil || strings.Join(s.Proofs, " ") != "passkey password" {
		t.Errorf("%+v, %v", s, err)
	}
	prove := func(p adminapi.ProofInput) error { return w.call("POST", "/session/prove", nil, p, nil) }
	wantStatus(t, prove(adminapi.ProofInput{}), 400, "password")
	wantStatus(t, prove(adminapi.ProofInput{Password: "wrong"}), 403, "wrong")
	var proof adminapi.PasskeyQuestion
	if err := w.call("POST", "/session/prove/passkey", nil, nil, &proof); err != nil {
		t.Fatal(err)
	}
	if err := prove(adminapi.ProofInput{SecondInput: by(b.get(proof))}); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/users", nil, in, nil); err != nil {
		t.Errorf("after a proof: %v", err)
	}
	var grace adminapi.Session
	if err := anybody.Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "grace", Password: password, Kind: "bearer"}, &grace); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, adminapi.NewClient(w.url, grace.Token, w.http).Call(t.Context(), "POST", "/session/prove", nil, adminapi.ProofInput{SecondInput: by(right)}, nil), 403, "wrong")

	var list adminapi.FactorList
	if err := w.call("GET", "/session/factors", nil, nil, &list); err != nil || len(list.Factors) != 1 || list.Factors[0].Kind != "passkey" || list.Factors[0].LastUsed == nil {
		t.Errorf("%+v, %v", list, err)
	}
	if err := w.call("POST", "/session/factors/"+list.Factors[0].ID+"/remove", nil, adminapi.PasswordInput{Password: password}, nil); err != nil {
		t.Fatal(err)
	}
	if err := login(adminapi.SecondInput{}); err != nil {
		t.Errorf("after it was removed: %v", err)
	}
}
