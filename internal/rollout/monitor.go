package rollout

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

// health are the health pack's queries, as agents name them.
type health struct{ worker, agent, schedule string }

// Monitor gathers what nodes show of the config that they run: from the rows of
// the health pack, the status lines, and the number and size of all rows. It is
// in memory, and begins anew with the server. Safe for concurrent use.
//
// A node takes about 300 bytes, and 60 for each query of its schedule.
type Monitor struct {
	store   CostStore
	log     *slog.Logger
	now     func() time.Time
	since   time.Time
	health  health
	parsers fastjson.ParserPool

	mu      sync.Mutex
	texts   Texts // nil before Learn
	nodes   map[string]*record
	queries map[queryKey]*query
	watched window

	costMu  sync.Mutex        // guards what follows; taken before mu
	kept    map[queryKey]Cost // as the store has them
	costs   map[queryKey]Cost // as of costsAt
	costsAt time.Time
}

// window is what rollout is watched, and since when.
type window struct {
	revision int64
	base     time.Time // when its first stage began
	from     time.Time // when its running stage began
}

// record is what is known of a node. Times are Unix seconds, 0 for never: they
// are a third of its size as it is. Counts go on from when the server started;
// they may wrap, since only their differences are used.
type record struct {
	logged uint32 // when its last log request arrived

	// Of osquery_info, as of infoTime by the node's clock, told at infoAt.
	hash                unique.Handle[string] // config_hash
	hashAt              uint32                // told last
	hashSince           uint32                // told first without another between, by the node's clock
	infoTime, infoAt    uint32
	pid, start, watcher int32

	counts       counts
	atBase, from counts // when the rollout and its stage began

	// Of osquery_schedule, as of its last snapshot.
	snapshots   uint32 // how many came
	snapshot    uint32 // the last one's time by the node's clock
	snapshotAt  uint32 // and when it arrived
	idle        uint16 // queries that have not run yet
	day, dayWas day    // what a day costs; and when the rollout began
	usages      []usage

	incidents []incident
}

type counts struct {
	rows  uint32 // without first results
	first uint32 // rows of queries' first results, which come once
	lines uint32 // status lines of severity warning and above
	bytes uint64
}

// day is what a node's schedule costs in a day.
type day struct{ cpu, rows, bytes float32 } // cpu in seconds

// incident is something that seldom happens.
type incident struct {
	at   uint32
	kind incidentKind
	what string // the query that it is about, if any
}

type incidentKind uint8

const (
	workerRestart incidentKind = iota // a new worker under the same watcher
	daemonRestart
	queryFailed
	queryDenied
	configRefused
	linesPurged
	incidentKinds
)

// Bounds of what a node can make the server remember.
const (
	maxUsages    = 512 // queries of a schedule; large packs have some 100
	maxIncidents = 32  // the newest are kept
	maxName      = 256 // of a query, as in package event
	maxHash      = 64  // SHA-1 and SHA-256 in hex
)

// NewMonitor returns a Monitor that knows nothing. store may be nil: then costs
// are not kept.
func NewMonitor(store CostStore, log *slog.Logger, now func() time.Time) *Monitor {
	return &Monitor{
		store: store, log: log, now: now, since: now(),
		health: health{
			worker:   resource.AgentName(resource.HealthPack, "worker"),
			agent:    resource.AgentName(resource.HealthPack, "agent"),
			schedule: resource.AgentName(resource.HealthPack, "schedule"),
		},
		nodes: map[string]*record{}, queries: map[queryKey]*query{}, kept: map[queryKey]Cost{},
	}
}

// Learn tells the Monitor where it finds the SQL of the queries that nodes tell
// of; before, costs are of no text. NewEngine does it.
func (m *Monitor) Learn(t Texts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.texts = t
}

// Since returns when the Monitor began to listen.
func (m *Monitor) Since() time.Time { return m.since }

// How the Monitor keeps itself.
const (
	saveEvery   = 10 * time.Minute // as often as agents tell of costs
	forgetAfter = 24 * time.Hour   // of a node's silence
)

// Run loads the costs that are kept, and keeps them from time to time until ctx
// ends. A store that fails is logged and tried again.
func (m *Monitor) Run(ctx context.Context) error {
	loaded := m.load(ctx)
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		m.forget(m.now().Add(-forgetAfter))
		if !loaded { // never over what is not known
			loaded = m.load(ctx)
		}
		if loaded {
			m.save(ctx)
		}
	}
}

// forget drops nodes that have been silent since.
func (m *Monitor) forget(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.nodes {
		if int64(r.logged) < since.Unix() {
			for i := range r.usages {
				m.release(r.usages[i].query)
			}
			delete(m.nodes, id)
		}
	}
}

// Watch makes Evidence tell of the time since a stage of a revision's rollout
// began. Called again with the same it does nothing. What was before the
// revision's first stage is kept for comparison.
func (m *Monitor) Watch(revision int64, from time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watched
	if w.revision == revision && w.from.Equal(from) {
		return
	}
	again := w.revision == revision
	if !again {
		w.base = from
	}
	w.revision, w.from = revision, from
	m.watched = w
	for _, r := range m.nodes {
		r.from = r.counts
		r.trim(second(from))
		if !again {
			r.atBase, r.dayWas = r.counts, r.day
		}
	}
}

// Watching reports whether Watch was called with that last.
func (m *Monitor) Watching(revision int64, from time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watched.revision == revision && m.watched.from.Equal(from)
}

