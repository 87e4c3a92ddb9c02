package rollout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// epoch is when the tests' monitors begin to listen.
func epoch() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func newMonitor() *rollout.Monitor {
	m := rollout.NewMonitor(nil, slog.New(slog.DiscardHandler), epoch)
	m.Learn(texts{})
	return m
}

// texts says that every query that tests ask for has the text "h".
type texts struct{}

func (texts) Texts(string, string) map[string]string {
	all := map[string]string{"p": "h", "q": "h"}
	for i := range 17 {
		all[fmt.Sprintf("pack_base_question_%d", i)] = "h"
	}
	return all
}

// at is a time in seconds after the epoch.
func at(seconds int) time.Time { return epoch().Add(time.Duration(seconds) * time.Second) }

// row is a batch of one row that arrives at once.
func row(seconds int, query, action, columns string) *event.Batch {
	e := event.Event{Time: at(seconds), Query: query, Action: action, Columns: json.RawMessage(columns)}
	logType := osquery.LogTypeResult
	if action == event.Status {
		logType = osquery.LogTypeStatus
	}
	return &event.Batch{NodeID: "n", Received: at(seconds), LogType: logType, Events: []event.Event{e}}
}

func info(seconds, pid, watcher int, hash string) *event.Batch {
	return row(seconds, "pack_muster-health_worker", event.Added,
		fmt.Sprintf(`{"config_hash":"%s","pid":"%d","start_time":"%d","watcher":"%d"}`, hash, pid, pid*10, watcher))
}

func says(seconds, severity int, message string) *event.Batch {
	return row(seconds, event.StatusQuery, event.Status, fmt.Sprintf(`{"severity":"%d","message":%q}`, severity, message))
}

// ran is a row of osquery_schedule.
func ran(seconds int, name string, executions, user, system, size int) *event.Batch {
	return row(seconds, "pack_muster-health_schedule", event.Snapshot, fmt.Sprintf(
		`{"name":"%s","interval":"60","executions":"%d","user_time":"%d","system_time":"%d","output_size":"%d","denylisted":"0"}`,
		name, executions, user, system, size))
}

func denied(seconds int) *event.Batch {
	b := ran(seconds, "q", 1, 1, 1, 1)
	b.Events[0].Columns = json.RawMessage(strings.Replace(string(b.Events[0].Columns), `"denylisted":"0"`, `"denylisted":"1"`, 1))
	return b
}

