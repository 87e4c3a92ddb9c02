package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	cmd := &cobra.Command{Use: "event", Short: "Search, count and follow what nodes logged", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(
		newEventSearchCommand(&t), newEventCountCommand(&t), newEventStateCommand(&t), newEventTailCommand(&t),
		newEventQueriesCommand(&t), newEventStatsCommand(&t), newEventVerifyCommand(),
	)
	return cmd
}

// eventFlags are the flags that say which events.
func eventFlags(cmd *cobra.Command, names ...string) map[string]*string {
	usage := map[string]string{
		"query": "name of the query, or a prefix that ends with *", "node": "id, host identifier or hostname",
		"selector": "the nodes that are so now, as 'tag = web and platform = linux'",
		"since":    "RFC 3339 time, or how long ago, as in 1h or 7d", "until": "RFC 3339 time, or how long ago",
		"action": "added, removed, snapshot or status",
		"where":  `conditions, as in 'path = "/bin/sh" and (pid > 100 or not @tag = web)'; operators = != < <= > >= contains prefix suffix regex in exists; a word alone is found in any column`,
		"width":  "count each group over time in buckets of that width, as 1h; auto chooses one",
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

const (
	// maxPage is the most events that one request answers.
	maxPage = 10_000
	// watchedTime is how long a page may take when somebody looks at the progress.
	watchedTime = "2s"
	// longWhere is how long an expression may be in an address.
	longWhere = 2 << 10
)

func newEventSearchCommand(t *target) *cobra.Command {
	var o output
	var limit int
	var oldest bool
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "search", Short: "Search events, newest first", Args: noArgs,
		Example: `  muster event search --query pack_base_listening_ports --since 1h
  muster event search --node web-1 --where 'name contains ssh' -o json
  muster event search --since 7d --where '"curl http" and @tag = web'
  muster event search --node web-1 --since 1d --oldest      # what happened there`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := values(flags)
			if oldest {
				query.Set("sort", "oldest")
			}
			s := eventSearch{cmd: cmd, client: client, query: query, limit: limit, lines: o.form == "ndjson", width: terminalWidth(cmd.ErrOrStderr())}
			events, err := s.run(cmd.Context())
			if err != nil || o.form == "ndjson" {
				return err
			}
			return printEvents(cmd, &o, events)
		},
	}
	o.flag(cmd, "table", "json", "ndjson", "csv")
	flags = eventFlags(cmd, "query", "node", "selector", "since", "until", "action", "where")
	cmd.Flags().IntVar(&limit, "limit", 100, "most events to print")
	cmd.Flags().BoolVar(&oldest, "oldest", false, "oldest first")
	return cmd
}

// eventSearch asks for page after page.
type eventSearch struct {
	cmd    *cobra.Command
	client *adminapi.Client
	query  url.Values
	limit  int
	lines  bool // are printed as they come, and not kept
	width  int  // of the terminal on which progress is shown; 0 for none
}

func (s *eventSearch) run(ctx context.Context) ([]adminapi.Event, error) {
	events := []adminapi.Event{}
	errOut := s.cmd.ErrOrStderr()
	if s.width > 0 {
		s.query.Set("max_time", watchedTime)
	}
	for n, shown := 0, false; n < s.limit; {
		s.query.Set("limit", strconv.Itoa(min(maxPage, s.limit-n)))
		page, err := s.page(ctx)
		if shown {
			_, _ = io.WriteString(errOut, "\r\x1b[K")
		}
		if err != nil {
			return nil, err
		}
		n += len(page.Events)
		if !s.lines {
			events = append(events, page.Events...)
		} else if err := printLines(s.cmd, page.Events); err != nil {
			return nil, err
		}
		if page.NextCursor == "" {
			break
		}
		s.query.Set("cursor", page.NextCursor)
		if shown = s.width > 0 && page.Progress.Cut; shown {
			text := fmt.Sprintf("searching · %d found · %s", n, reached(page.NextCursor))
			_, _ = io.WriteString(errOut, "\r"+cutTo(text, s.width-1)+"\x1b[K")
		}
	}
	return events, nil
}

func (s *eventSearch) page(ctx context.Context) (page adminapi.EventPage, err error) {
	if len(s.query.Get("where")) <= longWhere {
		return page, s.client.Call(ctx, http.MethodGet, "/events", s.query, nil, &page)
	}
	in := map[string]any{}
	for name := range s.query {
		in[name] = s.query.Get(name)
	}
	if in["limit"], err = strconv.Atoi(s.query.Get("limit")); err != nil {
		return page, err
	}
	return page, s.client.Call(ctx, http.MethodPost, "/events/search", nil, in, &page)
}

