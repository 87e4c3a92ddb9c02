package adminapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/transparency"
)

// openLink is what a browser without a session gets.
func (w *world) openLink(path, accept string) (status int, header http.Header, body string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	answer, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(b)
}

// disclosed opens a link as a program.
func (w *world) disclosed(l adminapi.TransparencyLink) (d transparency.Disclosure, body string) {
	w.t.Helper()
	status, _, body := w.openLink(l.Path+".json", "*/*")
	if status != http.StatusOK {
		w.t.Fatalf("%d %s", status, body)
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		w.t.Fatal(err)
	}
	return d, body
}

func (w *world) link(nodeID string, in adminapi.LinkInput) (l adminapi.TransparencyLink) {
	w.t.Helper()
	if err := w.call("POST", "/nodes/"+nodeID+"/transparency", nil, in, &l); err != nil {
		w.t.Fatal(err)
	}
	return l
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const owned = `
apiVersion: muster/v1
kind: Pack
name: laptops
description: What laptops are asked
spec:
  selector: tag = web
  discovery: [SELECT 1 FROM os_version WHERE platform != 'x']
  queries:
    logins: {query: SELECT username FROM last, interval: 5400, description: Who logged in, platform: linux}
    uptime: {query: SELECT days FROM uptime, interval: 600}
---
apiVersion: muster/v1
kind: Pack
name: servers
spec: {selector: tag = server, queries: {q: {query: SELECT hour FROM time, interval: 600}}}
---
apiVersion: muster/v1
kind: Profile
name: files
spec:
  file_paths: {etc: [/etc/%%]}
  exclude_paths: {etc: [/etc/mtab]}
  file_accesses: [etc]
  decorators: {load: [SELECT uuid FROM system_info], interval: {"3600": [SELECT total_seconds FROM uptime]}}
---
apiVersion: muster/v1
kind: Rule
name: mine
description: Somebody logged in
spec: {events: {queries: [pack_laptops_logins], selector: tag = web}, severity: high}
---
apiVersion: muster/v1
kind: Rule
name: others
spec: {events: {queries: [pack_servers_q], selector: tag = server}}
---
apiVersion: muster/v1
kind: Redaction
name: r
spec: {columns: [{table: process_envs, column: value, action: drop}], "off": [entropy]}
---
apiVersion: muster/v1
kind: Sink
name: archive
spec: {selector: tag = web, queries: [pack_laptops_*], splunk_hec: {url: "https://sink-address.example.com", token: {env: MUSTER_SECRET_SPLUNK}}}
---
apiVersion: muster/v1
kind: Sink
name: others
spec: {selector: tag = server, stdout: {}}
`

// TestTransparency: the owner sees what is collected, asked, fetched and changed on
// one node, and nothing of others.
func TestTransparency(t *testing.T) {
	var logged lines
	w := newWorld(t, func(w *world) {
		w.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	w.setUp()
	w.apply(owned)
	mine, other := w.enrol("h1"), w.enrol("h2-secret-name")
	if err := w.call("PUT", "/nodes/"+mine.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"by-hand", "web"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, n := range []node.Node{mine, other} { // both were served, and sent rows
		revision := w.publisher.Catalog().Config(w.registry.Lookup(n.ID)).Revision
		at := time.Date(2030, 1, 2, 3, 4, 5+i, 0, time.UTC)
		if err := w.store.SaveServed(t.Context(), []change.Served{{NodeID: n.ID, Revision: revision, Hash: "x", First: at, Last: at.Add(time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		b := event.Batch{NodeID: n.ID, HostIdentifier: n.HostIdentifier, Received: time.Now(), LogType: "result"}
		b.Events = []event.Event{{Time: time.Now(), Query: "pack_laptops_logins", Action: event.Added, Columns: json.RawMessage(`{"username":"row-value"}`)}}
		if err := w.engine.Add(uint64(i+1), []event.Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	row := []json.RawMessage{json.RawMessage(`{"username":"row-value"}`)}
	w.asked("SELECT username FROM users", live.Answer{NodeID: mine.ID, State: live.Answered, Rows: row}, live.Answer{NodeID: other.ID, State: live.Failed, Message: "row-value"})
	only := func(n node.Node, sql, reason string) {
		in := adminapi.LiveInput{SQL: sql, Selector: adminapi.Selector{Nodes: []string{n.ID}}, Reason: reason}
		if err := w.call("POST", "/live", nil, in, nil); err != nil {
			t.Fatal(err)
		}
	}
	only(other, "SELECT 'of the other' AS a FROM time", "about the other")
	w.live.Take(other.ID)
	var c adminapi.Carve
	if err := w.call("POST", "/carves", nil, adminapi.CarveInput{Node: mine.ID, Paths: []string{"/etc/hosts"}, Reason: "case 7"}, &c); err != nil {
		t.Fatal(err)
	}
	w.carved(c, []byte("row-value of a file"))
	if err := w.call("POST", "/carves", nil, adminapi.CarveInput{Node: other.ID, Paths: []string{"/etc/of-the-other"}}, &c); err != nil {
		t.Fatal(err)
	}
	only(mine, "SELECT 'not sent yet' AS a FROM time", "")

	l := w.link(mine.ID, adminapi.LinkInput{})
	if want := "https://muster.example.com" + l.Path; l.URL != want || l.NodeID != mine.ID || time.Until(l.ExpiresAt) < 29*24*time.Hour {
		t.Errorf("%+v", l)
	}
	d, body := w.disclosed(l)
	status, header, html := w.openLink(l.Path, "text/html,application/xhtml+xml,*/*;q=0.8")
	if status != 200 || header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v %s", status, header, html)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Content-Security-Policy": transparency.SecurityPolicy(), "X-Content-Type-Options": "nosniff",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, not %q", name, got, want)
		}
	}
	secret := w.secret("one-more")
	for form, text := range map[string]string{"JSON": body, "HTML": html} {
		for _, never := range []string{"row-value", "h2-secret-name", other.ID, "of the other", "about the other", "of-the-other", "not sent yet", "sink-address", "servers", secret, "<script"} {
			if strings.Contains(text, never) {
				t.Errorf("the %s has %q", form, never)
			}
		}
		for _, wanted := range []string{"SELECT username FROM users", "/etc/hosts", "case 7", "Who logged in", "laptops", "archive"} {
			if !strings.Contains(text, wanted) {
				t.Errorf("the %s lacks %q", form, wanted)
			}
		}
	}
	var queries []string
	for _, q := range d.Collected.Queries {
		if q.Pack == "laptops" {
			queries = append(queries, fmt.Sprintf("%s|%s|%s|%d|%s|%v|%s", q.Name, q.Description, q.PackDescription, q.Tier, q.Every(), q.Discovery, q.Only))
		}
	}
	if diff := cmp.Diff([]string{
		"logins|Who logged in|What laptops are asked|2|Every 90 minutes|[SELECT 1 FROM os_version WHERE platform != 'x']|Only on Linux.",
		"uptime||What laptops are asked|0|Every 10 minutes|[SELECT 1 FROM os_version WHERE platform != 'x']|",
	}, queries); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]transparency.WatchedFiles{{Category: "etc", Paths: []string{"/etc/%%"}, Excluded: []string{"/etc/mtab"}, Reads: true}}, d.Collected.Files); diff != "" {
		t.Error(diff)
	}
	facts := map[string]string{}
	for _, f := range d.Collected.Decorators {
		facts[f.SQL] = f.When
	}
	if facts["SELECT total_seconds FROM uptime"] != "Every hour" || facts["SELECT uuid FROM system_info"] == "" {
		t.Errorf("%v", facts)
	}
	if q := d.Asked.Questions; len(q) != 1 || q[0].By != "admin" || q[0].Tier != 2 || q[0].Outcome != "Answered" || d.Asked.More {
		t.Errorf("%+v", d.Asked)
	}
	if f := d.Fetched.Carves; len(f) != 1 || f[0].By != "admin" || f[0].Outcome != "fetched" || f[0].KeptUntil == nil {
		t.Errorf("%+v", d.Fetched)
	}
	if s := d.Changes.Served; len(s) != 1 || s[0].Author != "admin" || s[0].MadeAt == nil || s[0].From.Year() != 2030 {
		t.Errorf("%+v", d.Changes)
	}
	tags := map[string]string{}
	for _, tag := range d.Tags {
		tags[tag.Tag] = tag.From
	}
	if diff := cmp.Diff(map[string]string{"web": "given when the machine joined", "by-hand": "set by a person"}, tags); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]transparency.WatchingRule{{Name: "mine", Description: "Somebody logged in", Severity: "high", Does: "People are told."}}, d.Rules); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]transparency.Destination{{Name: "archive", Type: "splunk_hec", Gets: "of: pack_laptops_*"}}, d.Sinks); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]transparency.ColumnRule{{Of: "table process_envs, column value", Does: "left empty"}}, d.Redaction.Columns); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(strings.Join(d.Redaction.Kinds, " "), "entropy") || len(d.Redaction.Kinds) < 10 || len(d.Kept) != 2 {
		t.Errorf("%+v %+v", d.Redaction, d.Kept)
	}
	if status, header, _ := w.openLink(l.Path, "application/json"); status != 200 || header.Get("Content-Type") != "application/json" {
		t.Errorf("by Accept: %d %v", status, header)
	}
	if shown, refused := w.api.TransparencyPages(); shown != 3 || refused != 0 {
		t.Errorf("%d pages were shown, %d refused", shown, refused)
	}
	if text := logged.String(); strings.Contains(text, l.Path) || !strings.Contains(text, "path=/transparency/…") {
		t.Error("the log has the link, or not the request")
	}
	if e := w.audited()[1]; e.Action != "node.transparency.create" || e.Target != mine.ID || strings.Contains(e.Detail, l.Path) || !strings.Contains(e.Detail, "expires_at") {
		t.Errorf("%+v", e)
	}
}

