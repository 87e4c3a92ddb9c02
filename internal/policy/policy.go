// Package policy decides what a SQL text, an option, a path or any other part
// of an agent's config may do. It prepares SQL in an in-memory SQLite that holds
// every table of osquery, and never runs it; it reads no file and opens no
// connection. People see the same verdict wherever they ask: as they type, in a
// dry run, in an import, at a live query.
//
// What is not understood is dangerous: a text that does not prepare, an unknown
// table or option, an argument that hides a constant has the highest tier, with
// the reason. An argument that comes from other tables' rows keeps the tier of its
// table, with a note; where Rules say which arguments are allowed, only literals
// among them are proven.
//
// Sources: the tables, columns and flags of osquery at commit a5b14f63d (see
// NOTICE).
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Tier is how much harm something can do.
type Tier uint8

// The tiers.
const (
	Harmless  Tier = iota // inventory that nobody minds
	Internal              // says something of the organisation
	Sensitive             // people, secrets in passing, or real load
	Dangerous             // secrets by design, effects on the host or the network; or not understood
)

// String returns the tier's number and name, as "2 sensitive".
func (t Tier) String() string {
	switch t {
	case Harmless:
		return "0 harmless"
	case Internal:
		return "1 internal"
	case Sensitive:
		return "2 sensitive"
	case Dangerous:
		return "3 dangerous"
	}
	return fmt.Sprintf("%d", uint8(t))
}

// Reason is one thing that a text uses and the tier that it has for that.
type Reason struct {
	Kind string `json:"kind"` // table, column, function, argument, shape, option, path …
	Name string `json:"name"` // processes, processes.cmdline, sleep …
	Tier Tier   `json:"tier"`
	Why  string `json:"why"` // a sentence for people
}

// Finding is a remark about one place of a text. Codes are stable: people
// silence and search them.
type Finding struct {
	Code    string `json:"code"` // kebab-case: select-star, unknown-column, not-provable …
	Message string `json:"message"`
	// Severity is Refused, Warning or Note.
	Severity Severity `json:"severity"`
	Line     int      `json:"line"`   // from 1; 0 means the whole text
	Column   int      `json:"column"` // in characters, from 1
}

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Refused Severity = "refused" // no tier allows it; agents would refuse or be hurt by it
	Warning Severity = "warning" // it runs, and likely not as meant
	Note    Severity = "note"    // could be better
)

// Verdict is what the policy says of one thing.
type Verdict struct {
	Tier Tier `json:"tier"`
	// Reasons are why, the highest tier first; those of tier 0 are left out.
	Reasons   []Reason  `json:"reasons"`
	Tables    []string  `json:"tables"`    // by their real names, sorted
	Columns   []string  `json:"columns"`   // table.column, sorted
	Functions []string  `json:"functions"` // sorted
	Findings  []Finding `json:"findings"`
	// Platforms are those that have all of its tables; empty if none has.
	Platforms []string `json:"platforms"`
	// Hash is the SHA-256 of the exact text in hex, by which it is pinned.
	Hash string `json:"hash,omitempty"`
	// Exception names what pins it: then it is allowed whatever its tier is,
	// unless it is not provable.
	Exception string `json:"exception,omitempty"`
}

// Provable reports whether all was understood. What is not is never allowed.
func (v Verdict) Provable() bool {
	return !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Severity == Refused })
}

// Allowed reports whether the tier is at most max, or pinned, and all was
// understood.
func (v Verdict) Allowed(limit Tier) bool {
	return v.Provable() && (v.Tier <= limit || v.Exception != "")
}

// add joins another verdict's points to this one's: the tier is the higher one.
func (v *Verdict) add(r Reason) {
	if r.Tier == Harmless || slices.Contains(v.Reasons, r) {
		return
	}
	v.Tier = max(v.Tier, r.Tier)
	v.Reasons = append(v.Reasons, r)
}

func (v *Verdict) find(code string, s Severity, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{Code: code, Severity: s, Message: fmt.Sprintf(format, args...)})
}

// Use is how a text is going to be run, which findings depend on. The zero
// value is a live query.
type Use string

// The uses.
const (
	Live       Use = "live"
	Scheduled  Use = "scheduled"
	Discovery  Use = "discovery"  // of a pack: runs outside the denylist
	Decorator  Use = "decorator"  // runs at each load, query or interval
	View       Use = "view"       // becomes a name that others use
	FilePaths  Use = "file_paths" // yields the column path
	Enrollment Use = "enrollment" // once after a node enrolled
)

// Query is one SQL text and how it runs. Only SQL is required.
type Query struct {
	SQL       string
	Use       Use
	Interval  int      // seconds; 0 if it has none
	Snapshot  bool     // all rows each time
	Removed   bool     // rows that went are logged, osquery's default
	Platforms []string // where it is meant to run; none means anywhere that has its tables
}

// Hash returns the SHA-256 of an exact text in hex, by which it is pinned.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Rules change what the shipped policy says. The zero value changes nothing.
// They come from TablePolicy and PolicyException resources.
type Rules struct {
	// Tables, Columns ("table.column") and Functions give a tier of one's own,
	// by lower-case name.
	Tables    map[string]Rule
	Columns   map[string]Rule
	Functions map[string]Rule
	Options   map[string]Rule // by flag name
	// Paths are patterns (osquery's: % within a level, %% below) that an argument
	// such as file.path may have: by "table.column".
	Arguments map[string][]string
	// Extensions are tables that the schema does not know: of osquery extensions
	// and automatic tables, with their columns.
	Extensions map[string][]string
	// Views are names for SELECT texts that agents have, with their text.
	Views map[string]string
	// Pins allow exact texts, by Hash, whatever their tier; the value names the
	// exception.
	Pins map[string]string
}

// Rule is a tier with its reason.
type Rule struct {
	Tier   Tier
	Reason string
}
