package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/config"
)

func newTokenCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "token", Short: "Tokens, by which programs call the API", Args: noArgs, RunE: help,
		Long: `Make and revoke tokens. A token can do what its owner's roles give, within its
scope, and consents to nothing. Without --user it is about your own; with it, about
a service account's.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newTokenListCommand(&t), newTokenCreateCommand(&t), newTokenRotateCommand(&t), newTokenRevokeCommand(&t), newTokenCheckCommand())
	return cmd
}

// tokensPath is where a user's tokens are; one's own without a name.
func tokensPath(user string) string {
	if user == "" {
		return "/tokens"
	}
	return "/users/" + url.PathEscape(user) + "/tokens"
}

func userFlag(cmd *cobra.Command, user *string) {
	cmd.Flags().StringVar(user, "user", "", "whose; your own if it is left out")
}

func newTokenListCommand(t *target) *cobra.Command {
	var o output
	var user string
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens, the newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []adminapi.Token
			if err := t.call(cmd, http.MethodGet, tokensPath(user), nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, k := range list {
				rows = append(rows, []string{k.ID, k.Owner, k.Name, k.State, scopeText(k), moment(&k.ExpiresAt), strings.TrimSpace(moment(k.LastUsed) + " " + k.LastFrom)})
			}
			return o.list(cmd, list, []string{"ID", "OWNER", "NAME", "STATE", "SCOPE", "UNTIL", "LAST USED"}, rows)
		},
	}
	o.lists(cmd, "ID")
	userFlag(cmd, &user)
	return cmd
}

func scopeText(k adminapi.Token) string {
	s := k.Scope
	parts := []string{strings.Join(s.Permissions, ",")}
	if len(s.Permissions) == 0 {
		parts[0] = "all of the owner's"
	}
	if s.Selector != "" {
		parts = append(parts, "on "+s.Selector)
	}
	for name, tier := range map[string]*int{"live": s.LiveTier, "schedule": s.ScheduleTier, "rows": s.RowTier} {
		if tier != nil {
			parts = append(parts, fmt.Sprintf("%s tier %d", name, *tier))
		}
	}
	if s.MaxNodes > 0 {
		parts = append(parts, fmt.Sprintf("%d nodes", s.MaxNodes))
	}
	if len(k.Networks) > 0 {
		parts = append(parts, "from "+strings.Join(k.Networks, ","))
	}
	return strings.Join(parts, "; ")
}

func newTokenCreateCommand(t *target) *cobra.Command {
	var o output
	var user, ownFile, expires string
	var in adminapi.TokenInput
	var live, schedule, rows int
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token; its text is shown once", Args: oneArg("a name"),
		Example: `  muster token create laptop --permission node.read --permission event.read --expires 30d
  muster token create ci --user pipeline --from 10.1.0.0/16 -o raw > token`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			life, err := config.ParseDuration(expires)
			if err != nil {
				return usagef("--expires: %w", err)
			}
			in.Hours = int(life.Hours())
			for name, tier := range map[string]struct {
				from *int
				to   **int
			}{"live-tier": {&live, &in.Scope.LiveTier}, "schedule-tier": {&schedule, &in.Scope.ScheduleTier}, "row-tier": {&rows, &in.Scope.RowTier}} {
				if cmd.Flags().Changed(name) {
					*tier.to = tier.from
				}
			}
			if in.Own, err = promptPassword(cmd, "Your own password", ownFile); err != nil {
				return err
			}
			var k adminapi.Token
			if err := t.call(cmd, http.MethodPost, tokensPath(user), nil, in, &k); err != nil {
				return err
			}
			return printToken(cmd, &o, k)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "raw")
	userFlag(cmd, &user)
	f := cmd.Flags()
	f.StringSliceVar(&in.Scope.Permissions, "permission", nil, "a permission that it has, as node.read or live.*; may be given several times (default: all of the owner's)")
	f.StringVar(&in.Scope.Selector, "selector", "", "nodes that it is about, as tag = edge (default: all of the owner's)")
	f.IntVar(&live, "live-tier", 0, "highest tier of live queries")
	f.IntVar(&schedule, "schedule-tier", 0, "highest tier of what a change may bring to agents")
	f.IntVar(&rows, "row-tier", 0, "highest tier of queries whose rows it may read")
	f.IntVar(&in.Scope.MaxNodes, "max-nodes", 0, "how many nodes a live query may ask")
	f.StringSliceVar(&in.Networks, "from", nil, "a network that it may be used from, as 10.0.0.0/8; may be given several times")
	f.StringVar(&expires, "expires", "90d", "how long it works, as 12h or 30d, 366d at most")
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func printToken(cmd *cobra.Command, o *output, k adminapi.Token) error {
	if o.form == "raw" {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), k.Text)
		return err
	}
	return o.document(cmd, k, func() error {
		if err := printTable(cmd.OutOrStdout(), nil, [][]string{{"Token", k.Text}, {"Owner", k.Owner}, {"Scope", scopeText(k)}, {"Until", moment(&k.ExpiresAt)}}); err != nil {
			return err
		}
		say(cmd, "nobody can read it again: put it where its program finds it, as MUSTER_TOKEN")
		return nil
	})
}

func newTokenRotateCommand(t *target) *cobra.Command {
	var o output
	var user, ownFile, overlap string
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Replace a token by one with another text and a new end", Args: oneArg("the id of a token"),
		Example: "  muster token rotate ID -o raw > token",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := config.ParseDuration(overlap)
			if err != nil {
				return usagef("--overlap: %w", err)
			}
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var k adminapi.Token
			in := adminapi.RotateTokenInput{OverlapHours: int(d.Hours()), Own: own}
			if err := t.call(cmd, http.MethodPost, tokensPath(user)+"/"+url.PathEscape(args[0])+"/rotate", nil, in, &k); err != nil {
				return err
			}
			return printToken(cmd, &o, k)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "raw")
	userFlag(cmd, &user)
	cmd.Flags().StringVar(&overlap, "overlap", "0s", "how long the old one works, too, as 24h or 7d")
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newTokenRevokeCommand(t *target) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Let a token work no more, at once", Args: oneArg("the id of a token"),
		Example: "  muster token revoke ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := t.call(cmd, http.MethodDelete, tokensPath(user)+"/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			say(cmd, "the token works no more")
			return nil
		},
	}
	userFlag(cmd, &user)
	return cmd
}

func newTokenCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Tell whether a text on the standard input is a token, by its check sum", Args: noArgs,
		Long:    "Tell whether a text is a token of Muster, as one that was found where it should not be. No server is asked.",
		Example: "  muster token check < found.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			const most = 1 << 10
			b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
			if err != nil {
				return err
			}
			if !account.IsToken(strings.TrimSpace(string(b))) {
				return fmt.Errorf("it is no token of Muster")
			}
			say(cmd, "it is a token of Muster; revoke it: muster token list, muster token revoke ID")
			return nil
		},
	}
}
