package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Explain and check the server's settings", Args: noArgs, RunE: help}
	cmd.AddCommand(newConfigKeysCommand(), newConfigCheckCommand(), newConfigShowCommand())
	return cmd
}

func newConfigKeysCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "keys", Short: "List all settings with their defaults", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printKeys(cmd, &o, config.Keys()) },
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	return cmd
}

func printKeys(cmd *cobra.Command, o *output, keys []config.Key) error {
	rows := make([][]string, 0, len(keys))
	for _, k := range keys {
		rows = append(rows, []string{k.Name, "--" + k.Flag, k.Env, k.Default, k.Doc})
	}
	return o.list(cmd, keys, []string{"KEY", "FLAG", "VARIABLE", "DEFAULT", "MEANING"}, rows)
}

func newConfigCheckCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "check", Short: "Check a configuration without starting", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--config is missing")
			}
			cfg, err := config.Load(file, os.LookupEnv, nil)
			if err != nil {
				return &exit{exitFailed, err}
			}
			if _, err := agentapi.ParseAliases(cfg.AgentAliases); err != nil {
				return &exit{exitFailed, fmt.Errorf("agent_aliases: %w", err)}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", file)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "file of settings, YAML")
	return cmd
}

const configShowLong = `Show what the settings come to.

aliases  the paths under which agents find each endpoint, those of other managers
         included. agent_aliases says which; PATH=ENDPOINT adds one of your own, in
         which a segment in braces stands for any.
limits   what the server takes at most from agents.`

func newConfigShowCommand() *cobra.Command {
	var file string
	var o output
	cmd := &cobra.Command{
		Use: "show aliases|limits", Short: "Show what the settings come to", Long: configShowLong, Args: oneArg("aliases or limits"),
		Example: "  muster config show aliases --config muster.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(file, os.LookupEnv, nil)
			if err != nil {
				return &exit{exitFailed, err}
			}
			switch args[0] {
			case "aliases":
				return showAliases(cmd, &o, cfg)
			case "limits":
				return showLimits(cmd, &o, cfg)
			}
			return usagef("%q is nothing to show; use aliases or limits", args[0])
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	cmd.Flags().StringVar(&file, "config", "", "file of settings, YAML; the defaults if empty")
	return cmd
}

func showAliases(cmd *cobra.Command, o *output, cfg config.Server) error {
	aliases, err := agentapi.ParseAliases(cfg.AgentAliases)
	if err != nil {
		return &exit{exitFailed, fmt.Errorf("agent_aliases: %w", err)}
	}
	all := make([]agentapi.Alias, 0, len(aliases)+len(agentapi.Endpoints()))
	for _, e := range agentapi.Endpoints() {
		all = append(all, agentapi.Alias{Preset: "muster", Path: agentapi.Canonical + string(e), Endpoint: e})
	}
	for _, a := range aliases {
		if a.Preset == "" {
			a.Preset = "own"
		}
		all = append(all, a)
	}
	rows := make([][]string, 0, len(all))
	for _, a := range all {
		rows = append(rows, []string{a.Path, string(a.Endpoint), a.Preset})
	}
	return o.list(cmd, all, []string{"PATH", "ENDPOINT", "PRESET"}, rows)
}

// limit is a setting that bounds something, with its value in force.
type limit struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Doc   string `json:"doc"`
}

func showLimits(cmd *cobra.Command, o *output, cfg config.Server) error {
	limits, rows := []limit{}, [][]string{}
	for _, k := range config.Keys() {
		if strings.HasPrefix(k.Name, "limit_") || k.Name == "stream_max_bytes" {
			l := limit{k.Name, cfg.Text(k.Name), k.Doc}
			limits, rows = append(limits, l), append(rows, []string{l.Key, l.Value, l.Doc})
		}
	}
	return o.list(cmd, limits, []string{"KEY", "VALUE", "MEANING"}, rows)
}
