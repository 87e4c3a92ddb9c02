package node

import (
	"testing"
	"time"
)

// TestRegistry_revoked: a node whose key was revoked stays, however the news
// and Forget meet.
func TestRegistry_revoked(t *testing.T) {
	t.Parallel()
	revoked := change("1", 2, "a")
	revoked.Key = KeyHash{}
	for name, meanwhile := range map[string]func(*Registry){
		"read while it is forgotten": func(r *Registry) { r.Forget("1") },
		"read before":                func(*Registry) {},
	} {
		s := &store{changes: []Change{change("1", 1, "a")}}
		r := newRegistry(t, s)
		sync1(t, r)
		s.changes = []Change{revoked}
		s.hold = func() { meanwhile(r) }
		sync1(t, r)
		s.hold = nil
		sync1(t, r)
		want(t, known(r, "a", ""), "")
		if r.Lookup("1") == nil {
			t.Errorf("%s: the node is gone", name)
		}
		// It enrols again.
		r.add(Node{ID: "1", Version: 3}, "", hash("b"), time.Now())
		want(t, known(r, "a", "b"), "b=1")
	}
}
