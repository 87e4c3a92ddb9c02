package adminapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/event"
)

const tmpRule = `
apiVersion: muster/v1
kind: Rule
name: tmp
description: run from /tmp
spec:
  events: {queries: [pack_base_*], tables: [processes]}
  condition: columns.path startsWith "/tmp/"
  title: "{{columns.path}} on {{node.hostname}}"
  threshold: {count: 2, window: 1h}
`

// TestRules: what is served is listed, and a rule is tried on the events that are
// kept.
func TestRules(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(tmpRule)
	n := w.enrol("web-1")
	now := time.Now().UTC()
	b := event.Batch{NodeID: n.ID, HostIdentifier: "web-1", Received: now.Add(-time.Minute), LogType: "result"}
	for i, path := range []string{"/tmp/a", "/usr/b", "/tmp/c", ""} {
		columns := json.RawMessage(`{}`)
		if path != "" {
			columns = json.RawMessage(fmt.Sprintf(`{"path":%q}`, path))
		}
		b.Events = append(b.Events, event.Event{Time: b.Received, Query: "pack_base_procs", Action: event.Added, Columns: columns, Line: uint64(i)})
	}
	if err := w.engine.Add(1, []event.Batch{b}); err != nil {
		t.Fatal(err)
	}
	if err := w.rules.Handle(t.Context(), 1, []event.Batch{{NodeID: n.ID, Received: now, LogType: "result", Events: b.Events[:2]}}); err != nil {
		t.Fatal(err)
	}
	var list []adminapi.RuleStatus
	if err := w.call("GET", "/rules", nil, nil, &list); err != nil || len(list) != 1 || list[0].Name != "tmp" || list[0].State != "on" || list[0].Counts.Matched != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	var one adminapi.RuleStatus
	if err := w.call("GET", "/rules/tmp", nil, nil, &one); err != nil || one.Counts.Evaluated != 2 || !strings.Contains(one.Document, "startsWith") {
		t.Errorf("%+v, %v", one, err)
	}
	for what, in := range map[string]adminapi.RuleTestInput{
		"by name":     {Name: "tmp", Since: "1h"},
		"by document": {Document: one.Document, Since: "1h", First: 5},
	} {
		var out adminapi.RuleTest
		if err := w.call("POST", "/rules/test", nil, in, &out); err != nil {
			t.Fatal(what, err)
		}
		if out.Events != 4 || out.Evaluated != 4 || out.Matched != 2 || out.Fired != 1 || out.Unknown != 1 || out.Nodes != 1 || len(out.Matches) != 2 ||
			out.Matches[0].Fired || !out.Matches[1].Fired || out.Matches[1].Title != "/tmp/c on web-1.example.com" || out.Matches[0].Event.Hostname != "web-1.example.com" {
			t.Errorf("%s: %+v", what, out)
		}
	}
	if list[0].Counts != one.Counts {
		t.Error("a test counts")
	}
	for _, c := range []struct {
		in     adminapi.RuleTestInput
		status int
		want   string
	}{
		{adminapi.RuleTestInput{Name: "none", Since: "1h"}, 404, "apply one"},
		{adminapi.RuleTestInput{Since: "1h"}, 400, "either name or document"},
		{adminapi.RuleTestInput{Name: "tmp"}, 400, "how far back"},
		{adminapi.RuleTestInput{Name: "tmp", Since: "yesterday"}, 400, "is no time"},
		{adminapi.RuleTestInput{Document: "x", Since: "1h"}, 400, "document"},
		{adminapi.RuleTestInput{Document: strings.Replace(one.Document, "columns.path startsWith", "path startsWith", 1), Since: "1h"}, 400, "\"path\" is not known"},
		{adminapi.RuleTestInput{Document: packDocument("p", "60"), Since: "1h"}, 400, "no Rule"},
	} {
		if err := w.call("POST", "/rules/test", nil, c.in, nil); adminapi.Status(err) != c.status || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.in, err)
		}
	}
}

// TestRuleBounds: how late rows may be that a rule looks at, by what its nodes run.
func TestRuleBounds(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply("apiVersion: muster/v1\nkind: Rule\nname: up\nspec:\n  events: {queries: [pack_slow_*], tables: [uptime]}\n  shadow: true\n" +
		"---\napiVersion: muster/v1\nkind: Pack\nname: slow\nspec:\n  queries: {time: {query: SELECT * FROM time, interval: 100}, up: {query: SELECT * FROM uptime, interval: 1000}}\n")
	n := w.enrol("web-1")
	now := time.Now().UTC()
	batch := event.Batch{NodeID: n.ID, Received: now, LogType: "result", Events: []event.Event{{Time: now.Add(-time.Minute), Query: "pack_slow_time", Action: event.Added}}}
	if err := w.rules.Handle(t.Context(), 1, []event.Batch{batch}); err != nil {
		t.Fatal(err)
	}
	var one adminapi.RuleStatus
	if err := w.call("GET", "/rules/up", nil, nil, &one); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, b := range one.Bounds {
		if fired := b.Query == "pack_slow_time"; b.Nodes != 1 || (b.ToMatch.Samples == 1) != fired || (b.ToMatch.P99 >= 60_000) != fired {
			t.Errorf("%+v", b)
		}
		got[b.Query] = b.Seconds - b.Interval*110/100 // the log period of the fixture's profile, if it has one
	}
	if len(got) != len(one.Bounds) || len(got) < 2 || got["pack_slow_up"] != got["pack_slow_time"] || got["pack_slow_up"] <= 0 || one.Bounds[0].Query != "pack_slow_up" {
		t.Errorf("%+v", one.Bounds)
	}
}
