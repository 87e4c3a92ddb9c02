//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// ask keeps a running query for nodes n0, n1, ….
func ask(t testing.TB, s *store.Store, id string, nodes int) live.Query {
	t.Helper()
	q := live.Query{
		ID: id, SQL: "SELECT 1", Selector: node.Selector{Tags: []string{"eu"}}, Phase: live.Running,
		CreatedBy: "ada", CreatedAt: start, ExpiresAt: start.Add(10 * time.Minute), Counts: map[live.State]int{live.Waiting: nodes},
	}
	targets := make([]live.Target, nodes)
	for i := range targets {
		targets[i] = live.Target{NodeID: fmt.Sprintf("n%d", i), HostIdentifier: fmt.Sprintf("h%d", i), Hostname: fmt.Sprintf("h%d.example", i), State: live.Waiting}
	}
	ok(t, s.CreateLive(t.Context(), q, targets))
	return q
}

// answer is one of a node with rows.
func answer(id string, n int, rows ...string) live.Answer {
	a := live.Answer{LiveID: id, NodeID: fmt.Sprintf("n%d", n), State: live.Empty, ReceivedAt: start.Add(time.Duration(n) * time.Second)}
	for _, r := range rows {
		a.State = live.Answered
		a.Rows = append(a.Rows, json.RawMessage(r))
	}
	return a
}

// row is one with names and values in turn.
func row(pairs ...string) osquery.Row {
	var r osquery.Row
	for pair := range slices.Chunk(pairs, 2) {
		r = append(r, osquery.Column{Name: pair[0], Value: pair[1]})
	}
	return r
}

// counts returns the counts and rows of query q.
func counts(t testing.TB, s *store.Store) (map[live.State]int, int) {
	t.Helper()
	q := must(s.Live(t.Context(), "q"))(t)
	return q.Counts, q.Rows
}

// answers returns a page of query q.
func answers(t testing.TB, s *store.Store, f live.AnswerFilter) ([]live.Target, string) {
	t.Helper()
	list, next, err := s.LiveAnswers(t.Context(), "q", f)
	ok(t, err)
	return list, next
}

