package adminapi_test

import (
	"context"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/osquery"
)

// untold is for findings that nobody is told of.
type untold struct{}

func (untold) TellFindings(context.Context, []health.Finding) error { return nil }

func (w *world) watching() *health.Monitor {
	w.t.Helper()
	m := health.NewMonitor(health.Options{
		Store: w.store, Teller: untold{}, Fleet: w.registry, Configs: w.publisher.Catalog(), Evidence: w.monitor,
		OfflineAfter: time.Hour, SilentAfter: time.Hour, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err := m.Load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// TestHealth: what an agent's log says is a finding of its node.
func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setUp()
	n := w.enrol("web-1")
	err := w.health.Handle(t.Context(), []event.Batch{{NodeID: n.ID, Received: time.Now(), LogType: osquery.LogTypeStatus, Events: []event.Event{
		{Query: event.StatusQuery, Action: event.Status, Columns: []byte(`{"severity":"1","message":"Purging buffered logs limit (1000) exceeded: 7"}`)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var h adminapi.Health
	var one adminapi.NodeHealthDocument
	var page adminapi.NodeFindings
	for path, out := range map[string]any{"/health": &h, "/nodes/web-1/health": &one, "/findings": &page} {
		query := url.Values{}
		if path == "/findings" {
			query = url.Values{"open": {"true"}, "node": {"web-1"}, "kind": {"lines_lost"}}
		}
		if err := w.call("GET", path, query, nil, out); err != nil {
			t.Fatal(path, err)
		}
	}
	if h.Open["lines_lost"] != 1 || len(one.Open) != 1 || one.Watchdog != nil || len(page.Findings) != 1 || page.Findings[0].NodeID != n.ID {
		t.Errorf("%+v %+v %+v", h, one, page)
	}
	if err := w.call("GET", "/findings", url.Values{"kind": {"nonsense"}}, nil, &page); adminapi.Status(err) != 400 && adminapi.Status(err) != 422 {
		t.Error(err)
	}
}
