// Package account is about the people and programs that use Muster: who they
// are, how they prove it, and what they may do.
package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// User is one person.
type User struct {
	ID           string
	Name         string
	PasswordHash string
	Service      bool     // a program: it has tokens, no password, and consents to nothing
	Factor       bool     // it has a second factor; only where it is said to be set
	Roles        []string // names; one that there is no role of gives nothing
	Origin       string   // the provider of sign-on that made it and says its roles; "" of none
	CreatedAt    time.Time
	DisabledAt   time.Time // zero while the account works
}

// Activity is what is known of how a user logs in.
type Activity struct {
	UserID    string
	LastLogin time.Time // zero if never
	Sessions  int       // that did not end
	Factors   int       // authenticators that count
}

// Is reports whether the account works and has a role.
func (u User) Is(role string) bool {
	return u.DisabledAt.IsZero() && slices.Contains(u.Roles, role)
}

// Session is a proof of who calls: a browser's cookie or a program's bearer
// token. Only a keyed hash of its secret is kept.
type Session struct {
	ID        string // names it to people; it proves nothing
	UserID    string
	UserName  string
	Roles     []string // of the user, now
	Kind      Kind
	CreatedAt time.Time
	ExpiresAt time.Time
	LastSeen  time.Time // to a minute
	Factor    bool      // the user has a second factor
	// MustEnrol says that the user needs a second factor first: until then the session
	// may do nothing else.
	MustEnrol bool
	// MustProve says that the user has a second factor and did not show it, nor another
	// one to the provider that let them in: until then the session may do nothing else.
	MustProve bool
	Origin
	Access // what it may do, now

	Hash node.KeyHash // of its secret
}

// Origin is from where somebody called, as they say it.
type Origin struct {
	Address string
	Agent   string // the browser or program
	// Provided says that a provider of sign-on let them in, and SecondFactor that it
	// asked for one.
	Provided     bool
	SecondFactor bool
	// ProvedAt is when the person proved anew who they are, there or here; zero if never.
	ProvedAt time.Time
}

// Kind of a session.
type Kind string

// The kinds. A secret made for one is refused as the other.
const (
	Cookie  Kind = "cookie"
	Bearer  Kind = "bearer"
	ByToken Kind = "token" // of a token, for its request alone
)

