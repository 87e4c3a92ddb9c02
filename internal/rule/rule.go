// Package rule acts on events as they come: it evaluates Rules (resources) over
// the stream, counts matches in windows of time, and raises alerts, asks nodes
// and tags them.
//
// What is guaranteed: every event that was acknowledged is evaluated, in the
// order of the stream, by the rules of that moment. A crash evaluates the last
// message again, with the windows as they were before it; whoever takes what
// follows recognises it by the event's place in the stream, so that it counts
// once. An event that cannot be waited for, because the stream is almost full, is
// left out and counted (see app). A rule that panics or is too dear is set aside
// alone.
package rule

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/trigger"
)

// Alerts takes firings. They are durable when it returns; the same rule, key and
// event again counts once.
type Alerts interface {
	Raise(ctx context.Context, firings []alert.Firing) error
}

// Asker asks a node; see trigger.Service.
type Asker interface {
	Ask(ctx context.Context, n *node.Identity, q trigger.Question) (trigger.Result, error)
}

// Registry knows the nodes that are there; see node.Registry.
type Registry interface {
	Lookup(id string) *node.Identity
	All(yield func(*node.Identity) bool)
}

// Store keeps windows.
type Store interface {
	// SaveWindows keeps windows in place of those of the same rule and key; an empty
	// one is removed.
	SaveWindows(ctx context.Context, windows []Window) error
	// Windows returns all that are kept, those that changed last first, at most so
	// many.
	Windows(ctx context.Context, limit int) ([]Window, error)
}

// Options are what an Engine needs. All are required.
type Options struct {
	Catalog  *resource.Catalog
	Registry Registry
	Alerts   Alerts
	Asker    Asker
	Tags     node.TagStore
	Store    Store
	Policy   *policy.Engine // the shipped one
	Log      *slog.Logger
	Now      func() time.Time
}

// sourcePrefix begins the sources of live queries that rules ask; the names of
// those that led to one another follow.
const (
	sourcePrefix = "rule:"
	chainSign    = ">" // no name of a resource has it
)

// ActorOf returns the actor of what a rule does, in the audit log.
func ActorOf(name string) string { return sourcePrefix + name }

// maxDepth is how many rules may lead to one another by what they ask. A chain
// that is longer was not meant.
const maxDepth = 3

// chainOf returns the rules that led to an event, by its query's name. Only of
// events that answer live queries is that to be believed.
func chainOf(query string) []string {
	source, ok := strings.CutPrefix(query, "trigger/"+sourcePrefix)
	if !ok {
		return nil
	}
	return strings.Split(source, chainSign)
}

// class is who made an event, which says which names to believe.
type class int8

const (
	scheduled class = iota
	status
	answer
	ours
)

// classOf returns the class of a batch.
func classOf(logType string) class {
	switch logType {
	case osquery.LogTypeStatus:
		return status
	case event.LiveLog:
		return answer
	case event.ServerLog:
		return ours
	}
	return scheduled
}

// classOfQuery tells the class by a query's name, where nothing else is known.
func classOfQuery(name string) class {
	switch {
	case name == event.StatusQuery:
		return status
	case strings.HasPrefix(name, event.ServerPrefix):
		return ours
	case answerPrefix(name) != "":
		return answer
	}
	return scheduled
}

// answerPrefix returns what the names of answers to live queries begin with; "" of
// another name.
func answerPrefix(name string) string {
	for _, prefix := range []string{"trigger/", "enrollment/", "carve/"} {
		if strings.HasPrefix(name, prefix) {
			return prefix
		}
	}
	if name == "live" {
		return name
	}
	return ""
}

// looksAt reports whether a rule looks at the events of a query. * alone means
// what is scheduled: answers and our own findings must be named, and an agent that
// logs under such a name is not believed. tables are the names of queries that
// read the rule's tables.
func looksAt(p *resource.RulePlan, tables map[string]bool, c class, query string) bool {
	prefix := ""
	switch c {
	case status:
		if query == event.StatusQuery && len(p.Events.Severities) > 0 {
			return true
		}
		prefix = "osquery:"
	case ours:
		prefix = event.ServerPrefix
	case answer:
		prefix = answerPrefix(query)
	case scheduled:
		if classOfQuery(query) != scheduled {
			return false
		}
	}
	if tables[query] && (c == scheduled || c == answer) {
		return true
	}
	for _, pattern := range p.Events.Queries {
		if strings.HasPrefix(pattern, prefix) && resource.MatchName(pattern, query) {
			return true
		}
	}
	return false
}
