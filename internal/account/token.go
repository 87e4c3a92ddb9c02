package account

import (
	"context"
	"crypto/rand"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Token is how a program proves whose it is. It can do what its owner can, within
// its scope, and consents to nothing. Only a keyed hash of it is kept.
type Token struct {
	ID        string
	UserID    string
	UserName  string // of the owner
	Name      string
	Scope     Scope
	Networks  []netip.Prefix // from which it may call; any if there is none
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time
	RevokedAt time.Time // zero while it works
	LastUsed  time.Time // to a minute; zero if never
	LastFrom  string    // address
	Factor    bool      // who made it had a second factor

	Hash node.KeyHash
}

// forPeople are permissions that no token has: consent, and whoever makes people
// and tokens, are persons.
func forPeople() []Permission { return append(approving(), UserWrite) }

// role reads the scope of a token: what is not said is not narrowed. An error names
// the field.
func (s Scope) role() (*Role, error) {
	r := &Role{Limits: Limits{LiveTier: policy.Dangerous, ScheduleTier: policy.Dangerous, RowTier: policy.Dangerous}}
	if len(s.Permissions) == 0 {
		s.Permissions = []string{"*"}
	}
	if err := r.read(s); err != nil {
		return nil, err
	}
	r.Permissions = slices.DeleteFunc(r.Permissions, func(p Permission) bool { return slices.Contains(forPeople(), p) })
	return r, nil
}

// TokenStore keeps tokens.
type TokenStore interface {
	// CreateToken keeps a token; Conflict if its owner has one of that name that
	// works.
	CreateToken(ctx context.Context, t Token) error
	// TokenByHash returns a token with its owner; NotFound without one, if it was
	// revoked, after its end, or if the owner is disabled. The owner's Factor is set.
	TokenByHash(ctx context.Context, hash node.KeyHash, now time.Time) (Token, User, error)
	// UseToken notes when and from where a token was used.
	UseToken(ctx context.Context, id string, now time.Time, from string) error
	// Tokens returns the tokens of a user, or of all for "", the newest first; those
	// that ended are among them for some time.
	Tokens(ctx context.Context, userID string) ([]Token, error)
	// ReplaceToken is CreateToken in place of one of the same owner, which works no
	// longer than until then; NotFound without one that works.
	ReplaceToken(ctx context.Context, old string, until time.Time, t Token) error
	// EndToken revokes a token of a user; NotFound without one that works.
	EndToken(ctx context.Context, userID, id string, now time.Time) error
}

// How long tokens last.
const (
	TokenLife    = 90 * 24 * time.Hour
	MaxTokenLife = 366 * 24 * time.Hour
	maxOverlap   = 7 * 24 * time.Hour
)

// The form of a token: what scanners of secrets look for, random letters, and
// their check sum, by which anybody can tell one from a text that looks like it.
const (
	tokenPrefix  = "muster_pat_"
	tokenRandom  = 30 // of 62: 178 bits
	tokenSum     = 6  // of 62: room for 32 bits
	tokenLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

func newTokenText() string {
	text := make([]byte, 0, tokenRandom)
	var b [1]byte
	for len(text) < tokenRandom {
		_, _ = rand.Read(b[:])                                           // never fails
		if c := int(b[0]); c < 256/len(tokenLetters)*len(tokenLetters) { // all letters alike
			text = append(text, tokenLetters[c%len(tokenLetters)])
		}
	}
	return tokenPrefix + string(text) + checkSum(string(text))
}

func checkSum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	var out [tokenSum]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = tokenLetters[sum%uint32(len(tokenLetters))]
		sum /= uint32(len(tokenLetters))
	}
	return string(out[:])
}

// IsToken reports whether a text has the form of a token, check sum and all. It
// needs no server.
func IsToken(text string) bool {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	return ok && len(rest) == tokenRandom+tokenSum && checkSum(rest[:tokenRandom]) == rest[tokenRandom:]
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Name     string
	Scope    Scope
	Networks []string // as 10.0.0.0/8 or 192.0.2.7
	Life     time.Duration
	By       Session // who makes it
}

// maxNetworks bounds what is looked through for each request.
const maxNetworks = 50

