// Package vault asks HashiCorp Vault whose a token is, and whether it has the
// policy that opens carves.
package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

const (
	// timeout is for one question, so that a slow Vault does not keep people.
	timeout = 5 * time.Second
	// concurrent bounds how many questions are open, and so how much of Vault's
	// own rate limits somebody with wrong tokens can use up. Who has to wait for
	// more than the timeout is told that it is busy.
	concurrent = 8
	// maxResponse is far over what lookup-self answers: a token has at most a
	// few hundred policies.
	maxResponse = 256 << 10
	// maxToken is over Vault's longest, batch tokens, which hold their policies.
	maxToken = 8 << 10
	// maxCached entries of some hundred bytes.
	maxCached = 4096
	// defaultCache is how long a revoked token may go on to be taken; failures
	// are kept shorter, because they are mended while somebody waits.
	defaultCache = 10 * time.Second
	failedCache  = 2 * time.Second
)

// Options say which Vault, and which policy.
type Options struct {
	Address   string // https://vault.example:8200
	Namespace string // of Vault Enterprise; "" if there is none
	Policy    string // what a token needs; among its own policies or those of its identity
	CAFile    string // what Vault's certificate is verified with, beside nothing else; "" is the system's
	Cache     time.Duration
	Now       func() time.Time
}

// Identity is whose a token is. It does not tell the token.
type Identity struct {
	DisplayName string
	EntityID    string // "" for a token of nobody, as the root token
	Policies    []string
}

// Client asks one Vault.
type Client struct {
	lookup    string
	namespace string
	policy    string
	http      *http.Client
	asking    chan struct{}
	cache     *cache
}

// New returns a client. It asks nothing yet: Vault need not be there.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errs.Field("vault_address", "is not https://host:port")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, errs.Field("vault_address", "is http, which shows tokens to everybody on the way; use https")
	}
	if o.Policy == "" {
		return nil, errs.Field("vault_policy", "is empty; name the policy that a token needs")
	}
	transport, err := newTransport(o.CAFile)
	if err != nil {
		return nil, err
	}
	if o.Cache == 0 {
		o.Cache = defaultCache
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{
		lookup:    u.JoinPath("v1/auth/token/lookup-self").String(),
		namespace: o.Namespace,
		policy:    o.Policy,
		http: &http.Client{
			Transport: transport,
			Timeout:   timeout,
			// A standby redirects to the active node by default; but a redirect
			// may lead anywhere, and the token goes nowhere but to the address
			// that the administrator wrote. Standbys forward by themselves.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		asking: make(chan struct{}, concurrent),
		cache:  newCache(o.Cache, o.Now),
	}, nil
}

func loopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

func newTransport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    timeout,
		MaxIdleConnsPerHost:    concurrent,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // named by the administrator
	if err != nil {
		return nil, errs.Field("vault_ca", "cannot be read: %v", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errs.Field("vault_ca", "%s holds no certificate in PEM", caFile)
	}
	return t, nil
}

// Check returns whose the token is if it has the policy. Otherwise the kind of
// error is Unauthenticated for a token that Vault does not know or no longer
// takes, Forbidden for one without the policy, and Busy if Vault cannot say.
// The token is in no error. An accessor is not a token: Vault does not know it
// here.
func (c *Client) Check(ctx context.Context, token string) (Identity, error) {
	if !plausible(token) {
		return Identity{}, errs.New(errs.Unauthenticated, "this is not a Vault token")
	}
	key := c.cache.key(token)
	if id, ok, err := c.cache.get(key); ok {
		return id, err
	}
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-wait.Done():
		if err := context.Cause(ctx); err != nil {
			return Identity{}, fmt.Errorf("vault: %w", err)
		}
		return Identity{}, errs.New(errs.Busy, "too many people ask Vault; try again later")
	}
	if id, ok, err := c.cache.get(key); ok { // whoever was before us may have asked the same
		return id, err
	}
	id, err := c.ask(ctx, token)
	if err == nil && !slices.Contains(id.Policies, c.policy) {
		err = errs.New(errs.Forbidden, "this Vault token has not the policy %q", c.policy)
	}
	if err != nil {
		id = Identity{}
	}
	if errs.Is(err, errs.Unauthenticated) || errs.Is(err, errs.Forbidden) || err == nil {
		c.cache.put(key, id, err)
	}
	return id, err
}

