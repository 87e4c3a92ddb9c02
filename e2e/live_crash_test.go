package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/internal/agenttest"
)

// promises is what nodes saw of live queries.
type promises struct {
	mu    sync.Mutex
	acked map[string]map[string]bool // by query and node: the server has the answer
	polls map[*agenttest.Node]int    // that got an answer
	// after says, of a query that the server stopped, how many polls each node had
	// made then. One more may have been under way.
	after    map[string]map[*agenttest.Node]int
	breaches []string
}

func newPromises() *promises {
	return &promises{acked: map[string]map[string]bool{}, polls: map[*agenttest.Node]int{}, after: map[string]map[*agenttest.Node]int{}}
}

func (p *promises) answered(n *agenttest.Node, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.acked[id] == nil {
		p.acked[id] = map[string]bool{}
	}
	p.acked[id][n.HostIdentifier()] = true
}

func (p *promises) asked(n *agenttest.Node, queries map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polls[n]++
	for id := range queries {
		if then, stopped := p.after[id]; stopped && p.polls[n] > then[n]+1 {
			p.breaches = append(p.breaches, fmt.Sprintf("%s got %s, which was stopped, with its poll %d, and had made %d then", n.HostIdentifier(), id, p.polls[n], then[n]))
		}
	}
}

// stopped notes that the server said so of a query.
func (p *promises) stopped(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after[id] = maps.Clone(p.polls)
}

// TestLiveCrash kills the server again and again while hundreds of nodes answer
// live queries, some of which are stopped meanwhile. Every answer that the server
// acknowledged is there, once, in the results and among the events; each node is
// in one state; nothing is delivered after the word that it is stopped.
func TestLiveCrash(t *testing.T) {
	t.Parallel()
	const nodes, queries = 200, 12
	const question = "SELECT name, version FROM os_version"
	kills := number(t, "MUSTER_CRASH_KILLS", 3)
	seed := uint64(number(t, "MUSTER_CRASH_SEED", 0))
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("MUSTER_CRASH_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	s := newServer(t)
	s.setUp()
	seen := newPromises()
	fleet, err := s.Fleet(t.Context(), agenttest.FleetOptions{
		Secret: s.secret("servers"), Nodes: nodes, ReadInterval: time.Second, Answered: seen.answered, Asked: seen.asked,
	})
	s.check(err)
	ids := make([]string, 0, queries)
	ask := func(n int) {
		for range n {
			ids = append(ids, strings.TrimSpace(s.cli("query", question, "--all", "--expires", "1h", "--background")))
		}
	}
	for i := range kills {
		ask(queries / kills)
		if i > 0 {
			stop := ids[len(ids)-1-random.IntN(len(ids)/2)]
			s.cli("live", "stop", stop)
			seen.stopped(stop)
		}
		// And one that nobody can have answered by then: it would be given out a second
		// later, and after the next start.
		spared := strings.TrimSpace(s.cli("query", question, "--all", "--expires", "1h", "--background", "--not-before", "1s"))
		s.cli("live", "stop", spared)
		seen.stopped(spared)
		ids = append(ids, spared)
		goal := seen.total() + random.IntN(nodes)
		s.check(rig.Until(t.Context(), "nodes to poll", func() (bool, error) { return seen.total() >= goal, s.Alive() }))
		s.check(s.Kill())
		s.start()
	}
	ask(1) // which must be answered by all: nothing was lost on its way
	last := ids[len(ids)-1]
	s.until("all nodes to answer the last", func() bool {
		seen.mu.Lock()
		defer seen.mu.Unlock()
		return len(seen.acked[last]) == nodes
	})
	s.cli("live", "stop", "--all", "--yes", "-m", "the test is over")
	for _, id := range ids {
		seen.stopped(id)
	}
	polls := seen.total()
	s.until("nodes to poll again", func() bool { return seen.total() >= polls+3*nodes })
	s.check(fleet.Stop())
	s.check(s.Kill())
	s.start()
	for _, b := range seen.breaches {
		t.Error(b)
	}
	s.compare(seen, ids, nodes)
}

// total returns how many polls all nodes made.
func (p *promises) total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := 0
	for _, n := range p.polls {
		sum += n
	}
	return sum
}

// compare compares what nodes were promised with what the server kept.
func (s *server) compare(seen *promises, ids []string, nodes int) {
	s.t.Helper()
	events := map[string]map[string]int{} // by query and node
	var found []struct {
		Host        string            `json:"host_identifier"`
		Decorations map[string]string `json:"decorations"`
	}
	s.cliJSON(&found, "event", "search", "--query", "live", "--limit", "100000")
	for _, e := range found {
		id := e.Decorations["live_id"]
		if events[id] == nil {
			events[id] = map[string]int{}
		}
		events[id][e.Host]++
	}
	sum := map[string]int{}
	for _, id := range ids {
		var q struct {
			Counts map[string]int `json:"counts"`
			Rows   int            `json:"rows"`
		}
		var targets []struct {
			Host  string           `json:"host_identifier"`
			State string           `json:"state"`
			Rows  []map[string]any `json:"rows"`
		}
		s.cliJSON(&q, "live", "show", id)
		s.cliJSON(&targets, "live", "show", id, "--nodes")
		counted, rows := map[string]int{}, 0
		for _, n := range targets {
			counted[n.State]++
			rows += len(n.Rows)
			acked := seen.acked[id][n.Host]
			if acked && n.State != "answered" {
				s.t.Errorf("%s: the answer of %s was acknowledged, and it is %s", id, n.Host, n.State)
			}
			if want := len(n.Rows); events[id][n.Host] != want || n.State == "answered" && want != 1 {
				s.t.Errorf("%s: %s is %s with %d rows, and has %d events", id, n.Host, n.State, want, events[id][n.Host])
			}
		}
		for state, n := range q.Counts {
			sum[state] += n
			if counted[state] != n {
				s.t.Errorf("%s: %d nodes are %s, and %d are counted", id, counted[state], state, n)
			}
		}
		if len(targets) != nodes || rows != q.Rows || counted["waiting"]+counted["sent"] != 0 {
			s.t.Errorf("%s: %d nodes of %d, %d rows of %d, by state %v", id, len(targets), nodes, rows, q.Rows, counted)
		}
	}
	s.t.Log("nodes by state, of all queries:", sum)
	if sum["answered"] == 0 || sum["stopped"] == 0 {
		s.t.Error("nobody answered, or nobody was spared: the test showed nothing")
	}
}
