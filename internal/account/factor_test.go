package account

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

// askedFor reports whether an error asks for a code, or is about one.
func askedFor(err error) bool {
	e, ok := errors.AsType[*errs.Error](err)
	return ok && e.Kind == errs.Unauthenticated && e.Field == CodeField
}

// TestFactor: an authenticator counts once it was shown to work, each code works
// once, a clock may be off by a step, and recovery codes work once.
func TestFactor(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	now := time.Date(2026, 11, 21, 9, 0, 10, 0, time.UTC)
	a.now = func() time.Time { return now }
	a.throttle.now = a.now
	ctx := t.Context()
	u, err := a.SetUp(ctx, "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	f, err := a.AddFactor(ctx, u, "phone")
	if err != nil || !strings.HasPrefix(f.URI, "otpauth://totp/Muster:ada?") || !strings.HasPrefix(f.QR, "data:image/png;base64,") {
		t.Fatalf("%+v, %v", f, err)
	}
	if strings.Contains(string(s.factors[0].Sealed), f.Secret) {
		t.Error("the seed is readable")
	}
	code := func(at time.Time) string {
		c, err := totp.GenerateCode(f.Secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, err := a.Login(ctx, "ada", password, Second{}); err != nil {
		t.Errorf("before it counts: %v", err)
	}
	if _, err := a.ConfirmFactor(ctx, u, f.ID, "000000"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a wrong code confirms: %v", err)
	}
	recovery, err := a.ConfirmFactor(ctx, u, f.ID, code(now))
	if err != nil || len(recovery) != recoveryCodes {
		t.Fatalf("%v, %v", recovery, err)
	}
	login := func(code string) error { _, err := a.Login(ctx, "ada", password, Second{Code: code}); return err }
	for what, c := range map[string]string{"none": "", "the one that confirmed": code(now), "of long ago": code(now.Add(-time.Minute)), "of later": code(now.Add(time.Minute)), "wrong": "12345", "a wrong recovery code": "aaaa-bbbb-cccc-dddd"} {
		if err := login(c); !askedFor(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.throttle = newThrottle(a.now) // those were wrong on purpose
	if _, err := a.Login(ctx, "ada", "another password!", Second{Code: code(now.Add(30 * time.Second))}); askedFor(err) || !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a code does not stand in for a password, or its error tells of it: %v", err)
	}
	if err := login(code(now.Add(30 * time.Second))); err != nil {
		t.Errorf("a phone that is ahead: %v", err)
	}
	for _, c := range []string{code(now.Add(30 * time.Second)), code(now)} {
		if err := login(c); !askedFor(err) {
			t.Errorf("a code works twice, or one before it: %v", err)
		}
	}
	for range 2 {
		err := login(strings.ToUpper(strings.ReplaceAll(recovery[3], "-", " ")))
		if _, left, _ := a.Factors(ctx, u); left != recoveryCodes-1 || err != nil && !askedFor(err) {
			t.Errorf("%d left, %v", left, err)
		}
		recovery[0] = recovery[3] // the second time it is used up
	}
	if err := login(recovery[0]); !askedFor(err) {
		t.Errorf("a recovery code works twice: %v", err)
	}
}

// TestRequirement: who needs a second factor and has none can do nothing else.
func TestRequirement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		require Requirement
		role    string
		has     bool
		must    bool
	}{
		{NoFactor, Operator, false, false},
		{FactorApproval, Operator, false, true},
		{FactorApproval, Responder, false, true},
		{FactorApproval, Admin, false, false},
		{FactorApproval, Operator, true, false},
		{FactorAll, Analyst, false, true},
		{FactorAll, Analyst, true, false},
	} {
		s := newStore()
		a := newAccounts(s)
		a.require = c.require
		u := User{ID: "1", Name: "ada", Roles: []string{c.role}}
		s.users["ada"] = u
		if c.has {
			s.factors = []Factor{{ID: "f", ConfirmedAt: time.Now()}}
		}
		secret, opened, err := a.Open(t.Context(), u, Bearer, Origin{})
		if err != nil {
			t.Fatal(err)
		}
		kept := s.sessions[opened.Hash]
		kept.Factor = c.has // as the store joins it
		s.sessions[opened.Hash] = kept
		again, err := a.Session(t.Context(), Bearer, secret)
		for what, got := range map[string]Session{"opened": opened, "later": again} {
			if err != nil || got.MustEnrol != c.must || got.May(NodeRead) == c.must || !got.May(Self) {
				t.Errorf("%+v, %s: %+v, %v", c, what, got, err)
			}
		}
	}
}

// TestThrottle: ten thousand guesses are a few tries, and the owner logs in
// meanwhile.
func TestThrottle(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	a.now = func() time.Time { return now }
	a.throttle.now = a.now
	tried := 0
	from := func(address string) func(name string) error {
		ctx := audit.WithCaller(t.Context(), audit.Caller{Address: address})
		return func(name string) error {
			err := a.mayTry(ctx, name, networkOf(address))
			if err == nil {
				tried++
				a.throttle.failed(name, networkOf(address))
			}
			return err
		}
	}
	s.users["ada"] = User{ID: "1", Name: "ada", Roles: first()}
	if _, _, err := a.Open(t.Context(), s.users["ada"], Cookie, Origin{Address: "192.0.2.7"}); err != nil {
		t.Fatal(err)
	}
	one := from("203.0.113.9")
	for range 10_000 {
		_ = one("ada")
		now = now.Add(time.Second / 10)
	}
	if tried > 25 {
		t.Errorf("%d tries of one network in 17 minutes", tried)
	}
	err := one("ada")
	if e, ok := errors.AsType[*errs.Error](err); !ok || e.Kind != errs.Limited || e.After <= 0 || e.After > longestWait+time.Second {
		t.Errorf("%v", err)
	}
	tried = 0
	for i := range 10_000 { // of many networks
		_ = from(fmt.Sprintf("198.%d.%d.1", i/256, i%256))("ada")
		now = now.Add(time.Second / 10)
	}
	if tried > 45 {
		t.Errorf("%d tries of many networks in 17 minutes", tried)
	}
	if err := from("192.0.2.200")("ada"); err != nil {
		t.Errorf("the owner, from where they are logged in: %v", err)
	}
	if err := from("203.0.113.200")("bob"); err != nil {
		t.Errorf("another account from the guesser's network, once: %v", err)
	}
	tried = 0
	for i := range 1000 { // one password for all accounts
		_ = from("203.0.113.77")(fmt.Sprintf("user%d", i))
	}
	if tried > freeNetworkTries+1 {
		t.Errorf("%d accounts were tried from one network", tried)
	}
	now = now.Add(2 * forgetAfter)
	if err := one("ada"); err != nil {
		t.Errorf("hours later: %v", err)
	}
	for i := range maxTries {
		a.throttle.failed(fmt.Sprint(i), networkOf("2001:db8::1"))
	}
	if n := len(a.throttle.tries); n > maxTries {
		t.Errorf("%d are remembered", n)
	}
}
