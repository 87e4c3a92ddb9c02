package main

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newNodeCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "node", Short: "List, show, tag and remove nodes", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newNodeListCommand(&t), newNodeShowCommand(&t), newNodeTagCommand(&t), newNodeDeleteCommand(&t))
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func newNodeListCommand(t *target) *cobra.Command {
	var o output
	var limit int
	filter := map[string]*string{}
	cmd := &cobra.Command{
		Use: "list", Short: "List nodes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range filter {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			if limit == 0 {
				limit = math.MaxInt
			}
			nodes := []adminapi.Node{}
			err = client.AllNodes(cmd.Context(), query, limit, func(n adminapi.Node) error {
				nodes = append(nodes, n)
				return nil
			})
			if err != nil {
				return err
			}
			rows := make([][]string, 0, len(nodes))
			for _, n := range nodes {
				rows = append(rows, []string{n.ID, n.Hostname, n.Status, ago(n.LastSeen), n.Platform, n.OS, n.OsqueryVersion, n.Address, strings.Join(n.Tags, ",")})
			}
			return o.list(cmd, nodes, []string{"ID", "HOSTNAME", "STATUS", "SEEN", "PLATFORM", "OS", "OSQUERY", "ADDRESS", "TAGS"}, rows)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	f := cmd.Flags()
	for name, usage := range map[string]string{
		"search": "text in hostname, host identifier, address or id", "tag": "only nodes with this tag",
		"platform": "only linux, darwin or windows", "status": "only online or offline", "version": "only this version of osquery",
		"sort": "hostname, platform, os, osquery_version, status, last_seen, enrolled_at or address", "order": "asc or desc",
	} {
		filter[name] = f.String(name, "", usage)
	}
	f.IntVar(&limit, "limit", 0, "most nodes to list; 0 is all")
	return cmd
}

// ago says how long ago something was, for people.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

func newNodeShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show NODE", Short: "Show one node with all that it said of itself", Args: oneArg("a node's id, host identifier or hostname"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			return o.document(cmd, n, func() error { return printNode(cmd, n) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

// findNode returns a node by its id, host identifier or hostname.
func findNode(cmd *cobra.Command, client *adminapi.Client, name string) (n adminapi.NodeDetail, err error) {
	err = client.Call(cmd.Context(), http.MethodGet, "/nodes/"+url.PathEscape(name), nil, nil, &n)
	return n, err
}

func printNode(cmd *cobra.Command, n adminapi.NodeDetail) error {
	rows := [][]string{
		{"id", n.ID},
		{"host identifier", n.HostIdentifier},
		{"hostname", n.Hostname},
		{"status", n.Status + ", seen " + ago(n.LastSeen)},
		{"address", n.Address},
		{"tags", strings.Join(n.Tags, ", ")},
		{"enrolled", n.EnrolledAt.Format(time.RFC3339) + " with secret " + n.EnrollSecret},
		{"enrolments", strconv.Itoa(n.Enrolments)},
	}
	for _, table := range slices.Sorted(maps.Keys(n.Details)) {
		for _, column := range slices.Sorted(maps.Keys(n.Details[table])) {
			rows = append(rows, []string{table + "." + column, n.Details[table][column]})
		}
	}
	return printTable(cmd.OutOrStdout(), []string{"FIELD", "VALUE"}, rows)
}

func newNodeTagCommand(t *target) *cobra.Command {
	var add, remove []string
	cmd := &cobra.Command{
		Use: "tag NODE --add TAG --remove TAG", Short: "Change a node's tags", Args: oneArg("a node's id, host identifier or hostname"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			if len(add)+len(remove) == 0 {
				return usagef("give --add or --remove")
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			tags := slices.DeleteFunc(append(n.Tags, add...), func(tag string) bool { return slices.Contains(remove, tag) })
			if err := client.Call(cmd.Context(), http.MethodPut, "/nodes/"+n.ID+"/tags", nil, adminapi.TagsInput{Tags: tags}, &n.Node); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(n.Tags, " "))
			return err
		},
	}
	cmd.Flags().StringArrayVar(&add, "add", nil, "tag to add")
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "tag to remove")
	return cmd
}

func newNodeDeleteCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "delete NODE", Short: "Remove a node; its key is refused, and it may enrol again as a new node", Args: oneArg("a node's id, host identifier or hostname"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodDelete, "/nodes/"+n.ID, nil, nil, nil)
		},
	}
}
