package vault_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/vault"
)

// standIn is not Vault: it is an HTTP server that answers lookup-self as Vault's
// API documentation says (developer.hashicorp.com/vault/api-docs/auth/token and
// /api-docs#http-status-codes). No test here has seen a real Vault.
type standIn struct {
	*httptest.Server
	asked  atomic.Int64
	ca     string // file
	answer atomic.Pointer[http.HandlerFunc]
}

const (
	reader   = "hvs.CAESIreaderreaderreader"
	identity = "hvs.CAESIidentityidentity"
	orphan   = "hvs.CAESIorphanorphanorphan"
	root     = "hvs.CAESIrootrootrootroot"
	nobody   = "hvs.CAESInobodynobodynobody"
	accessor = "8609694a-cdbc-db9b-d345-e782dbb562ed"
)

// body is the documentation's sample, with what differs.
func body(name, entity, orphan, policies, identityPolicies string) string {
	quoted, _ := json.Marshal(name) // of a string: cannot fail
	return fmt.Sprintf(`{"request_id":"0b8f1c1e","lease_id":"","renewable":false,"lease_duration":0,
"data":{"accessor":%q,"creation_time":1523979354,"creation_ttl":2764800,"display_name":%s,"entity_id":%q,
"expire_time":"2018-05-19T11:35:54.466476215-04:00","explicit_max_ttl":0,"id":"cf64a70f-3a12-3f6c-791d-6cef6d390eed",
"identity_policies":%s,"issue_time":"2018-04-17T11:35:54.466476078-04:00","meta":{"username":"tesla"},"num_uses":0,
"orphan":%s,"path":"auth/ldap2/login/tesla","policies":%s,"renewable":true,"ttl":2764790},
"wrap_info":null,"warnings":null,"auth":null,"mount_type":"token"}`, accessor, quoted, entity, identityPolicies, orphan, policies)
}

func answers() map[string]string {
	return map[string]string{
		reader:   body("ldap2-tesla", "7d2e3179-f69b-450c-7179-ac8ee8bd8ca9", "true", `["default","carve-reader"]`, `["dev-group-policy"]`),
		identity: body("oidc-ada\n\x1b[2J", "e-1", "true", `["default"]`, `["carve-reader"]`),
		orphan:   body("token", "", "true", `["carve-reader"]`, `null`),
		root:     body("root", "", "true", `["root"]`, `null`),
		nobody:   body("token-x", "", "false", `["default"]`, `[]`),
	}
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{ca: filepath.Join(t.TempDir(), "ca.pem")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/auth/token/lookup-self", func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if f := s.answer.Load(); f != nil {
			(*f)(w, r)
			return
		}
		answer, ok := answers()[r.Header.Get("X-Vault-Token")]
		if ns := r.Header.Get("X-Vault-Namespace"); !ok || ns != "" && ns != "team" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":["permission denied"]}`))
			return
		}
		_, _ = w.Write([]byte(answer))
	})
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	if err := os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *standIn) options() vault.Options {
	return vault.Options{Address: s.URL, Policy: "carve-reader", CAFile: s.ca}
}

func (s *standIn) says(f http.HandlerFunc) { s.answer.Store(&f) }

