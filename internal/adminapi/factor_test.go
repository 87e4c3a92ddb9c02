package adminapi_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
)

// TestFactors: who needs an authenticator can add one and nothing else; then logins
// need it; whoever loses it is let in again by somebody else.
func TestFactors(t *testing.T) {
	w := newWorld(t, func(w *world) { w.require = account.FactorApproval })
	w.setUp()
	wantStatus(t, w.call("GET", "/nodes", nil, nil, nil), 403, "add an authenticator first")
	add := adminapi.FactorInput{Name: "phone", Own: "wrong"}
	wantStatus(t, w.call("POST", "/session/factors", nil, add, nil), 403, "password")
	add.Own = password
	var secret adminapi.FactorSecret
	if err := w.call("POST", "/session/factors", nil, add, &secret); err != nil {
		t.Fatal(err)
	}
	code := func(at time.Time) string {
		c, err := totp.GenerateCode(secret.Secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	wantStatus(t, w.call("POST", "/session/factors/"+secret.ID+"/confirm", nil, adminapi.FactorCode{Code: "abcdef"}, nil), 400, "clocks")
	var codes adminapi.RecoveryCodes
	if err := w.call("POST", "/session/factors/"+secret.ID+"/confirm", nil, adminapi.FactorCode{Code: code(time.Now())}, &codes); err != nil || len(codes.Codes) != 10 {
		t.Fatalf("%+v, %v", codes, err)
	}
	if err := w.call("GET", "/nodes", nil, nil, nil); err != nil {
		t.Errorf("with an authenticator: %v", err)
	}
	login := func(name, code string) error {
		in := adminapi.LoginInput{Username: name, Password: password, SecondInput: adminapi.SecondInput{Code: code}}
		return adminapi.NewClient(w.url, "", w.http).Call(t.Context(), "POST", "/session", nil, in, nil)
	}
	err := login("admin", "")
	p, ok := errors.AsType[*adminapi.Problem](err)
	if !ok || p.Status != 401 || len(p.Errors) != 1 || p.Errors[0].Location != "code" {
		t.Errorf("%v", err)
	}
	wantStatus(t, login("admin", "000000"), 401, "code")
	if err := login("admin", code(time.Now().Add(30*time.Second))); err != nil {
		t.Error(err)
	}
	if err := login("admin", codes.Codes[0]); err != nil {
		t.Error(err)
	}
	var list adminapi.FactorList
	if err := w.call("GET", "/session/factors", nil, nil, &list); err != nil || len(list.Factors) != 1 || list.RecoveryLeft != 9 {
		t.Errorf("%+v, %v", list, err)
	}

	w.person("ana", "analyst")
	if err := login("ana", ""); err != nil {
		t.Errorf("who approves nothing needs none: %v", err)
	}
	wantStatus(t, w.call("POST", "/users/ana/factors/remove", nil, adminapi.PasswordInput{Password: password}, nil), 404, "no such authenticator")
	if err := w.call("POST", "/users/admin/factors/remove", nil, adminapi.PasswordInput{Password: password}, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, w.call("GET", "/session", nil, nil, nil), 401, "log in")
	if err := login("admin", ""); err != nil {
		t.Errorf("after they were removed: %v", err)
	}
}

// authenticator gives the administrator one, and returns a recovery code.
func (w *world) authenticator() string {
	w.t.Helper()
	var secret adminapi.FactorSecret
	if err := w.call("POST", "/session/factors", nil, adminapi.FactorInput{Name: "phone", Own: password}, &secret); err != nil {
		w.t.Fatal(err)
	}
	code, err := totp.GenerateCode(secret.Secret, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	var codes adminapi.RecoveryCodes
	if err := w.call("POST", "/session/factors/"+secret.ID+"/confirm", nil, adminapi.FactorCode{Code: code}, &codes); err != nil {
		w.t.Fatal(err)
	}
	return codes.Codes[0]
}

// TestThrottle: who guesses is told to wait, and for how long.
func TestThrottle(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	status := 0
	var err error
	for range 8 {
		err = adminapi.NewClient(w.url, "", w.http).Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "eve", Password: "guess"}, nil)
		status = adminapi.Status(err)
	}
	if status != 429 {
		t.Errorf("%d: %v", status, err)
	}
	// The owner of another account logs in from the same place.
	if err := adminapi.NewClient(w.url, "", w.http).Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: "admin", Password: password}, nil); err != nil {
		t.Error(err)
	}
}
