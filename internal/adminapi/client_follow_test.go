package adminapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
)

// cutStream serves events and cuts each connection after a few of them. With
// ids it goes on after Last-Event-ID, else it begins again.
type cutStream struct {
	events   []string // data of each; the last is the end
	each     int      // events per connection
	ids      bool
	requests atomic.Int32
	lastIDs  []string
}

func (c *cutStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.requests.Add(1)
	last := r.Header.Get("Last-Event-ID")
	c.lastIDs = append(c.lastIDs, last)
	first := 0
	if last != "" {
		if _, err := fmt.Sscanf(last, "%d", &first); err != nil {
			http.Error(w, "no id of ours", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	end := min(first+c.each, len(c.events))
	if !c.ids { // each connection gets further, as real ones do
		end = min(c.each*int(c.requests.Load()), len(c.events))
	}
	for i, data := range c.events[first:end] {
		n := first + i + 1
		name := adminapi.EventAnswer
		if n == len(c.events) {
			name = adminapi.EventEnd
		}
		fmt.Fprintf(w, ": alive\n\n")
		if c.ids {
			fmt.Fprintf(w, "id: %d\n", n)
		}
		fmt.Fprintf(w, "event: %s\r\ndata: %s\n\n", name, data)
	}
	if end < len(c.events) {
		fmt.Fprint(w, "event: answer\ndata: {\"node_id\":\"half an ev") // a connection breaks where it likes
	}
}

func answers(n int) []string {
	var events []string
	for i := range n {
		events = append(events, fmt.Sprintf(`{"node_id":"n%d","state":"answered","rows":[{"a":"%d"}]}`, i, i))
	}
	return append(events, `{"id":"q","state":"done","counts":{}}`)
}

// TestFollow_broken breaks the connection again and again: each answer comes
// once, and none is lost.
func TestFollow_broken(t *testing.T) {
	for _, ids := range []bool{true, false} {
		server := &cutStream{events: answers(7), each: 3, ids: ids}
		s := httptest.NewServer(server)
		defer s.Close()
		var got []string
		ended := false
		err := adminapi.NewClient(s.URL, "t", s.Client()).Follow(t.Context(), "q", func(u adminapi.LiveUpdate) error {
			if u.Answer != nil {
				got = append(got, u.Answer.NodeID)
			}
			ended = ended || u.Live != nil
			return nil
		})
		if err != nil || !ended || server.requests.Load() != 3 {
			t.Errorf("ids %v: %v, ended %v, %d requests", ids, err, ended, server.requests.Load())
		}
		if diff := cmp.Diff([]string{"n0", "n1", "n2", "n3", "n4", "n5", "n6"}, got); diff != "" {
			t.Errorf("ids %v: %s", ids, diff)
		}
		if want := []string{"", "3", "6"}; ids && !cmp.Equal(want, server.lastIDs) {
			t.Errorf("went on after %q, want %q", server.lastIDs, want)
		}
	}
}

// TestFollow_ends: what cannot be mended is not tried again.
func TestFollow_ends(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if strings.Contains(r.URL.Path, "gone") {
			http.Error(w, `{"status":404,"detail":"no live query gone"}`, http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "event: answer\ndata: {\"node_id\":\"a\"}\n\nevent: of-a-newer-server\ndata:\n\nevent: answer\ndata: not JSON\n\n")
	}))
	defer s.Close()
	client := adminapi.NewClient(s.URL, "t", s.Client())
	use := func(adminapi.LiveUpdate) error { return nil }
	if err := client.Follow(t.Context(), "gone", use); adminapi.Status(err) != http.StatusNotFound || requests.Load() != 1 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
	var wrong *json.SyntaxError
	if err := client.Follow(t.Context(), "q", use); !errors.As(err, &wrong) || requests.Load() != 2 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
	stop := errors.New("enough")
	if err := client.Follow(t.Context(), "q", func(adminapi.LiveUpdate) error { return stop }); !errors.Is(err, stop) || requests.Load() != 3 {
		t.Errorf("%v after %d requests", err, requests.Load())
	}
}
