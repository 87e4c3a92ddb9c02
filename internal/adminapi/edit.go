package adminapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/errs"
)

const (
	tagHeader   = "ETag"
	matchHeader = "If-Match"
	maxMatch    = 1024
)

// editedAt returns where the thing is shown that a route edits; "" if it edits none
// whose state has a tag. Nodes and live queries have none: they change all the time
// by themselves.
func (r Route) editedAt() string {
	switch r.Method + " " + strings.TrimPrefix(r.Path, base) {
	case "PUT /saved-queries/{name}", "DELETE /saved-queries/{name}":
		return base + "/saved-queries/{name}"
	case "PUT /users/{name}/roles", "POST /users/{name}/disable", "POST /users/{name}/enable", "PUT /users/{name}/password":
		return base + "/users/{name}"
	case "POST /changes/{id}/approve", "POST /changes/{id}/reject", "POST /changes/{id}/withdraw", "POST /changes/{id}/apply":
		return base + "/changes/{id}"
	case "POST /alerts/{id}/acknowledge", "POST /alerts/{id}/resolve", "POST /alerts/{id}/reopen", "POST /alerts/{id}/comment", "POST /alerts/{id}/assign":
		return base + "/alerts/{id}"
	}
	return ""
}

// tagged reports whether a route shows one thing that others edit.
func (r Route) tagged() bool {
	return r.Method == http.MethodGet && slices.Contains([]string{
		base + "/saved-queries/{name}", base + "/users/{name}", base + "/changes/{id}", base + "/alerts/{id}",
	}, r.Path)
}

// withTag gives the answer of a route the tag of its document.
func withTag[I, O any](handle func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, err
		}
		document, err := json.Marshal(out)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(document)
		answerHeader(ctx).Set(tagHeader, `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`) //nolint:mnd // 96 bits tell states apart
		return out, nil
	}
}

// editLocks make looking at a state and editing it one step, for each thing that is
// edited. Other servers on the same database are not kept out.
type editLocks [64]sync.Mutex

func (l *editLocks) of(path string) *sync.Mutex {
	h := fnv.New32a()
	_, _ = h.Write([]byte(path))
	return &l[h.Sum32()%uint32(len(l))]
}

// matched lets an edit through if what it edits is as its If-Match says. The tag is
// asked for as the caller would: who may not see a thing learns nothing of its state.
func (a *API) matched(ctx huma.Context, r *http.Request, w http.ResponseWriter, route Route, next func(huma.Context)) {
	shown := route.editedAt()
	if shown == "" {
		next(ctx)
		return
	}
	path := r.URL.Path
	if strings.Count(path, "/") > strings.Count(shown, "/") {
		path = path[:strings.LastIndexByte(path, '/')]
	}
	lock := a.edits.of(path)
	lock.Lock()
	defer lock.Unlock()
	want := r.Header.Get(matchHeader)
	if want == "" {
		next(ctx)
		return
	}
	look := r.Clone(r.Context())
	look.Method, look.Body, look.ContentLength = http.MethodGet, http.NoBody, 0
	look.URL.Path, look.URL.RawPath, look.URL.RawQuery = path, "", ""
	found := &buffer{header: http.Header{}, status: http.StatusOK}
	a.mux.ServeHTTP(found, look)
	tag := found.header.Get(tagHeader)
	switch {
	case found.status == http.StatusOK && (want == "*" || slices.Contains(strings.Split(strings.ReplaceAll(want, " ", ""), ","), tag)):
		next(ctx)
	case found.status == http.StatusOK || found.status == http.StatusNotFound:
		writeProblem(w, &huma.ErrorModel{
			Status: http.StatusPreconditionFailed, Title: http.StatusText(http.StatusPreconditionFailed),
			Detail: "it is not as " + matchHeader + " says any more; read it again, and edit what is there now",
			Errors: []*huma.ErrorDetail{{Message: "is not the tag of what is there now", Location: "header." + matchHeader}},
		})
	default: // as who may not read it
		writeRaw(w, found)
	}
}

// buffer is an answer in memory.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (b *buffer) Header() http.Header         { return b.header }
func (b *buffer) WriteHeader(status int)      { b.status = status }
func (b *buffer) Write(p []byte) (int, error) { return b.body.Write(p) }

// writeRaw answers what another route answered.
func writeRaw(w http.ResponseWriter, b *buffer) {
	w.Header().Set("Content-Type", b.header.Get("Content-Type"))
	w.WriteHeader(b.status)
	_, _ = b.body.WriteTo(w)
}

// headersKey is where a request's context holds the headers of both ways.
type headersKey struct{}

type headers struct{ request, answer http.Header }

func headerOf(ctx context.Context) http.Header {
	h, _ := ctx.Value(headersKey{}).(headers)
	return h.request
}

func answerHeader(ctx context.Context) http.Header {
	h, ok := ctx.Value(headersKey{}).(headers)
	if !ok {
		return http.Header{}
	}
	return h.answer
}

// showUser shows a person.
func (a *API) showUser(ctx context.Context, in *UserRef) (*body[User], error) {
	u, err := a.Accounts.UserByName(ctx, in.Name)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.New(errs.NotFound, "there is no user of that name; muster user list shows them")
	}
	return answerUser(u, err)
}
