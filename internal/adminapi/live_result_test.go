package adminapi_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/osquery"
)

// asked starts a live query to all nodes and answers it.
func (w *world) asked(sql string, answers ...live.Answer) string {
	w.t.Helper()
	var q adminapi.Live
	if err := w.call("POST", "/live", nil, adminapi.LiveInput{SQL: sql, Selector: adminapi.Selector{All: true}}, &q); err != nil {
		w.t.Fatal(err)
	}
	for i := range answers {
		answers[i].LiveID, answers[i].ReceivedAt = q.ID, time.Now()
	}
	if err := w.live.Accept(w.t.Context(), answers); err != nil {
		w.t.Fatal(err)
	}
	return q.ID
}

// answered is a node's answer with rows.
func answered(nodeID string, rows ...string) live.Answer {
	a := live.Answer{NodeID: nodeID, State: live.Empty, Stats: osquery.QueryStats{WallTimeMs: 12, UserTime: 3}}
	for _, r := range rows {
		a.State, a.Rows = live.Answered, append(a.Rows, json.RawMessage(r))
	}
	return a
}

const listening = "SELECT port, address, count(*) AS n FROM listening_ports GROUP BY port, address"

func TestLiveResults(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b := w.enrol("h1"), w.enrol("h2")
	former := w.asked(listening, answered(a.ID, `{"port":"22","address":"::","n":"1"}`, `{"port":"80","address":"::","n":"2"}`), answered(b.ID))
	id := w.asked(listening, answered(a.ID, `{"port":"22","address":"::","n":"1"}`, `{"port":"443","address":"=1+1","n":"2"}`), answered(b.ID, `{"port":"9","address":"","n":"10"}`))

	var page adminapi.LiveResults
	if err := w.call("GET", "/live/"+id+"/results", url.Values{"sort": {"port"}, "desc": {"true"}, "limit": {"2"}}, nil, &page); err != nil {
		t.Fatal(err)
	}
	want := adminapi.LiveResults{
		Columns: []adminapi.LiveColumn{{Name: "port", Type: "integer"}, {Name: "address", Type: "text"}, {Name: "n", Type: "integer"}},
		Rows: []adminapi.LiveRow{
			{NodeID: a.ID, HostIdentifier: "h1", Hostname: "h1.example.com", Columns: osquery.Row{{Name: "port", Value: "443"}, {Name: "address", Value: "=1+1"}, {Name: "n", Value: "2"}}},
			{NodeID: a.ID, HostIdentifier: "h1", Hostname: "h1.example.com", Columns: osquery.Row{{Name: "port", Value: "22"}, {Name: "address", Value: "::"}, {Name: "n", Value: "1"}}},
		},
		Total: 3, Matched: 3, NextCursor: page.NextCursor,
	}
	if d := cmp.Diff(want, page); d != "" || page.NextCursor == "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	page = adminapi.LiveResults{}
	if err := w.call("GET", "/live/"+id+"/results", url.Values{"sort": {"port"}, "desc": {"true"}, "cursor": {want.NextCursor}}, nil, &page); err != nil || len(page.Rows) != 1 || page.NextCursor != "" {
		t.Errorf("%+v, %v", page, err)
	}
	if err := w.call("GET", "/live/"+id+"/results", url.Values{"where": {"n >= 2"}}, nil, &page); err != nil || page.Matched != 2 || page.Total != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	var groups adminapi.LiveGroups
	if err := w.call("GET", "/live/"+id+"/groups", url.Values{"by": {"hostname"}, "limit": {"1"}}, nil, &groups); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(adminapi.LiveGroups{Groups: []adminapi.LiveGroup{{Value: "h1.example.com", Rows: 2, Nodes: 1}}, Distinct: 2, OtherRows: 1}, groups); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var c adminapi.LiveComparison
	if err := w.call("GET", "/live/"+id+"/compare", url.Values{"with": {former}}, nil, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Added) != 2 || len(c.Gone) != 1 || c.AddedTotal != 2 || c.GoneTotal != 1 || c.Same != 1 || c.Nodes != 2 {
		t.Errorf("%+v", c)
	}
	for path, status := range map[string]int{
		"/live/none/results":                           404,
		"/live/none/groups?by=port":                    404,
		"/live/none/compare?with=" + id:                404,
		"/live/none/export":                            404,
		"/live/" + id + "/compare?with=none":           400,
		"/live/" + id + "/compare":                     422,
		"/live/" + id + "/groups":                      422,
		"/live/" + id + "/groups?by=colour":            400,
		"/live/" + id + "/results?sort=colour":         400,
		"/live/" + id + "/results?where=port":          400,
		"/live/" + id + "/results?limit=1001":          422,
		"/live/" + id + "/results?cursor=x":            400,
		"/live/" + id + "/export?what=nodes&where=a=1": 400,
		"/live/" + id + "/export?state=failed":         400,
		"/live/" + id + "/export?format=xlsx":          422,
		"/live/" + id + "/export?where=port":           400,
	} {
		path, raw, _ := strings.Cut(path, "?")
		query, err := url.ParseQuery(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.call("GET", path, query, nil, nil); adminapi.Status(err) != status {
			t.Errorf("%s?%s: %v, want %d", path, raw, err, status)
		}
	}
}

// get fetches a file.
func (w *world) get(path string) (http.Header, string, error) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/api/v1"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.token())
	res, err := w.http.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s %s", path, res.Status, b)
	}
	return res.Header, string(b), err
}

