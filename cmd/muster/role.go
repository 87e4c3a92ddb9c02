package main

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newRoleCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "role", Short: "Roles: what there are, and what each lets one do", Args: noArgs, RunE: help,
		Long: `Show roles and permissions. Roles of your own are resources (kind Role): apply
them as any other. muster user roles gives them to people.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newRoleListCommand(&t), newRolePermissionsCommand(&t))
	return cmd
}

func newRoleListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List roles, Muster's own first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []adminapi.Role
			if err := t.call(cmd, http.MethodGet, "/roles", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, r := range list {
				nodes, most := "all", "any"
				if r.Selector != "" {
					nodes = r.Selector
				}
				if r.MaxNodes > 0 {
					most = strconv.Itoa(r.MaxNodes)
				}
				rows = append(rows, []string{
					r.Name, nodes, strconv.Itoa(r.LiveTier), strconv.Itoa(r.ScheduleTier), strconv.Itoa(r.RowTier), most, strconv.Itoa(len(r.Permissions)), r.Description,
				})
			}
			return o.list(cmd, list, []string{"NAME", "NODES", "LIVE", "SCHEDULE", "ROWS", "AT ONCE", "PERMISSIONS", "DESCRIPTION"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

func newRolePermissionsCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "permissions", Short: "List permissions, and the roles that give each", Args: noArgs,
		Long: "List permissions, and the roles that give each. -o json has the routes of the API that need it, too.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []adminapi.PermissionInfo
			if err := t.call(cmd, http.MethodGet, "/permissions", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, p := range list {
				rows = append(rows, []string{p.Name, strings.Join(p.Roles, ", "), strconv.Itoa(len(p.Routes))})
			}
			return o.list(cmd, list, []string{"NAME", "ROLES", "ROUTES"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}
