package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/config"
)

// queryFlags are the flags of muster query.
type queryFlags struct {
	selector                adminapi.Selector
	nodesFile, saved        string
	wait, expires           time.Duration
	notBefore, reason       string
	sample                  float64
	maxNodes, rowsPerNode   int
	background, dryRun      bool
	waitGiven, expiresGiven bool
}

func newQueryCommand() *cobra.Command {
	var t target
	var o output
	var q queryFlags
	cmd := &cobra.Command{
		Use: "query SQL", Short: "Ask nodes a question now and print their rows",
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (q.saved == "") {
				return nil
			}
			return usagef("%s needs one SQL text, or --saved NAME; see %[1]s --help", cmd.CommandPath())
		},
		Long: `Ask nodes a question now. Each node takes it with its next poll; rows are
printed as they arrive. Nothing is asked unless you say whom: --all, --node,
--nodes-file, --tag or --where, or several of them, for the nodes that any of them
means. Nodes that have not answered when --wait is over are not asked any more,
unless --expires says for how long they shall be.

On a terminal, a line tells who answered, failed and is still awaited, and Ctrl-C
asks whether to stop the query or to leave it running; a second one leaves at once.

--where takes an expression over tag, id, host_identifier, hostname, platform,
os, osquery_version, secret, and what nodes said when they enrolled, as
system_info.hardware_vendor: = != < <= > >= in, and, or, not and parentheses. *
and ? in a value match any text and any letter.

The exit code is 5 when not every node answered, 3 when the policy refuses.`,
		Example: `  muster query "SELECT name, version FROM os_version" --all
  muster query "SELECT pid, name FROM processes LIMIT 5" --node web-1 -o json
  muster query "SELECT * FROM uptime" --where 'platform = linux and osquery_version < 5.10'
  muster query "SELECT * FROM users" --tag web --dry-run
  muster query "SELECT path FROM file WHERE path = '/etc/x'" --nodes-file hosts.txt --expires 7d --background
  muster query "SELECT * FROM listening_ports" --all --sample 5 --reason TICKET-1 -o ndjson
  muster query --saved listeners --tag web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.waitGiven, q.expiresGiven = cmd.Flags().Changed("wait"), cmd.Flags().Changed("expires")
			return runQuery(cmd, &t, &o, &q, args)
		},
	}
	o.flag(cmd, "table", "json", "ndjson", "csv")
	t.flags(cmd)
	q.flags(cmd.Flags())
	return cmd
}

func (q *queryFlags) flags(f *pflag.FlagSet) {
	s := &q.selector
	f.BoolVar(&s.All, "all", false, "ask every node")
	f.StringArrayVar(&s.Nodes, "node", nil, "id, host identifier or hostname of a node; may be repeated")
	f.StringArrayVar(&s.Tags, "tag", nil, "ask nodes with this tag; may be repeated")
	f.StringVar(&s.Where, "where", "", "ask nodes that this expression means")
	f.StringVar(&q.nodesFile, "nodes-file", "", "ask the nodes that this file lists, apart by lines, commas or spaces; - is standard input")
	f.StringVar(&q.saved, "saved", "", "ask what was saved under this name, and whom it says unless you say whom")
	f.DurationVar(&q.wait, "wait", time.Minute, "how long to wait for answers")
	f.Var((*days)(&q.expires), "expires", "how long nodes are asked, as in 10m or 7d, whether anybody waits or not (default: --wait)")
	f.StringVar(&q.notBefore, "not-before", "", "ask nobody before this RFC 3339 time, or before so long from now, as in 2h")
	f.StringVar(&q.reason, "reason", "", "why, for queries of a tier that needs one; it is kept in the audit log")
	f.Float64Var(&q.sample, "sample", 0, "ask this percentage of the nodes, always the same ones")
	f.IntVar(&q.maxNodes, "max-nodes", 0, "refuse to ask more nodes than this")
	f.IntVar(&q.rowsPerNode, "rows-per-node", 0, "keep so many rows of a node, and mark what was cut")
	f.BoolVar(&q.background, "background", false, "print the id and do not wait; muster live show and results tell the rest")
	f.BoolVar(&q.background, "no-wait", false, "the same as --background")
	f.BoolVar(&q.dryRun, "dry-run", false, "ask nobody; show whom it would reach, its tier and cost, and what the policy decides")
}

func runQuery(cmd *cobra.Command, t *target, o *output, q *queryFlags, args []string) error {
	if q.nodesFile != "" {
		names, err := nodesFrom(cmd, q.nodesFile)
		if err != nil {
			return err
		}
		q.selector.Nodes = append(q.selector.Nodes, names...)
	}
	if q.saved == "" && nobody(q.selector) {
		return usagef("say whom to ask: --all, --node, --nodes-file, --tag or --where")
	}
	in, err := q.input(time.Now())
	if err != nil {
		return err
	}
	client, err := t.client()
	if err != nil {
		return err
	}
	if q.saved != "" {
		if err := fillSaved(cmd, client, q.saved, &in); err != nil {
			return err
		}
	} else {
		in.SQL = args[0]
	}
	if q.dryRun {
		return previewQuery(cmd, client, o, in)
	}
	var started adminapi.Live
	if err := client.Call(cmd.Context(), http.MethodPost, "/live", nil, in, &started); err != nil {
		return refusedQuery(cmd, client, in, args, err)
	}
	if q.background {
		return printStarted(cmd, o, started)
	}
	return followQuery(cmd, client, o, q, started)
}

func nobody(s adminapi.Selector) bool {
	return !s.All && len(s.Nodes) == 0 && len(s.Tags) == 0 && s.Where == ""
}

// minExpiry is the shortest that the server takes.
const minExpiry = 5 * time.Second

// input makes the request of the flags. Without --expires, nobody is asked
// longer than somebody waits.
func (q *queryFlags) input(now time.Time) (adminapi.LiveInput, error) {
	in := adminapi.LiveInput{
		Selector: q.selector, Reason: q.reason, SamplePercent: q.sample, MaxNodes: q.maxNodes,
	}
	if q.sample < 0 || q.sample > 100 {
		return in, usagef("--sample is a percentage, from 0 to 100")
	}
	if q.rowsPerNode < 0 || q.maxNodes < 0 {
		return in, usagef("--rows-per-node and --max-nodes cannot be negative")
	}
	if q.rowsPerNode > 0 {
		in.Limits = &adminapi.LiveLimits{RowsPerNode: q.rowsPerNode}
	}
	later := time.Duration(0)
	if q.notBefore != "" {
		at, err := timeOrDelay(q.notBefore, now)
		if err != nil {
			return in, usagef("--not-before: %w", err)
		}
		in.NotBefore, later = &at, max(0, at.Sub(now))
	}
	expires := q.wait
	switch {
	case q.expiresGiven:
		expires = q.expires
	case q.background:
		expires = defaultExpiry
	}
	if !q.waitGiven && (q.expiresGiven || later > 0) { // until it ends
		q.wait = later + expires + endGrace
	}
	in.ExpiresSeconds = int(max(minExpiry, expires).Seconds()) // from not_before on
	return in, nil
}

// endGrace is how much later than a query's end somebody waits for the news.
const endGrace = 5 * time.Second

// defaultExpiry is the server's, for queries that nobody waits for.
const defaultExpiry = 10 * time.Minute

// timeOrDelay reads a time, or a duration from now.
func timeOrDelay(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at.UTC(), nil
	}
	var d days
	if err := d.Set(s); err != nil {
		return time.Time{}, fmt.Errorf("%q is neither an RFC 3339 time nor a duration as in 30m, 2h or 1d", s)
	}
	return now.Add(time.Duration(d)).UTC(), nil
}

// days is a duration that also takes days, as in 7d.
type days time.Duration

var _ pflag.Value = (*days)(nil)

// Set reads 90s, 10m, 2h or 7d.
func (d *days) Set(s string) error {
	v, err := config.ParseDuration(s)
	if err == nil && v <= 0 {
		err = fmt.Errorf("%q is no time that passes", s)
	}
	*d = days(v)
	return err
}

// String prints the duration.
func (d *days) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type names the type in the help.
func (d *days) Type() string { return "duration" }

// nodesFrom reads a pasted list of nodes: one per line, or apart by commas,
// semicolons or spaces; lines that begin with # are remarks.
func nodesFrom(cmd *cobra.Command, path string) ([]string, error) {
	b, err := readAll(cmd, path)
	if err != nil {
		return nil, usagef("--nodes-file: %w", err)
	}
	names := nodeNames(string(b))
	if len(names) == 0 {
		return nil, usagef("--nodes-file: %s names no node", path)
	}
	return names, nil
}

func nodeNames(text string) []string {
	var names []string
	known := map[string]bool{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, name := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n,;", r) }) {
			name = strings.Trim(name, `"'`)
			if name != "" && !known[name] {
				known[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// fillSaved takes the text of a saved query, and its nodes unless others are
// said.
func fillSaved(cmd *cobra.Command, client *adminapi.Client, name string, in *adminapi.LiveInput) error {
	s, err := findSaved(cmd, client, name)
	if err != nil {
		return err
	}
	in.SQL = s.SQL
	if nobody(in.Selector) {
		in.Selector = s.Selector
	}
	if nobody(in.Selector) {
		return usagef("the saved query %s does not say whom to ask; add --all, --node, --nodes-file, --tag or --where", name)
	}
	return nil
}

// printStarted tells the id of a query that nobody waits for.
func printStarted(cmd *cobra.Command, o *output, q adminapi.Live) error {
	if o.form == "json" {
		return printJSON(cmd.OutOrStdout(), q)
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), q.ID); err != nil {
		return err
	}
	say(cmd, "asked %d nodes until %s; next: muster live show %s, muster live results %[3]s", q.Nodes, moment(q.ExpiresAt), q.ID)
	if q.State == livePending {
		say(cmd, "%s", pendingText(q.ID))
	}
	return nil
}

// pendingText says what a query that waits for a second person needs.
func pendingText(id string) string {
	return fmt.Sprintf("NOBODY IS ASKED YET: live query %s waits for a second person, who types: muster live approve %[1]s", id)
}

// heldText says loudly that delivery stands still.
func heldText(q adminapi.Live) string {
	return fmt.Sprintf("HELD: %s. Go on: muster live resume %s. End it: muster live stop %[2]s", strings.TrimSuffix(printable(q.Held), "."), q.ID)
}

func say(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}

// refusedQuery adds to a refusal where in the text its cause is, and what to
// type next.
func refusedQuery(cmd *cobra.Command, client *adminapi.Client, in adminapi.LiveInput, args []string, err error) error {
	for _, line := range findingLines(cmd.Context(), client, in.SQL, err) {
		say(cmd, "%s", line)
	}
	if !asksFor(err, "reason") {
		return err
	}
	return &exit{exitRefused, fmt.Errorf("%w; type: %s", err, retype(cmd, args, "--reason", "TICKET-1: why"))}
}

// asksFor reports whether the server refused because of a field of the request.
func asksFor(err error, field string) bool {
	p, ok := errors.AsType[*adminapi.Problem](err)
	return ok && slices.ContainsFunc(p.Errors, func(e adminapi.ProblemField) bool {
		return strings.TrimPrefix(e.Location, "body.") == field
	})
}

// retype returns the command that was typed with something added, to type it
// again.
func retype(cmd *cobra.Command, args []string, more ...string) string {
	words := append(strings.Fields(cmd.CommandPath()), args...)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch v := f.Value.(type) {
		case pflag.SliceValue:
			for _, s := range v.GetSlice() {
				words = append(words, "--"+f.Name, s)
			}
		default:
			if f.Value.Type() == "bool" {
				words = append(words, "--"+f.Name)
				return
			}
			words = append(words, "--"+f.Name, f.Value.String())
		}
	})
	words = append(words, more...)
	for i, w := range words {
		words[i] = shellQuoted(w)
	}
	return strings.Join(words, " ")
}

