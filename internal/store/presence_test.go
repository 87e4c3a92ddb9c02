//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

// testPresence: what a touch tells is read back, and says who is online.
func testPresence(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	e := enrolment("web-1", "servers", start)
	e.Node.Seen = node.Seen{node.EndpointEnroll: start}
	n := enrol(t, s, e)
	online := func(at time.Time) bool {
		t.Helper()
		got := must(s.Nodes(t.Context(), node.Filter{Status: node.StatusOnline, Now: at}))(t)
		offline := must(s.Nodes(t.Context(), node.Filter{Status: node.StatusOffline, Now: at}))(t)
		if got.Total+offline.Total != 1 || got.Total != must(s.NodeFacets(t.Context(), nil, at))(t).Online {
			t.Errorf("at %v: %d online, %d offline", at, got.Total, offline.Total)
		}
		if got.Total == 1 != must(s.Node(t.Context(), n.ID))(t).Online(at) {
			t.Errorf("at %v node and filter do not agree", at)
		}
		return got.Total == 1
	}
	if !online(start.Add(node.OfflineAfter)) || online(start.Add(node.OfflineAfter+time.Microsecond)) {
		t.Error("a node that enrolled is not online for OfflineAfter")
	}
	for _, touch := range []node.Touch{
		{Seen: start.Add(time.Second), Patience: time.Hour, At: node.Seen{start, start.Add(time.Second), {}, start, {}}},
		{Seen: start.Add(2 * time.Second), Patience: node.OfflineAfter + time.Microsecond, At: node.Seen{}},
		{Seen: start.Add(3 * time.Second), At: node.Seen{start, start, start.Add(time.Second), start.Add(3 * time.Second), start}},
	} {
		touch.ID, touch.Address = n.ID, `fe80::1%"\`
		ok(t, s.TouchNodes(t.Context(), []node.Touch{touch}))
		want := n
		want.LastSeen, want.Seen, want.Patience, want.Address = touch.Seen, touch.At, touch.Patience, touch.Address
		if diff := cmp.Diff(want, must(s.Node(t.Context(), n.ID))(t)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		changes, _ := since(t, s, 0)
		if got := changes[0].Node; !got.LastSeen.Equal(touch.Seen) || got.Seen != touch.At || got.Patience != touch.Patience {
			t.Errorf("a registry that starts learns %+v", got)
		}
		last := touch.Seen.Add(max(touch.Patience, node.OfflineAfter))
		if !online(last) || online(last.Add(time.Microsecond)) {
			t.Errorf("patience %v is not kept", touch.Patience)
		}
	}
	// A clock that was a year ahead is right again.
	year := start.Add(365 * 24 * time.Hour)
	for _, at := range []time.Time{year, start.Add(4 * time.Second)} {
		ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: n.ID, Seen: at}}))
		if !online(at) || at.Equal(year) && online(start.Add(4*time.Second)) {
			t.Errorf("seen at %v", at)
		}
	}
	// Enrolling again counts from then, with the patience that the domain tells.
	again := enrolment("web-1", "servers", start.Add(time.Minute))
	again.Node.Patience = time.Hour
	enrol(t, s, again)
	if !online(start.Add(time.Minute + time.Hour)) {
		t.Error("patience was lost")
	}
}

// testAttributes: only what is said anew is written, and all that is said no
// more is history.
func testAttributes(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	n := enrol(t, s, enrolment("web-1", "servers", start))
	for i, c := range []struct{ said, has, had string }{
		{"team=a host=x", "team=a host=x", ""},
		{"team=a host=x", "team=a host=x", ""},
		{"team=b host=x", "team=b host=x", "team=a"},
		{"team=b", "team=b", "team=a host=x"},
		{"team=b host=x z\x00=\xff", `team=b host=x z\x00=\xFF`, "team=a"}, // host=x came back
		{"", "", `team=a host=x team=b z\x00=\xFF`},
		{"team=a", "team=a", `host=x team=b z\x00=\xFF`},
	} {
		at := start.Add(time.Duration(i) * time.Minute)
		ok(t, s.TouchNodes(t.Context(), []node.Touch{
			{ID: n.ID, Seen: at, Attributes: pairs(c.said)},
			{ID: "nobody", Seen: at, Attributes: map[string]string{"a": "b"}},
		}))
		ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: n.ID, Seen: at}})) // says nothing
		got := must(s.Node(t.Context(), n.ID))(t)
		if diff := cmp.Diff(pairs(c.has), got.Attributes, cmpopts.EquateEmpty()); diff != "" || got.Version != n.Version {
			t.Errorf("step %d: version %d (-want +got):\n%s", i, got.Version, diff)
		}
		had := map[string]string{}
		for _, h := range must(s.NodeHistory(t.Context(), n.ID))(t) {
			if !h.Until.IsZero() {
				had[h.Attribute+"="+h.Value] = ""
			}
		}
		want := map[string]string{}
		for word := range strings.FieldsSeq(c.had) {
			want[word] = ""
		}
		if diff := cmp.Diff(want, had); diff != "" {
			t.Errorf("step %d: history (-want +got):\n%s", i, diff)
		}
	}
}

// pairs parts "a=b c=d".
func pairs(text string) map[string]string {
	m := map[string]string{}
	for word := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(word, "=")
		m[name] = value
	}
	return m
}
