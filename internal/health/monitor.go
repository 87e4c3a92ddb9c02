package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
)

// Monitor finds out how nodes fare: from events as they come, and by looking at all
// nodes from time to time. Safe for concurrent use.
type Monitor struct {
	Options

	worker, agent, flags string // names of the health pack's queries
	parsers              fastjson.ParserPool

	mu     sync.Mutex
	ledger *ledger
	nodes  map[string]*condition
	since  time.Time // nothing is said of what was before
	// floor is before all enrolments and clashes that may not be findings yet, and
	// those since that are one are in enrolled and clashed, by node. A node's
	// enrolment has the time at which it began, so they do not come in order.
	floor             time.Time
	enrolled, clashed map[string]time.Time
}

// Timing.
const (
	// judgeEvery is how late a state is seen at most; looking at 10,000 nodes takes
	// some 20 ms.
	judgeEvery = 15 * time.Second
	// mismatchTime is how long a node may tell of another config than it is to run:
	// it asks for its config by its own rhythm, and tells every ten minutes.
	mismatchTime = 15 * time.Minute
	// missedSnapshots is how many in a row must not come.
	missedSnapshots = 3
	missedSlack     = 10 * time.Minute
	// lookEvery is how often a node's schedule is compared with what came: it takes
	// some 20 µs.
	lookEvery = 5 * time.Minute
	// outdatedFrom is how many nodes a platform must have to say what is usual.
	outdatedFrom = 5
)

// NewMonitor returns a Monitor that knows nothing; see Load.
func NewMonitor(o Options) *Monitor {
	return &Monitor{
		Options: o, worker: workerQuery(), agent: agentQuery(), flags: flagsQuery(),
		ledger: newLedger(), nodes: map[string]*condition{}, since: o.Now(),
	}
}

// Load takes up what is open. Enrolments since the newest that is known are told,
// so that none is forgotten when the server stops; the first time, those from now
// on.
func (m *Monitor) Load(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.Store.LiveFindings(ctx)
	if err != nil {
		return err
	}
	for _, f := range list {
		m.ledger.take(f)
	}
	last, err := m.Store.LastMoment(ctx, Enrolled, Reenrolled, Cloned)
	if err != nil {
		return err
	}
	if m.floor = m.since; !last.IsZero() {
		m.floor = last.Add(-momentSlack)
	}
	if m.enrolled, err = m.Store.Moments(ctx, m.floor, Enrolled, Reenrolled); err != nil {
		return err
	}
	m.clashed, err = m.Store.Moments(ctx, m.floor, Cloned)
	return err
}

// moments notes enrolments and clashes. The monitor is locked.
func (m *Monitor) moments(ctx context.Context) error {
	came := map[string]time.Time{}
	for n := range m.Fleet.All {
		if at := n.Seen(node.EndpointEnroll); at.After(m.floor) && at.After(m.enrolled[n.ID]) {
			came[n.ID] = at
		}
	}
	if len(came) > 0 {
		how, err := m.Store.Enrolments(ctx, slices.Sorted(maps.Keys(came)))
		if err != nil {
			return err
		}
		for id, at := range came {
			kind := Enrolled
			if how[id].Count > 1 {
				kind = Reenrolled
			}
			m.ledger.moment(Key{NodeID: id, Kind: kind}, "it enrolled with the secret "+how[id].Secret, at)
			m.enrolled[id] = at
		}
	}
	clashes, err := m.Store.Clashes(ctx, m.floor)
	if err != nil {
		return err
	}
	for _, c := range clashes {
		if c.At.After(m.clashed[c.NodeID]) {
			m.ledger.moment(Key{NodeID: c.NodeID, Kind: Cloned}, c.Reason, c.At)
			m.clashed[c.NodeID] = c.At
		}
	}
	return nil
}

// momentSlack is far longer than an enrolment takes.
const momentSlack = 10 * time.Minute

// Handle takes in events. With an error they must come again; what is found of
// them a second time counts once.
func (m *Monitor) Handle(ctx context.Context, batches []event.Batch) error {
	p := m.parsers.Get()
	defer m.parsers.Put(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range batches {
		if b := &batches[i]; b.LogType != event.LiveLog && b.LogType != event.ServerLog && m.Fleet.Lookup(b.NodeID) != nil {
			m.note(b, p)
		}
	}
	return m.ledger.flush(ctx, m.Store, m.Teller)
}

// Run looks at all nodes from time to time, until ctx ends. What fails is logged
// and tried again.
func (m *Monitor) Run(ctx context.Context) error {
	t := time.NewTicker(judgeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := m.Judge(ctx); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "findings of nodes could not be kept or told; retrying", "error", err)
		}
	}
}

// Judge looks at all nodes now.
func (m *Monitor) Judge(ctx context.Context) error {
	now := m.Now().Truncate(time.Microsecond) // as stores keep it
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.moments(ctx); err != nil {
		return err
	}
	usual := m.usual()
	there := map[string]bool{}
	for n := range m.Fleet.All {
		there[n.ID] = true
		m.judge(n, usual[n.Platform], now)
	}
	for k := range m.ledger.open {
		if !there[k.NodeID] {
			m.ledger.clear(k, now)
		}
	}
	for id := range m.nodes {
		if !there[id] {
			delete(m.nodes, id)
		}
	}
	for _, told := range []map[string]time.Time{m.enrolled, m.clashed} {
		maps.DeleteFunc(told, func(id string, _ time.Time) bool { return !there[id] })
	}
	m.ledger.lapse(now)
	return m.ledger.flush(ctx, m.Store, m.Teller)
}