func (w *world) token() string {
	w.t.Helper()
	var s adminapi.Session
	in := adminapi.LoginInput{Username: "admin", Password: password, Kind: "bearer"}
	if err := adminapi.NewClient(w.url, "", w.http).Call(w.t.Context(), "POST", "/session", nil, in, &s); err != nil {
		w.t.Fatal(err)
	}
	return s.Token
}

func TestLiveExport(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b := w.enrol("h1"), w.enrol("h2")
	failed := live.Answer{NodeID: b.ID, State: live.Failed, Message: "=no such table: \x1b[31m"}
	id := w.asked("SELECT hostname, computer_name AS \"=a\" FROM system_info", answered(a.ID,
		`{"hostname":"\u001b[2Jevil","=a":"@SUM(A1)"}`, `{"hostname":"two\nlines, \"quoted\"","=a":"-5"}`, `{"other":"x"}`), failed)

	head, text, err := w.get("/live/" + id + "/export?what=rows&format=csv")
	if err != nil || head.Get("Content-Disposition") != `attachment; filename="live-`+id+`-rows.csv"` || !strings.HasPrefix(head.Get("Content-Type"), "text/csv") || head.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v, %v", head, err)
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	want := [][]string{
		{"node_id", "host_identifier", "hostname", "columns.hostname", "'=a", "other"},
		{a.ID, "h1", "h1.example.com", `\u001b[2Jevil`, "'@SUM(A1)", ""},
		{a.ID, "h1", "h1.example.com", "two\nlines, \"quoted\"", "-5", ""},
		{a.ID, "h1", "h1.example.com", "", "", "x"},
	}
	if d := cmp.Diff(want, rows); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	_, text, err = w.get("/live/" + id + "/export?format=json&where=" + url.QueryEscape(`"=a" exists`))
	var list []adminapi.LiveRow
	if e := json.Unmarshal([]byte(text), &list); e != nil || err != nil || len(list) != 2 || list[0].Columns[0].Value != "\x1b[2Jevil" {
		t.Errorf("%v, %v: %s", e, err, text)
	}
	_, text, err = w.get("/live/" + id + "/export?format=ndjson")
	if lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n"); err != nil || len(lines) != 3 || json.Unmarshal([]byte(lines[2]), &list[0]) != nil || list[0].Columns[0].Name != "other" {
		t.Errorf("%v: %s", err, text)
	}
	_, text, err = w.get("/live/" + id + "/export?what=nodes&state=failed&format=csv")
	if rows, e := csv.NewReader(strings.NewReader(text)).ReadAll(); e != nil || err != nil || len(rows) != 2 || rows[1][2] != "h2.example.com" || rows[1][3] != "failed" || rows[1][4] != `'=no such table: \u001b[31m` {
		t.Errorf("%v, %v: %q", e, err, rows)
	}
	var nodes []adminapi.LiveNode
	_, text, err = w.get("/live/" + id + "/export?what=nodes&format=json")
	if e := json.Unmarshal([]byte(text), &nodes); e != nil || err != nil || len(nodes) != 2 {
		t.Errorf("%v, %v: %s", e, err, text)
	}
	for format, want := range map[string]string{"json": "[]\n", "ndjson": "", "csv": "node_id"} {
		if _, text, err = w.get("/live/" + id + "/export?what=nodes&state=expired&format=" + format); err != nil || format != "csv" && text != want || !strings.HasPrefix(text, want) {
			t.Errorf("nobody as %s: %q, %v", format, text, err)
		}
	}
}