func testLive(t *testing.T, s *store.Store) {
	want := ask(t, s, "q", 4)
	if diff := cmp.Diff(want, must(s.Live(t.Context(), "q"))(t)); diff != "" {
		t.Errorf("Live (-want +got):\n%s", diff)
	}
	wantKind(t, s.CreateLive(t.Context(), want, nil), errs.Conflict)
	_, err := s.Live(t.Context(), "none")
	wantKind(t, err, errs.NotFound)

	answered := answer("q", 2, `{"z":"1","a":"2"}`, `{"z":"3","a":"4"}`)
	answered.Stats = osquery.QueryStats{WallTimeMs: 1, UserTime: 2, SystemTime: 3, Memory: -4}
	failed := answer("q", 1)
	failed.State, failed.Message = live.Failed, "no such table: x"
	fresh := must(s.SaveAnswers(t.Context(), []live.Answer{answered, failed, answered}))(t)
	if diff := cmp.Diff([]live.Answer{answered, failed}, fresh); diff != "" {
		t.Errorf("SaveAnswers (-want +got):\n%s", diff)
	}
	// What was sent is kept after the answer, and several attempts at once.
	sent := start.Add(-time.Second)
	ok(t, s.MarkSent(t.Context(), []live.Delivery{
		{LiveID: "q", NodeID: "n2", At: sent, Attempts: 1},
		{LiveID: "q", NodeID: "n3", At: sent.Add(time.Second), Attempts: 2},
		{LiveID: "q", NodeID: "n3", At: sent, Attempts: 1},
		{LiveID: "q", NodeID: "nobody", At: sent, Attempts: 1},
		{LiveID: "none", NodeID: "n3", At: sent, Attempts: 1},
	}))
	ok(t, s.MarkSent(t.Context(), []live.Delivery{{LiveID: "q", NodeID: "n3", At: sent, Attempts: 1}}))
	again := answer("q", 2, `{"other":"rows"}`)
	if fresh := must(s.SaveAnswers(t.Context(), []live.Answer{again, failed}))(t); len(fresh) != 0 {
		t.Errorf("a node answered twice: %v", fresh)
	}
	wantTargets := []live.Target{
		{
			NodeID: "n2", HostIdentifier: "h2", Hostname: "h2.example", State: live.Answered, Attempts: 1, SentAt: sent, AnsweredAt: answered.ReceivedAt, Seq: 1,
			Stats: answered.Stats, RowCount: 2, Rows: []osquery.Row{row("z", "1", "a", "2"), row("z", "3", "a", "4")},
		},
		{NodeID: "n1", HostIdentifier: "h1", Hostname: "h1.example", State: live.Failed, AnsweredAt: failed.ReceivedAt, Seq: 2, Message: failed.Message, Rows: []osquery.Row{}},
		{NodeID: "n0", HostIdentifier: "h0", Hostname: "h0.example", State: live.Waiting, Rows: []osquery.Row{}},
		{NodeID: "n3", HostIdentifier: "h3", Hostname: "h3.example", State: live.Sent, Attempts: 2, SentAt: sent.Add(time.Second), Rows: []osquery.Row{}},
	}
	got, _ := answers(t, s, live.AnswerFilter{})
	if diff := cmp.Diff(wantTargets, got); diff != "" {
		t.Errorf("LiveAnswers (-want +got):\n%s", diff)
	}
	wantTargets = wantTargets[2:] // those that are open
	for i := range wantTargets {
		wantTargets[i].Rows = nil
	}
	slices.SortFunc(wantTargets, func(a, b live.Target) int { return strings.Compare(a.NodeID, b.NodeID) })
	want.Counts, want.Rows = map[live.State]int{live.Answered: 1, live.Failed: 1, live.Waiting: 1, live.Sent: 1}, 2
	want.Bytes = answered.Bytes()
	queries, targets, err := s.RunningLive(t.Context())
	ok(t, err)
	if diff := cmp.Diff(map[string]live.Query{"q": want}, queries); diff != "" {
		t.Errorf("RunningLive queries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]live.Target{"q": wantTargets}, targets); diff != "" {
		t.Errorf("RunningLive targets (-want +got):\n%s", diff)
	}
}

func testLiveLate(t *testing.T, s *store.Store) {
	ask(t, s, "q", 4)
	must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", 0, `{"a":"1"}`)}))(t)
	ended := start.Add(time.Minute)
	ok(t, s.EndLive(t.Context(), "q", live.TimedOut, live.Expired, ended))
	ok(t, s.EndLive(t.Context(), "q", live.StoppedBy, live.Halted, ended.Add(time.Minute))) // changes nothing
	q := must(s.Live(t.Context(), "q"))(t)
	if q.Phase != live.TimedOut || !q.EndedAt.Equal(ended) || q.Counts[live.Expired] != 3 || q.Counts[live.Answered] != 1 {
		t.Errorf("ended as %+v", q)
	}
	late := []live.Answer{answer("q", 1, `{"a":"1"}`, `{"a":"2"}`), answer("q", 2), answer("q", 0, `{"a":"3"}`)}
	if fresh := must(s.SaveAnswers(t.Context(), late))(t); len(fresh) != 2 {
		t.Errorf("got %d fresh answers, want the 2 late ones", len(fresh))
	}
	if fresh := must(s.SaveAnswers(t.Context(), late))(t); len(fresh) != 0 {
		t.Errorf("late answers twice: %v", fresh)
	}
	got, rows := counts(t, s)
	if diff := cmp.Diff(map[live.State]int{live.Answered: 2, live.Empty: 1, live.Expired: 1}, got); diff != "" || rows != 3 {
		t.Errorf("%d rows, counts (-want +got):\n%s", rows, diff)
	}
	must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", 3)}))(t)
	if got, _ := counts(t, s); len(got) != 2 {
		t.Errorf("states of none stay: %v", got)
	}
	if queries, _, err := s.RunningLive(t.Context()); err != nil || len(queries) != 0 {
		t.Errorf("still running: %v, %v", queries, err)
	}
}

// testLiveStray: ids in answers come from agents.
func testLiveStray(t *testing.T, s *store.Store) {
	ask(t, s, "q", 1)
	stray := []live.Answer{answer("none", 0, `{}`), answer("q", 1, `{}`), answer("q\x00", 0), answer("\xff'\";--", 0), answer("", 0)}
	if fresh := must(s.SaveAnswers(t.Context(), stray))(t); len(fresh) != 0 {
		t.Errorf("kept %v", fresh)
	}
	must(s.SaveAnswers(t.Context(), nil))(t)
	ok(t, s.MarkSent(t.Context(), nil))
	if got, rows := counts(t, s); got[live.Waiting] != 1 || rows != 0 {
		t.Errorf("got %v, %d rows", got, rows)
	}
}

func testLiveText(t *testing.T, s *store.Store) {
	ask(t, s, "q", 1)
	a := answer("q", 0, `{"nul":"a\u0000b","uni":"日本 🦀","":"<&>\"\\","dup":"1","dup":"2"}`)
	a.State, a.Message = live.OverLimit, "bad\x00text \xff"
	must(s.SaveAnswers(t.Context(), []live.Answer{a}))(t)
	got, _ := answers(t, s, live.AnswerFilter{})
	want := row("nul", "a\x00b", "uni", "日本 🦀", "", `<&>"\`, "dup", "1", "dup", "2")
	if diff := cmp.Diff([]osquery.Row{want}, got[0].Rows); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if got[0].Message != `bad\x00text \xFF` {
		t.Errorf("message %q", got[0].Message)
	}
}

func testLiveEnd(t *testing.T, s *store.Store) {
	wantKind(t, s.EndLive(t.Context(), "none", live.Done, live.Expired, start), errs.NotFound)
	ask(t, s, "q", 3)
	ok(t, s.MarkSent(t.Context(), []live.Delivery{{LiveID: "q", NodeID: "n0", At: start, Attempts: 1}}))
	ok(t, s.EndLive(t.Context(), "q", live.StoppedBy, live.Halted, start))
	got, _ := counts(t, s)
	if diff := cmp.Diff(map[live.State]int{live.Halted: 3}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func testLiveList(t *testing.T, s *store.Store) {
	const count = 11
	for i := range count {
		q := live.Query{ID: fmt.Sprintf("q%02d", i), Phase: live.Running, CreatedAt: start.Add(time.Duration(i/3) * time.Second)}
		ok(t, s.CreateLive(t.Context(), q, []live.Target{{NodeID: "n", State: live.Waiting}}))
	}
	ok(t, s.EndLive(t.Context(), "q10", live.Done, live.Expired, start))
	var ids []string
	cursor := ""
	for {
		list, next, err := s.LiveList(t.Context(), live.Filter{Cursor: cursor, Limit: 4})
		ok(t, err)
		for _, q := range list {
			ids = append(ids, q.ID)
			if q.Nodes() != 1 {
				t.Errorf("%s: counts %v", q.ID, q.Counts)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(ids) != count || !slices.IsSortedFunc(ids, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("got %v", ids)
	}
	_, _, err := s.LiveList(t.Context(), live.Filter{Cursor: "!"})
	wantKind(t, err, errs.Invalid)
}

func testLiveAnswers(t *testing.T, s *store.Store) {
	_, _, err := s.LiveAnswers(t.Context(), "none", live.AnswerFilter{})
	wantKind(t, err, errs.NotFound)
	ask(t, s, "q", 9)
	for _, n := range []int{7, 3, 5, 1} {
		a := answer("q", n, `{"n":"x"}`)
		if n == 5 {
			a = answer("q", n)
		}
		must(s.SaveAnswers(t.Context(), []live.Answer{a}))(t)
	}
	for _, c := range []struct {
		name   string
		filter live.AnswerFilter
		want   string
	}{
		{"all", live.AnswerFilter{}, "n7 n3 n5 n1 n0 n2 n4 n6 n8"},
		{"answered only", live.AnswerFilter{AnsweredOnly: true}, "n7 n3 n5 n1"},
		{"after", live.AnswerFilter{AfterSeq: 2}, "n5 n1"},
		{"after all", live.AnswerFilter{AfterSeq: 4}, ""},
		{"state", live.AnswerFilter{State: live.Answered}, "n7 n3 n1"},
		{"open state", live.AnswerFilter{State: live.Waiting}, "n0 n2 n4 n6 n8"},
	} {
		for _, limit := range []int{1, 2, 3, 4, 100} {
			f := c.filter
			f.Limit = limit
			var ids []string
			for {
				list, next := answers(t, s, f)
				for _, target := range list {
					ids = append(ids, target.NodeID)
				}
				if f.Cursor = next; f.Cursor == "" {
					break
				}
			}
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("%s, limit %d: got %s, want %s", c.name, limit, got, c.want)
			}
		}
	}
	_, _, err = s.LiveAnswers(t.Context(), "q", live.AnswerFilter{Cursor: "!"})
	wantKind(t, err, errs.Invalid)
}

// testLiveLarge: 10,000 nodes, and pages that end before they fill the memory.
func testLiveLarge(t *testing.T, s *store.Store) {
	const count = 10_000
	ask(t, s, "q", count)
	large := `{"a":"` + strings.Repeat("x", 1<<20) + `"}`
	list := make([]live.Answer, count)
	for i := range list {
		list[i] = answer("q", i, `{"a":"1"}`)
		if i < 24 {
			list[i] = answer("q", i, large)
		}
	}
	if fresh := must(s.SaveAnswers(t.Context(), list))(t); len(fresh) != count {
		t.Errorf("%d answers kept", len(fresh))
	}
	ok(t, s.EndLive(t.Context(), "q", live.Done, live.Expired, start))
	if got, rows := counts(t, s); got[live.Answered] != count || rows != count {
		t.Errorf("got %v, %d rows", got, rows)
	}
	first, next := answers(t, s, live.AnswerFilter{Limit: 1000})
	if len(first) > 20 || next == "" {
		t.Errorf("a page with %d large answers", len(first))
	}
	second, _ := answers(t, s, live.AnswerFilter{Limit: 1000, Cursor: next})
	if second[0].Seq != first[len(first)-1].Seq+1 {
		t.Errorf("page 2 begins at %d", second[0].Seq)
	}
}

// testLiveTogether: several servers keep the same answers while a query ends;
// each is kept once, and who follows the numbers misses none.
func testLiveTogether(t *testing.T, s *store.Store) {
	const nodes, servers = 60, 4
	ask(t, s, "q", nodes)
	followed := make(chan int)
	stop := make(chan struct{})
	go func() {
		var last int64
		seen := 0
		for ended := false; ; {
			list, _, err := s.LiveAnswers(t.Context(), "q", live.AnswerFilter{AfterSeq: last, AnsweredOnly: true, Limit: 5})
			if err != nil {
				t.Error(err)
				break
			}
			for _, target := range list {
				last = target.Seq
				seen++
			}
			if ended && len(list) == 0 {
				break
			}
			select {
			case <-stop:
				ended = true
			default:
			}
		}
		followed <- seen
	}()
	fresh := make([]int, servers)
	failures := together(servers+1, func(i int) error {
		if i == servers {
			return s.EndLive(t.Context(), "q", live.TimedOut, live.Expired, start)
		}
		for n := range nodes {
			kept, err := s.SaveAnswers(t.Context(), []live.Answer{answer("q", n, `{"a":"1"}`), answer("q", (n+1)%nodes, `{"a":"1"}`)})
			if err != nil {
				return err
			}
			fresh[i] += len(kept)
			if err := s.MarkSent(t.Context(), []live.Delivery{{LiveID: "q", NodeID: fmt.Sprintf("n%d", n), At: start, Attempts: 1}}); err != nil {
				return err
			}
		}
		return nil
	})
	close(stop)
	for _, err := range failures {
		ok(t, err)
	}
	sum := 0
	for _, n := range fresh {
		sum += n
	}
	got, rows := counts(t, s)
	if seen := <-followed; sum != nodes || seen != nodes || rows != nodes || got[live.Answered] != nodes || len(got) != 1 {
		t.Errorf("%d fresh, %d followed, %d rows, counts %v", sum, seen, rows, got)
	}
}

// testLiveCoordinator runs the domain on the store.
func testLiveCoordinator(t *testing.T, s *store.Store) {
	now := func() time.Time { return start }
	log := slog.New(slog.DiscardHandler)
	c := live.NewCoordinator(s, log, now)
	q, err := c.Start(t.Context(), live.Query{SQL: "SELECT 1", Selector: node.Selector{All: true}},
		[]*node.Identity{{ID: "n0"}, {ID: "n1"}})
	ok(t, err)
	restarted := live.NewCoordinator(s, log, now)
	ok(t, restarted.Load(t.Context()))
	if tasks := restarted.Take("n0"); len(tasks) != 1 || tasks[0].ID != q.ID {
		t.Fatalf("got %v", tasks)
	}
	ok(t, restarted.Accept(t.Context(), []live.Answer{answer(q.ID, 0, `{"a":"1"}`), answer(q.ID, 1)}))
	got := must(s.Live(t.Context(), q.ID))(t)
	if got.Phase != live.Done || got.Rows != 1 || got.Nodes() != 2 {
		t.Errorf("got %+v", got)
	}
}

// testLiveStop: nothing is delivered after a stop or the expiry, also after the
// state was opened again; late answers are kept and marked.
func testLiveStop(t *testing.T, s *store.Store) {
	now := start
	coordinator := func() *live.Coordinator {
		c := live.NewCoordinator(s, slog.New(slog.DiscardHandler), func() time.Time { return now })
		ok(t, c.Load(t.Context()))
		return c
	}
	c := coordinator()
	nodes := []*node.Identity{{ID: "n0"}, {ID: "n1"}}
	for _, id := range []string{"stopped", "runs"} {
		must(c.Start(t.Context(), live.Query{ID: id, SQL: "SELECT 1"}, nodes))(t)
	}
	ok(t, c.Stop(t.Context(), "stopped"))
	c = coordinator()
	if tasks := c.Take("n0"); len(tasks) != 1 || tasks[0].ID != "runs" {
		t.Errorf("after a stop: %v", tasks)
	}
	now = now.Add(live.DefaultExpiry)
	c = coordinator()
	if tasks := c.Take("n1"); len(tasks) != 0 {
		t.Errorf("after the expiry: %v", tasks)
	}
	ok(t, c.Accept(t.Context(), []live.Answer{answer("stopped", 1, `{"a":"1"}`)}))
	list, _, err := s.LiveAnswers(t.Context(), "stopped", live.AnswerFilter{AnsweredOnly: true})
	ok(t, err)
	if len(list) != 1 || !list[0].Late || list[0].State != live.Answered || list[0].RowCount != 1 {
		t.Errorf("late answer: %+v", list)
	}
}

// testLiveAlter: what delivery depends on survives, and only one wins.
func testLiveAlter(t *testing.T, s *store.Store) {
	q := live.Query{
		ID: "q", Kind: live.Trigger, Source: "hook", SQL: "SELECT 1", Reason: "why", Tier: 2, Phase: live.Pending, CreatedBy: "ada", CreatedAt: start,
		NotBefore: start.Add(time.Second), ExpiresAt: start.Add(time.Minute), RerunOf: "p", Approval: live.Approval{Needed: true},
		Limits: live.Limits{RowsPerNode: 1, BytesPerNode: 2, Rows: 3, Bytes: 4}, Waves: live.Waves{First: 1, MaxBadPercent: 2}, Counts: map[live.State]int{live.Waiting: 1},
	}
	ok(t, s.CreateLive(t.Context(), q, []live.Target{{NodeID: "n0", State: live.Waiting}}))
	if diff := cmp.Diff(q, must(s.Live(t.Context(), "q"))(t)); diff != "" {
		t.Errorf("Live (-want +got):\n%s", diff)
	}
	if kept := must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", 0)}))(t); len(kept) != 0 {
		t.Errorf("an answer to what nobody was asked: %v", kept)
	}
	q.Phase, q.Held, q.ExpiresAt, q.Approval.By, q.Approval.At, q.Waves.Good = live.Running, "held", start.Add(time.Hour), "bob\x00", start, 7
	ok(t, s.AlterLive(t.Context(), q, live.Pending))
	wantKind(t, s.AlterLive(t.Context(), q, live.Pending), errs.Conflict)
	queries, targets, err := s.RunningLive(t.Context())
	ok(t, err)
	if diff := cmp.Diff(map[string]live.Query{"q": q}, queries); diff != "" || len(targets["q"]) != 1 {
		t.Errorf("RunningLive (-want +got):\n%s", diff)
	}
	ok(t, s.EndLive(t.Context(), "q", live.Rejected, live.Halted, start))
	wantKind(t, s.AlterLive(t.Context(), q, live.Running), errs.Conflict)
	if list, _, err := s.LiveList(t.Context(), live.Filter{Kind: live.Trigger, CreatedBy: "ada", Phase: live.Rejected, Text: "WHY"}); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// testLiveStanding: nodes join once per enrolment; only open ones are loaded.
func testLiveStanding(t *testing.T, s *store.Store) {
	q := live.Query{ID: "q", Kind: live.Enrollment, Source: "inventory", SQL: "SELECT 1", Phase: live.Running, CreatedAt: start, Standing: true}
	kept := must(s.StandLive(t.Context(), q))(t)
	if kept.Phase != live.Running || !kept.Standing || kept.Nodes() != 0 {
		t.Errorf("%+v", kept)
	}
	join := func(enrolled time.Time, n ...int) []live.Joined {
		t.Helper()
		var list []live.Joining
		for _, i := range n {
			list = append(list, live.Joining{LiveID: "q", Target: live.Target{
				NodeID: fmt.Sprintf("n%d", i), Hostname: "h", State: live.Waiting, EnrolledAt: enrolled, ExpiresAt: enrolled.Add(time.Hour),
			}})
		}
		return must(s.AddTargets(t.Context(), list))(t)
	}
	if diff := cmp.Diff([]live.Joined{{Asked: true}, {Asked: true}, {Asked: true}}, join(start, 0, 1, 2)); diff != "" {
		t.Error(diff)
	}
	rows := answer("q", 0, `{"a":"1"}`, `{"a":"2"}`)
	fresh := must(s.SaveAnswers(t.Context(), []live.Answer{rows}))(t)
	if len(fresh) != 1 || fresh[0].Late || !fresh[0].EnrolledAt.Equal(start) {
		t.Errorf("%+v", fresh)
	}
	events := must(s.KeptAnswers(t.Context(), []live.Answer{rows, answer("q", 1, `{"a":"3"}`), answer("x", 0)}))(t)
	if len(events) != 1 || len(events[0].Answer.Rows) != 2 || events[0].EventName() != "enrollment/inventory" ||
		!strings.Contains(string(events[0].Decorations()), `"enrolled_at":"2026-03-29T`) {
		t.Errorf("%+v", events)
	}
	ok(t, s.ExpireTargets(t.Context(), "q", start.Add(30*time.Minute))) // none is due
	later := start.Add(time.Minute)
	want := []live.Joined{{Asked: true, Was: live.Answered, Rows: 2, Bytes: rows.Bytes()}, {Asked: true, Was: live.Waiting}}
	if diff := cmp.Diff(want, join(later, 0, 1)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]live.Joined{{}, {}}, join(start, 0, 1)); diff != "" {
		t.Error(diff)
	}
	got, n := counts(t, s)
	if diff := cmp.Diff(map[live.State]int{live.Waiting: 3}, got); diff != "" || n != 0 {
		t.Errorf("%d rows, %s", n, diff)
	}
	ok(t, s.ExpireTargets(t.Context(), "q", start.Add(time.Hour))) // n2
	late := must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", 2), answer("q", 1)}))(t)
	if len(late) != 2 || !late[0].Late || late[1].Late {
		t.Errorf("%+v", late)
	}
	queries, targets, err := s.RunningLive(t.Context())
	ok(t, err)
	if len(targets["q"]) != 1 || queries["q"].Counts[live.Empty] != 2 || queries["q"].Counts[live.Waiting] != 1 {
		t.Errorf("%v, %v", queries, targets)
	}
	asked := must(s.EnrolmentsAsked(t.Context(), "q"))(t)
	if diff := cmp.Diff(map[string]time.Time{"n0": later, "n1": later, "n2": start}, asked); diff != "" {
		t.Error(diff)
	}
	ok(t, s.EndLive(t.Context(), "q", live.Done, live.Halted, start))
	if joined := join(later.Add(time.Minute), 0, 7); joined[0].Asked || joined[1].Asked {
		t.Errorf("joined after the end: %v", joined)
	}
	if kept := must(s.StandLive(t.Context(), q))(t); kept.Phase != live.Running || kept.Nodes() != 3 {
		t.Errorf("%+v", kept)
	}
	ok(t, s.EndLive(t.Context(), "q", live.StoppedBy, live.Halted, start))
	if kept := must(s.StandLive(t.Context(), q))(t); kept.Phase != live.StoppedBy {
		t.Errorf("what somebody stopped stands again: %+v", kept)
	}
}

