// Package result answers what people ask of a live query's rows: a page of them,
// filtered and sorted; how many have which value; what differs from another
// query's. Rows are kept per node as JSON text, and there may be millions: they
// go by one node at a time, and what is held of them is bounded.
package result

import (
	"context"
	"fmt"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
)

// Store has the rows.
type Store interface {
	// LiveTargets returns up to limit nodes of a live query, without their rows,
	// by id, those after an id, in one of some states; in any if none is given.
	LiveTargets(ctx context.Context, id string, states []live.State, after string, limit int) ([]live.Target, error)
	// LiveRows calls yield with the rows of nodes, a JSON array of objects of
	// texts. The nodes must be sorted; one without rows is left out.
	LiveRows(ctx context.Context, id string, nodes []string, yield func(node int, rows []byte) error) error
}

// Reader reads the rows of live queries. Safe for concurrent use.
type Reader struct{ store Store }

// NewReader returns a reader.
func NewReader(s Store) *Reader { return &Reader{s} }

// Node is who sent a row.
type Node struct{ ID, HostIdentifier, Hostname string }

// Row is one row of a node.
type Row struct {
	Node

	Columns osquery.Row
}

// Column is a column of a result.
type Column struct {
	Name string
	Type policy.ColumnType // never Unknown
}

// withRows are the states of nodes that have rows, answered those of nodes that
// told all that there is.
func withRows() []live.State { return []live.State{live.Answered, live.OverLimit} }

func answered() []live.State { return []live.State{live.Answered, live.Empty, live.OverLimit} }

// targetPage is how many nodes are looked up at once.
const targetPage = 1000

// targets calls yield with the nodes in some states, by id, from the one after
// an id on.
func (r *Reader) targets(ctx context.Context, id string, states []live.State, after string, yield func([]live.Target) error) error {
	for {
		page, err := r.store.LiveTargets(ctx, id, states, after, targetPage)
		if err != nil {
			return err
		}
		if len(page) > 0 {
			after = page[len(page)-1].NodeID
			if err := yield(page); err != nil {
				return err
			}
		}
		if len(page) < targetPage {
			return nil
		}
	}
}

// scan calls yield with each row, by the id of its node and as the node sent
// them, from the nodes after an id on. What it gets is only for that call.
func (r *Reader) scan(ctx context.Context, id, after string, yield func(*view) error) error {
	var parser fastjson.Parser
	nodes := 0
	return r.targets(ctx, id, withRows(), after, func(page []live.Target) error {
		ids := make([]string, len(page))
		for i, t := range page {
			ids[i] = t.NodeID
		}
		return r.store.LiveRows(ctx, id, ids, func(i int, data []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			nodes++
			t := page[i]
			v := view{node: Node{t.NodeID, t.HostIdentifier, t.Hostname}, number: nodes}
			return v.each(&parser, data, yield)
		})
	})
}

// view is a row while its node's rows are looked at.
type view struct {
	node   Node
	number int // of the node, from 1
	index  int // of the row within the node's
	row    *fastjson.Object
}

func (v *view) each(parser *fastjson.Parser, data []byte, yield func(*view) error) error {
	doc, err := parser.ParseBytes(data)
	if err != nil {
		return fmt.Errorf("rows of node %s: %w", v.node.ID, err)
	}
	rows, err := doc.Array()
	if err != nil {
		return fmt.Errorf("rows of node %s: %w", v.node.ID, err)
	}
	for i, row := range rows {
		v.index, v.row = i, row.GetObject()
		if v.row == nil {
			continue // no version of Muster wrote such a row
		}
		if err := yield(v); err != nil {
			return err
		}
	}
	return nil
}

// The names by which a node itself can be filtered, sorted and grouped by,
// unless the row has such a column.
const (
	columnNode       = "node_id"
	columnIdentifier = "host_identifier"
	columnHostname   = "hostname"
)

// cell returns a column of the row, or of its node.
func (v *view) cell(name string) (string, bool) {
	if c := v.row.Get(name); c != nil {
		return text(c), true
	}
	return v.node.cell(name)
}

func (n Node) cell(name string) (string, bool) {
	switch name {
	case columnNode:
		return n.ID, true
	case columnIdentifier:
		return n.HostIdentifier, true
	case columnHostname:
		return n.Hostname, true
	}
	return "", false
}

func text(v *fastjson.Value) string {
	if v.Type() == fastjson.TypeString {
		return string(v.GetStringBytes())
	}
	return v.String() // no agent's row gets here with one
}

// match reports whether all conditions hold.
func (v *view) match(where []event.Condition) bool {
	for _, c := range where {
		if value, found := v.cell(c.Column); !c.Match(value, found) {
			return false
		}
	}
	return true
}

// copy returns the row for longer than the view.
func (v *view) copy() Row {
	columns := make(osquery.Row, 0, v.row.Len())
	v.row.Visit(func(key []byte, value *fastjson.Value) {
		columns = append(columns, osquery.Column{Name: string(key), Value: text(value)})
	})
	return Row{Node: v.node, Columns: columns}
}

// Rows calls yield with every row that passes, by node.
func (r *Reader) Rows(ctx context.Context, id string, where []event.Condition, yield func(Row) error) error {
	return r.scan(ctx, id, "", func(v *view) error {
		if !v.match(where) {
			return nil
		}
		return yield(v.copy())
	})
}

// Columns returns the columns of all rows that pass, in the order of the SELECT.
func (r *Reader) Columns(ctx context.Context, id string, declared []policy.ResultColumn, where []event.Condition) ([]Column, error) {
	seen := newColumns(declared)
	err := r.scan(ctx, id, "", func(v *view) error {
		if v.match(where) {
			seen.add(v)
		}
		return nil
	})
	return seen.list(), err
}

// Targets calls yield with the nodes in a state, in any if it is "", by id.
func (r *Reader) Targets(ctx context.Context, id string, state live.State, yield func(live.Target) error) error {
	var states []live.State
	if state != "" {
		states = []live.State{state}
	}
	return r.targets(ctx, id, states, "", func(page []live.Target) error {
		for _, t := range page {
			if err := yield(t); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// clean makes one line of what may be long, for messages.
func clean(name string) string {
	const most = 100
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}
