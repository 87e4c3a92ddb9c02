package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/stream"
)

// TestIndexer takes the engine's directory away while events arrive, and puts
// a record into the stream that is none: what was appended is found in the end,
// once.
func TestIndexer(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := stream.Open(t.Context(), stream.Options{Dir: t.TempDir(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := filepath.Join(t.TempDir(), "events")
	engine, err := search.Open(search.Options{Dir: dir, FlushRows: 8, Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	i := newIndexer(engine, s, event.NewSeen(), 0, func(*event.Batch) {}, log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()

	number := 0
	add := func() {
		t.Helper()
		b := event.Batch{NodeID: "n", HostIdentifier: "h", Received: time.Now(), LogType: "result"}
		for range 10 {
			number++
			b.Events = append(b.Events, event.Event{
				Time: time.Now(), Query: "q", Action: event.Added, Line: uint64(number), Columns: fmt.Appendf(nil, `{"n":"%d"}`, number),
			})
		}
		if err := s.Append(t.Context(), stream.Events, b.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	add()
	if err := s.Append(t.Context(), stream.Events, []byte("no batch")); err != nil {
		t.Fatal(err)
	}
	away := dir + ".away"
	if err := errors.Join(os.Rename(dir, away), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		add()
	}
	if err := errors.Join(os.Remove(dir), os.Rename(away, dir)); err != nil {
		t.Fatal(err)
	}
	for engine.Seen() < s.Appended(stream.Events) {
		select {
		case err := <-ended:
			t.Fatalf("the indexer ended: %v", err)
		case <-t.Context().Done():
			t.Fatal("the indexer does not go on")
		case <-time.After(10 * time.Millisecond):
		}
	}
	page, err := i.Search(t.Context(), event.Filter{Query: "q", Limit: 1000})
	records := page.Records
	if err != nil || len(records) != number {
		t.Errorf("%d of %d events, %v", len(records), number, err)
	}
	found := map[string]bool{}
	for _, r := range records {
		found[string(r.Columns)] = true
	}
	if len(found) != number {
		t.Errorf("%d different events of %d", len(found), number)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