// testLivePrune: what ended long ago goes, step by step; what runs stays.
func testLivePrune(t *testing.T, s *store.Store) {
	large := `{"a":"` + strings.Repeat("x", 6<<20) + `"}`
	ask(t, s, "q", 5)
	ask(t, s, "runs", 1)
	ask(t, s, "young", 1)
	for n := range 5 {
		must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", n, large)}))(t)
	}
	ok(t, s.EndLive(t.Context(), "q", live.Done, live.Expired, start))
	ok(t, s.EndLive(t.Context(), "young", live.Done, live.Expired, start.Add(time.Hour)))
	must(s.StandLive(t.Context(), live.Query{ID: "s", Phase: live.Running, Standing: true, CreatedAt: start}))(t)
	must(s.AddTargets(t.Context(), []live.Joining{{LiveID: "s", Target: live.Target{NodeID: "n1", EnrolledAt: start}}}))(t)
	must(s.SaveAnswers(t.Context(), []live.Answer{answer("s", 1, `{"a":"1"}`)}))(t)
	steps := 0
	for {
		more := must(s.PruneLive(t.Context(), start.Add(time.Minute)))(t)
		if !more {
			break
		}
		steps++
	}
	if steps < 5 || steps > 6 { // 2 + 2 + 1 nodes, the query, the standing one's rows
		t.Errorf("%d steps", steps)
	}
	list, _, err := s.LiveList(t.Context(), live.Filter{})
	ok(t, err)
	if len(list) != 3 {
		t.Errorf("%d are left", len(list))
	}
	if q := must(s.Live(t.Context(), "s"))(t); q.Rows != 0 || q.Bytes != 0 || q.Counts[live.Answered] != 1 {
		t.Errorf("%+v", q)
	}
	if asked := must(s.EnrolmentsAsked(t.Context(), "s"))(t); len(asked) != 1 {
		t.Errorf("who was asked is forgotten: %v", asked)
	}
}

