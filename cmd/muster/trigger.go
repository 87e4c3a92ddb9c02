package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newTriggerCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "trigger", Short: "List triggers, give them tokens, and try them", Args: noArgs, RunE: help,
		Long: `A trigger lets something outside start one live query on one node. It is a
resource: write it, and muster apply it. What sends payloads to it needs its
token, from muster trigger token NAME, and posts to /api/v1/hooks/NAME.`,
	}
	t.flags(cmd)
	cmd.AddCommand(newTriggerListCommand(&t), newTriggerTokenCommand(&t), newTriggerFireCommand(&t))
	return cmd
}

func newTriggerListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List triggers, how often they fired, and how soon nodes answered", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.TriggerStatus{}
			if err := t.call(cmd, http.MethodGet, "/triggers", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, s := range list {
				last := "never"
				if s.LastFiredAt != nil {
					last = ago(*s.LastFiredAt)
				}
				rows = append(rows, []string{
					s.Name, wordOf(s.HasToken), strconv.Itoa(s.Fired), strconv.Itoa(s.Answered), last, latencyText(s.Latency.DeliveredP50),
					latencyText(s.Latency.DeliveredP99), latencyText(s.Latency.AnsweredP50), latencyText(s.Latency.AnsweredP99), s.Description,
				})
			}
			return o.list(cmd, list, []string{"NAME", "TOKEN", "FIRED", "ANSWERED", "LAST", "TAKEN P50", "TAKEN P99", "ANSWERED P50", "ANSWERED P99", "DESCRIPTION"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	o.watch(cmd)
	return cmd
}

func wordOf(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// latencyText prints a latency; nothing was measured where it is 0.
func latencyText(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func newTriggerTokenCommand(t *target) *cobra.Command {
	var o output
	var revoke bool
	cmd := &cobra.Command{
		Use: "token NAME", Short: "Give a trigger a new token and print it, this once", Args: oneArg("the name of a trigger"),
		Long: `Give a trigger a new token. It is printed this once: the server keeps a hash only.
The token before stops working at once. --revoke takes the token away, and makes
no other.`,
		Example: `  muster trigger token container-started -o raw > token
  curl --cacert ca.pem -H "X-Muster-Token: $(cat token)" -d @event.json https://muster.example.com/api/v1/hooks/container-started`,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/triggers/" + url.PathEscape(args[0]) + "/token"
			if revoke {
				return t.call(cmd, http.MethodDelete, path, nil, nil, nil)
			}
			var made adminapi.TriggerToken
			if err := t.call(cmd, http.MethodPost, path, nil, nil, &made); err != nil {
				return err
			}
			if o.form == "raw" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), made.Token)
				return err
			}
			return o.document(cmd, made, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\nPOST payloads to %s with it as X-Muster-Token. It cannot be shown again.\n", printable(made.Token), printable(made.URL))
				return err
			})
		},
	}
	o.flag(cmd, "table", "raw", "json", "yaml")
	cmd.Flags().BoolVar(&revoke, "revoke", false, "take the token away")
	return cmd
}

func newTriggerFireCommand(t *target) *cobra.Command {
	var o output
	var file string
	cmd := &cobra.Command{
		Use: "fire NAME --payload FILE", Short: "Fire a trigger by hand, as a payload would", Args: oneArg("the name of a trigger"),
		Long: `Fire a trigger with a payload, as yourself: its limits, its selector and the
policy hold as for anybody. muster live shows what was started.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("say what the payload is: --payload FILE, - for standard input")
			}
			payload, err := readPayload(cmd, file)
			if err != nil {
				return err
			}
			var fired adminapi.Fired
			if err := t.call(cmd, http.MethodPost, "/triggers/"+url.PathEscape(args[0])+"/fire", nil, adminapi.FireInput{Payload: payload}, &fired); err != nil {
				return err
			}
			return o.document(cmd, fired, func() error {
				words := "started"
				if fired.Duplicate {
					words = "the same started before:"
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s live query %s on node %s\n", words, printable(fired.LiveID), printable(fired.NodeID))
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&file, "payload", "", "file that holds the payload, JSON; - for standard input")
	return cmd
}

// maxPayloadFile is more than the server takes, which says so.
const maxPayloadFile = 1 << 20

func readPayload(cmd *cobra.Command, file string) (json.RawMessage, error) {
	r, err := openInput(cmd, file)
	if err != nil {
		return nil, usagef("--payload: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(r, maxPayloadFile))
	if err != nil {
		return nil, fmt.Errorf("--payload: %w", err)
	}
	if !json.Valid(b) {
		return nil, usagef("--payload: %s holds no JSON", file)
	}
	return b, nil
}

func newEnrollmentCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "enrollment", Short: "Show what nodes are asked when they enrol", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newEnrollmentListCommand(&t))
	return cmd
}

func newEnrollmentListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List enrollment queries, who was asked, and how soon they answered", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.EnrollmentStatus{}
			if err := t.call(cmd, http.MethodGet, "/enrollment-queries", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, s := range list {
				rows = append(rows, []string{
					s.Name, s.Selector, strconv.Itoa(s.Asked), strconv.Itoa(s.Answered), strconv.Itoa(s.Waiting), strconv.Itoa(s.Failed),
					strconv.Itoa(s.Expired), latencyText(s.Latency.AnsweredP50), latencyText(s.Latency.AnsweredP99), s.LiveID,
				})
			}
			return o.list(cmd, list, []string{"NAME", "NODES", "ASKED", "ANSWERED", "WAITING", "FAILED", "EXPIRED", "ANSWERED P50", "P99", "LIVE QUERY"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	o.watch(cmd)
	return cmd
}

func newLiveBoundCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "bound", Short: "How soon nodes are asked and answer at most, by platform and tag", Args: noArgs,
		Long: `Show, for all nodes, for each platform and for each tag, within how many seconds a
node that is online and idle has a question at most: the longest poll interval
that a served config says, and two seconds. Beside it, how soon nodes of the group
did answer triggers and enrollment queries within 30 days.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.LiveBound{}
			if err := t.call(cmd, http.MethodGet, "/live/bound", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, b := range list {
				rows = append(rows, []string{
					b.Group, strconv.Itoa(b.Nodes), strconv.Itoa(b.Mute), figure(b.Poll), figure(b.Guaranteed),
					strconv.Itoa(b.Observed.Answered), latencyText(b.Observed.P50), latencyText(b.Observed.P99),
				})
			}
			return o.list(cmd, list, []string{"GROUP", "NODES", "MUTE", "POLL S", "BOUND S", "ANSWERED", "P50", "P99"}, rows)
		},
	}
	o.lists(cmd, "")
	return cmd
}
