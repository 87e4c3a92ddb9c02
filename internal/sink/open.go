package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/resource"
)

// open returns the sender of a plan. Secrets are read now, so that a new one works
// once a connection is made anew.
func (m *Manager) open(p *resource.SinkPlan) (Sender, error) {
	s := p.Spec
	switch {
	case s.File != nil:
		return m.openFile(s.File)
	case s.Stdout != nil:
		return newStdout(m.Stdout), nil
	case s.Syslog != nil:
		return m.openSyslog(s.Syslog)
	case s.HTTP != nil:
		return m.openHTTP(s.HTTP)
	case s.SplunkHEC != nil:
		return m.openSplunk(s.SplunkHEC)
	case s.Kafka != nil:
		return m.openKafka(s.Kafka)
	case s.Elasticsearch != nil:
		return m.openElastic(s.Elasticsearch)
	case s.OpenSearch != nil:
		return m.openElastic(s.OpenSearch)
	case s.S3 != nil:
		return m.openS3(s.S3)
	case s.NATS != nil:
		return m.openNATS(s.NATS)
	}
	return nil, errors.New("this version of Muster does not know the sink's type")
}

// secret reads a secret; nil is none.
func (m *Manager) secret(r *credential.Reference) (string, error) {
	if r == nil {
		return "", nil
	}
	return m.Secrets.Read(*r)
}

// tls returns how a connection speaks TLS.
func (m *Manager) tls(t *resource.SinkTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	ca, err := m.secret(t.CA)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("ca: %s holds no certificate in PEM", t.CA)
		}
	}
	if t.ClientCert == nil {
		return c, nil
	}
	cert, err := m.secret(t.ClientCert)
	if err != nil {
		return nil, fmt.Errorf("client_cert: %w", err)
	}
	key, err := m.secret(t.ClientKey)
	if err != nil {
		return nil, fmt.Errorf("client_key: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("client_cert and client_key do not belong together: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// poster posts to one server.
type poster struct {
	client *http.Client
	header http.Header // of every request
	zip    *gzip.Writer
	buf    bytes.Buffer // the body under way
}

func (m *Manager) poster(t *resource.SinkTLS) (*poster, error) {
	c, err := m.tls(t)
	if err != nil {
		return nil, err
	}
	client := m.Egress.Client(sendTime)
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("egress gives another transport than it did")
	}
	transport.TLSClientConfig = c
	transport.ResponseHeaderTimeout = 0 // the request's own time counts
	p := &poster{client: client, header: http.Header{}}
	p.header.Set("User-Agent", "muster/"+m.Version)
	return p, nil
}

// body begins a body, compressed or not, and returns where it is written to, and what
// ends it.
func (p *poster) body(compressed bool) (w io.Writer, end func() ([]byte, error)) {
	p.buf.Reset()
	if !compressed {
		return &p.buf, func() ([]byte, error) { return p.buf.Bytes(), nil }
	}
	if p.zip == nil {
		p.zip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is one
	}
	p.zip.Reset(&p.buf)
	return p.zip, func() ([]byte, error) {
		err := p.zip.Close()
		return p.buf.Bytes(), err
	}
}

// answer is what a server says.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// maxAnswer bounds what is read of an answer: a bulk answer has some 200 bytes for
// each event.
const maxAnswer = 64 << 20

func (p *poster) post(ctx context.Context, url string, body []byte, header http.Header) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	maps.Copy(r.Header, p.header)
	maps.Copy(r.Header, header)
	res, err := p.client.Do(r)
	if err != nil {
		return answer{}, withoutURL(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return answer{res.StatusCode, res.Header, b}, err
}

// withoutURL takes the URL out of an error, which may hold a secret.
func withoutURL(err error) error {
	var e interface{ Unwrap() error }
	if errors.As(err, &e) {
		if inner := e.Unwrap(); inner != nil {
			return inner
		}
	}
	return err
}

func (p *poster) close() error {
	p.client.CloseIdleConnections()
	return nil
}

// err returns what an answer means to what was sent: nil if it was taken.
func (a answer) err() error {
	switch {
	case a.status >= 200 && a.status < 300:
		return nil
	case a.status == http.StatusBadRequest, a.status == http.StatusRequestEntityTooLarge, a.status == http.StatusUnprocessableEntity:
		return refusedf("status %d: %s", a.status, a.text())
	}
	err := fmt.Errorf("status %d: %s", a.status, a.text())
	if a.status >= 300 && a.status < 400 {
		err = fmt.Errorf("status %d: a redirect, which is not followed; write the URL that it leads to", a.status)
	}
	if n, convErr := strconv.Atoi(a.header.Get("Retry-After")); convErr == nil && n > 0 {
		return &LaterError{time.Duration(min(n, int(mostLater/time.Second))) * time.Second, err}
	}
	return err
}

// text is the beginning of an answer, in one line.
func (a answer) text() string {
	return strings.Join(strings.Fields(cut(string(a.body[:min(len(a.body), maxReason)]))), " ")
}
