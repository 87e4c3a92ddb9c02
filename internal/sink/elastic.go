package sink

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/musterhq/muster/internal/resource"
)

// elasticSender creates documents by the bulk API of Elasticsearch and OpenSearch,
// under the events' ids: what is there already is not made again.
type elasticSender struct {
	*poster

	url   string
	index string
}

func (m *Manager) openElastic(e *resource.SinkElastic) (Sender, error) {
	p, err := m.poster(&e.SinkTLS)
	if err != nil {
		return nil, err
	}
	password, err := m.secret(e.Password)
	if err != nil {
		return nil, err
	}
	key, err := m.secret(e.APIKey)
	if err != nil {
		return nil, err
	}
	switch {
	case key != "":
		p.header.Set("Authorization", "ApiKey "+key)
	case password != "":
		p.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(e.Username+":"+password)))
	}
	p.header.Set("Content-Type", "application/x-ndjson")
	// An event is in the index of the day on which it was received, however often and
	// whenever it is sent.
	return &elasticSender{poster: p, url: strings.TrimSuffix(e.URL, "/") + "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason", index: e.Index}, nil
}

// Send implements Sender.
func (s *elasticSender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	w, end := s.body(true)
	var buf []byte
	for i := range items {
		buf = append(buf[:0], `{"create":{"_index":`...)
		buf = appendText(buf, s.indexOf(&items[i]))
		buf = appendText(append(buf, `,"_id":`...), items[i].ID)
		buf = append(buf, "}}\n"...)
		if !strings.HasPrefix(string(items[i].Line[:min(len(items[i].Line), len(timestamp))]), timestamp) {
			// A data stream wants a time under this name.
			buf = append(buf, timestamp...)
			buf = append(appendTime(buf, items[i].Record.Time), ',')
			buf = append(buf, items[i].Line[1:]...)
		} else {
			buf = append(buf, items[i].Line...)
		}
		if _, err := w.Write(append(buf, '\n')); err != nil {
			return nil, err
		}
	}
	body, err := end()
	if err != nil {
		return nil, err
	}
	a, err := s.post(ctx, s.url, body, http.Header{"Content-Encoding": {"gzip"}})
	if err == nil {
		err = a.err()
	}
	if err != nil {
		return nil, err
	}
	return bulkAnswer(a.body, len(items))
}

// timestamp begins lines that have the time already.
const timestamp = `{"@timestamp":`

func (s *elasticSender) indexOf(it *Item) string {
	if !strings.Contains(s.index, "{") {
		return s.index
	}
	t := it.Record.Received.UTC()
	return strings.NewReplacer("{day}", t.Format("2006.01.02"), "{month}", t.Format("2006.01")).Replace(s.index)
}

// bulkAnswer says what became of each item. If one is to come again, all are: those
// that were created are there already then, which is no error.
func bulkAnswer(body []byte, sent int) ([]Refusal, error) {
	var said struct {
		Errors *bool `json:"errors"`
		Items  []map[string]struct {
			Status int `json:"status"`
			Error  struct {
				Type   string `json:"type"`
				Reason string `json:"reason"`
			} `json:"error"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Errors == nil {
		return nil, fmt.Errorf("the answer is none of the bulk API: %s", answer{body: body}.text())
	}
	if !*said.Errors {
		return nil, nil
	}
	if len(said.Items) != sent {
		return nil, fmt.Errorf("the answer has %d items of %d", len(said.Items), sent)
	}
	var refused []Refusal
	var later error
	for i, item := range said.Items {
		for _, r := range item {
			switch {
			case r.Status >= 200 && r.Status < 300, r.Status == http.StatusConflict: // it is there
			case r.Status == http.StatusBadRequest, r.Status == http.StatusRequestEntityTooLarge:
				refused = append(refused, Refusal{i, fmt.Sprintf("%s: %s", r.Error.Type, r.Error.Reason)})
			default:
				later = fmt.Errorf("status %d of an event: %s: %s", r.Status, r.Error.Type, cut(r.Error.Reason))
			}
		}
	}
	if later != nil {
		return nil, later
	}
	return refused, nil
}

// Close implements Sender.
func (s *elasticSender) Close() error { return s.close() }
