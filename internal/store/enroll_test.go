//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// judged admits with one verdict and notes whom the store knew.
func judged(v node.Verdict, known *[]node.Node) func(*node.Secret, []node.Node) (node.Verdict, error) {
	return func(s *node.Secret, k []node.Node) (node.Verdict, error) {
		v.Node.Secret = s.Name
		*known = k
		return v, nil
	}
}

// clone is an enrolment of a clone of a node.
func clone(of node.Node, instance, machine string, now time.Time) node.Enrolment {
	e := enrolment(of.HostIdentifier, "servers", now)
	e.Node.Instance, e.Node.Machine = instance, machine
	e.Node.CloneOf, e.Node.QuarantinedAt, e.Node.QuarantineReason = of.ID, now, "a clone"
	e.KeyHash = keyHash("key of " + instance + machine)
	return e
}

// testEnrolClash: a verdict is kept as it is, with the clash that it tells of.
func testEnrolClash(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	first := enrolment("web-1", "servers", start)
	victim := enrol(t, s, first)
	_, version := since(t, s, 0)

	later := start.Add(time.Minute)
	e := clone(victim, "i2", "m2", later)
	var known []node.Node
	got := must(s.Enrol(t.Context(), e, judged(node.Verdict{Node: e.Node, ClashOf: victim.ID, ClashReason: "another machine"}, &known)))(t)
	want := e.Node
	want.Secret, want.Tags, want.Version = "servers", []string{}, version+1
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the clone (-want +got):\n%s", diff)
	}
	if len(known) != 1 || known[0].ID != victim.ID || known[0].Address != victim.Address {
		t.Errorf("known were %+v", known)
	}
	victim.Clashes, victim.LastClash, victim.ClashReason, victim.Version = 1, later, "another machine", version+1
	if diff := cmp.Diff(victim, must(s.Node(t.Context(), victim.ID))(t)); diff != "" {
		t.Errorf("the victim (-want +got):\n%s", diff)
	}
	changes, _ := since(t, s, version)
	keys := map[string]node.KeyHash{}
	for _, c := range changes {
		keys[c.Node.ID] = c.Key
	}
	if want := map[string]node.KeyHash{victim.ID: first.KeyHash, got.ID: e.KeyHash}; !cmp.Equal(want, keys) {
		t.Errorf("the registries hear %+v", changes)
	}

	// On itself, and by a touch.
	again := enrolment("web-1", "servers", later)
	again.Node.ID, again.Node.EnrolledAt, again.Node.Enrolments = victim.ID, victim.EnrolledAt, 2
	again.Node.Clashes = victim.Clashes
	got = must(s.Enrol(t.Context(), again, judged(node.Verdict{Node: again.Node, ClashOf: victim.ID, ClashReason: "once more"}, &known)))(t)
	if got.Clashes != 2 || got.ClashReason != "once more" || !got.LastClash.Equal(later) {
		t.Errorf("got %+v", got)
	}
	ok(t, s.TouchNodes(t.Context(), []node.Touch{{ID: victim.ID, Seen: later, Clash: "its key"}, {ID: "nobody", Seen: later, Clash: "x"}}))
	ok(t, s.RecordClash(t.Context(), victim.ID, "refused\x00", later.Add(time.Second)))
	ok(t, s.RecordClash(t.Context(), "nobody", "refused", later))
	n := must(s.Node(t.Context(), victim.ID))(t)
	if n.Clashes != 4 || n.ClashReason != `refused\x00` || !n.LastClash.Equal(later.Add(time.Second)) || n.Version <= got.Version {
		t.Errorf("got %+v", n)
	}

	// What is refused leaves no clash.
	_, err := s.Enrol(t.Context(), e, func(*node.Secret, []node.Node) (node.Verdict, error) {
		return node.Verdict{Node: e.Node, ClashOf: victim.ID, ClashReason: "no"}, errs.New(errs.Forbidden, "no")
	})
	wantKind(t, err, errs.Forbidden)
	if got := must(s.Node(t.Context(), victim.ID))(t); got.Clashes != 4 {
		t.Errorf("%d clashes", got.Clashes)
	}
	if f := must(s.NodeFacets(t.Context(), nil, later.Add(24*time.Hour)))(t); f.Clashes24h != 1 || f.Quarantined != 1 || f.Total != 2 {
		t.Errorf("%+v", f)
	}
	if f := must(s.NodeFacets(t.Context(), nil, later.Add(25*time.Hour)))(t); f.Clashes24h != 0 {
		t.Errorf("a day later: %+v", f)
	}
}

