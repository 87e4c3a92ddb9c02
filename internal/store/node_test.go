//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/store"
)

// secret makes an enroll secret whose hash is that of its name.
func secret(t testing.TB, s *store.Store, name string, maxUses int, tags ...string) {
	t.Helper()
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: name, Tags: tags, MaxUses: maxUses, CreatedAt: start, CreatedBy: "ada"}, keyHash(name)))
}

// enrolment is one of a node by its host identifier.
func enrolment(name, secret string, now time.Time) node.Enrolment {
	return node.Enrolment{
		Node: node.Node{
			ID: ident.New(), HostIdentifier: name, Hostname: name + ".example", Platform: "linux", OS: "Debian 12",
			OsqueryVersion: "5.23.1", Address: "192.0.2.1", Enrolments: 1, EnrolledAt: now, LastSeen: now,
			Details: map[string]map[string]string{"os_version": {"name": "Debian", "version": "12"}},
		},
		SecretHash: keyHash(secret), KeyHash: keyHash("key of " + name + now.String()), Now: now,
	}
}

// usable admits who shows a usable secret: as the node that is no clone, if
// there is one.
func usable(e node.Enrolment) func(*node.Secret, []node.Node) (node.Verdict, error) {
	return func(s *node.Secret, known []node.Node) (node.Verdict, error) {
		if s == nil {
			return node.Verdict{}, errs.New(errs.Unauthenticated, "unknown")
		}
		n := e.Node
		n.Secret, n.TagSources = s.Name, node.TaggedBy(node.SecretSource(s.Name), s.Tags)
		if len(known) > 0 && known[0].CloneOf == "" {
			k := known[0]
			n.ID, n.EnrolledAt, n.Enrolments = k.ID, k.EnrolledAt, k.Enrolments+1
			for _, t := range k.TagSources {
				if !strings.HasPrefix(t.Source, "secret:") {
					n.TagSources = append(n.TagSources, t)
				}
			}
		}
		return node.Verdict{Node: n}, s.Usable(e.Now, netip.Addr{})
	}
}

func enrol(t testing.TB, s *store.Store, e node.Enrolment) node.Node {
	t.Helper()
	return must(s.Enrol(t.Context(), e, usable(e)))(t)
}

// since returns the changes after a version, and the new one.
func since(t testing.TB, s *store.Store, version int64) ([]node.Change, int64) {
	t.Helper()
	var changes []node.Change
	v, err := s.NodesSince(t.Context(), version, func(c node.Change) { changes = append(changes, c) })
	ok(t, err)
	return changes, v
}

