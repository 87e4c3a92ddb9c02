package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/stream"
)

// openRules makes what acts on events. It comes after the stream and the
// triggers.
func (a *App) openRules(ctx context.Context) error {
	last, err := a.stream.Last(ctx, stream.Events)
	if err != nil {
		return err
	}
	a.rules = rule.NewEngine(rule.Options{
		Catalog: a.catalog(), Registry: a.registry, Alerts: a.alerts.service, Asker: a.triggers, Tags: a.store, Store: a.store,
		Policy: a.runs.policy, Log: a.log, Now: a.now,
	})
	return a.rules.Load(ctx, last)
}

// ruleReader is the name of the position up to which rules looked at events.
const ruleReader = "rules"

// batchesOf returns the batches of a message, without those that cannot be read; of
// them the indexer tells.
func batchesOf(m stream.Message) []event.Batch {
	batches := make([]event.Batch, 0, len(m.Records))
	for _, r := range m.Records {
		if b, err := event.DecodeBatch(r); err == nil {
			batches = append(batches, b)
		}
	}
	return batches
}

// applyRules gives events to the rules, a message at a time: an event is known by
// its message, so these must be the same when they come again.
func (a *App) applyRules(ctx context.Context) error {
	return a.stream.ReadDurable(ctx, ruleReader, stream.Events, 1, func(ctx context.Context, m stream.Message) error {
		return a.rules.Handle(ctx, m.Seq, batchesOf(m))
	})
}

// crowded is the part of the stream from which rules that are behind are waited
// for no more: a rule must never be why an agent's log is refused.
const crowded = 0.5

// ruled returns up to where rules must not be waited for: their position, or upTo
// if the stream fills.
func (a *App) ruled(ctx context.Context, upTo uint64) (uint64, error) {
	at, err := a.stream.ReadPosition(ctx, ruleReader)
	if err != nil || at >= upTo {
		return upTo, err
	}
	bytes, err := a.stream.Bytes(ctx)
	if err != nil || float64(bytes) < crowded*float64(a.stream.MaxBytes()) {
		return at, err
	}
	a.log.ErrorContext(ctx, "rules are so far behind that events are left out of them: the stream is half full", "messages", upTo-at)
	a.rules.Skip(int64(upTo - at)) //nolint:gosec // messages on a disk
	return upTo, nil
}

// ruleMetrics tells how each rule does.
type ruleMetrics struct {
	engine                                                    *rule.Engine
	events, matches, firings, unknown, refused, failed, aside *prometheus.Desc
	seconds, delay, bound                                     *prometheus.Desc
	judged, skipped                                           *prometheus.Desc
}

func newRuleMetrics(e *rule.Engine) ruleMetrics {
	perRule := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"rule"}, labels...), nil)
	}
	return ruleMetrics{
		engine:  e,
		events:  perRule("muster_rule_events_total", "Events that a rule looked at."),
		matches: perRule("muster_rule_matches_total", "Events that fit a rule."),
		firings: perRule("muster_rule_firings_total", "Matches that did something, or would in shadow mode."),
		unknown: perRule("muster_rule_unknown_total", "Events that lack something that the rule looks at."),
		refused: perRule("muster_rule_refused_total", "Live queries that a rule may not start, or not now."),
		failed:  perRule("muster_rule_failed_total", "Actions that failed and were given up."),
		aside:   perRule("muster_rule_set_aside", "1 while a rule is left out because it broke."),
		seconds: perRule("muster_rule_seconds_total", "Time that the evaluation of a rule took."),
		delay:   perRule("muster_rule_match_delay_seconds", "From an event until its match, of the last firings.", "platform", "quantile"),
		bound:   perRule("muster_rule_bound_seconds", "The most that passes until a row of a scheduled query arrives that a rule looks at, by the platform of online nodes.", "platform"),
		judged:  prometheus.NewDesc("muster_rules_judged_timestamp_seconds", "When the newest event that rules looked at had been received.", nil, nil),
		skipped: prometheus.NewDesc("muster_rules_skipped_messages_total", "Messages that rules never looked at, because the stream filled.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m ruleMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.events, m.matches, m.firings, m.unknown, m.refused, m.failed, m.aside, m.seconds, m.delay, m.bound, m.judged, m.skipped} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m ruleMetrics) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, s := range m.engine.Status(context.Background()) {
		for d, n := range map[*prometheus.Desc]int64{
			m.events: s.Counts.Evaluated, m.matches: s.Counts.Matched, m.firings: s.Counts.Fired, m.unknown: s.Counts.Unknown,
			m.refused: s.Counts.Refused, m.failed: s.Counts.Failed,
		} {
			tell(d, prometheus.CounterValue, float64(n), s.Plan.Name)
		}
		tell(m.aside, prometheus.GaugeValue, truth(s.State == rule.SetAside), s.Plan.Name)
		tell(m.seconds, prometheus.CounterValue, s.Spent.Seconds(), s.Plan.Name)
		for platform, l := range s.Platforms {
			tell(m.delay, prometheus.GaugeValue, l.P50.Seconds(), s.Plan.Name, platform, "0.5")
			tell(m.delay, prometheus.GaugeValue, l.P99.Seconds(), s.Plan.Name, platform, "0.99")
			tell(m.delay, prometheus.GaugeValue, l.Worst.Seconds(), s.Plan.Name, platform, "1")
		}
		worst := map[string]time.Duration{}
		for _, b := range m.engine.Bounds(context.Background(), s.Plan.Name) {
			worst[b.Platform] = max(worst[b.Platform], b.Worst)
		}
		for platform, d := range worst {
			tell(m.bound, prometheus.GaugeValue, d.Seconds(), s.Plan.Name, platform)
		}
	}
	if at := m.engine.Judged(); !at.IsZero() {
		tell(m.judged, prometheus.GaugeValue, float64(at.UnixMilli())/1e3) //nolint:mnd // milliseconds
	}
	tell(m.skipped, prometheus.CounterValue, float64(m.engine.Skipped()))
}
