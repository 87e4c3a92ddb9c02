package adminapi_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/signon"
	"github.com/musterhq/muster/internal/signon/signontest"
)

// TestSignOn is a browser that logs in by a provider, the first time and again, and
// what of it is refused.
func TestSignOn(t *testing.T) {
	w, idp := signOnWorld(t)
	browse := newBrowser(t, w.url)
	way := func(query string) (back string) {
		t.Helper()
		answer := browse("/api/v1/sign-on/idp?" + query)
		if answer.StatusCode != http.StatusSeeOther {
			t.Fatal(answer.Status)
		}
		return "/api/v1/sign-on/idp/callback?" + idp.Visit(answer.Header.Get("Location")).Encode()
	}
	var providers []adminapi.SignOnProvider
	if err := w.call("GET", "/sign-on", nil, nil, &providers); err != nil || len(providers) != 1 || providers[0].Title != "The IdP" {
		t.Errorf("%+v, %v", providers, err)
	}

	for next, want := range map[string]string{"/nodes?tag=a": "/nodes?tag=a", "//evil.example.com": "/", "https://evil.example.com": "/", `/\evil`: "/"} {
		if answer := browse(way("next=" + url.QueryEscape(next))); answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != want {
			t.Errorf("%s: %s to %s", next, answer.Status, answer.Header.Get("Location"))
		}
	}
	if answer := browse("/api/v1/nodes"); answer.StatusCode != http.StatusOK {
		t.Errorf("who signed on: %s", answer.Status)
	}
	if e := w.audited()[0]; e.Actor != "ada-lovelace" || e.Action != "session.open" || !strings.Contains(e.Detail, "subject-1") {
		t.Errorf("%+v", e)
	}
	var users adminapi.UserList
	if err := w.call("GET", "/users", nil, nil, &users); err != nil || len(users.Users) != 2 || !slices.Equal(users.Users[0].Roles, []string{"operator"}) && !slices.Equal(users.Users[1].Roles, []string{"operator"}) {
		t.Errorf("%+v, %v", users, err)
	}

	back := way("")
	if answer := newBrowser(t, w.url)(back); answer.Header.Get("Location") != "/login?sign_on=failed" || len(answer.Cookies()) != 1 {
		t.Errorf("another browser: %s %s %v", answer.Status, answer.Header.Get("Location"), answer.Cookies())
	}
	idp.Change = func(c map[string]any) { c["sub"] = "another" } // of that name
	if answer := browse(way("")); answer.Header.Get("Location") != "/login?sign_on=unknown" {
		t.Errorf("who takes another's name: %s", answer.Header.Get("Location"))
	}
	for _, u := range users.Users {
		if made := u.Name != "admin"; made != (u.Origin == "idp") || u.LastLogin == nil || u.Sessions == 0 || u.SecondFactor {
			t.Errorf("as it is listed: %+v", u)
		}
	}
	in := adminapi.IdentityInput{Provider: "idp", Subject: "another", Own: password}
	if err := w.call("POST", "/users/admin/identities", nil, in, nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, w.call("POST", "/users/ada-lovelace/identities", nil, in, nil), 409, "linked already")
	var linked []adminapi.UserIdentity
	if err := w.call("GET", "/users/admin/identities", nil, nil, &linked); err != nil || len(linked) != 1 || linked[0].Provider != "idp" || linked[0].Subject != "another" {
		t.Errorf("%+v, %v", linked, err)
	}
	other := newBrowser(t, w.url)
	browse = other
	if answer := other(way("prove=1")); answer.Header.Get("Location") != "/" {
		t.Errorf("who was linked: %s", answer.Header.Get("Location"))
	}
	if answer := other("/api/v1/users"); answer.StatusCode != http.StatusOK { // with their own roles
		t.Error(answer.Status)
	}
	if answer := other("/api/v1/sign-on/none"); answer.StatusCode != http.StatusNotFound {
		t.Error(answer.Status)
	}
	if err := w.call("POST", "/users/admin/identities/remove", nil, in, nil); err != nil {
		t.Error(err)
	}
	if answer := other("/api/v1/session"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a session outlives the link: %s", answer.Status)
	}
}

// TestSignOn_second: who has an authenticator here shows it, too, when their provider
// asked for nothing of the kind; until then the session is good for nothing else.
func TestSignOn_second(t *testing.T) {
	w, idp := signOnWorld(t)
	if err := w.call("POST", "/users/admin/identities", nil, adminapi.IdentityInput{Provider: "idp", Subject: "subject-1", Own: password}, nil); err != nil {
		t.Fatal(err)
	}
	recovery := w.authenticator()
	browse := newBrowser(t, w.url)
	answer := browse("/api/v1/sign-on/idp?prove=1")
	answer = browse("/api/v1/sign-on/idp/callback?" + idp.Visit(answer.Header.Get("Location")).Encode())
	var cookie *http.Cookie
	for _, c := range answer.Cookies() {
		if c.Name == "muster" {
			cookie = c
		}
	}
	if answer.Header.Get("Location") != "/" || cookie == nil {
		t.Fatalf("%s, %v", answer.Header.Get("Location"), answer.Cookies())
	}
	send := func(method, path, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+"/api/v1"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.AddCookie(cookie)
		answer, err := w.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	for _, path := range []string{"/nodes", "/session/factors", "/tokens", "/sessions", "/roles"} {
		if got := send("GET", path, ""); got != http.StatusForbidden {
			t.Errorf("%s before the second factor: %d", path, got)
		}
	}
	if got := send("GET", "/session", ""); got != http.StatusOK {
		t.Error(got)
	}
	for body, want := range map[string]int{`{"password":"` + password + `"}`: 400, `{"code":"000000"}`: 403, `{"password":"` + password + `","code":"aaaa-bbbb-cccc-dddd"}`: 403} {
		if got := send("POST", "/session/prove", body); got != want {
			t.Errorf("%s: %d, want %d", body, got, want)
		}
	}
	if got := send("POST", "/session/prove", `{"code":"`+recovery+`"}`); got != http.StatusNoContent {
		t.Error(got)
	}
	if got := send("GET", "/nodes", ""); got != http.StatusOK {
		t.Errorf("after it: %d", got)
	}
}

// signOnWorld is set up, and has a provider of sign-on.
func signOnWorld(t *testing.T) (*world, *signontest.Issuer) {
	t.Helper()
	idp := signontest.New(t)
	list, err := signon.ParseProviders([]byte("providers:\n  - {name: idp, title: The IdP, issuer: " + idp.URL + ", client_id: muster, client_secret: {env: MUSTER_SECRET_T}, roles: {sre: [operator], boss: [admin]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.signOn, err = signon.New(signon.Options{Providers: list, PublicURL: site, Client: idp.Client(), Secrets: secrets(), Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
	})
	w.setUp()
	return w, idp
}

// newBrowser keeps cookies, and follows nothing by itself.
func newBrowser(t *testing.T, base string) func(path string) *http.Response {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer
	}
}

// secrets has one that resources may name.
func secrets() *credential.Reader {
	return &credential.Reader{Getenv: func(string) (string, bool) { return "s3cret", true }}
}
