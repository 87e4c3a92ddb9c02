package account

import (
	"fmt"
	"slices"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Access is what a caller may do at this moment: by roles, each narrowed by the
// scope of the token that calls. The zero Access may do nothing. It never
// changes: safe for concurrent use.
type Access struct{ grants []grant }

// grant is one role, as far as it reaches.
type grant struct {
	permissions []Permission // sorted
	where       []*node.Where
	Limits
}

func (g *grant) has(p Permission) bool {
	_, ok := slices.BinarySearch(g.permissions, p)
	return ok
}

func (g *grant) means(n *node.Identity) bool {
	return !slices.ContainsFunc(g.where, func(w *node.Where) bool { return !w.Match(n) })
}

// NewAccess returns what the holder of some roles may do.
func NewAccess(roles []*Role) Access {
	var a Access
	for _, r := range roles {
		g := grant{permissions: r.Permissions, Limits: r.Limits}
		if r.Where != nil {
			g.where = []*node.Where{r.Where}
		}
		a.grants = append(a.grants, g)
	}
	return a
}

// Narrow returns what is left of an access within a scope: a token can do less
// than who made it, never more, and follows their roles.
func (a Access) Narrow(scope *Role) Access {
	var out Access
	for _, g := range a.grants {
		var left []Permission
		for _, p := range g.permissions {
			if scope.has(p) {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			continue
		}
		n := grant{permissions: left, where: slices.Clone(g.where), Limits: g.within(scope.Limits)}
		if scope.Where != nil {
			n.where = append(n.where, scope.Where)
		}
		out.grants = append(out.grants, n)
	}
	return out
}

func (l Limits) within(m Limits) Limits {
	nodes := max(l.MaxNodes, m.MaxNodes)
	if l.MaxNodes > 0 && m.MaxNodes > 0 {
		nodes = min(l.MaxNodes, m.MaxNodes)
	}
	return Limits{min(l.LiveTier, m.LiveTier), min(l.ScheduleTier, m.ScheduleTier), min(l.RowTier, m.RowTier), nodes}
}

// with are the grants that have a permission.
func (a Access) with(p Permission) []grant {
	return slices.DeleteFunc(slices.Clone(a.grants), func(g grant) bool { return !g.has(p) })
}

// May reports whether the caller has a permission, be it for some nodes alone.
func (a Access) May(p Permission) bool {
	return p == Public || p == Self || slices.ContainsFunc(a.grants, func(g grant) bool { return g.has(p) })
}

// Everywhere reports whether the caller has a permission for all nodes.
func (a Access) Everywhere(p Permission) bool {
	return p == Public || p == Self || slices.ContainsFunc(a.grants, func(g grant) bool { return g.has(p) && len(g.where) == 0 })
}

// On reports whether the caller has a permission for a node; nil is one that is
// gone, which takes a permission for all.
func (a Access) On(p Permission, n *node.Identity) bool {
	if n == nil {
		return a.Everywhere(p)
	}
	return slices.ContainsFunc(a.grants, func(g grant) bool { return g.has(p) && g.means(n) })
}

// Permissions returns all that the caller has, be it for some nodes alone.
func (a Access) Permissions() []Permission {
	return slices.DeleteFunc(Permissions(), func(p Permission) bool { return !a.May(p) })
}

// RowTier returns up to which tier of queries the caller may read the rows of a
// node that a permission is for; false without one.
func (a Access) RowTier(p Permission, n *node.Identity) (policy.Tier, bool) {
	return a.reach(p, n, func(l Limits) policy.Tier { return l.RowTier })
}

// ScheduleTier returns the highest tier of what the caller may bring to agents by
// a change.
func (a Access) ScheduleTier() policy.Tier {
	t, _ := a.reach(ChangeWrite, nil, func(l Limits) policy.Tier { return l.ScheduleTier })
	return t
}

// reach returns the highest of some limit, of the grants of a permission for a
// node, or for all if it is nil.
func (a Access) reach(p Permission, n *node.Identity, of func(Limits) policy.Tier) (highest policy.Tier, ok bool) {
	for _, g := range a.grants {
		if g.has(p) && (n == nil && len(g.where) == 0 || n != nil && g.means(n)) {
			highest, ok = max(highest, of(g.Limits)), true
		}
	}
	return highest, ok
}

// Ask reports why the caller may not ask some nodes a text of a tier; nil if they
// may. p is LiveRun, or what stands for it.
func (a Access) Ask(p Permission, tier policy.Tier, nodes []*node.Identity) error {
	grants := a.with(p)
	if len(grants) == 0 {
		return errs.New(errs.Forbidden, "this needs the permission %s", p)
	}
	able := slices.DeleteFunc(grants, func(g grant) bool { return g.LiveTier < tier })
	if len(able) == 0 {
		return errs.New(errs.Forbidden, "your roles do not let you ask texts of tier %s", tier)
	}
	most := 0
	for _, g := range able {
		if g.MaxNodes == 0 {
			most = 0
			break
		}
		most = max(most, g.MaxNodes)
	}
	if most > 0 && len(nodes) > most {
		return errs.New(errs.Forbidden, "your roles let you ask %d nodes at once, not %d; narrow the selector", most, len(nodes))
	}
	var first *node.Identity
	beyond := 0
	for _, n := range nodes {
		if !slices.ContainsFunc(able, func(g grant) bool { return g.means(n) }) {
			beyond++
			if first == nil {
				first = n
			}
		}
	}
	if beyond == 0 {
		return nil
	}
	who := first.Hostname
	if beyond > 1 {
		who += fmt.Sprintf(" and %d more", beyond-1)
	}
	return errs.New(errs.Forbidden, "your roles do not let you ask %s texts of tier %s", who, tier)
}
