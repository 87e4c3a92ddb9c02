package account

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

const password = "correct horse battery"

type store struct {
	tokenStore
	factorStore
	identityStore
	InvitationStore // see TestInvitations of adminapi, on the real one

	mu       sync.Mutex
	users    map[string]User
	sessions map[node.KeyHash]Session
	audit    []string
	err      error
}

func newStore() *store {
	s := &store{users: map[string]User{}, sessions: map[node.KeyHash]Session{}}
	s.tokenStore.of, s.identityStore.of = s, s
	s.linked = map[Identity]string{}
	return s
}

func (s *store) CreateFirstUser(_ context.Context, u User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users) > 0 {
		return errs.New(errs.Conflict, "there is a user")
	}
	s.users[u.Name] = u
	return s.err
}

func (s *store) CreateUser(_ context.Context, u User) error {
	if _, ok := s.users[u.Name]; ok {
		return errs.New(errs.Conflict, "there is a user of that name")
	}
	s.users[u.Name] = u
	return s.err
}

func (s *store) Users(context.Context) ([]User, error) {
	return slices.SortedFunc(maps.Values(s.users), func(a, b User) int { return strings.Compare(a.Name, b.Name) }), s.err
}

func (s *store) Activity(context.Context, time.Time) ([]Activity, error) { return nil, s.err }

func (s *store) HasUsers(context.Context) (bool, error) { return len(s.users) > 0, s.err }

func (s *store) UserByName(_ context.Context, name string) (User, error) {
	u, ok := s.users[name]
	if s.err == nil && !ok {
		return User{}, errs.New(errs.NotFound, "no user")
	}
	return u, s.err
}

func (s *store) CreateSession(_ context.Context, h node.KeyHash, session Session) error {
	s.sessions[h] = session
	return s.err
}

func (s *store) SessionByHash(_ context.Context, h node.KeyHash, now time.Time) (Session, error) {
	session, ok := s.sessions[h]
	if s.err == nil && (!ok || !now.Before(session.ExpiresAt)) {
		return Session{}, errs.New(errs.NotFound, "no session")
	}
	return session, s.err
}

func (s *store) UpdateUser(_ context.Context, name string, change func(*User, []User) error) (User, error) {
	u, ok := s.users[name]
	if !ok {
		return u, errs.New(errs.NotFound, "no user")
	}
	var others []User
	for _, o := range s.users {
		if o.Name != name {
			others = append(others, o)
		}
	}
	if err := change(&u, others); err != nil {
		return u, err
	}
	s.users[name] = u
	return u, s.err
}

func (s *store) SeeSession(_ context.Context, h node.KeyHash, now time.Time) error {
	session := s.sessions[h]
	session.LastSeen = now
	s.sessions[h] = session
	return s.err
}

func (s *store) Sessions(_ context.Context, userID string, now time.Time) (list []Session, err error) {
	for h, session := range s.sessions {
		if session.UserID == userID && now.Before(session.ExpiresAt) {
			session.Hash = h
			list = append(list, session)
		}
	}
	return list, s.err
}

func (s *store) EndSessions(_ context.Context, userID string, keep node.KeyHash) (n int, err error) {
	for h, session := range s.sessions {
		if session.UserID == userID && h != keep {
			delete(s.sessions, h)
			n++
		}
	}
	return n, s.err
}

// tokenStore keeps tokens.
type tokenStore struct {
	of     *store
	tokens []Token
}

func (s *tokenStore) CreateToken(_ context.Context, t Token) error {
	s.tokens = append(s.tokens, t)
	return nil
}

func (s *tokenStore) TokenByHash(_ context.Context, h node.KeyHash, now time.Time) (Token, User, error) {
	for _, t := range s.tokens {
		if u := s.of.users[t.UserName]; t.Hash == h && t.Works(now) && u.DisabledAt.IsZero() {
			return t, u, nil
		}
	}
	return Token{}, User{}, errs.New(errs.NotFound, "no token")
}

func (s *tokenStore) UseToken(_ context.Context, id string, now time.Time, from string) error {
	for i := range s.tokens {
		if s.tokens[i].ID == id {
			s.tokens[i].LastUsed, s.tokens[i].LastFrom = now, from
		}
	}
	return nil
}

func (s *tokenStore) Tokens(context.Context, string) ([]Token, error) { return s.tokens, nil }

func (s *tokenStore) ReplaceToken(ctx context.Context, old string, until time.Time, t Token) error {
	i := slices.IndexFunc(s.tokens, func(t Token) bool { return t.ID == old })
	s.tokens[i].ExpiresAt = until
	return s.CreateToken(ctx, t)
}

func (s *tokenStore) EndToken(_ context.Context, _, id string, now time.Time) error {
	for i := range s.tokens {
		if t := &s.tokens[i]; t.ID == id && t.Works(now) {
			t.RevokedAt = now
			return nil
		}
	}
	return errs.New(errs.NotFound, "no token")
}