func testEnrol(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "prod", "eu")
	e := enrolment("web-1", "servers", start)
	got := enrol(t, s, e)
	want := e.Node
	want.Tags, want.Secret, want.Version = []string{"eu", "prod"}, "servers", 1
	want.TagSources = []node.TagSource{{Tag: "eu", Source: "secret:servers"}, {Tag: "prod", Source: "secret:servers"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Enrol (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, must(s.Node(t.Context(), got.ID))(t)); diff != "" {
		t.Fatalf("Node (-want +got):\n%s", diff)
	}
	secrets := must(s.Secrets(t.Context()))(t)
	if secrets[0].Uses != 1 || !secrets[0].LastUsed.Equal(start) {
		t.Errorf("the use was not counted: %+v", secrets[0])
	}
	changes, version := since(t, s, 0)
	details := node.PackDetails(want.Details)
	want.Details = nil
	if diff := cmp.Diff([]node.Change{{Node: want, Details: told(details), Key: e.KeyHash}}, changes, byDetails); diff != "" || version != 1 {
		t.Errorf("NodesSince: version %d (-want +got):\n%s", version, diff)
	}
}

func testEnrolRefused(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	refusal := errors.New("no")
	_, err := s.Enrol(t.Context(), enrolment("web-1", "servers", start), func(*node.Secret, []node.Node) (node.Verdict, error) { return node.Verdict{}, refusal })
	if !errors.Is(err, refusal) {
		t.Errorf("got %v, want the error of admit as it is", err)
	}
	var shown *node.Secret
	_, err = s.Enrol(t.Context(), enrolment("web-1", "guessed", start), func(s *node.Secret, _ []node.Node) (node.Verdict, error) {
		shown = s
		return node.Verdict{}, refusal
	})
	if !errors.Is(err, refusal) || shown != nil {
		t.Errorf("unknown secret: got %v and secret %v", err, shown)
	}
	if got := must(s.Secrets(t.Context()))(t)[0]; got.Uses != 0 || !got.LastUsed.IsZero() {
		t.Errorf("a refused use was counted: %+v", got)
	}
	if changes, version := since(t, s, 0); len(changes) != 0 || version != 0 {
		t.Errorf("a refused node was kept: %v, version %d", changes, version)
	}
}

func testEnrolAgain(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	secret(t, s, "laptops", 0, "mobile")
	first := enrolment("web-1", "servers", start)
	n := enrol(t, s, first)
	must(s.SetNodeTags(t.Context(), n.ID, []string{"by-hand", "eu"}))(t)
	later := start.Add(time.Hour)
	second := enrolment("web-1", "laptops", later)
	second.Node.Hostname, second.Node.Details = "renamed", map[string]map[string]string{"system_info": {"hostname": "renamed"}}
	got := enrol(t, s, second)
	want := second.Node
	want.ID, want.EnrolledAt, want.Enrolments = n.ID, start, 2
	want.Tags, want.Secret, want.Version = []string{"by-hand", "mobile"}, "laptops", 3 // eu came with the other secret
	want.TagSources = []node.TagSource{{Tag: "by-hand", Source: "hand"}, {Tag: "mobile", Source: "secret:laptops"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Enrol (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, must(s.Node(t.Context(), n.ID))(t)); diff != "" {
		t.Errorf("Node (-want +got):\n%s", diff)
	}
	details := node.PackDetails(want.Details)
	want.Details = nil
	changes, _ := since(t, s, 1)
	wantChange := node.Change{Node: want, Details: told(details), Key: second.KeyHash, OldKey: first.KeyHash, OldUntil: later.Add(node.KeyGrace)}
	if diff := cmp.Diff([]node.Change{wantChange}, changes, byDetails); diff != "" {
		t.Errorf("NodesSince (-want +got):\n%s", diff)
	}
	for _, search := range []string{"RENAMED", n.ID} {
		if page := must(s.Nodes(t.Context(), node.Filter{Search: search}))(t); page.Total != 1 {
			t.Errorf("search for %q found %d", search, page.Total)
		}
	}
}

// told is what a Change says of some details.
func told(d node.Details) func() node.Details { return func() node.Details { return d } }

// byDetails compares what Changes say, not how.
var byDetails = cmp.Transformer("details", func(f func() node.Details) node.Details {
	if f == nil {
		return ""
	}
	return f()
})

// testEnrolText: PostgreSQL takes neither NUL nor broken UTF-8; no agent can
// make the store fail with them.
func testEnrolText(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	e := enrolment("web\x00-1", "servers", start)
	e.Node.Hostname, e.Node.OS = "Ünïcödé 🦀\xff", "a'b\"c\\d"
	e.Node.Details = map[string]map[string]string{"system_info": {"cpu_brand": "x\x00y", "hardware_model": "日本"}}
	got := must(s.Node(t.Context(), enrol(t, s, e).ID))(t)
	if got.HostIdentifier != `web\x00-1` || got.Hostname != `Ünïcödé 🦀\xFF` || got.OS != e.Node.OS {
		t.Errorf("got %q %q %q", got.HostIdentifier, got.Hostname, got.OS)
	}
	if diff := cmp.Diff(e.Node.Details, got.Details); diff != "" {
		t.Errorf("details (-want +got):\n%s", diff)
	}
	if again := enrol(t, s, enrolment("web\x00-1", "servers", start)); again.ID != got.ID {
		t.Error("the same host identifier became another node")
	}
	if page := must(s.Nodes(t.Context(), node.Filter{Search: "\x00"}))(t); page.Total != 1 {
		t.Errorf("search for NUL found %d", page.Total)
	}
}

func testEnrolUses(t *testing.T, s *store.Store) {
	const limit, agents = 7, 24
	secret(t, s, "few", limit)
	failures := together(agents, func(i int) error {
		e := enrolment(fmt.Sprintf("web-%d", i), "few", start)
		_, err := s.Enrol(t.Context(), e, usable(e))
		return err
	})
	admitted := 0
	for _, err := range failures {
		if err == nil {
			admitted++
		} else if !errs.Is(err, errs.Forbidden) {
			t.Error(err)
		}
	}
	if got := must(s.Secrets(t.Context()))(t)[0].Uses; admitted != limit || got != limit {
		t.Errorf("%d admitted, %d uses counted, want %d", admitted, got, limit)
	}
	if page := must(s.Nodes(t.Context(), node.Filter{}))(t); page.Total != limit {
		t.Errorf("%d nodes kept, want %d", page.Total, limit)
	}
}

// testEnrolTogether: one agent's threads enrol at once; it stays one node.
func testEnrolTogether(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	const times = 12
	for _, err := range together(times, func(int) error {
		e := enrolment("web-1", "servers", start)
		_, err := s.Enrol(t.Context(), e, usable(e))
		return err
	}) {
		ok(t, err)
	}
	changes, version := since(t, s, 0)
	if len(changes) != 1 || changes[0].Node.Enrolments != times || version != times {
		t.Errorf("got %d nodes at version %d: %+v", len(changes), version, changes)
	}
}

func testNodeDelete(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	n := enrol(t, s, enrolment("web-1", "servers", start))
	_, version := since(t, s, 0)
	ok(t, s.DeleteNode(t.Context(), n.ID))
	wantKind(t, s.DeleteNode(t.Context(), n.ID), errs.NotFound)
	_, err := s.Node(t.Context(), n.ID)
	wantKind(t, err, errs.NotFound)
	_, err = s.FindNode(t.Context(), "web-1")
	wantKind(t, err, errs.NotFound)
	_, err = s.SetNodeTags(t.Context(), n.ID, nil)
	wantKind(t, err, errs.NotFound)
	ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: n.ID, Seen: start.Add(time.Hour)}}))
	changes, _ := since(t, s, version)
	if len(changes) != 1 || !changes[0].Gone || changes[0].Node.ID != n.ID || changes[0].Key != (node.KeyHash{}) {
		t.Errorf("NodesSince: %+v", changes)
	}
	if changes, _ := since(t, s, 0); len(changes) != 0 {
		t.Errorf("from the beginning: %+v", changes)
	}
	again := enrol(t, s, enrolment("web-1", "servers", start))
	if again.ID == n.ID || again.Enrolments != 1 {
		t.Errorf("a deleted node came back: %+v", again)
	}
	f := must(s.NodeFacets(t.Context(), nil, start))(t)
	if diff := cmp.Diff(node.Facets{
		Total: 1, Online: 1, New24h: 1, Platforms: []node.Count{{Value: "linux", Count: 1}},
		Tags: []node.Count{{Value: "eu", Count: 1}}, Versions: []node.Count{{Value: "5.23.1", Count: 1}},
	}, f); diff != "" {
		t.Errorf("facets (-want +got):\n%s", diff)
	}
}

