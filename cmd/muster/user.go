package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newUserCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "user", Short: "List people, and make further ones", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newUserListCommand(&t), newUserCreateCommand(&t))
	return cmd
}

func newUserListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List people", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l adminapi.UserList
			if err := t.call(cmd, http.MethodGet, "/users", nil, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Users))
			for _, u := range l.Users {
				rows = append(rows, []string{u.Name, moment(&u.CreatedAt)})
			}
			return o.list(cmd, l.Users, []string{"NAME", "SINCE"}, rows)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	return cmd
}

func newUserCreateCommand(t *target) *cobra.Command {
	var o output
	var passwordFile, ownFile string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a further administrator, as for a second pair of eyes", Args: oneArg("a name"),
		Long: `Make a further administrator. Until there are roles, everybody is one. Your own
password is asked for once more: whoever has only your token must not be able to
make a second person who approves.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := promptPassword(cmd, "Password of "+args[0], passwordFile)
			if err != nil {
				return err
			}
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var u adminapi.User
			if err := t.call(cmd, http.MethodPost, "/users", nil, adminapi.UserInput{Name: args[0], Password: password, Own: own}, &u); err != nil {
				return err
			}
			return o.document(cmd, u, func() error {
				return printTable(cmd.OutOrStdout(), []string{"NAME", "SINCE"}, [][]string{{u.Name, moment(&u.CreatedAt)}})
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds the new person's password; asked for at the terminal if empty")
	cmd.Flags().StringVar(&ownFile, "own-password-file", "", "file that holds your own; asked for at the terminal if empty")
	return cmd
}
