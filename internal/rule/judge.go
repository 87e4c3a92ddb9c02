package rule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/condition"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
)

// occurrence is an event with all that a rule may look at.
type occurrence struct {
	condition.Event

	raw            *event.Event
	nodeID         string
	hostIdentifier string
	received       time.Time
	place          event.Position
}

// newOccurrence reads the columns of an event of a batch into a row that may be
// used again when the occurrence is done with. What is no object has no columns.
func newOccurrence(b *event.Batch, e *event.Event, n *node.Identity, place event.Position, columns osquery.Row) occurrence {
	o := occurrence{
		raw: e, nodeID: b.NodeID, hostIdentifier: b.HostIdentifier, received: b.Received, place: place,
		Event: condition.Event{Query: e.Query, Action: e.Action, Counter: e.Counter, Node: n, Tags: b.Tags},
	}
	o.Columns, o.Decorations = osquery.AppendRow(columns, e.Columns), osquery.AppendRow(nil, e.Decorations)
	return o
}

// group returns whose event it is; a node that is gone has no platform.
func (o *occurrence) group() Group {
	g := Group{Query: o.Query}
	if o.Node != nil {
		g.Platform = o.Node.Platform
	}
	return g
}

// id names the event, as a firing says it.
func (o *occurrence) id() string {
	return strconv.FormatUint(o.place.Seq, 10) + "-" + strconv.FormatUint(uint64(o.place.Index), 10)
}

// verdict is what a rule says of an event.
type verdict int8

const (
	nothing    verdict = iota
	unknown            // something that the condition looks at is missing
	counted            // it matched, and more matches are needed
	suppressed         // it matched, soon after another
	fired              // it matched, and something is to be done
	resolved           // what was is over
	repeated           // it was judged before a crash
)

// matched reports whether the condition fits.
func (v verdict) matched() bool { return v == counted || v == suppressed || v == fired }

// judge says what rules make of events. What it changes is in changed until it is
// kept, so that a message can be judged again.
type judge struct {
	windows *windows
	changed map[windowKey]Window
	// enough returns how many nodes are a percentage of those that a rule means.
	enough func(p *resource.RulePlan) int
}

// stateful reports whether a rule remembers.
func stateful(p *resource.RulePlan) bool {
	return p.Threshold != nil || p.Suppress > 0 || p.Resolve != nil
}

// look judges one event by one rule. key is what it is about, "" unless it matched.
func (j *judge) look(p *resource.RulePlan, o *occurrence) (v verdict, key string) {
	truth := condition.Yes
	if p.Condition != nil {
		truth = p.Condition.Judge(&o.Event)
	}
	if truth != condition.Yes {
		if p.Resolve != nil && p.Resolve.Judge(&o.Event) == condition.Yes {
			return j.resolve(p, o)
		}
		if truth == condition.Unknown {
			return unknown, ""
		}
		return nothing, ""
	}
	key = keyOf(p, o)
	if !stateful(p) {
		return fired, key
	}
	w := j.window(p, key)
	if !after(o.place, w.Last) {
		return repeated, key
	}
	w.Last, w.Touched = o.place, o.received
	v = j.match(p, o, &w)
	j.changed[windowKey{p.Name, key}] = w
	return v, key
}

// match counts a match in its window.
func (j *judge) match(p *resource.RulePlan, o *occurrence, w *Window) verdict {
	if p.Suppress > 0 && !w.Fired.IsZero() && o.received.Sub(w.Fired) < time.Duration(p.Suppress) {
		return suppressed
	}
	if t := p.Threshold; t != nil {
		h, distinct := Hit{At: o.received}, false
		switch {
		case t.Percent > 0:
			h.Value, distinct = xxhash.Sum64String(o.nodeID), true
		case p.Distinct != nil:
			value, ok := p.Distinct.Of(&o.Event)
			if !ok {
				return counted // a value that is missing is none to count
			}
			h.Value, distinct = xxhash.Sum64String(value), true
		}
		enough := t.Count
		if t.Percent > 0 {
			enough = j.enough(p)
		}
		if !w.hit(h, distinct, enough, time.Duration(t.Window)) {
			return counted
		}
	}
	w.Fired, w.Open = o.received, p.Resolve != nil
	return fired
}

// resolve closes what is open.
func (j *judge) resolve(p *resource.RulePlan, o *occurrence) (verdict, string) {
	key := keyOf(p, o)
	w := j.window(p, key)
	if !w.Open {
		return nothing, ""
	}
	if !after(o.place, w.Last) {
		return repeated, key
	}
	j.changed[windowKey{p.Name, key}] = Window{Rule: p.Name, Key: key}
	return resolved, key
}

func (j *judge) window(p *resource.RulePlan, key string) Window {
	k := windowKey{p.Name, key}
	if w, ok := j.changed[k]; ok {
		return w
	}
	return j.windows.get(k)
}

// after reports whether p is behind q in the stream.
func after(p, q event.Position) bool {
	return p.Seq > q.Seq || p.Seq == q.Seq && p.Index > q.Index || q.IsZero()
}

// Lengths of what people read, in characters.
const (
	maxKey       = 200
	maxTitle     = 200
	maxTitleWord = 100
	maxText      = 4000
	maxTextWord  = 1000
	maxLabel     = 200
	maxColumns   = 16 << 10 // bytes of a row that goes along
	maxCell      = 256
	maxCells     = 50
)

// keyOf returns what a match is about. One that is too long keeps its difference
// by a hash, so that nobody can hide behind the key of another.
func keyOf(p *resource.RulePlan, o *occurrence) string {
	if p.Key == nil {
		if p.Threshold != nil && p.Threshold.Percent > 0 {
			return "fleet"
		}
		return o.nodeID
	}
	const whole = 64 << 10
	key := p.Key.Render(&o.Event, whole, whole)
	if short := condition.Clean(key, maxKey); short != key {
		return short + " " + hash(key)
	}
	return key
}

func hash(s string) string { return fmt.Sprintf("%016x", xxhash.Sum64String(s)) }

// firing returns what is raised for a match.
func firing(p *resource.RulePlan, o *occurrence, key string, now time.Time) alert.Firing {
	f := alert.Firing{
		Rule: p.Name, Key: key, Event: o.id(), Severity: p.Severity,
		Title: p.Title.Render(&o.Event, maxTitleWord, maxTitle), Text: p.Text.Render(&o.Event, maxTextWord, maxText),
		NodeID: o.nodeID, HostIdentifier: o.hostIdentifier, Query: o.raw.Query, Columns: columnsOf(o),
		EventTime: o.raw.Time, Received: o.received, Matched: now,
	}
	if len(p.Labels) > 0 {
		f.Labels = make(map[string]string, len(p.Labels))
		for name, t := range p.Labels {
			f.Labels[name] = t.Render(&o.Event, maxLabel, maxLabel)
		}
	}
	if a := p.Actions.Alert; a != nil {
		f.Notifiers = a.Notifiers
	}
	return f
}

// columnsOf returns the row, shortened if it is large. It outlives the message.
func columnsOf(o *occurrence) json.RawMessage {
	if len(o.raw.Columns) <= maxColumns {
		return append(json.RawMessage(nil), o.raw.Columns...)
	}
	row := make(osquery.Row, 0, maxCells)
	for _, c := range o.Columns[:min(len(o.Columns), maxCells)] {
		row = append(row, osquery.Column{Name: condition.Clean(c.Name, maxCell), Value: condition.Clean(c.Value, maxCell)})
	}
	b, err := row.MarshalJSON()
	if err != nil {
		return nil
	}
	return b
}