// factorStore keeps factors of one user.
type factorStore struct {
	factors  []Factor
	recovery map[node.KeyHash]bool
}

func (s *factorStore) AddFactor(_ context.Context, f Factor) error {
	s.factors = append(s.factors, f)
	return nil
}

func (s *factorStore) Factors(context.Context, string) ([]Factor, error) {
	return slices.Clone(s.factors), nil
}

func (s *factorStore) ConfirmFactor(_ context.Context, id string, step int64, now time.Time) error {
	for i := range s.factors {
		if s.factors[i].ID == id {
			s.factors[i].ConfirmedAt, s.factors[i].Step = now, step
		}
	}
	return nil
}

func (s *factorStore) UseFactor(_ context.Context, id string, step int64, now time.Time) error {
	for i := range s.factors {
		if f := &s.factors[i]; f.ID == id && f.Step < step {
			f.Step, f.LastUsed = step, now
			return nil
		}
	}
	return errs.New(errs.Conflict, "used")
}

func (s *factorStore) UsePasskey(_ context.Context, id string, sealed []byte, now time.Time) error {
	for i := range s.factors {
		if f := &s.factors[i]; f.ID == id {
			f.Sealed, f.LastUsed = sealed, now
		}
	}
	return nil
}

func (s *factorStore) DeleteFactor(context.Context, string, string) error {
	s.factors, s.recovery = nil, nil
	return nil
}

func (s *factorStore) SetRecovery(_ context.Context, _ string, hashes []node.KeyHash) error {
	s.recovery = map[node.KeyHash]bool{}
	for _, h := range hashes {
		s.recovery[h] = true
	}
	return nil
}

func (s *factorStore) UseRecovery(_ context.Context, _ string, h node.KeyHash) error {
	if !s.recovery[h] {
		return errs.New(errs.NotFound, "none")
	}
	delete(s.recovery, h)
	return nil
}

func (s *factorStore) RecoveryLeft(context.Context, string) (int, error) { return len(s.recovery), nil }

// identityStore keeps identities by the name of their user.
type identityStore struct {
	of     *store
	linked map[Identity]string
}

func (s *identityStore) UserByIdentity(_ context.Context, i Identity) (User, error) {
	name, ok := s.linked[i]
	if !ok {
		return User{}, errs.New(errs.NotFound, "nobody")
	}
	return s.of.users[name], nil
}

func (s *identityStore) CreateLinked(ctx context.Context, u User, i Identity) error {
	if err := s.of.CreateUser(ctx, u); err != nil {
		return err
	}
	s.linked[i] = u.Name
	return nil
}

func (s *identityStore) Link(_ context.Context, userID string, i Identity, _ time.Time) error {
	for name, u := range s.of.users {
		if u.ID == userID {
			s.linked[i] = name
		}
	}
	return nil
}

func (s *identityStore) Unlink(_ context.Context, _ string, i Identity) error {
	delete(s.linked, i)
	return nil
}

func (s *identityStore) Identities(context.Context, string) ([]Identity, error) { return nil, nil }

// roles are those of a set of resources.
type roles map[string]*Role

func (r roles) Role(name string) *Role {
	for _, b := range Builtin() {
		if b.Name == name {
			return b
		}
	}
	return r[name]
}

func (s *store) ProveSession(_ context.Context, h node.KeyHash, now time.Time) error {
	session := s.sessions[h]
	session.ProvedAt = now
	s.sessions[h] = session
	return nil
}

func (s *store) DeleteSession(_ context.Context, h node.KeyHash) error {
	delete(s.sessions, h)
	return s.err
}

func (s *store) AppendAudit(_ context.Context, e audit.Entry) (audit.Entry, error) {
	if s.err != nil {
		return e, s.err
	}
	s.audit = append(s.audit, e.Actor+" "+e.Action+" "+e.Target)
	return e, nil
}

var errStore = errors.New("the database is gone")

