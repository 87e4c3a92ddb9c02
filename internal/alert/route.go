package alert

import (
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/node"
)

// Route says what a notifier is told, and how soon.
type Route struct {
	Name        string
	Default     bool // told of alerts that name no notifier
	MinSeverity Severity
	Match       []Matcher
	// Selector says about which nodes it is told, and then of no alert that is about
	// no one node; nil for all.
	Selector *node.Where

	GroupBy   []string // keys of Matcher; alerts that are equal in them are told together
	GroupWait time.Duration
	Repeat    time.Duration // 0 for never
	GiveUp    time.Duration // after the first failure

	Resolved bool // told what is over
	Acked    bool // told what was acknowledged
	Single   bool // told of each change of each alert by itself
}

// Nodes are those that are known; see node.Registry.
type Nodes interface {
	// Lookup returns a node, or nil.
	Lookup(id string) *node.Identity
}

// Routes are the notifiers of the revision that is served.
type Routes interface {
	// Routes returns them by name. Nobody changes them.
	Routes() []*Route
}

// Find returns a route by its name; nil without one.
func find(routes []*Route, name string) *Route {
	for _, r := range routes {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// takes reports whether the notifier is told of an action on an alert that may go
// to it.
func (r *Route) takes(nodes Nodes, a *Alert, action Action) bool {
	switch {
	case action == Ended && !r.Resolved, action == Acked && !r.Acked, action == Assigned, action == Commented:
		return false
	case a.Rule == RuleNotifier && a.Key == r.Name: // it fails: others tell
		return false
	}
	if a.Severity.Rank() < r.MinSeverity.Rank() || !Matches(r.Match, a) {
		return false
	}
	if r.Selector == nil {
		return true
	}
	n := nodes.Lookup(a.NodeID)
	return n != nil && r.Selector.Match(n)
}

// choose returns who is told of an action. An alert whose notifiers are all
// unknown goes to the default ones: a typo must not lose it.
func choose(routes []*Route, nodes Nodes, a *Alert, action Action) []*Route {
	var named []*Route
	for _, name := range a.Notifiers {
		if r := find(routes, name); r != nil && !slices.Contains(named, r) {
			named = append(named, r)
		}
	}
	var chosen []*Route
	for _, r := range routes {
		if (slices.Contains(named, r) || len(named) == 0 && r.Default) && r.takes(nodes, a, action) {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// group returns what alerts that are told together have in common.
func (r *Route) group(a *Alert) string {
	if r.Single {
		return a.ID
	}
	parts := make([]string, 0, len(r.GroupBy))
	for _, key := range r.GroupBy {
		v := (Matcher{key: key}).values(a)[0]
		if key == "node" {
			v = a.NodeID
		}
		parts = append(parts, v)
	}
	return strings.Join(parts, "\x1f")
}

// GroupKeys says what is wrong with keys of GroupBy; nil if nothing is.
func GroupKeys(field string, keys []string) error {
	if len(keys) > MaxMatchers {
		return tooMany(field)
	}
	for _, k := range keys {
		if _, err := parseMatcher(field, k+" = *"); err != nil {
			return err
		}
	}
	return nil
}