// TestTransparency_refused: links that do not work are all answered alike, and so
// that nobody learns what is there.
func TestTransparency_refused(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	mine, gone, other := w.enrol("h1"), w.enrol("h2"), w.enrol("h3")
	good, ended := w.link(mine.ID, adminapi.LinkInput{TTLSeconds: 60}), w.link(gone.ID, adminapi.LinkInput{})
	revoked, others := w.link(other.ID, adminapi.LinkInput{}), w.link(other.ID, adminapi.LinkInput{})
	if d := time.Until(good.ExpiresAt); d > time.Minute {
		t.Errorf("a link of a minute works for %v", d)
	}
	for path, method := range map[string]string{"/nodes/" + gone.ID: "DELETE", "/nodes/" + other.ID + "/transparency": "DELETE"} {
		if err := w.call(method, path, nil, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	token := func(l adminapi.TransparencyLink) string { return strings.TrimPrefix(l.Path, "/transparency/") }
	raw, err := base64.RawURLEncoding.DecodeString(token(good))
	if err != nil {
		t.Fatal(err)
	}
	sign := transparency.NewSigner(node.NewKeyer([]byte(strings.Repeat("k", 32))))
	swapped := []byte(strings.Replace(string(raw), mine.ID, other.ID, 1))
	status, header, want := w.openLink("/transparency/nothing", "text/html")
	_, _, wantJSON := w.openLink("/transparency/nothing.json", "text/html")
	if status != 404 || header.Get("Cache-Control") != "no-store" || header.Get("Content-Security-Policy") != transparency.SecurityPolicy() || !strings.Contains(want, "does not work") {
		t.Fatalf("%d %v %s", status, header, want)
	}
	for name, token := range map[string]string{
		"tampered":         strings.Replace(token(good), token(good)[:2], "AA", 1),
		"cut":              token(good)[:len(token(good))-1],
		"another node":     base64.RawURLEncoding.EncodeToString(swapped),
		"over":             sign.Token(transparency.Link{NodeID: mine.ID, Expires: time.Now().Add(-time.Second)}),
		"revoked":          token(revoked),
		"revoked, too":     token(others),
		"an epoch to come": sign.Token(transparency.Link{NodeID: mine.ID, Expires: time.Now().Add(time.Hour), Epoch: 1}),
		"node gone":        token(ended),
		"no such node":     sign.Token(transparency.Link{NodeID: "0123456789abcdef", Expires: time.Now().Add(time.Hour)}),
		"a hostname":       sign.Token(transparency.Link{NodeID: "h1.example.com", Expires: time.Now().Add(time.Hour)}),
		"another key":      transparency.NewSigner(node.NewKeyer([]byte(strings.Repeat("x", 32)))).Token(transparency.Link{NodeID: mine.ID, Expires: time.Now().Add(time.Hour)}),
	} {
		if status, _, body := w.openLink("/transparency/"+token, "text/html"); status != 404 || body != want {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if status, _, body := w.openLink("/transparency/"+token+".json", "text/html"); status != 404 || body != wantJSON {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	again := w.link(other.ID, adminapi.LinkInput{})
	for name, l := range map[string]adminapi.TransparencyLink{"the good one": good, "one after the revocation": again} {
		if status, _, body := w.openLink(l.Path, "text/html"); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for id, in := range map[string]adminapi.LinkInput{gone.ID: {}, "nobody": {}} {
		wantStatus(t, w.call("POST", "/nodes/"+id+"/transparency", nil, in, nil), 404, "no node")
		wantStatus(t, w.call("DELETE", "/nodes/"+id+"/transparency", nil, nil, nil), 404, "no node")
	}
	for _, seconds := range []int64{59, -1, 366*24*3600 + 1} {
		wantStatus(t, w.call("POST", "/nodes/"+mine.ID+"/transparency", nil, adminapi.LinkInput{TTLSeconds: seconds}, nil), 422, "validation")
	}
	var actions []string
	for _, e := range w.audited() {
		if strings.HasPrefix(e.Action, "node.transparency.revoke") {
			actions = append(actions, e.Actor+" "+e.Target)
		}
	}
	if len(actions) == 0 || actions[len(actions)-1] != "admin "+other.ID {
		t.Errorf("%v", actions)
	}
	if shown, refused := w.api.TransparencyPages(); shown != 2 || refused < 20 {
		t.Errorf("%d pages were shown, %d refused", shown, refused)
	}
}

// TestTransparency_often: neither one link nor one address may keep the server busy.
func TestTransparency_often(t *testing.T) {
	start := time.Now()
	var minutes atomic.Int64
	w := newWorld(t, func(w *world) {
		w.clock = func() time.Time { return start.Add(time.Duration(minutes.Load()) * time.Minute) }
	})
	w.setUp()
	a, b := w.link(w.enrol("h1").ID, adminapi.LinkInput{}), w.link(w.enrol("h2").ID, adminapi.LinkInput{})
	busy := func(what string, l adminapi.TransparencyLink, times, want int) {
		t.Helper()
		for range times - 1 {
			w.openLink(l.Path, "text/html")
		}
		status, header, body := w.openLink(l.Path, "text/html")
		if status != want || want == 503 && (header.Get("Retry-After") == "" || !strings.Contains(body, "try again in a minute")) {
			t.Errorf("%s: %d %v %s", what, status, header, body)
		}
	}
	busy("one link", a, 30, 200)
	busy("one link, too often", a, 1, 503)
	busy("another", b, 1, 200)
	busy("whatever", adminapi.TransparencyLink{Path: "/transparency/x"}, 268, 404) // 300 of this address
	busy("too much from here", b, 1, 503)
	minutes.Add(1)
	busy("a minute later", a, 1, 200)
}

// TestTransparency_hostile: what people and machines write is text.
func TestTransparency_hostile(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	_, n := w.enrolFrom("192.0.2.7", w.secret("laptops"), "<script>alert(1)</script>")
	const hostile = "</pre><img src=x onerror=alert(2)>\u202e"
	in := adminapi.LiveInput{SQL: "SELECT '" + hostile + "' AS a FROM time", Reason: hostile, Selector: adminapi.Selector{All: true}}
	var q adminapi.Live
	if err := w.call("POST", "/live", nil, in, &q); err != nil {
		t.Fatal(err)
	}
	secret := "ghp_" + strings.Repeat("aB3dE6gH9", 4)
	for _, reason := range []string{"", "the token is " + secret} {
		in := adminapi.LiveInput{SQL: "SELECT hour FROM time WHERE '" + secret + "' != ''", Reason: reason, Selector: adminapi.Selector{All: true}}
		if err := w.call("POST", "/live", nil, in, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, task := range w.live.Take(n.ID) {
		if err := w.live.Accept(t.Context(), []live.Answer{{LiveID: task.ID, NodeID: n.ID, State: live.Empty, ReceivedAt: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	l := w.link(n.ID, adminapi.LinkInput{})
	_, _, html := w.openLink(l.Path, "text/html")
	for _, never := range []string{"<script", "<img", "\u202e", secret} {
		if strings.Contains(html, never) {
			t.Errorf("the page has %q", never)
		}
	}
	for _, wanted := range []string{"&lt;script&gt;alert(1)", "&lt;img src=x onerror=alert(2)&gt;\\u202e", "redacted:"} {
		if !strings.Contains(html, wanted) {
			t.Errorf("the page lacks %q", wanted)
		}
	}
	if _, body := w.disclosed(l); strings.Contains(body, secret) || strings.Contains(body, "<script") {
		t.Errorf("the JSON has what it must not: %s", body)
	}
}

// TestTransparency_approved: who agreed is told, of questions and of changes; what waits
// for somebody's consent was not asked yet.
func TestTransparency_approved(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n, bob := w.enrol("h1"), w.person("bob")
	l := w.link(n.ID, adminapi.LinkInput{})
	w.apply("apiVersion: muster/v1\nkind: LivePolicy\nname: p\nspec: {rules: [{min_tier: 2, require: approval}]}\n---\n" +
		"apiVersion: muster/v1\nkind: ApprovalPolicy\nname: one\nspec: {rules: [{nodes_over: 0, selector: all, approvals: 1}]}\n")
	q, err := w.ask(func(in *adminapi.LiveInput) { in.SQL, in.Reason = "SELECT username FROM users", "incident 7" })
	if err != nil || q.State != "pending" {
		t.Fatalf("%+v %v", q, err)
	}
	if d, _ := w.disclosed(l); len(d.Asked.Questions) != 0 {
		t.Errorf("before the consent: %+v", d.Asked)
	}
	if err := bob.Call(t.Context(), "POST", "/live/"+q.ID+"/approve", nil, adminapi.PasswordInput{Password: password}, nil); err != nil {
		t.Fatal(err)
	}
	if d, _ := w.disclosed(l); len(d.Asked.Questions) != 0 {
		t.Errorf("before the node took it: %+v", d.Asked)
	}
	w.live.Take(n.ID)
	if err := w.live.Accept(t.Context(), []live.Answer{{LiveID: q.ID, NodeID: n.ID, State: live.Failed, Message: "row-value", ReceivedAt: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	c := w.change(bob, packDocument("first", "600"))
	if err := w.call("POST", "/changes/"+c.ID+"/approve", nil, adminapi.ApproveInput{Hash: c.Hash, Password: password}, &c); err != nil || c.Revision == 0 {
		t.Fatalf("%+v %v", c, err)
	}
	if err := w.store.SaveServed(t.Context(), []change.Served{{NodeID: n.ID, Revision: c.Revision, Hash: "x", First: time.Now(), Last: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	d, body := w.disclosed(l)
	if a := d.Asked.Questions; len(a) != 1 || a[0].By != "admin" || a[0].Approved != "bob" || a[0].Reason != "incident 7" || a[0].Outcome != "The machine could not answer" {
		t.Errorf("%+v", d.Asked)
	}
	if s := d.Changes.Served; len(s) != 1 || s[0].Author != "bob" || strings.Join(s[0].Approved, " ") != "admin" {
		t.Errorf("%+v", d.Changes)
	}
	if strings.Contains(body, "row-value") || strings.Contains(body, `:"why"`) {
		t.Errorf("it has a message: %s", body)
	}
}

// TestTransparency_state: the page says what the node is served at this moment.
func TestTransparency_state(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply(packDocument("times", "600"))
	n := w.enrol("h1")
	l := w.link(n.ID, adminapi.LinkInput{})
	say := func(note string, packs ...string) {
		t.Helper()
		if err := w.registry.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		d, _ := w.disclosed(l)
		found := map[string]bool{}
		for _, q := range d.Collected.Queries {
			found[q.Pack] = true
		}
		for _, p := range packs {
			if !found[p] {
				t.Errorf("%q lacks the pack %s: %v", note, p, found)
			}
		}
		if !strings.Contains(d.Collected.Note, note) || note == "" && d.Collected.Note != "" || len(packs) == 0 && len(found) != 0 {
			t.Errorf("%q: %+v", note, d.Collected)
		}
	}
	say("", "times")
	if err := w.call("POST", "/nodes/"+n.ID+"/quarantine", nil, adminapi.QuarantineInput{Reason: "odd"}, nil); err != nil {
		t.Fatal(err)
	}
	say("quarantine")
	if err := w.call("DELETE", "/nodes/"+n.ID+"/quarantine", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	w.apply("apiVersion: muster/v1\nkind: OnDisk\nname: d\nspec: {selector: tag = web}\n")
	say("own files", "times")
	if err := w.call("POST", "/emergency/safe-config", nil, adminapi.SafeInput{Selector: "all", Reason: "x"}, nil); err != nil {
		t.Fatal(err)
	}
	say("emergency")
}

// TestTransparency_bounds: lists end, and say so.
func TestTransparency_bounds(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	var served []change.Served
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range transparency.MaxChanges + 1 {
		at := start.Add(time.Duration(i) * time.Hour)
		served = append(served, change.Served{NodeID: n.ID, Revision: 1, Hash: fmt.Sprint(i), First: at, Last: at})
	}
	if err := w.store.SaveServed(t.Context(), served); err != nil {
		t.Fatal(err)
	}
	for i := range transparency.MaxAsked + 1 {
		q := live.Query{ID: fmt.Sprintf("q%03d", i), SQL: "SELECT 1", Selector: node.Selector{All: true}, Phase: live.Done, CreatedBy: "ada", CreatedAt: start.Add(time.Duration(i) * time.Second)}
		if err := w.store.CreateLive(t.Context(), q, []live.Target{{NodeID: n.ID, State: live.Empty}}); err != nil {
			t.Fatal(err)
		}
	}
	paths := make([]string, 0, 2*transparency.MaxPaths)
	for i := range 490 {
		paths = append(paths, fmt.Sprintf(`"/srv/%d"`, i))
	}
	many := strings.Join(paths, ", ")
	w.apply("apiVersion: muster/v1\nkind: Profile\nname: f\nspec: {file_paths: {a: [" + many + "], b: [" + many + "]}}\n")
	d, _ := w.disclosed(w.link(n.ID, adminapi.LinkInput{}))
	got := 0
	for _, f := range d.Collected.Files {
		got += len(f.Paths)
	}
	if len(d.Changes.Served) != transparency.MaxChanges || !d.Changes.More || len(d.Asked.Questions) != transparency.MaxAsked || !d.Asked.More || got != transparency.MaxPaths || !d.Collected.More {
		t.Errorf("%d changes, %d questions, %d paths", len(d.Changes.Served), len(d.Asked.Questions), got)
	}
	if first := d.Asked.Questions[0].Time; !first.Equal(start.Add(transparency.MaxAsked * time.Second)) {
		t.Errorf("the first is of %v", first)
	}
}

// TestTransparency_scope: who may see some nodes alone gives links to these alone,
// and only with the permission for it.
func TestTransparency_scope(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.apply("apiVersion: muster/v1\nkind: Role\nname: desk\nspec: {permissions: [node.read, node.transparency], selector: tag = edge}\n")
	inside, outside := w.enrol("inner"), w.enrol("outer")
	if err := w.call("PUT", "/nodes/"+inside.ID+"/tags", nil, adminapi.TagsInput{Tags: []string{"edge"}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	desk, responder := w.person("dora", "desk"), w.person("rita", account.Responder)
	var l adminapi.TransparencyLink
	for _, method := range []string{"DELETE", "POST"} {
		if err := desk.Call(t.Context(), method, "/nodes/"+inside.ID+"/transparency", url.Values{}, adminapi.LinkInput{}, &l); err != nil && method == "POST" {
			t.Errorf("%s: %v", method, err)
		}
		wantStatus(t, desk.Call(t.Context(), method, "/nodes/"+outside.ID+"/transparency", nil, adminapi.LinkInput{}, nil), 404, "no such node")
		wantStatus(t, responder.Call(t.Context(), method, "/nodes/"+inside.ID+"/transparency", nil, adminapi.LinkInput{}, nil), 403, "node.transparency")
	}
	if status, _, _ := w.openLink(l.Path, "text/html"); status != 200 {
		t.Errorf("the link answers %d", status)
	}
}
