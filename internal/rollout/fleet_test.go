package rollout_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// simulated is one node: what the server knows of it, and what it runs.
type simulated struct {
	identity *node.Identity
	worker   *agenttest.Worker
	phase    time.Duration // of its config requests
	gone     bool          // asks and logs nothing any more
}

// fleet is nodes, the parts of a server that they talk to, and a rollout. It
// lives in a bubble of synctest.
type fleet struct {
	t       *testing.T
	nodes   []*simulated
	catalog *resource.Catalog
	store   *store
	monitor *rollout.Monitor
	engine  *rollout.Engine
	readers []*rollout.Monitor // of all servers that run
	decoder *event.Decoder
	shared  *agenttest.Schedules
	stop    func()

	mu   sync.Mutex
	skew time.Duration // of the server's clock

	served map[string]bool // nodes that ever got the bad revision
	told   time.Time       // when the first bad line arrived
	frozen string
	audit  []string

	unrecorded bool // nothing can be recorded
}

// The revisions of every test: what runs, and what rolls out.
const base, next = 1, 2

// step is how often nodes are looked after, and poll how often they ask for
// their config.
const (
	step = 15 * time.Second
	poll = time.Minute
)

func newFleet(t *testing.T, nodes int, sql string, p *resource.RolloutPolicy, platforms ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, served: map[string]bool{}, shared: new(agenttest.Schedules), decoder: new(event.Decoders).Get()}
	<-time.After(26 * 365 * 24 * time.Hour) // a bubble begins in 2000, before any osquery
	shipped := shipped(t)
	f.store = &store{fleet: f, base: compile(t, base, shipped), revisions: map[int64]*rollout.Rollout{}}
	f.store.next = compile(t, next, append(shipped, pack("new", "", map[string]string{"question": sql})))
	f.catalog = resource.NewCatalog(&resource.Plan{Base: f.store.base}, slog.New(slog.DiscardHandler))
	for range nodes {
		f.join(platforms...)
	}
	f.start()
	f.run(12 * time.Minute) // so that each node told of itself once
	f.store.open(rollout.New(next, base, "test", p, f.now()))
	t.Cleanup(f.explain)
	return f
}

// now is the server's clock. An engine asks for it before anything else: then it
// sees what the test did before it let time pass.
func (f *fleet) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.skew)
}

// start starts a server, which knows nothing but what is stored.
func (f *fleet) start() {
	ctx, cancel := context.WithCancel(f.t.Context())
	log := slog.New(slog.DiscardHandler)
	f.monitor = rollout.NewMonitor(nil, log, f.now)
	f.engine = rollout.NewEngine(rollout.Options{
		Store: f.store, Fleet: f, Catalog: f.catalog, Monitor: f.monitor, Audit: f, Freezer: f, Reverter: f.store, Log: log, Now: f.now,
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.engine.Run(ctx); err != nil {
			f.t.Error(err)
		}
	})
	m := f.monitor
	f.readers = append(f.readers, m)
	f.stop = func() {
		cancel()
		wg.Wait()
		f.readers = slices.DeleteFunc(f.readers, func(r *rollout.Monitor) bool { return r == m })
	}
	f.t.Cleanup(f.stop)
}

// All implements rollout.Fleet.
func (f *fleet) All(yield func(*node.Identity) bool) {
	for _, n := range f.nodes {
		if !yield(n.identity) {
			return
		}
	}
}

// Lookup implements rollout.Fleet.
func (f *fleet) Lookup(id string) *node.Identity {
	for _, n := range f.nodes {
		if n.identity.ID == id {
			return n.identity
		}
	}
	return nil
}

// Record implements rollout.Recorder.
func (f *fleet) Record(_ context.Context, actor, action, target string, _ any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unrecorded {
		return errs.New(errs.Busy, "the disk is full")
	}
	f.audit = append(f.audit, actor+" "+action+" "+target)
	return nil
}

// Frozen implements rollout.Freezer.
func (f *fleet) Frozen() (string, bool) { return f.frozen, f.frozen != "" }

// join adds a node.
func (f *fleet) join(platforms ...string) *simulated {
	i := len(f.nodes)
	platform := ""
	if len(platforms) > 0 {
		platform = platforms[i%len(platforms)]
	}
	h := agenttest.NewHost(i+1, platform)
	id := fmt.Sprintf("n%05d", i)
	n := &simulated{
		identity: node.IdentityOf(node.Node{ID: id, HostIdentifier: h.UUID, Hostname: h.Hostname, Platform: h.Platform}),
		worker:   agenttest.NewWorker(h, h.UUID, f.shared),
		phase:    time.Duration(i%int(poll/step)) * step,
	}
	f.nodes = append(f.nodes, n)
	return n
}

// run lets time pass.
func (f *fleet) run(d time.Duration) {
	f.until(d, func() bool { return false })
}

// until lets time pass until something is so; it reports whether it is.
func (f *fleet) until(d time.Duration, so func() bool) bool {
	for range int(d / step) {
		_ = f.now() // see there
		f.work()
		<-time.After(step)
		synctest.Wait()
		if so() {
			return true
		}
	}
	return so()
}

