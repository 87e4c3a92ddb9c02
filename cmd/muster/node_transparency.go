package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/transparency"
)

func newNodeTransparencyCommand(t *target) *cobra.Command {
	var o output
	var revoke bool
	var ttl days
	cmd := &cobra.Command{
		Use: "transparency NODE [--ttl 30d | --revoke]", Short: "Make a link that shows a node's owner what is collected and asked, without a login; or revoke all of them", Args: oneArg(aNode),
		Long: `Make a link to a page about one node, for the person whose machine it is: what is
collected by a schedule, what was asked and fetched, by whom and why, what changed,
how long it is kept, what is taken out and where it is passed on to. It shows no
rows and no other node, and needs no login: whoever has the link can read it until
it is over. --revoke ends all links of the node that there are. See
docs/transparency.md, which has a text for owners.`,
		Example: `  muster node transparency ada-laptop --ttl 7d
  muster node transparency ada-laptop --revoke`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if revoke && ttl != 0 {
				return usagef("give --ttl for a link, or --revoke")
			}
			if ttl != 0 && (time.Duration(ttl) < transparency.MinTTL || time.Duration(ttl) > transparency.MaxTTL) {
				return usagef("--ttl: a link works for a minute to 366 days; write 12h or 30d")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			n, err := findNode(cmd, client, args[0])
			if err != nil {
				return err
			}
			path := "/nodes/" + n.ID + "/transparency"
			if revoke {
				return client.Call(cmd.Context(), http.MethodDelete, path, nil, nil, nil)
			}
			var l adminapi.TransparencyLink
			in := adminapi.LinkInput{TTLSeconds: int64(time.Duration(ttl) / time.Second)}
			if err := client.Call(cmd.Context(), http.MethodPost, path, nil, in, &l); err != nil {
				return err
			}
			return printLink(cmd, &o, l)
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	cmd.Flags().Var(&ttl, "ttl", "how long the link works, as in 12h or 30d, up to 366d; 30d if it is left out")
	cmd.Flags().BoolVar(&revoke, "revoke", false, "end all links of the node that there are")
	return cmd
}

// printLink prints a link, or its path alone if the server does not know where people
// reach it.
func printLink(cmd *cobra.Command, o *output, l adminapi.TransparencyLink) error {
	link := l.URL
	if link == "" {
		link = l.Path
		if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "The server has no public_url: put where people reach it before the path."); err != nil {
			return err
		}
	}
	if o.form == "raw" {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), link)
		return err
	}
	return o.document(cmd, l, func() error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n\nIt works until %s, for whoever has it; muster node transparency %s --revoke ends it.\n", link, moment(&l.ExpiresAt), l.NodeID)
		return err
	})
}
