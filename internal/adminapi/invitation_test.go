package adminapi_test

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
)

// TestInvitations: somebody is invited, chooses a password that nobody else knows, and
// later another one; a link works once.
func TestInvitations(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	invite := func(in adminapi.InvitationInput) (token string) {
		t.Helper()
		in.Own = password
		var out adminapi.Invitation
		if err := w.call("POST", "/invitations", nil, in, &out); err != nil {
			t.Fatal(err)
		}
		token, ok := strings.CutPrefix(out.Path, "/invite#token=")
		if !ok || len(token) < 32 || !out.ExpiresAt.Equal(out.CreatedAt.Add(account.InvitationLife)) {
			t.Fatalf("%+v", out)
		}
		return token
	}
	for say, in := range map[string]adminapi.InvitationInput{
		"there is a user admin":   {Name: "admin", Roles: []string{"analyst"}, Own: password},
		"there is no role":        {Name: "grace", Roles: []string{"boss"}, Own: password},
		"roles is missing":        {Name: "grace", Own: password},
		"stands beside reset":     {Name: "admin", Reset: true, Roles: []string{"analyst"}, Own: password},
		"no user with that name":  {Name: "grace", Reset: true, Own: password},
		"how the audit log calls": {Name: "setup", Roles: []string{"analyst"}, Own: password},
		"password is wrong":       {Name: "grace", Roles: []string{"analyst"}, Own: "wrong"},
		"prove who you are":       {Name: "grace", Roles: []string{"analyst"}},
		"username use up to 64":   {Name: "Grace H", Roles: []string{"analyst"}, Own: password},
	} {
		if err := w.call("POST", "/invitations", nil, in, nil); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%+v: %v, want %s", in, err, say)
		}
	}
	anybody := adminapi.NewClient(w.url, "", w.http)
	post := func(path string, in, out any) error {
		return anybody.Call(t.Context(), "POST", "/invitations/"+path, nil, in, out)
	}
	login := func(name, password string) error {
		return anybody.Call(t.Context(), "POST", "/session", nil, adminapi.LoginInput{Username: name, Password: password, Kind: "bearer"}, nil)
	}
	const hers, another = "kettle umbrella fjord", "fjord umbrella lantern"

	first := invite(adminapi.InvitationInput{Name: "grace", Roles: []string{"analyst"}})
	token := invite(adminapi.InvitationInput{Name: "grace", Roles: []string{"analyst", "responder"}})
	wantStatus(t, post("look", adminapi.InvitationToken{Token: first}, nil), 404, "ask for another")
	var is adminapi.Invited
	if err := post("look", adminapi.InvitationToken{Token: token}, &is); err != nil || is.Name != "grace" || len(is.Roles) != 2 || is.Reset {
		t.Errorf("%+v, %v", is, err)
	}
	accept := func(token, password string) error {
		return post("accept", adminapi.AcceptInput{InvitationToken: adminapi.InvitationToken{Token: token}, Password: password}, nil)
	}
	wantStatus(t, accept(token, "short"), 400, "password")
	wantStatus(t, accept(token+"x", hers), 404, "ask for another")
	wantStatus(t, login("grace", hers), 401, "wrong")
	if err := accept(token, hers); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, accept(token, another), 404, "ask for another")
	if err := login("grace", hers); err != nil {
		t.Error(err)
	}
	reset := invite(adminapi.InvitationInput{Name: "grace", Reset: true})
	if err := login("grace", hers); err != nil {
		t.Errorf("the password before works until then: %v", err)
	}
	if err := accept(reset, another); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, login("grace", hers), 401, "wrong")
	if err := login("grace", another); err != nil {
		t.Error(err)
	}
	var list []adminapi.Invitation
	if err := w.call("GET", "/invitations", nil, nil, &list); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	gone := invite(adminapi.InvitationInput{Name: "eve", Roles: []string{"analyst"}})
	if err := w.call("GET", "/invitations", nil, nil, &list); err != nil || len(list) != 1 || list[0].Path != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := w.call("DELETE", "/invitations/"+list[0].ID, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, accept(gone, hers), 404, "ask for another")
	said := 0
	for _, e := range w.audited() {
		if strings.Contains(e.Detail+e.Target, token) || strings.Contains(e.Detail, hers) {
			t.Errorf("the audit log tells: %+v", e)
		}
		if e.Action == "user.accept" && e.Actor == "grace" && e.Outcome == "done" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d acceptances are in the audit log", said)
	}
}
