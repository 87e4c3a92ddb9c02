package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/store/storetest"
	"github.com/musterhq/muster/internal/stream"
)

// answersApp is an App with what answers pass on their way to the events.
func answersApp(t *testing.T, dir string) *App {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	a := &App{log: log, now: time.Now, store: storetest.Open(t, filepath.Join(dir, stateFile))}
	a.audit = audit.NewLog(a.store, time.Now)
	if err := a.openLive(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.registry = node.NewRegistry(a.store, node.NewKeyer(make([]byte, keyBytes)), log, time.Now)
	var err error
	if a.stream, err = stream.Open(t.Context(), stream.Options{Dir: filepath.Join(dir, streamDir), Log: log}); err != nil {
		t.Fatal(err)
	}
	if a.engine, err = search.Open(search.Options{Dir: filepath.Join(dir, EventsDir), Log: log, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	last, err := a.stream.Last(t.Context(), stream.Events)
	if err != nil {
		t.Fatal(err)
	}
	a.indexer = newIndexer(a.engine, a.stream, event.NewSeen(), last, func(*event.Batch) {}, log)
	return a
}

// run runs the readers until stop.
func (a *App) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for _, part := range []func(context.Context) error{a.indexer.Run, a.readAnswers, a.indexAnswers} {
		group.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
		if err := a.stream.Close(); err != nil {
			t.Error(err)
		}
		if err := a.engine.Close(); err != nil {
			t.Error(err)
		}
	}
}

// tell appends an answer as agents' requests do.
func (a *App) tell(t *testing.T, answers ...live.Answer) {
	t.Helper()
	b, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.stream.Append(t.Context(), stream.Answers, b); err != nil {
		t.Fatal(err)
	}
}

// found waits until there are as many events of a query as there should be, and
// everything that was told is done with.
func (a *App) found(t *testing.T, query string, want int) []event.Record {
	t.Helper()
	<-a.indexer.caughtUp
	for {
		answers, err := a.stream.Last(t.Context(), stream.Answers)
		if err != nil {
			t.Fatal(err)
		}
		if at, err := a.stream.ReadPosition(t.Context(), answerEventReader); err == nil && at >= answers {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("answers are not made events")
		case <-time.After(10 * time.Millisecond):
		}
	}
	page, err := a.indexer.Search(t.Context(), event.Filter{Query: query, Limit: 100})
	if err != nil || len(page.Records) != want {
		t.Errorf("%d events of %s, %v; want %d", len(page.Records), query, err, want)
	}
	return page.Records
}

// TestAnswersAsEvents: rows of live queries are found as events, each once, also
// when answers are read again after a crash that came between the two.
func TestAnswersAsEvents(t *testing.T) {
	dir := t.TempDir()
	a := answersApp(t, dir)
	nodes := []*node.Identity{{ID: "n1", HostIdentifier: "h1"}, {ID: "n2", HostIdentifier: "h2"}}
	for _, q := range []live.Query{
		{ID: "p", SQL: "SELECT 1", Limits: live.Limits{Rows: 3}},
		{ID: "t", SQL: "SELECT 1", Kind: live.Trigger, Source: "hook"},
		{ID: "c", SQL: "SELECT 1", Kind: live.Carve, Source: "x"},
	} {
		if _, err := a.live.Start(t.Context(), q, nodes); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	answer := func(id, nodeID string, rows ...string) live.Answer {
		x := live.Answer{LiveID: id, NodeID: nodeID, State: live.Answered, ReceivedAt: now}
		for _, r := range rows {
			x.Rows = append(x.Rows, json.RawMessage(`{"a":"`+r+`"}`))
		}
		return x
	}
	first, second := answer("p", "n1", "1", "2"), answer("t", "n1", "3")
	again := first
	again.ReceivedAt = now.Add(time.Second)

	// As if the server had died after it kept the first answer and its events, and
	// before it noted so.
	a.tell(t, first, second)
	if err := a.live.Accept(t.Context(), []live.Answer{first}); err != nil {
		t.Fatal(err)
	}
	kept, err := a.store.KeptAnswers(t.Context(), []live.Answer{first})
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v %v", kept, err)
	}
	if err := a.appendAnswers(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	a.run(t)() // which ends at once, or after some of it
	a = answersApp(t, dir)
	stop := a.run(t)
	a.tell(t, again, answer("p", "stranger", "x"), answer("x", "n1", "x"), answer("c", "n1", "x"))
	a.found(t, "live", 2)
	a.tell(t, answer("p", "n2", "3", "4"), live.Answer{LiveID: "t", NodeID: "n2", State: live.Empty, ReceivedAt: now})
	records := a.found(t, "live", 3) // one more was cut
	var rows []string
	for _, r := range records {
		rows = append(rows, string(r.Columns))
		if r.Action != event.Snapshot || string(r.Decorations) != `{"live_id":"p"}` || r.HostIdentifier != "h"+r.NodeID[1:] {
			t.Errorf("%+v %s", r, r.Decorations)
		}
	}
	slices.Sort(rows)
	if !slices.Equal(rows, []string{`{"a":"1"}`, `{"a":"2"}`, `{"a":"3"}`}) {
		t.Error(rows)
	}
	a.found(t, "trigger/hook", 1)
	a.found(t, "carve/x", 0)
	stop()
	a = answersApp(t, dir)
	stop = a.run(t)
	a.found(t, "live", 3)
	stop()
}
