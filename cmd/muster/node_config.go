package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/resource"
)

func newNodeConfigCommand(t *target) *cobra.Command {
	var o output
	var revision int64
	cmd := &cobra.Command{
		Use: "config NODE", Short: "What a node is to run, and which object each part comes from", Args: oneArg(aNode),
		Example: "  muster node config web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if revision > 0 {
				query.Set("revision", strconv.FormatInt(revision, 10))
			}
			var c adminapi.NodeConfig
			if err := t.call(cmd, http.MethodGet, "/nodes/"+url.PathEscape(args[0])+"/config", query, nil, &c); err != nil {
				return err
			}
			if o.form == "raw" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), string(c.Config))
				return err
			}
			return o.document(cmd, c, func() error { return printNodeConfig(cmd, c) })
		},
	}
	o.flag(cmd, "table", "json", "yaml", "raw")
	cmd.Flags().Int64Var(&revision, "revision", 0, "what it would run under this revision; what it is served now if it is not given")
	return cmd
}

func printNodeConfig(cmd *cobra.Command, c adminapi.NodeConfig) error {
	text := fmt.Sprintf("Revision %d, config_hash %s\n", c.Revision, c.Hash)
	switch {
	case c.Bare != "":
		text += "The node gets the settings alone: " + c.Bare + ".\n"
	case c.OnDisk:
		text += "The node takes its config from files; the server answers it an empty one.\n"
	}
	switch c.Reported {
	case "":
		text += "The node has not told which config it runs since the server started.\n"
	case c.Hash:
		text += "The node told that it runs this config.\n"
	default:
		text += "The node told that it runs another config: " + c.Reported + ".\n"
	}
	if err := printText(cmd.OutOrStdout(), text+"\n"); err != nil {
		return err
	}
	rows := make([][]string, 0, len(c.Sources))
	for _, s := range c.Sources {
		rows = append(rows, []string{s.Path, s.Source.String(), lost(s)})
	}
	if err := printTable(cmd.OutOrStdout(), []string{"PART", "FROM", "INSTEAD OF"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "\nThe config itself: -o raw, or -o json.")
	return err
}

func lost(e resource.Entry) string {
	words := make([]string, 0, len(e.Lost))
	for _, k := range e.Lost {
		words = append(words, k.String())
	}
	return strings.Join(words, ", ")
}

// printActivity prints what a node was served and asked.
func printActivity(cmd *cobra.Command, o *output, a adminapi.NodeActivity) error {
	rows := make([][]string, 0, len(a.Entries))
	for _, e := range a.Entries {
		var what string
		switch e.Kind {
		case "config":
			what = fmt.Sprintf("config of revision %d: %s", e.Revision, oneLine(e.Message))
		case "live_query":
			what = oneLine(e.SQL)
		default:
			what = oneLine(e.Message)
		}
		rows = append(rows, []string{moment(&e.Time), e.Kind, e.By, e.State, what})
	}
	return o.list(cmd, a.Entries, []string{"TIME", "KIND", "BY", "STATE", "WHAT"}, rows)
}

func newNodeDriftCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "drift", Short: "Which nodes run another config than they should", Args: noArgs,
		Long: `List the nodes that told a config_hash other than that of the config that they
should run: they have not asked yet, somebody set another config on the host, or
their files are old. Exit code 1 if there are any.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d adminapi.Drift
			if err := t.call(cmd, http.MethodGet, "/drift", nil, nil, &d); err != nil {
				return err
			}
			rows := make([][]string, 0, len(d.Nodes))
			for _, n := range d.Nodes {
				from := "server"
				if n.OnDisk {
					from = "files"
				}
				rows = append(rows, []string{n.NodeID, n.Hostname, from, number(n.Revision), short(n.Hash), short(n.Reported), moment(&n.At)})
			}
			err := o.document(cmd, d, func() error {
				return printTable(cmd.OutOrStdout(), []string{"ID", "HOSTNAME", "CONFIG FROM", "REVISION", "SHOULD RUN", "RUNS", "TOLD AT"}, rows)
			})
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d drifted, %d right, %d have not told since the server started.\n", d.Drifted, d.Right, d.Unknown)
			if d.Drifted > 0 {
				return &exit{exitFailed, fmt.Errorf("%d nodes run another config than they should", d.Drifted)}
			}
			return nil
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

// short shortens a hash for people.
func short(hash string) string { return hash[:min(12, len(hash))] }
