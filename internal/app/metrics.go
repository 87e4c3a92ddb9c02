package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/musterhq/muster/internal/durable"
)

// metrics counts what agents do. It implements agentapi.Metrics.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	lines    *prometheus.CounterVec
	capped   prometheus.Counter
	answers  *prometheus.HistogramVec // to triggers and enrollment queries
	known    sync.Map                 // of outcome to observed: looking labels up costs more
	all      atomic.Int64
}

func newMetrics(a *App) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_agent_requests_total", Help: "Requests of agents, by endpoint and outcome.",
		}, []string{"endpoint", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_agent_request_seconds", Help: "Time from the end of the request's head to the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"endpoint"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_log_lines_total", Help: "Log lines of agents: stored, or repeated by the agent and stored before.",
		}, []string{"outcome"}),
		capped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_agent_connections_refused_total", Help: "Connections over the limit of one address.",
		}),
	}
	m.answers = newAnswerSeconds()
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.registry.MustRegister(m.requests, m.seconds, m.lines, m.capped, m.answers,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("muster_agent_connections", "Connections of agents.", func() float64 { return float64(a.agentListener.Len()) }),
		gauge("muster_nodes", "Enrolled nodes.", func() float64 { all, _ := a.registry.Len(); return float64(all) }),
		gauge("muster_nodes_online", "Nodes heard from lately.", func() float64 { _, on := a.registry.Len(); return float64(on) }),
		gauge("muster_revision", "Number of the newest revision of what agents run.", func() float64 {
			s, _ := a.runs.publisher.Serving()
			return float64(s.Head.Number)
		}),
		gauge("muster_rollout_open", "1 while a revision rolls out.", func() float64 { return truth(a.runs.publisher.Rollout() != nil) }),
		gauge("muster_changes_frozen", "1 while changes are refused.", func() float64 {
			_, frozen := a.runs.freezer.Frozen()
			return truth(frozen)
		}),
		gauge("muster_safe_config", "1 while nodes are served the safe config.", func() float64 {
			_, safe := a.runs.publisher.Serving()
			return truth(safe != nil)
		}),
		gauge("muster_live_queries_running", "Live queries that run.", func() float64 { return float64(a.live.Count()) }),
		gauge("muster_events_stored", "Events that can be searched.", func() float64 { return float64(a.engine.Stats().Events) }),
		gauge("muster_events_bytes", "Bytes of events on disk.", func() float64 { return float64(a.engine.Stats().Bytes) }),
		gauge("muster_stream_max_bytes", "Bytes at which the stream refuses more.", func() float64 { return float64(a.stream.MaxBytes()) }),
		gauge("muster_disk_free_bytes", "Bytes free where the data directory is; -1 if that is not known.", func() float64 {
			n, err := durable.Free(a.cfg.DataDir)
			if err != nil {
				return -1
			}
			return float64(n)
		}),
		gauge("muster_stream_bytes", "Bytes in the stream.", func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			n, err := a.stream.Bytes(ctx)
			if err != nil {
				return -1
			}
			return float64(n)
		}),
	)
	return m
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Observe counts one request.
func (m *metrics) Observe(endpoint, kind string, took time.Duration) {
	m.all.Add(1)
	o, ok := m.known.Load(outcome{endpoint, kind})
	if !ok {
		o, _ = m.known.LoadOrStore(outcome{endpoint, kind}, observed{m.requests.WithLabelValues(endpoint, kind), m.seconds.WithLabelValues(endpoint)})
	}
	if o, ok := o.(observed); ok {
		o.requests.Inc()
		o.seconds.Observe(took.Seconds())
	}
}

// outcome is what requests are counted by.
type outcome struct{ endpoint, kind string }

// observed is where requests of an outcome are counted.
type observed struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// Lines counts log lines.
func (m *metrics) Lines(kept, repeated int) {
	m.lines.WithLabelValues("stored").Add(float64(kept))
	m.lines.WithLabelValues("repeated").Add(float64(repeated))
}

func (m *metrics) total() int64 { return m.all.Load() }
