package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newNodeCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "node", Short: "List, find, show, tag, quarantine and remove nodes", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(
		newNodeListCommand(&t), newNodeShowCommand(&t), newNodeWhoCommand(&t), newNodeConfigCommand(&t), newNodeDriftCommand(&t), newNodeHistoryCommand(&t), newNodeTransparencyCommand(&t), newNodeHealthCommand(&t), newNodeAttributesCommand(&t), newNodeTagCommand(&t),
		newNodeQuarantineCommand(&t), newNodeReleaseCommand(&t), newNodeRevokeCommand(&t), newNodeDeleteCommand(&t),
	)
	return cmd
}

// aNode is what commands on one node take.
const aNode = "a node's id, host identifier or hostname"

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func newNodeListCommand(t *target) *cobra.Command {
	var o output
	var limit int
	filter := map[string]*string{}
	cmd := &cobra.Command{
		Use: "list", Short: "List nodes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range filter {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			if limit == 0 {
				limit = math.MaxInt
			}
			nodes := []adminapi.Node{}
			err = client.AllNodes(cmd.Context(), query, limit, func(n adminapi.Node) error {
				nodes = append(nodes, n)
				return nil
			})
			if err != nil {
				return err
			}
			rows := make([][]string, 0, len(nodes))
			for _, n := range nodes {
				rows = append(rows, []string{n.ID, n.Hostname, n.Status, agoAt(n.LastSeen), n.Platform, n.OS, n.OsqueryVersion, n.Address, strings.Join(n.Tags, ",")})
			}
			return o.list(cmd, nodes, []string{"ID", "HOSTNAME", "STATUS", "SEEN", "PLATFORM", "OS", "OSQUERY", "ADDRESS", "TAGS"}, rows)
		},
	}
	o.lists(cmd, "ID")
	o.watch(cmd)
	f := cmd.Flags()
	for name, usage := range map[string]string{
		"search": "text in hostname, host identifier, address or id", "tag": "only nodes with this tag",
		"platform": "only linux, darwin or windows", "status": "only online, offline, quarantined or gone (gone ones are left out else)", "version": "only this version of osquery",
		"sort": "hostname, platform, os, osquery_version, status, last_seen, enrolled_at or address", "order": "asc or desc",
	} {
		filter[name] = f.String(name, "", usage)
	}
	f.IntVar(&limit, "limit", 0, "most nodes to list; 0 is all")
	return cmd
}

// ago says how long ago something was, for people.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// agoAt is ago of a time that may be absent.
func agoAt(t *time.Time) string {
	if t == nil {
		return ago(time.Time{})
	}
	return ago(*t)
}

func newNodeShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show NODE", Short: "Show one node with all that it said of itself", Args: oneArg(aNode),
		Example: "  muster node show web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			return o.document(cmd, n, func() error { return printNode(cmd, n) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

// findNode returns a node by its id, host identifier or hostname.
func findNode(cmd *cobra.Command, client *adminapi.Client, name string) (n adminapi.NodeDetail, err error) {
	err = client.Call(cmd.Context(), http.MethodGet, "/nodes/"+url.PathEscape(name), nil, nil, &n)
	return n, err
}

func printNode(cmd *cobra.Command, n adminapi.NodeDetail) error {
	rows := [][]string{
		{"id", n.ID},
		{"host identifier", n.HostIdentifier},
		{"hostname", n.Hostname},
		{"status", n.Status + ", seen " + agoAt(n.LastSeen)},
		{"endpoints", endpoints(n.Seen)},
		{"offline after", (time.Duration(n.OfflineAfter) * time.Second).String()},
		{"address", n.Address},
		{"tags", tagsOf(n.TagSources)},
		{"enrolled", enrolled(n.Node)},
		{"enrolments", strconv.Itoa(n.Enrolments)},
	}
	for _, row := range [][]string{
		{"certificate", n.Certificate},
		{"quarantined", since(n.QuarantinedAt, n.QuarantineReason)},
		{"clashes", clashes(n.Node)},
		{"clone of", n.CloneOf},
		{"gone", since(n.GoneAt, "")},
	} {
		if row[1] != "" { // these are seldom there
			rows = append(rows, row)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Attributes)) {
		rows = append(rows, []string{"attribute." + name, n.Attributes[name]})
	}
	for _, table := range slices.Sorted(maps.Keys(n.Details)) {
		for _, column := range slices.Sorted(maps.Keys(n.Details[table])) {
			rows = append(rows, []string{table + "." + column, n.Details[table][column]})
		}
	}
	return printTable(cmd.OutOrStdout(), []string{"FIELD", "VALUE"}, rows)
}

// enrolled says when a node came, and how.
func enrolled(n adminapi.Node) string {
	text := n.EnrolledAt.Format(time.RFC3339)
	if n.EnrollSecret == "" {
		return text + " by import"
	}
	return text + " with secret " + n.EnrollSecret
}

