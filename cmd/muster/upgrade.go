package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/config"
)

func newUpgradeCommand() *cobra.Command {
	var o output
	var file, dir string
	var check bool
	cmd := &cobra.Command{
		Use: "upgrade --check", Short: "Say what a start of this version would do with a data directory", Args: noArgs,
		Long: `Say what a start of this version would do with a data directory, and whether the
version that ran before can be started again afterwards. It only reads, and the
server may run. muster serve itself does the upgrade.

Exit codes: 0 this version starts with it, 1 it does not.`,
		Example: "  ./muster-new upgrade --check --data-dir /var/lib/muster",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !check {
				return usagef("--check is missing; muster serve itself brings a data directory up to date")
			}
			flags := map[string]string{}
			if dir != "" {
				flags["data-dir"] = dir
			}
			cfg, err := config.Load(file, os.LookupEnv, flags)
			if err != nil {
				return &exit{exitUsage, err}
			}
			u, err := app.CheckUpgrade(cmd.Context(), cfg, version)
			if err != nil {
				return err
			}
			if err := o.document(cmd, u, func() error { return printUpgrade(cmd, u) }); err != nil {
				return err
			}
			if u.Refused() {
				return &exit{exitFailed, fmt.Errorf("this version, %s, does not start with %s", u.Ours, u.DataDir)}
			}
			return nil
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.BoolVar(&check, "check", false, "only look")
	f.StringVar(&file, "config", os.Getenv("MUSTER_CONFIG"), "file of settings, YAML (MUSTER_CONFIG)")
	f.StringVar(&dir, "data-dir", "", "data directory of the server")
	return cmd
}

func printUpgrade(cmd *cobra.Command, u app.Upgrade) error {
	ran := u.Ran
	if ran == "" {
		ran = "not known"
	}
	rows := [][]string{}
	for _, s := range u.Steps {
		rows = append(rows, []string{s.Part, fmt.Sprint(s.Found), fmt.Sprint(s.Known), s.Does})
		if len(s.Steps) > 0 {
			rows = append(rows, []string{"", "", "", strings.Join(s.Steps, ", ")})
		}
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s was last served by %s; this is %s.\n\n", printable(u.DataDir), printable(ran), u.Ours); err != nil {
		return err
	}
	if err := printTable(cmd.OutOrStdout(), []string{"PART", "FOUND", "KNOWN", "A START"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", upgradeAdvice(u))
	return err
}

func upgradeAdvice(u app.Upgrade) string {
	backup := "No backup is known: make one first, with muster backup."
	if !u.Backup.IsZero() {
		backup = "The last backup is from " + u.Backup.Local().Format(time.DateTime) + "."
	}
	switch {
	case u.Refused():
		return "Start the version that wrote it, or restore a backup that this one made."
	case u.Back():
		return "The version that ran before can be started again afterwards. " + backup
	}
	return "There is no way back but a backup. " + backup
}
