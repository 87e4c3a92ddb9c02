package httpx_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
)

func zip(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// request has no Content-Length unless told, as from a chunked sender.
func request(body io.Reader, length int64, encoding string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.ContentLength = length
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	return r
}

func TestRead(t *testing.T) {
	t.Parallel()
	const limit = 1000
	text := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	noise := make([]byte, 900) // does not shrink
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	limits := httpx.Limits{Wire: limit, Inflated: 2 * limit}
	tests := []struct {
		name     string
		body     []byte
		encoding string
		announce bool
		want     []byte
		kind     errs.Kind
	}{
		{name: "empty", want: []byte{}},
		{name: "plain", body: text(10), want: text(10)},
		{name: "identity", body: text(10), encoding: "identity", want: text(10)},
		{name: "at the limit", body: text(limit), want: text(limit)},
		{name: "over the limit", body: text(limit + 1), kind: errs.TooLarge},
		{name: "over the limit, announced", body: text(limit + 1), announce: true, kind: errs.TooLarge},
		{name: "gzip", body: zip(t, text(10)), encoding: "gzip", want: text(10)},
		{name: "gzip in capitals", body: zip(t, text(10)), encoding: "GZIP", want: text(10)},
		{name: "gzip of nothing", body: zip(t, nil), encoding: "gzip", want: []byte{}},
		{name: "gzip in two members", body: append(zip(t, text(10)), zip(t, text(5))...), encoding: "gzip", want: text(15)},
		{name: "inflated to the limit", body: zip(t, text(2*limit)), encoding: "gzip", want: text(2 * limit)},
		{name: "inflated over the limit", body: zip(t, text(2*limit+1)), encoding: "gzip", kind: errs.TooLarge},
		{name: "gzip over the wire limit", body: append(zip(t, noise), zip(t, noise)...), encoding: "gzip", kind: errs.TooLarge},
		{name: "not gzip", body: text(50), encoding: "gzip", kind: errs.Invalid},
		{name: "empty gzip", encoding: "gzip", kind: errs.Invalid},
		{name: "half of gzip", body: zip(t, text(1000))[:20], encoding: "gzip", kind: errs.Invalid},
		{name: "gzip with a wrong sum", body: append(zip(t, text(10))[:20], make([]byte, 20)...), encoding: "gzip", kind: errs.Invalid},
		{name: "unknown encoding", body: text(10), encoding: "br", kind: errs.Invalid},
		{name: "two encodings", body: text(10), encoding: "gzip, gzip", kind: errs.Invalid},
	}
	var bodies httpx.Bodies
	for range 2 { // with buffers and readers that met errors before
		for _, tt := range tests {
			length := int64(-1)
			if tt.announce {
				length = int64(len(tt.body))
			}
			used := false
			err := bodies.Read(request(bytes.NewReader(tt.body), length, tt.encoding), limits, func(b []byte) error {
				used = true
				if !bytes.Equal(b, tt.want) {
					t.Errorf("%s: %d bytes %.20q, want %d", tt.name, len(b), b, len(tt.want))
				}
				return nil
			})
			if tt.want != nil {
				if err != nil || !used {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if !errs.Is(err, tt.kind) || used {
				t.Errorf("%s: %v, used %v", tt.name, err, used)
			}
			if tt.kind == errs.TooLarge && !strings.Contains(err.Error(), "000 bytes") {
				t.Errorf("%s: %v does not name the limit", tt.name, err)
			}
		}
	}
	own := errors.New("own")
	if err := bodies.Read(request(strings.NewReader("x"), 1, ""), limits, func([]byte) error { return own }); !errors.Is(err, own) {
		t.Errorf("the user's error: %v", err)
	}
	for _, tt := range []struct {
		err  error
		kind errs.Kind
	}{{context.Canceled, errs.Internal}, {io.ErrUnexpectedEOF, errs.Invalid}} {
		for _, encoding := range []string{"", "gzip"} {
			body := io.MultiReader(bytes.NewReader(zip(t, text(10))[:5]), &failing{tt.err})
			if err := bodies.Read(request(body, -1, encoding), limits, nil); !errs.Is(err, tt.kind) || !errors.Is(err, tt.err) {
				t.Errorf("%v while reading %q: %v", tt.err, encoding, err)
			}
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// TestRead_bomb: 1 GiB of zeros in 1 MiB takes no more than the limit allows.
func TestRead_bomb(t *testing.T) {
	bomb := bytes.NewReader(bytes.Repeat(zip(t, make([]byte, 1<<20)), 1<<10)) // members follow one another
	var bodies httpx.Bodies
	limits := httpx.Limits{Wire: 2 << 20, Inflated: 4 << 20}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := bodies.Read(request(bomb, int64(bomb.Len()), "gzip"), limits, func([]byte) error { return nil })
	runtime.ReadMemStats(&after)
	if !errs.Is(err, errs.TooLarge) {
		t.Fatal(err)
	}
	// All that was allocated while the buffer doubled, with the race detector's
	// share; without the limit it would be over 2 GiB.
	if n := after.TotalAlloc - before.TotalAlloc; n > 10*uint64(limits.Inflated) {
		t.Errorf("%d bytes were allocated for a limit of %d", n, limits.Inflated)
	}
}

// TestRead_pooled: many at once do not see each other's bodies, and reuse
// buffers and readers.
func TestRead_pooled(t *testing.T) {
	var bodies httpx.Bodies
	limits := httpx.Limits{Wire: 1 << 20, Inflated: 1 << 20}
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			want := bytes.Repeat(fmt.Append(nil, i), 1000*(i+1))
			zipped := zip(t, want)
			for j := range 50 {
				body, encoding := want, ""
				switch j % 4 {
				case 1:
					body, encoding = zipped, "gzip"
				case 2:
					body, encoding = zipped[:len(zipped)-9], "gzip"
				case 3:
					body, encoding = want, "gzip"
				}
				err := bodies.Read(request(bytes.NewReader(body), -1, encoding), limits, func(b []byte) error {
					if !bytes.Equal(b, want) {
						t.Errorf("%d bytes, want %d", len(b), len(want))
					}
					return nil
				})
				if (err != nil) != (j%4 >= 2) {
					t.Errorf("%d: %v", j%4, err)
				}
			}
		})
	}
	senders.Wait()
}

func TestStatus(t *testing.T) {
	t.Parallel()
	secret := errors.New("open /var/lib/secret: permission denied")
	tests := []struct {
		err     error
		status  int
		message string
	}{
		{secret, 500, "the server failed; its log says why"},
		{errs.Wrap(errs.Internal, secret, "secret words"), 500, "the server failed; its log says why"},
		{&errs.Error{Message: "secret words"}, 500, "the server failed; its log says why"},
		{errs.Wrap(errs.Busy, secret, "the disk is full"), 503, "the disk is full"},
		{fmt.Errorf("secret: %w", errs.New(errs.NotFound, "no such node")), 404, "no such node"},
		{fmt.Errorf("secret: %w", errs.Wrap(errs.Conflict, secret, "exists")), 409, "exists"},
		{errors.Join(secret, errs.New(errs.Forbidden, "not allowed")), 403, "not allowed"},
		{errs.Field("sql", "is empty"), 400, "sql is empty"},
		{errs.New(errs.Unauthenticated, "log in"), 401, "log in"},
		{errs.New(errs.TooLarge, "too large"), 413, "too large"},
		{&errs.Error{Kind: 99, Message: "of a kind to come"}, 500, "of a kind to come"},
	}
	for _, tt := range tests {
		status, message := httpx.Status(tt.err), httpx.Message(tt.err)
		if status != tt.status || message != tt.message || strings.Contains(message, "secret") {
			t.Errorf("%v: %d %q, want %d %q", tt.err, status, message, tt.status, tt.message)
		}
	}
}

func TestRemote(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]netip.Addr{
		"192.0.2.1:5":          netip.MustParseAddr("192.0.2.1"),
		"[::ffff:192.0.2.1]:5": netip.MustParseAddr("192.0.2.1"),
		"[2001:db8::1]:5":      netip.MustParseAddr("2001:db8::1"),
		"":                     {}, "@": {}, "192.0.2.1": {},
	} {
		r := &http.Request{RemoteAddr: addr}
		if got := httpx.Remote(r); got != want {
			t.Errorf("%q is %v", addr, got)
		}
	}
}

// TestMemory reads bodies with room for one: the second waits for the first,
// one whose request ends meanwhile is refused, and small ones never wait. What
// was taken is given back.
func TestMemory(t *testing.T) {
	t.Parallel()
	const large = 1 << 20
	b := &httpx.Bodies{Memory: semaphore.NewWeighted(large)}
	limits := httpx.Limits{Wire: large, Inflated: large}
	read := func(ctx context.Context, body []byte, encoding string, use func([]byte) error) error {
		r := request(bytes.NewReader(body), int64(len(body)), encoding).WithContext(ctx)
		return b.Read(r, limits, use)
	}
	nothing := func([]byte) error { return nil }
	inside, leave, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first <- read(t.Context(), make([]byte, large), "", func([]byte) error {
			close(inside)
			<-leave
			return nil
		})
	}()
	select {
	case <-inside:
	case err := <-first:
		t.Fatal(err)
	}
	if err := read(t.Context(), make([]byte, httpx.FreeBody), "", nothing); err != nil {
		t.Errorf("a small body: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := read(ended, make([]byte, large/2), "", nothing); !errs.Is(err, errs.Busy) {
		t.Errorf("a large body without room: %v", err)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("the first large body: %v", err)
	}
	for name, body := range map[string][]byte{
		"whole": zip(t, make([]byte, large)), "half": zip(t, make([]byte, large))[:500], "over the limit": zip(t, make([]byte, large+1)),
	} {
		if err := read(t.Context(), body, "gzip", func(got []byte) error {
			if len(got) != large {
				t.Errorf("%s: %d bytes", name, len(got))
			}
			return nil
		}); (err == nil) != (name == "whole") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !b.Memory.TryAcquire(large) {
		t.Error("not all room was given back")
	}
}

// TestMemory_wait checks that a large body does not wait for ever for room that
// nobody gives back.
func TestMemory_wait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &httpx.Bodies{Memory: semaphore.NewWeighted(1 << 20)}
		if !b.Memory.TryAcquire(1 << 20) {
			t.Fatal("there is no room")
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(make([]byte, 1<<20)))
		err := b.Read(r, httpx.Limits{Wire: 1 << 20, Inflated: 1 << 20}, func([]byte) error { return nil })
		if !errs.Is(err, errs.Busy) {
			t.Errorf("a large body that waited: %v", err)
		}
	})
}

// dripping sends a byte each so often.
type dripping struct {
	every time.Duration
	left  int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.every) //nolint:forbidigo // synctest's clock
	d.left--
	return copy(p, "x"), nil
}

// TestRate: a body that comes too slowly is refused soon, a slow one that is
// fast enough is not, nor is one that is slow for a moment.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		every time.Duration
		bytes int
		ok    bool
	}{
		{"slowloris", time.Second, 60, false},
		{"slow, but not too slow", time.Second / 11, 600, true},
		{"a moment", time.Second, 4, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, started := &httpx.Bodies{Rate: 10}, time.Now()
			err := b.Read(request(&dripping{tt.every, tt.bytes}, -1, ""), httpx.Limits{Wire: 1000, Inflated: 1000}, func([]byte) error { return nil })
			if tt.ok && err != nil || !tt.ok && (!errs.Is(err, errs.Invalid) || time.Since(started) > 7*time.Second) {
				t.Errorf("%s: %v after %s", tt.name, err, time.Since(started))
			}
		})
	}
}
