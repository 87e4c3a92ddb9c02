package signon

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
)

// Options are what a Service needs. All but Client are required.
type Options struct {
	Providers []Provider
	PublicURL string // of the server, for the way back
	Secrets   *credential.Reader
	Key       [32]byte // seals what the browser keeps meanwhile
	Client    *http.Client
	Now       func() time.Time
}

// Service sends people to providers and takes them back. Safe for concurrent use.
type Service struct {
	Options

	seal cipher.AEAD

	mu    sync.Mutex
	known map[string]*oidc.Provider // by name; what could be discovered
}

// Limits of what a provider may cost.
const (
	timeout  = 15 * time.Second
	maxReply = 1 << 20
	// WayLife is how long somebody may take at the provider.
	WayLife = 10 * time.Minute
	// leeway is what clocks may differ.
	leeway = time.Minute
	// fresh is how old a proof at the provider may be that is asked for anew.
	fresh = 5 * time.Minute
)

// New returns a Service.
func New(o Options) (*Service, error) {
	block, err := aes.NewCipher(o.Key[:])
	if err != nil {
		return nil, err
	}
	s := &Service{Options: o, known: map[string]*oidc.Provider{}}
	if s.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, err
	}
	if s.Client == nil {
		s.Client = &http.Client{
			Timeout: timeout, Transport: bounded{http.DefaultTransport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return s, nil
}

// bounded cuts answers that are too long.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxReply)
	}
	return answer, err
}

// Issuer returns a provider's issuer; NotFound without one.
func (s *Service) Issuer(name string) (string, error) {
	p, err := s.provider(name)
	if err != nil {
		return "", err
	}
	return p.Issuer, nil
}

// Named returns the name of the provider of an issuer; "" without one.
func (s *Service) Named(issuer string) string {
	i := slices.IndexFunc(s.Providers, func(p Provider) bool { return p.Issuer == issuer })
	if i < 0 {
		return ""
	}
	return s.Providers[i].Name
}

func (s *Service) provider(name string) (*Provider, error) {
	i := slices.IndexFunc(s.Providers, func(p Provider) bool { return p.Name == name })
	if i < 0 {
		return nil, errs.New(errs.NotFound, "there is no provider %s; sign_on_file names them", name)
	}
	return &s.Providers[i], nil
}

// way is what the browser keeps, sealed, while its person is at the provider.
type way struct {
	Provider string `json:"p"`
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Next     string `json:"t,omitempty"`
	Prove    bool   `json:"r,omitempty"` // the person is to prove who they are once more
	Until    int64  `json:"u"`
}

