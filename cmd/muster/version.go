package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// Set by the linker: -X main.version=… -X main.commit=….
var (
	version = "0.1.0-dev"
	commit  = "unknown" //nolint:gochecknoglobals // the linker sets variables only
)

func newVersionCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version and commit of this binary", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"version": version, "commit": commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			return o.document(cmd, v, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "muster %s (commit %s, %s, %s)\n", version, commit, v["go"], v["platform"])
				return err
			})
		},
	}
	o.flag(cmd, "table", "json")
	return cmd
}
