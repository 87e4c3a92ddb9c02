//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

// timeline is a node's history of one attribute in minutes since start, as
// "value first-until", or "value first-" for what it has.
func timeline(t *testing.T, s *store.Store, id, attribute string) string {
	t.Helper()
	var parts []string
	for _, h := range must(s.NodeHistory(t.Context(), id))(t) {
		if h.Attribute != attribute {
			continue
		}
		until := ""
		if !h.Until.IsZero() {
			until = fmt.Sprint(int(h.Until.Sub(start).Minutes()))
		}
		parts = append(parts, fmt.Sprintf("%s %d-%s", h.Value, int(h.First.Sub(start).Minutes()), until))
	}
	return strings.Join(parts, ", ")
}

// move touches a node at another address.
func move(t *testing.T, s *store.Store, id, from, to string, at time.Time) {
	t.Helper()
	ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: id, Seen: at, Address: to, Moved: from}}))
}

func minute(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }

func testHistory(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	e := enrolment("web-1", "servers", start)
	e.Node.Instance, e.Node.Certificate = "i1", ""
	n := enrol(t, s, e)
	want := []node.Sighting{}
	for _, v := range [][2]string{
		{"address", "192.0.2.1"},
		{"hostname", "web-1.example"},
		{"host_identifier", "web-1"},
		{"platform", "linux"},
		{"os", "Debian 12"},
		{"osquery_version", "5.23.1"},
		{"instance", "i1"},
	} {
		want = append(want, node.Sighting{NodeID: n.ID, HostIdentifier: "web-1", Hostname: "web-1.example", Attribute: v[0], Value: v[1], First: start, Last: start})
	}
	if diff := cmp.Diff(want, must(s.NodeHistory(t.Context(), n.ID))(t)); diff != "" {
		t.Errorf("a new node has a history (-want +got):\n%s", diff)
	}

	// Enrolling again with other values, twice.
	ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: n.ID, Seen: minute(9)}}))
	for i, change := range []func(*node.Node){
		func(n *node.Node) { n.Hostname, n.OsqueryVersion, n.Certificate = "renamed", "5.24.0", "c1" },
		func(n *node.Node) { n.OsqueryVersion, n.Instance, n.Address = "5.25.0", "i2", "192.0.2.2" },
		func(*node.Node) {},
	} {
		e = enrolment("web-1", "servers", minute(10*(i+1)))
		e.Node = n
		e.Node.LastSeen = e.Now
		change(&e.Node)
		n = enrol(t, s, e)
	}
	for attribute, want := range map[string]string{
		"hostname":        "renamed 10-, web-1.example 0-10",
		"osquery_version": "5.25.0 20-, 5.24.0 10-20, 5.23.1 0-10",
		"certificate":     "c1 10-",
		"instance":        "i2 20-, i1 0-20",
		"address":         "192.0.2.2 20-, 192.0.2.1 0-20",
		"os":              "Debian 12 0-",
		"host_identifier": "web-1 0-",
	} {
		if got := timeline(t, s, n.ID, attribute); got != want {
			t.Errorf("%s: got %s, want %s", attribute, got, want)
		}
	}
	for _, h := range must(s.NodeHistory(t.Context(), n.ID))(t) {
		if h.Value == "web-1.example" && (!h.Last.Equal(minute(9)) || h.Hostname != "renamed") {
			t.Errorf("last heard of with its former hostname: %+v", h)
		}
	}
	_, err := s.NodeHistory(t.Context(), "nobody")
	wantKind(t, err, errs.NotFound)
}

// testHistoryFlapping: values that take turns are one sighting each, unless
// they were away for more than an hour.
func testHistoryFlapping(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	id := enrol(t, s, enrolment("web-1", "servers", start)).ID
	a, b := "192.0.2.1", "192.0.2.2"
	for i := 1; i <= 60; i++ {
		move(t, s, id, a, b, minute(10*i))
		a, b = b, a
	}
	if got := timeline(t, s, id, "address"); got != "192.0.2.1 0-, 192.0.2.2 10-600" {
		t.Errorf("got %s", got)
	}
	move(t, s, id, a, "192.0.2.3", minute(700))
	move(t, s, id, "192.0.2.3", a, minute(760)) // an hour later is soon
	move(t, s, id, a, "192.0.2.3", minute(770))
	if got := timeline(t, s, id, "address"); got != "192.0.2.3 700-, 192.0.2.1 0-770, 192.0.2.2 10-600" {
		t.Errorf("after an hour: got %s", got)
	}
	move(t, s, id, "192.0.2.3", b, minute(800)) // away since 600
	move(t, s, id, b, a, minute(831).Add(time.Microsecond))
	want := "192.0.2.1 831-, 192.0.2.2 800-831, 192.0.2.3 700-800, 192.0.2.1 0-770, 192.0.2.2 10-600"
	if got := timeline(t, s, id, "address"); got != want {
		t.Errorf("after more:\n got %s\nwant %s", got, want)
	}
	move(t, s, id, a, a, minute(840))     // it did not move
	move(t, s, id, "", "", minute(850))   // nor then
	move(t, s, id, a, b, minute(848))     // and this comes late
	move(t, s, "nobody", a, b, minute(1)) // is gone
	if got := timeline(t, s, id, "address"); got != want {
		t.Errorf("what moved nothing:\n got %s\nwant %s", got, want)
	}
}