func client(t *testing.T, o vault.Options) *vault.Client {
	t.Helper()
	c, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	c := client(t, s.options())
	for name, tt := range map[string]struct {
		token  string
		kind   errs.Kind // Internal: accepted
		want   string    // display name and entity, or words of the error
		policy int
	}{
		"policy of the token":    {reader, errs.Internal, "ldap2-tesla 7d2e3179-f69b-450c-7179-ac8ee8bd8ca9", 3},
		"policy of the identity": {identity, errs.Internal, "oidc-ada[2J e-1", 2},
		"orphan without entity":  {orphan, errs.Internal, "token ", 1},
		"root has no policy":     {root, errs.Forbidden, `"carve-reader"`, 0},
		"no policy":              {nobody, errs.Forbidden, `"carve-reader"`, 0},
		"unknown or expired":     {"hvs.expired", errs.Unauthenticated, "expired", 0},
		"an accessor":            {accessor, errs.Unauthenticated, "does not take", 0},
		"nothing":                {"", errs.Unauthenticated, "not a Vault token", 0},
		"a header":               {"a\r\nX-Vault-Token: b", errs.Unauthenticated, "not a Vault token", 0},
		"not ASCII":              {"ä", errs.Unauthenticated, "not a Vault token", 0},
		"endless":                {strings.Repeat("a", 8<<10+1), errs.Unauthenticated, "not a Vault token", 0},
	} {
		for range 2 { // the second time from the cache
			id, err := c.Check(t.Context(), tt.token)
			if tt.kind == errs.Internal {
				if err != nil || id.DisplayName+" "+id.EntityID != tt.want || len(id.Policies) != tt.policy || !slices.Contains(id.Policies, "carve-reader") {
					t.Errorf("%s: %+v, %v", name, id, err)
				}
				continue
			}
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || id.Policies != nil {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
			if tt.token != "" && strings.Contains(fmt.Sprintf("%v %+v", err, err), tt.token) {
				t.Errorf("%s: the token is in %v", name, err)
			}
		}
	}
	if n := s.asked.Load(); n != 7 {
		t.Errorf("asked %d times", n)
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	for ns, kind := range map[string]errs.Kind{"team": errs.Internal, "other": errs.Unauthenticated} {
		o := s.options()
		o.Namespace = ns
		if _, err := client(t, o).Check(t.Context(), reader); errs.KindOf(err) != kind || err == nil != (kind == errs.Internal) {
			t.Errorf("%s: %v", ns, err)
		}
	}
}

// TestBadDays: whatever Vault's place answers, it opens nothing, says what is
// wrong, and shows neither the token nor what was answered.
func TestBadDays(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	status := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("somebody else was asked: %v", r.Header)
	}))
	defer elsewhere.Close()
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		words  string
	}{
		"sealed":     {status(503, `{"errors":["Vault is sealed"]}`), "sealed"},
		"rate limit": {status(429, `{"errors":["request path \"auth/token/lookup-self\": rate limit quota exceeded"]}`), "too much to do"},
		"broken":     {status(500, `{"errors":["internal error secret-text"]}`), "cannot answer"},
		"gateway":    {status(502, `<html>secret-text`), "cannot answer"},
		"not found":  {status(404, `{"errors":[]}`), "cannot answer"},
		"not TLS":    {status(400, "secret-text"), "cannot answer"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}, "redirects"},
		"not JSON":    {status(200, "secret-text"), "not Vault"},
		"other JSON":  {status(200, `[]`), "not Vault"},
		"no data":     {status(200, `{"data":null}`), "not Vault"},
		"no policies": {status(200, `{"data":{"display_name":"secret-text","policies":null,"identity_policies":null}}`), "not Vault"},
		"odd":         {status(200, `{"data":{"policies":"carve-reader"}}`), "not Vault"},
		"endless":     {status(200, `{"data":{"policies":["carve-reader"],"x":"`+strings.Repeat("a", 1<<20)+`"}}`), "cannot be read"},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"data":{`))
		}, "cannot be read"},
		"hangs up": {func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
		}, "does not answer"},
	} {
		c := client(t, s.options())
		s.says(tt.answer)
		before := s.asked.Load()
		for range 2 {
			id, err := c.Check(t.Context(), reader)
			if !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), tt.words) || id.Policies != nil {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
			if text := fmt.Sprint(err); strings.Contains(text, reader) || strings.Contains(text, "secret-text") {
				t.Errorf("%s: shown: %s", name, text)
			}
		}
		if s.asked.Load() < before+2 {
			t.Errorf("%s: was remembered", name)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	o := s.options()
	o.CAFile = ""
	if _, err := client(t, o).Check(t.Context(), reader); !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), "certificate") || s.asked.Load() != 0 {
		t.Errorf("a certificate of nobody: %v", err)
	}
	o = s.options()
	o.Address = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	if _, err := client(t, o).Check(t.Context(), reader); !errs.Is(err, errs.Busy) {
		t.Errorf("a certificate for another name: %v", err)
	}
	s.Close()
	if _, err := client(t, s.options()).Check(t.Context(), reader); !errs.Is(err, errs.Busy) || strings.Contains(err.Error(), reader) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	for field, change := range map[string]func(*vault.Options){
		"vault_address":  func(o *vault.Options) { o.Address = "vault:8200" },
		"vault_address ": func(o *vault.Options) { o.Address = "http://vault.example:8200" },
		"vault_address?": func(o *vault.Options) { o.Address = "https://me:secret-text@vault" },
		"vault_policy":   func(o *vault.Options) { o.Policy = "" },
		"vault_ca":       func(o *vault.Options) { o.CAFile = "/nonexistent" },
		"vault_ca ":      func(o *vault.Options) { o.CAFile = os.DevNull },
	} {
		o := s.options()
		change(&o)
		_, err := vault.New(o)
		if e, ok := errors.AsType[*errs.Error](err); !ok || e.Kind != errs.Invalid || e.Field != strings.Trim(field, " ?") || strings.Contains(err.Error(), "secret-text") {
			t.Errorf("%s: %v", field, err)
		}
	}
	o := s.options()
	o.Address = "http://127.0.0.1:8200/under/a/path/"
	client(t, o)
}

// TestCache: a yes is remembered for seconds, a no shorter, and never the token
// of somebody else.
func TestCache(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	now := time.Unix(1e9, 0)
	o := s.options()
	o.Now = func() time.Time { return now }
	c := client(t, o)
	ask := func(token string, want errs.Kind, asked int64) {
		t.Helper()
		before := s.asked.Load()
		_, err := c.Check(t.Context(), token)
		if err == nil != (want == errs.Internal) || errs.KindOf(err) != want || s.asked.Load()-before != asked {
			t.Errorf("after %v: asked %d times: %v", now.Sub(time.Unix(1e9, 0)), s.asked.Load()-before, err)
		}
	}
	ask(reader, errs.Internal, 1)
	ask("hvs.bad", errs.Unauthenticated, 1)
	ask(nobody, errs.Forbidden, 1)
	s.says(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }) // revoked
	now = now.Add(1999 * time.Millisecond)
	ask(reader, errs.Internal, 0)
	ask("hvs.bad", errs.Unauthenticated, 0)
	ask(nobody, errs.Forbidden, 0)
	now = now.Add(time.Millisecond)
	ask(reader, errs.Internal, 0)
	ask("hvs.bad", errs.Unauthenticated, 1)
	ask(nobody, errs.Unauthenticated, 1)
	now = now.Add(8 * time.Second)
	ask(reader, errs.Unauthenticated, 1)

	o.Cache = time.Second
	c = client(t, o)
	s.answer.Store(nil)
	ask(reader, errs.Internal, 1)
	ask(reader, errs.Internal, 0)
	now = now.Add(time.Second)
	ask(reader, errs.Internal, 1)
}

// TestMany: many at once with one token make few questions, and more than a
// few questions wait.
func TestMany(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	c := client(t, s.options())
	var open, most atomic.Int64
	s.says(func(w http.ResponseWriter, _ *http.Request) {
		n := open.Add(1)
		defer open.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		_, _ = w.Write([]byte(answers()[reader]))
	})
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if _, err := c.Check(t.Context(), fmt.Sprint("hvs.", i%50)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > 8 || s.asked.Load() > 50*8 {
		t.Errorf("%d at once, %d in all", most.Load(), s.asked.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ctx, "hvs.other"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestSilence: a Vault that takes connections and says nothing keeps nobody
// longer than its time.
func TestSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := vault.New(vault.Options{Address: "http://127.0.0.1:1", Policy: "p"})
		if err != nil {
			t.Fatal(err)
		}
		vault.SetTransport(c, silent{})
		start := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				_, err := c.Check(t.Context(), fmt.Sprint("hvs.", i))
				if took := time.Since(start); !errs.Is(err, errs.Busy) || took > 10*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
		all.Wait()
	})
}

type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func FuzzDecode(f *testing.F) {
	for _, answer := range answers() {
		f.Add(200, []byte(answer))
	}
	f.Add(403, []byte(`{"errors":["permission denied"]}`))
	f.Add(200, []byte(`{"data":{"policies":[null,1]}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		id, err := vault.Judge(status, body)
		if err != nil {
			if id.Policies != nil {
				t.Error("policies beside an error")
			}
			return
		}
		if status != http.StatusOK {
			t.Errorf("status %d is taken", status)
		}
		for _, s := range []string{id.DisplayName, id.EntityID} {
			if len(s) > 256 || strings.ContainsAny(s, "\n\r\x00\x1b\x7f") {
				t.Errorf("%q", s)
			}
		}
	})
}
