package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Firing says that a rule matched, or that what it watches is over.
type Firing struct {
	Rule string // name of the rule
	Key  string // what it is about: equal rule and key are one alert
	// Severity is one of Severities; anything else is Medium.
	Severity               string
	Title                  string            // one line; more than maxTitle bytes are cut
	Text                   string            // more than maxText bytes are cut
	Labels                 map[string]string // for grouping, silences, notifiers' templates
	NodeID, HostIdentifier string            // "" if it is about no one node
	Query                  string            // event's query
	Columns                json.RawMessage   // of the event, or nil
	Notifiers              []string          // names; empty: the default ones
	Resolved               bool              // the condition is over
	// Event is the stream's number of the message and the event's index in it, as
	// 1234-5; "" if no event made it fire. Firings of one rule come in the order of
	// their events: one that comes again, as after a crash, is known by that. Without
	// an event it is known by its EventTime, which is that of the condition's begin.
	Event string

	EventTime, Received, Matched time.Time // for time to alert
}

// Own rules: what the server itself finds. No resource has a colon in its name.
const (
	RuleFlood    = "muster:flood"    // a rule opens too many alerts; the key is its name
	RuleNotifier = "muster:notifier" // a notifier fails; the key is its name
	RuleAudit    = "muster:audit"    // a witness of the audit log fails, or the log is broken
	RuleRollout  = "muster:rollout"  // a rollout was paused or taken back by the server
	RuleFreeze   = "muster:freeze"   // an outside freeze holds
	RuleRule     = "muster:rule"     // a rule is broken; the key is its name
)

// Bounds of what a firing says, in bytes: agents choose most of it, and it is
// kept, shown and sent.
const (
	maxRule    = 128
	maxKey     = 512
	maxTitle   = 256
	maxText    = 4 << 10
	maxName    = 256 // of nodes and queries
	maxLabels  = 16
	maxLabel   = 64
	maxValue   = 256
	maxColumns = 4 << 10
	maxTo      = 16 // notifiers
)

// clean returns the firing within its bounds, with nothing in its texts that
// commands what shows them.
func (f Firing) clean(now time.Time) Firing {
	f.Rule = Line(f.Rule, maxRule)
	f.Key = boundedKey(f.Key)
	f.Severity = string(severityOf(f.Severity))
	if f.Title = Line(f.Title, maxTitle); f.Title == "" {
		f.Title = f.Rule
	}
	f.Text = Text(f.Text, maxText)
	f.NodeID, f.HostIdentifier, f.Query = Line(f.NodeID, maxName), Line(f.HostIdentifier, maxName), Line(f.Query, maxName)
	f.Labels = cleanLabels(f.Labels)
	if len(f.Columns) > maxColumns || !json.Valid(f.Columns) {
		f.Columns = nil // the event itself is in the search
	}
	if len(f.Notifiers) > maxTo {
		f.Notifiers = f.Notifiers[:maxTo]
	}
	if f.Matched.IsZero() {
		f.Matched = now
	}
	return f
}

// boundedKey shortens a key such that two that differ still do.
func boundedKey(key string) string {
	clean := Line(key, 0)
	if len(clean) <= maxKey {
		return clean
	}
	sum := sha256.Sum256([]byte(key))
	mark := "…" + hex.EncodeToString(sum[:])
	return Line(clean, maxKey-len(mark)) + mark
}

// cleanLabels keeps the first maxLabels by name, so that the same are kept of the
// same.
func cleanLabels(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(labels), maxLabels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if name := Line(k, maxLabel); name != "" && len(out) < maxLabels {
			out[name] = Line(labels[k], maxValue)
		}
	}
	return out
}

// mark is the place of a firing that was counted.
type mark struct {
	event string
	// at is when the event was received; without one, the time of the firing.
	at time.Time
}

func markOf(f Firing) mark {
	at := f.Received
	if f.Event == "" {
		at = f.EventTime
	}
	return mark{f.Event, at.Truncate(time.Microsecond)} // as precise as it is kept
}

// covers reports whether a firing is one that was counted before: its event is no
// later than the marked one. The time tells a stream that began anew, whose
// numbers are small again, from one that is read again. Without an event it is
// one of the very time of the former.
func (m mark) covers(f Firing) bool {
	n := markOf(f)
	if n.event == "" || m.event == "" {
		return n.event == m.event && !n.at.IsZero() && n.at.Equal(m.at)
	}
	return compareEvents(n.event, m.event) <= 0 && !n.at.After(m.at)
}

// compareEvents compares places in the stream.
func compareEvents(a, b string) int {
	seqA, indexA := splitEvent(a)
	seqB, indexB := splitEvent(b)
	return cmp.Or(cmp.Compare(seqA, seqB), cmp.Compare(indexA, indexB))
}

func splitEvent(s string) (seq, index uint64) {
	a, b, _ := strings.Cut(s, "-")
	seq, _ = strconv.ParseUint(a, 10, 64)
	index, _ = strconv.ParseUint(b, 10, 64)
	return seq, index
}
