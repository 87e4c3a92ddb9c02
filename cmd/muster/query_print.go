package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

// queryRow is one row of a live query, with whose it is.
type queryRow struct {
	NodeID         string      `json:"node_id"`
	HostIdentifier string      `json:"host_identifier"`
	Columns        osquery.Row `json:"columns"`

	host string // for people
}

// queryError is a node that answered with an error.
type queryError struct {
	NodeID         string `json:"node_id"`
	HostIdentifier string `json:"host_identifier"`
	State          string `json:"state"`
	Message        string `json:"message"`
}

// queryResult is what muster query -o json prints.
type queryResult struct {
	ID     string         `json:"id"`
	Counts map[string]int `json:"counts"`
	Rows   []queryRow     `json:"rows"`
	Errors []queryError   `json:"errors"`
}

// maxNotes is how many failed nodes are told one by one.
const maxNotes = 20

// queryPrinter prints what a query answers as the form wants: rows at once for
// people and as lines, else one document in the end.
type queryPrinter struct {
	cmd    *cobra.Command
	form   string
	result queryResult
	table  tableStream
	seen   map[string]bool // nodes whose answer is in
	line   *progress

	heldSince time.Time // when no row was held back
}

// tableHold is how long the first rows wait for others, so that the columns
// suit more of them.
const tableHold = time.Second

func newQueryPrinter(cmd *cobra.Command, form string, q adminapi.Live) *queryPrinter {
	return &queryPrinter{
		cmd: cmd, form: form, seen: map[string]bool{}, line: newProgress(cmd.ErrOrStderr(), q),
		result: queryResult{ID: q.ID, Counts: q.Counts, Rows: []queryRow{}, Errors: []queryError{}},
		table:  tableStream{w: cmd.OutOrStdout(), width: terminalWidth(cmd.OutOrStdout()), lead: []string{"node"}},
	}
}

// note tells people something; the progress line makes room.
func (r *queryPrinter) note(format string, args ...any) {
	r.line.clear()
	say(r.cmd, format, args...)
}

// counts takes what the server says of the whole query.
func (r *queryPrinter) counts(q adminapi.Live) {
	r.result.Counts = q.Counts
	r.line.counts(q)
}

// answer takes what one node said, once.
func (r *queryPrinter) answer(a *adminapi.LiveAnswer) error {
	if r.seen[a.NodeID] {
		return nil
	}
	r.seen[a.NodeID] = true
	r.line.answered()
	if a.State == "failed" || a.State == "denylisted" {
		r.result.Errors = append(r.result.Errors, queryError{a.NodeID, a.HostIdentifier, a.State, a.Message})
		switch n := len(r.result.Errors); {
		case n <= maxNotes:
			r.note("%s: %s: %s", printable(answerHost(a)), a.State, printable(a.Message))
		case n == maxNotes+1:
			r.note("more nodes failed; all of them: muster live show %s --nodes --state failed", r.result.ID)
		}
	}
	for _, columns := range a.Rows {
		row := queryRow{a.NodeID, a.HostIdentifier, columns, answerHost(a)}
		if err := r.row(row); err != nil {
			return err
		}
	}
	if a.Cut {
		r.note("%s: it has more rows than are kept", printable(answerHost(a)))
	}
	return nil
}

func (r *queryPrinter) row(row queryRow) error {
	switch r.form {
	case "ndjson":
		return printLine(r.cmd.OutOrStdout(), row)
	case "table":
		r.line.clear()
		return r.table.row([]string{row.host}, row.Columns)
	}
	r.result.Rows = append(r.result.Rows, row)
	return nil
}

// tick is called a few times a second.
func (r *queryPrinter) tick() error {
	if len(r.table.first) == 0 {
		r.heldSince = time.Now()
	} else if time.Since(r.heldSince) >= tableHold {
		r.line.clear()
		if err := r.table.flush(); err != nil {
			return err
		}
	}
	r.line.draw()
	return nil
}

// finish prints what is left to print.
func (r *queryPrinter) finish() error {
	r.line.clear()
	w := r.cmd.OutOrStdout()
	switch r.form {
	case "json":
		return printJSON(w, r.result)
	case "ndjson":
		return nil
	case "csv":
		head, rows := rowTable(r.result.Rows)
		return printCSV(w, head, rows)
	}
	if err := r.table.flush(); err != nil {
		return err
	}
	say(r.cmd, "%s", countLine(r.result.Counts, r.table.Rows))
	return nil
}

// rowTable lays rows out under all columns that any of them has.
func rowTable(rows []queryRow) (head []string, cells [][]string) {
	head = []string{"node"}
	for _, row := range rows {
		for _, c := range row.Columns {
			if !slices.Contains(head[1:], c.Name) {
				head = append(head, c.Name)
			}
		}
	}
	for _, row := range rows {
		line := []string{row.host}
		for _, name := range head[1:] {
			value, _ := row.Columns.Get(name)
			line = append(line, value)
		}
		cells = append(cells, line)
	}
	return head, cells
}

func countLine(counts map[string]int, rows int) string {
	parts := []string{fmt.Sprintf("%d rows", rows)}
	for _, state := range []string{"answered", "empty", "over_limit", "failed", "denylisted", "waiting", "sent", "expired", "stopped"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(state, "_", " ")))
		}
	}
	return strings.Join(parts, ", ")
}
