package agenttest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/osquery"
)

// healthConfig is a config with the health pack and one more query.
func healthConfig(sql string) []byte {
	return fmt.Appendf(nil, `{"packs":{"muster-health":{"queries":{
		"worker":{"query":"SELECT pid, start_time, watcher, config_hash FROM osquery_info","interval":60,"removed":false},
		"agent":{"query":"SELECT pid FROM osquery_info","interval":600,"snapshot":true},
		"schedule":{"query":"SELECT name FROM osquery_schedule","interval":600,"snapshot":true}}}},
		"schedule":{"one":{"query":%q,"interval":60}}}`, sql)
}

// TestWorker_Run runs each bad config for twenty minutes after a good one, and
// counts lines: result lines by query, status lines by their first words.
func TestWorker_Run(t *testing.T) {
	t.Parallel()
	good := map[string]int{"worker": 1, "agent": 2, "schedule": 2} // a config arrived; heartbeats
	with := func(more map[string]int) map[string]int {
		all := maps.Clone(good)
		maps.Copy(all, more)
		return all
	}
	tests := map[agenttest.Signal]map[string]int{
		"":                  good,
		agenttest.Crash:     with(map[string]int{"worker": 20, "Scheduled query may": 20}),
		agenttest.Denied:    with(map[string]int{"The caller does": 1}),
		agenttest.Errors:    with(map[string]int{"Error executing scheduled": 100}),
		agenttest.Silence:   {},
		agenttest.Volume:    with(map[string]int{"one": 2000}),
		agenttest.CPU:       good,
		agenttest.WrongHash: good,
		agenttest.Refused:   {"updateSource failed to": 1},
	}
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for signal, want := range tests {
		t.Run("signal "+string(signal), func(t *testing.T) {
			t.Parallel()
			h := agenttest.NewHost(7, "linux")
			w := agenttest.NewWorker(h, h.UUID, new(agenttest.Schedules))
			if r, s := w.Run(start); r != nil || s != nil {
				t.Error("it runs without a config")
			}
			must(t, w.Configure(healthConfig("SELECT 1"), start))
			first := w.Hash()
			results, _ := w.Run(start)
			if len(results) != 3 {
				t.Errorf("at its start it logs %d lines, want one for each query of the pack", len(results))
			}
			must(t, w.Configure(healthConfig("SELECT 2 /* simulate:"+string(signal)+" */"), start))
			if w.Hash() == first {
				t.Error("another config has the same hash")
			}
			got := map[string]int{}
			for i := range 120 {
				results, statuses := w.Run(start.Add(time.Duration(i+1) * 10 * time.Second))
				count(t, got, results, statuses)
			}
			for what, n := range want { // intervals vary by a tenth from node to node
				if got[what] < n*8/10 || got[what] > n*12/10+1 {
					t.Errorf("%s: %d, want about %d", what, got[what], n)
				}
				delete(got, what)
			}
			if len(got) > 0 {
				t.Errorf("more than that: %v", got)
			}
		})
	}
}

func count(t *testing.T, into map[string]int, results, statuses []json.RawMessage) {
	t.Helper()
	for _, line := range results {
		var r struct{ Name string }
		must(t, json.Unmarshal(line, &r))
		into[r.Name[strings.LastIndex(r.Name, "_")+1:]]++
	}
	for _, line := range statuses {
		var s osquery.StatusLine
		must(t, json.Unmarshal(line, &s))
		into[strings.Join(strings.Fields(s.Message)[:3], " ")]++
	}
}

// TestWorker_Configure: what cannot be parsed changes nothing, and a config that
// comes again is the same.
func TestWorker_Configure(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	h := agenttest.NewHost(7, "linux")
	w := agenttest.NewWorker(h, h.UUID, new(agenttest.Schedules))
	must(t, w.Configure([]byte(`{"schedule":{"a":{"query":"SELECT 1","interval":60}}}`), now))
	// sha1hex(sha1hex(body)), as osquery 5.23.1 computes it.
	const hash = "fd4c9f119779b3fbdee456afeeae533594bcee03"
	if got := w.Hash(); got != hash {
		t.Errorf("hash %s", got)
	}
	if err := w.Configure([]byte(`{"schedule":`), now); err == nil {
		t.Error("half a config is taken")
	}
	if w.Hash() != hash {
		t.Error("the hash changed")
	}
}

// TestNode_Work: a node with Schedules runs what it is served, another does not.
func TestNode_Work(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setConfig(string(healthConfig("SELECT 1")))
	for i, schedules := range []*agenttest.Schedules{new(agenttest.Schedules), nil} {
		n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Number: i + 1, Schedules: schedules})
		must(t, err)
		t.Cleanup(n.Close)
		_, err = n.Config(t.Context())
		must(t, err)
		must(t, n.Work(t.Context(), time.Now()))
		want := 0
		if schedules != nil {
			want = 3 // each query of the health pack runs once at the start
		}
		if got := n.Pending(); got != want {
			t.Errorf("node %d logs %d lines, want %d", i, got, want)
		}
		must(t, n.Flush(t.Context()))
	}
}

// TestFleet_Follow: nodes of a fleet that follows their config send its status
// lines, too.
func TestFleet_Follow(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setConfig(`{"schedule":{"bad":{"query":"SELECT 1 /* simulate:refuse */","interval":1}}}`)
	f, err := agenttest.NewFleet(agenttest.FleetOptions{
		URL: s.url(), RootCAs: s.pool, Secret: secret, Nodes: 1, Follow: true,
		ConfigInterval: 20 * time.Millisecond, LogInterval: 20 * time.Millisecond,
	})
	must(t, err)
	t.Cleanup(f.Close)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Run(ctx) })
	<-s.stored
	cancel()
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[0]; l.logType != osquery.LogTypeStatus || !strings.Contains(string(l.body), "updateSource failed to parse config") {
		t.Errorf("it sent %s", l.body)
	}
}
