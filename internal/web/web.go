// Package web serves the web UI that is embedded in the binary. Its source is
// in /web; without a build of it the package still compiles, and serves a page
// that says so.
package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// contentSecurityPolicy lets the UI run its own scripts and speak to its own
// server, and nothing else. The editor and the menus set styles at run time,
// so inline styles are allowed; inline scripts are not.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// Cache-Control for files whose name holds a hash of their content, and for
// all others.
const (
	forever = "public, max-age=31536000, immutable"
	recheck = "no-cache"
)

const notBuilt = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Muster</title></head>
<body>
<h1>Muster</h1>
<p>The server runs, but this binary was built without the web UI.</p>
<p>Build it with <code>make build</code>, which needs Node. The command line
(<code>muster --help</code>) and the REST API under <code>/api/v1</code> do not need it.</p>
</body>
</html>
`

// Handler serves the embedded UI: its files, and its page for every path that
// the UI itself routes. It answers 404 for missing assets and for everything
// under /api/.
func Handler() http.Handler { return handler(built()) }

// Built reports whether the binary holds a build of the UI.
func Built() bool { return hasPage(built()) }

func built() fs.FS {
	sub, err := fs.Sub(dist, "dist/app")
	if err != nil { // never: the path is a valid one
		return dist
	}
	return sub
}

func hasPage(app fs.FS) bool {
	info, err := fs.Stat(app, "index.html")
	return err == nil && !info.IsDir()
}

func handler(app fs.FS) http.Handler {
	serve := servePlain
	if hasPage(app) {
		serve = func(w http.ResponseWriter, r *http.Request) { serveApp(w, r, app) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		if name := clean(r.URL.Path); name == "api" || strings.HasPrefix(name, "api/") {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	})
}

func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
}

// clean turns a request's path into a name for fs.FS; "" is the root.
func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func servePlain(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(clean(r.URL.Path), "assets/") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", recheck)
	write(w, r, "text/html; charset=utf-8", []byte(notBuilt))
}

func serveApp(w http.ResponseWriter, r *http.Request, app fs.FS) {
	name := clean(r.URL.Path)
	asset := strings.HasPrefix(name, "assets/")
	switch {
	case name != "" && serveFile(w, r, app, name, asset):
	case asset || name == "assets":
		http.NotFound(w, r)
	default: // the UI routes it
		if !serveFile(w, r, app, "index.html", false) {
			http.NotFound(w, r)
		}
	}
}

// serveFile answers with the file, or with its ".gz" neighbour, which the
// build leaves in its place. It reports whether there is either.
func serveFile(w http.ResponseWriter, r *http.Request, app fs.FS, name string, hashed bool) bool {
	body, err := fs.ReadFile(app, name)
	packed := false
	if err != nil {
		if body, err = fs.ReadFile(app, name+".gz"); err != nil {
			return false
		}
		packed = true
	}
	h := w.Header()
	h.Set("Cache-Control", recheck)
	if hashed {
		h.Set("Cache-Control", forever)
	}
	if packed {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			h.Set("Content-Encoding", "gzip")
		} else if body, err = inflate(body); err != nil {
			return false
		}
	}
	write(w, r, contentType(name), body)
	return true
}

func write(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) //nolint:gosec // our own files; the client is gone if this fails
}

// contentType does not ask the operating system first, whose table may say
// that scripts are plain text.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".woff2":
		return "font/woff2"
	case ".txt":
		return "text/plain; charset=utf-8"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
		return "application/octet-stream"
	}
}

// acceptsGzip reports whether an Accept-Encoding header allows gzip.
func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding = strings.TrimSpace(coding); coding != "gzip" && coding != "*" {
			continue
		}
		q, isQ := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !isQ {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}

func inflate(packed []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}
