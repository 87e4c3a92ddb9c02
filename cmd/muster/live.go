package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

const aLive = "the id of a live query"

func newLiveCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "live", Short: "List, show, compare, approve, resume and stop live queries", Args: noArgs, RunE: help,
		Example: `  muster live list --mine
  muster live show ID --nodes --state failed
  muster live results ID --where 'uid = 0' --sort name
  muster live stop --all -m "wrong query"`,
	}
	t.flags(cmd)
	cmd.AddCommand(
		newLiveListCommand(&t), newLiveShowCommand(&t), newLiveResultsCommand(&t), newLiveCompareCommand(&t),
		newLiveStopCommand(&t), newLiveResumeCommand(&t), newLiveApproveCommand(&t), newLiveRejectCommand(&t),
		newLiveBoundCommand(&t),
	)
	return cmd
}

func livePath(id string, more ...string) string {
	return strings.Join(append([]string{"/live/" + url.PathEscape(id)}, more...), "/")
}

func newLiveListCommand(t *target) *cobra.Command {
	var o output
	var mine bool
	var by, kind, state, text string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List live queries, newest first", Args: noArgs,
		Example: `  muster live list
  muster live list --mine --state running
  muster live list --kind enrollment -o json
  muster live list --text authorized_keys --limit 500`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"created_by": by, "kind": kind, "state": state, "text": text} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if mine {
				me, err := whoAmI(cmd, client)
				if err != nil {
					return err
				}
				query.Set("created_by", me)
			}
			list, err := liveList(cmd, client, query, limit)
			if err != nil {
				return err
			}
			return o.list(cmd, list, []string{"ID", "STATE", "KIND", "BY", "STARTED", "NODES", "SQL"}, liveRows(list))
		},
	}
	o.lists(cmd, "ID")
	o.watch(cmd)
	f := cmd.Flags()
	f.BoolVar(&mine, "mine", false, "only yours")
	f.StringVar(&by, "by", "", "only those of this person")
	f.StringVar(&kind, "kind", "", "only those asked by a person, enrollment, trigger or carve")
	f.StringVar(&state, "state", "", "only pending, running, done, expired, stopped, rejected or over_limit ones")
	f.StringVar(&text, "text", "", "only those with this in their SQL")
	f.IntVar(&limit, "limit", 100, "most live queries to list")
	return cmd
}

// whoAmI returns the name of the person that is logged in.
func whoAmI(cmd *cobra.Command, client *adminapi.Client) (string, error) {
	var me adminapi.Session
	err := client.Call(cmd.Context(), http.MethodGet, "/session", nil, nil, &me)
	return me.Username, err
}

// livePageSize is the most live queries that one request answers.
const livePageSize = 1000

func liveList(cmd *cobra.Command, client *adminapi.Client, query url.Values, limit int) ([]adminapi.Live, error) {
	list := []adminapi.Live{}
	for len(list) < limit {
		query.Set("limit", strconv.Itoa(min(livePageSize, limit-len(list))))
		var p adminapi.LivePage
		if err := client.Call(cmd.Context(), http.MethodGet, "/live", query, nil, &p); err != nil {
			return nil, err
		}
		list = append(list, p.Live...)
		if p.NextCursor == "" {
			break
		}
		query.Set("cursor", p.NextCursor)
	}
	return list, nil
}

func liveRows(list []adminapi.Live) [][]string {
	rows := make([][]string, 0, len(list))
	for _, q := range list {
		state := q.State
		if q.Held != "" && state == liveRunning {
			state = "HELD"
		}
		rows = append(rows, []string{q.ID, state, cmp.Or(q.Kind, "person"), cmp.Or(q.Source, q.CreatedBy), ago(q.CreatedAt), countLine(q.Counts, q.Rows), oneLine(q.SQL)})
	}
	return rows
}

