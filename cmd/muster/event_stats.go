package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/search"
)

func newEventStatsCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "stats", Short: "Print what is kept of events: bytes, rows, oldest, per query", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var s adminapi.EventStats
			if err := client.Call(cmd.Context(), http.MethodGet, "/events/stats", nil, nil, &s); err != nil {
				return err
			}
			rows := make([][]string, 0, len(s.Queries)+1)
			row := func(name string, events, bytes int64, segments int, oldest, newest string) {
				per := ""
				if events > 0 && bytes > 0 {
					per = strconv.FormatFloat(float64(bytes)/float64(events), 'f', 1, 64)
				}
				rows = append(rows, []string{name, strconv.FormatInt(events, 10), strconv.FormatInt(bytes, 10), per, strconv.Itoa(segments), oldest, newest})
			}
			for _, q := range s.Queries {
				row(q.Query, q.Events, q.Bytes, q.Segments, q.Oldest.Local().Format(time.DateTime), q.Newest.Local().Format(time.DateTime))
			}
			if o.form == "table" {
				row("(all)", s.Events, s.Bytes, s.Segments, "", "")
			}
			if s.Lost > 0 {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d segments with %d events are out of service, as their files are damaged or missing; muster event verify names them\n", s.Lost, s.LostEvents)
			}
			return o.list(cmd, s, []string{"QUERY", "EVENTS", "BYTES", "PER EVENT", "SEGMENTS", "OLDEST", "NEWEST"}, rows)
		},
	}
	o.lists(cmd, "QUERY")
	return cmd
}

// eventCheck is the document of `muster event verify`.
type eventCheck struct {
	Segments int       `json:"segments"`
	Events   int64     `json:"events"`
	Bytes    int64     `json:"bytes"`
	Damaged  []damaged `json:"damaged"`
	Lost     []damaged `json:"lost"`
}

type damaged struct {
	File   string `json:"file"`
	Query  string `json:"query"`
	Day    string `json:"day"`
	Events int64  `json:"events"`
	Reason string `json:"reason"`
}

func newEventVerifyCommand() *cobra.Command {
	var o output
	var dir string
	cmd := &cobra.Command{
		Use: "verify", Short: "Check the files of events against what was written, without the server", Args: noArgs,
		Long: `Read all files of events in a data directory, or in a copy of one, and compare
them with their checksums. It changes nothing; the server may run meanwhile. The
exit code is 1 if anything is damaged, or was found so before.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			errOut, width := cmd.ErrOrStderr(), terminalWidth(cmd.ErrOrStderr())
			v, err := search.Verify(cmd.Context(), filepath.Join(dir, app.EventsDir), func(done, total int) {
				if width > 0 {
					_, _ = fmt.Fprintf(errOut, "\r%d of %d segments\x1b[K", done, total)
				}
			})
			if width > 0 {
				_, _ = fmt.Fprint(errOut, "\r\x1b[K")
			}
			if err != nil {
				return err
			}
			doc := eventCheck{Segments: v.Segments, Events: v.Events, Bytes: v.Bytes, Damaged: damages(v.Damaged), Lost: damages(v.Lost)}
			err = o.document(cmd, doc, func() error { return printEventCheck(cmd, doc) })
			if err == nil && len(doc.Damaged)+len(doc.Lost) > 0 {
				err = fmt.Errorf("%d segments are damaged, %d were found so before; restore the directory from a backup to have their events again", len(doc.Damaged), len(doc.Lost))
			}
			return err
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringVar(&dir, "data-dir", "data", "the server's data directory, or a copy of it")
	return cmd
}

func damages(in []search.Damage) []damaged {
	out := make([]damaged, 0, len(in))
	for _, d := range in {
		out = append(out, damaged(d))
	}
	return out
}

func printEventCheck(cmd *cobra.Command, doc eventCheck) error {
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(out, "%d events in %d segments, %d bytes read\n", doc.Events, doc.Segments, doc.Bytes); err != nil {
		return err
	}
	var rows [][]string
	add := func(list []damaged, kind string) {
		for _, d := range list {
			rows = append(rows, []string{kind, d.File, d.Query, strconv.FormatInt(d.Events, 10), d.Reason})
		}
	}
	add(doc.Damaged, "damaged")
	add(doc.Lost, "lost before")
	if len(rows) == 0 {
		return nil
	}
	return printTable(out, []string{"", "FILE", "QUERY", "EVENTS", "REASON"}, rows)
}