func newAccounts(s *store) *Accounts {
	return New(s, roles{}, node.NewKeyer([]byte("0123456789abcdef0123456789abcdef")), nil, NoFactor, time.Now)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	if needed, err := a.SetUpNeeded(t.Context()); err != nil || !needed {
		t.Errorf("set-up needed: %v, %v", needed, err)
	}
	made, err := a.SetUp(t.Context(), "anna", password)
	if err != nil {
		t.Fatal(err)
	}
	if needed, err := a.SetUpNeeded(t.Context()); err != nil || needed {
		t.Errorf("set-up needed: %v, %v", needed, err)
	}
	if strings.Contains(made.PasswordHash, password) || !strings.HasPrefix(made.PasswordHash, "$argon2id$v=19$m=65536,t=3,p=2$") {
		t.Errorf("kept as %s", made.PasswordHash)
	}
	if u, err := a.Login(t.Context(), "anna", password, Second{}); err != nil || u.ID != made.ID {
		t.Errorf("%+v, %v", u, err)
	}
	var texts []string
	for _, try := range [][2]string{{"anna", password + " "}, {"bob", password}, {"anna", ""}, {"anna", strings.Repeat("x", maxPassword+1)}} {
		u, err := a.Login(t.Context(), try[0], try[1], Second{})
		if !errs.Is(err, errs.Unauthenticated) || u.Name != "" {
			t.Fatalf("%.40q: %+v, %v", try, u, err)
		}
		texts = append(texts, err.Error())
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("the errors differ: %q", texts)
		}
	}
	s.err = errStore
	if _, err := a.Login(t.Context(), "anna", password, Second{}); !errors.Is(err, errStore) {
		t.Errorf("a failing store: %v", err)
	}
}

// TestLogin_equalWork: an unknown name costs a hash like a known one, and the
// decoy's parameters are those of real hashes.
func TestLogin_equalWork(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	s.users["anna"] = User{Name: "anna", PasswordHash: encode(make([]byte, argonSalt), make([]byte, argonKey))}
	kept, decoy := strings.Split(s.users["anna"].PasswordHash, "$"), strings.Split(a.decoy, "$")
	for i := range kept {
		if i < 4 && kept[i] != decoy[i] || len(kept[i]) != len(decoy[i]) {
			t.Errorf("a hash is %q, the decoy %q", kept, decoy)
		}
	}
	for range maxHashing {
		a.hashing <- struct{}{} // nobody can hash
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"anna", "nobody"} {
		if _, err := a.Login(ctx, name, password, Second{}); !errs.Is(err, errs.Busy) {
			t.Errorf("%s was refused without hashing: %v", name, err)
		}
	}
	// The decoy is one that no password fits, even if somebody learned it.
	<-a.hashing
	if _, err := a.Login(t.Context(), "nobody", password, Second{}); !errs.Is(err, errs.Unauthenticated) {
		t.Error(err)
	}
}

func TestSetUp_wrong(t *testing.T) {
	t.Parallel()
	a := newAccounts(newStore())
	for range maxHashing {
		a.hashing <- struct{}{} // wrong input must not get as far as hashing
	}
	for _, tt := range []struct{ name, password, field string }{
		{"", password, "username"},
		{"Anna", password, "username"},
		{"-anna", password, "username"},
		{"anna b", password, "username"},
		{"anna\n", password, "username"},
		{strings.Repeat("a", 65), password, "username"},
		{"anna", "", "password"},
		{"anna", strings.Repeat("x", MinPassword-1), "password"},
		{"anna", strings.Repeat("x", maxPassword+1), "password"},
	} {
		_, err := a.SetUp(t.Context(), tt.name, tt.password)
		var e *errs.Error
		if !errors.As(err, &e) || e.Kind != errs.Invalid || e.Field != tt.field {
			t.Errorf("%.20q %.20q: %v", tt.name, tt.password, err)
		}
	}
	for _, ok := range []string{"kettle umbrella", "kettle umbrella" + strings.Repeat("x", maxPassword-MinPassword)} {
		if err := checkNew("anna.b@example-1_2", ok); err != nil {
			t.Errorf("%d characters: %v", len(ok), err)
		}
	}
}