// TestMonitor_Evidence: what happened before the window does not count.
func TestMonitor_Evidence(t *testing.T) {
	t.Parallel()
	type counts struct{ restarts, daemon, failed, denied, refused, purged, lines int }
	tests := []struct {
		name    string
		batches []*event.Batch // at 100 the window begins
		want    counts
		hash    string
	}{
		{name: "nothing"},
		{name: "the first worker is no restart", batches: []*event.Batch{info(110, 1, 9, "a")}, hash: "a"},
		{name: "restarted before", batches: []*event.Batch{info(10, 1, 9, "a"), info(20, 2, 9, "a")}, hash: "a"},
		{name: "restarted", batches: []*event.Batch{info(10, 1, 9, "a"), info(120, 2, 9, "b")}, want: counts{restarts: 1}, hash: "b"},
		{name: "a config arrived", batches: []*event.Batch{info(10, 1, 9, "a"), info(120, 1, 9, "b")}, hash: "b"},
		{name: "rebooted", batches: []*event.Batch{info(10, 1, 9, "a"), info(120, 2, 8, "a")}, want: counts{daemon: 1}, hash: "a"},
		{name: "without a watcher", batches: []*event.Batch{info(10, 1, -1, "a"), info(120, 2, -1, "a")}, want: counts{daemon: 1}, hash: "a"},
		{name: "an old row comes late", batches: []*event.Batch{
			info(110, 1, 9, "a"), info(120, 1, 9, "b"), {NodeID: "n", Received: at(121), Events: info(105, 1, 9, "a").Events},
		}, hash: "b"},
		{name: "a clock that was set back is believed later", batches: []*event.Batch{
			info(5000, 1, 9, "a"), {NodeID: "n", Received: at(6000), Events: info(120, 1, 9, "b").Events},
		}, hash: "b"},
		{name: "before its first config", batches: []*event.Batch{info(110, 1, 9, "")}},
		{name: "no numbers", batches: []*event.Batch{row(110, "pack_muster-health_worker", event.Added, `{"pid":"x","config_hash":"a"}`)}},
		{name: "removed rows", batches: []*event.Batch{row(110, "pack_muster-health_worker", event.Removed, `{"pid":"1","start_time":"1","watcher":"1","config_hash":"a"}`)}},

		{name: "info line", batches: []*event.Batch{says(110, 0, "Storing initial results for new scheduled query: q")}},
		{name: "failed", batches: []*event.Batch{says(110, 1, "Scheduled query may have failed: q")}, want: counts{failed: 1, lines: 1}},
		{name: "failed before", batches: []*event.Batch{says(90, 1, "Scheduled query may have failed: q")}},
		{
			name: "denied", batches: []*event.Batch{says(110, 1, "The caller does not want denied queries, skipping denied scheduled query: q")},
			want: counts{denied: 1, lines: 1},
		},
		{name: "denied, said twice", batches: []*event.Batch{
			ran(10, "q", 1, 1, 1, 1), says(110, 1, "skipping denied scheduled query: q"), denied(120), says(130, 1, "skipping denied scheduled query: q"),
		}, want: counts{denied: 1, lines: 2}},
		{name: "denied since nobody knows when", batches: []*event.Batch{denied(110), says(120, 1, "skipping denied scheduled query: q")}, want: counts{lines: 1}},
		{name: "denied by a snapshot", batches: []*event.Batch{ran(10, "q", 1, 1, 1, 1), denied(110)}, want: counts{denied: 1}},
		{name: "a new query is denied", batches: []*event.Batch{ran(10, "p", 1, 1, 1, 1), denied(110)}, want: counts{denied: 1}},
		{name: "refused", batches: []*event.Batch{says(110, 2, "updateSource failed to parse config, of source: tls_plugin and content: {"+strings.Repeat("x", 30000))}, want: counts{refused: 1, lines: 1}},
		{name: "purged", batches: []*event.Batch{says(110, 1, "Purging buffered logs limit (1000000) exceeded: 17")}, want: counts{purged: 1, lines: 1}},
		{name: "severity is no number", batches: []*event.Batch{row(110, event.StatusQuery, event.Status, `{"severity":"x","message":"m"}`)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMonitor()
			watched := false
			for _, b := range tt.batches {
				if !watched && !b.Received.Before(at(100)) {
					m.Watch(2, at(100))
					watched = true
				}
				m.Note(b)
			}
			if !watched {
				m.Watch(2, at(100))
			}
			e := m.Evidence("n")
			got := counts{e.Restarts, e.DaemonRestarts, e.Failed, e.Denied, e.Refused, e.Purged, e.Lines}
			if got != tt.want || e.Hash != tt.hash {
				t.Errorf("%+v, hash %q; want %+v, %q", got, e.Hash, tt.want, tt.hash)
			}
		})
	}
}

// TestMonitor_rows: rows and bytes count in the window, first results apart, and
// what was before stays known.
func TestMonitor_rows(t *testing.T) {
	t.Parallel()
	m := newMonitor()
	first := row(10, "q", event.Added, `{"a":"1"}`)
	later := row(20, "q", event.Added, `{"a":"1"}`)
	later.Events[0].Counter = 1
	empty := row(20, "q", event.Snapshot, `{}`)
	for range 3 {
		m.Note(first)
		m.Note(later)
		m.Note(empty)
	}
	m.Watch(2, at(3600))
	m.Note(row(3601, "q", event.Snapshot, `{"a":"1"}`))
	m.Watch(2, at(3600)) // again is nothing
	e := m.Evidence("n")
	if e.Rows != 1 || e.FirstRows != 0 || e.Bytes != 9 || e.Before.Rows != 3 || m.Before() != time.Hour || !e.LastLog.Equal(at(3601)) {
		t.Errorf("%+v, before %v", e, m.Before())
	}
	m.Watch(2, at(7200)) // the next stage
	if e := m.Evidence("n"); e.Rows != 0 || e.Before.Rows != 3 {
		t.Errorf("in the next stage %+v", e)
	}
	m.Watch(3, at(9000)) // another rollout
	if e := m.Evidence("n"); e.Before.Rows != 4 || m.Before() != 9000*time.Second {
		t.Errorf("in the next rollout %+v", e)
	}
	m.Forget("n")
	if e := m.Evidence("n"); !reflect.DeepEqual(e, rollout.Evidence{}) {
		t.Errorf("forgotten: %+v", e)
	}
}

