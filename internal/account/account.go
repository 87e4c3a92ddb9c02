// Package account is about the people and programs that use Muster: who they
// are, how they prove it, and what they may do.
package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// Permission is a verb on a kind of thing. Every route of the admin API
// declares the one that it needs.
type Permission string

// The permissions. Public needs no session, Self any session.
const (
	Public      Permission = "public"
	Self        Permission = "self"
	NodeRead    Permission = "node.read"
	NodeWrite   Permission = "node.write"
	SecretRead  Permission = "secret.read"
	SecretWrite Permission = "secret.write"
	LiveRead    Permission = "live.read"
	LiveRun     Permission = "live.run"
	LiveApprove Permission = "live.approve" // consent to others' live queries, or reject them
	EventRead   Permission = "event.read"
	AuditRead   Permission = "audit.read"
	SystemRead  Permission = "system.read"

	ResourceRead  Permission = "resource.read"  // what agents run, and what may change
	ChangeWrite   Permission = "change.write"   // propose, apply, withdraw and restore
	ChangeApprove Permission = "change.approve" // consent to others' changes, or reject them
	RolloutWrite  Permission = "rollout.write"  // move a rollout on, pause it, go back
	FreezeWrite   Permission = "freeze.write"   // freeze, thaw and break-glass
	Emergency     Permission = "emergency.write"
	TriggerWrite  Permission = "trigger.write" // make and revoke the tokens of triggers
	SinkRead      Permission = "sink.read"
	SinkWrite     Permission = "sink.write" // pause, resume, replay and test sinks; their dead letters
	CarveRead     Permission = "carve.read"
	AlertRead     Permission = "alert.read"
	AlertWrite    Permission = "alert.write"    // acknowledge, assign, comment, resolve, reopen
	SilenceWrite  Permission = "silence.write"  // keep alerts from being told
	NotifierWrite Permission = "notifier.write" // test notifiers, have dead letters told again
	CarveRun      Permission = "carve.run"
	CarveDownload Permission = "carve.download"
	UserRead      Permission = "user.read"
	UserWrite     Permission = "user.write"
)

// Permissions returns all that a person can have. Until there are roles,
// everybody is an administrator and has them all.
func Permissions() []Permission {
	return []Permission{
		NodeRead, NodeWrite, SecretRead, SecretWrite, LiveRead, LiveRun, LiveApprove, EventRead, AuditRead, SystemRead,
		ResourceRead, ChangeWrite, ChangeApprove, RolloutWrite, FreezeWrite, Emergency, CarveRead, CarveRun, CarveDownload,
		TriggerWrite, SinkRead, SinkWrite, AlertRead, AlertWrite, SilenceWrite, NotifierWrite, UserRead, UserWrite,
	}
}

// User is one person.
type User struct {
	ID           string
	Name         string
	PasswordHash string
	CreatedAt    time.Time
}

// Session is a proof of who calls: a browser's cookie or a program's bearer
// token. Only a keyed hash of its secret is kept.
type Session struct {
	UserID    string
	UserName  string
	Kind      Kind
	CreatedAt time.Time
	ExpiresAt time.Time

	hash node.KeyHash
}

// May reports whether the session's owner has a permission.
func (s Session) May(p Permission) bool {
	return p == Public || p == Self || slices.Contains(Permissions(), p)
}

// Kind of a session.
type Kind string

// The kinds. A secret made for one is refused as the other.
const (
	Cookie Kind = "cookie"
	Bearer Kind = "bearer"
)

// How long sessions last.
const (
	cookieLife = 12 * time.Hour
	bearerLife = 30 * 24 * time.Hour
)

// MinPassword is the shortest password, in bytes.
const MinPassword = 12

