package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/transparency"
)

// LinkStore keeps of which epoch the links of nodes for their owners are.
type LinkStore interface {
	// TransparencyEpoch returns a node's; NotFound if it is not there any more.
	TransparencyEpoch(ctx context.Context, nodeID string) (int64, error)
	// RevokeTransparency ends all links that a node has; NotFound likewise.
	RevokeTransparency(ctx context.Context, nodeID string) error
}

// transparencyPath is where links lead to; the token follows.
const transparencyPath = "/transparency/"

// Limits of what anybody may ask for with a link, or without one.
const (
	pagesPerAddress = 300 // a minute; behind a proxy all owners have one address
	pagesPerNode    = 30  // a minute, by links that work
	pagesAtOnce     = 4   // gathered at a time: each reads the questions that are kept
	pageWrite       = 30 * time.Second
)

// pages serves the pages that owners see.
type pages struct {
	signer    transparency.Signer
	writer    *transparency.Writer
	addresses *minuteCounts[netip.Prefix]
	nodes     *minuteCounts[string]
	turns     chan struct{}

	shown, refused atomic.Int64
}

func newPages(o Options) *pages {
	return &pages{
		signer: transparency.NewSigner(o.Keyer), writer: transparency.NewWriter(), addresses: newMinuteCounts[netip.Prefix](o.Now),
		nodes: newMinuteCounts[string](o.Now), turns: make(chan struct{}, pagesAtOnce),
	}
}

// TransparencyPages returns how many pages of nodes were shown to their owners, and
// how many requests were refused, since the start.
func (a *API) TransparencyPages() (shown, refused int64) {
	return a.pages.shown.Load(), a.pages.refused.Load()
}

func (a *API) registerTransparency(mux *http.ServeMux) {
	registerScoped(a, account.NodeTransparency, http.MethodPost, "/nodes/{id}/transparency", "Make a link that shows a node's owner what is collected and asked; it needs no login", a.newLink)
	registerScoped(a, account.NodeTransparency, http.MethodDelete, "/nodes/{id}/transparency", "Revoke all links that a node's owner has", a.revokeLinks)
	a.plain(mux, "GET "+transparencyPath+"{token}", account.Public, a.transparencyPage)
	a.huma.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "get-transparency-token", Method: http.MethodGet, Path: transparencyPath + "{token}",
		Summary:     "What a node's owner may see of it",
		Description: "Needs no session: the token is in a link that somebody made. JSON with .json behind the token, or by Accept. A link that is wrong, over or revoked, or of a node that is gone: it is not said which.",
		Parameters:  []*huma.Param{{Name: "token", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}},
		Responses: map[string]*huma.Response{
			"200": {Description: "What is collected and asked, for people or as JSON", Content: map[string]*huma.MediaType{
				"text/html":        {},
				"application/json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[transparency.Disclosure](), true, "Disclosure")},
			}},
		},
	})
}

type linkInput struct {
	NodeRef
	Body LinkInput
}

// LinkInput says how long a link is good for.
type LinkInput struct {
	TTLSeconds int64 `json:"ttl_seconds,omitempty" doc:"How long the link works, a minute to 366 days; 30 days if left out" minimum:"60" maximum:"31622400"`
}

