package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

const aSink = "the name of a sink"

func newSinkCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "sink", Short: "Show where events are sent, and pause, resume, replay and test it", Args: noArgs, RunE: help,
		Long: `A sink is a system outside that receives events: a file, syslog, Splunk, Kafka and
others. It is a resource: write it, and muster apply it. Each has a position of its
own in the stream of events, so one that is down loses nothing as long as the stream
has room, and holds up nobody.`,
	}
	t.flags(cmd)
	cmd.AddCommand(
		newSinkListCommand(&t), newSinkShowCommand(&t),
		newSinkActCommand(&t, "pause", "Pause a sink; its events wait in the stream", ""),
		newSinkActCommand(&t, "resume", "Let a paused sink go on where it was", ""),
		newSinkReplayCommand(&t), newSinkTestCommand(&t), newSinkDeadCommand(&t),
		newSinkActCommand(&t, "retry", "Send a sink's dead letters once more", "/dead"), newSinkDiscardCommand(&t),
	)
	return cmd
}

func newSinkListCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "list", Short: "List sinks, how they do, and how far behind they are", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list := []adminapi.Sink{}
			if err := t.call(cmd, http.MethodGet, "/sinks", nil, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, s := range list {
				rows = append(rows, []string{
					s.Name, s.Type, s.State, strconv.FormatInt(s.Sent, 10), strconv.FormatUint(s.Lag.Messages, 10), lagText(s.Lag),
					strconv.Itoa(s.Dead.Letters), strconv.FormatInt(s.Lost, 10), agoAt(s.DeliveredAt), s.Error,
				})
			}
			return o.list(cmd, list, []string{"NAME", "TYPE", "STATE", "SENT", "BEHIND", "BY", "DEAD", "LOST", "DELIVERED", "ERROR"}, rows)
		},
	}
	o.lists(cmd, "NAME")
	o.watch(cmd)
	return cmd
}

// lagText prints how far behind a sink is; nothing waits where it is 0.
func lagText(l adminapi.SinkLag) string {
	if l.Messages == 0 {
		return "-"
	}
	return time.Duration(l.Seconds * float64(time.Second)).Round(time.Second).String()
}

func behindText(l adminapi.SinkLag) string {
	if l.Messages == 0 {
		return "nothing waits"
	}
	return fmt.Sprintf("%d messages, about %s, the oldest from %s ago", l.Messages, bytesText(int64(l.Bytes)), lagText(l)) //nolint:gosec // far from 2^63
}

func newSinkShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a sink: how it does, what waits, what was refused", Args: oneArg(aSink),
		Example: "  muster sink show siem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s adminapi.Sink
			if err := t.call(cmd, http.MethodGet, "/sinks/"+url.PathEscape(args[0]), nil, nil, &s); err != nil {
				return err
			}
			return printSink(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

func printSink(cmd *cobra.Command, o *output, s adminapi.Sink) error {
	return o.document(cmd, s, func() error {
		lines := [][2]string{
			{"name", s.Name}, {"type", s.Type}, {"format", s.Format}, {"required", wordOf(s.Required)}, {"state", s.State},
		}
		if s.Error != "" {
			lines = append(lines, [2]string{"error", s.Error}, [2]string{"failing since", agoAt(s.FailingAt)})
		}
		if s.PausedAt != nil {
			lines = append(lines, [2]string{"paused", agoAt(s.PausedAt) + " by " + s.PausedBy})
		}
		lines = append(lines,
			[2]string{"sent", strconv.FormatInt(s.Sent, 10) + " events, the last " + agoAt(s.DeliveredAt)},
			[2]string{"behind", behindText(s.Lag)},
			[2]string{"lost", strconv.FormatInt(s.Lost, 10) + " messages"},
			[2]string{"dead letters", fmt.Sprintf("%d, %s", s.Dead.Letters, bytesText(s.Dead.Bytes))})
		if s.Replay != nil {
			lines = append(lines, [2]string{"replay", fmt.Sprintf("since %s by %s: %d events, up to %s",
				s.Replay.Since.Format(time.RFC3339), s.Replay.By, s.Replay.Sent, s.Replay.Done.Format(time.RFC3339))})
		}
		for _, l := range lines {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-14s %s\n", l[0], printable(l[1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// newSinkActCommand makes a command that does one thing to a sink, and shows it.
func newSinkActCommand(t *target, act, short, below string) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: act + " NAME", Short: short, Args: oneArg(aSink),
		Example: "  muster sink " + act + " siem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s adminapi.Sink
			if err := t.call(cmd, http.MethodPost, "/sinks/"+url.PathEscape(args[0])+below+"/"+act, nil, nil, &s); err != nil {
				return err
			}
			return printSink(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newSinkReplayCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.SinkReplayInput
	var stop bool
	cmd := &cobra.Command{
		Use: "replay NAME (--since TIME [--until TIME] | --stop)", Short: "Send events of a span of time once more", Args: oneArg(aSink),
		Long: `Send a sink once more what can be searched from a time on, beside what comes. What
it had before it gets a second time, with the same ids. muster sink show tells how far
it is; another replay takes the place of one that is under way.`,
		Example: `  muster sink replay splunk --since 6h
  muster sink replay splunk --since 2026-01-31T12:00:00Z --until 2026-01-31T18:00:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if stop == (in.Since != "") {
				return usagef("say from when on with --since, as 6h, or --stop")
			}
			path, method, body := "/sinks/"+url.PathEscape(args[0])+"/replay", http.MethodPost, any(in)
			if stop {
				method, body = http.MethodDelete, nil
			}
			var s adminapi.Sink
			if err := t.call(cmd, method, path, nil, body, &s); err != nil {
				return err
			}
			return printSink(cmd, &o, s)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&in.Since, "since", "", "RFC 3339 time, or how long ago, as in 6h or 7d")
	cmd.Flags().StringVar(&in.Until, "until", "", "the same; up to what is there if it is left out")
	cmd.Flags().BoolVar(&stop, "stop", false, "end the replay that is under way")
	return cmd
}

func newSinkTestCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "test NAME", Short: "Send one event of the query muster:test, and say whether it was taken", Args: oneArg(aSink),
		Example: "  muster sink test siem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var done adminapi.SinkTested
			if err := t.call(cmd, http.MethodPost, "/sinks/"+url.PathEscape(args[0])+"/test", nil, nil, &done); err != nil {
				return err
			}
			return o.document(cmd, done, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s took it within %s\n", printable(args[0]), time.Duration(done.Milliseconds)*time.Millisecond)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newSinkDeadCommand(t *target) *cobra.Command {
	var o output
	var limit int
	cmd := &cobra.Command{
		Use: "dead NAME", Short: "List events that a sink refused for good, oldest first", Args: oneArg(aSink),
		Example: "  muster sink dead siem",
		RunE: func(cmd *cobra.Command, args []string) error {
			list := []adminapi.SinkLetter{}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if err := t.call(cmd, http.MethodGet, "/sinks/"+url.PathEscape(args[0])+"/dead", query, nil, &list); err != nil {
				return err
			}
			rows := make([][]string, 0, len(list))
			for _, l := range list {
				rows = append(rows, []string{l.At.Format(time.RFC3339), l.Reason, string(l.Event)})
			}
			return o.list(cmd, list, []string{"AT", "REASON", "EVENT"}, rows)
		},
	}
	o.lists(cmd, "")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many, up to 1000")
	return cmd
}

func newSinkDiscardCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "discard NAME", Short: "Discard a sink's dead letters", Args: oneArg(aSink),
		Example: "  muster sink discard siem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var done adminapi.SinkDiscarded
			if err := t.call(cmd, http.MethodDelete, "/sinks/"+url.PathEscape(args[0])+"/dead", nil, nil, &done); err != nil {
				return err
			}
			return o.document(cmd, done, func() error {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d dead letters are gone\n", done.Letters)
				return err
			})
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}
