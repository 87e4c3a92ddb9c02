package adminapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/doctor"
	"github.com/musterhq/muster/internal/event"
)

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	now := time.Now().UTC().Truncate(time.Second)
	batch := event.Batch{NodeID: n.ID, HostIdentifier: "h1", Received: now, LogType: "result"}
	for i, path := range []string{"/bin/sh", "/bin/ls", "/bin/sh"} {
		columns, _ := json.Marshal(map[string]string{"path": path})
		batch.Events = append(batch.Events, event.Event{
			Time: now.Add(time.Duration(i-10) * time.Minute), Query: "pack_base_q", Action: event.Added, Columns: columns, Line: uint64(i),
		})
	}
	if err := w.engine.Add(1, []event.Batch{batch}); err != nil {
		t.Fatal(err)
	}
	search := func(query url.Values) (ids []string) {
		t.Helper()
		for {
			var page adminapi.EventPage
			if err := w.call("GET", "/events", query, nil, &page); err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				if e.Hostname != "h1.example.com" || e.NodeID != n.ID {
					t.Errorf("%+v", e)
				}
				ids = append(ids, e.ID)
			}
			if page.NextCursor == "" {
				return ids
			}
			query.Set("cursor", page.NextCursor)
		}
	}
	for name, c := range map[string]struct {
		query url.Values
		want  []string
	}{
		"all, a page each": {url.Values{"limit": {"1"}}, []string{"1-2", "1-1", "1-0"}},
		"condition":        {url.Values{"where": {`path = "/bin/sh"`}}, []string{"1-2", "1-0"}},
		"node by name":     {url.Values{"node": {"h1"}, "query": {"pack_base_*"}, "since": {"1h"}}, []string{"1-2", "1-1", "1-0"}},
		"too old":          {url.Values{"since": {"1m"}}, nil},
		"other query":      {url.Values{"query": {"pack"}}, nil},
	} {
		if diff := cmp.Diff(c.want, search(c.query)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for what, query := range map[string]url.Values{
		"where": {"where": {"path ~ x"}}, "selector": {"selector": {"tag ="}}, "max_time": {"max_time": {"2h"}}, "since": {"since": {"yesterday"}}, "cursor": {"cursor": {"zzz"}},
	} {
		err := w.call("GET", "/events", query, nil, nil)
		if adminapi.Status(err) != 400 || !strings.Contains(err.Error(), what) {
			t.Errorf("odd %s: %v", what, err)
		}
	}
	var queries adminapi.EventQueries
	if err := w.call("GET", "/events/queries", nil, nil, &queries); err != nil || len(queries.Queries) != 1 || queries.Queries[0].Count != 3 {
		t.Errorf("%+v %v", queries, err)
	}
	var overview adminapi.Overview
	if err := w.call("GET", "/overview", nil, nil, &overview); err != nil || overview.EventsStored != 3 || overview.Nodes.Total != 1 || overview.RequestsTotal != 7 {
		t.Errorf("%+v %v", overview, err)
	}
}

// TestDoctor: the worst of what was found is what all of it is.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.checks = []doctor.Check{doctor.Well("disk", "fine"), doctor.Bad("stream", "Do it.", "full")}
	var d adminapi.Diagnosis
	if err := w.call("GET", "/doctor", nil, nil, &d); err != nil || d.Status != doctor.Fail || len(d.Checks) != 2 || d.Checks[1].Do != "Do it." || d.Version != "test" || d.Time.IsZero() {
		t.Errorf("%+v %v", d, err)
	}
}

