package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/osquery"
)

// run asks the node one statement and prints what it answers. Stopping ctx stops
// the query.
func (s *shell) run(ctx context.Context, sql string) error {
	started := time.Now()
	in := adminapi.LiveInput{
		SQL: sql, Selector: adminapi.Selector{Nodes: []string{s.node.ID}}, Reason: s.reason,
		ExpiresSeconds: int(max(minExpiry, s.wait).Seconds()),
	}
	var q adminapi.Live
	if err := s.client.Call(ctx, http.MethodPost, "/live", nil, in, &q); err != nil {
		return s.refused(ctx, sql, err)
	}
	if q.State == livePending {
		return &exit{exitPartly, errors.New(pendingText(q.ID))}
	}
	answer, err := s.await(ctx, q)
	if err != nil {
		s.stop(ctx, q.ID)
		return err
	}
	s.answered = true
	took := time.Since(started)
	if err := s.print(sql, answer); err != nil {
		return err
	}
	if s.timer {
		s.say("%d rows after %s; %d ms on the node", len(answer.Rows), brief(took), answer.Stats.WallTimeMs)
	}
	return nil
}

func (s *shell) refused(ctx context.Context, sql string, err error) error {
	for _, line := range findingLines(ctx, s.client, sql, err) {
		s.say("%s", line)
	}
	if asksFor(err, "reason") {
		return &exit{exitRefused, fmt.Errorf("%w; type: .reason TICKET-1: why", err)}
	}
	return err
}

// stop stops a query whose answer nobody waits for any more.
func (s *shell) stop(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.client.Call(ctx, http.MethodPost, livePath(id, "stop"), nil, nil, nil); err != nil {
		s.say("live query %s could not be stopped: %s", id, printable(err.Error()))
	}
}

// await waits for the node's answer.
func (s *shell) await(ctx context.Context, q adminapi.Live) (*adminapi.LiveAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	expectation := s.expectation()
	hint := time.AfterFunc(hintAfter, func() { s.say("%s", expectation) })
	defer hint.Stop()
	var answer *adminapi.LiveAnswer
	last := q
	err := s.client.Stream(ctx, adminapi.LiveStream(q.ID), func(e adminapi.StreamEvent) (bool, error) {
		switch e.Name {
		case adminapi.EventAnswer:
			err := json.Unmarshal(e.Data, &answer)
			return true, err
		case adminapi.EventEnd:
			err := json.Unmarshal(e.Data, &last)
			return true, err
		}
		return false, nil
	})
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &exit{exitPartly, fmt.Errorf("%s did not answer in %s; it was heard of %s", s.name(), s.wait, agoAt(s.node.LastSeen))}
	case err != nil && ctx.Err() != nil:
		return nil, &exit{exitPartly, errors.New("stopped")}
	case err != nil:
		return nil, err
	case answer == nil:
		return nil, &exit{exitPartly, fmt.Errorf("%s did not answer: the query is %s", s.name(), last.State)}
	case answer.State == "failed" || answer.State == "denylisted":
		return nil, &exit{exitFailed, fmt.Errorf("%s: %s: %s", s.name(), answer.State, answer.Message)}
	}
	return answer, nil
}

// hintAfter is when somebody begins to wonder.
const hintAfter = 1500 * time.Millisecond

// expectation says what there is to wait for.
func (s *shell) expectation() string {
	if s.node.Status != "online" {
		return fmt.Sprintf("waiting for %s, which is %s (heard of %s); Ctrl-C stops it", s.name(), s.node.Status, agoAt(s.node.LastSeen))
	}
	if s.answered {
		return fmt.Sprintf("waiting for %s, which polls every 5 s while somebody asks; Ctrl-C stops it", s.name())
	}
	every := "its distributed_interval"
	if s.node.OfflineAfter > 0 {
		every = fmt.Sprintf("its distributed_interval, less than %s", time.Duration(s.node.OfflineAfter)*time.Second)
	}
	return fmt.Sprintf("waiting for the next poll of %s, heard of %s; the first answer takes up to %s; Ctrl-C stops it", s.name(), agoAt(s.node.LastSeen), every)
}

// print prints the rows in the mode. Columns are in the node's order.
func (s *shell) print(sql string, a *adminapi.LiveAnswer) error {
	names, cells := shellRows(a.Rows)
	var err error
	switch s.mode {
	case "json":
		rows := a.Rows
		if rows == nil {
			rows = []osquery.Row{}
		}
		err = printJSON(s.out, rows)
	case "csv":
		if len(names) > 0 {
			err = printCSV(s.out, names, cells)
		}
	case "line":
		err = printLineMode(s.out, names, cells)
	default:
		if len(names) > 0 {
			err = printFitted(s.out, names, cells)
		}
		s.say("%d rows", len(a.Rows))
	}
	if err == nil && (a.Cut || a.State == "over_limit") {
		s.say("there were more rows than are kept; add a LIMIT or a WHERE to %s", cmp.Or(oneLine(sql), "the statement"))
	}
	return err
}

func shellRows(rows []osquery.Row) (names []string, cells [][]string) {
	index := map[string]int{}
	for _, row := range rows {
		for _, c := range row {
			if _, ok := index[c.Name]; !ok {
				index[c.Name] = len(names)
				names = append(names, c.Name)
			}
		}
	}
	for _, row := range rows {
		line := make([]string, len(names))
		for _, c := range row {
			line[index[c.Name]] = c.Value
		}
		cells = append(cells, line)
	}
	return names, cells
}

// printFitted prints a table no wider than the terminal.
func printFitted(w io.Writer, head []string, rows [][]string) error {
	t := tableStream{w: w, width: terminalWidth(w), lead: head}
	for _, row := range rows {
		if err := t.row(row, nil); err != nil {
			return err
		}
	}
	return t.flush()
}

// printLineMode prints each column on a line of its own, as sqlite3 does.
func printLineMode(w io.Writer, names []string, cells [][]string) error {
	widest := 0
	for _, n := range names {
		widest = max(widest, len(n))
	}
	var b strings.Builder
	for i, row := range cells {
		if i > 0 {
			b.WriteString("\n")
		}
		for j, value := range row {
			fmt.Fprintf(&b, "%*s = %s\n", widest, printable(names[j]), printable(value))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
