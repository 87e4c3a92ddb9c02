package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerEvents() {
	registerScoped(a, account.EventRead, http.MethodGet, "/events", "Search events, newest first", a.searchEvents)
	registerScoped(a, account.EventRead, http.MethodPost, "/events/search", "Search events, with an expression that is too long for an address", a.searchEventsBody)
	registerScoped(a, account.EventRead, http.MethodGet, "/events/queries", "Count events per query and over time", a.eventQueries)
	registerScoped(a, account.EventRead, http.MethodGet, "/events/count", "Count events by columns and stamps, over time if asked", a.countEvents)
	registerScoped(a, account.EventRead, http.MethodGet, "/events/state", "What nodes' last results of a query are", a.eventState)
	register(a, account.EventRead, http.MethodGet, "/events/stats", "What is kept of events", a.eventStats)
	registerScoped(a, account.EventRead, http.MethodGet, "/events/tail", "Follow events as they arrive, as server-sent events", a.tailEvents)
	a.answers("/events/tail", eventStream)
}

// EventRange says which events by query, node and time.
type EventRange struct {
	Query    string `query:"query" json:"query,omitempty" maxLength:"512" doc:"Exact name, or a prefix that ends with *"`
	Node     string `query:"node" json:"node,omitempty" maxLength:"255" doc:"Id, host identifier or hostname"`
	Selector string `query:"selector" json:"selector,omitempty" maxLength:"4096" doc:"The nodes that are so now, as tag = web and platform = linux; for tags as they were, see @tag in where"`
	Since    string `query:"since" json:"since,omitempty" maxLength:"64" doc:"RFC 3339, or how long ago, as in 1h or 7d"`
	Until    string `query:"until" json:"until,omitempty" maxLength:"64" doc:"RFC 3339, or how long ago"`
}

// EventChoice says which events, by what they say.
type EventChoice struct {
	EventRange

	Action string `query:"action" json:"action,omitempty" enum:"added,removed,snapshot,status"`
	Where  string `query:"where" json:"where,omitempty" maxLength:"65536" doc:"Conditions on columns and stamps, as path = \"/bin/sh\" and (pid > 100 or not @tag = web); operators = != < <= > >= contains prefix suffix regex in exists; * is any column, a word alone is found in any; stamps are @node @host @query @action @tag @revision @time @received @agent_time @epoch @counter @decoration.NAME"`
}

// EventSearch is how events are asked for.
type EventSearch struct {
	EventChoice

	Sort    string `query:"sort" json:"sort,omitempty" enum:"newest,oldest" default:"newest" doc:"What comes first"`
	Limit   int    `query:"limit" json:"limit,omitempty" minimum:"1" maximum:"10000" default:"100"`
	Cursor  string `query:"cursor" json:"cursor,omitempty" maxLength:"256"`
	MaxTime string `query:"max_time" json:"max_time,omitempty" maxLength:"32" doc:"How long a page may take, as 5s; 20s if it is left out, a minute at most"`
}

// How long a search may take.
const (
	usualTime = 20 * time.Second
	maxTime   = time.Minute
)