// TestMonitor_Cost: the first snapshot gives the average of all runs, the next
// ones the difference, and counters that go back begin anew.
func TestMonitor_Cost(t *testing.T) {
	t.Parallel()
	rows := func(seconds, n int) *event.Batch {
		b := row(seconds, "q", event.Snapshot, `{"a":"1"}`)
		for range n - 1 {
			b.Events = append(b.Events, b.Events[0])
		}
		return b
	}
	tests := []struct {
		name    string
		batches []*event.Batch
		want    rollout.Cost // without time
		day     rollout.Day
	}{
		{"first", []*event.Batch{rows(5, 7), ran(10, "q", 10, 30, 20, 1000)}, rollout.Cost{CPUMillis: 5, Bytes: 100}, rollout.Day{CPUSeconds: 7.2, Bytes: 144_000}},
		{"difference", []*event.Batch{ran(10, "q", 10, 1000, 0, 9000), rows(20, 6), ran(610, "q", 12, 1010, 10, 9500)}, rollout.Cost{CPUMillis: 10, Bytes: 250, Rows: 3}, rollout.Day{CPUSeconds: 14.4, Bytes: 360_000, Rows: 4320}},
		{"no run between", []*event.Batch{ran(10, "q", 10, 30, 20, 1000), ran(610, "q", 10, 30, 20, 1000)}, rollout.Cost{CPUMillis: 5, Bytes: 100}, rollout.Day{CPUSeconds: 7.2, Bytes: 144_000}},
		{"back", []*event.Batch{ran(10, "q", 10, 30, 20, 1000), ran(610, "q", 2, 4, 4, 10)}, rollout.Cost{CPUMillis: 4, Bytes: 5}, rollout.Day{CPUSeconds: 5.76, Bytes: 7200}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMonitor()
			if _, ok := m.Cost("q", "h"); ok {
				t.Error("a cost without evidence")
			}
			m = newMonitor()
			for _, b := range tt.batches {
				m.Note(b)
			}
			tt.want.Nodes, tt.want.At = 1, epoch()
			if got, ok := m.Cost("q", "h"); !ok || got != tt.want {
				t.Errorf("%+v, %t; want %+v", got, ok, tt.want)
			}
			if _, ok := m.Cost("q", "another text"); ok {
				t.Error("another text has the same cost")
			}
			got := m.Evidence("n").Day
			if math.Abs(got.CPUSeconds-tt.day.CPUSeconds) > 1e-3 || math.Abs(got.Bytes-tt.day.Bytes) > 1 || math.Abs(got.Rows-tt.day.Rows) > 1e-3 {
				t.Errorf("a day costs %+v, want %+v", got, tt.day)
			}
		})
	}
}

// TestMonitor_p95: a cost is what 95 of 100 nodes stay below.
func TestMonitor_p95(t *testing.T) {
	t.Parallel()
	m := newMonitor()
	for i := range 100 {
		b := ran(10, "q", 1, i+1, 0, 0)
		b.NodeID = fmt.Sprint(i)
		m.Note(b)
	}
	if c, _ := m.Cost("q", "h"); c.CPUMillis != 95 || c.Nodes != 100 {
		t.Errorf("%+v", c)
	}
}

// costStore keeps costs in memory, as the server's store does in SQL.
type costStore struct {
	mu      sync.Mutex
	costs   map[string]rollout.QueryCost
	failing bool
}

func (s *costStore) SaveCosts(_ context.Context, costs []rollout.QueryCost) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range costs {
		s.costs[c.Name+" "+c.SQLHash] = c
	}
	return nil
}

