// Package httpx is what both listeners share: handlers that return errors,
// bodies with limits, and one record in the log per request.
package httpx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/semaphore"

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
	case errs.Limited:
		return http.StatusTooManyRequests
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

// Recover is deferred by a handler: a panic becomes an error that holds where it
// was, so that it is logged and answered like any other. It lets
// http.ErrAbortHandler pass.
func Recover(err *error) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares so, too
		panic(p) //nolint:forbidigo // it is not ours
	}
	*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
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
	// Memory bounds the bytes that all bodies take together while they are read
	// and used, but for the first FreeBody of each. A body that finds no room
	// waits, then is refused. Without it there is no such bound.
	Memory *semaphore.Weighted
	// Rate is how many bytes a second a body must come with, after a grace of
	// five seconds; 0 is any.
	Rate int64
	// Announced says that bodies are mostly large and of one size, and that their
	// heads say it: then a buffer is made as large as that when the first FreeBody
	// bytes are there and its room is taken, and is used again however large it is.
	Announced bool

	buffers sync.Pool
	heads   sync.Pool // of announced bodies
	large   sync.Pool // of those that have their room
	zips    sync.Pool
}

// FreeBody is the size up to which a body is not counted in Bodies.Memory:
// nearly all are smaller, and their number is bounded by that of connections.
const FreeBody = 64 << 10

const (
	// memoryWait bounds the wait for room in memory. While a body is unread,
	// nobody notices that its sender went away; an agent gives up after 16 s.
	memoryWait = 10 * time.Second
	// rateGrace passes before Rate is looked at.
	rateGrace = 5 * time.Second
	// maxKept bounds a buffer that waits for its next use.
	maxKept = 1 << 20
	// inflation is how much gzip makes of log lines, about; the room for a body
	// is taken at once if possible, because bodies that grow step by step may
	// wait for one another.
	inflation = 10
)

// Read reads the whole body, inflating gzip, and hands it to use. The body is
// valid only during the call. Memory grows with what arrives, not with what
// the head announces, and never beyond the limits.
func (b *Bodies) Read(r *http.Request, l Limits, use func(body []byte) error) error {
	if r.ContentLength > l.Wire {
		return tooLarge(l.Wire)
	}
	if b.Announced && b.Memory != nil && plain(r) && r.ContentLength > FreeBody {
		return b.readAnnounced(r, use)
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
	if small(r) {
		return readSmall(r, buf, use)
	}
	src := io.Reader(&limited{r.Body, l.Wire, l.Wire})
	if b.Rate > 0 {
		src = &paced{r: src, rate: b.Rate}
	}
	expected := r.ContentLength
	switch encoding := r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip":
		z, err := b.inflate(src)
		if err != nil {
			return broken(err, "the body is not gzip, as Content-Encoding says")
		}
		defer b.zips.Put(z)
		src = &limited{z, l.Inflated, l.Inflated}
		expected *= inflation
	default:
		return errs.New(errs.Invalid, "Content-Encoding %q is not understood; use gzip or none", encoding)
	}
	if b.Memory != nil {
		counted := &counted{r: src, memory: b.Memory, ctx: r.Context(), expected: min(expected, l.Inflated), limit: l.Inflated}
		defer counted.leave()
		src = counted
	}
	if _, err := buf.ReadFrom(src); err != nil {
		return broken(err, "the body could not be read to its end")
	}
	return use(buf.Bytes())
}

// readAnnounced is Read for a large body of a known length. A large buffer is
// taken after the room for it: those that wait would hold others' buffers, and
// there would be one for each that waits.
func (b *Bodies) readAnnounced(r *http.Request, use func([]byte) error) error {
	src := io.Reader(r.Body)
	if b.Rate > 0 {
		src = &paced{r: src, rate: b.Rate}
	}
	head, _ := b.heads.Get().(*[FreeBody]byte)
	if head == nil {
		head = new([FreeBody]byte)
	}
	_, err := io.ReadFull(src, head[:])
	if err == nil {
		err = b.room(r.Context(), r.ContentLength)
	}
	if err != nil {
		b.heads.Put(head)
		return broken(err, "the body could not be read to its end")
	}
	defer b.Memory.Release(r.ContentLength)
	large, _ := b.large.Get().(*[]byte)
	if large == nil || int64(cap(*large)) < r.ContentLength {
		body := make([]byte, r.ContentLength)
		large = &body
	}
	defer b.large.Put(large)
	body := (*large)[:r.ContentLength]
	n := copy(body, head[:])
	b.heads.Put(head)
	if _, err := io.ReadFull(src, body[n:]); err != nil {
		return broken(err, "the body could not be read to its end")
	}
	return use(body)
}