// work lets every node ask for its config, if it is time, and log what it has.
func (f *fleet) work() {
	now := time.Now()
	for _, n := range f.nodes {
		if n.gone {
			continue
		}
		n.identity.Touch(f.now(), netip.Addr{}, node.EndpointRead)
		if now.Add(n.phase).Truncate(step).Equal(now.Add(n.phase).Truncate(poll)) || n.worker.Hash() == "" {
			config := f.catalog.Config(n.identity)
			if config.Revision == next {
				f.served[n.identity.ID] = true
			}
			if err := n.worker.Configure(config.JSON, now); err != nil {
				f.t.Fatal(err)
			}
		}
		results, statuses := n.worker.Run(now)
		f.log(n, osquery.LogTypeResult, results)
		f.log(n, osquery.LogTypeStatus, statuses)
		if f.told.IsZero() && f.served[n.identity.ID] && len(statuses) > 0 {
			f.told = now
		}
	}
}

// log brings lines to the monitor on the way of real ones.
func (f *fleet) log(n *simulated, logType string, lines []json.RawMessage) {
	if len(lines) == 0 {
		return
	}
	log, err := f.decoder.Decode(osquery.EncodeLog("k", logType, lines, false), f.now())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range f.readers {
		m.Note(&event.Batch{NodeID: n.identity.ID, Received: f.now(), LogType: logType, Events: log.Events})
	}
}

// rollout returns the rollout as it is stored.
func (f *fleet) rollout() *rollout.Rollout {
	r, err := f.store.Rollout(f.t.Context(), next)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fleet) in(states ...rollout.State) func() bool {
	return func() bool { return slices.Contains(states, f.rollout().State) }
}

// admitted counts the nodes of the stages that began.
func (f *fleet) admitted() int {
	admits, err := f.rollout().Admission()
	if err != nil {
		f.t.Fatal(err)
	}
	count := 0
	for _, n := range f.nodes {
		if admits(n.identity) {
			count++
		}
	}
	return count
}

// store keeps rollouts as the server's does, and serves what they say.
type store struct {
	fleet      *fleet
	base, next *resource.Snapshot

	failing, irreversible bool // what the database cannot do

	mu        sync.Mutex
	revisions map[int64]*rollout.Rollout
}

func (s *store) open(r *rollout.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(r)
}

// keep keeps a copy, as JSON does, and publishes it.
func (s *store) keep(r *rollout.Rollout) {
	b, err := json.Marshal(r)
	if err != nil {
		s.fleet.t.Fatal(err)
	}
	kept := new(rollout.Rollout)
	if err := json.Unmarshal(b, kept); err != nil {
		s.fleet.t.Fatal(err)
	}
	s.revisions[r.Revision] = kept
	plan := &resource.Plan{Base: s.base}
	switch {
	case kept.Open():
		plan.Next = s.next
		if plan.Admits, err = kept.Admission(); err != nil {
			s.fleet.t.Fatal(err)
		}
	case kept.State == rollout.Done:
		plan.Base = s.next
	}
	s.fleet.catalog.SetPlan(plan)
}

func (s *store) OpenRollout(context.Context) (*rollout.Rollout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return nil, errs.New(errs.Busy, "no database")
	}
	for _, r := range s.revisions {
		if r.Open() {
			c := *r
			c.Stages = slices.Clone(r.Stages)
			return &c, nil
		}
	}
	return nil, nil //nolint:nilnil // the contract
}

func (s *store) SaveRollout(_ context.Context, r *rollout.Rollout) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revisions[r.Revision].Version != r.Version {
		return errs.New(errs.Conflict, "it moved")
	}
	r.Version++
	s.keep(r)
	return nil
}

func (s *store) Rollout(_ context.Context, revision int64) (*rollout.Rollout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.revisions[revision]
	if !ok {
		return nil, errs.New(errs.NotFound, "none")
	}
	c := *r
	return &c, nil
}

func (s *store) Rollouts(context.Context, int64, int) ([]rollout.Rollout, error) { return nil, nil }

// Revert implements rollout.Reverter.
func (s *store) Revert(_ context.Context, r *rollout.Rollout, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.irreversible {
		return errs.New(errs.Busy, "no database")
	}
	r.State, r.Reason, r.EndedAt = rollout.RolledBack, reason, s.fleet.now()
	r.Version++
	s.keep(r)
	return nil
}

// shipped returns the objects that come with Muster.
func shipped(t *testing.T) []resource.Object {
	t.Helper()
	b, err := os.ReadFile("../resource/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := resource.Parse("default.yaml", b)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func pack(name, selector string, queries map[string]string) resource.Object {
	p := &resource.Pack{Selector: selector, Queries: map[string]resource.Query{}}
	for q, sql := range queries {
		p.Queries[q] = resource.Query{Query: sql, Interval: 60}
	}
	return resource.Object{Key: resource.Key{Kind: "Pack", Name: name}, Spec: p}
}

func compile(t *testing.T, revision int64, objects []resource.Object) *resource.Snapshot {
	t.Helper()
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	s, err := resource.Compile(revision, set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// explain says what became of the rollout, if the test failed.
func (f *fleet) explain() {
	t := f.t
	if t.Failed() {
		r := f.rollout()
		t.Logf("%s at stage %d: %s\n%s", r.State, r.Stage, r.Reason, strings.Join(f.audit, "\n"))
		for _, x := range r.Results {
			t.Logf("%+v", x)
		}
		t.Log(len(f.served), "nodes got it")
	}
}
