package app

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/stream"
)

// Directories of sinks, in the data directory.
const (
	sinkDir     = "sinks/state"
	sinkFileDir = "sinks/files"
)

// sinkStream is the stream as sinks see it.
type sinkStream struct{ stream *stream.Stream }

// Read implements sink.Stream.
func (s sinkStream) Read(ctx context.Context, after uint64, handle func(context.Context, uint64, [][]byte) error) error {
	return s.stream.Follow(ctx, stream.Events, after, func(ctx context.Context, m stream.Message) error {
		return handle(ctx, m.Seq, m.Records)
	})
}

// Last implements sink.Stream.
func (s sinkStream) Last(ctx context.Context) (uint64, error) {
	return s.stream.Last(ctx, stream.Events)
}

// Backlog implements sink.Stream.
func (s sinkStream) Backlog(ctx context.Context, after uint64) (sink.Backlog, error) {
	b, err := s.stream.Backlog(ctx, stream.Events, after)
	return sink.Backlog(b), err
}

// openSinks makes what sends events outside. It comes after the stream, the events
// and what agents run.
func (a *App) openSinks(ctx context.Context) error {
	allow, err := egress.ParseNetworks(a.cfg.EgressAllow)
	if err != nil {
		return err
	}
	a.sinks = sink.NewManager(sink.Options{
		Stream: sinkStream{a.stream}, Store: a.store, Search: a.indexer, Nodes: a.registry,
		Plans:   func() []*resource.SinkPlan { return a.catalog().Plan().Newest().Sinks() },
		Secrets: &credential.Reader{Dir: a.cfg.Secrets(), Getenv: os.LookupEnv},
		Egress:  &egress.Guard{Allow: allow},
		Dir:     a.cfg.Path(sinkDir), FileDir: cmp.Or(a.cfg.SinkDir, a.cfg.Path(sinkFileDir)), Stdout: os.Stdout,
		Version: a.version, Log: a.log, Now: a.now,
	})
	return a.sinks.Load(ctx)
}

// trimStream removes from the stream what everybody has done with up to a message,
// but for what sinks still need, as long as there is room.
func (a *App) trimStream(ctx context.Context, upTo uint64) error {
	if !a.trimming.TryLock() {
		return nil // a backup needs all that there is
	}
	defer a.trimming.Unlock()
	extent, err := a.stream.Extent(ctx)
	if err != nil {
		return err
	}
	if upTo, err = a.sinks.Keep(ctx, upTo, sink.Fill(extent)); err != nil || upTo == 0 {
		return err
	}
	if err := a.sinks.Trimming(ctx, upTo); err != nil {
		return err
	}
	return a.stream.Trim(ctx, upTo)
}

// sinkMetrics tell of sinks when somebody asks.
type sinkMetrics struct{ app *App }

// sinkMetric is one figure of a sink.
type sinkMetric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(sink.Status) float64
}

func (m sinkMetrics) all() []sinkMetric {
	return []sinkMetric{
		{"muster_sink_up", "1 if the sink takes events or has none to take, 0 if it fails or is paused.", prometheus.GaugeValue, func(s sink.Status) float64 {
			return truth(s.Condition == sink.Running)
		}},
		{"muster_sink_sent_total", "Events that were delivered.", prometheus.CounterValue, func(s sink.Status) float64 { return float64(s.Sent) }},
		{"muster_sink_lost_messages_total", "Messages of the stream that were removed before they were sent.", prometheus.CounterValue, func(s sink.Status) float64 { return float64(s.Lost) }},
		{"muster_sink_dead_letters", "Events that the other side refused for good, and that are kept.", prometheus.GaugeValue, func(s sink.Status) float64 { return float64(s.Letters) }},
		{"muster_sink_lag_messages", "Messages of the stream that were not sent yet.", prometheus.GaugeValue, func(s sink.Status) float64 { return float64(s.Backlog.Messages) }},
		{"muster_sink_lag_bytes", "About their bytes.", prometheus.GaugeValue, func(s sink.Status) float64 { return float64(s.Backlog.Bytes) }},
		{"muster_sink_lag_seconds", "Age of the oldest of them.", prometheus.GaugeValue, func(s sink.Status) float64 {
			if s.Backlog.Oldest.IsZero() {
				return 0
			}
			return max(0, m.app.now().Sub(s.Backlog.Oldest).Seconds())
		}},
	}
}

func (m sinkMetric) desc() *prometheus.Desc {
	return prometheus.NewDesc(m.name, m.help, []string{"sink", "type"}, nil)
}

// Describe implements [prometheus.Collector].
func (m sinkMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, x := range m.all() {
		out <- x.desc()
	}
}

// Collect implements [prometheus.Collector]. Without the stream it tells nothing.
func (m sinkMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	list, err := m.app.sinks.List(ctx)
	if err != nil {
		return
	}
	for _, s := range list {
		for _, x := range m.all() {
			out <- prometheus.MustNewConstMetric(x.desc(), x.kind, x.value(s), s.Name, s.Plan.Spec.Way())
		}
	}
}
