package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newCarveCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use: "carve", Short: "Fetch files from nodes", Args: noArgs,
		Long: `Fetch files from nodes. The node packs what a path means into an archive and
sends it; the server keeps it sealed, checks it and lists what is in it. Agents
carve only with --disable_carver=false; see docs/carving.md.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	t.flags(cmd)
	cmd.AddCommand(newCarveStartCommand(&t), newCarveListCommand(&t), newCarveShowCommand(&t), newCarveGetCommand(&t),
		newCarveCancelCommand(&t), newCarveRemoveCommand(&t))
	return cmd
}

func newCarveStartCommand(t *target) *cobra.Command {
	var o output
	var in adminapi.CarveInput
	var wait bool
	var expires, limit time.Duration
	cmd := &cobra.Command{
		Use: "start --node NODE PATH…", Short: "Ask a node for files",
		Long: `Ask a node for files. Each path becomes an archive; a % in it stands for any text
within a name. What is known to hold secrets needs --reason. With --wait the
command ends when the carve has: 0 if the files are here, 1 if it failed, 5 if
that takes longer than --timeout.`,
		Example: `  muster carve start --node web-1 /etc/hosts /var/log/%.log --wait
  muster carve start --node web-1 /etc/shadow --reason "INC-42: unknown accounts"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the paths to fetch")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Node == "" {
				return usagef("name the node: --node")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			in.Paths, in.ExpiresSeconds = args, int(expires.Seconds())
			var c adminapi.Carve
			if err := client.Call(cmd.Context(), http.MethodPost, "/carves", nil, in, &c); err != nil {
				return err
			}
			if !wait {
				return o.document(cmd, c, func() error { return printCarve(cmd, c) })
			}
			return awaitCarve(cmd, client, &o, c, limit)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&in.Node, "node", "", "id, host identifier or hostname of the node")
	f.StringVar(&in.Reason, "reason", "", "why, for the audit log")
	f.DurationVar(&expires, "expires", 0, "how long the node is asked (default 1h)")
	f.BoolVar(&wait, "wait", false, "wait until the carve has ended")
	f.DurationVar(&limit, "timeout", 15*time.Minute, "how long --wait waits")
	return cmd
}

// Pace of waiting.
const (
	carvePoll = time.Second
	// verifyWait is how long a carve that is here may still be compared with what
	// the node says it sent.
	verifyWait = 30 * time.Second
)

// awaitCarve follows a carve to its end and prints it.
func awaitCarve(cmd *cobra.Command, client *adminapi.Client, o *output, c adminapi.Carve, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	pace := time.NewTicker(carvePoll)
	defer pace.Stop()
	said, done := "", time.Time{}
	for {
		if line := carveProgress(c); line != said {
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), line)
			said = line
		}
		if c.State == "done" && done.IsZero() {
			done = time.Now()
		}
		if ended(c) && (done.IsZero() || verified(c) || time.Since(done) > verifyWait) {
			break
		}
		select {
		case <-ctx.Done():
			_ = o.document(cmd, c, func() error { return printCarve(cmd, c) })
			return &exit{exitPartly, fmt.Errorf("the carve is %s still; muster carve show %s tells how it goes on", c.State, c.ID)}
		case <-pace.C:
		}
		if err := client.Call(ctx, http.MethodGet, "/carves/"+url.PathEscape(c.ID), nil, nil, &c); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if err := o.document(cmd, c, func() error { return printCarve(cmd, c) }); err != nil {
		return err
	}
	if c.State != "done" {
		return fmt.Errorf("the carve %s: %s", c.State, c.Message)
	}
	return nil
}

func ended(c adminapi.Carve) bool {
	return slices.Contains([]string{"done", "failed", "cancelled", "expired"}, c.State)
}

func verified(c adminapi.Carve) bool {
	return !slices.ContainsFunc(c.Archives, func(a adminapi.CarveArchive) bool { return a.State == "done" && a.Verification == "" })
}

func carveProgress(c adminapi.Carve) string {
	if c.State == "uploading" && c.Size > 0 {
		return fmt.Sprintf("uploading: %d%% of %s", c.Received*100/c.Size, bytesText(c.Size))
	}
	return c.State
}

func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, at := float64(n)/unit, 0
	for value >= unit && at < 4 {
		value, at = value/unit, at+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[at])
}