// plausible keeps what no token holds out of a header.
func plausible(token string) bool {
	if token == "" || len(token) > maxToken {
		return false
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}

func (c *Client) ask(ctx context.Context, token string) (Identity, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.lookup, http.NoBody)
	if err != nil {
		return Identity{}, fmt.Errorf("vault: %w", err)
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	if c.namespace != "" {
		r.Header.Set("X-Vault-Namespace", c.namespace)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if e := context.Cause(ctx); e != nil {
			return Identity{}, fmt.Errorf("vault: %w", e)
		}
		return Identity{}, errs.Wrap(errs.Busy, err, "Vault does not answer; try again later")
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = fmt.Errorf("vault: an answer of more than %d bytes", maxResponse)
	}
	if err != nil {
		return Identity{}, errs.Wrap(errs.Busy, err, "Vault's answer cannot be read; try again later")
	}
	return judge(resp.StatusCode, body)
}

// judge reads an answer, whose bytes are shown to nobody: whoever can make
// Vault answer could otherwise write into logs.
func judge(status int, body []byte) (Identity, error) {
	switch {
	case status == http.StatusOK:
		id, err := decode(body)
		if err != nil {
			return Identity{}, errs.Wrap(errs.Busy, err, "what answers in Vault's place is not Vault; check its address")
		}
		return id, nil
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		// Vault says 403 "permission denied" of tokens that are unknown, expired or
		// revoked, of those of another namespace, and of those that may not even
		// look themselves up.
		return Identity{}, errs.New(errs.Unauthenticated,
			"Vault does not take this token: it is wrong, expired, revoked, or may not look itself up (Vault's policy \"default\")")
	case status == http.StatusServiceUnavailable:
		return Identity{}, errs.Wrap(errs.Busy, answered(status), "Vault is sealed or in maintenance; try again later")
	case status == http.StatusTooManyRequests:
		return Identity{}, errs.Wrap(errs.Busy, answered(status), "Vault has too much to do; try again later")
	case status >= 300 && status < 400:
		return Identity{}, errs.Wrap(errs.Busy, answered(status), "Vault redirects to elsewhere, where the token is not sent; set the address of the active node")
	}
	return Identity{}, errs.Wrap(errs.Busy, answered(status), "Vault cannot answer; try again later")
}

func answered(status int) error { return fmt.Errorf("vault: status %d", status) }

// decode reads the answer of lookup-self. Lists may be null, and for a token of
// nobody are missing.
func decode(body []byte) (Identity, error) {
	var answer struct {
		Data *struct {
			DisplayName      string   `json:"display_name"`
			EntityID         string   `json:"entity_id"`
			Policies         []string `json:"policies"`
			IdentityPolicies []string `json:"identity_policies"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Identity{}, errors.New("vault: the answer is not what lookup-self answers")
	}
	if answer.Data == nil || answer.Data.Policies == nil && answer.Data.IdentityPolicies == nil {
		return Identity{}, errors.New("vault: the answer tells of no policies")
	}
	d := answer.Data
	return Identity{DisplayName: clean(d.DisplayName), EntityID: clean(d.EntityID), Policies: slices.Concat(d.Policies, d.IdentityPolicies)}, nil
}

// clean keeps a name to one short line.
func clean(s string) string {
	const most = 256
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// tokenKey is a token's keyed hash, with a key of this process: neither memory
// nor a dump of it gives tokens away, or tells whether one was here.
type tokenKey [sha256.Size]byte

func newTokenKeyer() func(token string) tokenKey {
	secret := []byte(rand.Text())
	return func(token string) tokenKey {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(token))
		return tokenKey(h.Sum(nil))
	}
}