// Begin returns where to send the browser, and what it is to keep until it comes
// back, for at most ten minutes. next is where it goes then; prove asks the
// provider to have its person prove who they are once more.
func (s *Service) Begin(ctx context.Context, name, next string, prove bool) (to, kept string, err error) {
	p, c, err := s.client(ctx, name)
	if err != nil {
		return "", "", err
	}
	w := way{
		Provider: p.Name, State: ident.Secret(), Nonce: ident.Secret(), Verifier: oauth2.GenerateVerifier(), Next: next, Prove: prove,
		Until: s.Now().Add(WayLife).Unix(),
	}
	b, err := json.Marshal(w)
	if err != nil {
		return "", "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(w.Nonce), oauth2.S256ChallengeOption(w.Verifier)}
	if prove {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	sealed := s.seal.Seal(nil, nil, b, nil) //nolint:gosec // it makes a nonce by itself
	return c.AuthCodeURL(w.State, options...), base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Person is who a provider vouches for.
type Person struct {
	Provider     string // name
	Issuer       string
	Subject      string
	Username     string   // as Muster would call a new user
	Roles        []string // that their groups give
	Create       bool     // a new user may be made
	SecondFactor bool
	Next         string
	Prove        bool
}

// End takes a browser back: kept is what Begin returned, and query what the
// provider sent with it.
func (s *Service) End(ctx context.Context, name, kept string, query url.Values) (Person, error) {
	w, err := s.open(kept)
	if err != nil || w.Provider != name {
		return Person{}, errs.New(errs.Unauthenticated, "the login took too long, or began in another browser; begin again")
	}
	if subtle.ConstantTimeCompare([]byte(w.State), []byte(query.Get("state"))) != 1 {
		return Person{}, errs.New(errs.Unauthenticated, "the answer belongs to another login; begin again")
	}
	if why := query.Get("error"); why != "" {
		return Person{}, errs.New(errs.Unauthenticated, "the provider refused: %s", plain(why+" "+query.Get("error_description")))
	}
	p, c, err := s.client(ctx, name)
	if err != nil {
		return Person{}, err
	}
	token, err := c.Exchange(oidc.ClientContext(ctx, s.Client), query.Get("code"), oauth2.VerifierOption(w.Verifier))
	if err != nil {
		return Person{}, errs.Wrap(errs.Unauthenticated, err, "the provider did not take its code back; begin again")
	}
	raw, _ := token.Extra("id_token").(string)
	return s.person(ctx, p, raw, w)
}

func (s *Service) open(kept string) (w way, err error) {
	b, err := base64.RawURLEncoding.DecodeString(kept)
	if err != nil {
		return w, err
	}
	if b, err = s.seal.Open(nil, nil, b, nil); err != nil {
		return w, err
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return w, err
	}
	if s.Now().Unix() > w.Until {
		return w, fmt.Errorf("it is over")
	}
	return w, nil
}

// claims are those that are looked at.
type claims struct {
	Nonce    string   `json:"nonce"`
	AZP      string   `json:"azp"`
	AuthTime int64    `json:"auth_time"`
	AMR      []string `json:"amr"`
}

// person checks an ID token (OpenID Connect Core 1.0 §3.1.3.7).
func (s *Service) person(ctx context.Context, p *Provider, raw string, w way) (Person, error) {
	refuse := func(err error, why string) (Person, error) {
		return Person{}, errs.Wrap(errs.Unauthenticated, err, "what the provider says of the person cannot be believed: "+why)
	}
	discovered, err := s.discover(ctx, p)
	if err != nil {
		return Person{}, err
	}
	// Of the algorithms those with a public key alone: with HS256 whoever has the
	// secret could be anybody, and with none everybody.
	verifier := discovered.Verifier(&oidc.Config{
		ClientID: p.ClientID, SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA}, Now: s.Now,
	})
	id, err := verifier.Verify(oidc.ClientContext(ctx, s.Client), raw)
	if err != nil {
		return refuse(err, "its token is not signed, not for this server, or over")
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return refuse(err, "its claims cannot be read")
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(w.Nonce)) != 1:
		return refuse(nil, "the token belongs to another login")
	case c.AZP != "" && c.AZP != p.ClientID, len(id.Audience) > 1 && c.AZP == "":
		return refuse(nil, "the token was made for another program")
	case id.IssuedAt.After(s.Now().Add(leeway)):
		return refuse(nil, "the token is of the future; look at the clocks")
	case id.Subject == "":
		return refuse(nil, "the token names nobody")
	case len(p.RequireAMR) > 0 && !slices.ContainsFunc(p.RequireAMR, func(m string) bool { return slices.Contains(c.AMR, m) }):
		return refuse(nil, "the person did not prove who they are by "+strings.Join(p.RequireAMR, " or ")+", which this server asks for")
	case w.Prove && (c.AuthTime == 0 || s.Now().Sub(time.Unix(c.AuthTime, 0)) > fresh):
		return refuse(nil, "the person did not prove who they are just now")
	}
	var all map[string]any
	if err := id.Claims(&all); err != nil {
		return refuse(err, "its claims cannot be read")
	}
	return Person{
		Provider: p.Name, Issuer: id.Issuer, Subject: id.Subject, Username: usernameOf(all[p.UsernameClaim]), Roles: p.rolesOf(textsOf(all[p.GroupsClaim])),
		Create: p.Create == CreateAlways, SecondFactor: p.SecondFactor || len(p.RequireAMR) > 0, Next: w.Next, Prove: w.Prove,
	}, nil
}

var odd = regexp.MustCompile(`[^a-z0-9._@-]+`)

// usernameOf makes a name of a claim; "" of one that is none.
func usernameOf(claim any) string {
	text, _ := claim.(string)
	const most = 64
	name := strings.TrimLeft(odd.ReplaceAllString(strings.ToLower(text), "-"), "._@-")
	return name[:min(len(name), most)]
}

// textsOf reads a claim that is a list of texts, or one.
func textsOf(claim any) (list []string) {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if text, ok := e.(string); ok {
				list = append(list, text)
			}
		}
	}
	return list
}

// plain is what the provider says, as far as a person may read it.
func plain(text string) string {
	const most = 200
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(clean[:min(len(clean), most)])
}

// client returns a provider with how to speak to it.
func (s *Service) client(ctx context.Context, name string) (*Provider, *oauth2.Config, error) {
	p, err := s.provider(name)
	if err != nil {
		return nil, nil, err
	}
	discovered, err := s.discover(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	c := &oauth2.Config{
		ClientID: p.ClientID, Endpoint: discovered.Endpoint(), Scopes: p.Scopes,
		RedirectURL: strings.TrimSuffix(s.PublicURL, "/") + "/api/v1/sign-on/" + p.Name + "/callback",
	}
	if !p.ClientSecret.IsZero() {
		if c.ClientSecret, err = s.Secrets.Read(p.ClientSecret); err != nil {
			return nil, nil, err
		}
	}
	return p, c, nil
}

// discover returns what a provider says of itself, once it could be asked.
func (s *Service) discover(ctx context.Context, p *Provider) (*oidc.Provider, error) {
	s.mu.Lock()
	had := s.known[p.Name]
	s.mu.Unlock()
	if had != nil {
		return had, nil
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// It keeps the context for its keys, which outlive this request.
	found, err := oidc.NewProvider(oidc.ClientContext(limited, s.Client), p.Issuer)
	if err != nil {
		return nil, errs.Wrap(errs.Busy, err, "the provider "+p.Title+" cannot be asked now; log in by password, or try again")
	}
	if e := found.Endpoint(); !strings.HasPrefix(e.AuthURL, "https://") || !strings.HasPrefix(e.TokenURL, "https://") {
		return nil, errs.New(errs.Busy, "the provider %s names addresses that are not https; log in by password, and tell an administrator", p.Title)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[p.Name] = found
	return found, nil
}