func TestVerify_malformed(t *testing.T) {
	t.Parallel()
	for _, h := range []string{
		"", "x", "$argon2id$v=19$m=65536,t=3,p=2$c2FsdA", "$argon2i$v=19$m=64,t=1,p=1$c2FsdA$a2V5", "$argon2id$v=18$m=64,t=1,p=1$c2FsdA$a2V5",
		"$argon2id$v=19$m=64,t=0,p=1$c2FsdA$a2V5", "$argon2id$v=19$m=64,t=1,p=0$c2FsdA$a2V5", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$a2V5",
		"$argon2id$v=19$m=64,t=1,p=1$!$a2V5", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$!", "$argon2id$v=19$m=64,t=1,p=1$c2FsdA$",
	} {
		if verify(h, password) {
			t.Errorf("%q fits", h)
		}
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	a.now = func() time.Time { return now }
	user := User{ID: "u", Name: "anna", Roles: first()}
	for kind, life := range map[Kind]time.Duration{Cookie: 12 * time.Hour, Bearer: 30 * 24 * time.Hour} {
		now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
		secret, opened, err := a.Open(t.Context(), user, kind, Origin{})
		if err != nil || strings.HasPrefix(secret, "muster_") != (kind == Bearer) || len(secret) < 43 {
			t.Fatal(kind, secret, err)
		}
		got, err := a.Session(t.Context(), kind, secret)
		if err != nil || got.UserID != "u" || got.UserName != "anna" || got.Kind != kind || !opened.ExpiresAt.Equal(now.Add(life)) {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
		for _, p := range append(Permissions(), Public, Self) {
			if !got.May(p) {
				t.Errorf("an administrator may not %s", p)
			}
		}
		if got.May("other") {
			t.Error("an unknown permission is given")
		}
		other := map[Kind]Kind{Cookie: Bearer, Bearer: Cookie}[kind]
		for _, wrong := range []struct {
			kind   Kind
			secret string
		}{{other, secret}, {kind, ""}, {kind, secret + "x"}, {kind, strings.TrimPrefix(secret, "muster_")[1:]}, {"", secret}} {
			if got, err := a.Session(t.Context(), wrong.kind, wrong.secret); !errs.Is(err, errs.Unauthenticated) || got.UserID != "" {
				t.Errorf("%s as %+v: %+v, %v", kind, wrong, got, err)
			}
		}
		if kind == Cookie { // an open page asks now and then
			for ; now.Before(opened.ExpiresAt.Add(-cookieIdle)); now = now.Add(cookieIdle) {
				if _, err := a.Session(t.Context(), kind, secret); err != nil {
					t.Fatalf("used now and then: %v", err)
				}
			}
		}
		now = opened.ExpiresAt
		if _, err := a.Session(t.Context(), kind, secret); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s after its end: %v", kind, err)
		}
		now = now.Add(-time.Second)
		if err := a.Close(t.Context(), got); err != nil {
			t.Error(err)
		}
		if _, err := a.Session(t.Context(), kind, secret); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s after it was closed: %v", kind, err)
		}
		for h := range s.sessions {
			t.Errorf("%x is left", h)
		}
	}
	s.err = errStore
	if _, err := a.Session(t.Context(), Cookie, "x"); !errors.Is(err, errStore) {
		t.Errorf("a failing store logs people out: %v", err)
	}
}

func TestSetup(t *testing.T) {
	t.Parallel()
	s := newStore()
	voided := 0
	setup := NewSetup(newAccounts(s), audit.NewLog(s, time.Now), "the-token", func() error { voided++; return nil })
	for _, token := range []string{"", "the-toke", "the-tokem", "the-token2", "THE-TOKEN"} {
		if _, err := setup.Make(t.Context(), token, "anna", password); !errs.Is(err, errs.Forbidden) {
			t.Errorf("%q: %v", token, err)
		}
	}
	if _, err := setup.Make(t.Context(), "the-token", "anna", "short"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	s.err = errStore
	if _, err := setup.Make(t.Context(), "the-token", "anna", password); !errors.Is(err, errStore) || len(s.users) != 0 {
		t.Errorf("without an audit log: %v", err)
	}
	s.err = nil
	if len(s.audit) != 0 || voided != 0 {
		t.Errorf("%q, void %d times, before anything happened", s.audit, voided)
	}
	u, err := setup.Make(t.Context(), "the-token", "anna", password)
	if err != nil || u.Name != "anna" || voided != 1 || len(s.audit) != 1 || s.audit[0] != "setup user.create anna" {
		t.Fatalf("%+v, %v, void %d times, %q", u, err, voided, s.audit)
	}
	if _, err := setup.Make(t.Context(), "the-token", "bob", password); !errs.Is(err, errs.Conflict) || voided != 1 || len(s.users) != 1 {
		t.Errorf("the token works twice: %v", err)
	}
	none := NewSetup(newAccounts(s), audit.NewLog(s, time.Now), "", nil)
	if _, err := none.Make(t.Context(), "", "bob", password); !errs.Is(err, errs.Conflict) {
		t.Errorf("an empty token: %v", err)
	}
}

func TestProve(t *testing.T) {
	t.Parallel()
	a := New(newStore(), roles{}, node.NewKeyer([]byte("key")), nil, NoFactor, time.Now)
	u, err := a.Create(t.Context(), "ada", password, []string{Analyst})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Create(t.Context(), "ada", password, []string{Analyst}); !errs.Is(err, errs.Conflict) {
		t.Errorf("a second ada: %v", err)
	}
	if _, err := a.Create(t.Context(), "bob", "short", nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("a short password: %v", err)
	}
	_, s, err := a.Open(t.Context(), u, Bearer, Origin{})
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]errs.Kind{"": errs.Invalid, "another password": errs.Forbidden} {
		if err := a.Prove(t.Context(), s, given); !errs.Is(err, want) {
			t.Errorf("%q: %v", given, err)
		}
	}
	if err := a.Prove(t.Context(), s, password); err != nil {
		t.Error(err)
	}
	if users, err := a.Users(t.Context()); err != nil || len(users) != 1 || users[0].Name != "ada" {
		t.Error(users, err)
	}
}
