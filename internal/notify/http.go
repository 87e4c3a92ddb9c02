package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/errs"
)

const (
	// httpTimeout is for one request, far above what any of the services takes.
	httpTimeout = 20 * time.Second
	// maxAnswer is how much of an answer is read, and maxShown how much is shown.
	maxAnswer = 16 << 10
	maxShown  = 300
)

// clients are the HTTP clients by the CAs that they trust.
type clients struct {
	guard *egress.Guard

	mu sync.Mutex
	by map[string]*http.Client
}

// maxClients bounds the pools of connections: CAs are changed seldom.
const maxClients = 16

// get returns the client that trusts some CAs; "" are the system's.
func (c *clients) get(ca string) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.by[ca]; client != nil {
		return client, nil
	}
	client := c.guard.Client(httpTimeout)
	if ca != "" {
		config, err := trust(ca)
		if err != nil {
			return nil, err
		}
		if t, ok := client.Transport.(*http.Transport); ok {
			t.TLSClientConfig = config
		}
	}
	if c.by == nil || len(c.by) >= maxClients {
		c.by = map[string]*http.Client{}
	}
	c.by[ca] = client
	return client, nil
}

// trust returns what checks a server's certificate against some CAs, or those of
// the system.
func trust(ca string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return config, nil
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
		return nil, errs.New(errs.Invalid, "ca holds no certificate in PEM")
	}
	return config, nil
}

// post sends JSON and returns what the other side answered.
func (d *delivery) post(ctx context.Context, target, ca string, body []byte, head http.Header) (string, error) {
	client, err := d.s.http.get(ca)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return "", errs.New(errs.Invalid, "its URL is none that can be used")
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return "", errs.New(errs.Invalid, "its URL is neither https nor http")
	}
	maps.Copy(r.Header, head)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Muster/"+d.s.Version)
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	b, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	said := "it answered " + strings.TrimSpace(answer.Status)
	if text := alert.Line(d.conceal(string(b)), maxShown); text != "" {
		said += ": " + text
	}
	return said, judge(answer, said)
}

// judge says whether a status means that the message was taken, and if not,
// whether it may be later. What is likely mended on either side, as a wrong token
// or a path that is not there, may pass; a message that is not understood will
// not.
func judge(answer *http.Response, said string) error {
	switch code := answer.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 3:
		return fmt.Errorf("%s; redirects are not followed, write the URL that it leads to", said)
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity, code == http.StatusUnsupportedMediaType:
		return &alert.SendError{Refused: true, Err: errs.New(errs.Invalid, "%s", said)}
	}
	return &alert.SendError{After: retryAfter(answer), Err: errs.New(errs.Invalid, "%s", said)}
}

func retryAfter(answer *http.Response) time.Duration {
	n, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	const most = 3600
	return time.Duration(min(n, most)) * time.Second
}