// How long sessions last.
const (
	cookieLife = 12 * time.Hour
	cookieIdle = 30 * time.Minute // without a request; an open page makes some
	bearerLife = 30 * 24 * time.Hour
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// Store keeps people and sessions.
type Store interface {
	UserStore
	SessionStore
	TokenStore
	FactorStore
	RecoveryStore
	IdentityStore
	InvitationStore
}

// UserStore keeps people.
type UserStore interface {
	// CreateFirstUser keeps a user if there is none yet, else it is a Conflict.
	CreateFirstUser(ctx context.Context, u User) error
	// CreateUser keeps a user; Conflict if there is one of that name.
	CreateUser(ctx context.Context, u User) error
	// Users returns all users by name, without password hashes.
	Users(ctx context.Context) ([]User, error)
	// Activity returns how all users log in.
	Activity(ctx context.Context, now time.Time) ([]Activity, error)
	// UpdateUser changes a user by name; NotFound without one. change gets the user
	// and all others as they are, nobody else changes one meanwhile, and with its
	// error nothing happens. Sessions and tokens of who is disabled end for good.
	UpdateUser(ctx context.Context, name string, change func(u *User, others []User) error) (User, error)
	// HasUsers reports whether there is any user.
	HasUsers(ctx context.Context) (bool, error)
	// UserByName returns a user; NotFound without one.
	UserByName(ctx context.Context, name string) (User, error)
}

// SessionStore keeps sessions.
type SessionStore interface {
	// CreateSession keeps a session under a hash.
	CreateSession(ctx context.Context, hash node.KeyHash, s Session) error
	// SessionByHash returns a session with its user's name and roles; NotFound
	// without one, after its end, or if the user is disabled.
	SessionByHash(ctx context.Context, hash node.KeyHash, now time.Time) (Session, error)
	// SeeSession notes that a session was used.
	SeeSession(ctx context.Context, hash node.KeyHash, now time.Time) error
	// ProveSession notes that a session's owner proved once more who they are; no
	// session must prove that after it.
	ProveSession(ctx context.Context, hash node.KeyHash, now time.Time) error
	// Sessions returns the sessions of a user that did not end, the newest first.
	Sessions(ctx context.Context, userID string, now time.Time) ([]Session, error)
	// EndSessions ends a user's sessions but the one with hash keep, and returns how
	// many.
	EndSessions(ctx context.Context, userID string, keep node.KeyHash) (int, error)
	// DeleteSession ends a session; one that is not there is no error.
	DeleteSession(ctx context.Context, hash node.KeyHash) error
}

// Roles knows the roles that there are.
type Roles interface {
	// Role returns a role by name; nil without one.
	Role(name string) *Role
}

// Accounts proves who people are. Safe for concurrent use.
type Accounts struct {
	store   Store
	roles   Roles
	keyer   node.Keyer
	now     func() time.Time
	hashing chan struct{}
	decoy   string

	throttle *throttle
	sealer   sealer
	passkeys *Passkeys
	require  Requirement
}

// maxHashing bounds how many passwords are hashed at once: each takes 64 MiB.
const maxHashing = 2

// Requirement is who needs a second factor. Who needs one and has none can add one,
// and nothing else.
type Requirement string

// The requirements.
const (
	NoFactor       Requirement = "off"
	FactorApproval Requirement = "approvers" // whoever may consent to what others want
	FactorAll      Requirement = "all"
)

// New returns Accounts on a store.
func New(store Store, roles Roles, keyer node.Keyer, passkeys *Passkeys, require Requirement, now func() time.Time) *Accounts {
	return &Accounts{
		store: store, roles: roles, keyer: keyer, now: now, hashing: make(chan struct{}, maxHashing), decoy: encode(random(argonSalt), random(argonKey)),
		throttle: newThrottle(now), sealer: newSealer(keyer), passkeys: passkeys, require: require,
	}
}

// restrict takes all access from a session whose user needs a second factor and has
// none, or has one and is still to show it.
func (a *Accounts) restrict(s *Session) {
	needs := a.require == FactorAll || a.require == FactorApproval && slices.ContainsFunc(approving(), s.May)
	if s.MustEnrol = needs && !s.Factor; s.MustEnrol || s.MustProve {
		s.Access = Access{}
	}
}

// first are the roles of who sets a server up: alone, one needs all there are.
func first() []string { return []string{Admin, Operator} }

// SetUp makes the first administrator. It is a Conflict when there is one.
func (a *Accounts) SetUp(ctx context.Context, name, password string) (User, error) {
	if err := checkNew(name, password); err != nil {
		return User{}, err
	}
	hashed, err := a.hashed(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := User{ID: ident.New(), Name: name, PasswordHash: hashed, Roles: first(), CreatedAt: a.now()}
	return u, a.store.CreateFirstUser(ctx, u)
}

// Create makes a further user with some roles.
func (a *Accounts) Create(ctx context.Context, name, password string, roles []string) (User, error) {
	if err := checkNew(name, password); err != nil {
		return User{}, err
	}
	if err := a.CheckRoles(roles); err != nil {
		return User{}, err
	}
	hashed, err := a.hashed(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := User{ID: ident.New(), Name: name, PasswordHash: hashed, Roles: sorted(roles), CreatedAt: a.now()}
	return u, a.store.CreateUser(ctx, u)
}

// Users returns all users by name.
func (a *Accounts) Users(ctx context.Context) ([]User, error) { return a.store.Users(ctx) }

// Activity returns how users log in, by their ids.
func (a *Accounts) Activity(ctx context.Context) (map[string]Activity, error) {
	list, err := a.store.Activity(ctx, a.now())
	out := make(map[string]Activity, len(list))
	for _, one := range list {
		out[one.UserID] = one
	}
	return out, err
}

// Personal refuses what a token may not do for its owner.
func (s Session) Personal() error {
	if s.Kind == ByToken {
		return errs.New(errs.Forbidden, "a token cannot do this; a person must log in")
	}
	return nil
}

// Prove checks the password of a session's owner once more, so that a token
// alone is not enough for what follows.
func (a *Accounts) Prove(ctx context.Context, s Session, password string) error {
	if err := s.Personal(); err != nil {
		return err
	}
	if a.now().Before(s.ProvedUntil()) {
		return nil
	}
	if password == "" {
		return errs.Field("password", "is missing; a token alone cannot do this, so prove who you are")
	}
	_, err := a.tried(ctx, s.UserName, func() (User, error) { return a.check(ctx, s.UserName, password) })
	if errs.Is(err, errs.Unauthenticated) {
		return errs.New(errs.Forbidden, "the password is wrong")
	}
	return err
}

// CheckProof checks once more who a session's owner is: by their password, or by a second
// proof of theirs, which is all that somebody has who logs in at a provider.
func (a *Accounts) CheckProof(ctx context.Context, s Session, password string, second Second) error {
	if err := s.Personal(); err != nil {
		return err
	}
	switch without := second.Code == "" && second.Passkey.ID == ""; {
	case without && s.MustProve:
		return errs.Field("code", "is missing; or give a passkey: a second proof is asked for")
	case without && password == "":
		return errs.Field("password", "is missing; or give a code or a passkey")
	}
	_, err := a.tried(ctx, s.UserName, func() (User, error) {
		if password != "" && !s.MustProve {
			return a.check(ctx, s.UserName, password)
		}
		u, err := a.store.UserByName(ctx, s.UserName)
		if err != nil {
			return u, err
		}
		list, err := a.factors(ctx, u.ID)
		switch {
		case err != nil:
			return u, err
		case second.Passkey.ID != "":
			return u, a.usePasskey(ctx, u, list, second.Passkey)
		}
		return u, a.useCode(ctx, u, list, second.Code)
	})
	if errs.Is(err, errs.Unauthenticated) {
		return errs.New(errs.Forbidden, "that is wrong; try again")
	}
	return err
}

// ProveSession lets a session's owner do for some minutes what asks for a password. They
// passed CheckProof.
func (a *Accounts) ProveSession(ctx context.Context, s Session) error {
	return a.store.ProveSession(ctx, s.Hash, a.now())
}

// Proof is how a person can prove once more who they are.
type Proof string

// The proofs.
const (
	ByPassword Proof = "password"
	ByCode     Proof = "code"
	ByPasskey  Proof = "passkey"
	ByProvider Proof = "provider"
)

// Proofs returns how a session's owner can prove who they are, and the provider that
// they log in at; none of a token.
func (a *Accounts) Proofs(ctx context.Context, s Session) (can []Proof, provider string, err error) {
	if s.Kind == ByToken {
		return nil, "", nil
	}
	u, err := a.store.UserByName(ctx, s.UserName)
	if err != nil {
		return nil, "", err
	}
	list, err := a.factors(ctx, u.ID)
	if u.PasswordHash != "" {
		can = append(can, ByPassword)
	}
	for kind, proof := range map[FactorKind]Proof{TOTP: ByCode, Passkey: ByPasskey} {
		if slices.ContainsFunc(list, func(f Factor) bool { return f.Kind == kind }) {
			can = append(can, proof)
		}
	}
	if u.Origin != "" {
		can = append(can, ByProvider)
	}
	slices.Sort(can)
	return can, u.Origin, err
}

// checkNew refuses names and passwords that a new user cannot have.
func checkNew(name, password string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return checkPassword(name, password)
}

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return errs.Field("username", "use up to 64 lower-case letters, digits and . _ @ -, beginning with a letter or digit")
	}
	return nil
}

// Login returns the user with that name and password, and a second proof if they have
// one. The error does not tell whether name or password was wrong, and takes as long
// either way; one about the field code or passkey says that both were right. Who tries
// too often from somewhere must wait.
func (a *Accounts) Login(ctx context.Context, name, password string, second Second) (User, error) {
	u, err := a.tried(ctx, name, func() (User, error) {
		u, err := a.check(ctx, name, password)
		if err == nil {
			err = a.second(ctx, u, second)
		}
		return u, err
	})
	if err != nil {
		return User{}, err
	}
	a.throttle.succeeded(name, networkOf(audit.CallerOf(ctx).Address))
	if outdated(u.PasswordHash) {
		_ = a.renew(ctx, u, password) // nothing is lost: the next login tries again
	}
	return u, nil
}

// tried runs one try to prove to be somebody, if it may be made now, and counts it if
// it fails.
func (a *Accounts) tried(ctx context.Context, name string, try func() (User, error)) (User, error) {
	network := networkOf(audit.CallerOf(ctx).Address)
	if err := a.mayTry(ctx, name, network); err != nil {
		return User{}, err
	}
	u, err := try()
	if errs.Is(err, errs.Unauthenticated) {
		a.throttle.failed(name, network)
	}
	return u, err
}

// mayTry refuses who must wait. That an owner is logged in from a network is looked
// for only if it makes a difference.
func (a *Accounts) mayTry(ctx context.Context, name string, network netip.Prefix) error {
	wait := a.throttle.wait(name, network, false)
	if wait == 0 {
		return nil
	}
	if u, err := a.store.UserByName(ctx, name); err == nil {
		sessions, err := a.store.Sessions(ctx, u.ID, a.now())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(sessions, func(s Session) bool { return networkOf(s.Address) == network }) {
			wait = a.throttle.wait(name, network, true)
		}
	}
	if wait == 0 {
		return nil
	}
	return errWait(wait)
}

// check returns the user with that name and password.
func (a *Accounts) check(ctx context.Context, name, password string) (User, error) {
	wrong := errs.New(errs.Unauthenticated, "name or password is wrong")
	if len(password) > maxPassword {
		return User{}, wrong
	}
	u, err := a.store.UserByName(ctx, name)
	known := err == nil
	if err != nil && !errs.Is(err, errs.NotFound) {
		return User{}, err
	}
	if !known || u.PasswordHash == "" {
		u.PasswordHash, known = a.decoy, false
	}
	var ok bool
	if err := a.limited(ctx, func() { ok = verify(u.PasswordHash, password) }); err != nil {
		return User{}, err
	}
	if !known || !ok || !u.DisabledAt.IsZero() {
		return User{}, wrong
	}
	return u, nil
}

// Open begins a session and returns the secret that proves it, which nobody
// can read again.
func (a *Accounts) Open(ctx context.Context, u User, kind Kind, from Origin) (secret string, s Session, err error) {
	life := cookieLife
	secret = ident.Secret()
	if kind == Bearer {
		life = bearerLife
		secret = bearerPrefix + secret
	}
	now := a.now()
	key := a.keyer.Hash(node.PurposeSession, secret)
	s = Session{
		ID: sessionID(key), UserID: u.ID, UserName: u.Name, Roles: u.Roles, Kind: kind, CreatedAt: now, ExpiresAt: now.Add(life), LastSeen: now,
		Origin: from.bounded(), Access: a.access(u.Roles), Hash: key,
	}
	factors, err := a.factors(ctx, u.ID)
	if err != nil {
		return "", s, err
	}
	s.Factor = len(factors) > 0 || from.SecondFactor
	s.MustProve = len(factors) > 0 && from.Provided && !from.SecondFactor
	a.restrict(&s)
	return secret, s, a.store.CreateSession(ctx, key, s)
}

// bounded cuts what the other side chose.
func (o Origin) bounded() Origin {
	const most = 200
	o.Address, o.Agent = o.Address[:min(len(o.Address), most)], strings.ToValidUTF8(o.Agent[:min(len(o.Agent), most)], "")
	return o
}

// sessionID names a session by a part of its keyed hash.
func sessionID(hash node.KeyHash) string { return hex.EncodeToString(hash[:8]) }

// access returns what the holder of roles may do now.
func (a *Accounts) access(names []string) Access {
	var roles []*Role
	for _, name := range names {
		if r := a.roles.Role(name); r != nil {
			roles = append(roles, r)
		}
	}
	return NewAccess(roles)
}

// provedFor is how long a proof stands in for a password.
const provedFor = 5 * time.Minute

// ProvedUntil is until when nothing asks a session's owner for their password.
func (s Session) ProvedUntil() time.Time { return s.ProvedAt.Add(provedFor) }

// bearerPrefix lets secret scanners know a token when they see one.
const bearerPrefix = "muster_"

// seenEvery is how exact it is known when a session was used.
const seenEvery = time.Minute

// Session returns the session that a secret proves, with what it may do now;
// Unauthenticated without. Beside that error it is empty, or of a good token that was
// used from where it may not be.
func (a *Accounts) Session(ctx context.Context, kind Kind, secret string) (Session, error) {
	none := errs.New(errs.Unauthenticated, "log in first")
	if secret == "" {
		return Session{}, none
	}
	if kind == Bearer && strings.HasPrefix(secret, tokenPrefix) {
		return a.byToken(ctx, secret)
	}
	key := a.keyer.Hash(node.PurposeSession, secret)
	now := a.now()
	s, err := a.store.SessionByHash(ctx, key, now)
	if errs.Is(err, errs.NotFound) || (err == nil && s.Kind != kind) {
		return Session{}, none
	}
	if err != nil {
		return Session{}, err
	}
	idle := now.Sub(s.LastSeen)
	if kind == Cookie && idle > cookieIdle {
		return Session{}, none
	}
	s.ID, s.Hash, s.Access = sessionID(key), key, a.access(s.Roles)
	a.restrict(&s)
	if idle > seenEvery {
		err = a.store.SeeSession(ctx, key, now)
	}
	return s, err
}

// Close ends a session that Session returned.
func (a *Accounts) Close(ctx context.Context, s Session) error {
	return a.store.DeleteSession(ctx, s.Hash)
}

// SetUpNeeded reports whether the first administrator is still to be made.
func (a *Accounts) SetUpNeeded(ctx context.Context) (bool, error) {
	has, err := a.store.HasUsers(ctx)
	return !has, err
}

// hashed hashes a password when few others are hashed.
func (a *Accounts) hashed(ctx context.Context, password string) (hashed string, err error) {
	err = a.limited(ctx, func() { hashed = hash(password) })
	return hashed, err
}

// limited runs f when few others run.
func (a *Accounts) limited(ctx context.Context, f func()) error {
	select {
	case a.hashing <- struct{}{}:
	case <-ctx.Done():
		return errs.Wrap(errs.Busy, ctx.Err(), "too many logins at once; try again")
	}
	defer func() { <-a.hashing }()
	f()
	debug.FreeOSMemory() // 64 MiB were needed for a moment; do not keep them
	return nil
}

// Parameters of argon2id: the second choice of RFC 9106 §4, for servers whose
// memory is not free.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 2
	argonSalt    = 16
	argonKey     = 32
)

func hash(password string) string {
	salt := random(argonSalt)
	return encode(salt, argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey))
}

// encode writes a hash with its parameters, so that they can change later.
func encode(salt, key []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads, b64(salt), b64(key))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

func verify(hashed, password string) bool {
	parts := strings.Split(hashed, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false
	}
	var version int
	var memory, passes uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil || passes == 0 || threads == 0 {
		return false
	}
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	want, errKey := base64.RawStdEncoding.DecodeString(parts[5])
	if errSalt != nil || errKey != nil || len(want) != argonKey {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, threads, argonKey)
	return subtle.ConstantTimeCompare(got, want) == 1
}
