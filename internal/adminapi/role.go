package adminapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/musterhq/muster/internal/account"
)

func (a *API) registerRoles() {
	register(a, account.Self, http.MethodGet, "/roles", "List roles: Muster's own, then those that are resources", a.listRoles)
	register(a, account.Self, http.MethodGet, "/permissions", "List permissions, and which routes need each", a.listPermissions)
}

// Role is a role as it holds now.
type Role struct {
	Name         string   `json:"name"`
	Description  string   `json:"description"`
	BuiltIn      bool     `json:"built_in" doc:"Muster's own; others are resources"`
	Permissions  []string `json:"permissions"`
	Selector     string   `json:"selector" doc:"Nodes that it is about; empty for all"`
	LiveTier     int      `json:"live_tier" doc:"Highest tier of live queries"`
	ScheduleTier int      `json:"schedule_tier" doc:"Highest tier of what a change may bring to agents"`
	RowTier      int      `json:"row_tier" doc:"Highest tier of queries whose rows may be read"`
	MaxNodes     int      `json:"max_nodes" doc:"How many nodes a live query may ask; 0 for any number"`
}

func (a *API) listRoles(context.Context, *none) (*body[[]Role], error) {
	builtIn := len(account.Builtin())
	out := []Role{}
	for i, r := range a.Catalog.Plan().Newest().Roles() {
		d := Role{
			Name: r.Name, Description: r.Description, BuiltIn: i < builtIn, Permissions: []string{},
			LiveTier: int(r.LiveTier), ScheduleTier: int(r.ScheduleTier), RowTier: int(r.RowTier), MaxNodes: r.MaxNodes,
		}
		for _, p := range r.Permissions {
			d.Permissions = append(d.Permissions, string(p))
		}
		if r.Where != nil {
			d.Selector = r.Where.String()
		}
		out = append(out, d)
	}
	return &body[[]Role]{out}, nil
}

// PermissionInfo is a permission, and what it opens.
type PermissionInfo struct {
	Name   string   `json:"name"`
	Routes []string `json:"routes" doc:"As GET /api/v1/nodes"`
	Roles  []string `json:"roles" doc:"Roles that give it"`
}

func (a *API) listPermissions(context.Context, *none) (*body[[]PermissionInfo], error) {
	roles := a.Catalog.Plan().Newest().Roles()
	out := []PermissionInfo{}
	for _, p := range account.Permissions() {
		info := PermissionInfo{Name: string(p), Routes: []string{}, Roles: []string{}}
		for _, r := range a.routes {
			if r.Permission == p {
				info.Routes = append(info.Routes, r.Method+" "+r.Path)
			}
		}
		for _, r := range roles {
			if slices.Contains(r.Permissions, p) {
				info.Roles = append(info.Roles, r.Name)
			}
		}
		out = append(out, info)
	}
	return &body[[]PermissionInfo]{out}, nil
}
