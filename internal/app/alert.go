package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/notify"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// alerts is what opens alerts and tells of them.
type alerts struct {
	service *alert.Service
	courier *alert.Courier
	metrics alertMetrics
}

// openAlerts comes after the registry and what agents run.
func (a *App) openAlerts(context.Context) error {
	allow, err := egress.ParseNetworks(a.cfg.EgressAllow)
	if err != nil {
		return fmt.Errorf("egress_allow: %w", err)
	}
	served := a.catalog()
	sender := notify.New(notify.Options{
		Notifiers: served, Secrets: &credential.Reader{Dir: a.cfg.Secrets(), Getenv: os.LookupEnv}, Guard: &egress.Guard{Allow: allow},
		PublicURL: a.cfg.PublicURL, Version: a.version,
	})
	a.alerts.metrics = newAlertMetrics()
	a.alerts.service = alert.NewService(alert.Options{
		Store: a.store, Silences: a.store, Routes: served, Nodes: a.registry, Retention: a.cfg.AlertRetention, Log: a.log, Now: a.now,
		Policy: func(rule string) alert.Policy { return alertPolicy(served.Plan().Newest().EventRule(rule)) },
		Wake:   func(names []string) { a.alerts.courier.Wake(names) },
	})
	a.alerts.courier = alert.NewCourier(alert.CourierOptions{
		Outbox: a.store, Silences: a.store, Routes: served, Sender: sender, Raise: a.alerts.service.Raise, Observe: a.alerts.metrics.observe,
		Log: a.log, Now: a.now,
	})
	return nil
}

// alertPolicy returns how a rule wants its alerts treated; without a rule, as those
// of the server's own, by default.
func alertPolicy(p *resource.RulePlan) alert.Policy {
	if p == nil || p.Actions.Alert == nil {
		return alert.Policy{}
	}
	a := p.Actions.Alert
	policy := alert.Policy{ResolveAfter: time.Duration(a.ResolveAfter), ReopenWithin: time.Duration(a.ReopenWithin)}
	if f := a.Flood; f != nil {
		policy.FloodMax, policy.FloodPeriod = f.Max, time.Duration(f.Window)
	}
	return policy
}

// alarm raises an alert of the server's own. It does not fail: what could not be
// kept is logged.
func (a *App) alarm(ctx context.Context, f alert.Firing) {
	if a.alerts.service == nil {
		return // the server starts
	}
	if err := a.alerts.service.Raise(ctx, []alert.Firing{f}); err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "an alert could not be kept", "rule", f.Rule, "title", f.Title, "error", err)
	}
}

// rolloutAlarm is the audit log of rollouts, which tells people of what the server
// did by itself. It implements rollout.Recorder.
type rolloutAlarm struct {
	*audit.Log
	alarm func(context.Context, alert.Firing)
}

// Record implements [rollout.Recorder].
func (r rolloutAlarm) Record(ctx context.Context, actor, action, target string, detail any) error {
	if err := r.Log.Record(ctx, actor, action, target, detail); err != nil {
		return err
	}
	f := alert.Firing{Rule: alert.RuleRollout, Key: "rollout", Severity: string(alert.High), Labels: map[string]string{"revision": target}}
	why := ""
	if m, ok := detail.(map[string]any); ok {
		why, _ = m["reason"].(string)
	}
	switch action {
	case "rollout.pause":
		f.Title, f.Text = "the rollout of revision "+target+" was paused", why
	case "rollout.rollback":
		f.Title, f.Text = "revision "+target+" was taken back", why
	case "rollout.resume", "rollout.done", "rollout.start":
		f.Resolved = true
	default:
		return nil
	}
	if actor == rollout.System || f.Resolved { // of what a person does, people know
		r.alarm(ctx, f)
	}
	return nil
}

// freezeAlarm tells people that a system outside froze changes, or cannot be asked.
func (a *App) freezeAlarm(ctx context.Context, source, reason string, frozen bool) {
	a.alarm(ctx, alert.Firing{
		Rule: alert.RuleFreeze, Key: source, Severity: string(alert.Low), Title: "changes are frozen by " + source, Text: reason,
		Labels: map[string]string{"source": source}, Resolved: !frozen,
	})
}

