package adminapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
)

// importKey is a key of 16 bytes, the fewest.
func importKey(i int) string { return fmt.Sprintf("key-%012d", i) }

func TestImport(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.enrol("here")
	in := adminapi.ImportInput{Nodes: []adminapi.ImportNode{
		{HostIdentifier: " h1 ", NodeKey: importKey(1), Hostname: "h1.example.com", Platform: "ubuntu", OsqueryVersion: "5.23.1", Tags: []string{"web", "db"}},
		{NodeKey: importKey(2)},
		{HostIdentifier: "h3", NodeKey: "short"},
		{HostIdentifier: "h4", NodeKey: importKey(4), Tags: []string{"All Hosts"}},
		{HostIdentifier: "here", NodeKey: importKey(5)},
		{HostIdentifier: "h6", NodeKey: importKey(1)},
		{HostIdentifier: "h7", NodeKey: importKey(7), Platform: "MacOS"},
		{HostIdentifier: strings.Repeat("x", 256), NodeKey: importKey(8)},
		{HostIdentifier: "h9", NodeKey: strings.Repeat("x", 513)},
		{HostIdentifier: "h10", NodeKey: importKey(10), Hostname: strings.Repeat("x", 256)},
		{HostIdentifier: "h11"},
	}}
	var out adminapi.ImportResult
	if err := w.call("POST", "/nodes/import", nil, in, &out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range out.Results {
		if r.Index != i || (r.ID != "") != (r.Result == "added") || (r.Message != "") != (r.Field != "") {
			t.Errorf("%+v", r)
		}
		got = append(got, strings.TrimSpace(r.Result+" "+r.Field))
	}
	want := []string{
		"added", "refused host_identifier", "refused node_key", "refused tags", "clash host_identifier", "key_used node_key", "added",
		"refused host_identifier", "refused node_key", "refused hostname", "refused node_key",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{2, 0, 1, 1, 7}, []int{out.Added, out.Known, out.Clashes, out.KeysUsed, out.Refused}); diff != "" {
		t.Error(diff)
	}
	var n adminapi.NodeDetail
	if err := w.call("GET", "/nodes/h1", nil, nil, &n); err != nil {
		t.Fatal(err)
	}
	if n.ID != out.Results[0].ID || n.Hostname != "h1.example.com" || n.Platform != "linux" || n.OsqueryVersion != "5.23.1" || n.Status != "offline" ||
		n.LastSeen != nil || n.EnrollSecret != "" || n.Enrolments != 0 || n.EnrolledAt.IsZero() || !cmp.Equal(n.Tags, []string{"db", "web"}) {
		t.Errorf("%+v", n)
	}
	if err := w.call("GET", "/nodes/h7", nil, nil, &n); err != nil || n.Platform != "darwin" || n.Hostname != "h7" {
		t.Errorf("%+v %v", n, err)
	}
	if err := w.registry.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if i := w.registry.Authenticate(importKey(1)); i == nil || i.ID != out.Results[0].ID {
		t.Errorf("its key means %+v", i)
	}
	if w.registry.Authenticate(importKey(5)) != nil {
		t.Error("the key of a clash is known")
	}
	if err := w.call("POST", "/nodes/import", nil, in, &out); err != nil || out.Added != 0 || out.Known != 2 {
		t.Errorf("the same again: %+v %v", out, err)
	}
}

// TestImport_audit checks what the audit log holds of an import: no key, and
// not more names than an entry should.
func TestImport_audit(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	entries := len(w.audited())
	var in adminapi.ImportInput
	for i := range 150 {
		in.Nodes = append(in.Nodes, adminapi.ImportNode{HostIdentifier: fmt.Sprintf("host-%03d", i), NodeKey: importKey(i)})
	}
	in.Nodes[7].NodeKey = "too-short"
	if err := w.call("POST", "/nodes/import", nil, in, nil); err != nil {
		t.Fatal(err)
	}
	log := w.audited()
	e := log[0]
	if len(log) != entries+1 || e.Action != "node.import" || e.Target != "149 nodes" || !strings.Contains(e.Detail, `"nodes":149,"refused":1`) {
		t.Errorf("%+v", e)
	}
	if n := strings.Count(e.Detail, "host-"); n != 100 || strings.Contains(e.Detail, "key-") || strings.Contains(e.Detail, "too-short") || strings.Contains(e.Detail, "host-007") {
		t.Errorf("%d names in %s", n, e.Detail)
	}
	bad := adminapi.ImportInput{Nodes: []adminapi.ImportNode{{HostIdentifier: "h", NodeKey: "short"}}}
	if err := w.call("POST", "/nodes/import", nil, bad, nil); err != nil || len(w.audited()) != entries+1 {
		t.Errorf("an import of nothing is in the audit log: %v", err)
	}
	for what, n := range map[string]int{"none": 0, "too many": 1001} {
		if err := w.call("POST", "/nodes/import", nil, adminapi.ImportInput{Nodes: make([]adminapi.ImportNode, n)}, nil); adminapi.Status(err) != 422 {
			t.Errorf("%s: %v", what, err)
		}
	}
}
