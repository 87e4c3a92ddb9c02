package main

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newUserCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "user", Short: "People: who there is, what they may do, and their sessions", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(
		newUserListCommand(&t), newUserCreateCommand(&t), newUserRolesCommand(&t), newUserDisableCommand(&t), newUserEnableCommand(&t),
		newUserPasswordCommand(&t), newUserSessionsCommand(&t), newUserFactorCommand(&t), newUserLinkCommand(&t), newUserUnlinkCommand(&t),
		newUserInviteCommand(&t), newUserInvitationsCommand(&t),
	)
	return cmd
}

func userRow(u adminapi.User) []string {
	state := "active"
	if u.DisabledAt != nil {
		state = "disabled " + moment(u.DisabledAt)
	}
	kind := "person"
	if u.Service {
		kind = "service"
	}
	return []string{u.Name, kind, strings.Join(u.Roles, ", "), state, moment(&u.CreatedAt)}
}

func userHead() []string { return []string{"NAME", "KIND", "ROLES", "STATE", "SINCE"} }

func printUser(cmd *cobra.Command, o *output, u adminapi.User) error {
	return o.document(cmd, u, func() error { return printTable(cmd.OutOrStdout(), userHead(), [][]string{userRow(u)}) })
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
				rows = append(rows, userRow(u.User))
			}
			return o.list(cmd, l.Users, userHead(), rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

func newUserCreateCommand(t *target) *cobra.Command {
	var o output
	var passwordFile, ownFile string
	var roles []string
	var service bool
	cmd := &cobra.Command{
		Use: "create NAME --role ROLE…", Short: "Make a further person", Args: oneArg("a name"),
		Long: `Make a further person with some roles (muster role list). Your own password is
asked for once more: whoever has only your token must not be able to make a
second person who approves.`,
		Example: `  muster user create grace --role operator --role responder
  muster user create pipeline --service --role automation`,
		RunE: func(cmd *cobra.Command, args []string) error {
			password := ""
			if !service {
				var err error
				if password, err = promptPassword(cmd, "Password of "+args[0], passwordFile); err != nil {
					return err
				}
			}
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var u adminapi.User
			if err := t.call(cmd, http.MethodPost, "/users", nil, adminapi.UserInput{Name: args[0], Password: password, Service: service, Roles: roles, Own: own}, &u); err != nil {
				return err
			}
			return printUser(cmd, &o, u)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds the new person's password; asked for at the terminal if empty")
	ownPasswordFlag(cmd, &ownFile)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "a role that they get; may be given several times")
	cmd.Flags().BoolVar(&service, "service", false, "a service account, for a program: it has tokens (muster token create --user) and no password")
	cmd.MarkFlagsMutuallyExclusive("service", "password-file")
	_ = cmd.MarkFlagRequired("role") // fails for a flag that there is not
	return cmd
}

func ownPasswordFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "own-password-file", "", "file that holds your own password; asked for at the terminal if empty")
}

func newUserRolesCommand(t *target) *cobra.Command {
	var o output
	var ownFile string
	cmd := &cobra.Command{
		Use: "roles NAME [ROLE…]", Short: "Give a person these roles and no others; it holds at once", Args: someArgs("a name, and roles"),
		Example: `  muster user roles grace
  muster user roles grace analyst responder`,
		RunE: func(cmd *cobra.Command, args []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var u adminapi.User
			in := adminapi.UserRolesInput{Roles: append([]string{}, args[1:]...), Own: own}
			if err := t.call(cmd, http.MethodPut, "/users/"+url.PathEscape(args[0])+"/roles", nil, in, &u); err != nil {
				return err
			}
			return printUser(cmd, &o, u)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newUserDisableCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "disable NAME", Short: "End all that a person can do: sessions end, no login works", Args: oneArg("a name"),
		Example: "  muster user disable grace",
		RunE: func(cmd *cobra.Command, args []string) error {
			var u adminapi.User
			if err := t.call(cmd, http.MethodPost, "/users/"+url.PathEscape(args[0])+"/disable", nil, nil, &u); err != nil {
				return err
			}
			return printUser(cmd, &o, u)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newUserEnableCommand(t *target) *cobra.Command {
	var o output
	var ownFile string
	cmd := &cobra.Command{
		Use: "enable NAME", Short: "Let a person log in again", Args: oneArg("a name"),
		Example: "  muster user enable grace",
		RunE: func(cmd *cobra.Command, args []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var u adminapi.User
			if err := t.call(cmd, http.MethodPost, "/users/"+url.PathEscape(args[0])+"/enable", nil, adminapi.PasswordInput{Password: own}, &u); err != nil {
				return err
			}
			return printUser(cmd, &o, u)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newUserPasswordCommand(t *target) *cobra.Command {
	var o output
	var passwordFile, ownFile string
	cmd := &cobra.Command{
		Use: "password [NAME]", Short: "Change a password, your own without a name; other sessions end", Args: atMostOne("a name"),
		Example: "  muster user password",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/session/password"
			if len(args) > 0 {
				path = "/users/" + url.PathEscape(args[0]) + "/password"
			}
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			password, err := promptPassword(cmd, "The new password", passwordFile)
			if err != nil {
				return err
			}
			var u adminapi.User
			if err := t.call(cmd, http.MethodPut, path, nil, adminapi.NewPasswordInput{Password: password, Own: own}, &u); err != nil {
				return err
			}
			return printUser(cmd, &o, u)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds the new password; asked for at the terminal if empty")
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newUserSessionsCommand(t *target) *cobra.Command {
	var o output
	var end string
	var endAll bool
	cmd := &cobra.Command{
		Use: "sessions [NAME]", Short: "List sessions, your own without a name, or end them", Args: atMostOne("a name"),
		Example: "  muster user sessions grace --end-all",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/sessions"
			if len(args) > 0 {
				path = "/users/" + url.PathEscape(args[0]) + "/sessions"
			}
			switch {
			case end != "":
				return t.call(cmd, http.MethodDelete, path+"/"+url.PathEscape(end), nil, nil, nil)
			case endAll:
				var out adminapi.SessionsEnded
				err := t.call(cmd, http.MethodDelete, path, nil, nil, &out)
				if err == nil {
					say(cmd, "%d sessions ended", out.Ended)
				}
				return err
			}
			var l adminapi.SessionList
			if err := t.call(cmd, http.MethodGet, path, nil, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Sessions))
			for _, s := range l.Sessions {
				current := ""
				if s.Current {
					current = "this one"
				}
				rows = append(rows, []string{s.ID, s.Kind, moment(&s.CreatedAt), moment(&s.LastSeen), moment(&s.ExpiresAt), s.Address, s.Agent, current})
			}
			return o.list(cmd, l.Sessions, []string{"ID", "KIND", "SINCE", "LAST USED", "UNTIL", "ADDRESS", "PROGRAM", ""}, rows)
		},
	}
	o.lists(cmd, "ID")
	cmd.Flags().StringVar(&end, "end", "", "end the session of this id")
	cmd.Flags().BoolVar(&endAll, "end-all", false, "end all of them; of your own, all but this one")
	cmd.MarkFlagsMutuallyExclusive("end", "end-all")
	return cmd
}
