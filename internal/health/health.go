// Package health is about how nodes fare, as far as a server can see it: findings,
// each of which opens once and closes once. Most are states that last, as a node
// that is offline; some are moments, as an enrolment, which close as they open.
//
// What a server cannot see: the watchdog's kills, which the watcher writes to the
// host's own log alone, and cgroup limits, of which osquery has no table. A worker
// that is another under the same watcher is what a kill looks like from here.
package health

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// Kind is what a finding is about.
type Kind string

// The kinds. Those with a subject can be open several times for one node.
const (
	Offline       Kind = "offline"            // it made no request for long
	Silent        Kind = "silent"             // it polls, and logs no results
	Missing       Kind = "missing_results"    // subject: a query whose snapshots do not come
	Enrolled      Kind = "enrolled"           // a moment
	Reenrolled    Kind = "reenrolled"         // a moment
	Cloned        Kind = "cloned"             // a moment: another machine has its identifier or key
	Quarantined   Kind = "quarantined"        // it is kept apart
	CrashLoop     Kind = "crash_loop"         // its worker starts again and again
	Watchdog      Kind = "watchdog_suspected" // a moment: a new worker under the same watcher
	QueryFailed   Kind = "query_failed"       // subject: the query
	Denylisted    Kind = "query_denylisted"   // subject: the query; see DenylistTime
	NotApplied    Kind = "config_not_applied" // it goes on with another config than it is served
	ConfigRefused Kind = "config_refused"     // it could not parse its config
	UnknownOption Kind = "unknown_option"     // subject: a flag that the agent refused
	LinesLost     Kind = "lines_lost"         // the agent dropped log lines
	Denied        Kind = "statement_denied"   // a moment: a text tried what osquery forbids
	Extension     Kind = "extension"          // a moment; subject: the extension that came or went
	Outdated      Kind = "osquery_outdated"   // its osquery is older than most nodes'
	WeakWatchdog  Kind = "watchdog_weak"      // its CPU limit cannot bite; see Limit
)

// Severities of findings, the words of rules.
const (
	info   = "info"
	low    = "low"
	medium = "medium"
	high   = "high"
)

// severities of the kinds.
func (k Kind) severity() string {
	switch k { //nolint:exhaustive // the others are medium
	case Enrolled, Reenrolled, Extension:
		return info
	case Outdated, Silent, Missing, QueryFailed, Watchdog:
		return low
	case Cloned, Quarantined, CrashLoop, ConfigRefused, Denied:
		return high
	}
	return medium
}

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{
		Offline, Silent, Missing, Enrolled, Reenrolled, Cloned, Quarantined, CrashLoop, Watchdog, QueryFailed, Denylisted, NotApplied,
		ConfigRefused, UnknownOption, LinesLost, Denied, Extension, Outdated, WeakWatchdog,
	}
}

// ParseKind returns the kind of that name; "" is none.
func ParseKind(name string) (Kind, error) {
	if name == "" || slices.Contains(Kinds(), Kind(name)) {
		return Kind(name), nil
	}
	names := make([]string, 0, len(Kinds()))
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return "", errs.Field("kind", "%q is no kind of finding; use %s", name, strings.Join(names, ", "))
}

// Finding is one thing about one node.
type Finding struct {
	NodeID   string
	Kind     Kind
	Subject  string // what of the node it is about, if it is not the node itself
	Severity string // a word of rules
	Text     string // one line for people; agents' words in it are bounded
	Opened   time.Time
	Last     time.Time // when it was seen last
	Count    int       // how often it was seen
	Until    time.Time // it closes by itself then; zero if something else closes it
	Closed   time.Time // zero while it is open

	Told bool // events tell of it as it is
}

// Key is what is open at most once.
type Key struct {
	NodeID  string
	Kind    Kind
	Subject string
}

// Key returns what the finding is about.
func (f Finding) Key() Key { return Key{f.NodeID, f.Kind, f.Subject} }

// Store keeps findings. Every method is one transaction.
type Store interface {
	// SaveFindings keeps findings, in place of those of the same key and Opened.
	SaveFindings(ctx context.Context, findings []Finding) error
	// LiveFindings returns those that are open, and those that are not told.
	LiveFindings(ctx context.Context) ([]Finding, error)
	// Enrolments returns how often nodes enrolled, and with which secret last.
	Enrolments(ctx context.Context, nodeIDs []string) (map[string]Enrolment, error)
	// Clashes returns the last clash of each node that had one since a time.
	Clashes(ctx context.Context, since time.Time) ([]Clash, error)
	// Moments returns when the last finding of a kind was about each node, of those
	// since a time.
	Moments(ctx context.Context, since time.Time, kinds ...Kind) (map[string]time.Time, error)
	// LastMoment returns when the newest finding of some kinds was; zero without one.
	LastMoment(ctx context.Context, kinds ...Kind) (time.Time, error)
}

// Enrolment is how a node came.
type Enrolment struct {
	Count  int
	Secret string // name of the enroll secret
}

// Clash is that another machine has a node's identifier or key.
type Clash struct {
	NodeID string
	At     time.Time
	Reason string
}

// Teller makes events of findings: the events are on disk when it returns. Told
// again, they are events again.
type Teller interface {
	TellFindings(ctx context.Context, findings []Finding) error
}

// Fleet knows the nodes; see node.Registry.
type Fleet interface {
	All(yield func(*node.Identity) bool)
	Lookup(id string) *node.Identity
}

// Configs knows what nodes are to run; see resource.Catalog.
type Configs interface {
	Snapshot(n *node.Identity) *resource.Snapshot
	Expected(n *node.Identity) *resource.Config
}

// Evidence knows what nodes told of their config; see rollout.Monitor.
type Evidence interface {
	Evidence(nodeID string) rollout.Evidence
}

// Options of a Monitor. All are required.
type Options struct {
	Store    Store
	Teller   Teller
	Fleet    Fleet
	Configs  Configs
	Evidence Evidence
	// OfflineAfter and SilentAfter are how long a node must say nothing until it
	// is a finding; a node whose own rhythm is slower has more time.
	OfflineAfter, SilentAfter time.Duration
	Log                       *slog.Logger
	Now                       func() time.Time
}

// Filter says which findings are listed. Zero fields do not restrict.
type Filter struct {
	NodeID string
	Kind   Kind
	Open   bool   // without those that closed
	Cursor string // where the last page ended
	Limit  int
}
