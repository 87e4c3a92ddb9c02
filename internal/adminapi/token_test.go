package adminapi_test

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/adminapi"
)

// TestTokens: a token of a person and one of a service account, from their making to
// their end.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("h1")
	var mine adminapi.Token
	in := adminapi.TokenInput{Name: "laptop", Scope: adminapi.TokenScope{Permissions: []string{"node.read", "change.*"}}, Hours: 24, Own: password}
	if err := w.call("POST", "/tokens", nil, in, &mine); err != nil || !strings.HasPrefix(mine.Text, "muster_pat_") || mine.State != "expires soon" {
		t.Fatalf("%+v, %v", mine, err)
	}
	wantStatus(t, w.call("POST", "/tokens", nil, in, nil), 409, "has a token laptop")
	in.Own = "wrong"
	wantStatus(t, w.call("POST", "/tokens", nil, in, nil), 403, "password")
	program := adminapi.NewClient(w.url, mine.Text, w.http)
	var page adminapi.NodePage
	if err := program.Call(t.Context(), "GET", "/nodes", nil, nil, &page); err != nil || len(page.Nodes) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	in.Own = password
	for path, c := range map[string]struct {
		method, say string
		in          any
	}{
		"/events":           {"GET", "event.read", nil},
		"/changes/1/reject": {"POST", "change.approve", adminapi.ReasonInput{Reason: "x"}},
		"/tokens":           {"POST", "a person must log in", in},
		"/session":          {"DELETE", "a person must log in", nil},
		"/sessions":         {"DELETE", "a person must log in", nil},
		"/session/password": {"PUT", "a person must log in", adminapi.NewPasswordInput{Password: password + "x", Own: password}},
	} {
		wantStatus(t, program.Call(t.Context(), c.method, path, nil, c.in, nil), 403, c.say)
	}
	if e := w.audited()[0]; e.Session != mine.ID || e.Actor != "admin" {
		t.Errorf("%+v", e)
	}

	var elsewhere adminapi.Token
	if err := w.call("POST", "/tokens", nil, adminapi.TokenInput{Name: "office", Networks: []string{"192.0.2.0/24"}, Own: password}, &elsewhere); err != nil {
		t.Fatal(err)
	}
	stolen := adminapi.NewClient(w.url, elsewhere.Text, w.http)
	wantStatus(t, stolen.Call(t.Context(), "GET", "/nodes", nil, nil, nil), 401, "may not be used from 127.0.0.1")
	if e := w.audited()[0]; e.Session != elsewhere.ID || e.Actor != "admin" || e.Target != "GET /api/v1/nodes" || e.Outcome != "refused" {
		t.Errorf("a token that is used where it may not be is not in the audit log: %+v", e)
	}

	service := adminapi.UserInput{Name: "ci", Service: true, Roles: []string{"automation", "operator"}, Own: password}
	if err := w.call("POST", "/users", nil, service, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, w.call("POST", "/users/admin/tokens", nil, in, nil), 403, "is a person")
	var theirs adminapi.Token
	if err := w.call("POST", "/users/ci/tokens", nil, adminapi.TokenInput{Name: "deploy", Own: password}, &theirs); err != nil || theirs.Owner != "ci" || theirs.State != "works" {
		t.Fatalf("%+v, %v", theirs, err)
	}
	ci := adminapi.NewClient(w.url, theirs.Text, w.http)
	c := w.change(ci, packDocument("p", "600"))
	if c.Author != "ci" {
		t.Errorf("%+v", c)
	}
	wantStatus(t, ci.Call(t.Context(), "POST", "/changes/"+c.ID+"/approve", nil, adminapi.ApproveInput{Hash: c.Hash, Password: password}, nil), 403, "change.approve")
	var next adminapi.Token
	if err := w.call("POST", "/users/ci/tokens/"+theirs.ID+"/rotate", nil, adminapi.RotateTokenInput{Own: password}, &next); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, ci.Call(t.Context(), "GET", "/nodes", nil, nil, nil), 401, "make another")
	ci = adminapi.NewClient(w.url, next.Text, w.http)
	if err := ci.Call(t.Context(), "GET", "/nodes", nil, nil, nil); err != nil {
		t.Error(err)
	}
	if err := w.call("PUT", "/users/ci/roles", nil, adminapi.UserRolesInput{Roles: []string{}, Own: password}, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, ci.Call(t.Context(), "GET", "/nodes", nil, nil, nil), 403, "node.read")
	if err := w.call("DELETE", "/users/ci/tokens/"+next.ID, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, ci.Call(t.Context(), "GET", "/session", nil, nil, nil), 401, "make another")
	var list []adminapi.Token
	if err := w.call("GET", "/users/ci/tokens", nil, nil, &list); err != nil || len(list) != 2 || list[0].State != "revoked" || list[0].LastFrom != "127.0.0.1" || list[0].Text != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := w.call("GET", "/tokens/all", nil, nil, &list); err != nil || len(list) != 4 || list[3].Owner != "admin" || list[0].Owner != "ci" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, e := range w.audited() {
		if strings.Contains(e.Detail+e.Target, mine.Text) || strings.Contains(e.Detail, next.Text) {
			t.Errorf("the text of a token is in the audit log: %+v", e)
		}
	}
}
