//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

func imported(name, key string) node.Import {
	return node.Import{Node: node.Node{
		ID: ident.New(), HostIdentifier: name, Hostname: name + ".example", Platform: "linux", Tags: []string{"imported"}, EnrolledAt: start,
	}, Key: keyHash(key)}
}

func testImport(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0)
	e := enrolment("here", "servers", start)
	here := enrol(t, s, e)
	again := enrolment("here", "servers", start.Add(time.Minute))
	enrol(t, s, again)
	ok(t, s.DeleteNode(t.Context(), enrol(t, s, enrolment("gone", "servers", start)).ID))
	_, version := since(t, s, 0)

	keyed := func(name string, key node.KeyHash) node.Import {
		i := imported(name, "")
		i.Key = key
		return i
	}
	first := imported("a\x00", "key a")
	imports := []node.Import{
		first, imported("b", "key b"), imported("gone", "key gone"),
		imported("a\x00", "key a"), imported("b", "another"), imported("c", "key a"), // in the same list
		keyed("here", again.KeyHash), keyed("here", e.KeyHash), keyed("d", e.KeyHash), keyed("d", again.KeyHash),
		keyed("no key", node.KeyHash{}), keyed("no key either", node.KeyHash{}), keyed("no key", node.KeyHash{}),
	}
	want := []node.Imported{
		node.ImportAdded, node.ImportAdded, node.ImportAdded,
		node.ImportKnown, node.ImportClash, node.ImportKeyUsed,
		node.ImportKnown, node.ImportClash, node.ImportKeyUsed, node.ImportKeyUsed,
		node.ImportAdded, node.ImportAdded, node.ImportKnown,
	}
	if diff := cmp.Diff(want, must(s.ImportNodes(t.Context(), imports))(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	n := must(s.Node(t.Context(), first.Node.ID))(t)
	wantNode := first.Node
	wantNode.TagSources = node.TaggedBy(node.SourceHand, []string{"imported"})
	wantNode.HostIdentifier, wantNode.Hostname, wantNode.Version, wantNode.Details = `a\x00`, `a\x00.example`, n.Version, map[string]map[string]string{}
	if diff := cmp.Diff(wantNode, n); diff != "" || n.Online(start) {
		t.Errorf("-want +got:\n%s", diff)
	}
	changes, _ := since(t, s, version)
	keys := map[string]node.KeyHash{}
	for _, c := range changes {
		keys[c.Node.HostIdentifier] = c.Key
	}
	if diff := cmp.Diff(map[string]node.KeyHash{
		`a\x00`: keyHash("key a"), "b": keyHash("key b"), "gone": keyHash("key gone"), "no key": {}, "no key either": {},
	}, keys); diff != "" {
		t.Errorf("the registries hear (-want +got):\n%s", diff)
	}
	if page := must(s.Nodes(t.Context(), node.Filter{Tag: "imported"}))(t); page.Total != 5 {
		t.Errorf("%d are tagged", page.Total)
	}
	if got := must(s.Node(t.Context(), here.ID))(t); got.Enrolments != 2 {
		t.Errorf("a node that was there is %+v", got)
	}
	// It is the node when it enrols.
	if got := enrol(t, s, enrolment("b", "servers", start)); got.ID != imports[1].Node.ID || got.Enrolments != 1 {
		t.Errorf("b enrolled as %+v", got)
	}
}

// testImportMany is over several transactions, and once more changes nothing.
func testImportMany(t *testing.T, s *store.Store) {
	const count = 1100
	imports := make([]node.Import, 0, count)
	for i := range count {
		imports = append(imports, imported(fmt.Sprintf("host-%d", i), fmt.Sprintf("key %d", i)))
	}
	for _, want := range []node.Imported{node.ImportAdded, node.ImportKnown} {
		results := must(s.ImportNodes(t.Context(), imports))(t)
		for i, r := range results {
			if r != want || imports[i].Node.HostIdentifier != fmt.Sprintf("host-%d", i) {
				t.Fatalf("%s is %s", imports[i].Node.HostIdentifier, r)
			}
		}
		if len(results) != count {
			t.Fatalf("%d results", len(results))
		}
	}
	if page := must(s.Nodes(t.Context(), node.Filter{}))(t); page.Total != count {
		t.Errorf("%d nodes", page.Total)
	}
	if results := must(s.ImportNodes(t.Context(), nil))(t); len(results) != 0 {
		t.Error(results)
	}
}
