// Package agentwire is the agent's side of the TLS connection: it sends
// requests with osquery's head and reads answers by osquery's rules, in which
// the HTTP status means nothing and an empty body is success. Muster's own
// agent and the simulated agents share it. Redirects are refused, which is the
// one thing it does better than the real agent.
//
// Sources: osquery/remote/transports/tls.cpp, osquery/remote/requests.h and
// osquery/remote/utility.h at commit a5b14f63d, and captured requests.
package agentwire

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fastjson"
)

// Timeout bounds one whole exchange: connect, TLS, write, read and the resend.
const Timeout = 16 * time.Second

// readBuffer holds the head of an answer. TLS buffers the rest already, and a
// kept-alive connection keeps this.
const readBuffer = 1 << 10

// maxResponse is the largest body that an agent takes.
const maxResponse = 8 << 20

// Conn says what becomes of the connection after an answer.
type Conn string

// The connection modes. A real agent opens a new connection for every request
// and never resumes a TLS session, so Full is the truth; the others stand for
// a proxy in front of the server, and for what resumption would bring.
const (
	Full      Conn = "full"
	Resume    Conn = "resume"
	KeepAlive Conn = "keepalive"
)

// ErrNodeInvalid means that the server does not know the node key: enrol
// again.
var ErrNodeInvalid = errors.New("request failed: invalid node key")

// A ServerError is an answer that carries an "error" key. The request failed;
// what it held must be kept and sent again.
type ServerError struct{ Message string }

func (e *ServerError) Error() string { return "request failed: " + e.Message }

