package weather

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
)

// Endpoints of the agents' API.
const (
	enrollPath = "/api/osquery/enroll"
	configPath = "/api/osquery/config"
	logPath    = "/api/osquery/log"
	readPath   = "/api/osquery/distributed/read"
	writePath  = "/api/osquery/distributed/write"
)

// stranger talks to the agents' listener as no agent does.
type stranger struct {
	address string // host:port
	tls     *tls.Config
	client  *http.Client
}

func (s *stage) stranger() (*stranger, error) {
	roots, err := s.server.Roots()
	if err != nil {
		return nil, err
	}
	address := strings.TrimPrefix(s.server.AgentURL, "https://")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}
	return &stranger{address, c, &http.Client{
		// An answer that comes later finds no agent any more.
		Timeout: agentwire.Timeout,
		// A connection for each request, as agents do. They do not announce it, and
		// to who does, Go's server may reset the connection before its answer is read.
		Transport: &http.Transport{TLSClientConfig: c, DisableCompression: true, MaxIdleConnsPerHost: -1},
	}}, nil
}

// dial opens a TCP connection.
func (s *stranger) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", s.address)
}

// dialTLS opens a TLS connection.
func (s *stranger) dialTLS(ctx context.Context) (net.Conn, error) {
	raw, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// answer is how the server answered a request.
type answer struct {
	status      int
	took        time.Duration
	refusal     string // what "error" says; "" for success
	nodeInvalid bool
}

// maxAnswer bounds the answers that are read here.
const maxAnswer = 8 << 20

// send makes one request. An answer that is no JSON object is an error, as it
// harms agents.
func (s *stranger) send(r *http.Request) (answer, error) {
	began := time.Now()
	got, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	_ = got.Body.Close()
	if err != nil {
		return answer{}, err
	}
	a := answer{status: got.StatusCode, took: time.Since(began)}
	var known struct {
		Error       *string `json:"error"`
		NodeInvalid bool    `json:"node_invalid"`
	}
	if err := json.Unmarshal(body, &known); err != nil || len(body) == 0 || body[0] != '{' {
		return a, fmt.Errorf("answered %d with no JSON object: %.100q", got.StatusCode, body)
	}
	a.nodeInvalid = known.NodeInvalid
	if known.Error != nil {
		a.refusal = *known.Error
	}
	return a, nil
}