// testGone: a node that is gone keeps its names, and is in the lists of those
// alone, in any order.
func testGone(t *testing.T, s *store.Store) {
	const count, here = 23, 4
	fleet(t, s, count+here)
	page := must(s.Nodes(t.Context(), node.Filter{Sort: "enrolled_at", Limit: count}))(t)
	for _, n := range page.Nodes {
		ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: n.ID, Seen: start.Add(time.Hour), Attributes: map[string]string{"a": "b"}}}))
		ok(t, s.DeleteNode(t.Context(), n.ID))
		wantKind(t, s.DeleteNode(t.Context(), n.ID), errs.NotFound)
		got := must(s.FindNode(t.Context(), n.ID))(t)
		if got.GoneAt.IsZero() || got.HostIdentifier != n.HostIdentifier || got.Hostname != n.Hostname || got.Secret != n.Secret ||
			len(got.Tags) != 0 || got.Attributes != nil || got.Details != nil || got.Online(start) {
			t.Errorf("gone: %+v", got)
		}
		_, err := s.FindNode(t.Context(), n.HostIdentifier)
		wantKind(t, err, errs.NotFound)
	}
	for _, sort := range []string{"", "hostname", "platform", "os", "osquery_version", "status", "last_seen", "enrolled_at", "address"} {
		for _, desc := range []bool{false, true} {
			f := node.Filter{Status: node.StatusGone, Sort: sort, Desc: desc, Limit: 5}
			seen := map[string]bool{}
			for {
				page := must(s.Nodes(t.Context(), f))(t)
				for _, n := range page.Nodes {
					seen[n.ID] = true
					if n.GoneAt.IsZero() {
						t.Errorf("sort %q: %+v is there", sort, n)
					}
				}
				if page.Total != count {
					t.Fatalf("sort %q: total is %d", sort, page.Total)
				}
				if f.Cursor = page.Next; f.Cursor == "" {
					break
				}
			}
			if len(seen) != count {
				t.Errorf("sort %q, desc %v: %d nodes", sort, desc, len(seen))
			}
		}
	}
	for status, want := range map[string]int{"": here, node.StatusGone: count, node.StatusOnline: here, node.StatusOffline: 0, node.StatusQuarantined: 0} {
		if page := must(s.Nodes(t.Context(), node.Filter{Status: status, Now: start}))(t); page.Total != want {
			t.Errorf("status %q: %d nodes, want %d", status, page.Total, want)
		}
	}
}