func printCarve(cmd *cobra.Command, c adminapi.Carve) error {
	rows := [][]string{
		{"id", c.ID},
		{"state", c.State},
		{"node", c.Hostname + " (" + c.NodeID + ")"},
		{"asked by", c.CreatedBy},
		{"asked at", c.CreatedAt.Local().Format(time.DateTime)},
	}
	for name, text := range map[string]string{"reason": c.Reason, "message": c.Message} {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	if c.KeptUntil != nil {
		rows = append(rows, []string{"kept until", c.KeptUntil.Local().Format(time.DateTime)})
	}
	if err := printTable(cmd.OutOrStdout(), []string{"CARVE", ""}, rows); err != nil {
		return err
	}
	rows = nil
	for _, a := range c.Archives {
		hash := a.SHA256
		if a.Verification != "" {
			hash += " (" + a.Verification + ")"
		}
		rows = append(rows, []string{strconv.Itoa(a.N), a.Path, a.State, bytesText(a.Size), a.Format, strconv.Itoa(a.Files), hash, a.Message})
	}
	_, _ = fmt.Fprintln(cmd.OutOrStdout())
	return printTable(cmd.OutOrStdout(), []string{"N", "PATH", "STATE", "SIZE", "FORMAT", "FILES", "SHA256", ""}, rows)
}

func newCarveListCommand(t *target) *cobra.Command {
	var o output
	var node, state string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List carves, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"node": node, "state": state} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var page adminapi.CarvePage
			if err := client.Call(cmd.Context(), http.MethodGet, "/carves", query, nil, &page); err != nil {
				return err
			}
			rows := make([][]string, 0, len(page.Carves))
			for _, c := range page.Carves {
				rows = append(rows, []string{
					c.ID, c.Hostname, c.State, bytesText(c.Size), c.CreatedBy, c.CreatedAt.Local().Format(time.DateTime), strings.Join(c.Paths, " "),
				})
			}
			return o.list(cmd, page.Carves, []string{"ID", "HOST", "STATE", "SIZE", "BY", "ASKED", "PATHS"}, rows)
		},
	}
	o.lists(cmd, "ID")
	o.watch(cmd)
	f := cmd.Flags()
	f.StringVar(&node, "node", "", "only of the node with this id")
	f.StringVar(&state, "state", "", "only in this state: asked, sent, scheduled, uploading, verifying, done, failed, cancelled, expired")
	f.IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

// carveDetail is a carve with what is in it.
type carveDetail struct {
	adminapi.Carve

	Listings []carveListing `json:"listings"`
}

type carveListing struct {
	Archive int `json:"archive"`
	adminapi.CarveFiles
}

func newCarveShowCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a carve and the files in it", Args: oneArg("the id of a carve"),
		Example: "  muster carve show ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			path := "/carves/" + url.PathEscape(args[0])
			d := carveDetail{Listings: []carveListing{}}
			if err := client.Call(cmd.Context(), http.MethodGet, path, nil, nil, &d.Carve); err != nil {
				return err
			}
			for _, a := range d.Archives {
				if a.SHA256 == "" {
					continue
				}
				l := carveListing{Archive: a.N}
				if err := client.Call(cmd.Context(), http.MethodGet, path+"/files", url.Values{"archive": {strconv.Itoa(a.N)}}, nil, &l.CarveFiles); err != nil {
					return err
				}
				d.Listings = append(d.Listings, l)
			}
			return o.document(cmd, d, func() error { return printCarveDetail(cmd, d) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	o.watch(cmd)
	return cmd
}

func printCarveDetail(cmd *cobra.Command, d carveDetail) error {
	if err := printCarve(cmd, d.Carve); err != nil {
		return err
	}
	var rows [][]string
	for _, l := range d.Listings {
		for _, f := range l.Files {
			rows = append(rows, []string{strconv.Itoa(l.Archive), f.Mode, bytesText(f.Size), f.Modified.Local().Format(time.DateTime), f.Path, f.Odd})
		}
		if l.Truncated {
			rows = append(rows, []string{strconv.Itoa(l.Archive), "", "", "", "… and more", ""})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(cmd.OutOrStdout())
	return printTable(cmd.OutOrStdout(), []string{"N", "MODE", "SIZE", "MODIFIED", "FILE", ""}, rows)
}

func newCarveCancelCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "cancel ID", Short: "End a carve that is not finished", Args: oneArg("the id of a carve"),
		Example: "  muster carve cancel ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var c adminapi.Carve
			if err := client.Call(cmd.Context(), http.MethodPost, "/carves/"+url.PathEscape(args[0])+"/cancel", nil, nil, &c); err != nil {
				return err
			}
			return o.document(cmd, c, func() error { return printCarve(cmd, c) })
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	return cmd
}

func newCarveRemoveCommand(t *target) *cobra.Command {
	return &cobra.Command{
		Use: "rm ID", Short: "Remove a carve and its files", Args: oneArg("the id of a carve"),
		Example: "  muster carve rm ID",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			return client.Call(cmd.Context(), http.MethodDelete, "/carves/"+url.PathEscape(args[0]), nil, nil, nil)
		},
	}
}
