// Package httpx is what both listeners share: handlers that return errors,
// bodies with limits, and one record in the log per request.
package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/errs"
)

// Status returns the HTTP status of an error's kind.
func Status(err error) int {
	switch errs.KindOf(err) {
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Forbidden:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.Busy:
		return http.StatusServiceUnavailable
	case errs.Internal:
	}
	return http.StatusInternalServerError
}

// Message returns what a client may read of an error: of an internal one, only
// that it is.
func Message(err error) string {
	var e *errs.Error
	if !errors.As(err, &e) || e.Kind == errs.Internal {
		return "the server failed; its log says why"
	}
	if e.Field != "" {
		return e.Field + " " + e.Message
	}
	return e.Message
}

// Remote returns the address of the connection's other end.
func Remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Limits of one request's body.
type Limits struct {
	Wire     int64 // bytes as they come
	Inflated int64 // bytes after gzip
}

// Bodies reads request bodies into buffers that are used again. Safe for
// concurrent use.
type Bodies struct {
	// Large is for bodies over LargeBody: each takes a place in it while it is
	// read and used, and waits when there is none, so that few of them bound the
	// memory that all can take. Without it there is no such bound.
	Large chan struct{}

	buffers sync.Pool
	zips    sync.Pool
}

// LargeBody is the size from which a body takes a place in Bodies.Large.
const LargeBody = 1 << 20

// placeWait bounds the wait for such a place. While a body is unread, nobody
// notices that its sender went away; an agent gives up after 16 s.
const placeWait = 10 * time.Second

// maxKept bounds a buffer that waits for its next use.
const maxKept = 1 << 20

// Read reads the whole body, inflating gzip, and hands it to use. The body is
// valid only during the call. Memory grows with what arrives, not with what
// the head announces, and never beyond the limits.
func (b *Bodies) Read(r *http.Request, l Limits, use func(body []byte) error) error {
	if r.ContentLength > l.Wire {
		return tooLarge(l.Wire)
	}
	buf, _ := b.buffers.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	defer func() {
		if buf.Cap() <= maxKept {
			buf.Reset()
			b.buffers.Put(buf)
		}
	}()
	src := io.Reader(&limited{r.Body, l.Wire, l.Wire})
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip":
		z, err := b.inflate(src)
		if err != nil {
			return broken(err, "the body is not gzip, as Content-Encoding says")
		}
		defer b.zips.Put(z)
		src = &limited{z, l.Inflated, l.Inflated}
	default:
		return errs.New(errs.Invalid, "Content-Encoding %q is not understood; use gzip or none", encoding)
	}
	if b.Large != nil {
		large := &gate{r: src, left: LargeBody, places: b.Large, done: r.Context().Done()}
		defer large.leave()
		src = large
	}
	if _, err := buf.ReadFrom(src); err != nil {
		return broken(err, "the body could not be read to its end")
	}
	return use(buf.Bytes())
}

// broken says why a body was not read: over a limit, or else message.
func broken(err error, message string) error {
	if known, ok := errors.AsType[*errs.Error](err); ok {
		return known
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errs.Wrap(errs.Invalid, err, message)
}

func (b *Bodies) inflate(src io.Reader) (*gzip.Reader, error) {
	if z, _ := b.zips.Get().(*gzip.Reader); z != nil {
		return z, z.Reset(src)
	}
	return gzip.NewReader(src)
}

// limited fails, rather than ends, beyond the limit.
type limited struct {
	r           io.Reader
	left, limit int64
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, tooLarge(l.limit)
	}
	return n, err
}

// gate takes a place before it reads on beyond left.
type gate struct {
	r      io.Reader
	left   int64
	places chan struct{}
	done   <-chan struct{} // of the request
	inside bool
}

func (g *gate) Read(p []byte) (int, error) {
	if g.left <= 0 && !g.inside {
		late := time.NewTimer(placeWait)
		defer late.Stop()
		refused := errs.New(errs.Busy, "too many large requests at once; try again later")
		select {
		case g.places <- struct{}{}:
			g.inside = true
		case <-g.done:
			return 0, refused
		case <-late.C:
			return 0, refused
		}
	}
	n, err := g.r.Read(p)
	g.left -= int64(n)
	return n, err
}

func (g *gate) leave() {
	if g.inside {
		<-g.places
	}
}

func tooLarge(limit int64) error {
	return errs.New(errs.TooLarge, "the body is over the limit of %d bytes", limit)
}
