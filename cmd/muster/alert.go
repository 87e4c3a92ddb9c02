package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newAlertCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "alert", Short: "Look after what rules found", Args: noArgs, RunE: help,
		Long: `An alert is what a rule found about something, and stays one however often the
rule fires: open, then acknowledged by somebody, then resolved; opened again when it
fires again. Whom it is told, muster notifier list shows; what keeps it from being
told, muster silence list.`,
	}
	t.flags(cmd)
	cmd.AddCommand(
		newAlertListCommand(&t), newAlertShowCommand(&t), newAlertTailCommand(&t), newAlertLatencyCommand(&t), newAlertAssignCommand(&t),
		newAlertActCommand(&t, "ack", "acknowledge", "Say that you look after alerts: nobody is reminded of them"),
		newAlertActCommand(&t, "resolve", "resolve", "Say that alerts are over"),
		newAlertActCommand(&t, "reopen", "reopen", "Open alerts that were acknowledged or resolved"),
		newAlertActCommand(&t, "comment", "comment", "Write into alerts' history"),
	)
	return cmd
}

func newAlertListCommand(t *target) *cobra.Command {
	var o output
	var all bool
	var limit int
	filter := map[string]*string{}
	cmd := &cobra.Command{
		Use: "list", Short: "List alerts that are not resolved, those that were opened last first", Args: noArgs,
		Example: `  muster alert list --min-severity high
  muster alert list --node web-1 --all`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit must be at least 1")
			}
			query := values(filter)
			if !all && query.Get("state") == "" {
				query.Set("state", "unresolved")
			}
			list, err := alertPages(cmd, t, query, limit)
			if err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, a := range list {
				rows = append(rows, []string{
					a.ID, a.Severity, alertState(&a), ago(a.OpenedAt), strconv.FormatInt(a.Count, 10), a.Rule, cmp.Or(a.HostIdentifier, a.NodeID, "-"), cmp.Or(a.Assignee, "-"), a.Title,
				})
			}
			return o.list(cmd, list, []string{"ID", "SEVERITY", "STATE", "OPENED", "FIRED", "RULE", "HOST", "ASSIGNEE", "TITLE"}, rows)
		},
	}
	o.lists(cmd, "ID")
	o.watch(cmd)
	for name, usage := range map[string]string{
		"state": "open, acknowledged, resolved or unresolved", "rule": "name of the rule", "node": "id, host identifier or hostname", "assignee": "name of a user",
		"min-severity": "info, low, medium, high or critical, and above", "text": "part of title, host identifier or key",
	} {
		filter[strings.ReplaceAll(name, "-", "_")] = cmd.Flags().String(name, "", usage)
	}
	cmd.Flags().BoolVar(&all, "all", false, "resolved ones, too")
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most") //nolint:mnd // a page
	return cmd
}

// alertPages reads alerts page by page.
func alertPages(cmd *cobra.Command, t *target, query url.Values, limit int) ([]adminapi.Alert, error) {
	const page = 1000
	list := []adminapi.Alert{}
	for limit > len(list) {
		query.Set("limit", strconv.Itoa(min(page, limit-len(list))))
		var p adminapi.AlertPage
		if err := t.call(cmd, http.MethodGet, "/alerts", query, nil, &p); err != nil {
			return nil, err
		}
		list = append(list, p.Alerts...)
		if p.NextCursor == "" {
			break
		}
		query.Set("cursor", p.NextCursor)
	}
	return list, nil
}

func alertState(a *adminapi.Alert) string {
	state := a.State
	if a.SilencedBy != "" {
		state += ", silenced"
	}
	return state
}

const anAlert = "the id of an alert; muster alert list shows them"

func newAlertShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show ALERT", Short: "Show an alert, its newest firings, its history, and who was told", Args: oneArg(anAlert),
		Example: "  muster alert show ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			var a adminapi.AlertDetail
			if err := t.call(cmd, http.MethodGet, "/alerts/"+url.PathEscape(args[0]), nil, nil, &a); err != nil {
				return err
			}
			return o.document(cmd, a, func() error { return printText(cmd.OutOrStdout(), alertText(&a)) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

// alertText is an alert for people.
func alertText(a *adminapi.AlertDetail) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s, %s; fired %d times, the last %s\n", a.Title, a.Severity, alertState(&a.Alert), a.Count, ago(a.LastAt))
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-16s %s\n", name, value)
		}
	}
	line("rule", a.Rule)
	line("key", a.Key)
	line("host", a.HostIdentifier)
	line("node", a.NodeID)
	line("query", a.Query)
	line("assignee", a.Assignee)
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		line("label "+k, a.Labels[k])
	}
	if a.Text != "" {
		fmt.Fprintf(&b, "\n%s\n", a.Text)
	}
	b.WriteString("\nNewest firings:\n")
	for _, s := range a.Samples {
		fmt.Fprintf(&b, "  %s  %s  %s\n", s.At.Format(time.RFC3339), s.Title, s.Columns)
	}
	b.WriteString("\nHistory:\n")
	for _, e := range a.History {
		fmt.Fprintf(&b, "  %s  %s by %s", e.At.Format(time.RFC3339), e.Action, e.Actor)
		if e.Detail != "" {
			fmt.Fprintf(&b, ": %s", strings.ReplaceAll(e.Detail, "\n", "\n    "))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nTold:\n")
	for _, n := range a.Notifications {
		fmt.Fprintf(&b, "  %s\n", notificationText(&n))
	}
	if len(a.Notifications) == 0 {
		b.WriteString("  nobody; muster notifier list shows who is told of what\n")
	}
	return b.String()
}

func notificationText(n *adminapi.AlertNotification) string {
	text := fmt.Sprintf("%s: %s, %s", n.Notifier, n.Action, n.State)
	switch {
	case n.DeliveredAt != nil:
		text += " " + moment(n.DeliveredAt)
	case n.Silence != "":
		text += " until silence " + n.Silence + " ends " + moment(n.DueAt)
	case n.DueAt != nil:
		text += " until " + moment(n.DueAt)
	}
	if n.Error != "" {
		text += fmt.Sprintf("; failed %d times: %s", n.Attempts, n.Error)
	}
	return text
}

// newAlertActCommand makes the commands that do one thing with alerts.
func newAlertActCommand(t *target, verb, path, short string) *cobra.Command {
	var o output
	var in adminapi.AlertComment
	cmd := &cobra.Command{
		Use: verb + " ALERT…", Short: short,
		Example: "  muster alert " + verb + ` ID -m "a test of ours"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs %s; see %[1]s --help", cmd.CommandPath(), anAlert)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if verb == "comment" && in.Comment == "" {
				return usagef("say what to write: -m TEXT")
			}
			return actOnAlerts(cmd, t, &o, args, path, in)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Comment, "message", "m", "", "what to write into the history")
	return cmd
}

// actOnAlerts does one thing with each alert, and tells how they are then.
func actOnAlerts(cmd *cobra.Command, t *target, o *output, ids []string, path string, in any) error {
	done := []adminapi.Alert{}
	rows := [][]string{}
	for _, id := range ids {
		var a adminapi.Alert
		if err := t.call(cmd, http.MethodPost, "/alerts/"+url.PathEscape(id)+"/"+path, nil, in, &a); err != nil {
			return fmt.Errorf("alert %s: %w", id, err)
		}
		done = append(done, a)
		rows = append(rows, []string{a.ID, alertState(&a), cmp.Or(a.Assignee, "-"), a.Title})
	}
	return o.list(cmd, done, []string{"ID", "STATE", "ASSIGNEE", "TITLE"}, rows)
}

func newAlertAssignCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.AlertAssign
	cmd := &cobra.Command{
		Use: "assign ALERT USER", Short: "Say whose an alert is; - for nobody",
		Example: "  muster alert assign ID ada",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 { //nolint:mnd // an alert and a user
				return usagef("%s needs %s, and the name of a user or -", cmd.CommandPath(), anAlert)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Assignee = args[1]; in.Assignee == "-" {
				in.Assignee = ""
			}
			return actOnAlerts(cmd, t, &o, args[:1], "assign", in)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Comment, "message", "m", "", "what to write into the history")
	return cmd
}

func newAlertTailCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "tail", Short: "Print what happens to alerts as it happens", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			err = client.Stream(cmd.Context(), adminapi.AlertStream, func(e adminapi.StreamEvent) (bool, error) {
				if e.Name != adminapi.EventAlert {
					return false, nil
				}
				var u adminapi.AlertUpdate
				if err := json.Unmarshal(e.Data, &u); err != nil {
					return false, err
				}
				return false, printAlertUpdate(cmd, &o, &u)
			})
			if errors.Is(err, context.Canceled) {
				err = nil // somebody pressed Ctrl-C, which is how it ends
			}
			return err
		},
	}
	o.flag(cmd, "table", "ndjson")
	return cmd
}

func printAlertUpdate(cmd *cobra.Command, o *output, u *adminapi.AlertUpdate) error {
	if o.form == "ndjson" {
		return printLine(cmd.OutOrStdout(), u)
	}
	line := fmt.Sprintf("%s  %-12s %-8s %s  %s", u.Entry.At.Local().Format(time.TimeOnly), u.Entry.Action, u.Alert.Severity, u.Alert.ID, u.Alert.Title)
	if u.Alert.HostIdentifier != "" {
		line += " on " + u.Alert.HostIdentifier
	}
	if u.Entry.Detail != "" || u.Entry.Actor != "rule" {
		line += fmt.Sprintf(" (%s: %s)", u.Entry.Actor, u.Entry.Detail)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), printable(line))
	return err
}

func newAlertLatencyCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "latency", Short: "How soon notifiers were told what rules found, by rule and notifier", Args: noArgs,
		Long: `Show how long it took from the event, as its node dates it, until a notifier was
told, within 30 days: half of them, 99 of 100, and the worst; and what part of it was
spent until the event was received, until the rule matched, and until the notifier was
told, which includes how long the notifier waits for more (group_wait).`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.AlertLatency{}
			if err := t.call(cmd, http.MethodGet, "/alerts/latency", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, l := range list {
				rows = append(rows, []string{
					l.Rule, l.Notifier, strconv.Itoa(l.Told), latencyText(l.Total.P50), latencyText(l.Total.P99), latencyText(l.Total.Worst),
					latencyText(l.Received.P99), latencyText(l.Matched.P99), latencyText(l.Delivered.P99),
				})
			}
			return o.list(cmd, list, []string{"RULE", "NOTIFIER", "TOLD", "P50", "P99", "WORST", "RECEIVED P99", "MATCHED P99", "TOLD P99"}, rows)
		},
	}
	o.lists(cmd, "")
	return cmd
}
