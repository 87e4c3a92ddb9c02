package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/config"
)

func newSilenceCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "silence", Short: "Keep alerts from being told for a time", Args: noArgs, RunE: help,
		Long: `A silence keeps alerts that fit from being told until it ends. They open all the
same, and what is still open then is told then.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newSilenceListCommand(&t), newSilenceCreateCommand(&t), newSilenceDeleteCommand(&t))
	return cmd
}

func newSilenceListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List silences that hold, or will", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.Silence{}
			if err := t.call(cmd, http.MethodGet, "/silences", nil, nil, &list); err != nil {
				return err
			}
			return printSilences(cmd, &o, list, list)
		},
	}
	o.lists(cmd, "ID")
	return cmd
}

func printSilences(cmd *cobra.Command, o *output, document any, list []adminapi.Silence) error {
	rows := make([][]string, 0, len(list))
	for _, s := range list {
		begins := "holds"
		if !s.Active {
			begins = "from " + s.StartsAt.Format(time.RFC3339)
		}
		if s.EndedBy != "" {
			begins = "ended by " + s.EndedBy
		}
		rows = append(rows, []string{s.ID, begins, s.ExpiresAt.Format(time.RFC3339), strconv.Itoa(s.Alerts), strings.Join(s.Match, " and "), s.CreatedBy, s.Comment})
	}
	return o.list(cmd, document, []string{"ID", "STATE", "UNTIL", "ALERTS", "MATCH", "BY", "COMMENT"}, rows)
}

func newSilenceCreateCommand(t *target) *cobra.Command {
	var o output
	var expires, begins string
	var in adminapi.SilenceInput
	cmd := &cobra.Command{
		Use: "create CONDITION… --for DURATION -m WHY", Short: "Keep alerts from being told",
		Long: `Keep alerts from being told while all conditions hold of them. Conditions are as
  rule = ssh-*          title, key and query, too; * is any text, ? any letter
  severity <= medium    or >=
  node = web-1          its id or host identifier
  label.team != web`,
		Example: `  muster silence create 'node = web-*' 'severity <= medium' --for 2h -m "kernel update"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("say which alerts, as 'rule = ssh-*' or 'node = web-1'; see muster silence create --help")
			case expires == "":
				return usagef("say for how long: --for 2h")
			case in.Comment == "":
				return usagef("say why: -m TEXT")
			}
			in.Match = args
			from := time.Now()
			if begins != "" {
				at, err := time.Parse(time.RFC3339, begins)
				if err != nil {
					return usagef("--from: %q is no time; write it as 2026-01-31T20:00:00Z", begins)
				}
				from, in.StartsAt = at, &at
			}
			d, err := config.ParseDuration(expires)
			if err != nil {
				return usagef("--for: %w", err)
			}
			in.ExpiresAt = from.Add(d)
			var made adminapi.Silence
			if err := t.call(cmd, http.MethodPost, "/silences", nil, in, &made); err != nil {
				return err
			}
			return printSilences(cmd, &o, made, []adminapi.Silence{made})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&expires, "for", "", "how long, as in 2h or 7d, at most 90d")
	cmd.Flags().StringVar(&begins, "from", "", "when it begins, RFC 3339; now if empty")
	cmd.Flags().StringVarP(&in.Comment, "message", "m", "", "why")
	return cmd
}

func newSilenceDeleteCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "delete SILENCE", Short: "End a silence: what is open and was not told is told now", Args: oneArg("the id of a silence; muster silence list shows them"),
		Example: "  muster silence delete ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			var ended adminapi.Silence
			if err := t.call(cmd, http.MethodDelete, "/silences/"+url.PathEscape(args[0]), nil, nil, &ended); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "Silence %s is over.\n", printable(ended.ID))
			return err
		},
	}
}