// witnessAlarm tells people that a witness of the audit log cannot be told for
// long; no error says that it can.
func (a *App) witnessAlarm(ctx context.Context, witness string, err error) {
	f := alert.Firing{
		Rule: alert.RuleAudit, Key: "witness " + witness, Severity: string(alert.High), Title: "the witness " + witness + " of the audit log cannot be told",
		Labels: map[string]string{"witness": witness}, Resolved: err == nil,
	}
	if err != nil {
		f.Text = "What is signed is not vouched for elsewhere: " + err.Error()
	}
	a.alarm(ctx, f)
}

// auditAlarm tells people once that the audit log does not fit what was signed.
func (a *App) auditAlarm(ctx context.Context) {
	if why := a.notary.Broken(); why != "" && !a.auditTold {
		a.auditTold = true
		a.alarm(ctx, alert.Firing{
			Rule: alert.RuleAudit, Key: "broken", Severity: string(alert.Critical), Title: "the audit log does not fit what was signed of it",
			Text: why + "\nRun muster audit verify.",
		})
	}
}

// alertMetrics are what to alert on outside of Muster.
type alertMetrics struct {
	told    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newAlertMetrics() alertMetrics {
	return alertMetrics{
		told: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_notifications_total", Help: "Attempts to tell a notifier of an alert, by notifier and outcome.",
		}, []string{"notifier", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_alert_delivery_seconds", Help: "Time from the event, or else from when the rule matched, until a notifier was told, by rule and notifier.",
			Buckets: []float64{1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400},
		}, []string{"rule", "notifier"}),
	}
}

func (m alertMetrics) observe(n alert.Notification, err error) {
	if err != nil {
		m.told.WithLabelValues(n.Notifier, "failed").Inc()
		return
	}
	m.told.WithLabelValues(n.Notifier, "delivered").Inc()
	if n.Action == alert.Opened || n.Action == alert.Reopened || n.Action == alert.Escalated {
		m.seconds.WithLabelValues(n.Rule, n.Notifier).Observe(max(0, n.Delivered.Sub(n.Began())).Seconds())
	}
}

// registerAlertMetrics adds them, and what the state holds.
func (a *App) registerAlertMetrics(r *prometheus.Registry) {
	r.MustRegister(a.alerts.metrics.told, a.alerts.metrics.seconds, newAlertGauges(a))
}

// alertGauges reads the state when it is asked.
type alertGauges struct {
	a                   *App
	alerts, waits, dead *prometheus.Desc
}

func newAlertGauges(a *App) *alertGauges {
	return &alertGauges{
		a:      a,
		alerts: prometheus.NewDesc("muster_alerts", "Alerts that are not resolved, by state.", []string{"state"}, nil),
		waits:  prometheus.NewDesc("muster_notifications_waiting", "Notifications that were not delivered yet, by notifier.", []string{"notifier"}, nil),
		dead:   prometheus.NewDesc("muster_notifications_dead", "Notifications that were given up, by notifier.", []string{"notifier"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *alertGauges) Describe(out chan<- *prometheus.Desc) {
	out <- g.alerts
	out <- g.waits
	out <- g.dead
}

// Collect implements prometheus.Collector.
func (g *alertGauges) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	counts, err := g.a.store.AlertCounts(ctx, nil)
	backlogs, errBacklogs := g.a.store.Backlogs(ctx)
	if err := errors.Join(err, errBacklogs); err != nil {
		out <- prometheus.NewInvalidMetric(g.alerts, err)
		return
	}
	for _, s := range []alert.State{alert.Open, alert.Acknowledged} {
		out <- prometheus.MustNewConstMetric(g.alerts, prometheus.GaugeValue, float64(counts.States[s]), string(s))
	}
	for _, b := range backlogs {
		out <- prometheus.MustNewConstMetric(g.waits, prometheus.GaugeValue, float64(b.Waiting), b.Notifier)
		out <- prometheus.MustNewConstMetric(g.dead, prometheus.GaugeValue, float64(b.Dead), b.Notifier)
	}
}