// room takes room in memory for a body that was announced.
func (b *Bodies) room(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, memoryWait)
	defer cancel()
	if err := b.Memory.Acquire(ctx, n); err != nil {
		return errs.Wrap(errs.Busy, err, "too many large requests at once; try again later")
	}
	return nil
}

// small reports whether a body is one of the many for which nothing has to be
// watched: its length is known and not counted, and it comes as it is. How long
// it may take is the server's to say; see http.Server.ReadTimeout.
func small(r *http.Request) bool {
	return r.ContentLength >= 0 && r.ContentLength <= smallBody && r.Header.Get("Content-Encoding") == ""
}

// plain reports whether a body comes as it is.
func plain(r *http.Request) bool {
	encoding := r.Header.Get("Content-Encoding")
	return encoding == "" || strings.EqualFold(encoding, "identity")
}

// smallBody is far above the two hottest calls, which hold little more than a
// key, and below what is worth anything to who sends slowly.
const smallBody = 1 << 10

// readSmall is Read for a small body.
func readSmall(r *http.Request, buf *bytes.Buffer, use func([]byte) error) error {
	buf.Grow(smallBody)
	body := buf.AvailableBuffer()[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return broken(err, "the body could not be read to its end")
	}
	return use(body)
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

// paced fails when bytes come too slowly. Only the time that is spent waiting for
// them counts: that we inflate and parse slowly is no fault of the sender. Nearly
// all bodies come with one Read, and are not looked at.
type paced struct {
	r      io.Reader
	rate   int64
	first  bool // the first Read was done
	waited time.Duration
	got    int64
}

func (p *paced) Read(b []byte) (int, error) {
	var began time.Time
	if p.first {
		began = time.Now()
	}
	n, err := p.r.Read(b)
	p.got += int64(n)
	if err != nil || !p.first {
		p.first = true
		return n, err
	}
	p.waited += time.Since(began)
	if p.waited > rateGrace && p.got < p.rate*int64(p.waited/time.Second) {
		return n, errs.New(errs.Invalid, "the body came slower than %d bytes a second", p.rate)
	}
	return n, nil
}

// counted takes room in memory before it reads on.
type counted struct {
	r        io.Reader
	memory   *semaphore.Weighted
	ctx      context.Context //nolint:containedctx // of the request, whose body this is
	expected int64
	limit    int64
	got      int64
	held     int64
}

func (c *counted) Read(p []byte) (int, error) {
	const end = bytes.MinRead // to see that nothing comes behind what was expected
	room := FreeBody + c.held + end - c.got
	if room <= 0 {
		if err := c.grow(); err != nil {
			return 0, err
		}
		room = FreeBody + c.held + end - c.got
	}
	if int64(len(p)) > room {
		p = p[:room]
	}
	n, err := c.r.Read(p)
	c.got += int64(n)
	return n, err
}

// grow takes what is expected still, or as much again as there is, but no more
// than the body may have.
func (c *counted) grow() error {
	more := min(max(c.expected, 2*c.got), c.limit) - FreeBody - c.held
	ctx, cancel := context.WithTimeout(c.ctx, memoryWait)
	defer cancel()
	if err := c.memory.Acquire(ctx, more); err != nil {
		return errs.Wrap(errs.Busy, err, "too many large requests at once; try again later")
	}
	c.held += more
	return nil
}

func (c *counted) leave() {
	if c.held > 0 {
		c.memory.Release(c.held)
	}
}

func tooLarge(limit int64) error {
	return errs.New(errs.TooLarge, "the body is over the limit of %d bytes", limit)
}
