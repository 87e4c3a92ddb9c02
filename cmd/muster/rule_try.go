package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rule"
)

// ruleTestFlags say on what a rule is tried.
type ruleTestFlags struct {
	since, events string
	first, nodes  int
}

func newRuleTestCommand(t *target) *cobra.Command {
	var o output
	var f ruleTestFlags
	cmd := &cobra.Command{
		Use: "test RULE|FILE (--since 24h | --events FILE)", Short: "What a rule would have done", Args: oneArg("the name of a rule, or a file with one"),
		Long: `Say what a rule would have matched, how often, and what that costs. Nothing is
done: no alert, no query, no tag.

RULE is one that the server has; FILE holds one as YAML, which need not be applied.
--since looks at the events that the server keeps, the newest 100,000 at most.
--events looks at a file, - for standard input: events as muster event search -o
ndjson prints them, or osquery's own log of results, one JSON document per line.
With FILE and --events no server is needed; nodes are then not known, so that
selectors let all events pass.`,
		Example: `  muster rule test listener-tmp --since 7d
  muster rule test rules/usb.yaml --since 24h --first 20
  muster rule test rules/usb.yaml --events /var/log/osquery/osqueryd.results.log`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.since == "") == (f.events == "") {
				return usagef("say on which events: --since 24h, or --events FILE")
			}
			out, err := f.run(cmd, t, args[0])
			if err != nil {
				return err
			}
			return o.document(cmd, out, func() error { return printRuleTest(cmd, out) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&f.since, "since", "", "events of the server: RFC 3339 time, or how long ago, as 24h or 7d")
	cmd.Flags().StringVar(&f.events, "events", "", "events of a file, - for standard input")
	cmd.Flags().IntVar(&f.first, "first", 10, "how many matches to show")
	cmd.Flags().IntVar(&f.nodes, "nodes", 0, "with --events: how many nodes there are, for thresholds of percent")
	return cmd
}

func (f ruleTestFlags) run(cmd *cobra.Command, t *target, name string) (out adminapi.RuleTest, err error) {
	document, isFile, err := ruleFile(cmd, name)
	if err != nil {
		return out, err
	}
	if f.since != "" {
		in := adminapi.RuleTestInput{Since: f.since, First: f.first}
		if isFile {
			in.Document = string(document)
		} else {
			in.Name = name
		}
		return out, t.call(cmd, http.MethodPost, "/rules/test", nil, in, &out)
	}
	if !isFile {
		if document, err = servedRule(cmd, t, name); err != nil {
			return out, err
		}
	}
	return f.local(cmd, name, document)
}

// ruleFile returns a file's bytes; false if there is none of that name, so that it
// is a rule's.
func ruleFile(cmd *cobra.Command, name string) ([]byte, bool, error) {
	if info, err := os.Stat(name); err != nil || info.IsDir() {
		if strings.ContainsAny(name, `/\`) || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
			return nil, false, usagef("%s is no file that can be read", name)
		}
		return nil, false, nil
	}
	b, err := readAll(cmd, name)
	return b, true, err
}

// servedRule returns the document of a rule that the server has.
func servedRule(cmd *cobra.Command, t *target, name string) ([]byte, error) {
	var s adminapi.RuleStatus
	err := t.call(cmd, http.MethodGet, "/rules/"+url.PathEscape(name), nil, nil, &s)
	return []byte(s.Document), err
}

// local tries a rule on a file.
func (f ruleTestFlags) local(cmd *cobra.Command, name string, document []byte) (out adminapi.RuleTest, err error) {
	objects, err := resource.Parse(name, document)
	if err != nil {
		return out, usagef("%w", err)
	}
	if len(objects) != 1 {
		return out, usagef("%s holds %d documents; one Rule is needed", name, len(objects))
	}
	plan, err := resource.NewRulePlan(objects[0])
	if err != nil {
		return out, usagef("%w", err)
	}
	in, err := openInput(cmd, f.events)
	if err != nil {
		return out, usagef("--events: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	var events []event.Record
	skipped, err := readEvents(in, func(r event.Record) {
		if len(events) < maxFileEvents {
			events = append(events, r)
		} else {
			out.Truncated = true
		}
	})
	if err != nil {
		return out, usagef("--events: %w", err)
	}
	truncated := out.Truncated
	// A search gives the newest first; rules see events as they came.
	slices.SortStableFunc(events, func(a, b event.Record) int { return a.Received.Compare(b.Received) })
	trial := rule.NewTrial(rule.TrialOptions{Plan: plan, Nodes: f.nodes, First: f.first, Now: time.Now})
	for _, r := range events {
		trial.Look(r)
	}
	out = adminapi.RuleTestOf(plan, trial.Report(), eventDocument)
	if truncated {
		out.Notes = append(out.Notes, fmt.Sprintf("the file has over %d events; the rest was left out", maxFileEvents))
	}
	if skipped > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d lines are no events; they were left out", skipped))
	}
	if plan.Events.Selector != "" {
		out.Notes = append(out.Notes, "the nodes of a file are not known: its selector lets all events pass, and node.… has no values")
	}
	if len(plan.Events.Tables) > 0 {
		out.Notes = append(out.Notes, "which tables a query of a file reads is not known: all queries count")
	}
	return out, nil
}

func eventDocument(r event.Record) adminapi.Event {
	return adminapi.Event{
		ID: fmt.Sprintf("%d-%d", r.Seq, r.Index), Time: r.Time.UTC(), ReceivedAt: r.Received.UTC(), NodeID: r.NodeID, HostIdentifier: r.HostIdentifier,
		Query: r.Query, Action: r.Action, Epoch: r.Epoch, Counter: r.Counter, Columns: r.Columns, Decorations: r.Decorations,
	}
}

// Bounds of a file of events, which are in memory to be sorted.
const (
	maxEventLine  = 16 << 20
	maxFileEvents = 1_000_000
)

// readEvents reads one event after the other, and says how many lines were none.
func readEvents(in io.Reader, use func(event.Record)) (skipped int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEventLine)
	var decoders event.Decoders
	decoder := decoders.Get()
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if !readEvent(decoder, line, use) {
			skipped++
		}
	}
	return skipped, lines.Err()
}

func readEvent(decoder *event.Decoder, line []byte, use func(event.Record)) bool {
	var e adminapi.Event
	if json.Unmarshal(line, &e) == nil && e.Query != "" && len(e.Columns) > 0 {
		var r event.Record
		r.Time, r.Received, r.NodeID, r.HostIdentifier = e.Time, e.ReceivedAt, e.NodeID, e.HostIdentifier
		r.Epoch, r.Counter = e.Epoch, e.Counter
		r.Query, r.Action, r.Columns, r.Decorations = e.Query, e.Action, e.Columns, e.Decorations
		use(r)
		return true
	}
	var native struct {
		Host string `json:"hostIdentifier"`
	}
	if !json.Valid(line) || json.Unmarshal(line, &native) != nil {
		return false
	}
	logType := osquery.LogTypeResult
	if bytes.Contains(line, []byte(`"severity"`)) && !bytes.Contains(line, []byte(`"name"`)) {
		logType = osquery.LogTypeStatus
	}
	body, err := json.Marshal(map[string]any{"log_type": logType, "data": []json.RawMessage{line}})
	if err != nil {
		return false
	}
	log, err := decoder.Decode(body, time.Now())
	if err != nil || len(log.Events) == 0 {
		return false
	}
	for _, found := range log.Events {
		if found.Query == "" {
			return false
		}
		// The decoder's memory is used again for the next line.
		found.Columns, found.Decorations = bytes.Clone(found.Columns), bytes.Clone(found.Decorations)
		use(event.Record{Event: found, NodeID: native.Host, HostIdentifier: native.Host, Received: found.Time})
	}
	return true
}

func printRuleTest(cmd *cobra.Command, r adminapi.RuleTest) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s looked at %d of %d events: %d matched, %d would fire", r.Rule, r.Evaluated, r.Events, r.Matched, r.Fired)
	if r.Suppressed > 0 {
		fmt.Fprintf(&b, ", %d suppressed", r.Suppressed)
	}
	if r.Resolved > 0 {
		fmt.Fprintf(&b, ", %d resolved", r.Resolved)
	}
	fmt.Fprintf(&b, ".\n%d nodes, %d keys, %.1f a day, %s an event.\n", r.Nodes, r.Keys, r.PerDay, costText(r.CostNS))
	if r.Unknown > 0 {
		fmt.Fprintf(&b, "%d events lack something that it looks at.\n", r.Unknown)
	}
	if r.Truncated {
		b.WriteString("There were more events; these are the newest.\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "Note: %s.\n", n)
	}
	if err := printText(cmd.OutOrStdout(), b.String()); err != nil || len(r.Matches) == 0 {
		return err
	}
	rows := make([][]string, 0, len(r.Matches))
	for _, m := range r.Matches {
		word := "counts"
		switch {
		case m.Closes:
			word = "resolves"
		case m.Fired:
			word = "fires"
		}
		rows = append(rows, []string{m.Event.Time.Local().Format(time.DateTime), word, m.Key, m.Title})
	}
	return printTable(cmd.OutOrStdout(), []string{"TIME", "MATCH", "KEY", "TITLE"}, rows)
}
