package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/config"
)

func newSecretCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "secret", Short: "Make, list and revoke enroll secrets", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newSecretCreateCommand(&t), newSecretListCommand(&t), newSecretRevokeCommand(&t))
	return cmd
}

func newSecretCreateCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.SecretInput
	var expires string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an enroll secret and print it, this once", Args: oneArg("a name for the secret"),
		Long: `Make an enroll secret. It is printed this once: the server keeps a hash only.
Put it into the file that osquery's --enroll_secret_path names.`,
		Example: "  muster secret create servers --tag server --expires 90d -o raw > enroll.secret",
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name = args[0]
			if expires != "" {
				d, err := config.ParseDuration(expires)
				if err != nil {
					return usagef("--expires: %w", err)
				}
				at := time.Now().Add(d)
				in.ExpiresAt = &at
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var s adminapi.NewSecret
			if err := client.Call(cmd.Context(), http.MethodPost, "/secrets", nil, in, &s); err != nil {
				return err
			}
			if o.form == "raw" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), s.Value)
				return err
			}
			return o.document(cmd, s, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n\nThis is shown once. Give it to agents as their enroll secret (%s).\n", s.Value, s.Name)
				return err
			})
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	cmd.Flags().StringArrayVar(&in.Tags, "tag", nil, "tag for nodes that enrol with it; may be repeated")
	cmd.Flags().IntVar(&in.MaxUses, "max-uses", 0, "how often it may be used; 0 is no limit")
	cmd.Flags().StringVar(&expires, "expires", "", "how long it may be used, as in 12h or 90d; always if empty")
	return cmd
}

func newSecretListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List enroll secrets, without their values", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var l adminapi.SecretList
			if err := client.Call(cmd.Context(), http.MethodGet, "/secrets", nil, nil, &l); err != nil {
				return err
			}
			rows := make([][]string, 0, len(l.Secrets))
			for _, s := range l.Secrets {
				rows = append(rows, []string{s.Name, secretState(s), uses(s), strings.Join(s.Tags, ","), s.CreatedBy, moment(&s.CreatedAt), moment(s.LastUsed)})
			}
			return o.list(cmd, l.Secrets, []string{"NAME", "STATE", "USES", "TAGS", "BY", "CREATED", "LAST USED"}, rows)
		},
	}
	o.flag(cmd, "table", "json", "yaml", "csv")
	return cmd
}

func secretState(s adminapi.Secret) string {
	switch {
	case s.RevokedAt != nil:
		return "revoked"
	case s.ExpiresAt != nil && s.ExpiresAt.Before(time.Now()):
		return "expired"
	case s.MaxUses > 0 && s.Uses >= s.MaxUses:
		return "used up"
	}
	return "active"
}

func uses(s adminapi.Secret) string {
	if s.MaxUses == 0 {
		return strconv.Itoa(s.Uses)
	}
	return fmt.Sprintf("%d of %d", s.Uses, s.MaxUses)
}

func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}

func newSecretRevokeCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Revoke an enroll secret; nodes that used it stay", Args: oneArg("the name of a secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodDelete, "/secrets/"+url.PathEscape(args[0]), nil, nil, nil)
		},
	}
}