// judge looks at one node.
func (m *Monitor) judge(n *node.Identity, usual string, now time.Time) {
	set := func(k Kind, holds bool, text string) {
		m.ledger.set(Key{n.ID, k, ""}, holds, text, now)
	}
	set(Quarantined, n.Quarantined, "it is under quarantine: it gets no queries, and what it logs is marked")
	set(Outdated, older(n.OsqueryVersion, usual), "it runs osquery "+n.OsqueryVersion+", most "+n.Platform+" nodes run "+usual)
	seen := n.LastSeen()
	if seen.IsZero() {
		return // imported, and never heard of
	}
	heard := later(seen, m.since) // while the server was down, it heard of nobody
	_, open := m.ledger.open[Key{n.ID, Offline, ""}]
	offline := !n.Online(now) && (open || now.Sub(heard) >= m.OfflineAfter)
	set(Offline, offline, "it made no request since "+seen.UTC().Format(time.RFC3339))
	if offline || !n.Online(now) {
		return // of what is offline nothing more is known
	}
	c := m.nodes[n.ID]
	if c == nil {
		c = &condition{snapshots: map[string]int64{}}
		m.nodes[n.ID] = c
	}
	if c.online.IsZero() || now.Sub(c.judged) > m.OfflineAfter {
		c.online = now // it came back: it has its time to log
	}
	c.judged = now
	m.config(n, c, now)
	if now.Sub(c.looked).Abs() >= lookEvery {
		c.looked = now
		m.results(n, c, now)
	}
	if l, known := limit(c.flags, n); known {
		set(WeakWatchdog, !l.Bites && l.Cores > 0 || l.Off, l.Why)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// results looks for results that do not come. A query that is denylisted is
// another finding, and so is a node without any.
func (m *Monitor) results(n *node.Identity, c *condition, now time.Time) {
	scheduled := m.Configs.Snapshot(n).Schedule(n)
	results := later(time.Unix(c.results, 0), c.online)
	silent := len(scheduled) > 0 && now.Sub(results) >= m.SilentAfter
	m.ledger.set(Key{n.ID, Silent, ""}, silent, "it polls, and has logged no results since "+results.UTC().Format(time.RFC3339), now)
	wanted := map[string]bool{}
	for _, q := range scheduled {
		if !q.Snapshot || q.Conditional {
			continue
		}
		wanted[q.Name] = true
		last := later(time.Unix(c.snapshots[q.Name], 0), c.online)
		late := now.Sub(last) > missedSnapshots*time.Duration(q.Interval)*time.Second+missedSlack
		_, denied := m.ledger.open[Key{n.ID, Denylisted, q.Name}]
		m.ledger.set(Key{n.ID, Missing, q.Name}, late && !silent && !denied,
			"no results of "+q.Name+" for "+now.Sub(last).Round(time.Minute).String()+", which runs every "+strconv.Itoa(q.Interval)+" s", now)
	}
	for k := range m.ledger.of[n.ID] { // of queries that it is not to run any more
		if k.Kind == Missing && !wanted[k.Subject] {
			m.ledger.clear(k, now)
		}
	}
}

// config looks whether the node runs what it is served.
func (m *Monitor) config(n *node.Identity, c *condition, now time.Time) {
	told := m.Evidence.Evidence(n.ID)
	if told.Hash == "" {
		return
	}
	want := m.Configs.Expected(n).Hash
	if told.Hash == want {
		c.mismatch = ""
	} else if c.mismatch != want {
		c.mismatch, c.mismatching = want, now
	}
	// It must have told so after its time, not only not have told anew.
	holds := c.mismatch != "" && told.HashAt.Sub(c.mismatching) > mismatchTime
	m.ledger.set(Key{n.ID, NotApplied, ""}, holds, fmt.Sprintf("it runs the config %s and is to run %s", told.Hash, want), now)
}

// usual returns the version of osquery that most nodes of each platform run.
func (m *Monitor) usual() map[string]string {
	counts, sum := map[string]map[string]int{}, map[string]int{}
	for n := range m.Fleet.All {
		if n.OsqueryVersion == "" {
			continue
		}
		if counts[n.Platform] == nil {
			counts[n.Platform] = map[string]int{}
		}
		counts[n.Platform][n.OsqueryVersion]++
		sum[n.Platform]++
	}
	usual := map[string]string{}
	for platform, versions := range counts {
		if sum[platform] < outdatedFrom {
			continue
		}
		for v, count := range versions {
			if had := usual[platform]; count > versions[had] || count == versions[had] && older(had, v) {
				usual[platform] = v
			}
		}
	}
	return usual
}

// older reports whether version a is less than b; false if one is not known.
func older(a, b string) bool {
	order, known := node.CompareVersions(a, b)
	return known && order < 0
}

// Open returns the findings of a node that are open, by kind and subject.
func (m *Monitor) Open(nodeID string) []Finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Finding
	for _, f := range m.ledger.of[nodeID] {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b Finding) int { return compareKeys(a.Key(), b.Key()) })
	return list
}

// Counts returns how many findings of each kind are open.
func (m *Monitor) Counts() map[Kind]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[Kind]int{}
	for k := range m.ledger.open {
		counts[k.Kind]++
	}
	return counts
}

// Watchdog returns what ends the node's worker; false if the node did not tell.
func (m *Monitor) Watchdog(n *node.Identity) (Limit, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.nodes[n.ID]
	if c == nil {
		return Limit{}, false
	}
	return limit(c.flags, n)
}
