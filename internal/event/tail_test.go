package event_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

func logged(node, query string, n int) []event.Batch {
	b := event.Batch{NodeID: node, Received: now}
	for i := range n {
		b.Events = append(b.Events, event.Event{Time: now, Query: query, Action: event.Added, Columns: raw(fmt.Sprintf(`{"i":"%d"}`, i))})
	}
	return []event.Batch{b}
}

func TestTails(t *testing.T) {
	t.Parallel()
	x, err := event.ParseExpr("where", "i >= 1")
	if err != nil {
		t.Fatal(err)
	}
	tails := event.NewTails()
	tails.Publish(1, logged("n", "q", 5)) // to nobody
	all, err := tails.Watch(event.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	some, err := tails.Watch(event.Filter{Query: "q*", NodeID: "n", Action: event.Added, Nodes: []string{"n"}, Where: x, Since: now, Until: now.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	for seq, batches := range [][]event.Batch{logged("m", "q1", 3), logged("n", "p", 3), slices.Concat(logged("m", "q", 2), logged("n", "q2", 3))} {
		tails.Publish(uint64(seq+2), batches)
	}
	records, missed, err := some.Next(t.Context(), nil)
	if err != nil || missed != 0 || len(records) != 2 || records[0].Seq != 4 || records[0].Index != 3 || records[1].Index != 4 || records[0].NodeID != "n" {
		t.Fatalf("%+v, %d missed, %v", records, missed, err)
	}
	some.Close()
	// The other reads nothing meanwhile, and is told so; who publishes never waits.
	for seq := range uint64(300) {
		tails.Publish(seq+5, logged("n", "q", 1))
	}
	tails.Publish(400, logged("n", "q", 25_000))
	got, lost := 0, int64(0)
	woken := make(chan time.Time)
	close(woken)
	for got == 0 || len(records) > 0 {
		records, missed, err = all.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		got += len(records)
		lost += missed
		if got == 11+61 { // of 64 messages
			break
		}
	}
	if got+int(lost) != 11+300+25_000 {
		t.Errorf("%d events, %d missed", got, lost)
	}
	if records, missed, err := all.Next(t.Context(), woken); err != nil || len(records) != 0 || missed != 0 {
		t.Errorf("%v, %d, %v", records, missed, err)
	}
	tails.Publish(401, logged("n", "q", 25_000)) // alone, it may be of any size
	if records, _, err := all.Next(t.Context(), nil); err != nil || len(records) != 25_000 {
		t.Errorf("%d, %v", len(records), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := all.Next(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTails_many(t *testing.T) {
	t.Parallel()
	tails := event.NewTails()
	for range event.MaxTails {
		if _, err := tails.Watch(event.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tails.Watch(event.Filter{}); !errs.Is(err, errs.Busy) {
		t.Error(err)
	}
}
