// Package signontest has an OpenID Connect provider for tests, by the standard library
// alone, which can be made to misbehave.
package signontest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Issuer is a provider at work. Its fields say how the next login goes.
type Issuer struct {
	*httptest.Server

	t     *testing.T
	RSA   *rsa.PrivateKey
	EC    *ecdsa.PrivateKey
	Asked url.Values // of the last visit
	codes map[string]url.Values
	Now   time.Time

	Alg    string // of the next token
	Key    any    // that signs it
	Change func(claims map[string]any)
	Keys   []map[string]any // published
	Body   string           // instead of the token's answer
}

// New starts a provider, which ends with the test.
func New(t *testing.T) *Issuer {
	t.Helper()
	i := &Issuer{t: t, codes: map[string]url.Values{}, Now: time.Now().Truncate(time.Second), Alg: "RS256"}
	var err error
	if i.RSA, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if i.EC, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	i.Key = i.RSA
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := i.EC.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	i.Keys = []map[string]any{
		{"kty": "RSA", "kid": "r", "use": "sig", "n": b64(i.RSA.N.Bytes()), "e": b64(big.NewInt(int64(i.RSA.E)).Bytes())},
		{"kty": "EC", "kid": "e", "use": "sig", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { i.answer(w, map[string]any{"keys": i.Keys}) })
	mux.HandleFunc("POST /token", i.token)
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *Issuer) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// Visit is somebody who logs in at the provider: it returns what the browser brings
// back.
func (i *Issuer) Visit(to string) url.Values {
	i.t.Helper()
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, i.URL+"/authorize?") {
		i.t.Fatal(to, err)
	}
	i.Asked = u.Query()
	code := rand.Text()
	i.codes[code] = i.Asked
	return url.Values{"code": {code}, "state": {i.Asked.Get("state")}}
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	if i.Body != "" {
		_, _ = w.Write([]byte(i.Body))
		return
	}
	if err := r.ParseForm(); err != nil {
		i.t.Error(err)
	}
	asked, ok := i.codes[r.Form.Get("code")]
	delete(i.codes, r.Form.Get("code")) // each works once
	sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	id, secret, basic := r.BasicAuth()
	if !ok || asked.Get("code_challenge_method") != "S256" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") ||
		r.Form.Get("redirect_uri") != asked.Get("redirect_uri") || !basic || id != "muster" || secret != "s3cret" {
		w.WriteHeader(http.StatusBadRequest)
		i.answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	claims := map[string]any{
		"iss": i.URL, "sub": "subject-1", "aud": "muster", "iat": i.Now.Unix(), "exp": i.Now.Add(time.Minute).Unix(), "nonce": asked.Get("nonce"),
		"preferred_username": "Ada Lovelace", "groups": []string{"sre", "boss"}, "auth_time": i.Now.Unix(),
	}
	if i.Change != nil {
		i.Change(claims)
	}
	i.answer(w, map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": i.sign(claims)})
}

func (i *Issuer) sign(claims map[string]any) string {
	b64 := base64.RawURLEncoding.EncodeToString
	kid := "r"
	if i.Alg == "ES256" {
		kid = "e"
	}
	head, _ := json.Marshal(map[string]string{"alg": i.Alg, "kid": kid})
	body, _ := json.Marshal(claims)
	text := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	var err error
	switch k := i.Key.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, k, sum[:])
		sig, err = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), e
	case []byte:
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(text))
		sig = mac.Sum(nil)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return text + "." + b64(sig)
}
