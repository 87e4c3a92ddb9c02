package account

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// TestBuiltin: Muster's own roles are such as others may be, and together they can
// do everything.
func TestBuiltin(t *testing.T) {
	t.Parallel()
	given := map[Permission]bool{}
	for _, r := range Builtin() {
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		if r.Description == "" || !slices.IsSorted(r.Permissions) {
			t.Errorf("%+v", r)
		}
		for _, p := range r.Permissions {
			given[p] = true
		}
	}
	for _, p := range Permissions() {
		if !given[p] {
			t.Errorf("no role gives %s", p)
		}
	}
}

func TestNewRole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec  Scope
		field string // of the error
		want  string // permissions
	}{
		{Scope{Permissions: []string{"node.read", "live.*"}}, "", "live.approve live.read live.run live.run_saved node.read"},
		{Scope{Permissions: []string{"live.run"}, Selector: "tag = edge", LiveTier: new(2), MaxNodes: 5}, "", "live.run live.run_saved"},
		{Scope{Permissions: []string{"change.approve", "change.write"}}, "", "change.approve change.write"},
		{Scope{}, "permissions", ""},
		{Scope{Permissions: []string{"node.reed"}}, "permissions", ""},
		{Scope{Permissions: []string{"self"}}, "permissions", ""},
		{Scope{Permissions: []string{"*"}}, "permissions", ""}, // approves, and governs
		{Scope{Permissions: []string{"govern.write", "live.approve"}}, "permissions", ""},
		{Scope{Permissions: []string{"node.read"}, Selector: "tag ="}, "selector", ""},
		{Scope{Permissions: []string{"node.read", "audit.read"}, Selector: "tag = edge"}, "selector", ""},
		{Scope{Permissions: []string{"node.read"}, RowTier: new(4)}, "row_tier", ""},
		{Scope{Permissions: []string{"node.read"}, LiveTier: new(-1)}, "live_tier", ""},
		{Scope{Permissions: []string{"node.read"}, MaxNodes: -1}, "max_nodes", ""},
	} {
		r, err := NewRole("r", "", c.spec)
		if c.field != "" {
			if e, ok := errors.AsType[*errs.Error](err); !ok || e.Field != c.field {
				t.Errorf("%+v: %v", c.spec, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c.spec, err)
			continue
		}
		if got := strings.ReplaceAll(words(r.Permissions), ", ", " "); got != c.want || r.RowTier != DefaultTier {
			t.Errorf("%+v: %s", c.spec, got)
		}
	}
	_, err := NewRole(Admin, "", Scope{Permissions: []string{"node.read"}})
	if e, ok := errors.AsType[*errs.Error](err); !ok || e.Field != "name" {
		t.Errorf("the name of one of Muster's own: %v", err)
	}
}

