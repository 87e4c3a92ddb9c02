package main

import (
	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var nodes int
	var fresh bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a server with this machine as its first node", Args: noArgs,
		Long: `Run a server, enrol this machine with it, and print the link to the UI.

The agent is osqueryd if it is on PATH, else Muster's own. Data stay in the data
directory until --fresh. Takes all flags of muster serve.`,
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
			return demo.Run(cmd.Context(), demo.Options{
				Config: cfg, Version: version, Nodes: nodes, Fresh: fresh,
				Out: cmd.OutOrStdout(), Log: newLogger(cmd.ErrOrStderr(), cfg),
			})
		},
	}
	addConfigFlags(cmd)
	cmd.Flags().IntVar(&nodes, "nodes", 0, "simulated nodes besides this machine; what they answer is made up")
	cmd.Flags().BoolVar(&fresh, "fresh", false, "remove the data of the demonstration before")
	return cmd
}
