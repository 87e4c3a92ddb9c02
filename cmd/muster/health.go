package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newHealthCommand() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "health", Short: "How nodes fare: what is wrong with how many", Args: noArgs,
		Long: `How nodes fare, as far as a server can see it: how many findings of each kind are
open. muster finding list shows them; muster node health NODE those of one node.`,
		Example: `  muster health
  muster finding list --open --kind offline
  muster node health web-1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var h adminapi.Health
			if err := t.call(cmd, http.MethodGet, "/health", nil, nil, &h); err != nil {
				return err
			}
			rows := [][]string{}
			for _, kind := range slices.Sorted(maps.Keys(h.Open)) {
				rows = append(rows, []string{kind, strconv.Itoa(h.Open[kind])})
			}
			if len(rows) == 0 && o.form == "table" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "Nothing is wrong with any node.")
				return err
			}
			return o.list(cmd, h, []string{"FINDING", "NODES"}, rows)
		},
	}
	t.flags(cmd)
	o.lists(cmd, "FINDING")
	o.watch(cmd)
	return cmd
}

func newFindingCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "finding", Short: "What was found about nodes", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newFindingListCommand(&t))
	return cmd
}

// findingPage is how many findings are asked for at a time.
const findingPage = 1000

func newFindingListCommand(t *target) *cobra.Command {
	var o output
	var nodeName, kind string
	var open bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List findings, newest first", Args: noArgs,
		Example: `  muster finding list --open
  muster finding list --node web-1 --kind query_denylisted`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"node": nodeName, "kind": kind} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if open {
				query.Set("open", "true")
			}
			list := []adminapi.NodeFinding{}
			for len(list) < limit {
				query.Set("limit", strconv.Itoa(min(findingPage, limit-len(list))))
				var p adminapi.NodeFindings
				if err := client.Call(cmd.Context(), http.MethodGet, "/findings", query, nil, &p); err != nil {
					return err
				}
				list = append(list, p.Findings...)
				if p.NextCursor == "" {
					break
				}
				query.Set("cursor", p.NextCursor)
			}
			return o.list(cmd, list, findingHead(), findingRows(list))
		},
	}
	o.lists(cmd, "")
	o.watch(cmd)
	cmd.Flags().StringVar(&nodeName, "node", "", "those about this node: "+aNode)
	cmd.Flags().StringVar(&kind, "kind", "", "those of this kind, as offline")
	cmd.Flags().BoolVar(&open, "open", false, "only those that are open")
	cmd.Flags().IntVar(&limit, "limit", 100, "most findings to print")
	return cmd
}

func findingHead() []string {
	return []string{"OPENED", "CLOSED", "NODE", "KIND", "SEVERITY", "SUBJECT", "TEXT"}
}

func findingRows(list []adminapi.NodeFinding) [][]string {
	rows := make([][]string, 0, len(list))
	for _, f := range list {
		closed := "open"
		if f.ClosedAt != nil {
			closed = moment(f.ClosedAt)
		}
		name := f.Hostname
		if name == "" {
			name = f.NodeID
		}
		rows = append(rows, []string{moment(&f.OpenedAt), closed, name, f.Kind, f.Severity, f.Subject, f.Text})
	}
	return rows
}

func newNodeHealthCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "health NODE", Short: "How a node fares: findings, and whether its watchdog can bite", Args: oneArg(aNode),
		Example: "  muster node health web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			var h adminapi.NodeHealthDocument
			if err := t.call(cmd, http.MethodGet, "/nodes/"+url.PathEscape(args[0])+"/health", nil, nil, &h); err != nil {
				return err
			}
			return o.document(cmd, h, func() error {
				watchdog := "not known: the node did not tell its flags"
				if h.Watchdog != nil {
					watchdog = h.Watchdog.Why
				}
				if err := printText(cmd.OutOrStdout(), "watchdog    "+watchdog+"\n"); err != nil {
					return err
				}
				if len(h.Recent) == 0 {
					return printText(cmd.OutOrStdout(), "findings    none\n")
				}
				return printTable(cmd.OutOrStdout(), findingHead(), findingRows(h.Recent))
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}
