package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newFreezeCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "freeze", Short: "Refuse all changes of what agents run, and break the glass", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(
		newFreezeShowCommand(&t),
		newFreezeActCommand(&t, "on", "Refuse all changes until muster freeze off"),
		newFreezeActCommand(&t, "off", "End the freeze that was made by hand"),
		newFreezeActCommand(&t, "break", "Ask for break-glass: changes in spite of a freeze, for an hour, once a second person agrees"),
		newFreezeAgreeCommand(&t),
	)
	return cmd
}

func newFreezeShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show", Short: "Whether changes are refused, and why", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f adminapi.Freeze
			if err := t.call(cmd, http.MethodGet, "/freeze", nil, nil, &f); err != nil {
				return err
			}
			return printFreeze(cmd, &o, f)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func printFreeze(cmd *cobra.Command, o *output, f adminapi.Freeze) error {
	return o.document(cmd, f, func() error {
		text := "Changes are accepted.\n"
		if f.Frozen {
			text = "Changes are refused.\n"
		}
		for _, r := range f.Reasons {
			text += "  " + r + "\n"
		}
		if b := f.Break; b != nil && b.ApprovedBy == "" {
			text += fmt.Sprintf("%s asks for break-glass: %s. A second person agrees by muster freeze agree.\n", b.By, b.Reason)
		} else if b != nil {
			text += fmt.Sprintf("The glass is broken until %s by %s and %s: %s.\n", moment(b.Until), b.By, b.ApprovedBy, b.Reason)
		}
		return printText(cmd.OutOrStdout(), text)
	})
}

func newFreezeActCommand(t *target, verb, short string) *cobra.Command {
	var o output
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: verb, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f adminapi.Freeze
			if err := t.call(cmd, http.MethodPost, "/freeze/"+verb, nil, in, &f); err != nil {
				return err
			}
			return printFreeze(cmd, &o, f)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why; it is kept, and shown to those who ask or are refused")
	return cmd
}

func newFreezeAgreeCommand(t *target) *cobra.Command {
	var o output
	var passwordFile string
	cmd := &cobra.Command{
		Use: "agree", Short: "Agree to somebody else's break-glass", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := readPassword(cmd, passwordFile)
			if err != nil {
				return err
			}
			var f adminapi.Freeze
			if err := t.call(cmd, http.MethodPost, "/freeze/break/agree", nil, adminapi.PasswordInput{Password: password}, &f); err != nil {
				return err
			}
			return printFreeze(cmd, &o, f)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file that holds your password; asked for at the terminal if empty")
	return cmd
}

func newEmergencyCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "emergency", Short: "Make nodes run nothing, at once", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newEmergencyShowCommand(&t), newSafeConfigCommand(&t), newEmergencyEndCommand(&t))
	return cmd
}

func newEmergencyShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show", Short: "Whom the safe config is served", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s adminapi.Safe
			if err := t.call(cmd, http.MethodGet, "/emergency", nil, nil, &s); err != nil {
				return err
			}
			return printSafe(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func printSafe(cmd *cobra.Command, o *output, s adminapi.Safe) error {
	return o.document(cmd, s, func() error {
		text := "Nobody is served the safe config.\n"
		if s.Active {
			text = fmt.Sprintf("The safe config is served to: %s\nby %s, %s: %s\n", s.Selector, s.By, moment(s.At), s.Reason)
		}
		return printText(cmd.OutOrStdout(), text)
	})
}

func newSafeConfigCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.SafeInput
	cmd := &cobra.Command{
		Use: "safe-config (--all | --selector EXPR) -m WHY", Short: "Serve nodes the settings by which they talk to the server, and nothing to run", Args: noArgs,
		Long: `Serve nodes the settings by which they talk to the server, and nothing to run:
no packs, decorators, file monitoring or YARA. Each gets it at its next config
request. It works during a freeze, needs no approval, and lasts until
muster emergency end.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all, _ := cmd.Flags().GetBool("all"); all {
				if in.Selector != "" {
					return usagef("give --all or --selector, not both")
				}
				in.Selector = "all"
			}
			if strings.TrimSpace(in.Selector) == "" {
				return usagef("say for whom: --all, or --selector EXPR")
			}
			var s adminapi.Safe
			if err := t.call(cmd, http.MethodPost, "/emergency/safe-config", nil, in, &s); err != nil {
				return err
			}
			return printSafe(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().Bool("all", false, "all nodes")
	cmd.Flags().StringVar(&in.Selector, "selector", "", "these nodes, as tag = web and platform = linux")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why")
	return cmd
}

func newEmergencyEndCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.ReasonInput
	cmd := &cobra.Command{
		Use: "end", Short: "Serve everybody what their revision says again", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s adminapi.Safe
			if err := t.call(cmd, http.MethodPost, "/emergency/end", nil, in, &s); err != nil {
				return err
			}
			return printSafe(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why")
	return cmd
}
