package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

// queryRow is one row of a live query, with whose it is.
type queryRow struct {
	NodeID         string      `json:"node_id"`
	HostIdentifier string      `json:"host_identifier"`
	Columns        osquery.Row `json:"columns"`

	host string // for people
}

// queryError is a node that answered with an error.
type queryError struct {
	NodeID         string `json:"node_id"`
	HostIdentifier string `json:"host_identifier"`
	State          string `json:"state"`
	Message        string `json:"message"`
}

// queryResult is what muster query -o json prints.
type queryResult struct {
	ID     string         `json:"id"`
	Counts map[string]int `json:"counts"`
	Rows   []queryRow     `json:"rows"`
	Errors []queryError   `json:"errors"`
}

func newQueryCommand() *cobra.Command {
	var t target
	var o output
	var s adminapi.Selector
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "query SQL", Short: "Ask nodes a question now and print their rows", Args: oneArg("one SQL text"),
		Long: `Ask nodes a question now. Each node takes it with its next poll; rows are
printed as they arrive. Nothing is asked unless you say whom: --all, --node,
--tag or --where, or several of them, for the nodes that any of them means. Nodes
that have not answered when --wait is over are not asked any more.

--where takes an expression over tag, id, host_identifier, hostname, platform,
os, osquery_version, secret, and what nodes said when they enrolled, as
system_info.hardware_vendor: = != < <= > >= in, and, or, not and parentheses. *
and ? in a value match any text and any letter.

The exit code is 5 when not every node answered.`,
		Example: `  muster query "SELECT name, version FROM os_version" --all
  muster query "SELECT pid, name FROM processes LIMIT 5" --node web-1 -o json
  muster query "SELECT * FROM uptime" --where 'platform = linux and osquery_version < 5.10'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !s.All && len(s.Nodes) == 0 && len(s.Tags) == 0 && s.Where == "" {
				return usagef("say whom to ask: --all, --node, --tag or --where")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			in := adminapi.LiveInput{SQL: args[0], Selector: s, ExpiresSeconds: max(5, int(wait.Seconds()))}
			var started adminapi.Live
			if err := client.Call(cmd.Context(), http.MethodPost, "/live", nil, in, &started); err != nil {
				return err
			}
			return followQuery(cmd, client, &o, started, wait)
		},
	}
	o.flag(cmd, "table", "json", "ndjson", "csv")
	t.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&s.All, "all", false, "ask every node")
	f.StringArrayVar(&s.Nodes, "node", nil, "id, host identifier or hostname of a node; may be repeated")
	f.StringArrayVar(&s.Tags, "tag", nil, "ask nodes with this tag; may be repeated")
	f.StringVar(&s.Where, "where", "", "ask nodes that this expression means")
	f.DurationVar(&wait, "wait", time.Minute, "how long to wait for answers")
	return cmd
}

// stopTimeout bounds the call that stops a query after its time.
const stopTimeout = 10 * time.Second

// followQuery prints rows as they come and stops the query when its time is
// over or the person presses Ctrl-C.
func followQuery(cmd *cobra.Command, client *adminapi.Client, o *output, q adminapi.Live, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), wait)
	defer cancel()
	r := queryPrinter{cmd: cmd, form: o.form, result: queryResult{ID: q.ID, Counts: q.Counts, Rows: []queryRow{}, Errors: []queryError{}}}
	r.note("asked %d nodes (live query %s)", q.Nodes, q.ID)
	err := client.Follow(ctx, q.ID, r.update)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err != nil { // time is over, or Ctrl-C
		stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		if err := client.Call(stopping, http.MethodPost, "/live/"+url.PathEscape(q.ID)+"/stop", nil, nil, nil); err != nil {
			return fmt.Errorf("the live query %s could not be stopped: %w", q.ID, err)
		}
		if err := client.Follow(stopping, q.ID, r.update); err != nil {
			return err
		}
	}
	if err := r.finish(); err != nil {
		return err
	}
	if left := r.unanswered(); left > 0 {
		return &exit{exitPartly, fmt.Errorf("%d of %d nodes did not answer", left, q.Nodes)}
	}
	return nil
}

// queryPrinter collects what a query answers and prints it as the form wants.
type queryPrinter struct {
	cmd    *cobra.Command
	form   string
	result queryResult
	known  map[string]bool // nodes whose answer is in
}

func (r *queryPrinter) note(format string, args ...any) {
	_, _ = fmt.Fprintf(r.cmd.ErrOrStderr(), format+"\n", args...)
}

func (r *queryPrinter) update(u adminapi.LiveUpdate) error {
	if u.Live != nil {
		r.result.Counts = u.Live.Counts
		return nil
	}
	a := u.Answer
	if r.known[a.NodeID] {
		return nil
	}
	if r.known == nil {
		r.known = map[string]bool{}
	}
	r.known[a.NodeID] = true
	if a.State == "failed" || a.State == "denylisted" {
		r.result.Errors = append(r.result.Errors, queryError{a.NodeID, a.HostIdentifier, a.State, a.Message})
		r.note("%s: %s: %s", printable(cmp.Or(a.Hostname, a.HostIdentifier)), a.State, printable(a.Message))
	}
	for _, columns := range a.Rows {
		row := queryRow{a.NodeID, a.HostIdentifier, columns, cmp.Or(a.Hostname, a.HostIdentifier)}
		if r.form == "ndjson" {
			if err := json.NewEncoder(r.cmd.OutOrStdout()).Encode(row); err != nil {
				return err
			}
			continue
		}
		r.result.Rows = append(r.result.Rows, row)
	}
	return nil
}

// unanswered counts the nodes without an answer.
func (r *queryPrinter) unanswered() int {
	n := 0
	for _, state := range []string{"waiting", "sent", "expired", "stopped"} {
		n += r.result.Counts[state]
	}
	return n
}

func (r *queryPrinter) finish() error {
	w := r.cmd.OutOrStdout()
	switch r.form {
	case "json":
		return printJSON(w, r.result)
	case "ndjson":
		return nil
	}
	head := []string{"node"}
	for _, row := range r.result.Rows {
		for _, c := range row.Columns {
			if !slices.Contains(head[1:], c.Name) {
				head = append(head, c.Name)
			}
		}
	}
	rows := make([][]string, 0, len(r.result.Rows))
	for _, row := range r.result.Rows {
		cells := []string{row.host}
		for _, name := range head[1:] {
			value, _ := row.Columns.Get(name)
			cells = append(cells, value)
		}
		rows = append(rows, cells)
	}
	if r.form == "csv" {
		return printCSV(w, head, rows)
	}
	if len(rows) > 0 {
		if err := printTable(w, head, rows); err != nil {
			return err
		}
	}
	r.note("%s", countLine(r.result.Counts, len(rows)))
	return nil
}

func countLine(counts map[string]int, rows int) string {
	parts := []string{fmt.Sprintf("%d rows", rows)}
	for _, state := range []string{"answered", "empty", "over_limit", "failed", "denylisted", "waiting", "sent", "expired", "stopped"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(state, "_", " ")))
		}
	}
	return strings.Join(parts, ", ")
}

func newLiveCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "live", Short: "List and stop live queries", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newLiveListCommand(&t), newLiveStopCommand(&t))
	return cmd
}

func newLiveListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List live queries, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var p adminapi.LivePage
			if err := client.Call(cmd.Context(), http.MethodGet, "/live", nil, nil, &p); err != nil {
				return err
			}
			rows := make([][]string, 0, len(p.Live))
			for _, l := range p.Live {
				rows = append(rows, []string{l.ID, l.State, l.CreatedBy, ago(l.CreatedAt), countLine(l.Counts, l.Rows), l.SQL})
			}
			return o.list(cmd, p.Live, []string{"ID", "STATE", "BY", "STARTED", "NODES", "SQL"}, rows)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	return cmd
}

func newLiveStopCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "stop ID", Short: "Stop a live query; no node takes it any more", Args: oneArg("the id of a live query"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodPost, "/live/"+url.PathEscape(args[0])+"/stop", nil, nil, nil)
		},
	}
}
