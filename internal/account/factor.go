package account

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"image/png"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// FactorKind is what a second proof is.
type FactorKind string

// The kinds.
const (
	TOTP    FactorKind = "totp"    // an authenticator that makes codes by the time (RFC 6238)
	Passkey FactorKind = "passkey" // a key that signs for this site alone (WebAuthn)
)

// Factor is a second proof of who somebody is.
type Factor struct {
	ID        string
	UserID    string
	Kind      FactorKind
	Name      string // as its owner calls it
	Sealed    []byte // its seed, or the public key, under the server's key
	Step      int64  // of the last code that was used
	CreatedAt time.Time
	// ConfirmedAt is when its owner showed that it works; before, it counts for
	// nothing. Zero until then.
	ConfirmedAt time.Time
	LastUsed    time.Time
}

// FactorStore keeps factors.
type FactorStore interface {
	// AddFactor keeps a factor that is not confirmed, in place of those of its owner
	// that are not either.
	AddFactor(ctx context.Context, f Factor) error
	// Factors returns a user's factors, the oldest first.
	Factors(ctx context.Context, userID string) ([]Factor, error)
	// ConfirmFactor lets a factor count, and UseFactor notes the use of a code;
	// Conflict if that code, or a later one, was used before.
	ConfirmFactor(ctx context.Context, id string, step int64, now time.Time) error
	UseFactor(ctx context.Context, id string, step int64, now time.Time) error
	// UsePasskey notes the use of a passkey, and how it is now.
	UsePasskey(ctx context.Context, id string, sealed []byte, now time.Time) error
	// DeleteFactor removes one of a user's factors, or all for "", and with the last
	// one the recovery codes; NotFound if there was none.
	DeleteFactor(ctx context.Context, userID, id string) error
}

// RecoveryStore keeps recovery codes.
type RecoveryStore interface {
	// SetRecovery keeps the hashes of recovery codes in place of those before.
	SetRecovery(ctx context.Context, userID string, hashes []node.KeyHash) error
	// UseRecovery takes a recovery code away; NotFound if there is none like it.
	UseRecovery(ctx context.Context, userID string, hash node.KeyHash) error
	// RecoveryLeft returns how many recovery codes a user has.
	RecoveryLeft(ctx context.Context, userID string) (int, error)
}

// The form of codes, which all authenticators know.
const (
	stepSeconds = 30
	issuer      = "Muster"
	maxFactors  = 5
)

// skew is how many steps a clock may be off: codes are typed, and phones drift.
const skew = 1

// NewFactor is what an authenticator needs to know, shown once.
type NewFactor struct {
	ID     string
	Secret string // base32, to type
	URI    string // otpauth://, to scan
	QR     string // the URI as a picture: a data: URL of a PNG
}

// AddFactor begins the enrolment of an authenticator, which ConfirmFactor ends.
func (a *Accounts) AddFactor(ctx context.Context, u User, name string) (NewFactor, error) {
	if _, err := a.mayAdd(ctx, u, name); err != nil {
		return NewFactor{}, err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: u.Name})
	if err != nil {
		return NewFactor{}, err
	}
	const side = 240
	picture, err := key.Image(side, side)
	if err != nil {
		return NewFactor{}, err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return NewFactor{}, err
	}
	f := Factor{ID: ident.New(), UserID: u.ID, Kind: TOTP, Name: name, CreatedAt: a.now()}
	f.Sealed = a.sealer.seal(f.ID, key.Secret())
	return NewFactor{f.ID, key.Secret(), key.URL(), "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())}, a.store.AddFactor(ctx, f)
}

// mayAdd refuses a further factor of a name, and returns those that there are.
func (a *Accounts) mayAdd(ctx context.Context, u User, name string) ([]Factor, error) {
	had, err := a.factors(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	if len(had) >= maxFactors {
		return nil, errs.New(errs.Conflict, "there are %d authenticators and passkeys already; remove one first", maxFactors)
	}
	const most = 64
	if name == "" || len(name) > most {
		return nil, errs.Field("name", "must have 1 to %d characters, as phone", most)
	}
	return had, nil
}

// ConfirmFactor ends an enrolment by a code of the authenticator. With the first
// one come recovery codes, which nobody can read again; none with others.
func (a *Accounts) ConfirmFactor(ctx context.Context, u User, id, code string) (recovery []string, err error) {
	all, err := a.store.Factors(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(f Factor) bool { return f.ID == id && f.ConfirmedAt.IsZero() })
	if i < 0 {
		return nil, errs.New(errs.NotFound, "there is no such authenticator to confirm; add it again")
	}
	now := a.now()
	step, err := a.step(all[i], code, now)
	if err != nil {
		return nil, err
	}
	if step == 0 {
		return nil, errs.Field("code", "is not what the authenticator shows now; look at the clocks of both")
	}
	if err := a.store.ConfirmFactor(ctx, id, step, now); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(f Factor) bool { return !f.ConfirmedAt.IsZero() }) {
		return nil, nil
	}
	return a.NewRecovery(ctx, u)
}

// recoveryCodes are how many there are: one for each phone that is lost in a life.
const recoveryCodes = 10

