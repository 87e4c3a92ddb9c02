package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/transparency"
)

// kept says how long things are kept, for the owners of nodes.
func (a *App) kept() ([]transparency.KeptFor, error) {
	queries, err := a.cfg.QueryRetention()
	if err != nil {
		return nil, err
	}
	kept := func(what string, d time.Duration) transparency.KeptFor {
		return transparency.KeptFor{What: what, Seconds: int64(d / time.Second)}
	}
	list := []transparency.KeptFor{kept("What the schedule and other questions find, and the agent's own log", a.cfg.Retention)}
	for _, q := range queries {
		list = append(list, kept("But what "+q.Query+" finds", q.Keep))
	}
	return append(list,
		kept("Questions besides the schedule, and their answers, after their end", a.cfg.LiveRetention),
		kept("Files that were fetched", a.cfg.CarveRetention),
		kept("Alerts, after they were resolved", a.cfg.AlertRetention),
		kept("Who did what in Muster: the audit log", 0),
	), nil
}

// registerTransparencyMetrics counts the pages that owners of nodes open.
func (a *App) registerTransparencyMetrics(api *adminapi.API) {
	for outcome, value := range map[string]func() float64{
		"shown":   func() float64 { n, _ := api.TransparencyPages(); return float64(n) },
		"refused": func() float64 { _, n := api.TransparencyPages(); return float64(n) },
	} {
		a.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "muster_transparency_pages_total", Help: "Pages that owners of nodes opened by a link.", ConstLabels: prometheus.Labels{"outcome": outcome},
		}, value))
	}
}
