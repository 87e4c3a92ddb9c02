package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newRevisionCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "revision", Short: "List, show, compare and restore revisions of what agents run", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newRevisionListCommand(&t), newRevisionShowCommand(&t), newRevisionDiffCommand(&t), newRevisionRestoreCommand(&t))
	return cmd
}

func newRevisionListCommand(t *target) *cobra.Command {
	var o output
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List revisions, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l adminapi.RevisionList
			if err := t.call(cmd, http.MethodGet, "/revisions", url.Values{"limit": {strconv.Itoa(limit)}}, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Revisions))
			for _, r := range l.Revisions {
				rows = append(rows, []string{number(r.Number), short(r.Hash), r.Change, number(r.Restores), r.Author, moment(&r.CreatedAt), oneLine(r.Message)})
			}
			return o.list(cmd, l.Revisions, []string{"REVISION", "HASH", "CHANGE", "RESTORES", "BY", "AT", "MESSAGE"}, rows)
		},
	}
	o.lists(cmd, "REVISION")
	cmd.Flags().IntVar(&limit, "limit", 50, "most revisions to list")
	return cmd
}

// revisionNumber reads a revision's number from the command line.
func revisionNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, usagef("%q is no revision's number; muster revision list has them", s)
	}
	return n, nil
}

func newRevisionShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show REVISION", Short: "Show a revision and the objects in it", Args: oneArg("a revision's number"),
		Example: "  muster revision show 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			var r adminapi.Revision
			if err := t.call(cmd, http.MethodGet, fmt.Sprintf("/revisions/%d", n), nil, nil, &r); err != nil {
				return err
			}
			return o.document(cmd, r, func() error {
				text := fmt.Sprintf("Revision %d by %s, %s: %s\nHash %s\n\n", r.Number, r.Author, moment(&r.CreatedAt), r.Message, r.Hash)
				if err := printText(cmd.OutOrStdout(), text); err != nil {
					return err
				}
				rows := make([][]string, 0, len(r.Objects))
				for _, ref := range r.Objects {
					rows = append(rows, []string{ref.Kind, ref.Name, short(ref.Hash)})
				}
				return printTable(cmd.OutOrStdout(), []string{"KIND", "NAME", "HASH"}, rows)
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newRevisionDiffCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "diff A [B]", Short: "What differs between two revisions, B the newest if it is not given",
		Example: "  muster revision diff 2 3",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("%s needs one or two revisions' numbers; see %[1]s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			if len(args) == 2 {
				to, err := revisionNumber(args[1])
				if err != nil {
					return err
				}
				query.Set("to", strconv.FormatInt(to, 10))
			}
			var e adminapi.Edits
			if err := t.call(cmd, http.MethodGet, fmt.Sprintf("/revisions/%d/diff", from), query, nil, &e); err != nil {
				return err
			}
			return o.document(cmd, e, func() error {
				var b strings.Builder
				for _, edit := range e.Diff {
					fmt.Fprintf(&b, "%s %s\n", edit.Op, edit.Key)
					printFields(&b, edit)
				}
				if len(e.Diff) == 0 {
					fmt.Fprintf(&b, "Revisions %d and %d have the same content.\n", e.From, e.To)
				}
				return printText(cmd.OutOrStdout(), b.String())
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newRevisionRestoreCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: "restore REVISION -m WHY", Short: "Bring an earlier revision's content back, for all nodes at once", Args: oneArg("a revision's number"),
		Long: `Bring an earlier revision's content back as a new revision. All nodes get it at
their next config request, without stages or approvals, and a rollout that is
open ends. The revision that ran just before may come back during a freeze, too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			var r adminapi.Revision
			if err := t.call(cmd, http.MethodPost, fmt.Sprintf("/revisions/%d/restore", n), nil, in, &r); err != nil {
				return err
			}
			return o.document(cmd, r, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "Revision %d has the content of revision %d, and is served to all nodes.\n", r.Number, r.Restores)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why; it is kept with the revision")
	return cmd
}
