package blob_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/errs"
)

const (
	accessKey = "muster-test"
	secretKey = "not-a-secret-of-anybody"
)

// gateway is versitygw's program, which is built at its first use.
var gateway struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	if os.Getenv(memoryEnv) != "" {
		memoryChild()
		return
	}
	m.Run()
	if gateway.dir != "" {
		_ = os.RemoveAll(gateway.dir)
	}
}

// buildGateway returns versitygw, a real S3 server: the one that `make test`
// built, or else it is built from its own module file, which takes minutes the
// first time. A test is skipped where that cannot be done; with
// MUSTER_TEST_REQUIRE_ALL=1 it fails then.
func buildGateway(tb testing.TB) string {
	tb.Helper()
	gateway.once.Do(func() {
		if gateway.path = os.Getenv("MUSTER_VERSITYGW"); gateway.path != "" {
			return
		}
		if gateway.dir, gateway.err = os.MkdirTemp("", "muster-s3-"); gateway.err != nil { //nolint:usetesting // for all tests
			return
		}
		gateway.path = filepath.Join(gateway.dir, "versitygw")
		cmd := exec.Command("go", "-C", "../../tools/versitygw", "build", "-ldflags=-s -w", "-o", gateway.path, "github.com/versity/versitygw/cmd/versitygw")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			gateway.err = fmt.Errorf("versitygw, the S3 server of the tests, does not build: %w\n%s", err, out)
		}
	})
	if gateway.err != nil && os.Getenv("MUSTER_TEST_REQUIRE_ALL") != "1" {
		tb.Skip(gateway.err)
	}
	if gateway.err != nil {
		tb.Fatal(gateway.err)
	}
	return gateway.path
}

// startS3 starts a server with a bucket named "carves", and returns its
// address. With a certificate it speaks TLS.
func startS3(tb testing.TB, cert, key string) string {
	tb.Helper()
	program, dir := buildGateway(tb), tb.TempDir()
	for _, d := range []string{"data/carves", "meta"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	args := []string{"--access", accessKey, "--secret", secretKey, "--quiet", "--keep-alive", "--health", "/health"}
	scheme := "http"
	if cert != "" {
		args, scheme = append(args, "--cert", cert, "--key", key), "https"
	}
	// It does not tell the port that it got, so it is told one that was free.
	for range 5 {
		address := freeAddress(tb)
		if serve(tb, program, append(args, "--port", address, "posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data")), address) {
			return scheme + "://" + address
		}
	}
	tb.Fatal("versitygw does not start")
	return ""
}

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve starts the program and reports whether it takes connections. It ends
// with the test.
func serve(tb testing.TB, program string, args []string, address string) bool {
	tb.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the system ends it with this thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killing it makes an error
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-ended:
			tb.Logf("%s", out.String())
			return false
		case <-tick.C:
		}
	}
}

// bucketAt is the bucket of the tests.
func bucketAt(endpoint, prefix string) blob.S3Options {
	return blob.S3Options{Endpoint: endpoint, Bucket: "carves", Prefix: prefix, PathStyle: true, AccessKey: accessKey, SecretKey: secretKey}
}

