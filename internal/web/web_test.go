package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

const script = "console.log('muster')"

func app(t *testing.T) fs.FS {
	t.Helper()
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if _, err := io.WriteString(zw, script); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"index.html":             {Data: []byte("<!doctype html><title>UI</title>")},
		"theme.js":               {Data: []byte("/* theme */")},
		"favicon.svg":            {Data: []byte("<svg/>")},
		"assets/main-4f2a.js.gz": {Data: packed.Bytes()},
		"assets/inter-1b.woff2":  {Data: []byte("wOF2")},
	}
}

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	h := handler(app(t))
	for _, c := range []struct {
		target, contentType, cache string
		status                     int
		body                       string
	}{
		{"/", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/nodes", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/nodes/a.b-c?tab=events", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/live/lq_1", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/index.html", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/theme.js", "text/javascript; charset=utf-8", recheck, http.StatusOK, "theme"},
		{"/favicon.svg", "image/svg+xml", recheck, http.StatusOK, "<svg/>"},
		{"/assets/main-4f2a.js", "text/javascript; charset=utf-8", forever, http.StatusOK, script},
		{"/assets/inter-1b.woff2", "font/woff2", forever, http.StatusOK, "wOF2"},
		{"/assets/gone-0000.js", "text/plain; charset=utf-8", "", http.StatusNotFound, "404"},
		{"/assets", "text/plain; charset=utf-8", "", http.StatusNotFound, "404"},
		{"/assets/", "text/plain; charset=utf-8", "", http.StatusNotFound, "404"},
		{"/assets/../index.html", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/../../etc/passwd", "text/html; charset=utf-8", recheck, http.StatusOK, "<title>UI</title>"},
		{"/api/v1/nope", "text/plain; charset=utf-8", "", http.StatusNotFound, "404"},
		{"//api/v1/nope", "text/plain; charset=utf-8", "", http.StatusNotFound, "404"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		p, query, _ := strings.Cut(c.target, "?")
		r.URL.Path, r.URL.RawQuery = p, query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		res := w.Result()
		if res.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.target, res.StatusCode, c.status)
		}
		if got := res.Header.Get("Content-Type"); got != c.contentType {
			t.Errorf("%s: Content-Type %q, want %q", c.target, got, c.contentType)
		}
		if got := res.Header.Get("Cache-Control"); got != c.cache {
			t.Errorf("%s: Cache-Control %q, want %q", c.target, got, c.cache)
		}
		if got := text(t, res); !strings.Contains(got, c.body) {
			t.Errorf("%s: body %q, want %q in it", c.target, got, c.body)
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	h := handler(app(t))
	for accept, packed := range map[string]bool{
		"gzip": true, "br, gzip;q=0.5": true, "deflate, *": true,
		"": false, "br": false, "gzip;q=0": false, "gzip; q=0.0, br": false,
	} {
		res := get(t, h, http.MethodGet, "/assets/main-4f2a.js", "Accept-Encoding", accept)
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != packed {
			t.Errorf("Accept-Encoding %q: gzip %t, want %t", accept, got, packed)
		}
		if got := res.Header.Get("Vary"); got != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: Vary %q", accept, got)
		}
		body := text(t, res)
		if packed {
			b, err := inflate([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		}
		if body != script {
			t.Errorf("Accept-Encoding %q: body %q", accept, body)
		}
	}
}

func TestHeadAndMethods(t *testing.T) {
	t.Parallel()
	h := handler(app(t))
	res := get(t, h, http.MethodHead, "/nodes")
	if res.StatusCode != http.StatusOK || text(t, res) != "" || res.Header.Get("Content-Length") == "0" {
		t.Errorf("HEAD: status %d, Content-Length %q", res.StatusCode, res.Header.Get("Content-Length"))
	}
	res = get(t, h, http.MethodPost, "/nodes")
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.Handler{"built": handler(app(t)), "not built": handler(fstest.MapFS{})} {
		for _, target := range []string{"/", "/nodes", "/assets/gone.js", "/api/v1/nope"} {
			header := get(t, h, http.MethodGet, target).Header
			for key, want := range map[string]string{
				"Content-Security-Policy":    contentSecurityPolicy,
				"X-Content-Type-Options":     "nosniff",
				"Referrer-Policy":            "no-referrer",
				"Cross-Origin-Opener-Policy": "same-origin",
				"Permissions-Policy":         "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
			} {
				if got := header.Get(key); got != want {
					t.Errorf("%s, %s: %s is %q", name, target, key, got)
				}
			}
		}
	}
}

func TestNotBuilt(t *testing.T) {
	t.Parallel()
	h := handler(fstest.MapFS{})
	res := get(t, h, http.MethodGet, "/")
	body := text(t, res)
	if res.StatusCode != http.StatusOK || !strings.Contains(body, "without the web UI") || !strings.Contains(body, "make build") {
		t.Errorf("status %d, body %q", res.StatusCode, body)
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "<style") {
		t.Error("the plain page breaks its own Content Security Policy")
	}
	if res := get(t, h, http.MethodGet, "/assets/main.js"); res.StatusCode != http.StatusNotFound {
		t.Errorf("asset: status %d, want 404", res.StatusCode)
	}
}

// TestEmbedded walks what was really embedded, whichever it is.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	res := get(t, Handler(), http.MethodGet, "/")
	body := text(t, res)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	if !Built() {
		if !strings.Contains(body, "make build") {
			t.Errorf("not built, but / says %q", body)
		}
		return
	}
	if strings.Contains(body, "<script>") {
		t.Error("the page has an inline script, which the Content Security Policy forbids")
	}
	for part := range strings.SplitSeq(body, `"`) {
		if strings.HasPrefix(part, "/") && strings.Contains(part, ".") {
			if res := get(t, Handler(), http.MethodGet, part); res.StatusCode != http.StatusOK {
				t.Errorf("the page needs %s: status %d", part, res.StatusCode)
			}
		}
	}
}