// endpoints says when a node used each endpoint last.
func endpoints(s adminapi.Seen) string {
	return fmt.Sprintf("enroll %s, config %s, log %s, read %s, write %s", agoAt(s.Enroll), agoAt(s.Config), agoAt(s.Log), agoAt(s.Read), agoAt(s.Write))
}

// since says when something began and why; "" if it did not.
func since(t *time.Time, reason string) string {
	if t == nil {
		return ""
	}
	return strings.TrimSuffix(t.Format(time.RFC3339)+": "+reason, ": ")
}

func clashes(n adminapi.Node) string {
	if n.Clashes == 0 {
		return ""
	}
	return fmt.Sprintf("%d, last %s", n.Clashes, since(n.LastClash, n.ClashReason))
}

// tagsOf says what gives a node its tags.
func tagsOf(sources []adminapi.TagSource) string {
	parts := make([]string, 0, len(sources))
	for _, s := range sources {
		parts = append(parts, s.Tag+" (by "+strings.Join(s.Sources, ", ")+")")
	}
	return strings.Join(parts, ", ")
}

func newNodeTagCommand(t *target) *cobra.Command {
	var o output
	var add, remove []string
	var history bool
	cmd := &cobra.Command{
		Use: "tag NODE [--add TAG] [--remove TAG] [--history]", Short: "Change a node's tags, or show what gives them, and gave them", Args: oneArg(aNode),
		Long: `Change a node's tags, or without --add and --remove show what gives them: hand,
an enroll secret, a rule or a query. A tag that a rule or a query gives stays
until that no longer does.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			changing := len(add)+len(remove) > 0
			if history && changing {
				return usagef("give --history, or --add and --remove")
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			if changing {
				tags := slices.DeleteFunc(append(n.Tags, add...), func(tag string) bool { return slices.Contains(remove, tag) })
				return setTags(cmd, client, &o, n.ID, tags)
			}
			return showTags(cmd, client, &o, n.ID, history)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringArrayVar(&add, "add", nil, "tag to add; may be repeated")
	cmd.Flags().StringArrayVar(&remove, "remove", nil, "tag to remove; may be repeated")
	cmd.Flags().BoolVar(&history, "history", false, "show the tags that it had, too")
	return cmd
}

// setTags replaces a node's tags and prints those that it has then; why some
// stayed is for people.
func setTags(cmd *cobra.Command, client *adminapi.Client, o *output, id string, tags []string) error {
	var n adminapi.TaggedNode
	if err := client.Call(cmd.Context(), http.MethodPut, "/nodes/"+id+"/tags", nil, adminapi.TagsInput{Tags: tags}, &n); err != nil {
		return err
	}
	if n.Message != "" {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), printable(n.Message))
	}
	return o.document(cmd, n, func() error {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(n.Tags, " "))
		return err
	})
}

// showTags prints what gives a node its tags since when, and with history what
// gave it tags before.
func showTags(cmd *cobra.Command, client *adminapi.Client, o *output, id string, history bool) error {
	var found adminapi.TagHistory
	if err := client.Call(cmd.Context(), http.MethodGet, "/nodes/"+id+"/tags/history", nil, nil, &found); err != nil {
		return err
	}
	if !history {
		found.Tags = slices.DeleteFunc(found.Tags, func(s adminapi.TagSpan) bool { return s.Until != nil })
	}
	rows := make([][]string, 0, len(found.Tags))
	for _, s := range found.Tags {
		rows = append(rows, []string{s.Tag, s.Source, moment(&s.Since), moment(s.Until)})
	}
	return o.list(cmd, found.Tags, []string{"TAG", "SOURCE", "SINCE", "UNTIL"}, rows)
}

func newNodeWhoCommand(t *target) *cobra.Command {
	var o output
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "who (--ip ADDRESS | --attribute NAME --value VALUE) [--at TIME]", Short: "Find the nodes that had an address, or another attribute, at a time", Args: noArgs,
		Example: `  muster node who --ip 10.1.2.3 --at 2026-01-31T12:00:00Z
  muster node who --attribute hostname --value web-1 --at 3d`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if *flags["ip"] == "" && (*flags["attribute"] == "" || *flags["value"] == "") {
				return usagef("give --ip, or --attribute and --value")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var found adminapi.Sightings
			if err := client.Call(cmd.Context(), http.MethodGet, "/nodes/who", values(flags), nil, &found); err != nil {
				return err
			}
			return printSightings(cmd, &o, found.Sightings)
		},
	}
	o.lists(cmd, "")
	flags = map[string]*string{}
	for name, usage := range map[string]string{
		"ip": "an address, as the server saw it", "value": "what the attribute was",
		"attribute": "hostname, host_identifier, platform, os, osquery_version, instance, certificate, or the name of a decorator",
		"at":        "RFC 3339 time, or how long ago, as in 2h or 3d; now if empty",
	} {
		flags[name] = cmd.Flags().String(name, "", usage)
	}
	return cmd
}

func newNodeHistoryCommand(t *target) *cobra.Command {
	var o output
	var limit int
	cmd := &cobra.Command{
		Use: "history NODE", Short: "What a node was served and asked, when, and by whose change or query", Args: oneArg(aNode),
		Long: `List what a node was served and asked, the newest first: each config with the
revision that it is of and who made that, each live query with its text and who
asked, and the tags that decide about both. It is what the owner of a machine, or
an auditor, may want to see; -o csv is for them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var a adminapi.NodeActivity
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if err := t.call(cmd, http.MethodGet, "/nodes/"+url.PathEscape(args[0])+"/activity", query, nil, &a); err != nil {
				return err
			}
			return printActivity(cmd, &o, a)
		},
	}
	o.lists(cmd, "")
	cmd.Flags().IntVar(&limit, "limit", 200, "most entries to list, up to 1000")
	return cmd
}

func newNodeAttributesCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "attributes NODE", Short: "List what a node's attributes were; one that is gone has its id still", Args: oneArg(aNode),
		Example: "  muster node attributes web-1",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			var found adminapi.Sightings
			if err := client.Call(cmd.Context(), http.MethodGet, "/nodes/"+n.ID+"/history", nil, nil, &found); err != nil {
				return err
			}
			return printSightings(cmd, &o, found.Sightings)
		},
	}
	o.lists(cmd, "ID")
	return cmd
}

func printSightings(cmd *cobra.Command, o *output, found []adminapi.Sighting) error {
	rows := make([][]string, 0, len(found))
	for _, s := range found {
		rows = append(rows, []string{s.NodeID, cmp.Or(s.Hostname, s.HostIdentifier), s.Attribute, s.Value, moment(&s.FirstSeen), moment(s.LastSeen), moment(s.Until)})
	}
	return o.list(cmd, found, []string{"ID", "HOSTNAME", "ATTRIBUTE", "VALUE", "FIRST SEEN", "LAST SEEN", "UNTIL"}, rows)
}

func newNodeQuarantineCommand(t *target) *cobra.Command {
	var reason string
	cmd := nodeCommand(t, &cobra.Command{
		Use: "quarantine NODE --reason TEXT", Short: "Put a node under quarantine: an empty config and no queries; its logs are kept and marked",
		Example: `  muster node quarantine web-1 --reason "not ours"`,
	}, func(cmd *cobra.Command, client *adminapi.Client, path string) error {
		return client.Call(cmd.Context(), http.MethodPost, path+"/quarantine", nil, adminapi.QuarantineInput{Reason: reason}, nil)
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if reason == "" {
			return usagef("--reason is missing; say why, for whoever finds it later")
		}
		return nil
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for whoever finds it later")
	return cmd
}

func newNodeReleaseCommand(t *target) *cobra.Command {
	return nodeCommand(t, &cobra.Command{
		Use: "release NODE", Short: "Release a node from quarantine",
		Example: "  muster node release web-1",
	}, func(cmd *cobra.Command, client *adminapi.Client, path string) error {
		return client.Call(cmd.Context(), http.MethodDelete, path+"/quarantine", nil, nil, nil)
	})
}

func newNodeRevokeCommand(t *target) *cobra.Command {
	return nodeCommand(t, &cobra.Command{
		Use: "revoke NODE", Short: "Take a node's key away; it may enrol again, as the same node",
		Example: "  muster node revoke web-1",
	}, func(cmd *cobra.Command, client *adminapi.Client, path string) error {
		return client.Call(cmd.Context(), http.MethodPost, path+"/revoke", nil, nil, nil)
	})
}

func newNodeDeleteCommand(t *target) *cobra.Command {
	return nodeCommand(t, &cobra.Command{
		Use: "delete NODE", Short: "Remove a node; its key is refused, and it may enrol again as a new node",
		Example: "  muster node delete web-1",
	}, func(cmd *cobra.Command, client *adminapi.Client, path string) error {
		return client.Call(cmd.Context(), http.MethodDelete, path, nil, nil, nil)
	})
}

// nodeCommand gives cmd the rest of a command that does something to one node,
// whose path in the API do gets.
func nodeCommand(t *target, cmd *cobra.Command, do func(cmd *cobra.Command, client *adminapi.Client, path string) error) *cobra.Command {
	cmd.Args = oneArg(aNode)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := t.client()
		if err != nil {
			return err
		}
		n, err := findNode(cmd, client, args[0])
		if err != nil {
			return err
		}
		return do(cmd, client, "/nodes/"+n.ID)
	}
	return cmd
}