// Options of a Client. URL, RootCAs (or TLS) and Version are required.
type Options struct {
	URL         string // https://host:port, optionally with a path prefix
	RootCAs     *x509.CertPool
	Certificate *tls.Certificate // shown to every server that asks; nil for none
	Version     string           // of osquery, for User-Agent; before 5.23 the head has no node key
	KeyExchange KeyExchange      // X25519 if empty
	Conn        Conn             // Full if empty
	// TLS, if set, is used instead of RootCAs, Certificate and KeyExchange, so
	// that thousands of clients can share it; see TLSConfig. It must not be
	// changed any more.
	TLS *tls.Config
	// Connected, if set, is called after every handshake, by whoever made the
	// request.
	Connected func(tls.ConnectionState)
	// Dial opens the TCP connection; net.Dialer if nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client sends requests one at a time; concurrent calls wait for each other,
// as each thread of a real agent has a client of its own.
type Client struct {
	host, prefix, version string
	silent                bool // about the node key
	tls                   *tls.Config
	conn                  Conn
	dial                  func(ctx context.Context, network, address string) (net.Conn, error)
	connected             func(tls.ConnectionState)

	mu   sync.Mutex
	kept *tls.Conn
	r    *bufio.Reader
}

// New returns a client; it does not connect.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("agent url %q: must be https://host:port", o.URL)
	}
	c := &Client{
		host: u.Host, prefix: u.EscapedPath(), version: o.Version, conn: o.Conn, dial: o.Dial,
		connected: o.Connected, tls: o.TLS, silent: silent(o.Version),
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	if c.tls == nil {
		if c.tls, err = TLSConfig(o); err != nil {
			return nil, err
		}
	}
	if o.Conn == Resume {
		c.tls = c.tls.Clone() // a session belongs to one client
		c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	if u.Port() == "" {
		c.host = net.JoinHostPort(u.Hostname(), "443")
	}
	return c, nil
}

// silent reports whether a version of osquery has no Authorization header.
func silent(version string) bool {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	return err == nil && (major < 5 || major == 5 && minor < 23)
}

// Request is one POST. NodeKey, if any, goes into the Authorization header, of
// versions that have it; the body carries it too, but for blocks of carves.
type Request struct {
	Path    string
	NodeKey string
	Body    []byte
	Gzip    bool // compress the body
}

// Post sends a request and returns the answer's body by osquery's rules:
// ErrNodeInvalid, *ServerError, or success with a body that is either empty or
// JSON. It sends once more, at once, when the connection breaks before an
// answer, unless time ran out; so a request may arrive twice.
func (c *Client) Post(ctx context.Context, r Request) ([]byte, error) {
	body, err := c.PostRaw(ctx, r)
	if err != nil {
		return nil, err
	}
	return body, Check(body)
}

// PostRaw is Post without a look at the body, as the agent does for enrol and
// carves.
func (c *Client) PostRaw(ctx context.Context, r Request) ([]byte, error) {
	message, err := c.encode(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	deadline := time.Now().Add(Timeout)
	answer, err := c.exchange(ctx, deadline, message)
	if err != nil && ctx.Err() == nil && time.Now().Before(deadline) {
		answer, err = c.exchange(ctx, deadline, message)
	}
	return answer, err
}

// Check judges an answer's body as osquery's TLSRequestHelper does.
func Check(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return fmt.Errorf("cannot parse JSON answer: %w", err)
	}
	if v.Type() != fastjson.TypeObject {
		return nil
	}
	if v.GetBool("node_invalid") {
		return ErrNodeInvalid
	}
	if e := v.Get("error"); e != nil {
		if e.Type() != fastjson.TypeString {
			return &ServerError{"<unknown>"}
		}
		return &ServerError{string(e.GetStringBytes())}
	}
	return nil
}

// Close drops a kept connection.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

// drop closes the connection as osquery does, without TLS's word of goodbye
// (Client::closeSocket in osquery/remote/http_client.cpp).
func (c *Client) drop() {
	if c.kept != nil {
		_ = c.kept.NetConn().Close()
		c.kept, c.r = nil, nil
	}
}

// headRoom is what the head of a request needs, and a little more.
const headRoom = 384

// encode writes the whole request, the head with osquery's headers in
// osquery's order.
func (c *Client) encode(r Request) ([]byte, error) {
	body := r.Body
	if r.Gzip {
		var buf bytes.Buffer
		z, _ := gzip.NewWriterLevel(&buf, gzip.BestCompression)
		_, _ = z.Write(body) // a bytes.Buffer takes everything
		if err := z.Close(); err != nil {
			return nil, err
		}
		body = buf.Bytes()
	}
	m := make([]byte, 0, headRoom+len(body))
	m = concat(m, "POST ", c.prefix, r.Path, " HTTP/1.1\r\n")
	m = concat(m, "Content-Type: application/json\r\nAccept: application/json\r\n")
	m = concat(m, "User-Agent: osquery/", c.version, "\r\n")
	if r.NodeKey != "" && !c.silent {
		m = concat(m, "Authorization: NodeKey ", r.NodeKey, "\r\n")
	}
	if r.Gzip {
		m = concat(m, "Content-Encoding: gzip\r\n")
	}
	m = concat(m, "Host: ", c.host, "\r\nContent-Length: ")
	m = strconv.AppendInt(m, int64(len(body)), 10)
	m = concat(m, "\r\n\r\n")
	return append(m, body...), nil
}

func concat(dst []byte, texts ...string) []byte {
	for _, s := range texts {
		dst = append(dst, s...)
	}
	return dst
}

// exchange sends a message and reads the answer. The connection's own deadline
// bounds it, which costs less than a timer for every request.
func (c *Client) exchange(ctx context.Context, deadline time.Time, message []byte) (_ []byte, err error) {
	if err := c.connect(ctx, deadline); err != nil {
		return nil, err
	}
	conn := c.kept
	_ = conn.SetDeadline(deadline) // if it is closed, writing will tell
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	keep := false
	defer func() {
		if !stop() || !keep || err != nil {
			c.drop()
		}
	}()
	if _, err := conn.Write(message); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	answer, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // read to the end below
	if answer.StatusCode >= 300 && answer.StatusCode < 400 {
		return nil, fmt.Errorf("answered with a redirect (%d)", answer.StatusCode)
	}
	got, err := readBody(answer)
	if err != nil {
		return nil, err
	}
	if keep = c.conn == KeepAlive && !answer.Close; keep {
		_ = conn.SetDeadline(time.Time{}) // or thousands of idle connections would have a timer each
	}
	return got, nil
}

func readBody(answer *http.Response) (got []byte, err error) {
	switch n := answer.ContentLength; {
	case n > maxResponse:
	case n >= 0:
		got = make([]byte, n)
		_, err = io.ReadFull(answer.Body, got)
	default:
		got, err = io.ReadAll(io.LimitReader(answer.Body, maxResponse+1))
	}
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if max(answer.ContentLength, int64(len(got))) > maxResponse {
		return nil, fmt.Errorf("answer is over %d bytes", maxResponse)
	}
	return got, nil
}

func (c *Client) connect(ctx context.Context, deadline time.Time) error {
	if c.kept != nil {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := c.dial(ctx, "tcp", c.host)
	if err != nil {
		return err
	}
	conn := tls.Client(raw, c.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return fmt.Errorf("TLS with %s: %w", c.host, err)
	}
	if c.connected != nil {
		c.connected(conn.ConnectionState())
	}
	c.kept, c.r = conn, bufio.NewReaderSize(conn, readBuffer)
	return nil
}