// TransparencyLink is a link for a node's owner. Who has it needs no login.
type TransparencyLink struct {
	NodeID    string    `json:"node_id"`
	URL       string    `json:"url,omitempty" doc:"Left out if the server has no public_url"`
	Path      string    `json:"path" doc:"Behind the URL under which people reach the server"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *API) newLink(ctx context.Context, in *linkInput) (*body[TransparencyLink], error) {
	if err := a.on(ctx, account.NodeTransparency, in.ID); err != nil {
		return nil, err
	}
	epoch, err := a.Links.TransparencyEpoch(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	ttl := transparency.DefaultTTL
	if in.Body.TTLSeconds > 0 {
		ttl = time.Duration(in.Body.TTLSeconds) * time.Second
	}
	l := transparency.Link{NodeID: in.ID, Expires: a.Now().Add(ttl).UTC().Truncate(time.Second), Epoch: epoch}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.transparency.create", in.ID, map[string]any{"expires_at": l.Expires}); err != nil {
		return nil, err
	}
	out := TransparencyLink{NodeID: in.ID, Path: transparencyPath + a.pages.signer.Token(l), ExpiresAt: l.Expires}
	if a.PublicURL != "" {
		out.URL = strings.TrimSuffix(a.PublicURL, "/") + out.Path
	}
	return &body[TransparencyLink]{out}, nil
}

func (a *API) revokeLinks(ctx context.Context, in *NodeRef) (*none, error) {
	if err := a.on(ctx, account.NodeTransparency, in.ID); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.transparency.revoke", in.ID, nil); err != nil {
		return nil, err
	}
	return nil, a.Links.RevokeTransparency(ctx, in.ID)
}

func errOften() error {
	return errs.New(errs.Busy, "the server is busy, or too many requests came within a minute; try again in a minute")
}

// errLink is the answer to all links that do not work: it does not tell why.
func errLink() error {
	return errs.New(errs.NotFound, "this link does not work: it is not complete, or over, or was taken back; ask whoever gave it to you for another")
}

// transparencyPage shows a node to whoever has a link.
func (a *API) transparencyPage(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", transparency.SecurityPolicy())
	w.Header().Set("X-Robots-Tag", "noindex, nofollow")
	w.Header().Set("Vary", "Accept")
	token, plain := strings.CutSuffix(r.PathValue("token"), ".json")
	p := page{API: a, w: w, json: plain || wantsJSON(r)}
	if !a.pages.addresses.allow(network(httpx.Remote(r)), pagesPerAddress) {
		return p.refuse(errOften())
	}
	d, err := a.disclosed(r.Context(), token)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Busy) {
		return p.refuse(err)
	}
	if err != nil {
		return err
	}
	a.pages.shown.Add(1)
	return p.show(d)
}

// wantsJSON reports whether a request would rather have JSON than a page.
func wantsJSON(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// disclosed returns what the owner of a token may see; NotFound if it does not work.
func (a *API) disclosed(ctx context.Context, token string) (transparency.Disclosure, error) {
	l, ok := a.pages.signer.Read(token, a.Now())
	if !ok {
		return transparency.Disclosure{}, errLink()
	}
	select {
	case a.pages.turns <- struct{}{}:
		defer func() { <-a.pages.turns }()
	case <-ctx.Done():
		return transparency.Disclosure{}, ctx.Err()
	}
	epoch, err := a.Links.TransparencyEpoch(ctx, l.NodeID)
	if err != nil {
		return transparency.Disclosure{}, err
	}
	if epoch != l.Epoch {
		return transparency.Disclosure{}, errLink()
	}
	if !a.pages.nodes.allow(l.NodeID, pagesPerNode) {
		return transparency.Disclosure{}, errOften()
	}
	return a.disclose(ctx, l)
}

// page is one answer, in one of two forms.
type page struct {
	*API

	w    http.ResponseWriter
	json bool
}

func (p page) show(d transparency.Disclosure) error {
	if p.json {
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return p.write(http.StatusOK, "application/json", b)
	}
	b, err := p.pages.writer.Page(d)
	if err != nil {
		return err
	}
	return p.write(http.StatusOK, "text/html; charset=utf-8", b)
}

// refuse answers alike whatever was not found.
func (p page) refuse(err error) error {
	p.pages.refused.Add(1)
	if errs.Is(err, errs.Busy) {
		p.w.Header().Set("Retry-After", "60")
		return p.notice(http.StatusServiceUnavailable, "Not now", httpx.Message(errOften()))
	}
	return p.notice(http.StatusNotFound, "Nothing here", httpx.Message(errLink()))
}

func (p page) notice(status int, title, text string) error {
	if p.json {
		b, err := json.Marshal(huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: text})
		if err != nil {
			return err
		}
		return p.write(status, "application/problem+json", b)
	}
	b, err := p.pages.writer.Notice(title, text)
	if err != nil {
		return err
	}
	return p.write(status, "text/html; charset=utf-8", b)
}

// write sends an answer. That the other side went away is not an error of ours.
func (p page) write(status int, content string, b []byte) error {
	_ = http.NewResponseController(p.w).SetWriteDeadline(time.Now().Add(pageWrite))
	p.w.Header().Set("Content-Type", content)
	p.w.WriteHeader(status)
	_, _ = p.w.Write(b)
	return nil
}

// loggedPath is a request's path without what must be in no log.
func loggedPath(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, transparencyPath) {
		return transparencyPath + "…"
	}
	return r.URL.Path
}
