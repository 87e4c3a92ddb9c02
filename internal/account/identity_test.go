package account

import (
	"slices"
	"testing"

	"github.com/musterhq/muster/internal/errs"
)

// TestSignIn: who is known is found by issuer and subject alone, a provider says the
// roles of whom it made, and takes over nobody else's account.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	ctx := t.Context()
	s.users["ada"] = User{ID: "1", Name: "ada", Roles: first()}
	v := Vouched{Identity: Identity{"https://idp", "7"}, Provider: "idp", Username: "bob", Roles: []string{Operator, Analyst}}
	if _, err := a.SignIn(ctx, v); !errs.Is(err, errs.Forbidden) || len(s.users) != 1 {
		t.Errorf("nobody may be made: %v", err)
	}
	v.Create = true
	for _, name := range []string{"ada", "", "-x"} {
		bad := v
		bad.Username = name
		if _, err := a.SignIn(ctx, bad); !errs.Is(err, errs.Forbidden) || len(s.users) != 1 {
			t.Errorf("%q: %v", name, err)
		}
	}
	bob, err := a.SignIn(ctx, v)
	if err != nil || bob.Name != "bob" || bob.Origin != "idp" || !slices.Equal(bob.Roles, []string{Analyst, Operator}) || bob.PasswordHash != "" {
		t.Fatalf("%+v, %v", bob, err)
	}
	v.Username, v.Roles = "ada", []string{Analyst} // the provider calls them otherwise now
	if again, err := a.SignIn(ctx, v); err != nil || again.Name != "bob" || !slices.Equal(again.Roles, []string{Analyst}) {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := a.SetPassword(ctx, "bob", password, Session{}); !errs.Is(err, errs.Conflict) {
		t.Errorf("a way in beside the provider: %v", err)
	}
	if _, err := a.Login(ctx, "bob", "", Second{}); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("without a password: %v", err)
	}
	other := v
	other.Issuer = "https://other"
	other.Username = "carol"
	if u, err := a.SignIn(ctx, other); err != nil || u.Name != "carol" {
		t.Errorf("the same subject of another issuer: %+v, %v", u, err)
	}

	linked := Vouched{Identity: Identity{"https://idp", "9"}, Provider: "idp", Roles: []string{Analyst}}
	if err := a.Link(ctx, s.users["ada"], linked.Identity); err != nil {
		t.Fatal(err)
	}
	if u, err := a.SignIn(ctx, linked); err != nil || u.Name != "ada" || !slices.Equal(u.Roles, first()) {
		t.Errorf("who was linked keeps their roles: %+v, %v", u, err)
	}
	if _, err := a.Disable(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if u, err := a.SignIn(ctx, v); !errs.Is(err, errs.Forbidden) || u.Name != "" {
		t.Errorf("disabled: %+v, %v", u, err)
	}
}

// TestProve_signOn: a proof at the provider stands in for a password, for a while.
func TestProve_signOn(t *testing.T) {
	t.Parallel()
	a := newAccounts(newStore())
	now := a.now()
	if err := a.Prove(t.Context(), Session{UserName: "bob", Kind: Cookie, Origin: Origin{ProvedAt: now}}, ""); err != nil {
		t.Error(err)
	}
	if err := a.Prove(t.Context(), Session{UserName: "bob", Kind: Cookie, Origin: Origin{ProvedAt: now.Add(-provedFor)}}, ""); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if err := a.Prove(t.Context(), Session{UserName: "bob", Kind: ByToken, Origin: Origin{ProvedAt: now}}, ""); !errs.Is(err, errs.Forbidden) {
		t.Error(err)
	}
}
