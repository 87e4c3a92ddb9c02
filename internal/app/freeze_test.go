package app

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFreezeSource asks real files and a real server.
func TestFreezeSource(t *testing.T) {
	t.Parallel()
	var body atomic.Value
	body.Store(`{"frozen": false}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, _ := body.Load().(string)
		if text == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "freeze.json")
	now := time.Now()
	for _, from := range []string{server.URL, path, "file://" + path} {
		var heard []bool
		tell := func(_ context.Context, _, _ string, frozen bool) { heard = append(heard, frozen) }
		s, err := newFreezeSource(from, tell, slog.New(slog.DiscardHandler), func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		if _, frozen := s.Frozen(); !frozen {
			t.Error("open before it was asked")
		}
		for _, tt := range []struct {
			answer string
			frozen bool
			reason string
		}{
			{`{"frozen": false}`, false, ""},
			{`{"frozen": true, "reason": "black friday"}`, true, "black friday"},
			{`{}`, true, "no frozen"},
			{`{"frozen": "no"}`, true, "cannot be asked"},
			{`frozen: false`, true, "cannot be asked"},
			{``, true, "cannot be asked"},
			{`{"frozen": false, "more": 1}`, false, ""},
		} {
			body.Store(tt.answer)
			if err := os.WriteFile(path, []byte(tt.answer), 0o600); err != nil {
				t.Fatal(err)
			}
			s.ask(t.Context())
			if reason, frozen := s.Frozen(); frozen != tt.frozen || !strings.Contains(reason, tt.reason) {
				t.Errorf("%s says %s: %v, %q", from, tt.answer, frozen, reason)
			}
		}
		if want := []bool{false, true, false}; !slices.Equal(heard, want) {
			t.Errorf("%s: people heard %v", from, heard)
		}
		now = now.Add(2 * askedFor)
		if _, frozen := s.Frozen(); !frozen {
			t.Error("an old answer counts")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	gone, err := newFreezeSource(path, func(context.Context, string, string, bool) {}, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	gone.ask(t.Context())
	if _, frozen := gone.Frozen(); !frozen {
		t.Error("a lock that is gone is open")
	}
	if _, err := newFreezeSource("ftp://a/b", nil, nil, nil); err == nil {
		t.Error("ftp")
	}
}