func searchTime(text string) (time.Duration, error) {
	if text == "" {
		return usualTime, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxTime {
		return 0, errs.Field("max_time", "%q is no time up to %s; write 5s", text, maxTime)
	}
	return d, nil
}

// filter reads the range of a search, as far as the caller may see.
func (a *API) filter(ctx context.Context, in EventRange) (event.Filter, error) {
	f, err := a.ranged(in)
	if err != nil {
		return f, err
	}
	of := f.Nodes
	if f.NodeID != "" && (of == nil || slices.Contains(of, f.NodeID)) {
		of = []string{f.NodeID}
	}
	f.Nodes, f.Readable, err = a.visible(ctx, of)
	return f, err
}

// ranged reads the range of a search.
func (a *API) ranged(in EventRange) (f event.Filter, err error) {
	f.Query = in.Query
	if f.Since, err = moment("since", in.Since, a.Now()); err != nil {
		return f, err
	}
	if f.Until, err = moment("until", in.Until, a.Now()); err != nil {
		return f, err
	}
	if f.Nodes, err = a.selectedNodes(in.Selector); err != nil || in.Node == "" {
		return f, err
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

// selectedNodes returns the ids of the nodes that a selector means, those under
// quarantine, too, as they are not asked here. It returns nil without a selector.
func (a *API) selectedNodes(selector string) ([]string, error) {
	if selector == "" {
		return nil, nil
	}
	where, err := node.ParseWhere("selector", selector)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	a.Registry.All(func(n *node.Identity) bool {
		if where.Match(n) {
			ids = append(ids, n.ID)
		}
		return true
	})
	return ids, nil
}

// chosen reads which events are meant.
func (a *API) chosen(ctx context.Context, in EventChoice) (event.Filter, error) {
	f, err := a.filter(ctx, in.EventRange)
	if err != nil {
		return f, err
	}
	f.Action = in.Action
	f.Where, err = event.ParseExpr("where", in.Where)
	return f, err
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

func (a *API) searchEvents(ctx context.Context, in *EventSearch) (*body[EventPage], error) {
	f, err := a.chosen(ctx, in.EventChoice)
	if err != nil {
		return nil, err
	}
	f.Limit, f.Oldest = in.Limit, in.Sort == "oldest"
	if f.MaxTime, err = searchTime(in.MaxTime); err != nil {
		return nil, err
	}
	if f.Before, err = event.ParsePosition(in.Cursor); err != nil {
		return nil, err
	}
	page, err := a.Search.Search(ctx, f)
	if err != nil {
		return nil, err
	}
	out := EventPage{Events: make([]Event, 0, len(page.Records)), Progress: progress(page.Progress)}
	for _, r := range page.Records {
		out.Events = append(out.Events, a.event(r))
	}
	if !page.Next.IsZero() {
		out.NextCursor = page.Next.String()
	}
	return &body[EventPage]{out}, nil
}

func (a *API) searchEventsBody(ctx context.Context, in *struct{ Body EventSearch }) (*body[EventPage], error) {
	return a.searchEvents(ctx, &in.Body)
}

func progress(p event.Progress) Progress {
	return Progress{SegmentsDone: p.Done, SegmentsTotal: p.Total, Cut: p.Cut}
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
	f, err := a.filter(ctx, *in)
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

type countInput struct {
	EventChoice

	By      []string `query:"by" maxItems:"3" doc:"Columns or stamps whose values make the groups, as name or @node"`
	Limit   int      `query:"limit" minimum:"1" maximum:"1000" default:"20" doc:"Of groups; the rest are counted together"`
	Nodes   bool     `query:"nodes" doc:"Count the distinct nodes of each group, too"`
	Width   string   `query:"width" maxLength:"32" doc:"Count each group over time in buckets of that width, as 1h; auto chooses one"`
	MaxTime string   `query:"max_time" maxLength:"32" doc:"How long it may take, as 5s; 20s if it is left out, a minute at most"`
}

func (a *API) countEvents(ctx context.Context, in *countInput) (*body[EventGroups], error) {
	f, err := a.chosen(ctx, in.EventChoice)
	if err != nil {
		return nil, err
	}
	f.Limit = in.Limit
	if f.MaxTime, err = searchTime(in.MaxTime); err != nil {
		return nil, err
	}
	c := event.Counting{Filter: f, By: in.By, Nodes: in.Nodes}
	for _, by := range in.By {
		if err := event.CheckColumn("by", by); err != nil {
			return nil, err
		}
	}
	if c.Width, err = a.width(in.Width, f); err != nil {
		return nil, err
	}
	groups, err := a.Search.Count(ctx, c)
	if err != nil {
		return nil, err
	}
	out := EventGroups{
		By: in.By, Groups: make([]EventGroup, 0, len(groups.Groups)), OtherGroups: groups.OtherGroups, Events: groups.Events,
		Nodes: groups.Nodes, Progress: progress(groups.Progress),
	}
	if out.By == nil {
		out.By = []string{}
	}
	if c.Width > 0 {
		out.Width = c.Width.String()
	}
	for i := range groups.Groups {
		out.Groups = append(out.Groups, eventGroup(&groups.Groups[i]))
	}
	if groups.Others.Events > 0 {
		others := eventGroup(&groups.Others)
		out.Others = &others
	}
	return &body[EventGroups]{out}, nil
}

// minWidth is the narrowest bucket that people may ask for, and maxBars how many
// there may be in the time asked for.
const (
	minWidth = time.Second
	maxBars  = 2000
)

// width reads the width of buckets.
func (a *API) width(text string, f event.Filter) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	since, until := f.Since, f.Until
	if since.IsZero() {
		since = a.Search.Stats().Oldest
	}
	if until.IsZero() {
		until = a.Now()
	}
	span := max(until.Sub(since), 0).Truncate(time.Second) // a moment passed since "1h ago" was read
	if text == "auto" {
		return event.Step(span / histogramBuckets), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < minWidth {
		return 0, errs.Field("width", "%q is no width of at least %s; write 5m or 1h, or auto", text, minWidth)
	}
	if span/d > maxBars {
		return 0, errs.Field("width", "%s makes more than %d buckets of that time; take a wider one, or auto", d, maxBars)
	}
	return d, nil
}

func eventGroup(g *event.Group) EventGroup {
	out := EventGroup{Values: make([]*string, 0, len(g.Values)), Events: g.Events, Nodes: g.Nodes, Last: g.Last.UTC(), Buckets: bucketsOf(g.Buckets)}
	for _, v := range g.Values {
		if v.Absent {
			out.Values = append(out.Values, nil)
		} else {
			out.Values = append(out.Values, &v.Text)
		}
	}
	return out
}

type stateInput struct {
	EventRange

	Where   string `query:"where" maxLength:"65536" doc:"Conditions on the rows' columns, as in a search; no stamps"`
	Limit   int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"Of rows; a page has whole nodes"`
	Cursor  string `query:"cursor" maxLength:"255"`
	MaxTime string `query:"max_time" maxLength:"32" doc:"How long it may take, as 5s; 20s if it is left out, a minute at most"`
}

func (a *API) eventState(ctx context.Context, in *stateInput) (*body[EventState], error) {
	f, err := a.chosen(ctx, EventChoice{EventRange: in.EventRange, Where: in.Where})
	if err != nil {
		return nil, err
	}
	f.Limit = in.Limit
	if f.MaxTime, err = searchTime(in.MaxTime); err != nil {
		return nil, err
	}
	state, err := a.Search.State(ctx, f, in.Cursor)
	if err != nil {
		return nil, err
	}
	out := EventState{Rows: make([]EventStateRow, 0, len(state.Rows)), Nodes: state.Nodes, Known: state.Known, NextCursor: state.Next, Progress: progress(state.Progress)}
	for _, r := range state.Rows {
		out.Rows = append(out.Rows, EventStateRow{a.event(r.Record), r.Partial})
	}
	return &body[EventState]{out}, nil
}

func (a *API) eventStats(context.Context, *struct{}) (*body[EventStats], error) {
	stats, queries := a.Search.Stats(), a.Search.QueryStats()
	out := EventStats{
		Events: stats.Events, Bytes: stats.Bytes, Segments: stats.Segments, Lost: stats.Lost, LostEvents: stats.LostEvents,
		Queries: make([]EventQueryStats, 0, len(queries)),
	}
	if !stats.Oldest.IsZero() {
		out.Oldest = &stats.Oldest
	}
	slices.SortFunc(queries, func(a, b event.QueryStats) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Events, a.Events), strings.Compare(a.Query, b.Query))
	})
	for _, q := range queries {
		out.Queries = append(out.Queries, EventQueryStats(q))
	}
	return &body[EventStats]{out}, nil
}
