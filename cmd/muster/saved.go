package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newSavedCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "saved", Short: "List, save and remove queries that people ask again", Args: noArgs, RunE: help,
		Example: `  muster saved list
  muster saved save listeners --sql "SELECT * FROM listening_ports" -m "who listens"
  muster query --saved listeners --tag web`,
	}
	t.flags(cmd)
	cmd.AddCommand(newSavedListCommand(&t), newSavedSaveCommand(&t), newSavedRemoveCommand(&t))
	return cmd
}

func savedQueries(cmd *cobra.Command, client *adminapi.Client) ([]adminapi.SavedQuery, error) {
	var list adminapi.SavedQueries
	err := client.Call(cmd.Context(), http.MethodGet, "/saved-queries", nil, nil, &list)
	return list.SavedQueries, err
}

func findSaved(cmd *cobra.Command, client *adminapi.Client, name string) (adminapi.SavedQuery, error) {
	list, err := savedQueries(cmd, client)
	if err != nil {
		return adminapi.SavedQuery{}, err
	}
	for _, s := range list {
		if s.Name == name {
			return s, nil
		}
	}
	return adminapi.SavedQuery{}, &exit{exitNotFound, fmt.Errorf("no saved query is called %s; see muster saved list", name)}
}

func newSavedListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List saved queries", Args: noArgs,
		Example: `  muster saved list
  muster saved list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			list, err := savedQueries(cmd, client)
			if err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, s := range list {
				rows = append(rows, []string{s.Name, s.UpdatedBy, moment(&s.UpdatedAt), oneLine(s.Description), oneLine(s.SQL)})
			}
			return o.list(cmd, list, []string{"NAME", "BY", "AT", "DESCRIPTION", "SQL"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

func newSavedSaveCommand(t *target) *cobra.Command {
	var o output
	var file string
	var in adminapi.SavedQueryInput
	var s adminapi.Selector
	cmd := &cobra.Command{
		Use: "save NAME (--sql TEXT | --file FILE)", Short: "Save a query under a name, or change it", Args: oneArg("a name"),
		Long: `Save a query under a name, for you and others. With --all, --node, --tag or
--where it also says whom muster query --saved asks.`,
		Example: `  muster saved save listeners --sql "SELECT * FROM listening_ports" -m "who listens"
  muster saved save kernel --file kernel.sql --where 'platform = linux'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (in.SQL == "") == (file == "") {
				return usagef("give --sql TEXT or --file FILE, - for standard input")
			}
			if file != "" {
				b, err := readAll(cmd, file)
				if err != nil {
					return usagef("--file: %w", err)
				}
				in.SQL = strings.TrimSpace(string(b))
			}
			if !nobody(s) {
				in.Selector = &s
			}
			var out adminapi.SavedQuery
			if err := t.call(cmd, http.MethodPut, "/saved-queries/"+url.PathEscape(args[0]), nil, in, &out); err != nil {
				return err
			}
			return o.document(cmd, out, func() error {
				return printText(cmd.OutOrStdout(), fmt.Sprintf("saved; ask it: muster query --saved %s\n", shellQuoted(out.Name)))
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&in.SQL, "sql", "", "the text")
	f.StringVar(&file, "file", "", "file with the text; - is standard input")
	f.StringVarP(&in.Description, "message", "m", "", "what it is for")
	f.BoolVar(&s.All, "all", false, "it asks every node")
	f.StringArrayVar(&s.Nodes, "node", nil, "it asks this node; may be repeated")
	f.StringArrayVar(&s.Tags, "tag", nil, "it asks nodes with this tag; may be repeated")
	f.StringVar(&s.Where, "where", "", "it asks nodes that this expression means")
	return cmd
}

func newSavedRemoveCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a saved query", Args: oneArg("the name of a saved query"),
		Example: "  muster saved rm listeners",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.call(cmd, http.MethodDelete, "/saved-queries/"+url.PathEscape(args[0]), nil, nil, nil)
		},
	}
}
