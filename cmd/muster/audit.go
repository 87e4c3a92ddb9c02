package main

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newAuditCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "audit", Short: "Read who did what", Args: noArgs, RunE: help}
	t.flags(cmd)
	var o output
	var limit int
	list := &cobra.Command{
		Use: "list", Short: "List the audit log, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var p adminapi.AuditPage
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if err := client.Call(cmd.Context(), http.MethodGet, "/audit", query, nil, &p); err != nil {
				return err
			}
			rows := make([][]string, 0, len(p.Entries))
			for _, e := range p.Entries {
				rows = append(rows, []string{strconv.FormatInt(e.Seq, 10), e.Time.Local().Format(time.DateTime), e.Actor, e.Action, e.Target, e.Detail})
			}
			return o.list(cmd, p.Entries, []string{"SEQ", "TIME", "ACTOR", "ACTION", "TARGET", "DETAIL"}, rows)
		},
	}
	o.flag(list, "table", "json", "yaml", "csv")
	list.Flags().IntVar(&limit, "limit", 100, "most entries to list, at most 1000")
	cmd.AddCommand(list)
	return cmd
}
