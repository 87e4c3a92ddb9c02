package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

func newEventCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "event", Short: "Search what nodes logged", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newEventSearchCommand(&t), newEventQueriesCommand(&t))
	return cmd
}

// eventFlags are the flags that say which events.
func eventFlags(cmd *cobra.Command, names ...string) map[string]*string {
	usage := map[string]string{
		"query": "name of the query, or a prefix that ends with *", "node": "id, host identifier or hostname",
		"since": "RFC 3339 time, or how long ago, as in 1h or 7d", "until": "RFC 3339 time, or how long ago",
		"action": "added, removed, snapshot or status",
		"where":  `conditions joined by and, as in 'path = "/bin/sh" and pid > 100'; operators = != < <= > >= contains prefix exists`,
	}
	values := map[string]*string{}
	for _, n := range names {
		values[n] = cmd.Flags().String(n, "", usage[n])
	}
	return values
}

func values(flags map[string]*string) url.Values {
	query := url.Values{}
	for name, value := range flags {
		if *value != "" {
			query.Set(name, *value)
		}
	}
	return query
}

// maxPage is the most events that one request answers.
const maxPage = 10_000

func newEventSearchCommand(t *target) *cobra.Command {
	var o output
	var limit int
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "search", Short: "Search events, newest first", Args: noArgs,
		Example: `  muster event search --query pack_base_listening_ports --since 1h
  muster event search --node web-1 --where 'name contains ssh' -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			events := []adminapi.Event{}
			query := values(flags)
			for len(events) < limit {
				query.Set("limit", strconv.Itoa(min(maxPage, limit-len(events))))
				var page adminapi.EventPage
				if err := client.Call(cmd.Context(), http.MethodGet, "/events", query, nil, &page); err != nil {
					return err
				}
				if o.form == "ndjson" {
					if err := printLines(cmd, page.Events); err != nil {
						return err
					}
				}
				events = append(events, page.Events...)
				if page.NextCursor == "" {
					break
				}
				query.Set("cursor", page.NextCursor)
			}
			if o.form == "ndjson" {
				return nil
			}
			return printEvents(cmd, &o, events)
		},
	}
	o.flag(cmd, "table", "json", "ndjson", "csv")
	flags = eventFlags(cmd, "query", "node", "since", "until", "action", "where")
	cmd.Flags().IntVar(&limit, "limit", 100, "most events to print")
	return cmd
}

func printLines(cmd *cobra.Command, events []adminapi.Event) error {
	for _, event := range events {
		if err := printLine(cmd.OutOrStdout(), event); err != nil {
			return err
		}
	}
	return nil
}

func printEvents(cmd *cobra.Command, o *output, events []adminapi.Event) error {
	rows := make([][]string, 0, len(events))
	for _, e := range events {
		var row osquery.Row
		if err := json.Unmarshal(e.Columns, &row); err != nil {
			return err
		}
		cells := make([]string, 0, len(row))
		for _, c := range row {
			cells = append(cells, c.Name+"="+c.Value)
		}
		rows = append(rows, []string{
			e.Time.Local().Format(time.DateTime), cmp.Or(e.Hostname, e.HostIdentifier), e.Query, e.Action, strings.Join(cells, " "),
		})
	}
	return o.list(cmd, events, []string{"TIME", "HOST", "QUERY", "ACTION", "ROW"}, rows)
}

func newEventQueriesCommand(t *target) *cobra.Command {
	var o output
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "queries", Short: "Count events per query", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var q adminapi.EventQueries
			if err := client.Call(cmd.Context(), http.MethodGet, "/events/queries", values(flags), nil, &q); err != nil {
				return err
			}
			rows := make([][]string, 0, len(q.Queries))
			for _, s := range q.Queries {
				rows = append(rows, []string{s.Query, strconv.Itoa(s.Count), s.Last.Local().Format(time.DateTime)})
			}
			return o.list(cmd, q.Queries, []string{"QUERY", "EVENTS", "LAST"}, rows)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	flags = eventFlags(cmd, "query", "node", "since", "until")
	return cmd
}
