package e2e

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// TestCrash kills the server with SIGKILL at random moments while agents log
// numbered rows, and reconciles: every acknowledged row is found exactly once.
// Events go to files every few hundred rows, so that kills hit that, too.
// MUSTER_CRASH_KILLS sets how often; MUSTER_CRASH_SEED repeats a run.
func TestCrash(t *testing.T) {
	kills := number(t, "MUSTER_CRASH_KILLS", 6)
	seed := uint64(number(t, "MUSTER_CRASH_SEED", int(time.Now().UnixNano()&0x7fffffff)))
	t.Logf("seed %d, %d kills", seed, kills)
	random := rand.New(rand.NewPCG(seed, 1))
	t.Setenv("MUSTER_FLUSH_EVENTS", "500")
	s := newServer(t)
	s.setUp()
	fleet, stop := s.numbered("crash", 20*time.Millisecond, 5)
	for range kills {
		goal := acked(fleet) + int64(random.IntN(3000)) + 1
		s.until("agents to log", func() bool { return acked(fleet) >= goal })
		s.kill()
		s.restart()
	}
	before := acked(fleet)
	s.until("agents to log after the last kill", func() bool { return acked(fleet) > before })
	stop()
	if files, _ := filepath.Glob(filepath.Join(s.dir, "events", "*", "*.parquet")); len(files) == 0 {
		t.Error("no events were in files yet, so no kill hit their writing")
	}
	reconcile(t, s, fleet)
	// Once more from disk alone: what was in memory is in segments now.
	if err := s.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	s.restart()
	reconcile(t, s, fleet)
}

// numbered runs agents that log numbered rows until stop, and try again soon
// when the server is gone.
func (s *server) numbered(secret string, interval time.Duration, rows int) (fleet *agenttest.Fleet, stop func()) {
	s.t.Helper()
	fleet, err := agenttest.NewFleet(agenttest.FleetOptions{
		URL: s.agentURL, RootCAs: s.roots(), Secret: s.secret(secret), Conn: agentwire.KeepAlive,
		Nodes: 20, LogInterval: interval, Rows: rows, Numbered: true,
		LogRetry:    agenttest.Backoff{Base: 20 * time.Millisecond, Max: 100 * time.Millisecond},
		EnrollRetry: agenttest.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(fleet.Close)
	if _, err := fleet.Enroll(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	logging, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(logging) }()
	return fleet, func() {
		s.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			s.t.Fatal(err)
		}
	}
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func acked(f *agenttest.Fleet) (sum int64) {
	for _, l := range f.Ledgers() {
		sum += l.Acked
	}
	return sum
}

// reconcile compares what agents were promised with what search finds.
func reconcile(t *testing.T, s *server, fleet *agenttest.Fleet) {
	t.Helper()
	var events []struct {
		HostIdentifier string            `json:"host_identifier"`
		Columns        map[string]string `json:"columns"`
	}
	s.cliJSON(&events, "event", "search", "--query", agenttest.NumberedQuery, "--limit", "10000000")
	stored := map[string][]int64{}
	for _, e := range events {
		n, err := strconv.ParseInt(e.Columns["n"], 10, 64)
		if err != nil {
			b, _ := json.Marshal(e)
			t.Fatalf("a row without a number: %s", b)
		}
		stored[e.HostIdentifier] = append(stored[e.HostIdentifier], n)
	}
	var acknowledged, sent int64
	for _, l := range fleet.Ledgers() {
		if err := l.Check(stored[l.HostIdentifier]); err != nil {
			t.Error(err)
		}
		acknowledged, sent = acknowledged+l.Acked, sent+l.Sent
	}
	t.Logf("%d rows sent, %d acknowledged, %d stored", sent, acknowledged, len(events))
	if acknowledged == 0 {
		t.Error("nothing was acknowledged, so nothing was tested")
	}
}