// testEnrolKnown: who is told to the domain.
func testEnrolKnown(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	victim := enrol(t, s, enrolment("web-1", "servers", start))
	ids := map[string]string{}
	for i := range node.MaxKnown + 2 {
		for _, c := range []struct{ instance, machine string }{
			{fmt.Sprintf("i%d", i), ""}, {fmt.Sprintf("j%d", i), "same"}, {"", ""},
		} {
			e := clone(victim, c.instance, c.machine, start)
			var known []node.Node
			ids[must(s.Enrol(t.Context(), e, judged(node.Verdict{Node: e.Node}, &known)))(t).ID] = c.instance + c.machine
		}
	}
	ok(t, s.DeleteNode(t.Context(), enrolClone(t, s, clone(victim, "gone", "", start)).ID))
	enrol(t, s, enrolment("web-2", "servers", start))
	for _, c := range []struct{ instance, machine, want string }{
		{"", "", "web-1"},
		{"nobody", "nothing", "web-1"},
		{"i3", "", "web-1 i3"},
		{"i3", "nothing", "web-1 i3"},
		{"gone", "", "web-1"},
		{"j0", "same", "web-1 j11same j10same j9same j8same j7same j6same j5same j4same j3same"}, // the newest
	} {
		e := clone(victim, c.instance, c.machine, start)
		var known []node.Node
		_, err := s.Enrol(t.Context(), e, func(_ *node.Secret, k []node.Node) (node.Verdict, error) {
			known = k
			return node.Verdict{}, errs.New(errs.Forbidden, "no")
		})
		wantKind(t, err, errs.Forbidden)
		var got []string
		for _, k := range known {
			got = append(got, map[bool]string{true: k.HostIdentifier, false: ids[k.ID]}[k.CloneOf == ""])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("instance %q, machine %q: known %q, want %q", c.instance, c.machine, got, c.want)
		}
	}
}

func enrolClone(t *testing.T, s *store.Store, e node.Enrolment) node.Node {
	var known []node.Node
	return must(s.Enrol(t.Context(), e, judged(node.Verdict{Node: e.Node}, &known)))(t)
}

// testEnrolClones: whichever machines enrol at once under one host identifier,
// one is the node, the others are its clones, and each has one working key.
func testEnrolClones(t *testing.T, s *store.Store) {
	now := func() time.Time { return start }
	keyer := node.NewKeyer(make([]byte, 32))
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: "servers", CreatedAt: start}, keyer.Hash(node.PurposeEnrollSecret, "sesame")))
	registry := node.NewRegistry(s, keyer, slog.New(slog.DiscardHandler), now)
	enroller := node.NewEnroller(node.EnrollerOptions{Store: s, Registry: registry, Keyer: keyer, Now: now})
	const machines, rounds = 6, 3
	keys := make([]string, machines)
	for round := range rounds {
		for _, err := range together(machines, func(i int) error {
			key, _, err := enroller.Enrol(t.Context(), osquery.EnrollRequest{
				EnrollSecret: "sesame", HostIdentifier: "web-1", HostDetails: map[string]map[string]string{
					"osquery_info": {"instance_id": "the disk's"}, "system_info": {"uuid": fmt.Sprintf("machine-%d", i)},
				},
			}, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), node.Certificate{})
			keys[i] = key
			return err
		}) {
			ok(t, err)
		}
		originals := 0
		for i, key := range keys {
			n := must(s.Node(t.Context(), registry.Authenticate(key).ID))(t)
			if n.Machine != fmt.Sprintf("machine-%d/", i) || n.Enrolments != round+1 || n.Quarantined() != (n.CloneOf != "") {
				t.Errorf("round %d: machine %d is %+v", round, i, n)
			}
			if n.CloneOf == "" {
				originals++
				if n.Clashes != machines-1 {
					t.Errorf("%d clashes were counted", n.Clashes)
				}
			}
		}
		if page := must(s.Nodes(t.Context(), node.Filter{}))(t); originals != 1 || page.Total != machines {
			t.Errorf("%d nodes, %d of them no clones", page.Total, originals)
		}
	}
}