// reached says up to when a search has got, which a cursor begins with.
func reached(cursor string) string {
	text, _, _ := strings.Cut(cursor, "-")
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "…"
	}
	return "at " + time.UnixMicro(micros).Local().Format(time.DateTime)
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
		row, err := eventRow(e)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return o.list(cmd, events, []string{"TIME", "HOST", "QUERY", "ACTION", "ROW"}, rows)
}

func eventRow(e adminapi.Event) ([]string, error) {
	cells, err := eventCells(e)
	return []string{e.Time.Local().Format(time.DateTime), cmp.Or(e.Hostname, e.HostIdentifier), e.Query, e.Action, cells}, err
}

// eventCells is a row on one line.
func eventCells(e adminapi.Event) (string, error) {
	var row osquery.Row
	if err := json.Unmarshal(e.Columns, &row); err != nil {
		return "", err
	}
	cells := make([]string, 0, len(row))
	for _, c := range row {
		cells = append(cells, c.Name+"="+c.Value)
	}
	return strings.Join(cells, " "), nil
}

func newEventCountCommand(t *target) *cobra.Command {
	var o output
	var by []string
	var limit int
	var nodes bool
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "count", Short: "Count events by columns and stamps", Args: noArgs,
		Long: `Count events by the values of columns and stamps, the most frequent first. The
rest are counted together. With --width each group is counted over time, too.`,
		Example: `  muster event count --query pack_base_processes --by name --nodes --since 7d
  muster event count --by @query,@action --since 1d              # what the fleet says
  muster event count --by @node --where 'name = xmrig' -o json   # which nodes
  muster event count --query 'pack_base_*' --by @action --width auto -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := values(flags)
			query.Set("limit", strconv.Itoa(limit))
			query.Set("nodes", strconv.FormatBool(nodes))
			if len(by) > 0 {
				query.Set("by", strings.Join(by, ","))
			}
			var groups adminapi.EventGroups
			if err := client.Call(cmd.Context(), http.MethodGet, "/events/count", query, nil, &groups); err != nil {
				return err
			}
			if err := printEventGroups(cmd, &o, groups, nodes); err != nil {
				return err
			}
			return cutError(groups.Progress)
		},
	}
	o.lists(cmd, "")
	flags = eventFlags(cmd, "query", "node", "selector", "since", "until", "action", "where", "width")
	cmd.Flags().StringSliceVar(&by, "by", nil, "columns or stamps, as name or @node,@query; three at most")
	cmd.Flags().IntVar(&limit, "limit", 20, "most groups to print")
	cmd.Flags().BoolVar(&nodes, "nodes", false, "count the distinct nodes of each group, too")
	return cmd
}

// cutError makes the exit code of an answer that is not of all there is.
func cutError(p adminapi.Progress) error {
	if !p.Cut {
		return nil
	}
	return &exit{exitPartly, fmt.Errorf("a limit of time or memory was reached after %d of %d segments; take a shorter time, or narrower conditions", p.SegmentsDone, p.SegmentsTotal)}
}

func printEventGroups(cmd *cobra.Command, o *output, groups adminapi.EventGroups, nodes bool) error {
	head := make([]string, 0, len(groups.By)+3)
	for _, by := range groups.By {
		head = append(head, strings.ToUpper(by))
	}
	head = append(head, "EVENTS")
	if nodes {
		head = append(head, "NODES")
	}
	head = append(head, "LAST")
	rows := make([][]string, 0, len(groups.Groups)+1)
	add := func(values []string, g adminapi.EventGroup, count string) {
		row := append(values, strconv.FormatInt(g.Events, 10))
		if nodes {
			row = append(row, count)
		}
		rows = append(rows, append(row, g.Last.Local().Format(time.DateTime)))
	}
	for _, g := range groups.Groups {
		cells := make([]string, 0, len(head))
		for _, v := range g.Values {
			if v == nil {
				cells = append(cells, "–")
			} else {
				cells = append(cells, *v)
			}
		}
		add(cells, g, strconv.Itoa(g.Nodes))
	}
	if g := groups.Others; g != nil && o.form == "table" {
		cells := make([]string, len(groups.By), len(head))
		if len(cells) > 0 {
			cells[0] = fmt.Sprintf("(%d others)", groups.OtherGroups)
		}
		add(cells, *g, "")
	}
	return o.list(cmd, groups, head, rows)
}

func newEventStateCommand(t *target) *cobra.Command {
	var o output
	var limit int
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "state QUERY", Short: "Print what nodes' last results of a query are", Args: oneArg("the name of a query"),
		Long: `Print the rows that nodes have now: those of their last snapshot, or those that
were added and not removed since. --until tells what they had then.`,
		Example: `  muster event state pack_base_chrome_extensions --where 'identifier = abc'    # which nodes have it now
  muster event state pack_base_users --node web-1 --until 2026-01-31T12:00:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := values(flags)
			query.Set("query", args[0])
			all := adminapi.EventState{Rows: []adminapi.EventStateRow{}}
			for len(all.Rows) < limit {
				query.Set("limit", strconv.Itoa(min(maxPage, limit-len(all.Rows))))
				var page adminapi.EventState
				if err := client.Call(cmd.Context(), http.MethodGet, "/events/state", query, nil, &page); err != nil {
					return err
				}
				page.Rows = append(all.Rows, page.Rows...)
				page.Progress.Cut = page.Progress.Cut || all.Progress.Cut
				if all = page; page.NextCursor == "" {
					break
				}
				query.Set("cursor", page.NextCursor)
			}
			if err := printState(cmd, &o, all); err != nil {
				return err
			}
			if all.NextCursor != "" {
				return &exit{exitPartly, fmt.Errorf("there are more rows, of %d nodes together; see --limit", all.Nodes)}
			}
			return cutError(all.Progress)
		},
	}
	o.lists(cmd, "")
	flags = eventFlags(cmd, "node", "selector", "since", "until", "where")
	cmd.Flags().IntVar(&limit, "limit", 1000, "most rows to print, but for those of the last node")
	return cmd
}

