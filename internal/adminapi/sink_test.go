package adminapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/stream"
)

// lateStream opens a stream for the tests that need one.
type lateStream struct{ open func() *stream.Stream }

func (s lateStream) Read(ctx context.Context, after uint64, handle func(context.Context, uint64, [][]byte) error) error {
	return s.open().Follow(ctx, stream.Events, after, func(ctx context.Context, m stream.Message) error {
		return handle(ctx, m.Seq, m.Records)
	})
}

func (s lateStream) Last(ctx context.Context) (uint64, error) {
	return s.open().Last(ctx, stream.Events)
}

func (s lateStream) Backlog(ctx context.Context, after uint64) (sink.Backlog, error) {
	b, err := s.open().Backlog(ctx, stream.Events, after)
	return sink.Backlog(b), err
}

// sinking makes what sends events outside; it runs in tests that say so.
func (w *world) sinking(log *slog.Logger) {
	dir := w.t.TempDir()
	w.events = lateStream{sync.OnceValue(func() *stream.Stream {
		s, err := stream.Open(w.t.Context(), stream.Options{Dir: filepath.Join(dir, "stream"), Log: log})
		if err != nil {
			w.t.Error(err)
		}
		w.t.Cleanup(func() { _ = s.Close() })
		return s
	})}
	w.sinks = sink.NewManager(sink.Options{
		Stream: w.events, Store: w.store, Search: w.engine, Nodes: w.registry,
		Plans:   func() []*resource.SinkPlan { return w.publisher.Catalog().Plan().Newest().Sinks() },
		Secrets: &credential.Reader{Dir: dir, Getenv: func(string) (string, bool) { return "", false }},
		Egress:  &egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		Dir:     filepath.Join(dir, "sinks"), FileDir: filepath.Join(dir, "files"), Log: log, Now: time.Now,
	})
}

// TestSinks: people see how sinks do, and act on them, in the audit log first.
func TestSinks(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var refuse atomic.Bool
	var got atomic.Int64
	outside := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if refuse.Load() {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		got.Add(1)
	}))
	defer outside.Close()
	doc := "apiVersion: muster/v1\nkind: Sink\nname: hook\nspec: {http: {url: '" + outside.URL + "'}, batch: {wait: 50ms}}\n"
	if err := w.call("POST", "/changes", nil, adminapi.ChangeInput{Message: "x", Files: []adminapi.File{{Name: "f", Content: doc}}}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.sinks.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	until := func(is func(adminapi.Sink) bool) adminapi.Sink {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		late := time.After(30 * time.Second)
		for {
			var list []adminapi.Sink
			if err := w.call("GET", "/sinks", nil, nil, &list); err != nil {
				t.Fatal(err)
			}
			if len(list) == 1 && is(list[0]) {
				return list[0]
			}
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("%+v", list)
			}
		}
	}
	s := until(func(s adminapi.Sink) bool { return s.State == "running" })
	if s.Name != "hook" || s.Type != "http" || s.Format != "muster" || s.Required {
		t.Errorf("%+v", s)
	}
	add := func() {
		t.Helper()
		b := event.Batch{NodeID: "n", HostIdentifier: "h", Received: time.Now(), Events: []event.Event{{Time: time.Now(), Query: "q", Action: event.Added, Columns: []byte(`{"a":"b"}`)}}}
		if err := w.events.open().Append(t.Context(), stream.Events, b.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}

	acts := []struct {
		method, path string
		in           any
	}{
		{"POST", "/pause", nil},
		{"POST", "/resume", nil},
		{"POST", "/test", nil},
		{"POST", "/replay", adminapi.SinkReplayInput{Since: "1h"}},
		{"DELETE", "/replay", nil},
		{"POST", "/dead/retry", nil},
		{"DELETE", "/dead", nil},
	}
	w.mute.Store(true)
	for _, a := range acts {
		if err := w.call(a.method, "/sinks/hook"+a.path, nil, a.in, nil); adminapi.Status(err) != 500 {
			t.Errorf("%s %s without an audit log: %v", a.method, a.path, err)
		}
	}
	if s := until(func(adminapi.Sink) bool { return true }); s.State != "running" || s.Replay != nil || got.Load() != 0 {
		t.Errorf("without an audit log: %+v, %d requests", s, got.Load())
	}
	w.mute.Store(false)
	for _, a := range acts {
		if err := w.call(a.method, "/sinks/hook"+a.path, nil, a.in, nil); err != nil {
			t.Errorf("%s %s: %v", a.method, a.path, err)
		}
		if err := w.call(a.method, "/sinks/other"+a.path, nil, a.in, nil); adminapi.Status(err) != 404 {
			t.Errorf("%s %s of a sink that is not there: %v", a.method, a.path, err)
		}
	}
	if err := w.call("POST", "/sinks/hook/replay", nil, adminapi.SinkReplayInput{Since: "yesterday"}, nil); adminapi.Status(err) != 422 && adminapi.Status(err) != 400 {
		t.Errorf("a time that is none: %v", err)
	}

	if err := w.call("POST", "/sinks/hook/pause", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	add()
	s = until(func(s adminapi.Sink) bool { return s.Lag.Messages == 1 })
	if s.State != "paused" || s.PausedBy != "admin" || s.Lag.Oldest == nil || s.Lag.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	refuse.Store(true)
	if err := w.call("POST", "/sinks/hook/test", nil, nil, nil); adminapi.Status(err) != 409 {
		t.Errorf("a test that is refused: %v", err)
	}
	if err := w.call("POST", "/sinks/hook/resume", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	until(func(s adminapi.Sink) bool { return s.Dead.Letters == 1 && s.Lag.Messages == 0 })
	var letters []adminapi.SinkLetter
	if err := w.call("GET", "/sinks/hook/dead", url.Values{"limit": {"10"}}, nil, &letters); err != nil || len(letters) != 1 || letters[0].Reason == "" {
		t.Errorf("%+v, %v", letters, err)
	}
	var gone adminapi.SinkDiscarded
	if err := w.call("DELETE", "/sinks/hook/dead", nil, nil, &gone); err != nil || gone.Letters != 1 {
		t.Errorf("%+v, %v", gone, err)
	}
}
