package sink

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// filter decides which events a sink gets. Not safe for concurrent use.
type filter struct {
	plan  *resource.SinkPlan
	nodes Nodes

	severity byte // least digit of a status line
	query    string
	wanted   bool // the last query that was looked at
	row      row
	look     event.Row // for the condition
}

func newFilter(plan *resource.SinkPlan, nodes Nodes) *filter {
	f := &filter{plan: plan, nodes: nodes, severity: '0'}
	switch plan.Spec.Severity {
	case "warning":
		f.severity = '1'
	case "error":
		f.severity = '2'
	}
	return f
}

// means reports whether the sink gets a node's events. A node that is gone is
// judged by what its event says.
func (f *filter) means(id, host string, tags []string) bool {
	if f.plan.All() {
		return true
	}
	n := f.nodes.Lookup(id)
	if n == nil {
		n = &node.Identity{ID: id, HostIdentifier: host, Tags: tags}
	}
	return f.plan.Means(n)
}

// wants reports whether an event is wanted, and reads it into row.
func (f *filter) wants(r *event.Record) bool {
	if !f.wantsQuery(r.Query) || len(f.plan.Spec.Actions) > 0 && !slices.Contains(f.plan.Spec.Actions, r.Action) {
		return false
	}
	f.row.read(r)
	if r.Action == event.Status && f.severity > '0' {
		if s, _ := value(f.row.columns, "severity"); len(s) != 1 || s[0] < f.severity {
			return false
		}
	}
	return f.passes(r)
}

// passes reports whether the condition holds.
func (f *filter) passes(r *event.Record) bool {
	if f.plan.Where == nil {
		return true
	}
	f.look.Set(&event.Batch{NodeID: r.NodeID, HostIdentifier: r.HostIdentifier, Received: r.Received, Tags: r.Tags, Revision: r.Revision}, &r.Event)
	return f.plan.Where.Match(&f.look)
}

func (f *filter) wantsQuery(name string) bool {
	if len(f.plan.Spec.Queries) == 0 {
		return true
	}
	if name != f.query { // rows of one query come together
		f.query, f.wanted = name, slices.ContainsFunc(f.plan.Spec.Queries, func(want string) bool {
			if prefix, ok := strings.CutSuffix(want, "*"); ok {
				return strings.HasPrefix(name, prefix)
			}
			return name == want
		})
	}
	return f.wanted
}
