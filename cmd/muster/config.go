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
	cmd.AddCommand(newConfigKeysCommand(), newConfigCheckCommand(), newConfigShowCommand(), newConfigExplainCommand())
	return cmd
}

func newConfigKeysCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "keys", Short: "List all settings with their defaults", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return printKeys(cmd, &o, config.Keys()) },
	}
	o.lists(cmd, "KEY")
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
	return &cobra.Command{
		Use: "check FILE", Short: "Check a configuration without starting", Args: oneArg("a file of settings"),
		Long: `Check a file of settings, with the MUSTER_ variables that are set beside it. All that
is wrong is told, each with its line. Exit code 1 says that something is.`,
		Example: "  muster config check /etc/muster/muster.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0], os.LookupEnv, nil)
			if err != nil {
				return &exit{exitFailed, err}
			}
			if _, err := agentapi.ParseAliases(cfg.AgentAliases); err != nil {
				return &exit{exitFailed, fmt.Errorf("agent_aliases: %w", err)}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", args[0])
			return err
		},
	}
}

func newConfigExplainCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "explain KEY", Short: "Explain one setting: its type, bounds, default, and an example", Args: oneArg("a key; see muster config keys"),
		Example: "  muster config explain node_ttl",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := config.Explain(strings.ReplaceAll(strings.TrimLeft(args[0], "-"), "-", "_"))
			if err != nil {
				return &exit{exitNotFound, err}
			}
			return o.document(cmd, e, func() error {
				return printTable(cmd.OutOrStdout(), []string{e.Name, ""}, [][]string{
					{"meaning", e.Doc},
					{"type", e.Type},
					{"bounds", e.Bounds},
					{"default", e.Default},
					{"in the file", e.Example},
					{"flag", "--" + e.Flag},
					{"variable", e.Env},
				})
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

const configShowLong = `Show what the settings come to, and where each value stands: a default, a line of the
file, a variable or a flag. It takes the flags of muster serve. Secrets are masked.

aliases  the paths under which agents find each endpoint, those of other managers
         included. agent_aliases says which; PATH=ENDPOINT adds one of your own, in
         which a segment in braces stands for any.
limits   what the server takes at most from agents.`

func newConfigShowCommand() *cobra.Command {
	var file string
	var changed bool
	var o output
	cmd := &cobra.Command{
		Use: "show [aliases|limits]", Short: "Show what the settings come to, and where each stands", Long: configShowLong,
		Args: cobra.MaximumNArgs(1), ValidArgs: []string{"aliases", "limits"},
		Example: `  muster config show --config muster.yaml --changed
  muster config show aliases --config muster.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return showSettings(cmd, &o, file, changed)
			}
			cfg, err := loadConfig(cmd, file)
			if err != nil {
				return &exit{exitFailed, err}
			}
			switch args[0] {
			case "aliases":
				return showAliases(cmd, &o, cfg)
			case "limits":
				return showLimits(cmd, &o, cfg)
			}
			return usagef("%q is nothing to show; use aliases or limits, or nothing for all settings", args[0])
		},
	}
	o.lists(cmd, "")
	cmd.Flags().StringVar(&file, "config", os.Getenv("MUSTER_CONFIG"), "file of settings, YAML (MUSTER_CONFIG); the defaults if empty")
	cmd.Flags().BoolVar(&changed, "changed", false, "only what is no default")
	addConfigFlags(cmd)
	return cmd
}

// showSettings shows also settings that are wrong, and then fails.
func showSettings(cmd *cobra.Command, o *output, file string, changed bool) error {
	list, wrong := config.Settings(file, os.LookupEnv, configFlags(cmd))
	shown, rows := []config.Setting{}, [][]string{}
	for _, s := range list {
		if changed && s.Origin == config.OriginDefault {
			continue
		}
		shown, rows = append(shown, s), append(rows, []string{s.Key, s.Value, s.Origin})
	}
	if err := o.list(cmd, shown, []string{"KEY", "VALUE", "FROM"}, rows); err != nil {
		return err
	}
	if wrong != nil {
		return &exit{exitFailed, wrong}
	}
	return nil
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
