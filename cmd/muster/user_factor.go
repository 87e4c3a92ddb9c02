package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newUserFactorCommand(t *target) *cobra.Command {
	cmd := &cobra.Command{
		Use: "factor", Short: "Authenticators: the second proof of who you are", Args: noArgs, RunE: help,
		Long: `List, add and remove your own authenticators (TOTP), which logins then need beside
the password. With the first one come recovery codes, for when it is lost.`,
	}
	cmd.AddCommand(newFactorListCommand(t), newFactorAddCommand(t), newFactorRemoveCommand(t), newFactorRecoveryCommand(t), newFactorResetCommand(t))
	return cmd
}

func newFactorListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List your authenticators", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l adminapi.FactorList
			if err := t.call(cmd, http.MethodGet, "/session/factors", nil, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Factors))
			for _, f := range l.Factors {
				rows = append(rows, []string{f.ID, f.Name, moment(&f.CreatedAt), moment(f.LastUsed)})
			}
			if err := o.list(cmd, l.Factors, []string{"ID", "NAME", "SINCE", "LAST USED"}, rows); err != nil {
				return err
			}
			say(cmd, "%d recovery codes are left", l.RecoveryLeft)
			return nil
		},
	}
	o.lists(cmd, "ID")
	return cmd
}

func newFactorAddCommand(t *target) *cobra.Command {
	var ownFile string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add an authenticator, as phone", Args: oneArg("a name"),
		Long: `Add an authenticator: type the secret into it, or open the address with it, then
type the code that it shows. The account page shows a picture to scan.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var f adminapi.FactorSecret
			if err := t.call(cmd, http.MethodPost, "/session/factors", nil, adminapi.FactorInput{Name: args[0], Own: own}, &f); err != nil {
				return err
			}
			say(cmd, "secret:  %s\naddress: %s", f.Secret, f.URI)
			_, _ = fmt.Fprint(cmd.ErrOrStderr(), "The code that it shows: ")
			line, err := bufio.NewReader(os.Stdin).ReadString('\n')
			if line == "" && err != nil {
				return errors.New("no code was typed; it is not added")
			}
			var codes adminapi.RecoveryCodes
			in := adminapi.FactorCode{Code: strings.TrimSpace(line)}
			if err := t.call(cmd, http.MethodPost, "/session/factors/"+url.PathEscape(f.ID)+"/confirm", nil, in, &codes); err != nil {
				return err
			}
			say(cmd, "logins need it from now on")
			return printRecovery(cmd, codes)
		},
	}
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func printRecovery(cmd *cobra.Command, codes adminapi.RecoveryCodes) error {
	if len(codes.Codes) == 0 {
		return nil
	}
	say(cmd, "recovery codes, each of which stands in for a code once; nobody can read them again:")
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(codes.Codes, "\n"))
	return err
}

func newFactorRemoveCommand(t *target) *cobra.Command {
	var ownFile string
	cmd := &cobra.Command{
		Use: "remove ID", Short: "Remove one of your authenticators", Args: oneArg("the id of an authenticator"),
		Example: "  muster user factor remove ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			return t.call(cmd, http.MethodPost, "/session/factors/"+url.PathEscape(args[0])+"/remove", nil, adminapi.PasswordInput{Password: own}, nil)
		},
	}
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newFactorRecoveryCommand(t *target) *cobra.Command {
	var ownFile string
	cmd := &cobra.Command{
		Use: "recovery", Short: "Make new recovery codes; those before work no more", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			var codes adminapi.RecoveryCodes
			if err := t.call(cmd, http.MethodPost, "/session/recovery-codes", nil, adminapi.PasswordInput{Password: own}, &codes); err != nil {
				return err
			}
			return printRecovery(cmd, codes)
		},
	}
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}

func newFactorResetCommand(t *target) *cobra.Command {
	var ownFile string
	cmd := &cobra.Command{
		Use: "reset NAME", Short: "Remove all authenticators of a person who lost them; their sessions end", Args: oneArg("a name"),
		Example: "  muster user factor reset grace",
		RunE: func(cmd *cobra.Command, args []string) error {
			own, err := promptPassword(cmd, "Your own password", ownFile)
			if err != nil {
				return err
			}
			return t.call(cmd, http.MethodPost, "/users/"+url.PathEscape(args[0])+"/factors/remove", nil, adminapi.PasswordInput{Password: own}, nil)
		},
	}
	ownPasswordFlag(cmd, &ownFile)
	return cmd
}