// MakeToken makes a token of a user, and returns its text, which nobody can read
// again.
func (a *Accounts) MakeToken(ctx context.Context, owner User, r TokenRequest) (text string, t Token, err error) {
	now := a.now()
	t = Token{
		ID: ident.New(), UserID: owner.ID, UserName: owner.Name, Name: r.Name, Scope: r.Scope, CreatedAt: now, CreatedBy: r.By.UserName,
		ExpiresAt: now.Add(r.Life), Factor: r.By.Factor,
	}
	switch {
	case !namePattern.MatchString(r.Name):
		return "", t, errs.Field("name", "use up to 64 lower-case letters, digits and . _ @ -, beginning with a letter or digit")
	case r.Life < time.Hour || r.Life > MaxTokenLife:
		return "", t, errs.Field("expires", "must be an hour to 366 days ahead")
	case len(r.Networks) > maxNetworks:
		return "", t, errs.Field("networks", "has over %d entries", maxNetworks)
	}
	if _, err := r.Scope.role(); err != nil {
		return "", t, err
	}
	if t.Networks, err = parseNetworks(r.Networks); err != nil {
		return "", t, err
	}
	text = newTokenText()
	t.Hash = a.keyer.Hash(node.PurposeToken, text)
	return text, t, a.store.CreateToken(ctx, t)
}

func parseNetworks(texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			addr, errAddr := netip.ParseAddr(text)
			if errAddr != nil {
				return nil, errs.Field("networks", "%q is no network; write 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7", text)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// RotateToken makes a token that replaces another one of its owner: the same in all
// but its text and end. The old one works for overlap.
func (a *Accounts) RotateToken(ctx context.Context, owner User, id string, by Session, overlap time.Duration) (text string, t Token, err error) {
	if overlap < 0 || overlap > maxOverlap {
		return "", t, errs.Field("overlap", "must be at most %s", maxOverlap)
	}
	list, err := a.store.Tokens(ctx, owner.ID)
	if err != nil {
		return "", t, err
	}
	now := a.now()
	i := slices.IndexFunc(list, func(t Token) bool { return t.ID == id && t.Works(now) })
	if i < 0 {
		return "", t, errs.New(errs.NotFound, "%s has no such token that works", owner.Name)
	}
	old := list[i]
	t = old
	t.ID, t.CreatedAt, t.CreatedBy, t.LastUsed, t.LastFrom, t.Factor = ident.New(), now, by.UserName, time.Time{}, "", by.Factor
	t.ExpiresAt = now.Add(old.ExpiresAt.Sub(old.CreatedAt))
	text = newTokenText()
	t.Hash = a.keyer.Hash(node.PurposeToken, text)
	return text, t, a.store.ReplaceToken(ctx, id, now.Add(overlap), t)
}

// Works reports whether a token proves something at a time.
func (t Token) Works(now time.Time) bool { return t.RevokedAt.IsZero() && now.Before(t.ExpiresAt) }

// EndToken revokes a user's token at once; NotFound without one that works.
func (a *Accounts) EndToken(ctx context.Context, owner User, id string) error {
	return a.store.EndToken(ctx, owner.ID, id, a.now())
}

// Tokens returns the tokens of a user, the newest first.
func (a *Accounts) Tokens(ctx context.Context, u User) ([]Token, error) {
	return a.store.Tokens(ctx, u.ID)
}

// AllTokens returns everybody's tokens, the newest first.
func (a *Accounts) AllTokens(ctx context.Context) ([]Token, error) { return a.store.Tokens(ctx, "") }

// byToken returns the session that a token stands for. With the error of a good token
// that is used from where it may not be, the session says whose it is, and may nothing.
func (a *Accounts) byToken(ctx context.Context, text string) (Session, error) {
	none := errs.New(errs.Unauthenticated, "the token is unknown, expired or revoked; make another")
	if !IsToken(text) {
		return Session{}, none
	}
	now := a.now()
	t, owner, err := a.store.TokenByHash(ctx, a.keyer.Hash(node.PurposeToken, text), now)
	if errs.Is(err, errs.NotFound) {
		return Session{}, none
	}
	if err != nil {
		return Session{}, err
	}
	s := Session{
		ID: t.ID, UserID: owner.ID, UserName: owner.Name, Roles: owner.Roles, Kind: ByToken, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		LastSeen: t.LastUsed, Factor: t.Factor || owner.Factor || owner.Service, // which has none to show
	}
	from := audit.CallerOf(ctx).Address
	if !t.from(from) {
		return s, errs.New(errs.Unauthenticated, "the token may not be used from %s", from)
	}
	scope, err := t.Scope.role()
	if err != nil {
		return Session{}, err
	}
	s.Access = a.access(owner.Roles)
	a.restrict(&s) // by what its owner may do, before what is left of it
	s.Access = s.Narrow(scope)
	if now.Sub(t.LastUsed) > seenEvery {
		err = a.store.UseToken(ctx, t.ID, now, from)
	}
	return s, err
}

// from reports whether the token may be used from an address.
func (t Token) from(address string) bool {
	if len(t.Networks) == 0 {
		return true
	}
	addr, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(t.Networks, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}
