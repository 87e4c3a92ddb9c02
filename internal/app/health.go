package app

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/stream"
)

// openHealth takes up what was found about nodes. It comes after the stream.
func (a *App) openHealth(ctx context.Context) error {
	a.health = health.NewMonitor(health.Options{
		Store: a.store, Teller: teller{a}, Fleet: a.registry, Configs: a.catalog(), Evidence: a.runs.monitor,
		OfflineAfter: a.cfg.OfflineAfter, SilentAfter: a.cfg.SilentAfter, Log: a.log, Now: a.now,
	})
	return a.health.Load(ctx)
}

// healthReader is the name of the position up to which events were looked at for
// how nodes fare.
const healthReader = "health"

// healthAtOnce is how many messages are taken together, as findings of all are kept
// in one transaction.
const healthAtOnce = 64

// watchHealth gives events to the monitor of nodes' health.
func (a *App) watchHealth(ctx context.Context) error {
	return a.stream.ReadDurable(ctx, healthReader, stream.Events, healthAtOnce, func(ctx context.Context, m stream.Message) error {
		return a.health.Handle(ctx, batchesOf(m))
	})
}

// teller makes events of findings.
type teller struct{ *App }

// TellFindings implements [health.Teller].
func (t teller) TellFindings(ctx context.Context, findings []health.Finding) error {
	now := t.now()
	byNode := map[string]*event.Batch{}
	for _, f := range findings {
		b := byNode[f.NodeID]
		if b == nil {
			b = &event.Batch{NodeID: f.NodeID, Received: now, LogType: event.ServerLog}
			if n := t.registry.Lookup(f.NodeID); n != nil {
				b.HostIdentifier, b.Tags, b.Revision = n.HostIdentifier, n.Tags, n.Revision()
			}
			byNode[f.NodeID] = b
		}
		b.Events = append(b.Events, findingEvent(f))
	}
	for _, id := range slices.Sorted(maps.Keys(byNode)) {
		if err := t.stream.Append(ctx, stream.Events, byNode[id].Append(nil)); err != nil {
			return err
		}
	}
	return nil
}

// findingEvent is how a finding is an event: added when it opens, removed when it
// closes. A moment is added.
func findingEvent(f health.Finding) event.Event {
	e := event.Event{Time: f.Opened, Query: event.FindingQuery, Action: event.Added}
	state := "open"
	switch {
	case f.Closed.Equal(f.Opened):
		state = "moment"
	case !f.Closed.IsZero():
		state, e.Action, e.Time = "closed", event.Removed, f.Closed
	}
	e.Columns, _ = json.Marshal(map[string]string{ // cannot fail: texts
		"kind": string(f.Kind), "subject": f.Subject, "severity": f.Severity, "text": f.Text, "state": state,
		"opened": f.Opened.UTC().Format(time.RFC3339Nano), "count": strconv.Itoa(f.Count),
	})
	return e
}

// pruneFindings drops findings that closed before the oldest event that is kept.
func (a *App) pruneFindings(ctx context.Context) error {
	return a.prune(ctx, "findings", a.cfg.Retention, a.store.PruneFindings)
}

// healthMetrics tells how many findings are open.
type healthMetrics struct {
	monitor *health.Monitor
	open    *prometheus.Desc
}

func newHealthMetrics(m *health.Monitor) healthMetrics {
	return healthMetrics{m, prometheus.NewDesc("muster_findings_open", "Findings about nodes that are open.", []string{"kind"}, nil)}
}

// Describe implements prometheus.Collector.
func (m healthMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.open }

// Collect implements prometheus.Collector.
func (m healthMetrics) Collect(to chan<- prometheus.Metric) {
	counts := m.monitor.Counts()
	for _, k := range health.Kinds() {
		to <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(counts[k]), string(k))
	}
}
