package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

func (a *API) registerInvitations() {
	register(a, account.UserRead, http.MethodGet, "/invitations", "List links that still work, the newest first", a.listInvitations)
	register(a, account.UserWrite, http.MethodPost, "/invitations", "Make a link by which a new person, or one that there is, chooses a password", a.invite)
	register(a, account.UserWrite, http.MethodDelete, "/invitations/{id}", "End a link", a.uninvite)
	register(a, account.Public, http.MethodPost, "/invitations/look", "What a link is for", a.lookInvitation)
	register(a, account.Public, http.MethodPost, "/invitations/accept", "Choose a password by a link, which works once", a.acceptInvitation)
}

// InvitationInput invites somebody.
type InvitationInput struct {
	Name  string   `json:"name" minLength:"1" maxLength:"64"`
	Roles []string `json:"roles,omitempty" maxItems:"20" doc:"Of a new person"`
	Reset bool     `json:"reset,omitempty" doc:"For a person that there is, to choose another password; the one before works until then"`
	Own   string   `json:"own_password" doc:"Yours, once more" maxLength:"1024"`
}

// Invitation is a link by which somebody chooses a password.
type Invitation struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Reset     bool      `json:"reset" doc:"For a person that there is, to choose another password"`
	Roles     []string  `json:"roles"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Path      string    `json:"path,omitempty" doc:"Of the link on this server; only in the answer that makes it"`
}

// InvitationToken is what stands in a link.
type InvitationToken struct {
	Token string `json:"token" minLength:"1" maxLength:"128"`
}

// Invited is what a link is for.
type Invited struct {
	Name  string   `json:"name" doc:"The user name to log in with"`
	Reset bool     `json:"reset" doc:"The account is there already"`
	Roles []string `json:"roles"`
}

// AcceptInput chooses a password.
type AcceptInput struct {
	InvitationToken

	Password string `json:"password" doc:"At least 15 characters" maxLength:"1024"`
}

func invitationDocument(i account.Invitation) Invitation {
	return Invitation{ID: i.ID, Name: i.Name, Reset: i.Reset, Roles: list(i.Roles), CreatedBy: i.By, CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC()}
}

func (a *API) listInvitations(ctx context.Context, _ *none) (*body[[]Invitation], error) {
	all, err := a.Accounts.Invitations(ctx)
	out := make([]Invitation, 0, len(all))
	for _, i := range all {
		out = append(out, invitationDocument(i))
	}
	return &body[[]Invitation]{out}, err
}

func (a *API) invite(ctx context.Context, in *body[InvitationInput]) (*body[Invitation], error) {
	name, by := in.Body.Name, session(ctx).UserName
	if err := checkOwnName(name); err != nil {
		return nil, err
	}
	switch {
	case in.Body.Reset && len(in.Body.Roles) > 0:
		return nil, errs.Field("roles", "stands beside reset: who is there keeps their roles")
	case !in.Body.Reset && len(in.Body.Roles) == 0:
		return nil, errs.Field("roles", "is missing: what a new person may do; see /roles")
	}
	if err := a.Accounts.CheckRoles(in.Body.Roles); err != nil {
		return nil, err
	}
	const action = "user.invite"
	if err := a.prove(ctx, action, name, in.Body.Own); err != nil {
		return nil, err
	}
	if err := a.recordUser(ctx, action, name, map[string]any{"roles": in.Body.Roles, "reset": in.Body.Reset}); err != nil {
		return nil, err
	}
	var token string
	var i account.Invitation
	var err error
	if in.Body.Reset {
		token, i, err = a.Accounts.InviteReset(ctx, name, by)
	} else {
		token, i, err = a.Accounts.Invite(ctx, name, in.Body.Roles, by)
	}
	if err != nil {
		return nil, err
	}
	out := invitationDocument(i)
	out.Path = "/invite#token=" + token // a fragment is neither sent nor logged
	return &body[Invitation]{out}, nil
}

// InvitationRef names an invitation in a path.
type InvitationRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) uninvite(ctx context.Context, in *InvitationRef) (*none, error) {
	if err := a.recordUser(ctx, "user.uninvite", in.ID, nil); err != nil {
		return nil, err
	}
	return nil, a.Accounts.Uninvite(ctx, in.ID)
}

func (a *API) lookInvitation(ctx context.Context, in *body[InvitationToken]) (*body[Invited], error) {
	i, err := a.Accounts.Invitation(ctx, in.Body.Token)
	if err != nil {
		return nil, err
	}
	return &body[Invited]{Invited{Name: i.Name, Reset: i.Reset, Roles: list(i.Roles)}}, nil
}

func (a *API) acceptInvitation(ctx context.Context, in *body[AcceptInput]) (*none, error) {
	i, err := a.Accounts.Invitation(ctx, in.Body.Token)
	if err != nil {
		return nil, err
	}
	if err := a.Accounts.CheckAccept(i, in.Body.Password); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, i.Name, "user.accept", i.Name, map[string]any{"invitation": i.ID, "by": i.By, "reset": i.Reset, "roles": i.Roles}); err != nil {
		return nil, err
	}
	return nil, a.Accounts.Accept(ctx, i, in.Body.Password)
}