// shellQuoted quotes a word for a POSIX shell if that is needed.
func shellQuoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// previewQuery shows what a query would reach.
func previewQuery(cmd *cobra.Command, client *adminapi.Client, o *output, in adminapi.LiveInput) error {
	body := adminapi.PreviewInput{Selector: in.Selector, SQL: in.SQL, SamplePercent: in.SamplePercent}
	var p adminapi.LivePreview
	if err := client.Call(cmd.Context(), http.MethodPost, "/live/preview", nil, body, &p); err != nil {
		return err
	}
	var err error
	switch o.form {
	case "json":
		err = printJSON(cmd.OutOrStdout(), p)
	case "ndjson":
		err = printLine(cmd.OutOrStdout(), p)
	default:
		err = printText(cmd.OutOrStdout(), previewText(p, in))
	}
	if err == nil && p.Decision == "refused" {
		return &exit{exitRefused, fmt.Errorf("the policy refuses this: %s", p.Why)}
	}
	return err
}

func previewText(p adminapi.LivePreview, in adminapi.LiveInput) string {
	var b strings.Builder
	fmt.Fprintf(&b, "would ask %d nodes: %d match, %d of them are online\n", p.Asked, p.Matching, p.Online)
	for _, of := range p.Platforms {
		fmt.Fprintf(&b, "    %s: %d match, %d online\n", cmp.Or(of.Platform, "unknown platform"), of.Matching, of.Online)
	}
	fmt.Fprintf(&b, "tier %d: %s\n", p.Tier, decisionText(p))
	if e := p.Estimate; e != nil {
		fmt.Fprintf(&b, "estimate: %s ms and %s rows on each node, %.4g s of work in all (%s)\n",
			figure(e.WallMsPerNode), figure(e.RowsPerNode), e.WallMsPerNode*float64(p.Asked)/1000, cmp.Or(e.Basis, "by evidence"))
	}
	if in.MaxNodes > 0 && p.Asked > in.MaxNodes {
		fmt.Fprintf(&b, "that is more than --max-nodes %d: it would be refused\n", in.MaxNodes)
	}
	if len(p.Nodes) > 0 {
		var names []string
		for _, n := range p.Nodes {
			name := cmp.Or(n.Hostname, n.NodeID)
			if !n.Online {
				name += " (offline)"
			}
			names = append(names, name)
		}
		more := ""
		if p.Asked > len(names) {
			more = fmt.Sprintf(" and %d more", p.Asked-len(names))
		}
		fmt.Fprintf(&b, "nodes: %s%s\n", strings.Join(names, ", "), more)
	}
	return b.String()
}

func decisionText(p adminapi.LivePreview) string {
	why := ""
	if p.Why != "" {
		why = ": " + p.Why
	}
	switch p.Decision {
	case "run":
		return "it would run" + why
	case "reason":
		return "it needs --reason TEXT" + why
	case "approval":
		return "it would wait for a second person" + why
	case "refused":
		return "REFUSED" + why
	}
	return p.Decision + why
}
