package adminapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/resource"
)

// ask starts a live query on all nodes, changed by f.
func (w *world) ask(f func(*adminapi.LiveInput)) (adminapi.Live, error) {
	w.t.Helper()
	in := adminapi.LiveInput{SQL: "SELECT 1", Selector: adminapi.Selector{All: true}}
	if f != nil {
		f(&in)
	}
	var q adminapi.Live
	err := w.call("POST", "/live", nil, in, &q)
	return q, err
}

// give answers for a node, with rows of one column.
func (w *world) give(id, nodeID string, rows ...string) {
	w.t.Helper()
	a := live.Answer{LiveID: id, NodeID: nodeID, State: live.Empty, ReceivedAt: time.Now()}
	for _, r := range rows {
		a.State, a.Rows = live.Answered, append(a.Rows, json.RawMessage(`{"a":"`+r+`"}`))
	}
	if err := w.live.Accept(w.t.Context(), []live.Answer{a}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) show(id string) adminapi.Live {
	w.t.Helper()
	var q adminapi.Live
	if err := w.call("GET", "/live/"+id, nil, nil, &q); err != nil {
		w.t.Fatal(err)
	}
	return q
}

func TestStartLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	for i := range 20 {
		w.enrol(fmt.Sprintf("h%02d", i))
	}
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	q, err := w.ask(func(in *adminapi.LiveInput) {
		in.Reason, in.NotBefore, in.ExpiresSeconds = " incident 7 ", &soon, 60
		in.Limits, in.Waves = &adminapi.LiveLimits{RowsPerNode: 5}, &adminapi.LiveWaves{First: 3}
	})
	if err != nil {
		t.Fatal(err)
	}
	if q.Kind != "person" || q.Reason != "incident 7" || !q.NotBefore.Equal(soon) || !q.ExpiresAt.Equal(soon.Add(time.Minute)) ||
		q.Limits != (adminapi.LiveLimits{RowsPerNode: 5, BytesPerNode: 8 << 20, Rows: 1_000_000, Bytes: 1 << 30}) ||
		q.Waves != (adminapi.LiveWaves{First: 3, MaxBadPercent: 5}) || q.Approval.Needed || q.State != "running" {
		t.Errorf("%+v", q)
	}
	if shown := w.show(q.ID); shown.Selector == nil || !shown.Selector.All || shown.Latency != nil || !shown.NotBefore.Equal(soon) {
		t.Errorf("%+v", shown)
	}
	e := w.audited()[0]
	if e.Action != "live.start" || e.Target != q.ID || e.Reason != "incident 7" || !strings.Contains(e.Detail, `"nodes":20,"nodes_sha256":"`) {
		t.Errorf("%+v", e)
	}
	again, err := w.ask(func(in *adminapi.LiveInput) { in.RerunOf, in.SamplePercent = q.ID, 50 })
	if err != nil || again.RerunOf != q.ID || again.Nodes == 0 || again.Nodes >= 20 {
		t.Errorf("%+v %v", again, err)
	}
	if same, err := w.ask(func(in *adminapi.LiveInput) { in.SamplePercent = 50 }); err != nil || same.Nodes != again.Nodes {
		t.Errorf("another sample: %+v %v", same, err)
	}
	late := time.Now().Add(40 * 24 * time.Hour)
	for field, f := range map[string]func(*adminapi.LiveInput){
		"max_nodes":  func(in *adminapi.LiveInput) { in.MaxNodes = 19 },
		"not_before": func(in *adminapi.LiveInput) { in.NotBefore = &late },
		"rerun_of":   func(in *adminapi.LiveInput) { in.RerunOf = "nothing" },
		"sql":        func(in *adminapi.LiveInput) { in.SQL = "DELETE FROM x" },
		"limits":     func(in *adminapi.LiveInput) { in.Limits = &adminapi.LiveLimits{RowsPerNode: 20_000} },
		"waves":      func(in *adminapi.LiveInput) { in.Waves = &adminapi.LiveWaves{MaxBadPercent: 101} },
		"sample":     func(in *adminapi.LiveInput) { in.SamplePercent = 101 },
	} {
		if _, err := w.ask(f); adminapi.Status(err)/100 != 4 || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestApproveLive: what needs a second person is delivered to nobody before
// somebody else agreed, with their password and in the audit log.
func TestApproveLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	require := func(what string) {
		w.apply("apiVersion: muster/v1\nkind: LivePolicy\nname: p\nspec: {rules: [{min_tier: 2, require: " + what + "}]}\n")
	}
	require(resource.RequireReason)
	bob := w.person("bob")
	sensitive := func(in *adminapi.LiveInput) { in.SQL = "SELECT username FROM users" }
	if _, err := w.ask(sensitive); adminapi.Status(err) != 400 || !strings.Contains(err.Error(), "rule 1 of LivePolicy/p") {
		t.Errorf("without a reason: %v", err)
	}
	because := func(in *adminapi.LiveInput) { in.SQL, in.Reason = "SELECT username FROM users", "incident 7" }
	if q, err := w.ask(because); err != nil || q.State != "running" || q.Tier != 2 {
		t.Errorf("with a reason: %+v %v", q, err)
	}
	var stopped adminapi.LiveStopped
	if err := w.call("POST", "/live/stop", nil, adminapi.ReasonInput{Reason: "x"}, &stopped); err != nil || len(stopped.Stopped) != 1 {
		t.Errorf("%v %v", stopped, err)
	}

	require(resource.RequireApproval)
	q, err := w.ask(because)
	if err != nil || q.State != "pending" || !q.Approval.Needed {
		t.Fatalf("%+v %v", q, err)
	}
	own := adminapi.PasswordInput{Password: password}
	approve := "/live/" + q.ID + "/approve"
	for what, err := range map[string]error{
		"oneself":          w.call("POST", approve, nil, own, nil),
		"a wrong password": bob.Call(t.Context(), "POST", approve, nil, adminapi.PasswordInput{Password: "wrong wrong wrong"}, nil),
		"rejected oneself": w.call("POST", "/live/"+q.ID+"/reject", nil, adminapi.ReasonInput{Reason: "x"}, nil),
	} {
		if adminapi.Status(err) != 403 {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.mute.Store(true)
	for path, in := range map[string]any{approve: own, "/live/" + q.ID + "/reject": adminapi.ReasonInput{Reason: "x"}} {
		if err := bob.Call(t.Context(), "POST", path, nil, in, nil); adminapi.Status(err) != 500 {
			t.Errorf("%s without an audit log: %v", path, err)
		}
	}
	w.mute.Store(false)
	if tasks := w.live.Take(n.ID); len(tasks) != 0 {
		t.Errorf("delivered before it was approved: %v", tasks)
	}
	if err := bob.Call(t.Context(), "POST", approve, nil, own, &q); err != nil || q.State != "running" || q.Approval.By != "bob" || q.Approval.At == nil {
		t.Errorf("%+v %v", q, err)
	}
	if e := w.audited()[0]; e.Action != "live.approve" || e.Actor != "bob" || !slices.Contains(e.Approvals, "bob") {
		t.Errorf("%+v", e)
	}
	if tasks := w.live.Take(n.ID); len(tasks) != 1 {
		t.Errorf("not delivered: %v", tasks)
	}
	if err := bob.Call(t.Context(), "POST", approve, nil, own, nil); adminapi.Status(err) != 409 {
		t.Errorf("twice: %v", err)
	}

	rejected, err := w.ask(because)
	if err != nil {
		t.Fatal(err)
	}
	require(resource.RequireRefuse)
	if err := bob.Call(t.Context(), "POST", "/live/"+rejected.ID+"/approve", nil, own, nil); adminapi.Status(err) != 403 {
		t.Errorf("approved what the policy refuses by now: %v", err)
	}
	if err := bob.Call(t.Context(), "POST", "/live/"+rejected.ID+"/reject", nil, adminapi.ReasonInput{Reason: "no"}, &rejected); err != nil || rejected.State != "rejected" || rejected.Counts["stopped"] != 1 {
		t.Errorf("%+v %v", rejected, err)
	}
}

// TestHeldLive: a query that goes wrong is held, and goes on when somebody says so.
func TestHeldLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var ids []string
	for i := range 9 {
		ids = append(ids, w.enrol(fmt.Sprintf("h%d", i)).ID)
	}
	q, err := w.ask(func(in *adminapi.LiveInput) { in.Waves = &adminapi.LiveWaves{First: 8} })
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[:5] {
		w.live.Take(id)
		if err := w.live.Accept(t.Context(), []live.Answer{{LiveID: q.ID, NodeID: id, State: live.Failed, Message: "no such table: t", ReceivedAt: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	q = w.show(q.ID)
	if !strings.Contains(q.Held, "5 of 5 nodes") || !strings.Contains(q.Held, "no such table: t") || q.State != "running" {
		t.Errorf("%+v", q)
	}
	if tasks := w.live.Take(ids[5]); len(tasks) != 0 {
		t.Errorf("delivered though it is held: %v", tasks)
	}
	w.mute.Store(true)
	if err := w.call("POST", "/live/"+q.ID+"/resume", nil, nil, nil); adminapi.Status(err) != 500 {
		t.Errorf("resumed without an audit log: %v", err)
	}
	w.mute.Store(false)
	if err := w.call("POST", "/live/"+q.ID+"/resume", nil, nil, &q); err != nil || q.Held != "" {
		t.Errorf("%+v %v", q, err)
	}
	if tasks := w.live.Take(ids[5]); len(tasks) != 1 {
		t.Errorf("not delivered: %v", tasks)
	}
	if err := w.call("POST", "/live/"+q.ID+"/resume", nil, nil, nil); adminapi.Status(err) != 409 {
		t.Errorf("twice: %v", err)
	}
}

func TestListLive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	n := w.enrol("h1")
	first, err := w.ask(func(in *adminapi.LiveInput) { in.SQL = "SELECT hour FROM time" })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ask(func(in *adminapi.LiveInput) { in.Reason = "The Incident" }); err != nil {
		t.Fatal(err)
	}
	w.give(first.ID, n.ID)
	for filter, want := range map[string]int{
		"": 2, "state=done": 1, "state=running": 1, "kind=person": 2, "kind=trigger": 0, "created_by=admin": 2, "created_by=bob": 0,
		"text=FROM+TIME": 1, "text=incident": 1, "text=%25": 0, "text=zzz": 0, "limit=1": 1,
	} {
		query, err := url.ParseQuery(filter)
		if err != nil {
			t.Fatal(err)
		}
		var page adminapi.LivePage
		if err := w.call("GET", "/live", query, nil, &page); err != nil || len(page.Live) != want {
			t.Errorf("%s: %d, %v; want %d", filter, len(page.Live), err, want)
		}
	}
	if err := w.call("GET", "/live", url.Values{"state": {"x"}}, nil, nil); adminapi.Status(err) != 422 {
		t.Error(err)
	}
}

// TestResumeStream: who comes back gets the answers after the last that they saw.
func TestResumeStream(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	a, b := w.enrol("h1"), w.enrol("h2")
	q, err := w.ask(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.live.Take(a.ID)
	w.give(q.ID, a.ID, "1")
	w.give(q.ID, b.ID, "2")
	var s adminapi.Session
	if err := w.call("POST", "/session", nil, adminapi.LoginInput{Username: "admin", Password: password, Kind: "bearer"}, &s); err != nil {
		t.Fatal(err)
	}
	follow := func(last, search string) (ids []string, end adminapi.Live) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/api/v1/live/"+q.ID+"/stream"+search, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Token)
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		answer, err := w.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		lines, name := bufio.NewScanner(answer.Body), ""
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				ids = append(ids, id)
			}
			if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = n
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && name == "end" {
				if err := json.Unmarshal([]byte(data), &end); err != nil {
					t.Error(err)
				}
			}
		}
		return ids, end
	}
	all, end := follow("", "")
	if len(all) != 2 || end.State != "done" || end.Latency == nil || end.Bytes == 0 || end.Rows != 2 {
		t.Fatalf("%v %+v", all, end)
	}
	for last, want := range map[string][]string{all[0]: all[1:], all[1]: nil, "nonsense": all} {
		if got, _ := follow(last, "?answers=true"); !slices.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", last, got, want)
		}
	}
	if ids, end := follow("", "?answers=false"); len(ids) != 0 || end.State != "done" || end.Rows != 2 {
		t.Errorf("counts alone: %v %+v", ids, end)
	}
	var answers adminapi.LiveAnswers
	if err := w.call("GET", "/live/"+q.ID+"/answers", nil, nil, &answers); err != nil || len(answers.Answers) != 2 {
		t.Fatalf("%+v %v", answers, err)
	}
}