func newLiveShowCommand(t *target) *cobra.Command {
	var o output
	var nodes bool
	var state string
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a live query: its nodes by state, latency, limits, approval", Args: oneArg(aLive),
		Long: `Show a live query. With --nodes, list its nodes with what became of each; -o csv
and -o json are for programs.`,
		Example: `  muster live show ID
  muster live show ID --nodes --state waiting
  muster live show ID --nodes -o csv > nodes.csv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			if nodes || state != "" {
				return showLiveNodes(cmd, client, &o, args[0], state)
			}
			if o.form == "csv" {
				return usagef("-o csv is for --nodes")
			}
			var q adminapi.Live
			if err := client.Call(cmd.Context(), http.MethodGet, livePath(args[0]), nil, nil, &q); err != nil {
				return err
			}
			return o.document(cmd, q, func() error { return printText(cmd.OutOrStdout(), liveText(q)) })
		},
	}
	o.lists(cmd, "")
	o.watch(cmd)
	cmd.Flags().BoolVar(&nodes, "nodes", false, "list its nodes")
	cmd.Flags().StringVar(&state, "state", "", "only nodes that are waiting, sent, answered, empty, failed, denylisted, expired, stopped or over_limit")
	return cmd
}

func liveText(q adminapi.Live) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		if value := fmt.Sprintf(format, args...); value != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name, value)
		}
	}
	line("id", "%s", q.ID)
	line("state", "%s", q.State)
	if q.Held != "" {
		line("", "%s", heldText(q))
	}
	if q.State == livePending {
		line("", "%s", pendingText(q.ID))
	}
	line("asked by", "%s", strings.TrimSpace(q.CreatedBy+" "+q.Kind+" "+q.Source))
	line("reason", "%s", q.Reason)
	line("tier", "%d", q.Tier)
	line("asked at", "%s (%s)", moment(&q.CreatedAt), ago(q.CreatedAt))
	if q.NotBefore != nil {
		line("not before", "%s", moment(q.NotBefore))
	}
	if q.ExpiresAt != nil {
		line("expires", "%s", moment(q.ExpiresAt))
	}
	if q.EndedAt != nil {
		line("ended", "%s", moment(q.EndedAt))
	}
	if a := q.Approval; a.By != "" {
		line("decided by", "%s, %s", a.By, moment(a.At))
	}
	line("nodes", "%d: %s", q.Nodes, countLine(q.Counts, q.Rows))
	if l := q.Latency; l != nil {
		line("answers", "first after %s, p50 %s, p95 %s", brief(millis(l.FirstMs)), brief(millis(l.P50Ms)), brief(millis(l.P95Ms)))
	}
	if l := q.Limits; l != (adminapi.LiveLimits{}) {
		line("limits", "%d rows and %d bytes a node, %d rows and %d bytes in all", l.RowsPerNode, l.BytesPerNode, l.Rows, l.Bytes)
	}
	if q.Truncated {
		line("", "%s", "CUT: there were more rows than are kept")
	}
	line("repeats", "%s", q.RerunOf)
	line("sql", "%s", q.SQL)
	return b.String()
}

func showLiveNodes(cmd *cobra.Command, client *adminapi.Client, o *output, id, state string) error {
	list := []adminapi.LiveAnswer{}
	query := url.Values{"limit": {strconv.Itoa(livePageSize)}}
	if state != "" {
		query.Set("state", state)
	}
	for {
		var p adminapi.LiveAnswers
		if err := client.Call(cmd.Context(), http.MethodGet, livePath(id, "answers"), query, nil, &p); err != nil {
			return err
		}
		list = append(list, p.Answers...)
		if p.NextCursor == "" {
			break
		}
		query.Set("cursor", p.NextCursor)
	}
	rows := make([][]string, 0, len(list))
	for _, a := range list {
		marks := ""
		if a.Late {
			marks += " late"
		}
		if a.Cut {
			marks += " cut"
		}
		rows = append(rows, []string{a.NodeID, answerHost(&a), a.State + marks, moment(a.SentAt), moment(a.AnsweredAt), strconv.Itoa(a.Attempts), strconv.Itoa(len(a.Rows)), a.Message})
	}
	return o.list(cmd, list, []string{"NODE", "HOSTNAME", "STATE", "SENT", "ANSWERED", "ATTEMPTS", "ROWS", "MESSAGE"}, rows)
}

func newLiveStopCommand(t *target) *cobra.Command {
	var all, yes bool
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: "stop ID | --all", Short: "Stop a live query, or all of them; no node takes it any more",
		Example: `  muster live stop ID
  muster live stop --all -m "hosts are slow" --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) != all && len(args) < 2 {
				return nil
			}
			return usagef("%s needs %s, or --all; see %[1]s --help", cmd.CommandPath(), aLive)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			if !all {
				return client.Call(cmd.Context(), http.MethodPost, livePath(args[0], "stop"), nil, nil, nil)
			}
			if in.Reason == "" {
				return usagef("say why all live queries are stopped: -m REASON")
			}
			if err := confirm(cmd, yes, "Stop ALL live queries, also those of other people?"); err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodPost, "/live/stop", nil, in, nil)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "stop every live query, of everybody")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why, for --all")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func newLiveResumeCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "resume ID", Short: "Go on with a live query that is held since too many nodes failed", Args: oneArg(aLive),
		Long: `Go on with a live query whose delivery stands still since too many of its nodes
failed. Look at them before: muster live show ID --nodes --state failed.`,
		Example: "  muster live resume ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.call(cmd, http.MethodPost, livePath(args[0], "resume"), nil, nil, nil)
		},
	}
}

func newLiveApproveCommand(t *target) *cobra.Command {
	var o output
	var passwordFile string
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Approve somebody else's live query", Args: oneArg(aLive),
		Long: `Approve somebody else's live query. It is shown first. Your password is asked for
once more, since a token alone approves nothing.`,
		Example: `  muster live approve ID
  muster live approve ID --password-file pw -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var q adminapi.Live
			if err := client.Call(cmd.Context(), http.MethodGet, livePath(args[0]), nil, nil, &q); err != nil {
				return err
			}
			if o.form == "table" {
				if err := printText(cmd.ErrOrStderr(), liveText(q)); err != nil {
					return err
				}
			}
			password, err := readPassword(cmd, passwordFile)
			if err != nil {
				return err
			}
			in := struct {
				Password string `json:"password"`
			}{password}
			if err := client.Call(cmd.Context(), http.MethodPost, livePath(args[0], "approve"), nil, in, &q); err != nil {
				return err
			}
			return o.document(cmd, q, func() error {
				return printText(cmd.OutOrStdout(), fmt.Sprintf("live query %s is %s; follow it: muster live show %[1]s\n", q.ID, q.State))
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds your password; asked for at the terminal if empty")
	return cmd
}

func newLiveRejectCommand(t *target) *cobra.Command {
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: "reject ID", Short: "Reject a live query that waits for a second person", Args: oneArg(aLive),
		Example: `  muster live reject ID -m "ask five nodes first"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Reason == "" {
				return usagef("say why: -m REASON")
			}
			return t.call(cmd, http.MethodPost, livePath(args[0], "reject"), nil, in, nil)
		},
	}
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why")
	return cmd
}
