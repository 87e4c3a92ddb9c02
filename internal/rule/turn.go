package rule

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/trigger"
)

// turn is the work on one message.
type turn struct {
	engine *Engine
	force  *force
	judge  judge
	now    time.Time

	firings []alert.Firing
	acts    []act
	raised  map[windowKey]int
	results map[*running]*result
}

// act is what a match does besides an alert.
type act struct {
	rule     *running
	node     string
	question *trigger.Question // nil: none
	tag      []string
	untag    []string
}

func (t *turn) of(r *running) *result {
	got := t.results[r]
	if got == nil {
		got = &result{}
		t.results[r] = got
	}
	return got
}

// maxRows bounds the events that are decoded at once.
const maxRows = 64

// batch judges the events of one request. Those of one query come together.
func (t *turn) batch(b *event.Batch, place *event.Position) {
	n := t.engine.Registry.Lookup(b.NodeID)
	c := classOf(b.LogType)
	for i := 0; i < len(b.Events); {
		first := &b.Events[i]
		end := i + 1
		for end < len(b.Events) && end-i < maxRows && b.Events[end].Query == first.Query && b.Events[end].Action == first.Action {
			end++
		}
		if rules := t.rules(c, first, n); len(rules) > 0 {
			rows := t.engine.rows[:0]
			for j := i; j < end; j++ {
				at := event.Position{Seq: place.Seq, Index: place.Index + uint32(j-i)} //nolint:gosec // at most maxRows
				rows = rows[:len(rows)+1]
				last := &rows[len(rows)-1]
				*last = newOccurrence(b, &b.Events[j], n, at, last.Columns[:0])
			}
			for _, r := range rules {
				t.run(r, rows, c)
			}
		}
		place.Index += uint32(end - i) //nolint:gosec // at most maxRows
		i = end
	}
}

// rules returns those that look at a query's events of a node.
func (t *turn) rules(c class, e *event.Event, n *node.Identity) []*running {
	all := t.force.rulesFor(query{c, e.Query})
	if len(all) == 0 {
		return nil
	}
	var chain []string
	if c == answer {
		chain = chainOf(e.Query)
	}
	return slices.DeleteFunc(slices.Clone(all), func(r *running) bool {
		// What a rule asked for is no reason for it to ask again.
		return !r.Takes(e.Action) || !r.Means(n) || slices.Contains(chain, r.Name) || r.stats.isAside()
	})
}

// run judges events by one rule. A panic, which would be a defect of ours, costs
// this rule alone.
func (t *turn) run(r *running, rows []occurrence, c class) {
	began := t.engine.Now()
	defer func() {
		if p := recover(); p != nil {
			t.setAside(r, fmt.Sprintf("it panicked: %v", p))
		}
	}()
	looked := 0
	for i := range rows {
		if c == status {
			if severity, _ := rows[i].Columns.Get("severity"); !r.TakesStatus(severity) {
				continue
			}
		}
		looked++
		t.look(r, &rows[i])
	}
	if why := r.stats.spend(looked, t.engine.Now().Sub(began)); why != "" {
		t.setAside(r, why)
	}
}

// setAside leaves a rule out from now on, and tells of it once.
func (t *turn) setAside(r *running, why string) {
	if r.stats.setAside(why) {
		t.engine.Log.Error("a rule is set aside", "rule", r.Name, "why", why)
		t.firings = append(t.firings, brokenFiring(r.Name, why, t.now, false))
	}
}

func brokenFiring(name, why string, now time.Time, over bool) alert.Firing {
	return alert.Firing{
		Rule: alert.RuleRule, Key: name, Severity: "high", Title: "The rule " + name + " is set aside: " + why,
		Text:     "It looks at no event until it is changed or the server starts anew. Other rules go on.",
		Resolved: over, EventTime: now, Received: now, Matched: now,
	}
}

// look judges one event by one rule, and gathers what follows.
func (t *turn) look(r *running, o *occurrence) {
	v, key := t.judge.look(r.RulePlan, o)
	if v == nothing {
		return
	}
	got := t.of(r)
	if v.matched() {
		got.counts.Matched++
		got.lastMatch = t.now
	}
	switch v {
	case unknown:
		got.counts.Unknown++
	case suppressed:
		got.counts.Suppressed++
	case fired:
		got.counts.Fired++
		got.samples = append(got.samples, sample{o.group(), t.now.Sub(o.raw.Time), t.now.Sub(o.received)})
		if !r.Shadow {
			t.fire(r, o, key, got)
		}
	case resolved:
		got.counts.Resolved++
		if !r.Shadow {
			t.resolve(r, o, key)
		}
	case nothing, counted, repeated:
	}
}

// maxRaised bounds the firings of one key in one message: a snapshot of thousands
// of rows about one thing is one alert.
const maxRaised = 10