// maxPassword bounds what is hashed.
const maxPassword = 1024

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`)

// Store keeps people and sessions.
type Store interface {
	// CreateFirstUser keeps a user if there is none yet, else it is a Conflict.
	CreateFirstUser(ctx context.Context, u User) error
	// CreateUser keeps a user; Conflict if there is one of that name.
	CreateUser(ctx context.Context, u User) error
	// Users returns all users by name, without password hashes.
	Users(ctx context.Context) ([]User, error)
	// HasUsers reports whether there is any user.
	HasUsers(ctx context.Context) (bool, error)
	// UserByName returns a user; NotFound without one.
	UserByName(ctx context.Context, name string) (User, error)
	// CreateSession keeps a session under a hash.
	CreateSession(ctx context.Context, hash node.KeyHash, s Session) error
	// SessionByHash returns a session; NotFound without one or after its end.
	SessionByHash(ctx context.Context, hash node.KeyHash, now time.Time) (Session, error)
	// DeleteSession ends a session; one that is not there is no error.
	DeleteSession(ctx context.Context, hash node.KeyHash) error
}

// Accounts proves who people are. Safe for concurrent use.
type Accounts struct {
	store   Store
	keyer   node.Keyer
	now     func() time.Time
	hashing chan struct{}
	decoy   string
}

// maxHashing bounds how many passwords are hashed at once: each takes 64 MiB.
const maxHashing = 2

// New returns Accounts on a store.
func New(store Store, keyer node.Keyer, now func() time.Time) *Accounts {
	return &Accounts{store: store, keyer: keyer, now: now, hashing: make(chan struct{}, maxHashing), decoy: encode(random(argonSalt), random(argonKey))}
}

// SetUp makes the first administrator. It is a Conflict when there is one.
func (a *Accounts) SetUp(ctx context.Context, name, password string) (User, error) {
	if err := checkNew(name, password); err != nil {
		return User{}, err
	}
	var hashed string
	if err := a.limited(ctx, func() { hashed = hash(password) }); err != nil {
		return User{}, err
	}
	u := User{ID: ident.New(), Name: name, PasswordHash: hashed, CreatedAt: a.now()}
	return u, a.store.CreateFirstUser(ctx, u)
}

// Create makes a further user, who is an administrator as all are until there
// are roles.
func (a *Accounts) Create(ctx context.Context, name, password string) (User, error) {
	if err := checkNew(name, password); err != nil {
		return User{}, err
	}
	var hashed string
	if err := a.limited(ctx, func() { hashed = hash(password) }); err != nil {
		return User{}, err
	}
	u := User{ID: ident.New(), Name: name, PasswordHash: hashed, CreatedAt: a.now()}
	return u, a.store.CreateUser(ctx, u)
}

// Users returns all users by name.
func (a *Accounts) Users(ctx context.Context) ([]User, error) { return a.store.Users(ctx) }

// Prove checks the password of a session's owner once more, so that a token
// alone is not enough for what follows.
func (a *Accounts) Prove(ctx context.Context, s Session, password string) error {
	if password == "" {
		return errs.Field("password", "is missing; a token alone cannot do this, so prove who you are")
	}
	if _, err := a.Login(ctx, s.UserName, password); err != nil {
		if errs.Is(err, errs.Unauthenticated) {
			return errs.New(errs.Forbidden, "the password is wrong")
		}
		return err
	}
	return nil
}

// checkNew refuses names and passwords that a new user cannot have.
func checkNew(name, password string) error {
	if !namePattern.MatchString(name) {
		return errs.Field("username", "use up to 64 lower-case letters, digits and . _ @ -, beginning with a letter or digit")
	}
	if len(password) < MinPassword || len(password) > maxPassword {
		return errs.Field("password", "must have %d to %d characters", MinPassword, maxPassword)
	}
	return nil
}

// Login returns the user with that name and password. The error does not tell
// which of both was wrong, and takes as long either way.
func (a *Accounts) Login(ctx context.Context, name, password string) (User, error) {
	wrong := errs.New(errs.Unauthenticated, "name or password is wrong")
	if len(password) > maxPassword {
		return User{}, wrong
	}
	u, err := a.store.UserByName(ctx, name)
	known := err == nil
	if err != nil && !errs.Is(err, errs.NotFound) {
		return User{}, err
	}
	if !known {
		u.PasswordHash = a.decoy
	}
	var ok bool
	if err := a.limited(ctx, func() { ok = verify(u.PasswordHash, password) }); err != nil {
		return User{}, err
	}
	if !known || !ok {
		return User{}, wrong
	}
	return u, nil
}

// Open begins a session and returns the secret that proves it, which nobody
// can read again.
func (a *Accounts) Open(ctx context.Context, u User, kind Kind) (secret string, s Session, err error) {
	life := cookieLife
	secret = ident.Secret()
	if kind == Bearer {
		life = bearerLife
		secret = bearerPrefix + secret
	}
	now := a.now()
	s = Session{UserID: u.ID, UserName: u.Name, Kind: kind, CreatedAt: now, ExpiresAt: now.Add(life)}
	return secret, s, a.store.CreateSession(ctx, a.keyer.Hash(node.PurposeSession, secret), s)
}

// bearerPrefix lets secret scanners know a token when they see one.
const bearerPrefix = "muster_"

// Session returns the session that a secret proves; Unauthenticated without.
func (a *Accounts) Session(ctx context.Context, kind Kind, secret string) (Session, error) {
	none := errs.New(errs.Unauthenticated, "log in first")
	if secret == "" {
		return Session{}, none
	}
	key := a.keyer.Hash(node.PurposeSession, secret)
	s, err := a.store.SessionByHash(ctx, key, a.now())
	if errs.Is(err, errs.NotFound) || (err == nil && s.Kind != kind) {
		return Session{}, none
	}
	s.hash = key
	return s, err
}

// Close ends a session that Session returned.
func (a *Accounts) Close(ctx context.Context, s Session) error {
	return a.store.DeleteSession(ctx, s.hash)
}

// SetUpNeeded reports whether the first administrator is still to be made.
func (a *Accounts) SetUpNeeded(ctx context.Context) (bool, error) {
	has, err := a.store.HasUsers(ctx)
	return !has, err
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
