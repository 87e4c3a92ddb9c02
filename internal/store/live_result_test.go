//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/result"
	"github.com/musterhq/muster/internal/store"
)

// conditions reads those of a search.
func conditions(t testing.TB, where string) []event.Condition {
	t.Helper()
	return must(event.ParseWhere(where))(t)
}

// ports is the answers that most tests look at: of four nodes, of which one has
// no rows and one did not answer.
func ports(t testing.TB, s *store.Store) []policy.ResultColumn {
	t.Helper()
	ask(t, s, "q", 5)
	must(s.SaveAnswers(t.Context(), []live.Answer{
		answer("q", 2, `{"port":"22","name":"sshd","n":"3"}`, `{"port":"9","name":"discard","n":"10"}`),
		answer("q", 0, `{"port":"22","name":"sshd","n":"18446744073709551615"}`, `{"port":"","name":"none","n":""}`, `{"port":"443","name":"=cmd|' /C calc'!A0","n":"-1"}`),
		answer("q", 1),
		answer("q", 3, `{"port":"100","name":"nginx","n":"18446744073709551614","extra":"x"}`),
	}))(t)
	return []policy.ResultColumn{{Name: "port", Type: policy.Integer}, {Name: "name", Type: policy.Text}, {Name: "n"}, {Name: "absent", Type: policy.Double}}
}

// lines writes rows as node:column.
func lines(rows []result.Row, column string) string {
	var words []string
	for _, r := range rows {
		value, _ := r.Columns.Get(column)
		words = append(words, r.ID+":"+value)
	}
	return strings.Join(words, " ")
}