// testEnrolBusy enrols, touches, quarantines, tags, revokes and deletes at once:
// nobody waits for another for ever, and nothing fails.
func testEnrolBusy(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	const nodes, each = 4, 12
	ids := make([]string, nodes)
	for i := range ids {
		ids[i] = enrol(t, s, enrolment(fmt.Sprintf("web-%d", i), "servers", start)).ID
	}
	for _, err := range together(6, func(w int) error {
		for i := range each {
			id, at := ids[(i+w)%nodes], start.Add(time.Duration(i)*time.Second)
			var err error
			switch w {
			case 0, 1:
				e := enrolment(fmt.Sprintf("web-%d", i%nodes), "servers", at)
				e.Node.Address = fmt.Sprintf("192.0.2.%d", w)
				_, err = s.Enrol(t.Context(), e, usable(e))
			case 2, 3:
				var touches []node.Touch
				for n, id := range ids {
					touches = append(touches, node.Touch{
						ID: id, Seen: at, Address: fmt.Sprintf("192.0.2.%d", i), Moved: "somewhere", Attributes: map[string]string{"a": fmt.Sprint(i + n)}, Clash: "c",
					})
				}
				err = s.TouchNodes(t.Context(), touches)
			case 4:
				_, err = s.SetQuarantine(t.Context(), id, "r", at)
			case 5:
				if _, err = s.SetNodeTags(t.Context(), id, []string{fmt.Sprint(i)}); err == nil {
					err = s.RevokeNode(t.Context(), id)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	gone := must(s.ExpireNodes(t.Context(), ids))(t)
	if len(gone) != nodes {
		t.Errorf("%v are gone", gone)
	}
}

// testRevoke: a revoked node's keys are unknown, also the one in its grace; it
// enrols again as itself, and only its new key works.
func testRevoke(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	enrol(t, s, enrolment("web-1", "servers", start))
	n := enrol(t, s, enrolment("web-1", "servers", start.Add(time.Second)))
	_, version := since(t, s, 0)
	ok(t, s.RevokeNode(t.Context(), n.ID))
	wantKind(t, s.RevokeNode(t.Context(), "nobody"), errs.NotFound)
	changes, version := since(t, s, version)
	if len(changes) != 1 || changes[0].Gone || changes[0].Key != (node.KeyHash{}) || changes[0].OldKey != (node.KeyHash{}) || !changes[0].OldUntil.IsZero() {
		t.Errorf("the registries hear %+v", changes)
	}
	e := enrolment("web-1", "servers", start.Add(time.Minute))
	if again := enrol(t, s, e); again.ID != n.ID || again.Enrolments != 3 {
		t.Errorf("it became %+v", again)
	}
	changes, _ = since(t, s, version)
	if len(changes) != 1 || changes[0].Key != e.KeyHash || !changes[0].OldUntil.IsZero() {
		t.Errorf("the registries hear %+v", changes)
	}
}

func testQuarantine(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	victim := enrol(t, s, enrolment("web-1", "servers", start))
	n := enrolClone(t, s, clone(victim, "i", "m", start))
	_, version := since(t, s, 0)
	for _, c := range []struct {
		id, reason string
		at         time.Time
		want       string
	}{
		{n.ID, "", time.Time{}, ""}, // released
		{n.ID, "", time.Time{}, ""},
		{victim.ID, "by hand\x00", start.Add(time.Hour), `by hand\x00`},
		{victim.ID, "no reason for a release", time.Time{}, ""},
	} {
		got := must(s.SetQuarantine(t.Context(), c.id, c.reason, c.at))(t)
		if !got.QuarantinedAt.Equal(c.at) || got.QuarantineReason != c.want || (got.CloneOf != "") != (c.id == n.ID) {
			t.Errorf("got %+v", got)
		}
		var changes []node.Change
		if changes, version = since(t, s, version); len(changes) != 1 || changes[0].Node.Quarantined() != got.Quarantined() {
			t.Errorf("the registries hear %+v", changes)
		}
	}
	_, err := s.SetQuarantine(t.Context(), "nobody", "r", start)
	wantKind(t, err, errs.NotFound)

	// A clone is found by its own names; the host identifier is the node's.
	for name, want := range map[string]string{n.ID: n.ID, "web-1": victim.ID} {
		if got := must(s.FindNode(t.Context(), name))(t); got.ID != want {
			t.Errorf("%s is %s, want %s", name, got.ID, want)
		}
	}
	_, err = s.FindNode(t.Context(), "web-1.example")
	wantKind(t, err, errs.Conflict)
}

// TestLocked: another program holds SQLite's lock. Who enrols leaves when its
// time is over, and what it left does not happen.
func TestLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := storetest.Open(t, path)
	secret(t, s, "servers", 0)
	other := must(sql.Open("sqlite", path))(t)
	defer other.Close()
	conn := must(other.Conn(t.Context()))(t)
	must(conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`))(t)

	const agents = 5
	for _, err := range together(agents, func(i int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		e := enrolment(fmt.Sprintf("web-%d", i), "servers", start)
		_, err := s.Enrol(ctx, e, usable(e))
		return err
	}) {
		if !errs.Is(err, errs.Busy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	must(conn.ExecContext(t.Context(), `ROLLBACK`))(t)
	enrol(t, s, enrolment("after", "servers", start))
	names := []string{}
	for _, n := range must(s.Nodes(t.Context(), node.Filter{}))(t).Nodes {
		names = append(names, n.HostIdentifier)
	}
	if uses := must(s.Secrets(t.Context()))(t)[0].Uses; !slices.Equal(names, []string{"after"}) || uses != 1 {
		t.Errorf("%v enrolled with %d uses", names, uses)
	}
}