// TestLiveExport_cut: a client is not to take a part for the whole.
func TestLiveExport_cut(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b := w.enrol("h1"), w.enrol("h2")
	id := w.asked("SELECT 1", answered(a.ID, `{"a":"1"}`), answered(b.ID, `{"a":"1"}`, `{"broken`))
	for _, format := range []string{"json", "ndjson"} {
		if _, text, err := w.get("/live/" + id + "/export?format=" + format); err == nil {
			t.Errorf("%s looks whole: %q", format, text)
		}
	}
}

func TestLivePreview(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var ids []string
	secret := w.secret("servers")
	for i := range 25 {
		_, n := w.enrolFrom("192.0.2.7", secret, fmt.Sprintf("h%02d", i))
		ids = append(ids, n.ID)
	}
	preview := func(in adminapi.PreviewInput) adminapi.LivePreview {
		t.Helper()
		var p adminapi.LivePreview
		if err := w.call("POST", "/live/preview", nil, in, &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := adminapi.Selector{All: true}
	p := preview(adminapi.PreviewInput{Selector: all})
	if p.Matching != 25 || p.Online != 25 || p.Asked != 25 || len(p.Nodes) != 20 || p.Nodes[0].Hostname != "h00.example.com" || !p.Nodes[0].Online || p.Decision != "" || p.Estimate != nil {
		t.Errorf("%+v", p)
	}
	if len(p.Platforms) != 1 || p.Platforms[0].Matching != 25 || p.Platforms[0].Online != 25 {
		t.Errorf("%+v", p.Platforms)
	}
	if p := preview(adminapi.PreviewInput{}); p.Matching != 0 || len(p.Nodes) != 0 {
		t.Errorf("nobody was chosen: %+v", p)
	}
	sample := preview(adminapi.PreviewInput{Selector: all, SamplePercent: 10})
	if sample.Matching != 25 || sample.Asked != 3 || sample.Online != 3 || len(sample.Nodes) != 3 || cmp.Diff(sample, preview(adminapi.PreviewInput{Selector: all, SamplePercent: 10})) != "" {
		t.Errorf("%+v", sample)
	}
	for sql, want := range map[string]string{
		"SELECT name FROM os_version":                      "0 run a text of tier 0",
		"SELECT username FROM users":                       "2 run a text of tier 2 sensitive runs: table users",
		"SELECT result FROM curl WHERE url = 'http://a.b'": "3 refused the policy refuses this text: a text of tier 3",
		"SELECT nope FROM users":                           "3 refused there is no column nope",
		"SELECT 1; SELECT 2":                               "3 refused the text has more than one statement",
	} {
		p := preview(adminapi.PreviewInput{Selector: all, SQL: sql})
		if got := fmt.Sprintf("%d %s %s", p.Tier, p.Decision, p.Why); !strings.HasPrefix(got, want) || p.Estimate != nil {
			t.Errorf("%s: %s, estimate %+v", sql, got, p.Estimate)
		}
	}
	w.change(w.client, "apiVersion: muster/v1\nkind: LivePolicy\nname: few\nspec: {rules: [{min_tier: 2, min_nodes: 10, require: approval}, {min_tier: 2, require: reason}, {min_tier: 1, require: refuse}]}\n")
	for percent, want := range map[float64]string{0: "approval", 20: "reason"} {
		if p := preview(adminapi.PreviewInput{Selector: all, SQL: "SELECT username FROM users", SamplePercent: percent}); p.Decision != want || !strings.Contains(p.Why, "LivePolicy/few") {
			t.Errorf("%v%%: %+v", percent, p)
		}
	}
	w.asked("SELECT name FROM os_version", answered(ids[0], `{"name":"Debian"}`), answered(ids[1], `{"name":"Debian"}`, `{"name":"?"}`))
	e := preview(adminapi.PreviewInput{Selector: all, SQL: "SELECT name FROM os_version"}).Estimate
	if e == nil || e.Nodes != 2 || e.WallMsPerNode != 12 || e.RowsPerNode != 1.5 || e.Basis != "live" || e.At.IsZero() {
		t.Errorf("%+v", e)
	}
}

func TestSavedQueries(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	zoe := w.person("zoe")
	in := adminapi.SavedQueryInput{Description: "who listens", SQL: "SELECT username FROM users", Selector: &adminapi.Selector{Tags: []string{"web"}}}
	var q adminapi.SavedQuery
	if err := w.call("PUT", "/saved-queries/who-listens", nil, in, &q); err != nil {
		t.Fatal(err)
	}
	if q.Verdict == nil || q.Verdict.Tier != 2 || !q.Verdict.Allowed || q.CreatedBy != "admin" || q.UpdatedAt.IsZero() {
		t.Errorf("%+v", q)
	}
	in.SQL = "SELECT * FROM nowhere"
	if err := zoe.Call(t.Context(), "PUT", "/saved-queries/who-listens", nil, in, &q); err != nil || q.Verdict.Allowed || len(q.Verdict.Findings) == 0 || q.CreatedBy != "admin" || q.UpdatedBy != "zoe" {
		t.Errorf("%+v, %v", q, err)
	}
	var list adminapi.SavedQueries
	if err := zoe.Call(t.Context(), "GET", "/saved-queries", nil, nil, &list); err != nil || len(list.SavedQueries) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	q.Verdict = nil
	if d := cmp.Diff(q, list.SavedQueries[0]); d != "" {
		t.Error(d)
	}
	for name, in := range map[string]adminapi.SavedQueryInput{
		"a%20b": {SQL: "SELECT 1"}, "-": {SQL: "SELECT 1"}, "..": {SQL: "SELECT 1"}, "x": {SQL: " "},
		"y": {SQL: "SELECT 1", Selector: &adminapi.Selector{Where: "colour = red"}}, "z": {SQL: "SELECT '\x00'"},
	} {
		if err := w.call("PUT", "/saved-queries/"+name, nil, in, nil); adminapi.Status(err) < 400 || adminapi.Status(err) >= 500 {
			t.Errorf("%s %+v: %v", name, in, err)
		}
	}
	if err := w.call("DELETE", "/saved-queries/who-listens", nil, nil, nil); err != nil {
		t.Error(err)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if err := w.call(method, "/saved-queries/who-listens", nil, nil, nil); adminapi.Status(err) != 404 {
			t.Errorf("%s: %v", method, err)
		}
	}
	var actions []string
	for _, e := range w.audited() {
		if strings.HasPrefix(e.Action, "saved_query.") {
			actions = append(actions, e.Actor+" "+e.Action+" "+e.Target)
		}
	}
	if d := cmp.Diff([]string{"admin saved_query.delete who-listens", "zoe saved_query.save who-listens", "admin saved_query.save who-listens"}, actions); d != "" {
		t.Errorf("audit (-want +got):\n%s", d)
	}
}
