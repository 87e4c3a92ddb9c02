package main

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

// resultFlags say which rows of a live query.
type resultFlags struct {
	where, sort, groupBy string
	desc                 bool
	limit                int
}

func newLiveResultsCommand(t *target) *cobra.Command {
	var o output
	var f resultFlags
	cmd := &cobra.Command{
		Use: "results ID", Short: "Print the rows of a live query, filtered, sorted or counted by the server", Args: oneArg(aLive),
		Long: `Print the rows of a live query, also long after it ended. --where takes conditions
on columns as muster event search does; numbers are compared as numbers.

-o csv is safe to open in a spreadsheet: cells that look like formulas get an
apostrophe.`,
		Example: `  muster live results ID
  muster live results ID --where 'uid = 0 and name contains ssh' --sort start_time --desc
  muster live results ID --group-by version
  muster live results ID -o csv > rows.csv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			if f.limit < 1 {
				return usagef("--limit must be at least 1")
			}
			if f.groupBy != "" {
				return printGroups(cmd, client, &o, args[0], f)
			}
			return printResults(cmd, client, &o, args[0], f)
		},
	}
	o.flag(cmd, "table", "json", "ndjson", "csv")
	s := cmd.Flags()
	s.StringVar(&f.where, "where", "", `conditions joined by and, as in 'path = "/bin/sh" and pid > 100'`)
	s.StringVar(&f.sort, "sort", "", "sort by this column")
	s.BoolVar(&f.desc, "desc", false, "sort downwards")
	s.StringVar(&f.groupBy, "group-by", "", "count rows and nodes by the values of this column instead")
	s.IntVar(&f.limit, "limit", maxPage, "most rows, or groups, to print")
	return cmd
}

func (f resultFlags) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"where": f.where, "sort": f.sort} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.desc {
		q.Set("desc", "true")
	}
	return q
}

// printResults prints pages as they come where the form allows that.
func printResults(cmd *cobra.Command, client *adminapi.Client, o *output, id string, f resultFlags) error {
	all := adminapi.LiveResults{Columns: []adminapi.LiveColumn{}, Rows: []adminapi.LiveRow{}}
	table := tableStream{w: cmd.OutOrStdout(), width: terminalWidth(cmd.OutOrStdout()), lead: []string{"node"}}
	query, printed := f.query(), 0
	for printed < f.limit {
		query.Set("limit", strconv.Itoa(min(livePageSize, f.limit-printed)))
		var p adminapi.LiveResults
		if err := client.Call(cmd.Context(), http.MethodGet, livePath(id, "results"), query, nil, &p); err != nil {
			return err
		}
		all.Total, all.Matched = p.Total, p.Matched
		for _, c := range p.Columns { // a page tells its own only
			if !slices.ContainsFunc(all.Columns, func(known adminapi.LiveColumn) bool { return known.Name == c.Name }) {
				all.Columns = append(all.Columns, c)
			}
		}
		for _, row := range p.Rows {
			printed++
			if err := printResult(o, &table, &all, row); err != nil {
				return err
			}
		}
		if p.NextCursor == "" || len(p.Rows) == 0 {
			break
		}
		query.Set("cursor", p.NextCursor)
	}
	switch o.form {
	case "json":
		return printJSON(cmd.OutOrStdout(), all)
	case "csv":
		return printCSV(cmd.OutOrStdout(), resultHead(all), resultCells(all))
	case "table":
		if err := table.flush(); err != nil {
			return err
		}
		say(cmd, "%d rows of %d that match, %d in all", printed, all.Matched, all.Total)
	}
	return nil
}

func printResult(o *output, table *tableStream, all *adminapi.LiveResults, row adminapi.LiveRow) error {
	switch o.form {
	case "ndjson":
		return printLine(table.w, row)
	case "table":
		return table.row([]string{cmp.Or(row.Hostname, row.HostIdentifier)}, row.Columns)
	}
	all.Rows = append(all.Rows, row)
	return nil
}

func resultHead(r adminapi.LiveResults) []string {
	head := []string{"node"}
	for _, c := range r.Columns {
		head = append(head, c.Name)
	}
	return head
}

func resultCells(r adminapi.LiveResults) [][]string {
	cells := make([][]string, 0, len(r.Rows))
	for _, row := range r.Rows {
		line := []string{cmp.Or(row.Hostname, row.HostIdentifier)}
		for _, c := range r.Columns {
			value, _ := row.Columns.Get(c.Name)
			line = append(line, value)
		}
		cells = append(cells, line)
	}
	return cells
}

// maxGroups is the most that the server counts at once.
const maxGroups = 1000

func printGroups(cmd *cobra.Command, client *adminapi.Client, o *output, id string, f resultFlags) error {
	query := f.query()
	query.Set("by", f.groupBy)
	query.Set("limit", strconv.Itoa(min(f.limit, maxGroups)))
	query.Del("sort")
	query.Del("desc")
	var g adminapi.LiveGroups
	if err := client.Call(cmd.Context(), http.MethodGet, livePath(id, "groups"), query, nil, &g); err != nil {
		return err
	}
	if o.form == "ndjson" {
		for _, group := range g.Groups {
			if err := printLine(cmd.OutOrStdout(), group); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, 0, len(g.Groups))
	for _, group := range g.Groups {
		rows = append(rows, []string{group.Value, strconv.Itoa(group.Rows), strconv.Itoa(group.Nodes)})
	}
	if err := o.list(cmd, g, []string{f.groupBy, "ROWS", "NODES"}, rows); err != nil {
		return err
	}
	if o.form == "table" {
		say(cmd, "%d values; %d rows have others than these", g.Distinct, g.OtherRows)
	}
	return nil
}

func newLiveCompareCommand(t *target) *cobra.Command {
	var o output
	var limit int
	cmd := &cobra.Command{
		Use: "compare ID OTHER", Short: "Print the rows that a live query has and another had not, and the reverse",
		Long: `Print the rows that differ between a live query and a former one, node by node:
those with + are in ID only, those with - were in OTHER only.`,
		Example: `  muster live compare ID OTHER
  muster live compare ID OTHER -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s needs the ids of two live queries; see %[1]s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"with": {args[1]}, "limit": {strconv.Itoa(limit)}}
			var c adminapi.LiveComparison
			if err := t.call(cmd, http.MethodGet, livePath(args[0], "compare"), query, nil, &c); err != nil {
				return err
			}
			return printComparison(cmd, &o, c)
		},
	}
	o.flag(cmd, "table", "json", "csv")
	cmd.Flags().IntVar(&limit, "limit", livePageSize, "most rows of each kind to print")
	return cmd
}

