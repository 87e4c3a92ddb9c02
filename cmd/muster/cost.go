package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func newCostCommand() *cobra.Command {
	var t target
	var o output
	var nodeName string
	cmd := &cobra.Command{
		Use: "cost [--node NODE]", Short: "What scheduled queries cost the hosts, as observed", Args: noArgs,
		Long: `List what scheduled queries cost: CPU seconds, rows and bytes that one node spends
on each in a day. Agents tell every ten minutes, in osquery_schedule; 95 of 100
nodes stay below the figure.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if nodeName != "" {
				query.Set("node", nodeName)
			}
			var c adminapi.Costs
			if err := t.call(cmd, http.MethodGet, "/costs", query, nil, &c); err != nil {
				return err
			}
			if o.form == "json" || o.form == "yaml" {
				return o.document(cmd, c, nil)
			}
			return o.list(cmd, c, []string{"QUERY", "INTERVAL", "CPU MS", "ROWS", "BYTES", "CPU S/DAY", "ROWS/DAY", "BYTES/DAY", "NODES"}, costRows(c))
		},
	}
	t.flags(cmd)
	o.lists(cmd, "")
	cmd.Flags().StringVar(&nodeName, "node", "", "this node's schedule: "+aNode)
	return cmd
}

func costRows(c adminapi.Costs) [][]string {
	rows := make([][]string, 0, len(c.Queries)+1)
	for _, q := range c.Queries {
		row := []string{q.Query, strconv.Itoa(q.Interval), "-", "-", "-", "-", "-", "-", "0"}
		if q.Evidence {
			row = []string{
				q.Query, strconv.Itoa(q.Interval), figure(q.CPUMillis), figure(q.Rows), figure(q.Bytes),
				figure(q.Day.CPUSeconds), figure(q.Day.Rows), figure(q.Day.Bytes), strconv.Itoa(q.Nodes),
			}
		}
		rows = append(rows, row)
	}
	return append(rows, []string{"total", "", "", "", "", figure(c.Total.CPUSeconds), figure(c.Total.Rows), figure(c.Total.Bytes), ""})
}

// figure prints a number with as many digits as anybody compares.
func figure(f float64) string { return fmt.Sprintf("%.4g", f) }
