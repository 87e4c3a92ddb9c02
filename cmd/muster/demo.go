package main

import (
	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var nodes int
	var fresh bool
	var misbehave string
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a server with this machine as its first node", Args: noArgs,
		Long: `Run a server, enrol this machine with it, and print the link to the UI.

The agent is osqueryd if it is on PATH, else Muster's own. Data stay in the data
directory until --fresh. Both agents send files that they are asked for; Muster's
own begins at once, osqueryd at the next full minute. Takes all flags of muster serve.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd, "")
			if err != nil {
				return err
			}
			if f := cmd.Flags(); !f.Changed("data-dir") {
				cfg.DataDir = "data/demo"
			}
			if f := cmd.Flags(); !f.Changed("agent-listen") {
				cfg.AgentListen = "127.0.0.1:8443"
			}
			if f := cmd.Flags(); !f.Changed("log-level") {
				cfg.LogLevel = "warn"
			}
			m, err := agenttest.ParseMisbehaviour(misbehave)
			if err != nil {
				return usagef("--misbehave: %w", err)
			}
			return demo.Run(cmd.Context(), demo.Options{
				Config: cfg, Version: version, Nodes: nodes, Misbehave: m, Fresh: fresh,
				Out: cmd.OutOrStdout(), Log: newLogger(cmd.ErrOrStderr(), cfg),
			})
		},
	}
	addConfigFlags(cmd)
	cmd.Flags().IntVar(&nodes, "nodes", 0, "simulated nodes besides this machine; what they answer is made up")
	cmd.Flags().StringVar(&misbehave, "misbehave", "", misbehaveUsage)
	cmd.Flags().BoolVar(&fresh, "fresh", false, "remove the data of the demonstration before")
	return cmd
}
