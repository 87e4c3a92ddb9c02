package alert_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store/storetest"
)

type noRoutes struct{ list []*alert.Route }

func (r noRoutes) Routes() []*alert.Route       { return r.list }
func (r noRoutes) Lookup(string) *node.Identity { return nil }

// BenchmarkRaise is of batches of 100 firings on SQLite, synced to disk: such that
// count alerts which are open, and such that open one each with a notification.
func BenchmarkRaise(b *testing.B) {
	const batch = 100
	for name, fresh := range map[string]bool{"count": false, "open": true} {
		b.Run(name, func(b *testing.B) {
			s := storetest.New(b)
			routes := noRoutes{[]*alert.Route{{Name: "n", Default: true, MinSeverity: alert.Info, GroupBy: []string{"rule"}, GroupWait: time.Minute}}}
			service := alert.NewService(alert.Options{
				Store: s, Silences: s, Routes: routes, Nodes: routes, Policy: func(string) alert.Policy { return alert.Policy{FloodMax: 1 << 40} },
				Log: slog.New(slog.DiscardHandler), Now: time.Now,
			})
			n := 0
			for b.Loop() {
				firings := make([]alert.Firing, batch)
				for i := range firings {
					n++
					key := i
					if fresh {
						key = n
					}
					firings[i] = alert.Firing{
						Rule: "r", Key: fmt.Sprintf("key-%d", key), Severity: "high", Title: "Something was found", Text: "On a host, by a query, just now.",
						Labels: map[string]string{"team": "web", "site": "eu"}, NodeID: fmt.Sprintf("node-%d", key), Query: "pack_base_users",
						Columns: []byte(`{"uid":"0","username":"root","shell":"/bin/sh"}`), Event: fmt.Sprintf("%d-0", n), Received: time.Unix(int64(n), 0),
					}
				}
				if err := service.Raise(b.Context(), firings); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(batch*b.N)/b.Elapsed().Seconds(), "firings/s")
		})
	}
}
