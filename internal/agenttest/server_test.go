package agenttest_test

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/osquery"
)

const secret = "a good secret"

// server is a small osquery server: real TLS and HTTP, everything in memory.
type server struct {
	t    testing.TB
	cert tls.Certificate
	pool *x509.CertPool
	addr string
	http *http.Server
	// stored tells that a log request was.
	stored chan struct{}

	mu      sync.Mutex
	keys    map[string]string // node key: host identifier
	enrols  []osquery.EnrollRequest
	serial  int
	logs    []logged
	written []osquery.QueryAnswer
	read    string                   // the answer to distributed/read
	readOf  func(host string) string // instead of read, if set
	wrote   func(host string, answers []osquery.QueryAnswer)
	config  string
	// before, if set, may answer a request itself (true) once it was read.
	before func(path string, w http.ResponseWriter) bool
	// carve, if set, answers the requests of carves (true).
	carve func(path string, body []byte, w io.Writer) bool
	heads map[string]http.Header // the last of each path
}

// logged is one request to log, as it came.
type logged struct {
	host, logType string
	body          []byte
	lines         []json.RawMessage
}

func newServer(tb testing.TB) *server {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	leaf, err := x509.ParseCertificate(der)
	must(tb, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	s := &server{
		t: tb, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool: pool, addr: "127.0.0.1:0",
		stored: make(chan struct{}, 1), keys: map[string]string{}, heads: map[string]http.Header{}, read: `{"queries":{}}`, config: `{"schedule":{"q":{"query":"SELECT 1","interval":60}}}`,
	}
	s.start()
	tb.Cleanup(s.stop)
	return s
}

// start listens on the same address as before.
func (s *server) start() {
	s.t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.addr)
	must(s.t, err)
	s.addr = listener.Addr().String()
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12},
	}
	go func(h *http.Server) { _ = h.ServeTLS(listener, "", "") }(s.http)
}

// stop drops all connections.
func (s *server) stop() { _ = s.http.Close() }

func (s *server) url() string { return "https://" + s.addr }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/api/osquery/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil && s.before(path, w) {
		return
	}
	s.heads[path] = r.Header
	if path == "enroll" {
		s.enroll(w, b)
		return
	}
	if s.carve != nil && s.carve(path, b, w) {
		return
	}
	key, err := osquery.DecodeNodeKey(b)
	host, ok := s.keys[key]
	// Hosts of versions before 5.23 have no such header.
	sent := r.Header.Get("Authorization")
	if err != nil || !ok || sent != "NodeKey "+key && (sent != "" || strings.Contains(r.UserAgent(), "/5.23")) {
		_, _ = io.WriteString(w, `{"node_invalid":true}`)
		return
	}
	switch path {
	case "config":
		_, _ = io.WriteString(w, s.config)
	case "log":
		var m osquery.LogRequest
		if err := json.Unmarshal(b, &m); err != nil {
			_, _ = io.WriteString(w, `{"error":"bad log"}`)
			return
		}
		s.logs = append(s.logs, logged{host, m.LogType, b, m.Data})
		select {
		case s.stored <- struct{}{}:
		default:
		}
	case "distributed/read":
		if s.readOf != nil {
			_, _ = io.WriteString(w, s.readOf(host))
			return
		}
		_, _ = io.WriteString(w, s.read)
	case "distributed/write":
		answers, err := osquery.DecodeDistributedWrite(b)
		if err != nil {
			s.t.Error(err)
		}
		s.written = append(s.written, answers...)
		if s.wrote != nil {
			s.wrote(host, answers)
		}
		_, _ = io.WriteString(w, `{}`)
	default:
		_, _ = io.WriteString(w, `{"error":"no such path"}`)
	}
}

func (s *server) enroll(w http.ResponseWriter, b []byte) {
	m, err := osquery.DecodeEnroll(b, osquery.EnrollSecretName)
	if err != nil || m.EnrollSecret != secret {
		_, _ = io.WriteString(w, `{"node_invalid":true}`)
		return
	}
	s.enrols = append(s.enrols, m)
	s.serial++
	key := "key-" + strconv.Itoa(s.serial)
	s.keys[key] = m.HostIdentifier
	_ = json.NewEncoder(w).Encode(osquery.EnrollResponse{NodeKey: key})
}

// forgetKeys makes every key unknown.
func (s *server) forgetKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.keys)
}

func (s *server) setBefore(f func(path string, w http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *server) setCarve(f func(path string, body []byte, w io.Writer) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carve = f
}

// head returns the head of the last request to a path.
func (s *server) head(path string) http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[path]
}

func (s *server) setConfig(answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = answer
}

func (s *server) setRead(answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = answer
}

func (s *server) enrolments() []osquery.EnrollRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enrols
}

// waitLogs waits until that many log requests were stored.
func (s *server) waitLogs(count int) {
	s.t.Helper()
	for len(s.requests()) < count {
		select {
		case <-s.stored:
		case <-s.t.Context().Done():
			s.t.Fatal("the test ended first")
		}
	}
}

func (s *server) requests() []logged {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs
}

func (s *server) answers() []osquery.QueryAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// numbers returns the stored numbers of every host, in the order received.
func (s *server) numbers() map[string][]int64 {
	stored := map[string][]int64{}
	for _, l := range s.requests() {
		for _, line := range l.lines {
			var m struct {
				Columns struct{ N, Node string }
			}
			must(s.t, json.Unmarshal(line, &m))
			n, err := strconv.ParseInt(m.Columns.N, 10, 64)
			must(s.t, err)
			stored[m.Columns.Node] = append(stored[m.Columns.Node], n)
		}
	}
	return stored
}

func (s *server) node(tb testing.TB) *agenttest.Node {
	tb.Helper()
	return agenttest.NewNodes(tb, s.url(), s.pool, secret, 1)[0]
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// hijack breaks the connection without an answer.
func hijack(tb testing.TB, w http.ResponseWriter) {
	tb.Helper()
	h, ok := w.(http.Hijacker)
	if !ok {
		tb.Error("no hijacker")
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		tb.Error(err)
		return
	}
	_ = conn.Close()
}
