package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

func (a *API) registerEvents() {
	register(a, account.EventRead, http.MethodGet, "/events", "Search events, newest first", a.searchEvents)
	register(a, account.EventRead, http.MethodGet, "/events/queries", "Count events per query and over time", a.eventQueries)
}

// EventRange says which events by query, node and time.
type EventRange struct {
	Query string `query:"query" maxLength:"512" doc:"Exact name, or a prefix that ends with *"`
	Node  string `query:"node" maxLength:"255" doc:"Id, host identifier or hostname"`
	Since string `query:"since" maxLength:"64" doc:"RFC 3339, or how long ago, as in 1h or 7d"`
	Until string `query:"until" maxLength:"64" doc:"RFC 3339, or how long ago"`
}

type searchInput struct {
	EventRange
	Action string `query:"action" enum:"added,removed,snapshot,status"`
	Where  string `query:"where" maxLength:"4096" doc:"Conditions joined by and, as in path = \"/bin/sh\" and pid > 100; operators = != < <= > >= contains prefix exists"`
	Limit  int    `query:"limit" minimum:"1" maximum:"10000" default:"100"`
	Cursor string `query:"cursor" maxLength:"256"`
}

// filter reads the range of a search.
func (a *API) filter(in EventRange) (f event.Filter, err error) {
	f.Query = in.Query
	if f.Since, err = moment("since", in.Since, a.Now()); err != nil {
		return f, err
	}
	if f.Until, err = moment("until", in.Until, a.Now()); err != nil {
		return f, err
	}
	if in.Node == "" {
		return f, nil
	}
	f.NodeID = in.Node // of a node that is gone, the id still finds events
	nodes, _, err := a.Registry.Select(selectorOf(in.Node))
	if err != nil {
		return f, err
	}
	switch len(nodes) {
	case 0:
	case 1:
		f.NodeID = nodes[0].ID
	default:
		return f, errs.Field("node", "%d nodes are called %q; use the id", len(nodes), in.Node)
	}
	return f, nil
}

// moment reads a time: RFC 3339, or a span back from now.
func moment(field, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, errs.Field(field, "%q is no time; write 2026-01-31T12:00:00Z, or how long ago, as in 90m, 1h or 7d", text)
}

func (a *API) searchEvents(ctx context.Context, in *searchInput) (*body[EventPage], error) {
	f, err := a.filter(in.EventRange)
	if err != nil {
		return nil, err
	}
	f.Action, f.Limit = in.Action, in.Limit
	if f.Where, err = event.ParseWhere(in.Where); err != nil {
		return nil, err
	}
	if f.Before, err = event.ParsePosition(in.Cursor); err != nil {
		return nil, err
	}
	records, err := a.Search.Search(ctx, f)
	if err != nil {
		return nil, err
	}
	out := EventPage{Events: make([]Event, 0, len(records))}
	for _, r := range records {
		out.Events = append(out.Events, a.event(r))
	}
	if len(records) == f.Limit {
		out.NextCursor = records[len(records)-1].Position().String()
	}
	return &body[EventPage]{out}, nil
}

func (a *API) event(r event.Record) Event {
	e := Event{
		ID: fmt.Sprintf("%d-%d", r.Seq, r.Index), Time: r.Time.UTC(), ReceivedAt: r.Received.UTC(), NodeID: r.NodeID,
		HostIdentifier: r.HostIdentifier, Query: r.Query, Action: r.Action, Epoch: r.Epoch, Counter: r.Counter,
		AgentTime: r.AgentTime, Tags: r.Tags, Revision: r.Revision, Columns: r.Columns, Decorations: r.Decorations,
	}
	if n := a.Registry.Lookup(r.NodeID); n != nil {
		e.Hostname = n.Hostname
	}
	return e
}

// histogramBuckets is about how many bars a histogram has.
const histogramBuckets = 60

func (a *API) eventQueries(ctx context.Context, in *EventRange) (*body[EventQueries], error) {
	f, err := a.filter(*in)
	if err != nil {
		return nil, err
	}
	queries, buckets, err := a.Search.Queries(ctx, f, histogramBuckets)
	if err != nil {
		return nil, err
	}
	out := EventQueries{Queries: make([]EventQuery, 0, len(queries)), Buckets: bucketsOf(buckets)}
	for _, q := range queries {
		out.Queries = append(out.Queries, EventQuery{Query: q.Query, Count: int(q.Count), Last: q.Last.UTC()})
	}
	return &body[EventQueries]{out}, nil
}

func bucketsOf(in []event.Bucket) []Bucket {
	out := make([]Bucket, 0, len(in))
	for _, b := range in {
		out = append(out, Bucket{Start: b.Start.UTC(), Count: int(b.Count)})
	}
	return out
}
