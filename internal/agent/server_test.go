package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// lost is the status of an answer that never arrives.
const lost = -1

// A request as it came over the connection.
type request struct {
	at      time.Time
	method  string
	path    string
	headers [][2]string
	body    []byte // inflated
	key     string // node_key of the body
	conn    int
	client  string // the client certificate's common name
}

func (r request) header(name string) string {
	for _, h := range r.headers {
		if h[0] == name {
			return h[1]
		}
	}
	return ""
}

// lines returns the data of a log request.
func (r request) lines(t *testing.T) []map[string]any {
	t.Helper()
	var body struct {
		Data []map[string]any `json:"data"`
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	return body.Data
}

// A server speaks TLS over in-memory connections and records what agents send.
// It knows nothing of Muster's own server.
type server struct {
	tls   *tls.Config
	roots *x509.CertPool
	ca    authority

	mu       sync.Mutex
	requests []request
	conns    int
	answer   func(r request) (status int, body string)
	dialer   *server // dialled instead, for an agent that trusts by its own flags
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newServer(t *testing.T, answer func(r request) (int, string)) *server {
	t.Helper()
	ca := newAuthority(t)
	s := &server{ca: ca, roots: x509.NewCertPool(), answer: answer}
	s.roots.AddCert(ca.cert)
	s.tls = &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "muster.test")}, MinVersion: tls.VersionTLS12,
		ClientCAs: s.roots, ClientAuth: tls.VerifyClientCertIfGiven,
		SessionTicketsDisabled: true, // a pipe holds nothing: writing a ticket would wait for a client that writes
	}
	return s
}

func (s *server) dial(context.Context, string, string) (net.Conn, error) {
	if s.dialer != nil {
		s = s.dialer
	}
	client, mine := net.Pipe()
	s.mu.Lock()
	s.conns++
	n := s.conns
	s.mu.Unlock()
	go s.serve(tls.Server(mine, s.tls), n)
	return client, nil
}

func (s *server) serve(c *tls.Conn, n int) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		q, err := readRequest(r)
		if err != nil {
			return
		}
		q.at, q.conn = time.Now(), n
		if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
			q.client = certs[0].Subject.CommonName
		}
		s.mu.Lock()
		s.requests = append(s.requests, q)
		s.mu.Unlock()
		status, body := s.answer(q)
		if status == lost {
			return
		}
		_, err = fmt.Fprintf(c, "HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		if err != nil {
			return
		}
	}
}

func readRequest(r *bufio.Reader) (request, error) {
	var q request
	line, err := r.ReadString('\n')
	if err != nil {
		return q, err
	}
	words := strings.Fields(line)
	q.method, q.path = words[0], words[1]
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return q, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		q.headers = append(q.headers, [2]string{name, value})
	}
	n, err := strconv.Atoi(q.header("Content-Length"))
	if err != nil {
		return q, err
	}
	q.body = make([]byte, n)
	if _, err := io.ReadFull(r, q.body); err != nil {
		return q, err
	}
	if q.header("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(q.body))
		if err != nil {
			return q, err
		}
		if q.body, err = io.ReadAll(z); err != nil {
			return q, err
		}
	}
	var body struct {
		NodeKey string `json:"node_key"`
	}
	if err := json.Unmarshal(q.body, &body); err != nil {
		return q, err
	}
	q.key = body.NodeKey
	return q, nil
}

// to returns the requests for a path so far.
func (s *server) to(path string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.requests), func(r request) bool { return r.path != path })
}

// lines returns the lines of one type that were logged so far.
func (s *server) lines(t *testing.T, kind string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, r := range s.to("/log") {
		if strings.Contains(string(r.body), `"log_type":"`+kind+`"`) {
			all = append(all, r.lines(t)...)
		}
	}
	return all
}

// script is a server's usual behaviour: it enrols with key "nk-1", "nk-2", …
// and answers the rest with what the fields say.
type script struct {
	mu      sync.Mutex
	config  string
	read    []string // answers in turn, then {}
	log     func(r request) (int, string)
	carve   func(r request) (int, string) // of /cstart and /cblock
	enrols  int
	invalid map[string]bool // node keys that are unknown
}

func (s *script) answer(r request) (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.path == "/enroll" {
		s.enrols++
		return 200, fmt.Sprintf(`{"node_key":"nk-%d","node_invalid":false}`, s.enrols)
	}
	if s.invalid[r.key] {
		return 401, `{"node_invalid":true}`
	}
	switch r.path {
	case "/config":
		return 200, s.config
	case "/read":
		if len(s.read) > 0 {
			body := s.read[0]
			s.read = s.read[1:]
			return 200, body
		}
	case "/log":
		if s.log != nil {
			return s.log(r)
		}
	case "/cstart", "/cblock":
		if s.carve != nil {
			return s.carve(r)
		}
		return 200, `{"session_id":"sess-1"}`
	}
	return 200, `{}`
}

func (s *script) set(change func(s *script)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// testFlags are those of an agent for server s.
func testFlags(t *testing.T, more string) *Flags {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(" s3cret \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFlags()
	f.Parse(`
--tls_hostname=muster.test:8443
--database_path=` + filepath.Join(dir, "db") + `
--enroll_secret_path=` + filepath.Join(dir, "secret") + `
--host_identifier=specified
--specified_identifier=host-1
--enroll_tls_endpoint=/enroll
--config_plugin=tls
--config_tls_endpoint=/config
--config_refresh=60
--logger_plugin=tls
--logger_tls_endpoint=/log
--disable_distributed=false
--distributed_interval=10
--distributed_tls_read_endpoint=/read
--distributed_tls_write_endpoint=/write
--schedule_splay_percent=101
` + more)
	if ignored := f.Ignored(); len(ignored) > 0 {
		t.Fatalf("flags %q are ignored", ignored)
	}
	return f
}

// start runs an agent until the returned function is called, or the test ends.
func start(t *testing.T, s *server, f *Flags) (a *Agent, stop func()) {
	t.Helper()
	return startWith(t, s, Options{Flags: f})
}

func startWith(t *testing.T, s *server, o Options) (a *Agent, stop func()) {
	t.Helper()
	o.RootCAs, o.Dial = s.roots, s.dial
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}