// trim drops incidents of before a time. What comes from the future is of before
// the clock was set back: then neither clock's times mean anything any more.
func (r *record) trim(from uint32) {
	ahead := from + uint32(node.MaxAhead.Seconds())
	r.incidents = slices.DeleteFunc(r.incidents, func(i incident) bool { return i.at < from || i.at > ahead })
	if max(r.logged, r.infoAt, r.snapshotAt) <= ahead {
		return
	}
	r.infoTime, r.hashSince, r.snapshotAt = 0, 0, 0
	r.logged, r.infoAt, r.hashAt = min(r.logged, from), min(r.infoAt, from), min(r.hashAt, from)
}

// Evidence is what a node showed since the time that Watch said.
type Evidence struct {
	LastLog time.Time // zero if none came since the server started
	// Hash is the config_hash that it told last, at HashAt; "" if it told none.
	Hash   string
	HashAt time.Time

	Rows, FirstRows int // FirstRows are those of queries' first results
	Bytes           int64
	Lines           int // status lines of severity warning and above

	Restarts       int // of the worker, under the same watcher
	DaemonRestarts int
	Failed         int      // "Scheduled query may have failed"
	Denied         int      // queries that were denylisted
	Refused        int      // configs that could not be parsed
	Purged         int      // times that buffered lines were lost
	Queries        []string // that failed or were denylisted

	// Priced says that the node told what its queries cost since it told Hash. Day
	// is what a day of its schedule costs; Idle queries of it have not run yet.
	Priced bool
	Day    Day
	Idle   int

	// Before is what the node showed before the rollout; see Monitor.Before.
	Before struct {
		Rows, Lines int
		Day         Day
	}
}

// Before returns how long the nodes were watched before the rollout began.
func (m *Monitor) Before() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, m.watched.base.Sub(m.since))
}

// Evidence returns what a node showed; the zero value if it is not known.
func (m *Monitor) Evidence(nodeID string) Evidence {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.nodes[nodeID]
	if r == nil {
		return Evidence{}
	}
	e := Evidence{
		LastLog: instant(r.logged), HashAt: instant(r.hashAt),
		Rows: int(r.counts.rows - r.from.rows), FirstRows: int(r.counts.first - r.from.first),
		Lines: int(r.counts.lines - r.from.lines), Bytes: int64(r.counts.bytes - r.from.bytes), //nolint:gosec // what a node sent
		Priced: r.snapshotAt != 0 && r.snapshot >= r.hashSince, Day: r.day.wide(), Idle: int(r.idle),
	}
	if r.hashAt != 0 {
		e.Hash = r.hash.Value()
	}
	e.Before.Rows, e.Before.Lines, e.Before.Day = int(r.atBase.rows), int(r.atBase.lines), r.dayWas.wide()
	e.count(r.incidents, m.watched.from)
	return e
}

// count adds what happened since.
func (e *Evidence) count(incidents []incident, since time.Time) {
	into := [incidentKinds]*int{
		workerRestart: &e.Restarts, daemonRestart: &e.DaemonRestarts, queryFailed: &e.Failed,
		queryDenied: &e.Denied, configRefused: &e.Refused, linesPurged: &e.Purged,
	}
	for _, i := range incidents {
		if int64(i.at) >= since.Unix() {
			*into[i.kind]++
			if i.what != "" {
				e.Queries = append(e.Queries, i.what)
			}
		}
	}
}

func (d day) wide() Day { return Day{float64(d.cpu), float64(d.rows), float64(d.bytes)} }

func instant(unix uint32) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(int64(unix), 0).UTC()
}

// second is the inverse of instant; a time that it cannot hold is 0.
func second(t time.Time) uint32 {
	unix := t.Unix()
	if unix < 0 || unix > math.MaxUint32 {
		return 0
	}
	return uint32(unix)
}

// Note takes in what a node sent. It costs about a microsecond for each row of
// the health pack and each status line, and next to nothing for another row.
func (m *Monitor) Note(b *event.Batch) {
	p := m.parsers.Get()
	defer m.parsers.Put(p)
	texts := m.textsOf(b) // before the lock, which must be the innermost of all
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.nodes[b.NodeID]
	if r == nil {
		r = &record{}
		m.nodes[b.NodeID] = r
	}
	n := note{m: m, r: r, at: second(b.Received), p: p, texts: texts}
	r.logged = n.at
	for i := range b.Events {
		if e := &b.Events[i]; e.Action == event.Status {
			n.status(e)
		} else {
			n.result(e)
		}
	}
	if n.priced {
		r.price()
	}
}

// textsOf returns what the node's queries are, if the batch tells of them.
func (m *Monitor) textsOf(b *event.Batch) map[string]string {
	told := func(e event.Event) bool { return e.Query == m.health.schedule }
	if !slices.ContainsFunc(b.Events, told) {
		return nil
	}
	m.mu.Lock()
	texts, hash := m.texts, ""
	if r := m.nodes[b.NodeID]; r != nil && r.hashAt != 0 {
		hash = r.hash.Value()
	}
	m.mu.Unlock()
	if texts == nil {
		return nil
	}
	return texts.Texts(b.NodeID, hash)
}

// Forget drops what is known of a node that was removed.
func (m *Monitor) Forget(nodeID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.nodes[nodeID]; r != nil {
		for i := range r.usages {
			m.release(r.usages[i].query)
		}
		delete(m.nodes, nodeID)
	}
}