// testHistoryMax: the oldest go, by number and by time.
func testHistoryMax(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	id := enrol(t, s, enrolment("web-1", "servers", start)).ID
	other := enrol(t, s, enrolment("web-2", "servers", start)).ID
	move(t, s, other, "192.0.2.1", "192.0.2.9", minute(1))
	from := "192.0.2.1"
	for i := 1; i <= 205; i++ {
		to := fmt.Sprintf("10.0.0.%d", i)
		move(t, s, id, from, to, minute(i))
		from = to
	}
	got := strings.Split(timeline(t, s, id, "address"), ", ")
	if len(got) != 201 || got[0] != "10.0.0.205 205-" || got[200] != "10.0.0.5 5-6" {
		t.Errorf("%d values, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	ok(t, s.PruneHistory(t.Context(), minute(200)))
	if got := timeline(t, s, id, "address"); got != "10.0.0.205 205-, 10.0.0.204 204-205, 10.0.0.203 203-204, 10.0.0.202 202-203, 10.0.0.201 201-202, 10.0.0.200 200-201, 10.0.0.199 199-200" {
		t.Errorf("got %s", got)
	}
	if got := timeline(t, s, other, "address"); got != "192.0.2.9 1-" {
		t.Errorf("got %s", got)
	}
}

// testWho: who had a value when, also of those who are gone.
func testWho(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	one := enrol(t, s, enrolment("one", "servers", start)).ID
	two := enrol(t, s, enrolment("two", "servers", minute(30))).ID
	move(t, s, one, "192.0.2.1", "2001:db8::1", minute(10))
	ok(t, s.TouchNodes(t.Context(), []node.Touch{
		{ID: two, Seen: minute(40), Attributes: map[string]string{"team": "a", "hostname": "two.example"}},
		{ID: one, Seen: minute(40), Attributes: map[string]string{"hostname": "two.example"}},
	}))
	gone := must(s.ExpireNodes(t.Context(), []string{two}))(t) // at the store's time, which is now
	if len(gone) != 1 {
		t.Fatal(gone)
	}
	names := map[string]string{one: "one", two: "two"}
	for _, c := range []struct {
		attribute, value string
		at               time.Time
		want             string
	}{
		{"address", "192.0.2.1", minute(-1), ""},
		{"address", "192.0.2.1", minute(0), "one"},
		{"address", "::ffff:192.0.2.1", minute(9), "one"},
		{"address", "192.0.2.1", minute(10), ""},
		{"address", "192.0.2.1", minute(29), ""},
		{"address", "192.0.2.1", minute(30), "two"},
		{"address", "192.0.2.1", time.Now().Add(time.Hour), ""},
		{"address", "2001:db8::1", minute(9), ""},
		{"address", "2001:DB8:0::1", minute(10), "one"},
		{"address", "2001:db8::1", time.Time{}, "one"}, // now
		{"hostname", "two.example", minute(29), ""},
		{"hostname", "two.example", minute(35), "two"},
		{"hostname", "two.example", minute(45), "one two"}, // it has it, the other had it
		{"hostname", "TWO.example", minute(45), ""},
		{"host_identifier", "two", minute(45), "two"},
		{"host_identifier", "one", minute(45), "one"},
		{"platform", "linux", minute(45), "one two"},
		{"os", "Debian 12", minute(5), "one"},
		{"osquery_version", "5.23.1", minute(5), "one"},
		{"team", "a", minute(45), "two"},
		{"team", "a", minute(39), ""},
		{"team\x00", "\xff", minute(45), ""},
	} {
		var got []string
		for _, h := range must(s.Who(t.Context(), node.Who{Attribute: c.attribute, Value: c.value, At: c.at}))(t) {
			got = append(got, names[h.NodeID])
			if h.Hostname != names[h.NodeID]+".example" || h.HostIdentifier != names[h.NodeID] || h.Attribute != c.attribute || h.First.After(minute(45)) {
				t.Errorf("%+v", h)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s at %v: %v, want %q", c.attribute, c.value, c.at, got, c.want)
		}
	}
	_, err := s.Who(t.Context(), node.Who{Attribute: "address", Value: "web"})
	wantKind(t, err, errs.Invalid)
	if list := must(s.Who(t.Context(), node.Who{Attribute: "platform", Value: "linux", At: minute(45), Limit: 1}))(t); len(list) != 1 {
		t.Errorf("%d for a limit of 1", len(list))
	}
	if got := timeline(t, s, two, "team"); !strings.HasPrefix(got, "a 40-") || strings.HasSuffix(got, "-") {
		t.Errorf("of the node that is gone: %s", got)
	}
}
