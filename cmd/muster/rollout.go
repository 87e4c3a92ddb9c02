package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newRolloutCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "rollout", Short: "Follow and steer how a revision reaches the nodes", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newRolloutStatusCommand(&t), newRolloutListCommand(&t))
	for verb, short := range map[string]string{
		"advance":  "Go to the next stage, whatever the gates say",
		"pause":    "Stay at the stage",
		"resume":   "Go on with the stage; its bake time begins anew",
		"rollback": "Go back: all nodes get the former revision at once",
	} {
		cmd.AddCommand(newRolloutMoveCommand(&t, verb, short))
	}
	return cmd
}

func newRolloutStatusCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "status", Short: "The rollout that is open: its stage, its nodes, and what its gates say", Args: noArgs,
		Long: "Show the rollout that is open. Exit code 4: there is none, and all nodes have the newest revision.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r adminapi.Rollout
			if err := t.call(cmd, http.MethodGet, "/rollouts/current", nil, nil, &r); err != nil {
				return err
			}
			return o.document(cmd, r, func() error { return printRollout(cmd, r) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

func printRollout(cmd *cobra.Command, r adminapi.Rollout) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Revision %d instead of %d, by %s: %s", r.Revision, r.Base, r.Policy, r.State)
	if r.Reason != "" {
		fmt.Fprintf(&b, " (%s)", r.Reason)
	}
	b.WriteString("\n")
	if r.Frozen != "" {
		fmt.Fprintf(&b, "No stage begins while changes are frozen: %s\n", r.Frozen)
	}
	for i, s := range r.Stages {
		mark := "  "
		switch {
		case i < r.Stage || r.State == "done":
			mark = "✓ "
		case i == r.Stage:
			mark = "▶ "
		}
		fmt.Fprintf(&b, "%s%s, bakes %s", mark, s.Name, time.Duration(s.BakeSeconds)*time.Second)
		if i == r.Stage {
			fmt.Fprintf(&b, ", since %s", ago(r.StageAt))
		}
		b.WriteString("\n")
	}
	if c := r.Counts; c != nil {
		fmt.Fprintf(&b, "%d nodes admitted, %d online, %d told that they run it; %d online nodes run the former one.\n", c.Admitted, c.Online, c.Applied, c.Control)
	}
	for _, g := range r.Results {
		state := "ok"
		switch {
		case g.Waiting:
			state = "waiting"
		case !g.OK:
			state = "FAILED"
		}
		fmt.Fprintf(&b, "gate %s: %s: %s\n", g.Gate, state, g.Message)
		if !g.OK && len(g.Nodes) > 0 {
			fmt.Fprintf(&b, "    nodes: %s\n", strings.Join(g.Nodes, ", "))
		}
	}
	return printText(cmd.OutOrStdout(), b.String())
}

func newRolloutListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List rollouts, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l adminapi.RolloutList
			if err := t.call(cmd, http.MethodGet, "/rollouts", nil, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Rollouts))
			for _, r := range l.Rollouts {
				rows = append(rows, []string{
					number(r.Revision), number(r.Base), r.State, fmt.Sprintf("%d of %d", r.Stage+1, len(r.Stages)), r.Policy,
					moment(&r.StartedAt), moment(r.EndedAt), oneLine(r.Reason),
				})
			}
			return o.list(cmd, l.Rollouts, []string{"REVISION", "BASE", "STATE", "STAGE", "POLICY", "STARTED", "ENDED", "REASON"}, rows)
		},
	}
	o.lists(cmd, "REVISION")
	o.watch(cmd)
	return cmd
}

func newRolloutMoveCommand(t *target, verb, short string) *cobra.Command {
	var o output
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: verb, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r adminapi.Rollout
			if err := t.call(cmd, http.MethodPost, "/rollouts/current/"+verb, nil, in, &r); err != nil {
				return err
			}
			return o.document(cmd, r, func() error { return printRollout(cmd, r) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why; it is kept with the rollout")
	return cmd
}