func printComparison(cmd *cobra.Command, o *output, c adminapi.LiveComparison) error {
	if o.form == "json" {
		return printJSON(cmd.OutOrStdout(), c)
	}
	var rows []queryRow
	var marks []string
	add := func(mark string, list []adminapi.LiveRow) {
		for _, r := range list {
			rows = append(rows, queryRow{r.NodeID, r.HostIdentifier, r.Columns, cmp.Or(r.Hostname, r.HostIdentifier)})
			marks = append(marks, mark)
		}
	}
	add("-", c.Gone)
	add("+", c.Added)
	if o.form == "csv" {
		head, cells := rowTable(rows)
		for i := range cells {
			word := "added"
			if marks[i] == "-" {
				word = "gone"
			}
			cells[i] = append([]string{word}, cells[i]...)
		}
		return printCSV(cmd.OutOrStdout(), append([]string{"change"}, head...), cells)
	}
	table := tableStream{w: cmd.OutOrStdout(), width: terminalWidth(cmd.OutOrStdout()), lead: []string{"", "node"}}
	for i, r := range rows {
		if err := table.row([]string{marks[i], r.host}, r.Columns); err != nil {
			return err
		}
	}
	if err := table.flush(); err != nil {
		return err
	}
	say(cmd, "%d added, %d gone, %d the same; %d nodes answered both, %d only this one, %d only the other", c.AddedTotal, c.GoneTotal, c.Same, c.Nodes, c.OnlyNew, c.OnlyOld)
	if c.CutNodes > 0 {
		say(cmd, "of %d nodes not all rows were kept: theirs may be told wrongly", c.CutNodes)
	}
	return nil
}
