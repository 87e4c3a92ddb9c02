package adminapi_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

func TestQuarantine(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	w.enrol("h2")
	for what, c := range map[string]struct {
		id, reason string
		status     int
	}{
		"no reason": {n.ID, "", 422}, "blank": {n.ID, "  ", 400}, "long": {n.ID, strings.Repeat("x", 501), 422}, "nobody": {"nobody", "x", 404},
	} {
		if err := w.call("POST", "/nodes/"+c.id+"/quarantine", nil, adminapi.QuarantineInput{Reason: c.reason}, nil); adminapi.Status(err) != c.status {
			t.Errorf("%s: %v; want status %d", what, err, c.status)
		}
	}
	var got adminapi.Node
	if err := w.call("POST", "/nodes/"+n.ID+"/quarantine", nil, adminapi.QuarantineInput{Reason: "odd logs"}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Status != "quarantined" || got.QuarantineReason != "odd logs" || got.QuarantinedAt == nil {
		t.Errorf("%+v", got)
	}
	listed := func(status string) (ids []string) {
		t.Helper()
		var page adminapi.NodePage
		if err := w.call("GET", "/nodes", url.Values{"status": {status}}, nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, n := range page.Nodes {
			ids = append(ids, n.ID)
		}
		return ids
	}
	if diff := cmp.Diff([]string{n.ID}, listed("quarantined")); diff != "" {
		t.Error(diff)
	}
	var facets adminapi.Facets
	if err := w.call("GET", "/nodes/facets", nil, nil, &facets); err != nil || facets.Quarantined != 1 || facets.Total != 2 {
		t.Errorf("%+v %v", facets, err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var preview adminapi.LivePreview
	if err := w.call("POST", "/live/preview", nil, adminapi.PreviewInput{Selector: adminapi.Selector{All: true}}, &preview); err != nil || preview.Matching != 1 {
		t.Errorf("a live query reaches a node under quarantine: %+v %v", preview, err)
	}
	got = adminapi.Node{} // what is absent is not overwritten
	if err := w.call("DELETE", "/nodes/"+n.ID+"/quarantine", nil, nil, &got); err != nil {
		t.Fatal(err)
	}
	if got.Status != "online" || got.QuarantinedAt != nil || got.QuarantineReason != "" || len(listed("quarantined")) != 0 {
		t.Errorf("%+v", got)
	}
	var actions []string
	for _, e := range w.audited()[:2] {
		actions = append(actions, e.Action+" "+e.Target+" "+e.Detail)
	}
	if diff := cmp.Diff([]string{"node.release " + n.ID + " ", "node.quarantine " + n.ID + ` {"reason":"odd logs"}`}, actions); diff != "" {
		t.Error(diff)
	}
}

func TestRevoke(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	secret := w.secret("servers")
	key, n := w.enrolFrom("192.0.2.7", secret, "h1")
	if w.registry.Authenticate(key) == nil {
		t.Fatal("the key is not known")
	}
	if err := w.call("POST", "/nodes/"+n.ID+"/revoke", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if w.registry.Authenticate(key) != nil {
		t.Error("the key is known after it was revoked")
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.registry.Authenticate(key) != nil || w.registry.Lookup(n.ID) == nil {
		t.Error("the key came back, or the node did not")
	}
	if _, again := w.enrolFrom("192.0.2.7", secret, "h1"); again.ID != n.ID {
		t.Errorf("it enrolled as %s, was %s", again.ID, n.ID)
	}
	if err := w.call("POST", "/nodes/nobody/revoke", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("revoking nobody's key: %v", err)
	}
}

// TestHistory asks who had an address: a node that moved, and is gone now.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	secret := w.secret("servers")
	_, n := w.enrolFrom("192.0.2.7", secret, "h1")
	w.enrolFrom("192.0.2.99", secret, "h1")
	history := func() map[string]adminapi.Sighting {
		t.Helper()
		var all adminapi.Sightings
		if err := w.call("GET", "/nodes/"+n.ID+"/history", nil, nil, &all); err != nil {
			t.Fatal(err)
		}
		found := map[string]adminapi.Sighting{}
		for _, s := range all.Sightings {
			found[s.Attribute+" "+s.Value] = s
		}
		return found
	}
	before := history()
	old, ok := before["address 192.0.2.7"]
	if !ok || old.NodeID != n.ID || old.HostIdentifier != "h1" {
		t.Fatalf("%+v", before)
	}
	if _, ok := before["hostname h1.example.com"]; !ok {
		t.Errorf("no hostname in %+v", before)
	}
	who := func(query url.Values) string {
		t.Helper()
		var found adminapi.Sightings
		if err := w.call("GET", "/nodes/who", query, nil, &found); err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, s := range found.Sightings {
			ids = append(ids, s.NodeID)
		}
		return strings.Join(ids, " ")
	}
	then := old.FirstSeen.Format(time.RFC3339Nano)
	for what, c := range map[string]struct {
		query url.Values
		want  string
	}{
		"the old address then":      {url.Values{"ip": {"192.0.2.7"}, "at": {then}}, n.ID},
		"as an IPv6 socket says it": {url.Values{"ip": {"::ffff:192.0.2.7"}, "at": {then}}, n.ID},
		"the new address now":       {url.Values{"ip": {"192.0.2.99"}}, n.ID},
		"by attribute":              {url.Values{"attribute": {"hostname"}, "value": {"h1.example.com"}}, n.ID},
		"before anybody was here":   {url.Values{"ip": {"192.0.2.7"}, "at": {"1h"}}, ""},
		"nobody's":                  {url.Values{"ip": {"192.0.2.1"}}, ""},
	} {
		if got := who(c.query); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	if err := w.call("DELETE", "/nodes/"+n.ID, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := who(url.Values{"ip": {"192.0.2.7"}, "at": {then}}); got != n.ID {
		t.Errorf("after the node is gone: %q", got)
	}
	if s := history()["address 192.0.2.99"]; s.Until == nil {
		t.Errorf("a node that is gone still has %+v", s)
	}
	var gone adminapi.NodePage
	if err := w.call("GET", "/nodes", url.Values{"status": {"gone"}}, nil, &gone); err != nil || len(gone.Nodes) != 1 || gone.Nodes[0].Status != "gone" || gone.Nodes[0].GoneAt == nil {
		t.Errorf("%+v %v", gone, err)
	}
	if err := w.call("GET", "/nodes/nobody/history", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("the history of nobody: %v", err)
	}
}

func TestWho_refused(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	for what, c := range map[string]struct {
		query url.Values
		field string
	}{
		"nothing":              {nil, "ip"},
		"both":                 {url.Values{"ip": {"192.0.2.7"}, "attribute": {"hostname"}}, "ip"},
		"no address":           {url.Values{"ip": {"web-1"}}, "ip"},
		"no value":             {url.Values{"attribute": {"hostname"}}, "value"},
		"no address, the long": {url.Values{"attribute": {"address"}, "value": {"192.0.2"}}, "value"},
		"no attribute":         {url.Values{"value": {"x"}}, "ip"},
		"odd time":             {url.Values{"ip": {"192.0.2.7"}, "at": {"noon"}}, "at"},
	} {
		err := w.call("GET", "/nodes/who", c.query, nil, nil)
		if adminapi.Status(err) != 400 || !strings.HasPrefix(err.Error(), c.field+" ") {
			t.Errorf("%s: %v; want one about %s", what, err, c.field)
		}
	}
}

// TestUnaudited checks that nothing takes effect of which the audit log could
// not be told.
func TestUnaudited(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	secret := w.secret("servers")
	key, n := w.enrolFrom("192.0.2.7", secret, "h1")
	var before adminapi.NodeDetail
	if err := w.call("GET", "/nodes/"+n.ID, nil, nil, &before); err != nil {
		t.Fatal(err)
	}
	w.mute.Store(true)
	path := "/nodes/" + n.ID
	for _, c := range []struct {
		method, path string
		in           any
	}{
		{"PUT", path + "/tags", adminapi.TagsInput{Tags: []string{"x"}}},
		{"POST", path + "/quarantine", adminapi.QuarantineInput{Reason: "x"}},
		{"DELETE", path + "/quarantine", nil},
		{"POST", path + "/revoke", nil},
		{"DELETE", path, nil},
		{"POST", "/nodes/import", adminapi.ImportInput{Nodes: []adminapi.ImportNode{{HostIdentifier: "h2", NodeKey: "0123456789abcdef"}}}},
		{"POST", "/secrets", adminapi.SecretInput{Name: "other"}},
		{"POST", "/secrets/servers/rotate", adminapi.RotateInput{}},
		{"DELETE", "/secrets/servers", nil},
		{"POST", "/live", adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}}},
	} {
		if err := w.call(c.method, c.path, nil, c.in, nil); adminapi.Status(err) != 500 {
			t.Errorf("%s %s without an audit log: %v", c.method, c.path, err)
		}
	}
	var after adminapi.NodeDetail
	if err := w.call("GET", path, nil, nil, &after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if w.registry.Authenticate(key) == nil || w.live.Count() != 0 {
		t.Error("the key was revoked, or a live query runs")
	}
	if _, _, err := w.tryEnrol("192.0.2.7", "0123456789abcdef", "h2"); !errs.Is(err, errs.Unauthenticated) {
		t.Error(err)
	}
	if _, _, err := w.tryEnrol("192.0.2.7", secret, "h1"); err != nil {
		t.Errorf("the secret was rotated or revoked: %v", err)
	}
	var list adminapi.SecretList
	var nodes adminapi.NodePage
	if err := w.call("GET", "/secrets", nil, nil, &list); err != nil || len(list.Secrets) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if err := w.call("GET", "/nodes", nil, nil, &nodes); err != nil || nodes.Total != 1 {
		t.Errorf("%+v %v", nodes, err)
	}
}

// TestTags: who sees what gives a node its tags, and what a person can change.
func TestTags(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1") // its secret gives it web
	if _, err := w.store.SetTags(t.Context(), []node.Tagging{
		{NodeID: n.ID, Source: node.RuleSource("debian"), Tags: []string{"linux", "web"}}, {NodeID: n.ID, Source: node.QuerySource("pack_q"), Tags: []string{"ssh"}},
	}, time.Now()); err != nil {
		t.Fatal(err)
	}
	path := "/nodes/" + n.ID
	sources := func(list []adminapi.TagSource) string {
		var parts []string
		for _, s := range list {
			parts = append(parts, s.Tag+" by "+strings.Join(s.Sources, " and "))
		}
		return strings.Join(parts, ", ")
	}
	var shown adminapi.NodeDetail
	if err := w.call("GET", path, nil, nil, &shown); err != nil {
		t.Fatal(err)
	}
	if got := sources(shown.TagSources); got != "linux by rule:debian, ssh by query:pack_q, web by rule:debian and secret:h1" {
		t.Errorf("it is shown %s", got)
	}
	for _, step := range []struct {
		tags          []string
		sources, kept string
	}{
		{append([]string{"mine"}, shown.Tags...), "linux by rule:debian, mine by hand, ssh by query:pack_q, web by rule:debian and secret:h1", ""},
		{[]string{"mine", "linux"}, "linux by rule:debian, mine by hand, ssh by query:pack_q, web by rule:debian", "ssh by query:pack_q, web by rule:debian"},
		{nil, "linux by rule:debian, ssh by query:pack_q, web by rule:debian", "linux by rule:debian, ssh by query:pack_q, web by rule:debian"},
	} {
		var got adminapi.TaggedNode
		if err := w.call("PUT", path+"/tags", nil, adminapi.TagsInput{Tags: list(step.tags)}, &got); err != nil {
			t.Fatal(err)
		}
		if sources(got.TagSources) != step.sources || sources(got.Kept) != step.kept || (got.Message != "") != (step.kept != "") || len(got.Tags) != len(got.TagSources) {
			t.Errorf("set to %v: %s, kept %s: %s", step.tags, sources(got.TagSources), sources(got.Kept), got.Message)
		}
		if step.kept != "" && !strings.Contains(got.Message, "ssh (by query:pack_q)") {
			t.Errorf("set to %v: %s", step.tags, got.Message)
		}
	}
	if err := w.call("DELETE", path, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	var history adminapi.TagHistory
	if err := w.call("GET", path+"/tags/history", nil, nil, &history); err != nil || len(history.Tags) != 5 {
		t.Errorf("%+v, %v", history, err)
	}
	for _, s := range history.Tags {
		if s.Until == nil || s.Until.Before(s.Since) {
			t.Errorf("a node that is gone has %+v", s)
		}
	}
	if err := w.call("GET", "/nodes/nobody/tags/history", nil, nil, nil); adminapi.Status(err) != 404 {
		t.Errorf("the history of nobody: %v", err)
	}
}

// list is never null.
func list(words []string) []string { return append([]string{}, words...) }

// TestSelector_where: an expression selects, and one that is none is refused.
func TestSelector_where(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("db-1")
	w.enrol("web-1")
	for text, want := range map[string]int{
		"all": 2, `hostname = "db-*"`: 1, `system_info.hostname = "web-1.example.com" and tag = web`: 1, "secret = nobody": 0,
	} {
		var preview adminapi.LivePreview
		if err := w.call("POST", "/live/preview", nil, adminapi.PreviewInput{Selector: adminapi.Selector{Where: text}}, &preview); err != nil || preview.Matching != want {
			t.Errorf("%s: %+v, %v", text, preview, err)
		}
	}
	for _, path := range []string{"/live/preview", "/live"} {
		var in any = adminapi.PreviewInput{Selector: adminapi.Selector{Where: "colour = red"}}
		if path == "/live" {
			in = adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true, Where: "colour = red"}}
		}
		if err := w.call("POST", path, nil, in, nil); adminapi.Status(err) != 400 || !strings.Contains(err.Error(), "selector.where") {
			t.Errorf("%s with no expression: %v", path, err)
		}
	}
}

// TestTag_frozen: during a freeze, tags may not move a node to other queries.
func TestTag_frozen(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	w.change(w.client, strings.Replace(packDocument("db", "600"), "spec: {", "spec: {selector: tag = db, ", 1))
	if err := w.call("POST", "/freeze/on", nil, adminapi.ReasonInput{Reason: "incident 7"}, nil); err != nil {
		t.Fatal(err)
	}
	err := w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"db", "web"}}, nil)
	if adminapi.Status(err) != 403 || !strings.Contains(err.Error(), "incident 7") {
		t.Errorf("another config: %v", err)
	}
	if err := w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"owner-ada", "web"}}, nil); err != nil {
		t.Errorf("a tag that decides nothing: %v", err)
	}
	if err := w.call("POST", "/freeze/off", nil, adminapi.ReasonInput{Reason: "over"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"db", "web"}}, nil); err != nil {
		t.Error(err)
	}
}

