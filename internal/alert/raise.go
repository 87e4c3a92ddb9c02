package alert

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/ident"
)

// maxBatch bounds the firings of one transaction, which keeps other writers
// waiting.
const maxBatch = 200

// Raise takes what rules found. It is durable when it returns, with what notifiers
// are to be told; after an error, or a crash, the same firings may be raised
// again: those that were taken are known and not counted twice.
func (s *Service) Raise(ctx context.Context, firings []Firing) error {
	now := s.Now()
	cleaned := make([]Firing, 0, len(firings))
	for _, f := range firings {
		cleaned = append(cleaned, f.clean(now))
	}
	for batch := range slices.Chunk(cleaned, maxBatch) {
		if err := s.change(ctx, wantedBy(batch), func(d *decision) error {
			for _, f := range batch {
				d.fire(f)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// wantedBy names the alerts that firings are about, and those of their floods.
func wantedBy(batch []Firing) Wanted {
	var w Wanted
	for _, f := range batch {
		w.Keys = append(w.Keys, Key{f.Rule, f.Key}, Key{RuleFlood, f.Rule})
		w.Rules = append(w.Rules, f.Rule)
	}
	compare := func(a, b Key) int { return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Key, b.Key)) }
	slices.SortFunc(w.Keys, compare)
	slices.Sort(w.Rules)
	w.Keys, w.Rules = slices.Compact(w.Keys), slices.Compact(w.Rules)
	return w
}

// decision gathers what one transaction changes.
type decision struct {
	now     time.Time
	routes  []*Route
	nodes   Nodes
	policy  func(rule string) Policy
	current *Current
	change  Change
	dirty   map[*Alert]bool
	floods  map[*Flood]bool
}

// fire takes one firing.
func (d *decision) fire(f Firing) {
	k := Key{f.Rule, f.Key}
	a := d.current.Alerts[k]
	p := d.policy(f.Rule).complete()
	switch {
	case a != nil && (mark{a.Event, a.EventAt}).covers(f):
	case f.Resolved:
		if a != nil && a.State != Resolved {
			a.mark(f)
			d.resolve(a, ByRule, "")
		}
	case a != nil && a.State != Resolved:
		d.count(a, f, p)
	case d.suppress(f, p):
	case a != nil && d.now.Sub(a.ResolvedAt) <= p.ReopenWithin:
		d.reopen(a, f, p)
	default:
		if a != nil {
			a.Current = false
			d.touch(a)
		}
		d.open(f, p)
	}
}

// open makes an alert.
func (d *decision) open(f Firing, p Policy) {
	a := &Alert{
		ID: ident.New(), Rule: f.Rule, Key: f.Key, State: Open, Severity: Severity(f.Severity), Current: true,
		Episodes: 1, FirstAt: d.now, OpenedAt: d.now,
	}
	d.current.Alerts[Key{f.Rule, f.Key}] = a
	d.take(a, f, p)
	d.note(a, ByRule, Opened, "")
	d.tell(a, Opened, f)
}

// reopen opens an alert that was over.
func (d *decision) reopen(a *Alert, f Firing, p Policy) {
	a.State, a.OpenedAt, a.Severity = Open, d.now, Severity(f.Severity)
	a.ResolvedAt, a.ResolvedBy, a.AcknowledgedBy, a.AcknowledgedAt = time.Time{}, "", "", time.Time{}
	a.Episodes++
	d.take(a, f, p)
	d.note(a, ByRule, Reopened, "")
	d.tell(a, Reopened, f)
}

// count notes one more firing of an alert that is open. One that is worse than
// before is told again.
func (d *decision) count(a *Alert, f Firing, p Policy) {
	before := a.Severity
	a.Severity = Severity(f.Severity)
	d.take(a, f, p)
	if a.Severity.Rank() > before.Rank() {
		d.note(a, ByRule, Escalated, fmt.Sprintf("from %s to %s", before, a.Severity))
		d.tell(a, Escalated, f)
	}
}

// take makes a firing an alert's newest.
func (d *decision) take(a *Alert, f Firing, p Policy) {
	a.Title, a.Text, a.Labels = f.Title, f.Text, f.Labels
	a.NodeID, a.HostIdentifier, a.Query, a.Notifiers = f.NodeID, f.HostIdentifier, f.Query, f.Notifiers
	a.Count++
	a.LastAt, a.ResolveAt = d.now, time.Time{}
	if p.ResolveAfter > 0 {
		a.ResolveAt = d.now.Add(p.ResolveAfter)
	}
	a.mark(f)
	d.touch(a)
	d.change.Samples = append(d.change.Samples, SampleOf{a.ID, Sample{
		Number: a.Count, At: d.now, Event: f.Event, EventTime: f.EventTime, Title: f.Title, Columns: f.Columns,
	}})
}

func (a *Alert) mark(f Firing) {
	m := markOf(f)
	a.Event, a.EventAt = m.event, m.at
}

// resolve ends an alert.
func (d *decision) resolve(a *Alert, by, why string) {
	a.State, a.ResolvedAt, a.ResolvedBy, a.ResolveAt = Resolved, d.now, by, time.Time{}
	d.touch(a)
	d.note(a, by, Ended, why)
	d.tell(a, Ended, Firing{Matched: d.now})
}

// suppress reports whether a firing opens nothing, because its rule opened too many
// alerts lately; one alert counts what is over. It counts what opens.
func (d *decision) suppress(f Firing, p Policy) bool {
	flood := d.current.Floods[f.Rule]
	if flood == nil {
		flood = &Flood{Rule: f.Rule, Since: d.now}
		d.current.Floods[f.Rule] = flood
	}
	if (mark{flood.Event, flood.EventAt}).covers(f) {
		return true // it was counted before
	}
	if d.now.Sub(flood.Since) >= p.FloodPeriod || d.now.Before(flood.Since) {
		flood.Since, flood.Opened, flood.Suppressed = d.now, 0, 0
	}
	if !d.floods[flood] {
		d.floods[flood] = true
		d.change.Floods = append(d.change.Floods, flood)
	}
	if flood.Opened < p.FloodMax {
		flood.Opened++
		return false
	}
	flood.Suppressed++
	m := markOf(f)
	flood.Event, flood.EventAt = m.event, m.at
	d.sum(f, p)
	return true
}

// sum counts a firing that opened nothing in the alert about its rule's flood. That
// one is over when nothing came for a period.
func (d *decision) sum(f Firing, p Policy) {
	s := f
	s.Rule, s.Key, s.NodeID, s.HostIdentifier, s.Query = RuleFlood, f.Rule, "", "", ""
	s.Labels = map[string]string{"rule": f.Rule}
	s.Text = fmt.Sprintf("The rule opened %d alerts within %s. What it finds beyond that opens none, and is counted here; the samples are the newest. The last was: %s",
		p.FloodMax, p.FloodPeriod, f.Title)
	s.Text = Text(s.Text, maxText)
	s.Title = Line("too many alerts of the rule "+f.Rule, maxTitle)
	own := Policy{ResolveAfter: p.FloodPeriod}.complete()
	a := d.current.Alerts[Key{s.Rule, s.Key}]
	switch {
	case a == nil:
		d.open(s, own)
	case a.State == Resolved:
		d.reopen(a, s, own)
	default:
		d.count(a, s, own)
	}
	if a = d.current.Alerts[Key{s.Rule, s.Key}]; len(d.change.Samples) > 0 && a != nil {
		d.change.Samples[len(d.change.Samples)-1].Title = f.Title
	}
}

// touch keeps an alert once, where it was first changed.
func (d *decision) touch(a *Alert) {
	if !d.dirty[a] {
		d.dirty[a] = true
		d.change.Alerts = append(d.change.Alerts, a)
	}
}

// note writes a line of history, unless what happens by itself filled it.
func (d *decision) note(a *Alert, actor string, action Action, detail string) {
	if actor == ByRule && a.Entries >= maxOwnEntries {
		return
	}
	a.Entries++
	d.touch(a)
	d.change.Entries = append(d.change.Entries, Entry{AlertID: a.ID, At: d.now, Actor: actor, Action: action, Detail: detail})
}

// tell puts into the outbox what notifiers are to be told.
func (d *decision) tell(a *Alert, action Action, f Firing) {
	for _, r := range choose(d.routes, d.nodes, a, action) {
		wait := r.GroupWait
		if r.Single {
			wait = 0
		}
		d.change.Notifications = append(d.change.Notifications, Notification{
			Notifier: r.Name, Group: r.group(a), AlertID: a.ID, Rule: a.Rule, Action: action, State: Waiting,
			CreatedAt: d.now, DueAt: d.now.Add(wait), Span: Span{EventTime: f.EventTime, Received: f.Received, Matched: f.Matched},
		})
	}
}
