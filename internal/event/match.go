package event

import (
	"math"
	"strings"
)

// Matcher tells which events a Filter means; where a search continues, and how
// many events it returns, are not its business. It never changes: safe for
// concurrent use.
type Matcher struct {
	query        string
	prefix       bool
	node, action string
	nodes        map[string]struct{} // nil for all
	since, until int64               // microseconds; until is exclusive
	where        *Expr
	readable     func(query string) bool // nil for all
}

// NewMatcher returns the matcher of a filter.
func NewMatcher(f Filter) *Matcher {
	m := &Matcher{node: f.NodeID, action: f.Action, since: math.MinInt64, until: math.MaxInt64, where: f.Where, readable: f.Readable}
	m.query, m.prefix = strings.CutSuffix(f.Query, "*")
	if f.Query == "" {
		m.prefix = true
	}
	if f.Nodes != nil {
		m.nodes = make(map[string]struct{}, len(f.Nodes))
		for _, n := range f.Nodes {
			m.nodes[n] = struct{}{}
		}
	}
	if !f.Since.IsZero() {
		m.since = f.Since.UnixMicro()
	}
	if !f.Until.IsZero() {
		m.until = f.Until.UnixMicro()
	}
	return m
}

// Match reports whether an event is meant.
func (m *Matcher) Match(r *Row) bool {
	if r.Time < m.since || r.Time >= m.until || m.node != "" && r.NodeID != m.node || m.action != "" && r.Action != m.action {
		return false
	}
	if m.prefix && !strings.HasPrefix(r.Query, m.query) || !m.prefix && r.Query != m.query {
		return false
	}
	if m.readable != nil && !m.readable(r.Query) {
		return false
	}
	if m.nodes != nil {
		if _, ok := m.nodes[r.NodeID]; !ok {
			return false
		}
	}
	return m.where.Match(r)
}
