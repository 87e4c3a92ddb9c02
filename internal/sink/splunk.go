package sink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// splunkSender posts to an HTTP Event Collector. Source of its protocol:
// docs.splunk.com, "Format events for HTTP Event Collector", "About HTTP Event
// Collector Indexer Acknowledgment", and its list of codes.
type splunkSender struct {
	*poster

	url         string
	index       string
	source      string
	sourcetype  string
	acknowledge bool
}

func (m *Manager) openSplunk(s *resource.SinkSplunk) (Sender, error) {
	p, err := m.poster(&s.SinkTLS)
	if err != nil {
		return nil, err
	}
	token, err := m.Secrets.Read(s.Token)
	if err != nil {
		return nil, err
	}
	p.header.Set("Authorization", "Splunk "+token)
	p.header.Set("X-Splunk-Request-Channel", uuid.NewString())
	p.header.Set("Content-Type", "application/json")
	return &splunkSender{
		poster: p, url: strings.TrimSuffix(s.URL, "/"), index: s.Index, source: cmp.Or(s.Source, "muster"), sourcetype: s.Sourcetype,
		acknowledge: s.Acknowledge == nil || *s.Acknowledge,
	}, nil
}

// Send implements Sender.
func (s *splunkSender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	w, end := s.body(true)
	var buf []byte
	for i := range items {
		buf = s.event(buf[:0], &items[i])
		if _, err := w.Write(buf); err != nil {
			return nil, err
		}
	}
	body, err := end()
	if err != nil {
		return nil, err
	}
	a, err := s.post(ctx, s.url+"/services/collector/event", body, http.Header{"Content-Encoding": {"gzip"}})
	if err != nil {
		return nil, err
	}
	var said struct {
		Text string `json:"text"`
		Code int    `json:"code"`
		Ack  *int64 `json:"ackId"`
	}
	_ = json.Unmarshal(a.body, &said) // what is in the way may answer something else
	if a.status == http.StatusBadRequest && !splunkRefuses(said.Code) {
		return nil, fmt.Errorf("code %d: %s", said.Code, cut(said.Text)) // of how we ask, not of the events
	}
	if err := a.err(); err != nil || !s.acknowledge {
		return nil, err
	}
	if said.Ack == nil {
		return nil, errors.New("nothing is acknowledged: allow indexer acknowledgement for the token, or write acknowledge: false")
	}
	return nil, s.await(ctx, *said.Ack)
}

// splunkRefuses reports whether a code is about the events: invalid data format,
// event field required or blank, an error in indexed fields.
func splunkRefuses(code int) bool {
	switch code {
	case 5, 6, 12, 13, 15:
		return true
	}
	return false
}

func (s *splunkSender) event(dst []byte, it *Item) []byte {
	dst = append(dst, `{"time":`...)
	dst = strconv.AppendFloat(dst, float64(it.Record.Time.UnixMilli())/1000, 'f', 3, 64)
	dst = appendText(append(dst, `,"host":`...), it.Record.HostIdentifier)
	dst = appendText(append(dst, `,"source":`...), s.source)
	kind := s.sourcetype
	if kind == "" {
		kind = "osquery:results"
		if it.Record.Action == event.Status {
			kind = "osquery:status"
		}
	}
	dst = appendText(append(dst, `,"sourcetype":`...), kind)
	if s.index != "" {
		dst = appendText(append(dst, `,"index":`...), s.index)
	}
	dst = append(dst, `,"event":`...)
	dst = append(dst, it.Line...)
	return append(dst, '}')
}

// Pace of asking whether a batch is indexed, and for how long.
const (
	firstAck = 100 * time.Millisecond
	lastAck  = 2 * time.Second
)

// await asks until a batch is indexed. Splunk forgets acknowledgements that it told.
func (s *splunkSender) await(ctx context.Context, id int64) error {
	name := strconv.FormatInt(id, 10)
	pause := time.NewTimer(firstAck)
	defer pause.Stop()
	for wait := firstAck; ; wait = min(2*wait, lastAck) {
		pause.Reset(wait)
		select {
		case <-ctx.Done():
			return fmt.Errorf("the events were not indexed in time: %w", ctx.Err())
		case <-pause.C:
		}
		a, err := s.post(ctx, s.url+"/services/collector/ack", []byte(`{"acks":[`+name+`]}`), nil)
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("acknowledgement: status %d: %s", a.status, a.text())
		}
		var said struct {
			Acks map[string]bool `json:"acks"`
		}
		if err := json.Unmarshal(a.body, &said); err != nil {
			return fmt.Errorf("acknowledgement: %w", err)
		}
		if said.Acks[name] {
			return nil
		}
	}
}

// Close implements Sender.
func (s *splunkSender) Close() error { return s.close() }
