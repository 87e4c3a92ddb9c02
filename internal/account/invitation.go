package account

import (
	"context"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

// Invitation lets somebody choose a password by a link that works once: of a new
// account, or of one that there is. So nobody knows another's password.
type Invitation struct {
	ID        string
	Name      string   // of the account
	Reset     bool     // of one that there is, whose password works until then
	Roles     []string // of a new one
	By        string
	CreatedAt time.Time
	ExpiresAt time.Time

	Hash node.KeyHash // of the link's token
}

// InvitationStore keeps invitations.
type InvitationStore interface {
	// CreateInvitation keeps one in place of another for the same name, and forgets
	// those that ended.
	CreateInvitation(ctx context.Context, i Invitation) error
	// Invitations returns those that did not end, the newest first.
	Invitations(ctx context.Context, now time.Time) ([]Invitation, error)
	// InvitationByHash returns one that did not end; NotFound without.
	InvitationByHash(ctx context.Context, hash node.KeyHash, now time.Time) (Invitation, error)
	// AcceptInvitation forgets one and, at once, keeps its new user; or gives the user
	// that there is u's password, which ends all their sessions. NotFound if it was
	// accepted before or its user works no more, Conflict if the name was taken
	// meanwhile.
	AcceptInvitation(ctx context.Context, i Invitation, u User) error
	// DeleteInvitation forgets one by its id; NotFound without.
	DeleteInvitation(ctx context.Context, id string) error
}

// InvitationLife is how long a link works: over a weekend.
const InvitationLife = 72 * time.Hour

// Invite makes an invitation for a new person with some roles, and returns the token
// of its link, which nobody can read again.
func (a *Accounts) Invite(ctx context.Context, name string, roles []string, by string) (token string, i Invitation, err error) {
	if err := checkName(name); err != nil {
		return "", i, err
	}
	if err := a.CheckRoles(roles); err != nil {
		return "", i, err
	}
	if _, err := a.store.UserByName(ctx, name); err == nil {
		return "", i, errs.New(errs.Conflict, "there is a user %s; invite them to choose another password, with reset", name)
	} else if !errs.Is(err, errs.NotFound) {
		return "", i, err
	}
	return a.invite(ctx, Invitation{Name: name, Roles: sorted(roles), By: by})
}

// InviteReset makes an invitation for a person to choose another password.
func (a *Accounts) InviteReset(ctx context.Context, name, by string) (token string, i Invitation, err error) {
	u, err := a.store.UserByName(ctx, name)
	if err == nil {
		err = u.hasPassword()
	}
	if err == nil && !u.DisabledAt.IsZero() {
		err = errs.New(errs.Conflict, "%s is disabled; enable the account first", name)
	}
	if err != nil {
		return "", i, err
	}
	return a.invite(ctx, Invitation{Name: name, Reset: true, By: by})
}

func (a *Accounts) invite(ctx context.Context, i Invitation) (string, Invitation, error) {
	token := ident.Secret()
	i.ID, i.CreatedAt, i.Hash = ident.New(), a.now(), a.keyer.Hash(node.PurposeInvitation, token)
	i.ExpiresAt = i.CreatedAt.Add(InvitationLife)
	return token, i, a.store.CreateInvitation(ctx, i)
}

// Invitations returns those that work, the newest first.
func (a *Accounts) Invitations(ctx context.Context) ([]Invitation, error) {
	return a.store.Invitations(ctx, a.now())
}

// Uninvite ends an invitation.
func (a *Accounts) Uninvite(ctx context.Context, id string) error {
	return a.store.DeleteInvitation(ctx, id)
}

// Invitation returns what the token of a link is for; NotFound once it was used.
func (a *Accounts) Invitation(ctx context.Context, token string) (Invitation, error) {
	i, err := a.store.InvitationByHash(ctx, a.keyer.Hash(node.PurposeInvitation, token), a.now())
	if errs.Is(err, errs.NotFound) {
		err = errs.New(errs.NotFound, "the link was used, taken back, or is too old; ask for another")
	}
	return i, err
}

// CheckAccept refuses what Accept would.
func (a *Accounts) CheckAccept(i Invitation, password string) error {
	if err := checkPassword(i.Name, password); err != nil {
		return err
	}
	if i.Reset {
		return nil
	}
	return a.CheckRoles(i.Roles) // one may have gone since
}

// Accept makes the account of an invitation, or gives it the password. It opens no
// session: who has a second factor must show it.
func (a *Accounts) Accept(ctx context.Context, i Invitation, password string) error {
	if err := a.CheckAccept(i, password); err != nil {
		return err
	}
	hashed, err := a.hashed(ctx, password)
	if err != nil {
		return err
	}
	return a.store.AcceptInvitation(ctx, i, User{ID: ident.New(), Name: i.Name, PasswordHash: hashed, Roles: i.Roles, CreatedAt: a.now()})
}