func openS3(tb testing.TB, o blob.S3Options) *blob.S3 {
	tb.Helper()
	s, err := blob.OpenS3(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func plainClient(tb testing.TB, endpoint string) *minio.Core {
	tb.Helper()
	c, err := minio.NewCore(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func unfinished(tb testing.TB, c *minio.Core) int {
	tb.Helper()
	r, err := c.ListMultipartUploads(tb.Context(), "carves", "", "", "", "", 100)
	if err != nil {
		tb.Fatal(err)
	}
	return len(r.Uploads)
}

func TestS3(t *testing.T) {
	t.Parallel()
	endpoint := startS3(t, "", "")
	client := plainClient(t, endpoint)
	s := openS3(t, bucketAt(endpoint, "a/b/"))
	conformance(t, s, 11<<20+3) // two parts and a rest
	if n := unfinished(t, client); n != 0 {
		t.Errorf("%d unfinished uploads are left", n)
	}

	// Other prefixes, and what is deeper, are other people's.
	other := openS3(t, bucketAt(endpoint, ""))
	ctx := t.Context()
	if err := errors.Join(s.Put(ctx, "mine", 1, strings.NewReader("x")), other.Put(ctx, "theirs", 2, strings.NewReader("xy"))); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s); len(got) != 1 || got["mine"] != 1 {
		t.Errorf("below a/b: %v", got)
	}
	if got := list(t, other); len(got) != 1 || got["theirs"] != 2 {
		t.Errorf("at the top: %v", got)
	}

	// What a crash left is aborted at the next opening, if it is old and ours.
	for _, key := range []string{"a/b/left", "a/b/c/left", "other/left", "a/b/NOT-OURS"} {
		id, err := client.NewMultipartUpload(ctx, "carves", key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.PutObjectPart(ctx, "carves", key, id, 1, strings.NewReader("x"), 1, minio.PutObjectPartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	openS3(t, bucketAt(endpoint, "a/b"))
	if n := unfinished(t, client); n != 4 {
		t.Errorf("%d unfinished uploads, all of them young", n)
	}
	o := bucketAt(endpoint, "a/b")
	o.Abandoned = time.Nanosecond
	openS3(t, o)
	if n := unfinished(t, client); n != 3 {
		t.Errorf("%d unfinished uploads", n)
	}
}

func TestS3Open(t *testing.T) {
	t.Parallel()
	endpoint := startS3(t, "", "")
	for name, tt := range map[string]struct {
		change func(*blob.S3Options)
		kind   errs.Kind
		words  string
	}{
		"no bucket":  {func(o *blob.S3Options) { o.Bucket = "nothing-here" }, errs.Invalid, "there is no bucket nothing-here"},
		"no key":     {func(o *blob.S3Options) { o.AccessKey = "somebody" }, errs.Invalid, "keys"},
		"wrong key":  {func(o *blob.S3Options) { o.SecretKey = "wrong-secret" }, errs.Invalid, "keys"},
		"no server":  {func(o *blob.S3Options) { o.Endpoint = "http://" + freeAddress(t) }, errs.Busy, "does not answer"},
		"no address": {func(o *blob.S3Options) { o.Endpoint = "localhost:7070" }, errs.Invalid, "endpoint"},
		"path":       {func(o *blob.S3Options) { o.Endpoint += "/carves" }, errs.Invalid, "endpoint"},
		"no CA":      {func(o *blob.S3Options) { o.CAFile = "/nonexistent" }, errs.Invalid, "ca"},
		"empty CA":   {func(o *blob.S3Options) { o.CAFile = os.DevNull }, errs.Invalid, "certificate"},
		"bad name":   {func(o *blob.S3Options) { o.Bucket = "A/B" }, errs.Busy, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := bucketAt(endpoint, "")
			tt.change(&o)
			s, err := blob.OpenS3(t.Context(), o)
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), o.SecretKey) {
				t.Errorf("%v: %v", errs.KindOf(err), err)
			}
		})
	}
}

// TestS3TLS: the server's certificate is verified, with a CA of one's own.
func TestS3TLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	endpoint := startS3(t, cert, key)
	o := bucketAt(endpoint, "")
	if _, err := blob.OpenS3(t.Context(), o); !errs.Is(err, errs.Busy) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody: %v", err)
	}
	o.CAFile = cert
	s := openS3(t, o)
	conformance(t, s, 6<<20)
}

// certificate makes files of a certificate for 127.0.0.1 that signs itself.
func certificate(tb testing.TB) (cert, key string) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		tb.Fatal(err)
	}
	der8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der8}), 0o600),
	); err != nil {
		tb.Fatal(err)
	}
	return cert, key
}

// TestS3Weather: a proxy before the real server makes the errors of bad days.
func TestS3Weather(t *testing.T) {
	t.Parallel()
	endpoint := startS3(t, "", "")
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var puts, broken atomic.Int64
	var spoil atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	gate := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			puts.Add(1)
		}
		if f := spoil.Load(); f != nil && (*f)(w, r) {
			broken.Add(1)
			return
		}
		gate.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	s := openS3(t, bucketAt(proxy.URL, ""))
	const size = 12 << 20
	spoilt := func(f func(w http.ResponseWriter, r *http.Request) bool) {
		puts.Store(0)
		broken.Store(0)
		spoil.Store(&f)
	}

	// Each second request for a part is refused once: it is sent again.
	spoilt(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || puts.Load()%2 == 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	if err := s.Put(t.Context(), "a", size, content(size, 1)); err != nil || broken.Load() < 2 {
		t.Errorf("%d refusals: %v", broken.Load(), err)
	}
	// A bit that flips on the way is found by the server.
	spoilt(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.RawQuery, "partNumber=2") {
			r.Body = flipping{r.Body}
		}
		return false
	})
	if err := s.Put(t.Context(), "a", size, content(size, 2)); err == nil || !strings.Contains(err.Error(), "XAmzContentSHA256Mismatch") {
		t.Errorf("a flipped bit: %v", err)
	}
	if got, err := get(t.Context(), s, "a", 0, -1); err != nil || !bytes.Equal(got, bytesOf(t, size, 1)) {
		t.Errorf("the old blob: %d bytes, %v", len(got), err)
	}
	if n := unfinished(t, plainClient(t, endpoint)); n != 0 {
		t.Errorf("%d unfinished uploads are left", n)
	}
	// A server that is not there for long.
	spoilt(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	errPut := s.Put(t.Context(), "a", 1, strings.NewReader("x"))
	_, errGet := get(t.Context(), s, "a", 0, -1)
	for _, err := range []error{errPut, errGet, s.Delete(t.Context(), "a")} {
		if !errs.Is(err, errs.Busy) {
			t.Errorf("unavailable: %v", err)
		}
	}
	// One that is told of a range and sends all of it.
	spoilt(func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return false
	})
	if got, err := get(t.Context(), s, "a", 5, 5); err == nil {
		t.Errorf("no range: %d bytes", len(got))
	}
	// Who waits for his turn, and gives up.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "a", 1, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

type flipping struct{ r io.ReadCloser }

func (f flipping) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func (f flipping) Close() error { return f.r.Close() }