// TestTag_frozenRule: nor by what a tag rule, or a stage, makes of the tag.
func TestTag_frozenRule(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	w.enrol("h2")
	w.change(w.client, strings.Replace(packDocument("db", "600"), "spec: {", "spec: {selector: tag = db, ", 1)+
		"apiVersion: muster/v1\nkind: TagRule\nname: dbs\nspec: {selector: tag = store, tags: [db]}\n---\n"+
		"apiVersion: muster/v1\nkind: RolloutPolicy\nname: r\nspec: {stages: [{selector: tag = canary, bake: 1h}]}\n")
	w.change(w.client, packDocument("everywhere", "600"))
	if err := w.call("POST", "/rollouts/current/advance", nil, adminapi.ReasonInput{Reason: "begin"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/freeze/on", nil, adminapi.ReasonInput{Reason: "incident 7"}, nil); err != nil {
		t.Fatal(err)
	}
	for tag, status := range map[string]int{"store": 403, "canary": 403, "owner-ada": 0} {
		if err := w.call("PUT", "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{tag}}, nil); adminapi.Status(err) != status {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

// TestNames_own: nobody is called as the audit log calls Muster itself.
func TestNames_own(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"system", "setup"} {
		in := adminapi.SetupInput{Token: setupToken, Username: name, Password: password}
		if err := adminapi.NewClient(w.url, "", w.http).Call(t.Context(), "POST", "/setup", nil, in, nil); adminapi.Status(err) != 400 {
			t.Errorf("first %s: %v", name, err)
		}
	}
	w.setUp()
	for _, name := range []string{"system", "setup"} {
		if err := w.call("POST", "/users", nil, adminapi.UserInput{Name: name, Password: password, Roles: []string{"admin"}, Own: password}, nil); adminapi.Status(err) != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
