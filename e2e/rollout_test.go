package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
)

const (
	rolloutNodes  = 2000
	rolloutCanary = 10
)

// stages roll out to a few nodes first. The nodes tell how they fare so often
// here that this alone costs more than the gate lets pass.
var stages = fmt.Sprintf(`
apiVersion: muster/v1
kind: RolloutPolicy
name: careful
spec:
  stages:
    - {name: canary, nodes: %d, bake: 1s}
    - {name: all, percent: 100, bake: 1s}
  gates: {skip: [cpu]}
  on_failure: rollback
`, rolloutCanary)

// crashPack is harmless to the policy, and crashes simulated agents.
func crashPack(text string) string {
	return "apiVersion: muster/v1\nkind: Pack\nname: probe\nspec:\n  queries:\n    q: {query: '" + text + "', interval: 2, startup_priority: 1}\n"
}

type rolloutDocument struct {
	Revision int64  `json:"revision"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	Stage    int    `json:"stage"`
}

// TestRollout lets a good and a bad revision reach a fleet: the good one comes
// to everybody, the bad one to the canaries alone, and goes back by itself.
func TestRollout(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.setUp()
	// Nodes tell how they fare every few seconds instead of minutes.
	health := strings.NewReplacer("interval: 600", "interval: 4", "interval: 60", "interval: 2").Replace(s.cli("export", "Pack/muster-health"))
	s.change(t, 0, "apply", "-f", files(t, health, stages), "-m", "stages")
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{
		Secret: s.secret("fleet"), Nodes: rolloutNodes, Platform: "linux", Follow: true,
		ConfigInterval: 2 * time.Second, LogInterval: 2 * time.Second, ReadInterval: 10 * time.Second,
	})
	s.check(err)
	t.Cleanup(func() { _ = fleet.Stop() })

	// What the nodes run at first is known to all before anything changes.
	good := s.change(t, 0, "apply", "-f", files(t, crashPack("SELECT days FROM uptime")), "-m", "good")
	if r := s.rolledOut(good.Revision); r.State != "done" {
		t.Fatalf("the good one: %+v", r)
	}
	bad := s.change(t, 0, "apply", "-f", files(t, crashPack("SELECT hours FROM uptime /* simulate:crash */")), "-m", "bad")
	if r := s.rolledOut(bad.Revision); r.State != "rolled_back" || r.Stage != 0 || !strings.Contains(r.Reason, "query_failures") && !strings.Contains(r.Reason, "restarts") {
		t.Fatalf("the bad one: %+v", r)
	}
	var events []eventDocument
	s.until("the canaries' complaints", func() bool {
		s.cliJSON(&events, "event", "search", "--query", "osquery:status", "--where", "message contains 'may have failed: pack_probe_q'", "--limit", "10000")
		return len(events) > 0
	})
	hurt := map[string]bool{}
	for _, e := range events {
		hurt[e.NodeID] = true
	}
	if len(hurt) > rolloutCanary {
		t.Errorf("%d nodes ran the bad revision; the stage has %d", len(hurt), rolloutCanary)
	}
	var revisions []struct{ Number, Restores int64 }
	s.cliJSON(&revisions, "revision", "list")
	if revisions[0].Restores != good.Revision {
		t.Errorf("the newest revision restores %d, want %d", revisions[0].Restores, good.Revision)
	}
}

// rolledOut waits for the end of a revision's rollout.
func (s *server) rolledOut(revision int64) rolloutDocument {
	s.t.Helper()
	var found rolloutDocument
	s.until(fmt.Sprintf("the end of the rollout of revision %d", revision), func() bool {
		var list []rolloutDocument
		s.cliJSON(&list, "rollout", "list")
		for _, r := range list {
			if r.Revision == revision {
				found = r
			}
		}
		return found.State == "done" || found.State == "rolled_back" || found.State == "paused"
	})
	return found
}
