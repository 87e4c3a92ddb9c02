package agentapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
)

// batchBytes is the size from which a request's events are split into several
// records, of which only the columns are counted.
const batchBytes = 1 << 20

// logs takes log lines in. The agent deletes them when it is answered, so the
// answer waits until they are on disk.
func (a *API) logs(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	decoder := a.decoders.Get()
	defer a.decoders.Put(decoder)
	log, err := decoder.Decode(body, a.Now())
	if err != nil {
		return err
	}
	if log.Skipped > 0 {
		a.Log.WarnContext(r.Context(), "log lines that are no objects were dropped", "node", n.ID, "lines", log.Skipped)
	}
	if len(log.Events) > 0 {
		n.Decorate(log.Events[len(log.Events)-1].Decorations)
	}
	if n.Quarantined {
		for i := range log.Events {
			log.Events[i].Decorations = event.Mark(log.Events[i].Decorations, event.Quarantined)
		}
	}
	if err := a.keep(r.Context(), n, log); err != nil {
		return err
	}
	write(w, []byte(accepted))
	return nil
}

// keep stores the events that were not stored before.
func (a *API) keep(ctx context.Context, n *node.Identity, log *event.Log) error {
	guard, err := a.Seen.Begin(ctx, n.ID, log.LogType)
	if err != nil {
		return err
	}
	defer guard.End()
	events, repeated := guard.Fresh(log.Events)
	joins := repeated > 0
	for len(events) > 0 {
		part := cut(events)
		batch := event.Batch{
			NodeID: n.ID, HostIdentifier: n.HostIdentifier, Received: a.Now(), Tags: n.Tags, Revision: n.Revision(),
			LogType: log.LogType, Joins: joins, Events: part,
		}
		if err := a.Stream.AppendEvents(ctx, batch.Append(nil)); err != nil {
			return err
		}
		guard.Stored(part, joins)
		events, joins = events[len(part):], true
	}
	a.Metrics.Lines(log.Lines-repeated, repeated)
	return nil
}

// cut returns the first events, at least one, of about batchBytes; it never
// cuts within a line, so that a line is stored as a whole or not.
func cut(events []event.Event) []event.Event {
	size := 0
	for i, e := range events {
		if size += len(e.Columns) + len(e.Decorations); size > batchBytes && i > 0 && !e.Continues {
			return events[:i]
		}
	}
	return events
}
