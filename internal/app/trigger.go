package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/trigger"
)

// openTriggers makes what asks nodes by itself. It comes after the live queries
// and what agents run.
func (a *App) openTriggers(ctx context.Context) error {
	catalog := a.catalog()
	a.triggers = trigger.NewService(trigger.Options{
		Store: a.store, Finder: a.store, Registry: a.registry, Live: a.live, Catalog: catalog, Policy: a.runs.policy,
		Audit: a.audit, Log: a.log, Now: a.now,
	})
	a.enrollments = trigger.NewEnrollments(trigger.EnrollmentOptions{
		Store: a.store, Live: a.live, Registry: a.registry, Catalog: catalog, Policy: a.runs.policy, Log: a.log, Now: a.now,
	})
	a.live.Observe(a.observeAnswer)
	// Before agents are served: none that enrols is to be missed. What fails now is
	// tried again by Run.
	if err := a.enrollments.Sync(ctx); err != nil {
		a.log.WarnContext(ctx, "enrollment queries are not asked yet; retrying", "error", err)
	}
	return nil
}

// newAnswerSeconds counts how long nodes took to answer what nobody typed.
func newAnswerSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "muster_trigger_answer_seconds", Help: "Time from the trigger or the enrolment until the node answered, by kind.",
		Buckets: []float64{.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 3600},
	}, []string{"kind"})
}

// observeAnswer is a live.Observer. It counts an answer again that comes again
// after a crash, which a histogram bears.
func (a *App) observeAnswer(_ context.Context, q live.Query, answer live.Answer) error {
	var began time.Time
	switch q.Kind {
	case live.Trigger:
		began = q.CreatedAt
	case live.Enrollment:
		began = answer.EnrolledAt
	case live.Person, live.Carve:
	}
	if a.metrics != nil && !began.IsZero() {
		a.metrics.answers.WithLabelValues(string(q.Kind)).Observe(max(0, answer.ReceivedAt.Sub(began)).Seconds())
	}
	return nil
}