func testLiveLatency(t *testing.T, s *store.Store) {
	ask(t, s, "q", 100)
	if first, _, _, err := s.LiveLatency(t.Context(), "q"); err != nil || !first.IsZero() {
		t.Errorf("%v %v", first, err)
	}
	for n := range 100 {
		must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", n)}))(t)
	}
	first, p50, p95, err := s.LiveLatency(t.Context(), "q")
	ok(t, err)
	if !first.Equal(start) || !p50.Equal(start.Add(49*time.Second)) || !p95.Equal(start.Add(94*time.Second)) {
		t.Errorf("%v %v %v", first, p50, p95)
	}
}

// testMigrateLive: queries from before there were limits and waves.
func testMigrateLive(t *testing.T, location string) {
	const target = `INSERT INTO live_target (live_id, node_id, host_identifier, hostname, state, attempts, sent_at, answered_at, seq, message, wall_time_ms, user_time, system_time, memory) VALUES `
	store.OpenAt(t, location, 7,
		fmt.Sprintf(`INSERT INTO live (id, sql, selector, phase, created_by, created_at, expires_at, ended_at, counts, row_count)
			VALUES ('q', 'SELECT 1', '{}', 'running', 'ada', %d, %d, 0, '{}', 2)`, start.UnixMicro(), start.Add(time.Hour).UnixMicro()),
		target+`('q', 'n0', 'h0', '', 'answered', 1, 1, 1, 1, '', 0, 0, 0, 0)`,
		target+`('q', 'n1', 'h1', '', 'over_limit', 1, 1, 1, 2, '', 0, 0, 0, 0)`,
		target+`('q', 'n2', 'h2', '', 'waiting', 0, 0, 0, 0, '', 0, 0, 0, 0)`,
		`INSERT INTO live_rows (live_id, node_id, data) VALUES ('q', 'n0', '[{"a":"ä"}]'), ('q', 'n1', '[{"a":"\u0000"}]')`,
	)
	s := storetest.Open(t, location)
	q := must(s.Live(t.Context(), "q"))(t)
	if diff := cmp.Diff(map[live.State]int{live.Answered: 1, live.OverLimit: 1, live.Waiting: 1}, q.Counts); diff != "" || q.Kind != live.Person || q.Bytes < 25 {
		t.Errorf("%+v %s", q, diff)
	}
	list, _ := answers(t, s, live.AnswerFilter{AnsweredOnly: true})
	if len(list) != 2 || list[0].Cut || !list[1].Cut {
		t.Errorf("%+v", list)
	}
	c := live.NewCoordinator(s, slog.New(slog.DiscardHandler), func() time.Time { return start })
	ok(t, c.Load(t.Context()))
	if tasks := c.Take("n2"); len(tasks) != 1 {
		t.Errorf("not delivered: %v", tasks)
	}
	ok(t, c.Accept(t.Context(), []live.Answer{answer("q", 2, `{"a":"1"}`)}))
	if q := must(s.Live(t.Context(), "q"))(t); q.Phase != live.Done || q.Counts[live.Answered] != 2 || q.Rows != 3 {
		t.Errorf("%+v", q)
	}
}
