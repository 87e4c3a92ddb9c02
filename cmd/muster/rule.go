package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newRuleCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "rule", Short: "List rules, and try them on events of the past", Args: noArgs, RunE: help,
		Long: `A rule looks at events as they come, and alerts, asks the node a live query, or
tags it. It is a resource: write it, try it with muster rule test, and muster
apply it. muster policy check FILE finds mistakes without a server.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newRuleListCommand(&t), newRuleShowCommand(&t), newRuleTestCommand(&t))
	return cmd
}

func newRuleListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List rules, how often they matched, and what they cost", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.RuleStatus{}
			if err := t.call(cmd, http.MethodGet, "/rules", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, s := range list {
				last := "never"
				if s.LastMatchAt != nil {
					last = ago(*s.LastMatchAt)
				}
				rows = append(rows, []string{
					s.Name, s.State, s.Severity, number(s.Counts.Evaluated), number(s.Counts.Matched), number(s.Counts.Fired), last,
					costText(s.CostNS), latencyText(s.ToMatch.P50), latencyText(s.ToMatch.P99), latencyText(s.ToMatch.Worst), s.Description,
				})
			}
			return o.list(cmd, list, []string{"NAME", "STATE", "SEVERITY", "EVENTS", "MATCHED", "FIRED", "LAST", "COST", "TO MATCH P50", "P99", "WORST", "DESCRIPTION"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

// costText prints what one event costs.
func costText(ns int64) string {
	if ns == 0 {
		return "-"
	}
	return time.Duration(ns).String()
}

func newRuleShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a rule and how it does", Args: oneArg("the name of a rule"),
		Long: `Show how a rule does since the server started, or since the rule changed. -o json
has what it says as document.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var s adminapi.RuleStatus
			if err := t.call(cmd, http.MethodGet, "/rules/"+url.PathEscape(args[0]), nil, nil, &s); err != nil {
				return err
			}
			return o.document(cmd, s, func() error { return printRule(cmd, s) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func printRule(cmd *cobra.Command, s adminapi.RuleStatus) error {
	c := s.Counts
	rows := [][]string{
		{"Rule", strings.TrimSpace(s.Name + "  " + s.Description)},
		{"State", strings.TrimSpace(s.State + " " + s.Why)},
		{"Severity", s.Severity},
		{"Looks at", strings.Join(append(s.Queries, s.Tables...), ", ")},
		{"Condition", s.Condition},
		{"Events", fmt.Sprintf("%d, of which %d lack something that it looks at", c.Evaluated, c.Unknown)},
		{"Matched", fmt.Sprintf("%d: %d fired, %d suppressed; %d resolved", c.Matched, c.Fired, c.Suppressed, c.Resolved)},
		{"Done", fmt.Sprintf("%d alerted, %d asked, %d tagged; %d refused, %d failed", c.Alerted, c.Asked, c.Tagged, c.Refused, c.Failed)},
		{"Cost", costText(s.CostNS) + " an event, " + (time.Duration(s.SpentMS) * time.Millisecond).String() + " in all"},
		{"To match", latencyWords(s.ToMatch) + " from the event"},
		{"", latencyWords(s.Queued) + " from its arrival"},
	}
	for i, b := range s.Bounds {
		title := ""
		if i == 0 {
			title = "Arrives by"
		}
		rows = append(rows, []string{title, fmt.Sprintf("%s at most, %s on %d %s nodes; matched: %s", time.Duration(b.Seconds)*time.Second, b.Query, b.Nodes, b.Platform, latencyWords(b.ToMatch))})
	}
	if s.LastMatchAt != nil {
		rows = append(rows, []string{"Last match", s.LastMatchAt.Local().Format(time.DateTime)})
	}
	if s.LastErrorAt != nil {
		rows = append(rows, []string{"Last error", s.LastErrorAt.Local().Format(time.DateTime) + " " + s.LastError})
	}
	return printTable(cmd.OutOrStdout(), nil, rows)
}

func latencyWords(l adminapi.RuleLatency) string {
	if l.Samples == 0 {
		return "nothing fired"
	}
	ms := func(n int64) string { return (time.Duration(n) * time.Millisecond).String() }
	return fmt.Sprintf("p50 %s, p99 %s, worst %s of %d", ms(l.P50), ms(l.P99), ms(l.Worst), l.Samples)
}
