package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/musterhq/muster/internal/agent"
	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/osquery"
)

const agentLong = `Run an osquery-compatible agent on this Linux host, for demonstrations, tests
and game days. In production, run osquery.

It takes osqueryd's flags, on the command line or in a flagfile, and its config
format. It enrols, runs the schedule and packs, logs results, answers
distributed queries over a part of osquery's tables, and carves files with
--disable_carver=false, at each full minute. It has no watchdog, events or
extensions. Flags of osqueryd that mean nothing here are accepted and named once
in the log.

With --query it runs one statement, prints the rows and ends, as osqueryi does.`

const agentExample = `  muster agent --flagfile /etc/osquery/osquery.flags --database_path /tmp/agent
  muster agent --query "SELECT pid, name FROM processes LIMIT 5"`

// newAgentCommand returns "muster agent".
func newAgentCommand() *cobra.Command {
	flags := agent.NewFlags()
	var flagfile, query string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "agent",
		Short:   "Run an osquery-compatible agent for demos and tests",
		Long:    agentLong,
		Example: agentExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if query != "" {
				return runAgentQuery(cmd, flags, query, asJSON)
			}
			return runAgent(cmd, flags)
		},
	}
	cmd.Flags().StringVar(&query, "query", "", "run one SQL statement here, print its rows and end")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --query: print a JSON array")
	cmd.Flags().StringVar(&flagfile, "flagfile", "", "read flags from an osquery flagfile; the command line wins")
	addAgentFlags(cmd.Flags(), flags)
	// The file is read before the flags of the command line are set, so these
	// win: gflags reads in order, but nobody should have to know that.
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if flagfile == "" {
			return nil
		}
		given := map[string]string{}
		cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
		if err := flags.ReadFile(flagfile); err != nil {
			return err
		}
		for name, value := range given {
			flags.Set(name, value) // false for our own and the ignored ones
		}
		return nil
	}
	return cmd
}

// addAgentFlags registers osquery's flags: those with an effect visibly, the
// others hidden.
func addAgentFlags(set *pflag.FlagSet, flags *agent.Flags) {
	for _, d := range agent.Definitions() {
		f := set.VarPF(&agentFlag{flags: flags, name: d.Name, kind: d.Type}, d.Name, "", d.About)
		if d.Type == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	others := agent.OtherFlags()
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if set.Lookup(name) != nil {
			continue
		}
		f := set.VarPF(&agentFlag{flags: flags, name: name, kind: "string", other: true}, name, "", "no effect here")
		f.Hidden = true
		if others[name] {
			f.NoOptDefVal = "true"
		}
	}
}

// agentFlag passes a command-line flag on to the agent's flags.
type agentFlag struct {
	flags      *agent.Flags
	name, kind string
	other      bool
}

var _ pflag.Value = (*agentFlag)(nil)

// Set takes the value. An alias sets the flag that it stands for.
func (f *agentFlag) Set(value string) error {
	if f.flags.Set(f.name, value) {
		return nil
	}
	if f.other {
		f.flags.Ignore(f.name)
		return nil
	}
	return fmt.Errorf("must be a %s", f.kind)
}

// String returns the value in force.
func (f *agentFlag) String() string {
	if f.flags == nil {
		return "" // the zero value, which pflag makes to compare with
	}
	return f.flags.String(f.name)
}

// Type names the type in the help.
func (f *agentFlag) Type() string { return f.kind }

func runAgent(cmd *cobra.Command, flags *agent.Flags) error {
	if flags.String("tls_hostname") == "" {
		return errors.New("--tls_hostname is required: the server as host:port; or use --query to ask this host alone")
	}
	level := slog.LevelInfo
	if flags.Bool("verbose") {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	a, err := agent.New(agent.Options{Flags: flags, Log: log})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return a.Run(ctx)
}

// runAgentQuery answers one statement without an agent: osquery_flags and its
// like are empty.
func runAgentQuery(cmd *cobra.Command, flags *agent.Flags, query string, asJSON bool) error {
	db, err := hostsql.Open(hostsql.Options{Disable: flags.List("disable_tables"), Enable: flags.List("enable_tables")})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // in memory
	rows, columns, err := db.Query(cmd.Context(), query)
	if err != nil {
		return err
	}
	if asJSON {
		if rows == nil {
			rows = []osquery.Row{}
		}
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	return printRows(cmd.OutOrStdout(), columns, rows)
}

// printRows writes a table for people. Values come from the host, so control
// characters, which could steer a terminal, become spaces.
func printRows(out io.Writer, columns []string, rows []osquery.Row) error {
	const padding = 2
	w := tabwriter.NewWriter(out, 0, 0, padding, ' ', 0)
	cells := func(texts []string) {
		for i, s := range texts {
			texts[i] = strings.Map(func(r rune) rune {
				if r < ' ' || r >= 0x7f && r < 0xa0 {
					return ' '
				}
				return r
			}, s)
		}
		_, _ = fmt.Fprintln(w, strings.Join(texts, "\t")) // Flush tells
	}
	cells(slices.Clone(columns))
	for _, row := range rows {
		texts := make([]string, len(row))
		for i, c := range row {
			texts[i] = c.Value
		}
		cells(texts)
	}
	return w.Flush()
}