// NewRecovery makes recovery codes in place of those before. Each works once.
func (a *Accounts) NewRecovery(ctx context.Context, u User) ([]string, error) {
	codes, hashes := make([]string, recoveryCodes), make([]node.KeyHash, recoveryCodes)
	for i := range codes {
		id := ident.New() // 80 bits
		codes[i] = strings.Join([]string{id[:4], id[4:8], id[8:12], id[12:]}, "-")
		hashes[i] = a.recoveryHash(codes[i])
	}
	return codes, a.store.SetRecovery(ctx, u.ID, hashes)
}

func (a *Accounts) recoveryHash(code string) node.KeyHash {
	plain := strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))
	return a.keyer.Hash(node.PurposeRecovery, plain)
}

// Factors returns a user's authenticators that count, and how many recovery codes
// are left.
func (a *Accounts) Factors(ctx context.Context, u User) ([]Factor, int, error) {
	list, err := a.factors(ctx, u.ID)
	if err != nil {
		return nil, 0, err
	}
	left, err := a.store.RecoveryLeft(ctx, u.ID)
	return list, left, err
}

// RemoveFactor removes one of a user's authenticators, or all for "".
func (a *Accounts) RemoveFactor(ctx context.Context, u User, id string) error {
	return a.store.DeleteFactor(ctx, u.ID, id)
}

func (a *Accounts) factors(ctx context.Context, userID string) ([]Factor, error) {
	list, err := a.store.Factors(ctx, userID)
	return slices.DeleteFunc(list, func(f Factor) bool { return f.ConfirmedAt.IsZero() }), err
}

// Second is a second proof: a code of an authenticator or a recovery code, or what a
// browser says by a passkey.
type Second struct {
	Code    string
	Passkey PasskeyAnswer
}

// second checks the second proof of who has one. The password was right.
func (a *Accounts) second(ctx context.Context, u User, s Second) error {
	list, err := a.factors(ctx, u.ID)
	if err != nil || len(list) == 0 {
		return err
	}
	code := strings.TrimSpace(s.Code)
	switch {
	case s.Passkey.ID != "":
		return a.usePasskey(ctx, u, list, s.Passkey)
	case code == "" && slices.ContainsFunc(list, func(f Factor) bool { return f.Kind == Passkey }):
		return &errs.Error{Kind: errs.Unauthenticated, Field: PasskeyField, Message: "is needed, too; or the code of an authenticator, or a recovery code"}
	case code == "":
		return errCode("is needed, too: what your authenticator shows, or a recovery code")
	}
	return a.useCode(ctx, u, list, code)
}

// useCode checks a code with the authenticators among list, and recovery codes.
func (a *Accounts) useCode(ctx context.Context, u User, list []Factor, code string) error {
	now := a.now()
	for _, f := range list {
		if f.Kind != TOTP {
			continue
		}
		step, err := a.step(f, code, now)
		if err != nil {
			return err
		}
		if step != 0 {
			if err := a.store.UseFactor(ctx, f.ID, step, now); errs.Is(err, errs.Conflict) {
				return errCode("was used before; wait for the next one")
			} else if err != nil {
				return err
			}
			return nil
		}
	}
	err := a.store.UseRecovery(ctx, u.ID, a.recoveryHash(code))
	if errs.Is(err, errs.NotFound) {
		return errCode("is wrong")
	}
	return err
}

// The fields of the errors that ask for a second proof: a code, or one of both.
const (
	CodeField    = "code"
	PasskeyField = "passkey"
)

func errCode(why string) error {
	return &errs.Error{Kind: errs.Unauthenticated, Field: CodeField, Message: why}
}

// step returns the step of time whose code was given; 0 if it is none that is near.
func (a *Accounts) step(f Factor, code string, now time.Time) (int64, error) {
	seed, err := a.sealer.open(f.ID, f.Sealed)
	if err != nil {
		return 0, err
	}
	at := now.Unix() / stepSeconds
	found := int64(0)
	for s := at - skew; s <= at+skew; s++ {
		want, err := totp.GenerateCodeCustom(seed, time.Unix(s*stepSeconds, 0), totp.ValidateOpts{Period: stepSeconds, Digits: otp.DigitsSix})
		if err != nil {
			return 0, fmt.Errorf("authenticator %s: %w", f.ID, err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found = s
		}
	}
	return found, nil
}

// sealer keeps seeds unreadable in the database.
type sealer struct{ cipher.AEAD }

func newSealer(k node.Keyer) sealer {
	key := k.Hash(node.PurposeFactor, "")
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) //nolint:forbidigo // the key has a length that fits
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) //nolint:forbidigo // AES has blocks that fit
	}
	return sealer{aead}
}

func (s sealer) seal(id, seed string) []byte {
	return s.Seal(nil, nil, []byte(seed), []byte(id)) //nolint:gosec // it makes a nonce by itself
}

func (s sealer) open(id string, sealed []byte) (string, error) {
	b, err := s.Open(nil, nil, sealed, []byte(id))
	if err != nil {
		return "", fmt.Errorf("the seed of authenticator %s cannot be read with the server's key: %w", id, err)
	}
	return string(b), nil
}