func role(t *testing.T, s Scope) *Role {
	t.Helper()
	r, err := NewRole("r", "", s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func identity(id, tag string) *node.Identity {
	return &node.Identity{ID: id, Hostname: id, Tags: []string{tag}}
}

// TestAccess: roles add up for each node, and a token's scope takes away.
func TestAccess(t *testing.T) {
	t.Parallel()
	edge, core := identity("e", "edge"), identity("c", "core")
	a := NewAccess([]*Role{
		role(t, Scope{Permissions: []string{"node.read", "event.read"}, RowTier: new(1)}),
		role(t, Scope{Permissions: []string{"live.run", "event.read"}, Selector: "tag = edge", LiveTier: new(2), RowTier: new(3), MaxNodes: 2}),
	})
	if !a.May(LiveRun) || a.Everywhere(LiveRun) || !a.Everywhere(NodeRead) || a.May(NodeWrite) || !a.May(Self) || (Access{}).May(NodeRead) || !(Access{}).May(Public) {
		t.Error("permissions")
	}
	if !a.On(LiveRun, edge) || a.On(LiveRun, core) || a.On(LiveRun, nil) || !a.On(NodeRead, nil) || !a.On(NodeRead, core) {
		t.Error("nodes")
	}
	for n, want := range map[*node.Identity]policy.Tier{edge: 3, core: 1, nil: 1} {
		if got, ok := a.RowTier(EventRead, n); !ok || got != want {
			t.Errorf("rows of %+v: %v, %v", n, got, ok)
		}
	}
	if _, ok := a.RowTier(LiveRead, edge); ok {
		t.Error("rows without a permission")
	}
	for _, c := range []struct {
		tier  policy.Tier
		nodes []*node.Identity
		want  string
	}{
		{2, []*node.Identity{edge}, ""},
		{3, []*node.Identity{edge}, "tier 3"},
		{0, []*node.Identity{edge, core}, "ask c texts"},
		{0, []*node.Identity{edge, core, identity("d", "core")}, "2 nodes at once, not 3"},
	} {
		err := a.Ask(LiveRun, c.tier, c.nodes)
		if (err == nil) != (c.want == "") || err != nil && (!errs.Is(err, errs.Forbidden) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	few := a.Narrow(role(t, Scope{Permissions: []string{"live.run", "node.write"}, Selector: "id = e*", LiveTier: new(1), MaxNodes: 1}))
	if few.May(NodeRead) || few.May(NodeWrite) || !few.On(LiveRun, edge) || few.On(LiveRun, identity("f", "edge")) || few.On(LiveRun, core) ||
		few.Ask(LiveRun, 2, []*node.Identity{edge}) == nil || few.Ask(LiveRun, 1, []*node.Identity{edge}) != nil ||
		few.Ask(LiveRun, 0, []*node.Identity{edge, identity("e2", "edge")}) == nil {
		t.Errorf("%+v", few)
	}
}

// TestUsers: roles and disabling hold at once, and somebody who can let others in
// is always left.
func TestUsers(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	ctx := t.Context()
	for _, u := range []User{{ID: "1", Name: "ada", Roles: first()}, {ID: "2", Name: "bob", Roles: []string{Analyst}}} {
		s.users[u.Name] = u
	}
	secret, _, err := a.Open(ctx, s.users["bob"], Bearer, Origin{Address: "192.0.2.1", Agent: strings.Repeat("é", 500)})
	if err != nil {
		t.Fatal(err)
	}
	see := func() Session {
		t.Helper()
		session, err := a.Session(ctx, Bearer, secret)
		if err != nil {
			t.Fatal(err)
		}
		session.Roles = s.users["bob"].Roles // as the store joins them
		session.Access = a.access(session.Roles)
		return session
	}
	if b := see(); b.May(NodeWrite) || !b.May(NodeRead) || len(b.Agent) > 200 {
		t.Errorf("%+v", b)
	}
	if _, err := a.SetRoles(ctx, "bob", []string{"nobody"}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	for _, f := range []func() error{
		func() error { _, err := a.Disable(ctx, "ada"); return err },
		func() error { _, err := a.SetRoles(ctx, "ada", []string{Operator}); return err },
	} {
		if err := f(); !errs.Is(err, errs.Conflict) {
			t.Errorf("nobody is left: %v", err)
		}
	}
	if u, err := a.SetRoles(ctx, "bob", []string{Admin, Analyst, Admin}); err != nil || !slices.Equal(u.Roles, []string{Admin, Analyst}) || !see().May(NodeWrite) {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := a.Disable(ctx, "ada"); err != nil || s.users["ada"].Is(Admin) {
		t.Error(err)
	}
	if _, err := a.Disable(ctx, "bob"); !errs.Is(err, errs.Conflict) {
		t.Errorf("the last one: %v", err)
	}
	if _, err := a.Enable(ctx, "ada"); err != nil || !s.users["ada"].Is(Admin) {
		t.Error(err)
	}
	list, err := a.Sessions(ctx, s.users["bob"])
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if err := a.EndSession(ctx, s.users["ada"], list[0].ID); !errs.Is(err, errs.NotFound) {
		t.Errorf("another's session: %v", err)
	}
	if err := a.EndSession(ctx, s.users["bob"], list[0].ID); err != nil {
		t.Error(err)
	}
	if _, err := a.Session(ctx, Bearer, secret); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("an ended session: %v", err)
	}
}