func testLivePage(t *testing.T, s *store.Store) {
	declared := ports(t, s)
	r := result.NewReader(s)
	tests := []struct {
		name, where, sort string
		desc              bool
		show              string
		want              string
		matched           int
	}{
		{"all", "", "", false, "port", "n0:22 n0: n0:443 n2:22 n2:9 n3:100", 6},
		{"whole numbers", "", "port", false, "port", "n0: n2:9 n0:22 n2:22 n3:100 n0:443", 6},
		{"whole numbers, the highest first", "", "port", true, "port", "n0:443 n3:100 n2:22 n0:22 n2:9 n0:", 6},
		{"text", "", "name", false, "name", "n0:=cmd|' /C calc'!A0 n2:discard n3:nginx n0:none n0:sshd n2:sshd", 6},
		{"unknown, and all are numbers beyond 2^63", "", "n", false, "n", "n0: n0:-1 n2:3 n2:10 n3:18446744073709551614 n0:18446744073709551615", 6},
		{"by node", "", "hostname", true, "port", "n3:100 n2:9 n2:22 n0:443 n0: n0:22", 6},
		{"a column that few have", "", "extra", true, "extra", "n3:x n2: n2: n0: n0: n0:", 6},
		{"where", "port = 22", "", false, "name", "n0:sshd n2:sshd", 2},
		{"where it is greater", "port > 9 and port < 400", "port", false, "port", "n0:22 n2:22 n3:100", 3},
		{"where the node is", "host_identifier = h2 and name prefix s", "", false, "port", "n2:22", 1},
		{"where it exists", "extra exists", "", false, "port", "n3:100", 1},
		{"nowhere", "port = 1", "port", false, "port", "", 0},
		{"where there is no such column", "colour = red", "", false, "port", "", 0},
	}
	for _, tt := range tests {
		a := result.Ask{Where: conditions(t, tt.where), Sort: tt.sort, Desc: tt.desc, Limit: 100, Declared: declared, Total: 6}
		page, err := r.Page(t.Context(), "q", a)
		if err != nil || lines(page.Rows, tt.show) != tt.want || page.Matched != tt.matched || page.Next != "" {
			t.Errorf("%s: %s, %d matched, next %q, %v\nwant %s", tt.name, lines(page.Rows, tt.show), page.Matched, page.Next, err, tt.want)
		}
		// The same in pages of any size.
		for limit := 1; limit <= tt.matched; limit++ {
			var rows []result.Row
			for a.Limit, a.Cursor = limit, ""; ; a.Cursor = page.Next {
				if page, err = r.Page(t.Context(), "q", a); err != nil || len(page.Rows) > limit || page.Matched != tt.matched {
					t.Fatalf("%s in pages of %d: %+v, %v", tt.name, limit, page, err)
				}
				if rows = append(rows, page.Rows...); page.Next == "" {
					break
				}
			}
			if got := lines(rows, tt.show); got != tt.want {
				t.Errorf("%s in pages of %d: %s", tt.name, limit, got)
			}
		}
	}
	page := must(r.Page(t.Context(), "q", result.Ask{Sort: "port", Limit: 1, Declared: declared, Total: 6}))(t)
	want := []result.Column{{Name: "port", Type: policy.Integer}, {Name: "name", Type: policy.Text}, {Name: "n", Type: policy.Integer}, {Name: "extra", Type: policy.Text}}
	if d := cmp.Diff(want, page.Columns); d != "" {
		t.Errorf("columns (-want +got):\n%s", d)
	}
	if d := cmp.Diff(result.Node{ID: "n0", HostIdentifier: "h0", Hostname: "h0.example"}, page.Rows[0].Node); d != "" {
		t.Error(d)
	}
	for what, a := range map[string]result.Ask{
		"no such column":             {Sort: "colour", Total: 6},
		"no cursor":                  {Cursor: "x"},
		"no cursor's content":        {Cursor: "bm9uZQ"},
		"a cursor of another column": {Sort: "name", Cursor: page.Next},
		"a cursor of another order":  {Sort: "port", Desc: true, Cursor: page.Next},
	} {
		a.Limit = 10
		_, err := r.Page(t.Context(), "q", a)
		if wantKind(t, err, errs.Invalid); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if page, err := r.Page(t.Context(), "none", result.Ask{Limit: 10, Declared: declared}); err != nil || len(page.Rows) != 0 || len(page.Columns) != 4 {
		t.Errorf("of no rows: %+v, %v", page, err)
	}
}

// testLivePageHostile: what agents may send.
func testLivePageHostile(t *testing.T, s *store.Store) {
	ask(t, s, "q", 4)
	mega := strings.Repeat("é", 1<<19) // a megabyte
	cells := []osquery.Row{
		row("a", "1", "a", "2"),
		row("select", "x", "", "no name", "a\"b\\c\n", "quoted"),
		row("drop table live", "\x00\x1b[2J", "a", "'; DELETE FROM live; --"),
		row("a", mega),
		row(),
		row(mega, "wide name"),
	}
	for n := range 2 {
		var rows []string
		for _, c := range cells {
			rows = append(rows, string(must(c.MarshalJSON())(t)))
		}
		must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", n, rows...)}))(t)
	}
	r := result.NewReader(s)
	for _, a := range []result.Ask{{}, {Sort: "a"}, {Sort: "a", Desc: true}, {Sort: "select"}, {Sort: "drop table live"}, {Where: conditions(t, `a exists`)}} {
		a.Limit, a.Total = 5, 12
		var rows []result.Row
		for {
			page := must(r.Page(t.Context(), "q", a))(t)
			if rows = append(rows, page.Rows...); page.Next == "" {
				break
			}
			if len(page.Next) > 4096 {
				t.Errorf("a cursor of %d bytes", len(page.Next))
			}
			a.Cursor = page.Next
		}
		want := 12
		if a.Where != nil {
			want = 6
		}
		if len(rows) != want {
			t.Errorf("%+v: %d rows", a.Sort, len(rows))
		}
	}
	g := must(r.Groups(t.Context(), "q", "a", nil, 10, nil))(t)
	if len(g.Groups) != 3 || g.Other != 6 || g.Distinct != 3 || g.More {
		t.Errorf("%d groups, %d other rows of %d", len(g.Groups), g.Other, g.Matched)
	}
	for _, v := range g.Groups {
		if len(v.Value) > 2000 || v.Rows != 2 || v.Nodes != 2 {
			t.Errorf("group of %d bytes: %d rows, %d nodes", len(v.Value), v.Rows, v.Nodes)
		}
	}
	page := must(r.Page(t.Context(), "q", result.Ask{Limit: 3, Total: 12}))(t)
	for i, want := range cells[:3] {
		if d := cmp.Diff(want, page.Rows[i].Columns); d != "" {
			t.Errorf("row %d (-want +got):\n%s", i, d)
		}
	}
}

// testLivePageLarge: pages end before they fill the memory, and leave nothing
// out.
func testLivePageLarge(t *testing.T, s *store.Store) {
	const nodes, perNode = 12, 2
	ask(t, s, "q", nodes)
	for n := range nodes {
		var rows []string
		for i := range perNode {
			rows = append(rows, fmt.Sprintf(`{"i":"%d","fill":"%s"}`, (i*5+n*3)%11, strings.Repeat("x", 1<<20)))
		}
		must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", n, rows...)}))(t)
	}
	r := result.NewReader(s)
	for _, a := range []result.Ask{{}, {Sort: "i"}, {Sort: "i", Desc: true, Where: conditions(t, "i exists")}} {
		a.Limit, a.Total = 1000, nodes*perNode
		seen, pages, last := map[string]bool{}, 0, ""
		for {
			page := must(r.Page(t.Context(), "q", a))(t)
			pages++
			if len(page.Rows) == 0 || len(page.Rows) > 18 {
				t.Fatalf("a page of %d megabytes", len(page.Rows))
			}
			for _, row := range page.Rows {
				i, _ := row.Columns.Get("i")
				seen[row.ID+" "+i] = true
				if number := fmt.Sprintf("%2s", i); a.Sort != "" && last != "" && (number < last) != a.Desc && number != last {
					t.Errorf("%s comes after %s", number, last)
				} else {
					last = number
				}
			}
			if a.Cursor = page.Next; page.Next == "" {
				break
			}
		}
		if len(seen) != nodes*perNode || pages != 2 {
			t.Errorf("sorted by %q: %d rows on %d pages", a.Sort, len(seen), pages)
		}
	}
}

func testLiveGroups(t *testing.T, s *store.Store) {
	declared := ports(t, s)
	r := result.NewReader(s)
	tests := []struct {
		by, where string
		limit     int
		want      result.Groups
	}{
		{"name", "", 10, result.Groups{Groups: []result.Group{
			{Value: "sshd", Rows: 2, Nodes: 2},
			{Value: "=cmd|' /C calc'!A0", Rows: 1, Nodes: 1},
			{Value: "discard", Rows: 1, Nodes: 1},
			{Value: "nginx", Rows: 1, Nodes: 1},
			{Value: "none", Rows: 1, Nodes: 1},
		}, Distinct: 5, Matched: 6}},
		{"name", "", 1, result.Groups{Groups: []result.Group{{Value: "sshd", Rows: 2, Nodes: 2}}, Distinct: 5, Other: 4, Matched: 6}},
		{"hostname", "port > 9", 10, result.Groups{Groups: []result.Group{
			{Value: "h0.example", Rows: 2, Nodes: 1},
			{Value: "h2.example", Rows: 1, Nodes: 1},
			{Value: "h3.example", Rows: 1, Nodes: 1},
		}, Distinct: 3, Matched: 4}},
		{"extra", "", 10, result.Groups{Groups: []result.Group{{Value: "x", Rows: 1, Nodes: 1}}, Distinct: 1, Other: 5, Matched: 6}},
		{"absent", "", 10, result.Groups{Groups: []result.Group{}, Other: 6, Matched: 6}},
		{"name", "port = 1", 10, result.Groups{Groups: []result.Group{}}},
	}
	for _, tt := range tests {
		got := must(r.Groups(t.Context(), "q", tt.by, conditions(t, tt.where), tt.limit, declared))(t)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("by %s where %s (-want +got):\n%s", tt.by, tt.where, d)
		}
	}
	_, err := r.Groups(t.Context(), "q", "colour", nil, 10, declared)
	wantKind(t, err, errs.Invalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Groups(ctx, "q", "name", nil, 10, declared); err == nil {
		t.Error("counted though nobody waits")
	}
}

// testLiveGroupsMany: values without end are counted as far as memory is given.
func testLiveGroupsMany(t *testing.T, s *store.Store) {
	const nodes = 12
	ask(t, s, "q", nodes)
	for n := range nodes {
		rows := []string{`{"v":"often"}`}
		for i := range live.MaxRows - 1 {
			rows = append(rows, fmt.Sprintf(`{"v":"%d-%d"}`, n, i))
		}
		must(s.SaveAnswers(t.Context(), []live.Answer{answer("q", n, rows...)}))(t)
	}
	g := must(result.NewReader(s).Groups(t.Context(), "q", "v", nil, 2, nil))(t)
	if !g.More || g.Distinct != 100_000 || g.Groups[0] != (result.Group{Value: "often", Rows: nodes, Nodes: nodes}) || g.Other != nodes*live.MaxRows-nodes-1 {
		t.Errorf("%+v", g)
	}
}

func testLiveCompare(t *testing.T, s *store.Store) {
	ask(t, s, "old", 7)
	ask(t, s, "q", 7)
	cut := answer("q", 4, `{"a":"1"}`)
	cut.State = live.OverLimit
	must(s.SaveAnswers(t.Context(), []live.Answer{
		answer("old", 0, `{"a":"1","b":"2"}`, `{"a":"1","b":"2"}`, `{"a":"5","b":"6"}`),
		answer("old", 1, `{"a":"gone"}`),
		answer("old", 2),
		answer("old", 3, `{"a":"of a node that is silent now"}`),
		answer("old", 4, `{"a":"1"}`, `{"a":"2"}`),
		answer("old", 6, `{"a":"1"}`),
		answer("q", 0, `{"b":"2","a":"1"}`, `{"a":"7","b":"6"}`, `{"a":"12","b":""}`, `{"a":"1","b":"2"}`, `{"a":"1","b":"2"}`),
		answer("q", 1),
		answer("q", 2, `{"a":"new"}`),
		cut,
		answer("q", 5, `{"a":"of a node that was silent"}`),
		answer("q", 6, `{"a":"1"}`),
	}))(t)
	r := result.NewReader(s)
	got := must(r.Compare(t.Context(), "q", "old", 100))(t)
	if lines(got.Added, "a") != "n0:7 n0:12 n0:1 n2:new" || lines(got.Gone, "a") != "n0:5 n1:gone n4:2" {
		t.Errorf("added %s, gone %s", lines(got.Added, "a"), lines(got.Gone, "a"))
	}
	got.Added, got.Gone = nil, nil
	if d := cmp.Diff(result.Comparison{AddedTotal: 4, GoneTotal: 3, Same: 4, Nodes: 5, OnlyNew: 1, OnlyOld: 1, Cut: 1}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	got = must(r.Compare(t.Context(), "q", "old", 1))(t)
	if len(got.Added) != 1 || len(got.Gone) != 1 || got.AddedTotal != 4 || got.GoneTotal != 3 {
		t.Errorf("with a limit: %+v", got)
	}
	same := must(r.Compare(t.Context(), "q", "q", 10))(t)
	if same.AddedTotal != 0 || same.GoneTotal != 0 || same.Same != 9 || same.Nodes != 6 {
		t.Errorf("with itself: %+v", same)
	}
}

// testLiveCompareMoved: a machine that was removed and enrolled again has
// another id.
func testLiveCompareMoved(t *testing.T, s *store.Store) {
	hosts := func(id string, names ...string) {
		var targets []live.Target
		var answers []live.Answer
		for _, n := range names {
			node, host, _ := strings.Cut(n, "=")
			targets = append(targets, live.Target{NodeID: node, HostIdentifier: host, State: live.Waiting})
			answers = append(answers, live.Answer{LiveID: id, NodeID: node, State: live.Answered, ReceivedAt: start, Rows: []json.RawMessage{json.RawMessage(`{"h":"` + host + `"}`)}})
		}
		ok(t, s.CreateLive(t.Context(), live.Query{ID: id, SQL: "SELECT 1", Phase: live.Running, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}, targets))
		must(s.SaveAnswers(t.Context(), answers))(t)
	}
	hosts("old", "a=h1", "b=h2", "c=h3", "y=twin", "z=twin")
	hosts("q", "a=h1", "d=h3", "e=h2", "f=h4", "g=twin")
	got := must(result.NewReader(s).Compare(t.Context(), "q", "old", 10))(t)
	want := result.Comparison{Added: []result.Row{}, Gone: []result.Row{}, Same: 3, Nodes: 3, OnlyNew: 2, OnlyOld: 2}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func testLiveRows(t *testing.T, s *store.Store) {
	const nodes = 300
	ask(t, s, "q", nodes)
	ask(t, s, "other", 3)
	var answers []live.Answer
	for n := range nodes {
		if n%3 != 0 {
			answers = append(answers, answer("q", n, fmt.Sprintf(`{"n":"%d","fill":"%s"}`, n, strings.Repeat("x", 64<<10))))
		}
	}
	must(s.SaveAnswers(t.Context(), answers))(t)
	must(s.SaveAnswers(t.Context(), []live.Answer{answer("other", 1, `{"n":"other"}`)}))(t)
	var ids []string
	for after := ""; ; {
		page := must(s.LiveTargets(t.Context(), "q", []live.State{live.Answered, live.Empty}, after, 7))(t)
		for _, target := range page {
			ids = append(ids, target.NodeID)
		}
		if len(page) < 7 {
			break
		}
		after = page[6].NodeID
	}
	if len(ids) != 200 || !slices.IsSorted(ids) {
		t.Fatalf("%d nodes answered: %v", len(ids), ids)
	}
	all := must(s.LiveTargets(t.Context(), "q", nil, "", 1000))(t)
	if len(all) != nodes || all[0].Rows != nil {
		t.Errorf("%d nodes", len(all))
	}
	ids = append(ids, "n3", "nobody") // n3 has no rows
	slices.Sort(ids)
	var got []string
	ok(t, s.LiveRows(t.Context(), "q", ids, func(i int, rows []byte) error {
		if !strings.HasPrefix(string(rows), `[{"n":"`+strings.TrimPrefix(ids[i], "n")+`",`) {
			t.Errorf("%s has %.20s", ids[i], rows)
		}
		got = append(got, ids[i])
		// Nothing is held that a writer, or another reader, would wait for.
		_, err := s.Live(t.Context(), "q")
		return err
	}))
	if len(got) != 200 || !slices.IsSorted(got) {
		t.Errorf("rows of %d nodes: %v", len(got), got)
	}
	enough := errors.New("enough")
	if err := s.LiveRows(t.Context(), "q", ids, func(int, []byte) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	ok(t, s.LiveRows(t.Context(), "q", nil, func(int, []byte) error { return enough }))
}

func testLiveCosts(t *testing.T, s *store.Store) {
	if c := must(s.LiveCosts(t.Context(), "SELECT 1"))(t); c.Queries != 0 || c.Nodes != 0 {
		t.Errorf("of a text that nobody asked: %+v", c)
	}
	ask(t, s, "q", 40) // SELECT 1
	for n := range 20 {
		a := answer("q", n, `{"a":"1"}`, `{"a":"2"}`)
		a.Stats = osquery.QueryStats{WallTimeMs: int64(n + 1), UserTime: 1}
		must(s.SaveAnswers(t.Context(), []live.Answer{a}))(t)
	}
	failed := answer("q", 30)
	failed.State, failed.Stats = live.Failed, osquery.QueryStats{WallTimeMs: 99_999}
	must(s.SaveAnswers(t.Context(), []live.Answer{failed}))(t)
	c := must(s.LiveCosts(t.Context(), "SELECT 1"))(t)
	wall, ok := c.Wall()
	if c.Queries != 1 || c.Nodes != 20 || c.Rows != 2 || !c.At.Equal(start) || !ok || wall != 19 {
		t.Errorf("%d queries, %d nodes, %v rows, %v ms", c.Queries, c.Nodes, c.Rows, wall)
	}
	if c := must(s.LiveCosts(t.Context(), "select 1"))(t); c.Nodes != 0 {
		t.Errorf("of another text: %+v", c)
	}
}

func testSavedQueries(t *testing.T, s *store.Store) {
	q := live.Saved{
		Name: "listeners", Description: "who listens\x00", SQL: "SELECT port FROM listening_ports", Selector: node.Selector{Tags: []string{"web"}},
		CreatedBy: "ada", CreatedAt: start, UpdatedBy: "ada", UpdatedAt: start,
	}
	kept := must(s.SaveQuery(t.Context(), q))(t)
	q.Description = `who listens\x00`
	if d := cmp.Diff(q, kept); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	change := q
	change.SQL, change.CreatedBy, change.UpdatedBy = "SELECT 2", "bob", "bob"
	change.CreatedAt, change.UpdatedAt = start.Add(time.Hour), start.Add(time.Hour)
	q.SQL, q.UpdatedBy, q.UpdatedAt = "SELECT 2", "bob", start.Add(time.Hour)
	if d := cmp.Diff(q, must(s.SaveQuery(t.Context(), change))(t)); d != "" {
		t.Errorf("after a change (-want +got):\n%s", d)
	}
	must(s.SaveQuery(t.Context(), live.Saved{Name: "Zoo", SQL: "SELECT 3"}))(t)
	list := must(s.SavedQueries(t.Context()))(t)
	if len(list) != 2 || list[0].Name != "Zoo" || cmp.Diff(q, list[1]) != "" {
		t.Errorf("%+v", list)
	}
	if d := cmp.Diff(q, must(s.SavedQuery(t.Context(), "listeners"))(t)); d != "" {
		t.Error(d)
	}
	ok(t, s.DeleteSavedQuery(t.Context(), "listeners"))
	wantKind(t, s.DeleteSavedQuery(t.Context(), "listeners"), errs.NotFound)
	_, err := s.SavedQuery(t.Context(), "listeners")
	wantKind(t, err, errs.NotFound)
	store.Exec(t, s, fmt.Sprintf(`INSERT INTO saved_query (name, description, sql, selector, created_by, created_at, updated_by, updated_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT CAST(i AS TEXT), '', 'SELECT 1', '{}', '', 0, '', 0 FROM n`, live.MaxSaved-1))
	_, err = s.SaveQuery(t.Context(), live.Saved{Name: "one more", SQL: "SELECT 1"})
	wantKind(t, err, errs.TooLarge)
	must(s.SaveQuery(t.Context(), live.Saved{Name: "7", SQL: "SELECT 7"}))(t)
}
