package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newUserLinkCommand(t *target) *cobra.Command {
	return identityCommand(t, "link NAME", "Link a person to who they are at a provider of sign-on", "/identities", "linked")
}

func newUserUnlinkCommand(t *target) *cobra.Command {
	return identityCommand(t, "unlink NAME", "Unlink a person from who they are at a provider of sign-on", "/identities/remove", "unlinked")
}

func identityCommand(t *target, use, short, path, done string) *cobra.Command {
	var in adminapi.IdentityInput
	var ownFile string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: oneArg("a name"),
		Long: short + `. The subject is what the provider calls them for good,
which a refused login shows in the audit log; never an address of mail.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if in.Own, err = promptPassword(cmd, "Your own password", ownFile); err != nil {
				return err
			}
			if err := t.call(cmd, http.MethodPost, "/users/"+url.PathEscape(args[0])+path, nil, in, nil); err != nil {
				return err
			}
			say(cmd, "%s is %s", args[0], done)
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Provider, "provider", "", "name of the provider, as in sign_on_file")
	cmd.Flags().StringVar(&in.Subject, "subject", "", "the claim sub")
	ownPasswordFlag(cmd, &ownFile)
	_ = cmd.MarkFlagRequired("provider") // fails for a flag that there is not
	_ = cmd.MarkFlagRequired("subject")
	return cmd
}