// testExpire removes more than fit in one transaction, some twice, some that
// are not there.
func testExpire(t *testing.T, s *store.Store) {
	const count = 1100
	store.Fill(t, s, count, start)
	ids := []string{"nobody"}
	for i := range count - 1 {
		ids = append(ids, store.FillID(i, count))
	}
	ids = append(ids, ids[1], "\x00")
	_, version := since(t, s, 0)
	gone := must(s.ExpireNodes(t.Context(), ids))(t)
	slices.Sort(gone)
	if want := slices.Compact(slices.Sorted(slices.Values(ids[1 : len(ids)-1]))); !slices.Equal(want, gone) {
		t.Errorf("%d are gone, want %d", len(gone), len(want))
	}
	changes, _ := since(t, s, version)
	for _, c := range changes {
		if !c.Gone || c.Key != (node.KeyHash{}) {
			t.Fatalf("the registries hear %+v", c)
		}
	}
	if page := must(s.Nodes(t.Context(), node.Filter{}))(t); len(changes) != count-1 || page.Total != 1 {
		t.Errorf("%d changes, %d nodes are left", len(changes), page.Total)
	}
	if gone := must(s.ExpireNodes(t.Context(), ids))(t); len(gone) != 0 {
		t.Errorf("%d went twice", len(gone))
	}
	if list := must(s.Who(t.Context(), node.Who{Attribute: node.AttributeHostIdentifier, Value: "host-000007", At: start.Add(time.Hour)}))(t); len(list) != 1 {
		t.Errorf("its events cannot be joined: %v", list)
	}
}

