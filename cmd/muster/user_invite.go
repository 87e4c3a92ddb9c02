package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newUserInviteCommand(t *target) *cobra.Command {
	var o output
	var ownFile string
	var in adminapi.InvitationInput
	cmd := &cobra.Command{
		Use: "invite NAME --role ROLE…", Short: "Make a link by which a person chooses a password", Args: oneArg("a name"),
		Long: `Make a link by which a person chooses a password, so that nobody knows another's. It
works once, for three days. Send it in a way that nobody else reads: who opens it
first has the account.

With --reset it is for a person that there is, who forgot theirs.`,
		Example: `  muster user invite grace --role analyst -o raw
  muster user invite grace --reset
  muster user invitations`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if in.Own, err = promptPassword(cmd, "Your own password", ownFile); err != nil {
				return err
			}
			s, err := t.session()
			if err != nil {
				return err
			}
			in.Name = args[0]
			var i adminapi.Invitation
			if err := t.call(cmd, http.MethodPost, "/invitations", nil, in, &i); err != nil {
				return err
			}
			link := strings.TrimSuffix(s.URL, "/") + i.Path
			if o.form == "raw" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), link)
				return err
			}
			return o.document(cmd, i, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\nfor %s, until %s; it works once\n", link, i.Name, moment(&i.ExpiresAt))
				return err
			})
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	ownPasswordFlag(cmd, &ownFile)
	cmd.Flags().StringSliceVar(&in.Roles, "role", nil, "a role that a new person gets; may be given several times")
	cmd.Flags().BoolVar(&in.Reset, "reset", false, "for a person that there is, to choose another password; theirs works until then")
	cmd.MarkFlagsMutuallyExclusive("role", "reset")
	cmd.MarkFlagsOneRequired("role", "reset")
	return cmd
}

func newUserInvitationsCommand(t *target) *cobra.Command {
	var o output
	var end string
	cmd := &cobra.Command{
		Use: "invitations", Short: "List links that still work, or end one", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if end != "" {
				return t.call(cmd, http.MethodDelete, "/invitations/"+url.PathEscape(end), nil, nil, nil)
			}
			var all []adminapi.Invitation
			if err := t.call(cmd, http.MethodGet, "/invitations", nil, nil, &all); err != nil {
				return err
			}
			rows := make([][]string, 0, len(all))
			for _, i := range all {
				what := strings.Join(i.Roles, ", ")
				if i.Reset {
					what = "another password"
				}
				rows = append(rows, []string{i.ID, i.Name, what, i.CreatedBy, moment(&i.CreatedAt), moment(&i.ExpiresAt)})
			}
			return o.list(cmd, all, []string{"ID", "NAME", "FOR", "BY", "SINCE", "UNTIL"}, rows)
		},
	}
	o.lists(cmd, "ID")
	cmd.Flags().StringVar(&end, "end", "", "end the link of this id")
	return cmd
}