// TestEvents_forms asks for the same events in all the ways there are.
func TestEvents_forms(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	nodes := []string{w.enrol("h1").ID, w.enrol("h2").ID}
	now := time.Now().UTC().Truncate(time.Second)
	for i, id := range nodes {
		batch := event.Batch{NodeID: id, HostIdentifier: fmt.Sprint("h", i+1), Received: now, LogType: "result", Tags: []string{"web"}, Revision: 3}
		for j, port := range []string{"22", "80", "8080"}[:3-i] {
			batch.Events = append(batch.Events, event.Event{
				Time: now.Add(time.Duration(j-10) * time.Minute), Query: "ports", Action: event.Added, Counter: int64(j), Line: uint64(j), Columns: json.RawMessage(`{"port":"` + port + `"}`),
			})
		}
		if err := w.engine.Add(uint64(i+1), []event.Batch{batch}); err != nil {
			t.Fatal(err)
		}
	}
	var page adminapi.EventPage
	in := adminapi.EventSearch{EventChoice: adminapi.EventChoice{Where: "port in (22, 8080) and @tag = web"}, Sort: "oldest", Limit: 10}
	if err := w.call("POST", "/events/search", nil, in, &page); err != nil || len(page.Events) != 3 {
		t.Fatalf("%+v, %v", page, err)
	}
	if e := page.Events[0]; string(e.Columns) != `{"port":"22"}` || e.Revision != 3 || len(e.Tags) != 1 || page.Progress.Cut {
		t.Errorf("%+v", e)
	}
	page = adminapi.EventPage{}
	if err := w.call("GET", "/events", url.Values{"selector": {"host_identifier = h2"}}, nil, &page); err != nil || len(page.Events) != 2 || page.Events[0].NodeID != nodes[1] {
		t.Errorf("by selector: %+v, %v", page.Events, err)
	}
	var groups adminapi.EventGroups
	query := url.Values{"by": {"port,@action"}, "nodes": {"true"}, "limit": {"1"}, "width": {"auto"}, "since": {"1h"}, "where": {"port prefix 8 or port = 22"}}
	if err := w.call("GET", "/events/count", query, nil, &groups); err != nil || len(groups.Groups) != 1 {
		t.Fatalf("%+v, %v", groups, err)
	}
	if g := groups.Groups[0]; *g.Values[0] != "22" || *g.Values[1] != "added" || g.Events != 2 || g.Nodes != 2 || len(g.Buckets) != 1 ||
		groups.Nodes != 2 || groups.Events != 5 || groups.OtherGroups != 2 || groups.Others.Events != 3 || groups.Width != "1m0s" {
		t.Errorf("%+v", groups)
	}
	groups = adminapi.EventGroups{}
	if err := w.call("GET", "/events/count", url.Values{"by": {"none"}}, nil, &groups); err != nil || len(groups.Groups) != 1 || groups.Groups[0].Values[0] != nil {
		t.Errorf("%+v, %v", groups, err)
	}
	var state adminapi.EventState
	if err := w.call("GET", "/events/state", url.Values{"query": {"ports"}, "where": {"port = 80"}, "limit": {"1"}}, nil, &state); err != nil ||
		len(state.Rows) != 1 || state.Nodes != 2 || state.Known != 2 || state.NextCursor == "" || state.Rows[0].Partial {
		t.Errorf("%+v, %v", state, err)
	}
	var stats adminapi.EventStats
	if err := w.call("GET", "/events/stats", nil, nil, &stats); err != nil || stats.Events != 5 || len(stats.Queries) != 1 || stats.Queries[0].Events != 5 || stats.Oldest == nil {
		t.Errorf("%+v, %v", stats, err)
	}
	for _, c := range []struct {
		path, what string
		query      url.Values
	}{
		{"/events/count", "by", url.Values{"by": {"@nope"}}},
		{"/events/count", "width", url.Values{"width": {"1ms"}}},
		{"/events/state", "query", url.Values{"query": {"a*"}}},
		{"/events/state", "where", url.Values{"query": {"a"}, "where": {"@tag exists"}}},
		{"/events/tail", "since", url.Values{"since": {"1h"}}},
	} {
		if err := w.call("GET", c.path, c.query, nil, nil); adminapi.Status(err) != 400 || !strings.Contains(err.Error(), c.what) {
			t.Errorf("%s %v: %v", c.path, c.query, err)
		}
	}
}

// TestEvents_tail follows events, and ends with its reader.
func TestEvents_tail(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	batch := func(port string) event.Batch {
		return event.Batch{NodeID: "n", Received: time.Now(), Events: []event.Event{{Time: time.Now(), Query: "ports", Action: event.Added, Columns: json.RawMessage(`{"port":"` + port + `"}`)}}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	publisher.Go(func() { // again and again, as nobody can tell when the stream has begun
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for seq := uint64(1); ctx.Err() == nil; seq++ {
			w.tails.Publish(seq, []event.Batch{batch("1"), batch("22")})
			<-pace.C
		}
	})
	seen := 0
	err := w.client.Stream(ctx, "/events/tail?where="+url.QueryEscape("port = 22"), func(e adminapi.StreamEvent) (bool, error) {
		if e.Name == adminapi.EventsMissed {
			return false, nil
		}
		var got adminapi.Event
		if err := json.Unmarshal(e.Data, &got); err != nil || e.Name != adminapi.EventLogged || string(got.Columns) != `{"port":"22"}` || !strings.HasSuffix(got.ID, "-1") {
			t.Errorf("%s %s, %v", e.Name, e.Data, err)
		}
		seen++
		return seen == 3, nil
	})
	if err != nil || seen != 3 {
		t.Errorf("%d events, %v", seen, err)
	}
	cancel()
	publisher.Wait()
}