func testNodeTags(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	n := enrol(t, s, enrolment("web-1", "servers", start))
	for _, tags := range [][]string{{"a", "b"}, {"b", "c"}, {}} {
		got := must(s.SetNodeTags(t.Context(), n.ID, tags))(t)
		if !slices.Equal(got.Tags, tags) || got.Version <= n.Version || !got.LastSeen.Equal(start) {
			t.Errorf("set %v, got %+v", tags, got)
		}
		n = got
		for _, tag := range []string{"a", "b", "c", "eu"} {
			want := 0
			if slices.Contains(tags, tag) {
				want = 1
			}
			if page := must(s.Nodes(t.Context(), node.Filter{Tag: tag}))(t); page.Total != want || len(page.Nodes) != want {
				t.Errorf("tags %v: %d nodes with %s", tags, page.Total, tag)
			}
		}
	}
	_, err := s.SetNodeTags(t.Context(), "nobody", []string{"a"})
	wantKind(t, err, errs.NotFound)
	if _, version := since(t, s, 0); version != n.Version {
		t.Errorf("a change of no node took version %d", version)
	}
}

func testNodeFind(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	a := enrol(t, s, enrolment("a", "servers", start))
	for _, name := range []string{"b", "c"} {
		e := enrolment(name, "servers", start)
		e.Node.Hostname = "twin"
		enrol(t, s, e)
	}
	for _, name := range []string{a.ID, "a", "a.example"} {
		if got := must(s.FindNode(t.Context(), name))(t); got.ID != a.ID || got.Details == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	_, err := s.FindNode(t.Context(), "twin")
	wantKind(t, err, errs.Conflict)
	for _, name := range []string{"", "A.example", "a.exampl_", "%", "\x00"} {
		_, err = s.FindNode(t.Context(), name)
		wantKind(t, err, errs.NotFound)
	}
	_, err = s.Node(t.Context(), "a") // a host identifier, not an id
	wantKind(t, err, errs.NotFound)
}

// testNodesSince: readers that follow the version see every change, however
// many write.
func testNodesSince(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	const writers, each = 6, 5
	done := make(chan []error)
	go func() {
		done <- together(writers, func(w int) error {
			for i := range each {
				e := enrolment(fmt.Sprintf("web-%d-%d", w, i), "servers", start)
				if _, err := s.Enrol(t.Context(), e, usable(e)); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	seen, version := map[string]bool{}, int64(0)
	follow := func() {
		changes, v := since(t, s, version)
		if v < version {
			t.Fatalf("version went back from %d to %d", version, v)
		}
		version = v
		for _, c := range changes {
			seen[c.Node.HostIdentifier] = true
		}
	}
	for {
		select {
		case failures := <-done:
			for _, err := range failures {
				ok(t, err)
			}
			follow()
			if len(seen) != writers*each || version != writers*each {
				t.Errorf("saw %d of %d nodes, version %d", len(seen), writers*each, version)
			}
			return
		default:
			follow()
		}
	}
}

func testTouch(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	n := enrol(t, s, enrolment("web-1", "servers", start))
	for _, step := range []struct {
		touches []node.Touch
		seen    time.Time
		address string
	}{
		{[]node.Touch{{ID: n.ID, Seen: start.Add(time.Second), Address: "2001:db8::1"}}, start.Add(time.Second), "2001:db8::1"},
		{[]node.Touch{{ID: n.ID, Seen: start.Add(2 * time.Second), Address: ""}}, start.Add(2 * time.Second), "2001:db8::1"},
		{[]node.Touch{{ID: n.ID, Seen: start, Address: "192.0.2.9"}}, start.Add(2 * time.Second), "2001:db8::1"}, // late
		{[]node.Touch{ // the newest of several wins
			{ID: n.ID, Seen: start.Add(4 * time.Second), Address: "192.0.2.4"},
			{ID: n.ID, Seen: start.Add(5 * time.Second), Address: "192.0.2.5"},
			{ID: n.ID, Seen: start.Add(3 * time.Second), Address: "192.0.2.3"},
			{ID: "nobody", Seen: start},
		}, start.Add(5 * time.Second), "192.0.2.5"},
		{nil, start.Add(5 * time.Second), "192.0.2.5"},
	} {
		ok(t, s.TouchNodes(t.Context(), step.touches))
		got := must(s.Node(t.Context(), n.ID))(t)
		if !got.LastSeen.Equal(step.seen) || got.Address != step.address || got.Version != n.Version {
			t.Errorf("after %v: %v %s version %d", step.touches, got.LastSeen, got.Address, got.Version)
		}
	}
	if again := enrol(t, s, enrolment("web-1", "servers", start.Add(time.Second))); again.ID != n.ID {
		t.Fatal("another node")
	}
	if got := must(s.Node(t.Context(), n.ID))(t); !got.LastSeen.Equal(start.Add(5 * time.Second)) {
		t.Errorf("an enrolment moved last seen back to %v", got.LastSeen)
	}
}

// fleet enrols n nodes with few different values, so that sorting has ties.
func fleet(t testing.TB, s *store.Store, n int) {
	t.Helper()
	secret(t, s, "fleet", 0, "all")
	secret(t, s, "fleet-eu", 0, "all", "eu")
	for i := range n {
		name := "fleet"
		if i%3 == 0 {
			name = "fleet-eu"
		}
		e := enrolment(fmt.Sprintf("host-%05d", i), name, start.Add(time.Duration(i/4)*time.Second))
		// Orders that differ between languages and bytes: case, hyphen, umlaut.
		e.Node.Hostname = []string{"alpha", "Beta", "beta-1", "beta1", "Älpha", "_x"}[i%6]
		e.Node.Platform = []string{"linux", "darwin", "windows"}[i%3]
		e.Node.OS = []string{"Debian 12", "macOS 15", "Windows 11", ""}[i%4]
		e.Node.OsqueryVersion = []string{"5.23.1", "5.9.0"}[i%2]
		e.Node.Address = fmt.Sprintf("192.0.2.%d", i%5)
		enrol(t, s, e)
	}
}

func testNodePages(t *testing.T, s *store.Store) {
	const count = 60
	fleet(t, s, count)
	first := map[string][]string{}
	for _, sort := range []string{"", "hostname", "platform", "os", "osquery_version", "status", "last_seen", "enrolled_at", "address"} {
		for _, desc := range []bool{false, true} {
			f := node.Filter{Sort: sort, Desc: desc, Limit: 7}
			var ids []string
			for pages := 1; ; pages++ {
				page := must(s.Nodes(t.Context(), f))(t)
				if page.Total != count {
					t.Fatalf("total is %d", page.Total)
				}
				for _, n := range page.Nodes {
					ids = append(ids, n.ID)
				}
				if f.Cursor = page.Next; f.Cursor == "" {
					if pages != (count+6)/7 {
						t.Errorf("sort %q: %d pages", sort, pages)
					}
					break
				}
			}
			unique := slices.Compact(slices.Sorted(slices.Values(ids)))
			if len(ids) != count || len(unique) != count {
				t.Errorf("sort %q desc %v: %d nodes, %d different", sort, desc, len(ids), len(unique))
			}
			if !desc {
				first[sort] = ids
				continue
			}
			slices.Reverse(ids)
			if diff := cmp.Diff(first[sort], ids); diff != "" {
				t.Errorf("sort %q: descending is not the reverse (-asc +desc):\n%s", sort, diff)
			}
		}
	}
	// By bytes and without case, as Go sorts.
	var names []string
	for _, n := range must(s.Nodes(t.Context(), node.Filter{Limit: count}))(t).Nodes {
		names = append(names, strings.ToLower(strings.ReplaceAll(n.Hostname, "Ä", "\xff")))
	}
	if !slices.IsSorted(names) {
		t.Errorf("not sorted by bytes: %q", names)
	}
}

func testNodeFilter(t *testing.T, s *store.Store) {
	fleet(t, s, 24)
	e := enrolment("odd_%!one", "fleet", start)
	e.Node.Hostname = "GRÖSSE"
	odd := enrol(t, s, e)
	now := start.Add(node.OfflineAfter + 2*time.Second) // the last of the first 12 is just online
	for _, c := range []struct {
		name   string
		filter node.Filter
		want   int
	}{
		{"all", node.Filter{}, 25},
		{"tag", node.Filter{Tag: "eu"}, 8},
		{"no such tag", node.Filter{Tag: "us"}, 0},
		{"platform", node.Filter{Platform: "darwin"}, 8},
		{"version", node.Filter{Version: "5.9.0"}, 12},
		{"two at once", node.Filter{Version: "5.9.0", Platform: "linux"}, 4},
		{"hostname", node.Filter{Search: "BETA"}, 12},
		{"unicode case", node.Filter{Search: "grösse"}, 1},
		{"host identifier", node.Filter{Search: "host-0001"}, 10},
		{"address", node.Filter{Search: "192.0.2.3"}, 5},
		{"id", node.Filter{Search: odd.ID[2:]}, 1},
		{"percent", node.Filter{Search: "%"}, 1},
		{"underscore", node.Filter{Search: "d_%!o"}, 1},
		{"nothing", node.Filter{Search: "host_0001"}, 0},
		{"online", node.Filter{Status: node.StatusOnline, Now: now}, 16},
		{"offline", node.Filter{Status: node.StatusOffline, Now: now}, 9},
		{"all at once", node.Filter{Status: node.StatusOnline, Now: now, Search: "host", Tag: "all", Platform: "linux", Version: "5.23.1", Desc: true, Sort: "last_seen"}, 2},
	} {
		page := must(s.Nodes(t.Context(), c.filter))(t)
		if page.Total != c.want || len(page.Nodes) != c.want {
			t.Errorf("%s: got %d nodes and total %d, want %d", c.name, len(page.Nodes), page.Total, c.want)
		}
		for _, n := range page.Nodes {
			if c.filter.Status != "" && n.Online(now) != (c.filter.Status == node.StatusOnline) {
				t.Errorf("%s: node and filter do not agree who is online: %v", c.name, n.LastSeen)
			}
		}
	}
	for field, f := range map[string]node.Filter{"sort": {Sort: "id; DROP TABLE node"}, "status": {Status: "maybe"}, "search": {Search: strings.Repeat("x", 60_000)}} {
		_, err := s.Nodes(t.Context(), f)
		var e *errs.Error
		if !errors.As(err, &e) || e.Kind != errs.Invalid || e.Field != field {
			t.Errorf("%+v: got %v", f, err)
		}
	}
}

func testNodeFacets(t *testing.T, s *store.Store) {
	empty := must(s.NodeFacets(t.Context(), nil, start))(t)
	if empty.Total != 0 || empty.Platforms == nil {
		t.Errorf("empty: %+v", empty)
	}
	fleet(t, s, 24)
	got := must(s.NodeFacets(t.Context(), nil, start.Add(24*time.Hour+3*time.Second)))(t)
	want := node.Facets{
		Total: 24, Online: 0, New24h: 12,
		Platforms: []node.Count{{Value: "darwin", Count: 8}, {Value: "linux", Count: 8}, {Value: "windows", Count: 8}},
		Tags:      []node.Count{{Value: "all", Count: 24}, {Value: "eu", Count: 8}},
		Versions:  []node.Count{{Value: "5.23.1", Count: 12}, {Value: "5.9.0", Count: 12}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("facets (-want +got):\n%s", diff)
	}
}

func testNodeCursor(t *testing.T, s *store.Store) {
	fleet(t, s, 6)
	page := must(s.Nodes(t.Context(), node.Filter{Limit: 2}))(t)
	must(s.Nodes(t.Context(), node.Filter{Limit: 2, Sort: "hostname", Cursor: page.Next}))(t)
	for _, f := range []node.Filter{
		{Cursor: page.Next, Sort: "os"},
		{Cursor: page.Next, Desc: true},
		{Cursor: "!"},
		{Cursor: "bm9wZQ"},
		{Cursor: "e30"},
	} {
		_, err := s.Nodes(t.Context(), f)
		wantKind(t, err, errs.Invalid)
	}
	// Made up, with NUL: no error of the database.
	made := "eyJzIjoiaG9zdG5hbWUiLCJkIjpmYWxzZSwidCI6Ilx1MDAwMCIsImkiOiJcdTAwMDAifQ"
	if page := must(s.Nodes(t.Context(), node.Filter{Cursor: made}))(t); page.Total != 6 {
		t.Errorf("total is %d", page.Total)
	}
}

// testNodeMany turns pages over more nodes than fit in one, while one is
// deleted and one enrols.
func testNodeMany(t *testing.T, s *store.Store) {
	const count = 10_500
	store.Fill(t, s, count, start)
	seen := map[string]bool{}
	f := node.Filter{Limit: 1000}
	for pages := 0; ; pages++ {
		page := must(s.Nodes(t.Context(), f))(t)
		for _, n := range page.Nodes {
			if seen[n.ID] {
				t.Fatalf("node %s twice", n.ID)
			}
			seen[n.ID] = true
		}
		if pages == 2 {
			ok(t, s.DeleteNode(t.Context(), page.Nodes[10].ID)) // on a page that was read
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	if len(seen) != count {
		t.Errorf("saw %d of %d", len(seen), count)
	}
	touches := make([]node.Touch, 0, count)
	for id := range seen {
		touches = append(touches, node.Touch{ID: id, Seen: start.Add(time.Hour), Address: "198.51.100.7"})
	}
	ok(t, s.TouchNodes(t.Context(), touches))
	if page := must(s.Nodes(t.Context(), node.Filter{Search: "198.51.100.7", Status: node.StatusOnline, Now: start.Add(time.Hour)}))(t); page.Total != count-1 {
		t.Errorf("%d of %d touches kept", page.Total, count-1)
	}
	changes, _ := since(t, s, 0)
	if len(changes) != count-1 {
		t.Errorf("%d changes", len(changes))
	}
}

// testRegistry runs the domain on the store: enrol, know the key, delete.
func testRegistry(t *testing.T, s *store.Store) {
	now := func() time.Time { return start }
	keyer := node.NewKeyer(make([]byte, 32))
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: "servers", CreatedAt: start}, keyer.Hash(node.PurposeEnrollSecret, "sesame")))
	registry := node.NewRegistry(s, keyer, slog.New(slog.DiscardHandler), now)
	other := node.NewRegistry(s, keyer, slog.New(slog.DiscardHandler), now)
	enroller := node.NewEnroller(node.EnrollerOptions{Store: s, Registry: registry, Keyer: keyer, Now: now})
	req := osquery.EnrollRequest{EnrollSecret: "sesame", HostIdentifier: "web-1"}
	former, _, err := enroller.Enrol(t.Context(), req, netip.MustParseAddr("192.0.2.1"), node.Certificate{})
	ok(t, err)
	key, n, err := enroller.Enrol(t.Context(), req, netip.MustParseAddr("192.0.2.1"), node.Certificate{})
	ok(t, err)
	ok(t, other.Sync(t.Context()))
	for _, r := range []*node.Registry{registry, other} {
		for _, k := range []string{key, former} {
			if i := r.Authenticate(k); i == nil || i.ID != n.ID {
				t.Errorf("a key is not known: %v", i)
			}
		}
	}
	other.Lookup(n.ID).Touch(start.Add(time.Second), netip.MustParseAddr("192.0.2.2"), node.EndpointLog)
	ok(t, other.Flush(t.Context()))
	if got := must(s.Node(t.Context(), n.ID))(t); got.Address != "192.0.2.2" {
		t.Errorf("touch was not kept: %+v", got)
	}
	ok(t, s.DeleteNode(t.Context(), n.ID))
	ok(t, other.Sync(t.Context()))
	if all, _ := other.Len(); all != 0 || other.Authenticate(key) != nil {
		t.Error("a deleted node is still known")
	}
	req.EnrollSecret = "guessed"
	_, _, err = enroller.Enrol(t.Context(), req, netip.Addr{}, node.Certificate{})
	wantKind(t, err, errs.Unauthenticated)
}