func printState(cmd *cobra.Command, o *output, state adminapi.EventState) error {
	rows := make([][]string, 0, len(state.Rows))
	for _, r := range state.Rows {
		cells, err := eventCells(r.Event)
		if err != nil {
			return err
		}
		partial := ""
		if r.Partial {
			partial = "partial"
		}
		rows = append(rows, []string{cmp.Or(r.Hostname, r.HostIdentifier), r.Time.Local().Format(time.DateTime), partial, cells})
	}
	return o.list(cmd, state, []string{"HOST", "SINCE", "", "ROW"}, rows)
}

func newEventTailCommand(t *target) *cobra.Command {
	var o output
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "tail", Short: "Print events as they arrive, until Ctrl-C", Args: noArgs,
		Long: `Print events as they arrive, until Ctrl-C. Who reads too slowly misses some, and
is told how many on standard error; after a broken connection, too, some may be
missing: search for them.`,
		Example: `  muster event tail --query 'pack_base_*' --where 'not @tag = lab'
  muster event tail --where 'xmrig or stratum' -o ndjson`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			path := "/events/tail"
			if query := values(flags); len(query) > 0 {
				path += "?" + query.Encode()
			}
			err = client.Stream(cmd.Context(), path, func(e adminapi.StreamEvent) (bool, error) { return false, printTail(cmd, &o, e) })
			if errors.Is(err, context.Canceled) { // Ctrl-C is its usual end
				err = nil
			}
			return err
		},
	}
	o.flag(cmd, "table", "ndjson")
	flags = eventFlags(cmd, "query", "node", "selector", "action", "where")
	return cmd
}

func printTail(cmd *cobra.Command, o *output, e adminapi.StreamEvent) error {
	switch e.Name {
	case adminapi.EventsMissed:
		var missed adminapi.EventMissed
		if err := json.Unmarshal(e.Data, &missed); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d events were not looked at, as they came too fast\n", missed.Events)
	case adminapi.EventLogged:
		var event adminapi.Event
		if err := json.Unmarshal(e.Data, &event); err != nil {
			return err
		}
		if o.form == "ndjson" {
			return printLine(cmd.OutOrStdout(), event)
		}
		row, err := eventRow(event)
		if err != nil {
			return err
		}
		for i := range row {
			row[i] = printable(row[i])
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(row, "  "))
		return err
	}
	return nil // of a newer server
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
	o.lists(cmd, "QUERY")
	flags = eventFlags(cmd, "query", "node", "selector", "since", "until")
	return cmd
}
