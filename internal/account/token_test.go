package account

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

func TestIsToken(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		text := newTokenText()
		if !IsToken(text) || seen[text] || len(text) != len(tokenPrefix)+tokenRandom+tokenSum {
			t.Fatal(text)
		}
		seen[text] = true
		last := text[len(text)-1:]
		for _, other := range []string{text[1:], text + "0", text[:len(text)-1], text[:len(text)-1] + map[bool]string{true: "1", false: "0"}[last == "0"], strings.Replace(text, "pat", "tap", 1)} {
			if IsToken(other) {
				t.Fatalf("%s, made of %s, is one", other, text)
			}
		}
	}
	// Computed by another program: a check sum that changes would make scanners blind.
	if got := checkSum("000000000000000000000000000000"); got != "2C8GjS" {
		t.Error(got)
	}
}

func FuzzIsToken(f *testing.F) {
	f.Add(newTokenText())
	f.Add("muster_pat_")
	f.Fuzz(func(t *testing.T, text string) {
		if IsToken(text) && (!strings.HasPrefix(text, tokenPrefix) || strings.ContainsAny(text, " \n\x00")) {
			t.Error(text)
		}
	})
}

// TestToken: a token does what is left of its owner's roles, from where it may, while
// it lasts, and never consents.
func TestToken(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	a.now = func() time.Time { return now }
	ctx := t.Context()
	ada := User{ID: "1", Name: "ada", Roles: first()}
	s.users["ada"] = ada
	ask := TokenRequest{Name: "laptop", Life: 24 * time.Hour, By: Session{UserName: "ada"}}
	for field, change := range map[string]func(*TokenRequest){
		"name":        func(r *TokenRequest) { r.Name = "A b" },
		"expires":     func(r *TokenRequest) { r.Life = MaxTokenLife + 1 },
		"permissions": func(r *TokenRequest) { r.Scope.Permissions = []string{"node.reed"} },
		"selector":    func(r *TokenRequest) { r.Scope.Selector = "tag =" },
		"live_tier":   func(r *TokenRequest) { r.Scope.LiveTier = new(4) },
		"networks":    func(r *TokenRequest) { r.Networks = []string{"10.0.0.0/33"} },
	} {
		r := ask
		change(&r)
		_, _, err := a.MakeToken(ctx, ada, r)
		if e, ok := errors.AsType[*errs.Error](err); !ok || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if len(s.tokens) != 0 {
		t.Errorf("%+v", s.tokens)
	}
	all, made, err := a.MakeToken(ctx, ada, ask)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Session(ctx, Bearer, all)
	if err != nil || got.Kind != ByToken || got.ID != made.ID || got.UserName != "ada" || !got.May(NodeWrite) || !got.May(GovernWrite) ||
		slices.ContainsFunc(forPeople(), got.May) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := a.Prove(ctx, got, password); !errs.Is(err, errs.Forbidden) {
		t.Errorf("a token proves a person: %v", err)
	}
	for _, kind := range []Kind{Cookie, ByToken} {
		if _, err := a.Session(ctx, kind, all); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("as %s: %v", kind, err)
		}
	}

	ask.Name, ask.Scope, ask.Networks = "edge", Scope{Permissions: []string{"node.*", "live.approve"}, Selector: "tag = edge"}, []string{"10.1.0.0/16", "2001:db8::1"}
	edge, _, err := a.MakeToken(ctx, ada, ask)
	if err != nil {
		t.Fatal(err)
	}
	for address, ok := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "2001:db8::1": true, "10.2.0.1": false, "2001:db8::2": false, "": false} {
		from := audit.WithCaller(ctx, audit.Caller{Address: address})
		got, err := a.Session(from, Bearer, edge)
		if (err == nil) != ok || got.UserName != "ada" || !ok && got.May(NodeRead) { // who has it elsewhere is told of
			t.Errorf("from %q: %+v, %v", address, got, err)
		}
		if ok && (!got.On(NodeWrite, identity("e", "edge")) || got.On(NodeRead, identity("c", "core")) || got.May(EventRead) || got.May(LiveApprove)) {
			t.Errorf("from %q: %+v", address, got)
		}
	}
	if used := s.tokens[1]; used.LastFrom == "" || !used.LastUsed.Equal(now) {
		t.Errorf("%+v", used)
	}

	now = now.Add(time.Hour)
	next, replaced, err := a.RotateToken(ctx, ada, made.ID, Session{UserName: "ada"}, time.Hour)
	if err != nil || replaced.Name != "laptop" || !replaced.ExpiresAt.Equal(now.Add(24*time.Hour)) || next == all {
		t.Fatalf("%+v, %v", replaced, err)
	}
	works := func(text string) bool { _, err := a.Session(ctx, Bearer, text); return err == nil }
	if !works(all) || !works(next) {
		t.Error("both work for the overlap")
	}
	now = now.Add(time.Hour)
	if works(all) || !works(next) {
		t.Error("the old one works after the overlap, or the new one does not")
	}
	if err := a.EndToken(ctx, ada, replaced.ID); err != nil || works(next) {
		t.Errorf("revoked: %v", err)
	}
	if err := a.EndToken(ctx, ada, replaced.ID); !errs.Is(err, errs.NotFound) {
		t.Errorf("twice: %v", err)
	}
}

// TestTokenRequirement: a token is no way around a second factor that is asked for
// later; one that was made with one, or by a program, works.
func TestTokenRequirement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		require Requirement
		role    string
		service bool
		made    bool // with a second factor
		has     bool // the owner now
		may     bool
	}{
		{NoFactor, Operator, false, false, false, true},
		{FactorApproval, Operator, false, false, false, false},
		{FactorApproval, Analyst, false, false, false, true},
		{FactorAll, Analyst, false, false, false, false},
		{FactorAll, Analyst, false, true, false, true},
		{FactorAll, Analyst, false, false, true, true},
		{FactorAll, Automation, true, false, false, true},
	} {
		s := newStore()
		a := newAccounts(s)
		u := User{ID: "1", Name: "ada", Roles: []string{c.role}, Service: c.service, Factor: c.has}
		s.users["ada"] = u
		text, _, err := a.MakeToken(t.Context(), u, TokenRequest{Name: "x", Life: time.Hour, By: Session{Factor: c.made}})
		if err != nil {
			t.Fatal(err)
		}
		a.require = c.require
		if got, err := a.Session(t.Context(), Bearer, text); err != nil || got.May(NodeRead) != c.may || got.MustEnrol == c.may || !got.May(Self) {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

// TestService: a program's account has no password, and is not the last
// administrator.
func TestService(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := New(s, roles{}, node.NewKeyer([]byte("key")), nil, NoFactor, time.Now)
	s.users["ada"] = User{ID: "1", Name: "ada", Roles: first()}
	u, err := a.CreateService(t.Context(), "ci", []string{Admin})
	if err != nil || !u.Service || u.PasswordHash != "" {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := a.Login(t.Context(), "ci", "", Second{}); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("it logs in: %v", err)
	}
	if _, err := a.SetPassword(t.Context(), "ci", password, Session{}); !errs.Is(err, errs.Conflict) {
		t.Errorf("it has a password: %v", err)
	}
	if _, err := a.Disable(t.Context(), "ada"); !errs.Is(err, errs.Conflict) {
		t.Errorf("a program alone is left: %v", err)
	}
}
