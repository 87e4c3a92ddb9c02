package signon_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/signon"
	"github.com/musterhq/muster/internal/signon/signontest"
)

func service(t *testing.T, i *signontest.Issuer, more string) *signon.Service {
	t.Helper()
	list, err := signon.ParseProviders([]byte("providers:\n  - name: test\n    issuer: " + i.URL + "\n    client_id: muster\n    client_secret: {env: MUSTER_SECRET_T}\n" +
		"    roles: {sre: [operator, admin], \"*\": [analyst]}\n" + more))
	if err != nil {
		t.Fatal(err)
	}
	s, err := signon.New(signon.Options{
		Providers: list, PublicURL: "https://muster.example.com/", Client: i.Client(), Now: func() time.Time { return i.Now }, Key: [32]byte{1},
		Secrets: &credential.Reader{Getenv: func(string) (string, bool) { return "s3cret", true }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignOn(t *testing.T) {
	t.Parallel()
	i := signontest.New(t)
	s := service(t, i, "")
	to, kept, err := s.Begin(t.Context(), "test", "/nodes", false)
	if err != nil {
		t.Fatal(err)
	}
	back := i.Visit(to)
	if q := i.Asked; q.Get("redirect_uri") != "https://muster.example.com/api/v1/sign-on/test/callback" || q.Get("response_type") != "code" ||
		len(q.Get("state")) < 40 || len(q.Get("nonce")) < 40 || q.Get("scope") != "openid profile email" || strings.Contains(kept, q.Get("nonce")) {
		t.Errorf("%v", q)
	}
	p, err := s.End(t.Context(), "test", kept, back)
	if err != nil || p.Issuer != i.URL || p.Subject != "subject-1" || p.Username != "ada-lovelace" || p.Next != "/nodes" || !p.Create || p.SecondFactor {
		t.Errorf("%+v, %v", p, err)
	}
	if !slices.Equal(p.Roles, []string{"analyst", "operator"}) { // admin is above the ceiling
		t.Errorf("%q", p.Roles)
	}
	if _, err := s.End(t.Context(), "test", kept, back); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a code works twice: %v", err)
	}
	i.Alg, i.Key = "ES256", i.EC
	again, kept, err := s.Begin(t.Context(), "test", "", true)
	if err != nil || !strings.Contains(again, "max_age=0") || !strings.Contains(again, "prompt=login") {
		t.Fatal(again, err)
	}
	if p, err := s.End(t.Context(), "test", kept, i.Visit(again)); err != nil || !p.Prove {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestSignOn_wrong: whatever a provider, a browser or somebody between them makes up
// is refused.
func TestSignOn_wrong(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, v any) func(*signontest.Issuer) {
		return func(i *signontest.Issuer) { i.Change = func(c map[string]any) { c[name] = v } }
	}
	for what, c := range map[string]struct {
		issuer func(i *signontest.Issuer)
		way    func(kept *string, back url.Values)
		prove  bool
		more   string
	}{
		"another nonce":     {issuer: set("nonce", "x")},
		"no nonce":          {issuer: set("nonce", nil)},
		"another issuer":    {issuer: set("iss", "https://evil.example.com")},
		"another audience":  {issuer: set("aud", "other")},
		"two audiences":     {issuer: set("aud", []string{"muster", "other"})},
		"another party":     {issuer: set("azp", "other")},
		"nobody":            {issuer: set("sub", "")},
		"over":              {issuer: set("exp", time.Now().Add(-time.Hour).Unix())},
		"of the future":     {issuer: set("iat", time.Now().Add(time.Hour).Unix())},
		"a name for a list": {issuer: set("amr", "mfa"), more: "    require_amr: [mfa]\n"},
		"no second factor":  {issuer: set("amr", []string{"pwd"}), more: "    require_amr: [mfa]\n"},
		"proved long ago":   {issuer: set("auth_time", time.Now().Add(-time.Hour).Unix()), prove: true},
		"proved never":      {issuer: set("auth_time", nil), prove: true},
		"another key":       {issuer: func(i *signontest.Issuer) { i.Key = other }},
		"not signed":        {issuer: func(i *signontest.Issuer) { i.Alg, i.Key = "none", nil }},
		"signed with the public key": {issuer: func(i *signontest.Issuer) {
			der, err := x509.MarshalPKIXPublicKey(&i.RSA.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			i.Alg, i.Key = "HS256", der
		}},
		"signed with the secret": {issuer: func(i *signontest.Issuer) { i.Alg, i.Key = "HS256", []byte("s3cret") }},
		"a key that is gone":     {issuer: func(i *signontest.Issuer) { i.Keys = i.Keys[1:] }},
		"no token":               {issuer: func(i *signontest.Issuer) { i.Body = `{"access_token":"a","token_type":"Bearer"}` }},
		"rubbish":                {issuer: func(i *signontest.Issuer) { i.Body = "<html>" }},
		"very long":              {issuer: func(i *signontest.Issuer) { i.Body = `{"access_token":"` + strings.Repeat("a", 2<<20) }},
		"another state":          {way: func(_ *string, b url.Values) { b.Set("state", "x") }},
		"no state":               {way: func(_ *string, b url.Values) { b.Del("state") }},
		"another code":           {way: func(_ *string, b url.Values) { b.Set("code", "x") }},
		"another browser":        {way: func(k *string, _ url.Values) { *k = "" }},
		"a changed cookie":       {way: func(k *string, _ url.Values) { *k = "A" + (*k)[1:] }},
		"refused":                {way: func(_ *string, b url.Values) { b.Set("error", "access_denied\x1b[2J") }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			i := signontest.New(t)
			s := service(t, i, c.more)
			to, kept, err := s.Begin(t.Context(), "test", "", c.prove)
			if err != nil {
				t.Fatal(err)
			}
			back := i.Visit(to)
			if c.issuer != nil {
				c.issuer(i)
			}
			if c.way != nil {
				c.way(&kept, back)
			}
			p, err := s.End(t.Context(), "test", kept, back)
			if !errs.Is(err, errs.Unauthenticated) || p.Subject != "" {
				t.Errorf("%+v, %v", p, err)
			}
			if e, ok := errors.AsType[*errs.Error](err); ok && strings.ContainsAny(e.Message, "\x1b\n") {
				t.Errorf("%q", e.Message)
			}
		})
	}
}

// TestSignOn_slow: who takes longer than ten minutes begins again, and a provider
// that is down is no error of the server's.
func TestSignOn_slow(t *testing.T) {
	t.Parallel()
	i := signontest.New(t)
	s := service(t, i, "")
	to, kept, err := s.Begin(t.Context(), "test", "", false)
	if err != nil {
		t.Fatal(err)
	}
	back := i.Visit(to)
	i.Now = i.Now.Add(11 * time.Minute)
	if _, err := s.End(t.Context(), "test", kept, back); !errs.Is(err, errs.Unauthenticated) {
		t.Error(err)
	}
	down := service(t, i, "")
	i.Close()
	if _, _, err := down.Begin(t.Context(), "test", "", false); !errs.Is(err, errs.Busy) {
		t.Error(err)
	}
	if _, _, err := down.Begin(t.Context(), "none", "", false); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestParseProviders(t *testing.T) {
	t.Parallel()
	const good = "providers:\n  - {name: a, issuer: https://a, client_id: c"
	for text, want := range map[string]string{
		good + "}": "",
		good + ", roles: {x: [admin]}, may_give: [admin]}": "",
		"providers: []":                                                      "",
		good + ", colour: red}":                                              "colour",
		good + ", create: perhaps}":                                          "create",
		good + ", scopes: [profile]}":                                        "openid",
		good + ", client_secret: {file: ../x}}":                              "client_secret",
		"providers:\n  - {name: A, issuer: https://a, client_id: c}":         "name",
		"providers:\n  - {name: a, issuer: http://a, client_id: c}":          "issuer",
		"providers:\n  - {name: a, issuer: \"https://u:p@a\", client_id: c}": "issuer",
		"providers:\n  - {name: a, issuer: https://a}":                       "client_id",
		good + "}\n  - {name: a, issuer: https://b, client_id: c}":           "another of that name",
		good + "}\n  - {name: b, issuer: https://a, client_id: c}":           "another of that name",
		"- x": "mapping",
	} {
		list, err := signon.ParseProviders([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) && want != "mapping" {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil && len(list) > 0 && (list[0].Create != signon.CreateAlways || list[0].Title != "a") {
			t.Errorf("%s: %+v", text, list)
		}
	}
}
