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

// tells makes a node tell which config it runs.
func (w *world) tells(nodeID, hash string) {
	w.t.Helper()
	row := fmt.Sprintf(`{"pid":"7","start_time":"100","watcher":"6","config_hash":%q,"version":"5.23.1","instance_id":"i"}`, hash)
	w.monitor.Note(&event.Batch{NodeID: nodeID, Received: time.Now(), LogType: "result", Events: []event.Event{
		{Time: time.Now(), Query: "pack_muster-health_worker", Action: event.Added, Columns: json.RawMessage(row)},
	}})
}

func TestDrift(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b, c := w.enrol("h1"), w.enrol("h2"), w.enrol("h3")
	if err := w.call("PUT", "/nodes/"+c.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"vault"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.change(w.client, "apiVersion: muster/v1\nkind: OnDisk\nname: vault\nspec: {selector: tag = vault}\n")
	var config, files adminapi.NodeConfig
	for id, out := range map[string]*adminapi.NodeConfig{a.ID: &config, c.ID: &files} {
		if err := w.call("GET", "/nodes/"+id+"/config", nil, nil, out); err != nil {
			t.Fatal(err)
		}
	}
	if !files.OnDisk || files.Hash != config.Hash || string(w.publisher.Catalog().Config(w.registry.Lookup(c.ID)).JSON) != "{}" {
		t.Errorf("%+v", files)
	}
	var d adminapi.Drift
	get := func() string {
		if err := w.call("GET", "/drift", nil, nil, &d); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(d.Drifted, d.Right, d.Unknown)
	}
	if got := get(); got != "0 0 3" {
		t.Errorf("nobody told: %s", got)
	}
	w.tells(a.ID, config.Hash)
	w.tells(b.ID, strings.Repeat("0", 40))
	w.tells(c.ID, strings.Repeat("1", 40))
	if got := get(); got != "2 1 0" || d.Nodes[0].NodeID != b.ID || d.Nodes[0].OnDisk || !d.Nodes[1].OnDisk || d.Nodes[1].Hash != config.Hash {
		t.Errorf("%s: %+v", got, d.Nodes)
	}
	w.tells(c.ID, config.Hash)
	if got := get(); got != "1 2 0" {
		t.Error(got)
	}
}

// TestAgentConfigs: nodes of one selector that run the same share a config.
func TestAgentConfigs(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("h1")
	w.enrol("h2")
	w.change(w.client, strings.Replace(packDocument("one", "600"), "spec: {", "spec: {selector: host_identifier = h1, ", 1))
	var c adminapi.AgentConfigs
	for selector, want := range map[string]int{"": 0, "all": 2, "host_identifier = h1": 1} {
		if err := w.call("GET", "/resources/agent-config", map[string][]string{"selector": {selector}}, nil, &c); err != nil || len(c.Configs) != want || c.AgentURL == "" {
			t.Errorf("%q: %+v, %v", selector, c, err)
		}
	}
	for selector, want := range map[string]int{"host_identifier = nobody": 404, "tga = x": 400} {
		if err := w.call("GET", "/resources/agent-config", map[string][]string{"selector": {selector}}, nil, nil); adminapi.Status(err) != want {
			t.Errorf("%q: %v", selector, err)
		}
	}
}

// TestCosts: without evidence the costs say so.
func TestCosts(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	w.change(w.client, packDocument("p", "600"))
	for _, query := range []map[string][]string{nil, {"node": {n.ID}}} {
		var c adminapi.Costs
		if err := w.call("GET", "/costs", query, nil, &c); err != nil || len(c.Queries) < 10 || c.Revision != 2 || c.Total != (adminapi.DayCost{}) {
			t.Errorf("%v: %+v, %v", query, c, err)
		}
		for _, q := range c.Queries {
			if q.Evidence {
				t.Errorf("evidence out of nothing: %+v", q)
			}
		}
	}
}

// TestChangePages lists changes and revisions page by page.
func TestChangePages(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	for i := range 5 {
		w.change(w.client, packDocument("p", fmt.Sprint(600+i)))
	}
	got := ""
	for cursor := ""; ; {
		var l adminapi.ChangeList
		if err := w.call("GET", "/changes", map[string][]string{"limit": {"2"}, "cursor": {cursor}}, nil, &l); err != nil {
			t.Fatal(err)
		}
		for _, c := range l.Changes {
			got += c.ID + " "
		}
		if cursor = l.NextCursor; cursor == "" {
			break
		}
	}
	if got != "5 4 3 2 1 " {
		t.Errorf("changes %s", got)
	}
	got = ""
	for cursor := ""; ; {
		var l adminapi.RevisionList
		if err := w.call("GET", "/revisions", map[string][]string{"limit": {"4"}, "cursor": {cursor}}, nil, &l); err != nil {
			t.Fatal(err)
		}
		for _, r := range l.Revisions {
			got += fmt.Sprint(r.Number, " ")
		}
		if cursor = l.NextCursor; cursor == "" {
			break
		}
	}
	if got != "6 5 4 3 2 1 " {
		t.Errorf("revisions %s", got)
	}
	var e adminapi.Edits
	if err := w.call("GET", "/revisions/2/diff", map[string][]string{"to": {"6"}}, nil, &e); err != nil || len(e.Diff) != 1 || len(e.Diff[0].Fields) != 1 || e.Diff[0].Fields[0].After != "604" {
		t.Errorf("%+v, %v", e, err)
	}
	for path, want := range map[string]int{"/changes/99": 404, "/revisions/99": 404, "/changes/x": 404, "/rollouts/current": 404} {
		if err := w.call("GET", path, nil, nil, nil); adminapi.Status(err) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, bad := range []string{"kind: Pack", "not yaml: [", packDocument("x", "often"), packDocument("p", "5") + packDocument("p", "6")} {
		in := adminapi.ChangeInput{Message: "x", Files: []adminapi.File{{Name: "bad.yaml", Content: bad}}}
		if err := w.call("POST", "/changes", nil, in, nil); adminapi.Status(err) != 400 {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
}

// TestPropose_large: however many large sets come at once, the server's memory
// holds few of them; small changes go on.
func TestPropose_large(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	large := packDocument("large", "600") + "# " + strings.Repeat("x", adminapi.LargeFiles)
	w.change(w.client, large)
	w.api.FillLarge()
	in := adminapi.ChangeInput{DryRun: true, Files: []adminapi.File{{Name: "large.yaml", Content: large}}}
	if err := w.call("POST", "/changes", nil, in, nil); adminapi.Status(err) != 503 {
		t.Errorf("one too many: %v", err)
	}
	w.change(w.client, packDocument("small", "600"))
}
