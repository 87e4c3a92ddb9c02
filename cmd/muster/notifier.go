package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newNotifierCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "notifier", Short: "See who is told of alerts, test it, and look after what could not be told", Args: noArgs, RunE: help,
		Long: `A notifier is where alerts are told: PagerDuty, mail, a chat, or any URL. It is a
resource: write it, and muster apply it. Its secrets are files in the server's
secrets_dir, or variables of its environment; the resource names them.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newNotifierListCommand(&t), newNotifierTestCommand(&t), newNotifierDeadCommand(&t), newNotifierRetryCommand(&t))
	return cmd
}

func newNotifierListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List notifiers, and what waits for them", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.Notifier{}
			if err := t.call(cmd, http.MethodGet, "/notifiers", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, n := range list {
				way := n.Way
				if !n.Served {
					way = "(gone)"
				}
				rows = append(rows, []string{
					n.Name, way, wordOf(n.Default), n.MinSeverity, strconv.Itoa(n.Waiting), strconv.Itoa(n.Dead), n.Target, n.Description,
				})
			}
			return o.list(cmd, list, []string{"NAME", "WAY", "DEFAULT", "FROM", "WAITING", "DEAD", "TARGET", "DESCRIPTION"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	o.watch(cmd)
	return cmd
}

func newNotifierTestCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "test NOTIFIER", Short: "Tell a notifier that this is a test, and print what the other side said", Args: oneArg("the name of a notifier"),
		Long: `Tell a notifier that this is a test, by the way that alerts take, once and at once.
What the other side said is printed; where it could not be told, why. PagerDuty's
incident of a test is resolved right after.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var a adminapi.NotifierAnswer
			if err := t.call(cmd, http.MethodPost, "/notifiers/"+url.PathEscape(args[0])+"/test", nil, struct{}{}, &a); err != nil {
				if adminapi.Status(err) == http.StatusBadRequest {
					return &exit{exitFailed, err} // nothing was wrong with what was typed
				}
				return err
			}
			return o.document(cmd, a, func() error {
				took := time.Duration(a.Took * float64(time.Millisecond)).Round(time.Millisecond)
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s (%s)\n", printable(a.Answer), took)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newNotifierDeadCommand(t *target) *cobra.Command {
	var o output
	var notifier, state string
	var limit int
	cmd := &cobra.Command{
		Use: "dead", Short: "List dead letters: what notifiers could not be told", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.AlertNotification{}
			query := url.Values{"state": {state}, "limit": {strconv.Itoa(limit)}}
			if notifier != "" {
				query.Set("notifier", notifier)
			}
			if err := t.call(cmd, http.MethodGet, "/notifications", query, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, n := range list {
				rows = append(rows, []string{
					strconv.FormatInt(n.Seq, 10), n.Notifier, n.Action, ago(n.CreatedAt), strconv.Itoa(n.Attempts), n.AlertID, n.AlertTitle, n.Error,
				})
			}
			return o.list(cmd, list, []string{"SEQ", "NOTIFIER", "ACTION", "SINCE", "FAILED", "ALERT", "TITLE", "ERROR"}, rows)
		},
	}
	o.lists(cmd, "SEQ")
	cmd.Flags().StringVar(&notifier, "notifier", "", "of this one alone")
	cmd.Flags().StringVar(&state, "state", "dead", "dead, waiting or delivered")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most, the newest") //nolint:mnd // a page
	return cmd
}

func newNotifierRetryCommand(t *target) *cobra.Command {
	var o output
	var notifier string
	cmd := &cobra.Command{
		Use: "retry (SEQ… | --notifier NAME)", Short: "Have dead letters told again",
		Example: `  muster notifier retry 7 8
  muster notifier retry --notifier oncall`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := adminapi.RetryInput{Notifier: notifier}
			for _, arg := range args {
				n, err := strconv.ParseInt(arg, 10, 64)
				if err != nil {
					return usagef("%q is no number of a dead letter; muster notifier dead shows them", arg)
				}
				in.Seqs = append(in.Seqs, n)
			}
			if (notifier == "") == (len(in.Seqs) == 0) {
				return usagef("say which: numbers from muster notifier dead, or --notifier NAME for all of one")
			}
			var r adminapi.Retried
			if err := t.call(cmd, http.MethodPost, "/notifications/retry", nil, in, &r); err != nil {
				return err
			}
			return o.document(cmd, r, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d are told again\n", r.Notifications)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&notifier, "notifier", "", "all dead letters of this one")
	return cmd
}
