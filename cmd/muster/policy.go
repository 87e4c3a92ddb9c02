package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

func newPolicyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "What the policy says of SQL texts, packs and options; needs no server", Args: noArgs, RunE: help}
	cmd.AddCommand(newPolicyCheckCommand(), newPolicyExplainCommand())
	return cmd
}

// judged is one text with what the policy says of it.
type judged struct {
	Name    string `json:"name,omitempty"`
	Allowed bool   `json:"allowed"`
	policy.Verdict
}

func newPolicyCheckCommand() *cobra.Command {
	var o output
	var sql, use string
	var q policy.Query
	maxTier := int(policy.Sensitive)
	cmd := &cobra.Command{
		Use: "check (--sql TEXT | FILE…)", Short: "Judge SQL texts, osquery packs and configs, and Muster's resources",
		Long: `Judge what agents would run. A FILE is an osquery pack or config as osquery reads
it, a Fleet or Doorman file, documents of Muster's own, a .sql file with one text,
or - for a SQL text on standard input. Table policies and exceptions among
Muster's own documents count for all that is judged. Of a directory, all files in
it and below are read.

Exit code 3: something is above the tier, or cannot be proven.`,
		Example: `  muster policy check --sql 'SELECT * FROM processes'
  muster policy check packs/*.conf
  muster policy check resources/ -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if maxTier < 0 || maxTier > int(policy.Dangerous) {
				return usagef("--max-tier must be 0 to 3")
			}
			limit := policy.Tier(maxTier)
			if (sql == "") == (len(args) == 0) {
				return usagef("give --sql TEXT, or files")
			}
			engine, err := policy.New(policy.Rules{})
			if err != nil {
				return err
			}
			defer engine.Close() //nolint:errcheck // it holds memory only
			if sql != "" {
				q.SQL, q.Use = sql, policy.Use(use)
				return reportOne(cmd, &o, engine.Query(q), limit)
			}
			list, err := judgeFiles(cmd, engine, args, limit)
			if err != nil {
				return err
			}
			return reportAll(cmd, &o, list)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&sql, "sql", "", "the text to judge")
	f.StringVar(&use, "use", string(policy.Live), "how --sql is run: live, scheduled, discovery, decorator, view, file_paths or enrollment")
	f.IntVar(&q.Interval, "interval", 0, "seconds between the runs of --sql")
	f.BoolVar(&q.Snapshot, "snapshot", false, "--sql sends all rows each time")
	f.StringSliceVar(&q.Platforms, "platform", nil, "where --sql is to run: linux, darwin, windows")
	f.IntVar(&maxTier, "max-tier", maxTier, "highest tier that is allowed, 0 to 3")
	return cmd
}

func reportOne(cmd *cobra.Command, o *output, v policy.Verdict, limit policy.Tier) error {
	j := judged{Allowed: v.Allowed(limit), Verdict: v}
	err := o.document(cmd, j, func() error {
		var b strings.Builder
		printJudged(&b, j)
		return printText(cmd.OutOrStdout(), b.String())
	})
	return refusedUnless(err, j.Allowed)
}

func refusedUnless(err error, allowed bool) error {
	if err == nil && !allowed {
		return &exit{exitRefused, errors.New("refused by the policy")}
	}
	return err
}

func printJudged(b *strings.Builder, j judged) {
	word := "allowed"
	if !j.Allowed {
		word = "REFUSED"
	}
	fmt.Fprintf(b, "%s, tier %s", word, j.Tier)
	if j.Name != "" {
		fmt.Fprintf(b, ": %s", j.Name)
	}
	if j.Exception != "" {
		fmt.Fprintf(b, " (by PolicyException/%s)", j.Exception)
	}
	b.WriteString("\n")
	for _, r := range j.Reasons {
		fmt.Fprintf(b, "    tier %d: %s %s: %s\n", r.Tier, r.Kind, r.Name, r.Why)
	}
	for _, f := range j.Findings {
		at := ""
		if f.Line > 0 {
			at = fmt.Sprintf("%d:%d: ", f.Line, f.Column)
		}
		fmt.Fprintf(b, "    %s: %s%s [%s]\n", f.Severity, at, f.Message, f.Code)
	}
}

func reportAll(cmd *cobra.Command, o *output, list []judged) error {
	refused := slices.ContainsFunc(list, func(j judged) bool { return !j.Allowed })
	err := o.document(cmd, list, func() error {
		var b strings.Builder
		tiers := [4]int{}
		for _, j := range list {
			printJudged(&b, j)
			tiers[min(int(j.Tier), len(tiers)-1)]++
		}
		fmt.Fprintf(&b, "%d judged: tier 0 %d, tier 1 %d, tier 2 %d, tier 3 %d.\n", len(list), tiers[0], tiers[1], tiers[2], tiers[3])
		return printText(cmd.OutOrStdout(), b.String())
	})
	return refusedUnless(err, !refused)
}

// judgeFiles judges all that is in files, with the rules that are in them.
func judgeFiles(cmd *cobra.Command, engine *policy.Engine, names []string, limit policy.Tier) ([]judged, error) {
	var objects []resource.Object
	var others []string // of other systems
	texts := map[string]string{}
	for _, name := range names {
		paths, err := checkedPaths(name)
		if err != nil {
			return nil, usagef("%w", err)
		}
		for _, path := range paths {
			b, err := readAll(cmd, path)
			if err != nil {
				return nil, usagef("%w", err)
			}
			switch {
			case path == "-" || filepath.Ext(path) == ".sql":
				texts[path] = string(b)
			case bytes.Contains(b, []byte(resource.APIVersion)):
				more, err := resource.Parse(path, b)
				if err != nil {
					return nil, &exit{exitRefused, err}
				}
				objects = append(objects, more...)
			default:
				others = append(others, path)
			}
		}
	}
	imported, err := importFiles(cmd, others, "", "")
	if err != nil {
		return nil, &exit{exitRefused, err}
	}
	objects = append(objects, imported...)
	set, err := resource.NewSet(objects)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	own, err := engine.With(set.Rules(now))
	if err != nil {
		return nil, &exit{exitRefused, err}
	}
	defer own.Close() //nolint:errcheck // it holds memory only
	list := []judged{}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		v := own.Query(policy.Query{SQL: texts[path]})
		list = append(list, judged{Name: path, Allowed: v.Allowed(limit), Verdict: v})
	}
	report, err := resource.CheckAll(set, engine, now)
	for _, i := range report.Items {
		list = append(list, judged{Name: strings.TrimSpace(i.String() + " " + i.Path), Allowed: i.Allowed(limit), Verdict: i.Verdict})
	}
	return list, err
}

// checkedPaths returns the files of a directory that policy check reads.
func checkedPaths(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	return filesBelow(name, ".yaml", ".yml", ".conf", ".json", ".sql")
}

func newPolicyExplainCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "explain TABLE|OPTION", Short: "What the policy knows of an osquery table or flag", Args: oneArg("a table or a flag of osquery"),
		Example: "  muster policy explain curl\n  muster policy explain disable_watchdog",
		RunE: func(cmd *cobra.Command, args []string) error {
			engine, err := policy.New(policy.Rules{})
			if err != nil {
				return err
			}
			defer engine.Close() //nolint:errcheck // it holds memory only
			if t, ok := engine.Table(args[0]); ok {
				return o.document(cmd, t, func() error { return printTableInfo(cmd.OutOrStdout(), t) })
			}
			if f, ok := engine.Flag(strings.TrimPrefix(args[0], "--")); ok {
				return o.document(cmd, f, func() error { return printFlagInfo(cmd.OutOrStdout(), f) })
			}
			return &exit{exitNotFound, fmt.Errorf("osquery has no table and no flag %q; what is not known is refused", args[0])}
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func printTableInfo(w io.Writer, t policy.TableInfo) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: tier %s: %s\n", t.Name, t.Tier, t.Reason)
	fmt.Fprintf(&b, "%s\n", t.Description)
	for _, line := range []struct {
		what   string
		values []string
	}{{"platforms", t.Platforms}, {"also called", t.Aliases}, {"because of", t.Classes}, {"one of these must be constrained", t.Required}} {
		if len(line.values) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", line.what, strings.Join(line.values, ", "))
		}
	}
	if t.Evented {
		b.WriteString("It is a table of events: its rows are those since the last query.\n")
	}
	if t.UserData {
		b.WriteString("Root sees its own rows only, unless the query joins users.\n")
	}
	for _, c := range t.Columns {
		fmt.Fprintf(&b, "column %s: tier %s: %s\n", c.Name, c.Tier, c.Reason)
	}
	for _, a := range t.Arguments {
		fmt.Fprintf(&b, "argument %s (%s): %s\n", a.Column, a.Kind, a.Reason)
	}
	return printText(w, b.String())
}

func printFlagInfo(w io.Writer, f policy.FlagInfo) error {
	var b strings.Builder
	fmt.Fprintf(&b, "--%s (%s, %s): tier %s\n", f.Name, f.Type, f.Kind, f.Tier)
	if f.AliasOf != "" {
		fmt.Fprintf(&b, "another name of --%s\n", f.AliasOf)
	}
	if f.Default != "" {
		fmt.Fprintf(&b, "default: %s\n", f.Default)
	}
	if !f.Config {
		b.WriteString("Agents take it from the flagfile only.\n")
	}
	for _, s := range []string{f.Why, f.Instead} {
		if s != "" {
			b.WriteString(s + "\n")
		}
	}
	if f.Values != "" {
		fmt.Fprintf(&b, "tiers by value: %s\n", f.Values)
	}
	return printText(w, b.String())
}
