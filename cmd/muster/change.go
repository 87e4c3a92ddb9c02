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

func newChangeCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "change", Short: "List, show, approve, reject and withdraw changes", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(
		newChangeListCommand(&t), newChangeShowCommand(&t), newChangeApproveCommand(&t),
		newChangeActCommand(&t, "reject", "Reject a change for good"),
		newChangeActCommand(&t, "withdraw", "Take one's own change back"),
		newChangeActCommand(&t, "apply", "Apply a change that is approved, as after a freeze"),
	)
	return cmd
}

const aChange = "a change's number"

func newChangeListCommand(t *target) *cobra.Command {
	var o output
	var state string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List changes, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if state != "" {
				query.Set("state", state)
			}
			var l adminapi.ChangeList
			if err := t.call(cmd, http.MethodGet, "/changes", query, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Changes))
			for _, c := range l.Changes {
				rows = append(rows, []string{
					c.ID, c.State, strconv.Itoa(c.Tier), fmt.Sprintf("%d of %d", len(c.Approvals), c.Needed), strconv.Itoa(c.Effect.Nodes),
					number(c.Revision), c.Author, moment(&c.CreatedAt), oneLine(c.Message),
				})
			}
			return o.list(cmd, l.Changes, []string{"CHANGE", "STATE", "TIER", "APPROVALS", "NODES", "REVISION", "BY", "AT", "MESSAGE"}, rows)
		},
	}
	o.lists(cmd, "CHANGE")
	o.watch(cmd)
	cmd.Flags().StringVar(&state, "state", "", "only pending, approved, applied, rejected, withdrawn or stale ones")
	cmd.Flags().IntVar(&limit, "limit", 50, "most changes to list")
	return cmd
}

// number prints a number that is 0 for none.
func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// call is client and Call.
func (t *target) call(cmd *cobra.Command, method, path string, query url.Values, in, out any) error {
	client, err := t.client()
	if err != nil {
		return err
	}
	return client.Call(cmd.Context(), method, path, query, in, out)
}

func newChangeShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show CHANGE", Short: "Show a change: its diff, findings, effect and approvals", Args: oneArg(aChange),
		Example: "  muster change show 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			var c adminapi.Change
			if err := t.call(cmd, http.MethodGet, "/changes/"+url.PathEscape(args[0]), nil, nil, &c); err != nil {
				return err
			}
			return o.document(cmd, c, func() error { return showChange(cmd, c) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

func showChange(cmd *cobra.Command, c adminapi.Change) error {
	var head strings.Builder
	fmt.Fprintf(&head, "Change %s by %s, %s: %s\n%s\nHash %s\n\n", c.ID, c.Author, c.State, moment(&c.CreatedAt), c.Message, c.Hash)
	for _, a := range c.Approvals {
		fmt.Fprintf(&head, "Approved by %s, %s\n", a.By, moment(&a.At))
	}
	if c.DecidedBy != "" {
		fmt.Fprintf(&head, "%s by %s, %s %s\n", c.State, c.DecidedBy, moment(c.DecidedAt), c.Decision)
	}
	if err := printText(cmd.OutOrStdout(), head.String()); err != nil {
		return err
	}
	return printChange(cmd.OutOrStdout(), c)
}

func newChangeApproveCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.ApproveInput
	var passwordFile string
	cmd := &cobra.Command{
		Use: "approve CHANGE", Short: "Approve somebody else's change", Args: oneArg(aChange),
		Long: `Approve somebody else's change. It is shown first, and approved as it is shown:
the approval binds its hash. Your password is asked for once more, since a token
alone approves nothing. The last approval that a change needs applies it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/changes/" + url.PathEscape(args[0])
			var c adminapi.Change
			if err := t.call(cmd, http.MethodGet, path, nil, nil, &c); err != nil {
				return err
			}
			if o.form == "table" {
				if err := showChange(cmd, c); err != nil {
					return err
				}
			}
			if in.Hash == "" {
				in.Hash = c.Hash
			}
			var err error
			if in.Password, err = readPassword(cmd, passwordFile); err != nil {
				return err
			}
			if err := t.call(cmd, http.MethodPost, path+"/approve", nil, in, &c); err != nil {
				return err
			}
			return o.document(cmd, c, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), outcome(c))
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&in.Hash, "hash", "", "approve only if the change has this hash (default: what is shown)")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds your password; asked for at the terminal if empty")
	return cmd
}

func newChangeActCommand(t *target, verb, short string) *cobra.Command {
	var o output
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: verb + " CHANGE", Short: short, Args: oneArg(aChange),
		Example: "  muster change " + verb + ` 3 -m "as agreed"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var c adminapi.Change
			var body any = in
			if verb == "apply" {
				body = nil
			}
			if err := t.call(cmd, http.MethodPost, "/changes/"+url.PathEscape(args[0])+"/"+verb, nil, body, &c); err != nil {
				return err
			}
			return o.document(cmd, c, func() error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), outcome(c))
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	if verb != "apply" {
		cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why")
	}
	return cmd
}
