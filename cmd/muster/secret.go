package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/config"
)

func newSecretCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "secret", Short: "Make, list, rotate and revoke enroll secrets", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newSecretCreateCommand(&t), newSecretListCommand(&t), newSecretRotateCommand(&t), newSecretRevokeCommand(&t))
	return cmd
}

func newSecretCreateCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.SecretInput
	var expires, valueFile string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make an enroll secret and print it, this once", Args: oneArg("a name for the secret"),
		Long: `Make an enroll secret. It is printed this once: the server keeps a hash only.
Put it into the file that osquery's --enroll_secret_path names.

With --value-file the secret is one that agents show already, as to another
manager, so that their flagfiles stay as they are. Whoever guesses such a value
can enrol: one that is short or made of words needs --cidr, --max-uses or
--expires beside it.

With --agent-tag an agent may choose tags itself, by showing SECRET:TAG:TAG. A
tag that ends with * allows all that begin so.`,
		Example: `  muster secret create servers --tag server --expires 90d -o raw > enroll.secret
  muster secret create legacy --value-file old.secret --cidr 10.0.0.0/8 --agent-tag 'site-*'`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.Name = args[0]
			if expires != "" {
				d, err := config.ParseDuration(expires)
				if err != nil {
					return usagef("--expires: %w", err)
				}
				at := time.Now().Add(d)
				in.ExpiresAt = &at
			}
			if in.Value, err = readValue(cmd, valueFile); err != nil {
				return err
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var s adminapi.NewSecret
			if err := client.Call(cmd.Context(), http.MethodPost, "/secrets", nil, in, &s); err != nil {
				return err
			}
			return printSecret(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	f := cmd.Flags()
	f.StringArrayVar(&in.Tags, "tag", nil, "tag for nodes that enrol with it; may be repeated")
	f.StringArrayVar(&in.AgentTags, "agent-tag", nil, "tag that an agent may choose itself, or a prefix that ends with *; may be repeated")
	f.StringArrayVar(&in.CIDRs, "cidr", nil, "network that it works from, as 10.0.0.0/8; may be repeated, anywhere if not given")
	f.IntVar(&in.MaxUses, "max-uses", 0, "how often it may be used; 0 is no limit")
	f.StringVar(&expires, "expires", "", "how long it may be used, as in 12h or 90d; always if empty")
	f.StringVar(&valueFile, "value-file", "", "file that holds the value, - for standard input; a random one if empty")
	return cmd
}

// readValue reads a secret from a file, - for standard input, as osquery does:
// without the white space around it.
func readValue(cmd *cobra.Command, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	r, err := openInput(cmd, file)
	if err != nil {
		return "", usagef("--value-file: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(r, maxValueFile))
	if err != nil {
		return "", usagef("--value-file: %w", err)
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", usagef("--value-file: %s is empty", file)
	}
	return value, nil
}

// maxValueFile is far above what the server takes as a value, so that its
// refusal says what is wrong.
const maxValueFile = 64 << 10

// openInput opens a file for reading; - is standard input.
func openInput(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name) //nolint:gosec // the user names the file
}

// printSecret prints a secret's value, the one time that it is known.
func printSecret(cmd *cobra.Command, o *output, s adminapi.NewSecret) error {
	if o.form == "raw" {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), s.Value)
		return err
	}
	return o.document(cmd, s, func() error {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n\nThis is shown once. Give it to agents as their enroll secret (%s).\n", s.Value, s.Name)
		return err
	})
}

func newSecretRotateCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.RotateInput
	var overlap, valueFile string
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Give an enroll secret a new value and print it, this once", Args: oneArg("the name of a secret"),
		Long: `Give an enroll secret a new value and print it, this once. The value before works
for --overlap more, so that agents can be given the new one meanwhile. Nodes that
have enrolled stay.`,
		Example: "  muster secret rotate servers --overlap 24h -o raw > enroll.secret",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := config.ParseDuration(overlap)
			if err != nil {
				return usagef("--overlap: %w", err)
			}
			in.OverlapSeconds = int(d.Seconds())
			if in.Value, err = readValue(cmd, valueFile); err != nil {
				return err
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var s adminapi.NewSecret
			if err := client.Call(cmd.Context(), http.MethodPost, "/secrets/"+url.PathEscape(args[0])+"/rotate", nil, in, &s); err != nil {
				return err
			}
			if s.OldUntil != nil {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "The value before works until %s.\n", moment(s.OldUntil))
			}
			return printSecret(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how long the value before works too, as in 24h or 7d; 0s ends it at once")
	cmd.Flags().StringVar(&valueFile, "value-file", "", "file that holds the new value, - for standard input; a random one if empty")
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
				rows = append(rows, []string{
					s.Name, secretState(s), uses(s), strings.Join(s.Tags, ","), strings.Join(s.AgentTags, ","), strings.Join(s.CIDRs, ","),
					moment(s.ExpiresAt), overlap(s), s.CreatedBy, moment(&s.CreatedAt), moment(s.LastUsed),
				})
			}
			return o.list(cmd, l.Secrets, []string{
				"NAME", "STATE", "USES", "TAGS", "AGENT TAGS", "FROM", "EXPIRES", "OLD VALUE UNTIL", "BY", "CREATED", "LAST USED",
			}, rows)
		},
	}
	o.lists(cmd, "NAME")
	return cmd
}

// overlap says until when the value before the last rotation works, if it does.
func overlap(s adminapi.Secret) string {
	if s.OldUntil == nil || s.OldUntil.Before(time.Now()) {
		return "-"
	}
	return moment(s.OldUntil)
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
		Example: "  muster secret revoke servers",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodDelete, "/secrets/"+url.PathEscape(args[0]), nil, nil, nil)
		},
	}
}
