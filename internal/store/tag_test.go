//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

// spans says when what gave a node which tag, in minutes after start.
func spans(t testing.TB, s *store.Store, id string) string {
	t.Helper()
	var parts []string
	for _, h := range must(s.TagHistory(t.Context(), id))(t) {
		part := fmt.Sprintf("%s %s %d-", h.Tag, h.Source, int(h.Since.Sub(start).Minutes()))
		if !h.Until.IsZero() {
			part += fmt.Sprint(int(h.Until.Sub(start).Minutes()))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// sources says what gives a node its tags, as "tag source" each, and checks that
// all that knows of its tags agrees.
func sources(t testing.TB, s *store.Store, id string) string {
	t.Helper()
	n := must(s.Node(t.Context(), id))(t)
	var parts []string
	for _, source := range n.TagSources {
		parts = append(parts, source.Tag+" "+source.Source)
		if page := must(s.Nodes(t.Context(), node.Filter{Tag: source.Tag, Search: id}))(t); !slices.ContainsFunc(page.Nodes, func(n node.Node) bool { return n.ID == id }) {
			t.Errorf("%s is not among those with the tag %s", id, source.Tag)
		}
	}
	if diff := cmp.Diff(node.TagsOf(n.TagSources), n.Tags); diff != "" {
		t.Errorf("the tags are not those of the sources (-want +got):\n%s", diff)
	}
	if got := store.QueryText(t, s, `SELECT CAST(count(*) AS TEXT) FROM node_tag WHERE node_id = $1`, id); got != fmt.Sprint(len(n.Tags)) {
		t.Errorf("node_tag has %s rows of %v", got, n.Tags)
	}
	return strings.Join(parts, ", ")
}

// tagging is all that a source gives a node.
func tagging(id, source string, tags ...string) node.Tagging {
	return node.Tagging{NodeID: id, Source: source, Tags: tags}
}

// testTagSources: what a person sets leaves what rules and queries give, and
// another secret takes away what the one before gave.
func testTagSources(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu", "prod")
	secret(t, s, "laptops", 0, "mobile", "web")
	n := enrol(t, s, enrolment("web-1", "servers", start))
	must(s.SetTags(t.Context(), []node.Tagging{
		{NodeID: n.ID, Source: "rule:w", Tags: []string{"web"}}, {NodeID: n.ID, Source: "query:p_q", Tags: []string{"old", "prod"}},
	}, start))(t)
	for _, step := range []struct {
		tags []string
		want string
	}{
		{[]string{"eu", "mine", "old", "prod", "web"}, "eu secret:servers, mine hand, old query:p_q, prod query:p_q, prod secret:servers, web rule:w"},
		{[]string{"mine", "prod"}, "mine hand, old query:p_q, prod query:p_q, prod secret:servers, web rule:w"},
		{[]string{"eu"}, "eu hand, old query:p_q, prod query:p_q, web rule:w"},
		{nil, "old query:p_q, prod query:p_q, web rule:w"},
		{[]string{"eu"}, "eu hand, old query:p_q, prod query:p_q, web rule:w"},
	} {
		must(s.SetNodeTags(t.Context(), n.ID, step.tags))(t)
		if got := sources(t, s, n.ID); got != step.want {
			t.Errorf("by hand %v: %s", step.tags, got)
		}
	}
	enrol(t, s, enrolment("web-1", "servers", start))
	if got := sources(t, s, n.ID); got != "eu hand, eu secret:servers, old query:p_q, prod query:p_q, prod secret:servers, web rule:w" {
		t.Errorf("with the same secret: %s", got)
	}
	enrol(t, s, enrolment("web-1", "laptops", start))
	if got := sources(t, s, n.ID); got != "eu hand, mobile secret:laptops, old query:p_q, prod query:p_q, web rule:w, web secret:laptops" {
		t.Errorf("with another secret: %s", got)
	}
}

// testSetTags: each tagging says all of one source, and only changes have a new
// version.
func testSetTags(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	a, b := enrol(t, s, enrolment("a", "servers", start)).ID, enrol(t, s, enrolment("b", "servers", start)).ID
	gone := enrol(t, s, enrolment("gone", "servers", start)).ID
	ok(t, s.DeleteNode(t.Context(), gone))
	_, version := since(t, s, 0)
	for i, step := range []struct {
		taggings []node.Tagging
		changed  []string
		a, b     string
	}{
		{nil, nil, "eu secret:servers", "eu secret:servers"},
		{
			[]node.Tagging{tagging(a, "rule:r", "y", "x", "y"), tagging("nobody", "rule:r", "x"), tagging(gone, "rule:r", "x")},
			[]string{a},
			"eu secret:servers, x rule:r, y rule:r", "eu secret:servers",
		},
		{
			[]node.Tagging{tagging(b, "rule:r"), tagging(b, "query:q", "x\x00"), tagging(a, "rule:r", "y", "eu"), tagging(a, "hand", "y")},
			[]string{b, a},
			"eu rule:r, eu secret:servers, y hand, y rule:r", `eu secret:servers, x\x00 query:q`,
		},
		{
			[]node.Tagging{tagging(b, "query:q", "x\x00"), tagging(a, "rule:r", "eu", "y"), tagging(a, "rule:other"), tagging("\xff", "\xff", "\xff")},
			nil, "eu rule:r, eu secret:servers, y hand, y rule:r", `eu secret:servers, x\x00 query:q`,
		},
		{
			[]node.Tagging{tagging(a, "rule:r", "z"), tagging(a, "rule:r"), tagging(b, "query:q"), tagging(b, "secret:servers")},
			[]string{a, b},
			"eu secret:servers, y hand", "",
		},
	} {
		changed := must(s.SetTags(t.Context(), step.taggings, minute(i)))(t)
		if diff := cmp.Diff(step.changed, changed); diff != "" {
			t.Errorf("step %d: changed (-want +got):\n%s", i, diff)
		}
		if got := sources(t, s, a); got != step.a {
			t.Errorf("step %d: a has %s", i, got)
		}
		if got := sources(t, s, b); got != step.b {
			t.Errorf("step %d: b has %s", i, got)
		}
		before := version
		changes, v := since(t, s, version)
		if version = v; len(changes) != len(changed) || (v != before) != (len(changed) > 0) {
			t.Errorf("step %d: the registries hear %+v", i, changes)
		}
		for _, c := range changes {
			if diff := cmp.Diff(must(s.Node(t.Context(), c.Node.ID))(t).TagSources, c.Node.TagSources); diff != "" {
				t.Errorf("step %d: the registries hear (-want +got):\n%s", i, diff)
			}
		}
	}
	if got := spans(t, s, a); got != "y hand 2-, eu secret:servers 0-, eu rule:r 2-4, y rule:r 1-4, x rule:r 1-2" {
		t.Errorf("the history of a: %s", got)
	}
	if got := must(s.TagHistory(t.Context(), gone))(t); len(got) != 1 || got[0].Tag != "eu" || got[0].Until.IsZero() {
		t.Errorf("the history of one that is gone: %v", got)
	}
	_, err := s.TagHistory(t.Context(), "nobody")
	wantKind(t, err, errs.NotFound)
}

// testSetTagsMany is over several transactions.
func testSetTagsMany(t *testing.T, s *store.Store) {
	const count = 2100
	store.Fill(t, s, count, start)
	taggings := make([]node.Tagging, 0, count)
	for i := range count {
		taggings = append(taggings, node.Tagging{NodeID: store.FillID(i, count), Source: "rule:many", Tags: []string{"many", "all"}})
	}
	for _, want := range []int{count, 0} {
		if changed := must(s.SetTags(t.Context(), taggings, start))(t); len(changed) != want {
			t.Errorf("%d changed, want %d", len(changed), want)
		}
	}
	f := must(s.NodeFacets(t.Context(), nil, start))(t)
	if !slices.Contains(f.Tags, node.Count{Value: "many", Count: count}) || !slices.Contains(f.Tags, node.Count{Value: "all", Count: count}) {
		t.Errorf("counted %v", f.Tags[:2])
	}
	if got := sources(t, s, store.FillID(7, count)); got != "all rule:many, all secret:fill, many rule:many, team-7 hand" {
		t.Errorf("got %s", got)
	}
}

// testSetTagsBusy: rules, queries, people and agents tag the same nodes at once.
func testSetTagsBusy(t *testing.T, s *store.Store) {
	secret(t, s, "one", 0, "eu", "a")
	secret(t, s, "two", 0, "us", "a")
	const nodes, each = 3, 8
	ids := make([]string, nodes)
	for i := range ids {
		ids[i] = enrol(t, s, enrolment(fmt.Sprintf("web-%d", i), "one", start)).ID
	}
	for _, err := range together(5, func(w int) error {
		for i := range each {
			at := minute(i)
			var taggings []node.Tagging
			for n := range ids {
				id := ids[(n+w)%nodes] // in another order each
				taggings = append(taggings, node.Tagging{NodeID: id, Source: fmt.Sprintf("rule:%d", w), Tags: []string{"a", fmt.Sprint(i % 2)}})
			}
			var err error
			switch w {
			case 0:
				e := enrolment(fmt.Sprintf("web-%d", i%nodes), []string{"one", "two"}[i%2], at)
				_, err = s.Enrol(t.Context(), e, usable(e))
			case 1:
				_, err = s.SetNodeTags(t.Context(), ids[i%nodes], []string{"a", fmt.Sprint(i)})
			default:
				_, err = s.SetTags(t.Context(), taggings, at)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	for _, id := range ids {
		if got := sources(t, s, id); !strings.Contains(got, "a rule:2, a rule:3, a rule:4") || !strings.Contains(got, "1 rule:2, 1 rule:3, 1 rule:4") {
			t.Errorf("got %s", got)
		}
	}
}

// testTagHistory: a source that comes back begins anew; one that came and went
// at the same time left nothing.
func testTagHistory(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	id := enrol(t, s, enrolment("web-1", "servers", start)).ID
	set := func(at int, tags ...string) {
		t.Helper()
		must(s.SetTags(t.Context(), []node.Tagging{tagging(id, "rule:r", tags...)}, minute(at)))(t)
	}
	set(1, "x")
	set(2)
	set(2, "x")
	set(2)
	set(3, "x", "y")
	set(-5, "y") // the clock was set back
	set(4, "x")
	want := "x rule:r 4-, eu secret:servers 0-, y rule:r 3-4, x rule:r 1-2"
	if got := spans(t, s, id); got != want {
		t.Errorf("got %s", got)
	}
	enrol(t, s, enrolment("web-1", "servers", minute(6)))
	if got := spans(t, s, id); got != want {
		t.Errorf("enrolling again changed it: %s", got)
	}
	ok(t, s.PruneHistory(t.Context(), minute(4)))
	if got := spans(t, s, id); got != "x rule:r 4-, eu secret:servers 0-, y rule:r 3-4" {
		t.Errorf("pruned: %s", got)
	}
	ok(t, s.PruneHistory(t.Context(), minute(1e6)))
	if got := spans(t, s, id); got != "x rule:r 4-, eu secret:servers 0-" {
		t.Errorf("pruned: %s", got)
	}
}

// testTagHistoryMax: the oldest go.
func testTagHistoryMax(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	id := enrol(t, s, enrolment("web-1", "servers", start)).ID
	other := enrol(t, s, enrolment("web-2", "servers", start)).ID
	must(s.SetTags(t.Context(), []node.Tagging{tagging(other, "query:q", "t")}, minute(0)))(t)
	must(s.SetTags(t.Context(), []node.Tagging{tagging(other, "query:q")}, minute(1)))(t)
	for i := 1; i <= 203; i++ {
		for _, tags := range [][]string{{"t"}, nil} {
			must(s.SetTags(t.Context(), []node.Tagging{tagging(id, "query:q", tags...)}, minute(2*i+1-len(tags))))(t)
		}
	}
	got := strings.Split(spans(t, s, id), ", ")
	if len(got) != 201 || got[0] != "eu secret:servers 0-" || got[1] != "t query:q 406-407" || got[200] != "t query:q 8-9" {
		t.Errorf("%d values: %v", len(got), got)
	}
	if got := spans(t, s, other); got != "eu secret:servers 0-, t query:q 0-1" {
		t.Errorf("of another: %s", got)
	}
}

// testNodeDetails: registries know what nodes said when they enrolled.
func testNodeDetails(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	e := enrolment("a", "servers", start)
	e.Node.Details = map[string]map[string]string{
		"os_version": {"name": "Debian\x00 \"12\"", "version": "12"}, "system_info": {"hardware_vendor": "日本\xff", "cpu_brand": ""}, "osquery_info": {},
	}
	enrol(t, s, e)
	none := enrolment("b", "servers", start)
	none.Node.Details = nil
	enrol(t, s, none)
	must(s.ImportNodes(t.Context(), []node.Import{imported("c", "key")}))(t)
	changes, _ := since(t, s, 0)
	if len(changes) != 3 || changes[1].Details() != "" || changes[2].Details() != "" {
		t.Fatalf("%+v", changes)
	}
	for name, want := range map[string]string{
		"os_version.name": `Debian  "12"`, "os_version.version": "12", "system_info.hardware_vendor": "日本\ufffd", "system_info.cpu_brand": "",
	} {
		if got, has := changes[0].Details().Get(name); !has || got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	ok(t, s.DeleteNode(t.Context(), changes[0].Node.ID))
	if changes, _ = since(t, s, 3); len(changes) != 1 || changes[0].Details() != "" || len(changes[0].Node.TagSources) != 0 {
		t.Errorf("of one that is gone: %+v", changes)
	}
}