func (t *turn) fire(r *running, o *occurrence, key string, got *result) {
	k := windowKey{r.Name, key}
	if t.raised == nil {
		t.raised = map[windowKey]int{}
	}
	if t.raised[k]++; t.raised[k] > maxRaised {
		got.counts.Merged++
		return
	}
	if r.Alerts() {
		got.counts.Alerted++
		t.firings = append(t.firings, firing(r.RulePlan, o, key, t.now))
	}
	a := act{rule: r, node: o.nodeID, tag: r.Actions.Tag, untag: r.Actions.Untag}
	if r.Question != nil {
		a.question = t.question(r, o, got)
	}
	if a.question != nil || len(a.tag)+len(a.untag) > 0 {
		t.acts = append(t.acts, a)
	}
}

// resolve says that what a rule found is over, and takes its tags.
func (t *turn) resolve(r *running, o *occurrence, key string) {
	if r.Alerts() {
		f := firing(r.RulePlan, o, key, t.now)
		f.Resolved = true
		t.firings = append(t.firings, f)
	}
	if len(r.Actions.Tag) > 0 {
		t.acts = append(t.acts, act{rule: r, node: o.nodeID, untag: r.Actions.Tag})
	}
}

// question returns what the node is asked; nil if it is not, which is counted.
func (t *turn) question(r *running, o *occurrence, got *result) *trigger.Question {
	refuse := func(format string, args ...any) *trigger.Question {
		got.counts.Refused++
		r.stats.failed(errs.New(errs.Invalid, format, args...), t.now)
		return nil
	}
	chain := append(chainOf(o.raw.Query), r.Name)
	if o.Node == nil {
		return refuse("the node is gone; it is asked nothing")
	}
	if len(chain) > maxDepth {
		return refuse("%s led to one another; %d is the most", strings.Join(chain, ", "), maxDepth)
	}
	// The rule holds at once, but what it asks is for nodes whose revision has it.
	own := t.engine.Catalog.Snapshot(o.Node).EventRule(r.Name)
	if own == nil || own.Question == nil || !own.On() || own.Shadow {
		return refuse("what the rule asks is not for that node yet: its revision rolls out")
	}
	q := &trigger.Question{
		Name: sourcePrefix + r.Name, Source: sourcePrefix + strings.Join(chain, chainSign), Template: own.Question.Template,
		Values: map[string]string{}, Expires: own.Question.Expires, PerNode: own.Question.PerNode, Total: own.Question.Total,
		Event: o.id(), Actor: ActorOf(r.Name), ReceivedAt: o.received,
	}
	for name, value := range own.Question.Values {
		v, ok := value.Of(&o.Event)
		if !ok || v == "" {
			return refuse("parameters.%s: the event has no such value", name)
		}
		q.Values[name] = strings.Clone(v)
	}
	return q
}

// Bounds of what is handed on.
const (
	// raiseChunk is how many firings are raised at once.
	raiseChunk = 500
	// maxTries is how often a message waits for actions that fail. Alerts are waited
	// for as long as it takes.
	maxTries = 5
)

// act raises the alerts, then does the rest.
func (t *turn) act(ctx context.Context) error {
	for chunk := range slices.Chunk(t.firings, raiseChunk) {
		if err := t.engine.Alerts.Raise(ctx, chunk); err != nil {
			return fmt.Errorf("raise alerts: %w", err)
		}
	}
	for _, a := range t.acts {
		if err := t.do(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// do asks and tags. What is refused, or fails again and again, is counted.
func (t *turn) do(ctx context.Context, a act) error {
	got := t.of(a.rule)
	n := t.engine.Registry.Lookup(a.node)
	if n == nil {
		got.counts.Refused++
		return nil
	}
	if a.question != nil {
		switch _, err := t.engine.Asker.Ask(ctx, n, *a.question); {
		case err == nil:
			got.counts.Asked++
		case !errs.Is(err, errs.Internal):
			got.counts.Refused++
			a.rule.stats.failed(err, t.now)
		default:
			if err := t.give(ctx, a, got, err); err != nil {
				return err
			}
		}
	}
	taggings := node.Untag(n.ID, n.TagSources, a.untag)
	if len(a.tag) > 0 {
		taggings = append(taggings, node.Tagging{NodeID: n.ID, Source: node.MatchSource(a.rule.Name), Tags: a.tag})
	}
	if len(taggings) == 0 {
		return nil
	}
	if _, err := t.engine.Tags.SetTags(ctx, taggings, t.now); err != nil {
		return t.give(ctx, a, got, err)
	}
	got.counts.Tagged++
	return nil
}

// give gives up an action that failed often enough, and else returns its error.
func (t *turn) give(ctx context.Context, a act, got *result, err error) error {
	if t.engine.tries++; t.engine.tries < maxTries || ctx.Err() != nil {
		return fmt.Errorf("rule %s: %w", a.rule.Name, err)
	}
	got.counts.Failed++
	a.rule.stats.failed(errs.New(errs.Busy, "an action failed; the server's log says why"), t.now)
	t.engine.Log.ErrorContext(ctx, "an action of a rule failed; it is given up", "rule", a.rule.Name, "node_id", a.node, "error", err)
	return nil
}