func (s *costStore) LoadCosts(context.Context) ([]rollout.QueryCost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return nil, errors.New("no database")
	}
	return slices.Collect(maps.Values(s.costs)), nil
}

func (s *costStore) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = false
}

// TestMonitor_Run: costs outlive the server, and few nodes do not replace what
// was measured on many.
func TestMonitor_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &costStore{costs: map[string]rollout.QueryCost{
			"q h": {Name: "q", SQLHash: "h", Cost: rollout.Cost{CPUMillis: 7, Nodes: 500}},
		}, failing: true}
		m := rollout.NewMonitor(s, slog.New(slog.DiscardHandler), time.Now)
		m.Learn(texts{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		b := ran(10, "q", 1, 100, 0, 0)
		b.Received = time.Now()
		m.Note(b)
		if c, _ := m.Cost("q", "h"); c.CPUMillis != 100 {
			t.Errorf("before it could be loaded: %+v", c)
		}
		s.mend()
		<-time.After(11 * time.Minute)
		if c, _ := m.Cost("q", "h"); c.CPUMillis != 7 {
			t.Errorf("one node replaces 500: %+v", c)
		}
		for i := range 20 {
			b := ran(10, "q", 1, 100, 0, 0)
			b.NodeID, b.Received = fmt.Sprint(i), time.Now()
			m.Note(b)
		}
		<-time.After(11 * time.Minute)
		if list, err := s.LoadCosts(ctx); err != nil || len(list) != 1 || list[0].CPUMillis != 100 || list[0].Nodes != 21 {
			t.Errorf("kept: %+v, %v", list, err)
		}
		<-time.After(25 * time.Hour)
		if e := m.Evidence("n"); !e.LastLog.IsZero() {
			t.Errorf("a node that is silent for a day is remembered: %+v", e)
		}
		if c, ok := m.Cost("q", "h"); !ok || c.CPUMillis != 100 {
			t.Errorf("its cost is not: %+v", c)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestHealthPack: the shipped pack has the queries that the Monitor looks for,
// with the columns that it reads, and is harmless; base is named as it was.
func TestHealthPack(t *testing.T) {
	t.Parallel()
	objects := shipped(t)
	set, err := resource.NewSet(objects)
	must(t, err)
	var packs []string
	for o := range set.All() {
		packs = append(packs, o.String())
		if o.Description == "" {
			t.Errorf("%s has no description", o.Key)
		}
		if p, ok := o.Spec.(*resource.Pack); ok {
			for name, q := range p.Queries {
				if q.Description == "" {
					t.Errorf("%s %s has no description", o.Key, name)
				}
			}
		}
	}
	if d := cmp.Diff([]string{"Pack/base", "Pack/muster-health", "Profile/base"}, packs); d != "" {
		t.Error(d)
	}
	o, _ := set.Get(resource.Key{Kind: "Pack", Name: resource.HealthPack})
	pack, ok := o.Spec.(*resource.Pack)
	if !ok {
		t.Fatal("there is no health pack")
	}
	for name, columns := range map[string]string{
		"worker": "pid start_time watcher config_hash", "agent": "pid start_time watcher config_hash",
		"schedule": "name interval executions denylisted output_size user_time system_time",
	} {
		for column := range strings.FieldsSeq(columns) {
			if !strings.Contains(pack.Queries[name].Query, column) {
				t.Errorf("%s does not select %s", name, column)
			}
		}
	}
	if w := pack.Queries["worker"]; w.Removed == nil || *w.Removed || w.Snapshot || w.Interval != 60 {
		t.Errorf("worker: %+v", w)
	}
	engine, err := policy.New(policy.Rules{})
	must(t, err)
	defer engine.Close()
	report, err := resource.Check(set, engine, epoch())
	must(t, err)
	for _, i := range report.Items {
		// What base asks of users and processes is sensitive wherever it is asked.
		if limit := map[string]policy.Tier{resource.HealthPack: policy.Internal, "base": policy.Sensitive}[i.Name]; !i.Allowed(limit) {
			t.Errorf("%s %s: tier %s %v %v", i.Key, i.Path, i.Verdict.Tier, i.Verdict.Reasons, i.Verdict.Findings)
		}
	}
}
