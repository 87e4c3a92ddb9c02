package sink

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/resource"
)

// httpSender posts batches, a line for each event.
type httpSender struct {
	*poster

	url    string
	sign   []byte // nil without
	gzip   bool
	now    func() time.Time
	header http.Header
}

func (m *Manager) openHTTP(h *resource.SinkHTTP) (Sender, error) {
	p, err := m.poster(&h.SinkTLS)
	if err != nil {
		return nil, err
	}
	s := &httpSender{poster: p, url: h.URL, gzip: !h.NoGzip, now: m.Now, header: http.Header{}}
	if h.URLFrom != nil {
		if s.url, err = m.secret(h.URLFrom); err != nil {
			return nil, err
		}
	}
	sign, err := m.secret(h.Sign)
	if err != nil {
		return nil, err
	}
	if sign != "" {
		s.sign = []byte(sign)
	}
	s.header.Set("Content-Type", "application/x-ndjson")
	if s.gzip {
		s.header.Set("Content-Encoding", "gzip")
	}
	for name, from := range h.Headers {
		v, err := m.Secrets.Read(from)
		if err != nil {
			return nil, err
		}
		s.header.Set(name, v)
	}
	return s, nil
}

// Send implements Sender.
func (s *httpSender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	w, end := s.body(s.gzip)
	for i := range items {
		if _, err := w.Write(items[i].Line); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte{'\n'}); err != nil {
			return nil, err
		}
	}
	body, err := end()
	if err != nil {
		return nil, err
	}
	header := s.header.Clone()
	header.Set("X-Muster-Events", strconv.Itoa(len(items)))
	if s.sign != nil {
		stamp := strconv.FormatInt(s.now().Unix(), 10)
		header.Set("X-Muster-Timestamp", stamp)
		header.Set("X-Muster-Signature", "v1="+signature(s.sign, stamp, body))
	}
	a, err := s.post(ctx, s.url, body, header)
	if err != nil {
		return nil, err
	}
	return nil, a.err()
}

// signature signs a time and a body: who kept a body cannot send it with another time.
func signature(key []byte, stamp string, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(stamp))
	h.Write([]byte{'.'})
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Close implements Sender.
func (s *httpSender) Close() error { return s.close() }
