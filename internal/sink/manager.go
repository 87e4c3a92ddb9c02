package sink

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Manager runs the sinks that are served. Safe for concurrent use.
type Manager struct {
	Options

	asks    chan chan error // for another look at what is to run
	changed chan struct{}   // the same, of who does not wait

	mu      sync.Mutex
	runners map[string]*runner
}

// saveEvery is how often positions are kept: what was sent since may be sent again
// after a crash.
const saveEvery = time.Second

// NewManager returns a Manager that runs nothing yet.
func NewManager(o Options) *Manager {
	return &Manager{Options: o, asks: make(chan chan error), changed: make(chan struct{}, 1), runners: map[string]*runner{}}
}

// Load reads what is kept of sinks, so that nothing that they still need is removed
// from the stream before they run.
func (m *Manager) Load(ctx context.Context) error {
	states, err := m.Store.Sinks(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range states {
		r, err := m.newRunner(s)
		if err != nil {
			return err
		}
		r.kept = s.Seq
		m.runners[s.Name] = r
	}
	return nil
}

func (m *Manager) newRunner(s State) (*runner, error) {
	d, err := openDead(m.dir(s.Name), cmp.Or(m.MaxDead, maxDeadBytes))
	if err != nil {
		return nil, err
	}
	return &runner{Manager: m, dead: d, state: s, wake: make(chan struct{}, 1)}, nil
}

func (m *Manager) dir(name string) string { return filepath.Join(m.Dir, name) }

// Run runs the sinks until ctx ends, and keeps their positions then.
func (m *Manager) Run(ctx context.Context) error {
	defer func() {
		for _, r := range m.all() {
			r.stop()
		}
		m.save(context.WithoutCancel(ctx))
	}()
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	again := m.apply(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case done := <-m.asks:
			again = m.apply(ctx)
			done <- again
		case <-m.changed:
			again = m.apply(ctx)
		case <-t.C:
			m.save(ctx)
			if again != nil {
				again = m.apply(ctx)
			}
		}
	}
}

// Changed is called after other sinks may be served. It does not wait.
func (m *Manager) Changed() {
	select {
	case m.changed <- struct{}{}:
	default: // it is to look already
	}
}

// sync returns when what runs is what is to run.
func (m *Manager) sync(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case m.asks <- done:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// apply starts and stops sinks until those run that are to run.
func (m *Manager) apply(ctx context.Context) error {
	var failed error
	plans := map[string]*resource.SinkPlan{}
	for _, p := range m.Plans() {
		plans[p.Name] = p
	}
	for _, r := range m.all() {
		name := r.state.Name
		if plans[name] == nil {
			failed = errors.Join(failed, m.drop(ctx, r))
		}
	}
	for name, p := range plans {
		r := m.lookup(name)
		if r == nil {
			var err error
			if r, err = m.begin(ctx, name); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		m.settle(ctx, r, p)
	}
	if failed != nil && ctx.Err() == nil {
		m.Log.ErrorContext(ctx, "not all sinks run as they are to; trying again", "error", failed)
	}
	return failed
}

// settle has a sink run by its plan, or stand still if it is paused.
func (m *Manager) settle(ctx context.Context, r *runner, p *resource.SinkPlan) {
	r.mu.Lock()
	paused := !r.state.PausedAt.IsZero()
	same := r.plan != nil && r.plan.Hash == p.Hash
	r.mu.Unlock()
	if paused || !same {
		r.stop()
	}
	if !same {
		r.mu.Lock()
		r.plan, r.health = p, health{}
		r.mu.Unlock()
	}
	if !paused && r.cancel == nil {
		r.start(ctx)
	}
}

// begin makes a sink that is new. It gets what comes from now on.
func (m *Manager) begin(ctx context.Context, name string) (*runner, error) {
	last, err := m.Stream.Last(ctx)
	if err != nil {
		return nil, err
	}
	r, err := m.newRunner(State{Name: name, Seq: last})
	if err != nil {
		return nil, err
	}
	if err := m.Store.SaveSinks(ctx, []State{r.state}); err != nil {
		return nil, err
	}
	r.kept = last
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runners[name] = r
	return r, nil
}

// drop forgets a sink that is served no more, with its dead letters.
func (m *Manager) drop(ctx context.Context, r *runner) error {
	r.stop()
	if err := m.Store.DeleteSink(ctx, r.state.Name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.runners, r.state.Name)
	return os.RemoveAll(m.dir(r.state.Name))
}

// all returns the sinks by name.
func (m *Manager) all() []*runner {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*runner, 0, len(m.runners))
	for _, r := range m.runners {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *runner) int { return cmp.Compare(a.state.Name, b.state.Name) })
	return list
}

func (m *Manager) lookup(name string) *runner {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runners[name]
}

// find is lookup of a sink that is served.
func (m *Manager) find(name string) (*runner, error) {
	r := m.lookup(name)
	if r == nil {
		return nil, errs.New(errs.NotFound, "there is no sink %s; muster sink list shows them", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plan == nil {
		return nil, errs.New(errs.Busy, "the sink %s starts; try again", name)
	}
	return r, nil
}

// save keeps what changed.
func (m *Manager) save(ctx context.Context) {
	var states []State
	var saved []*runner
	for _, r := range m.all() {
		r.mu.Lock()
		if r.dirty {
			states, saved = append(states, r.state.clone()), append(saved, r)
			r.dirty = false
		}
		r.mu.Unlock()
	}
	if len(states) == 0 {
		return
	}
	err := m.Store.SaveSinks(ctx, states)
	if err != nil {
		m.Log.WarnContext(ctx, "how far sinks are is not kept; trying again", "error", err)
	}
	for i, r := range saved {
		r.mu.Lock()
		if err != nil {
			r.dirty = true
		} else {
			r.kept = max(r.kept, states[i].Seq)
		}
		r.mu.Unlock()
	}
}

func (s State) clone() State {
	if s.Replay != nil {
		p := *s.Replay
		s.Replay = &p
	}
	return s
}

// change changes and keeps a sink's state, or neither.
func (r *runner) change(ctx context.Context, change func(*State)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state.clone()
	change(&s)
	if err := r.Store.SaveSinks(ctx, []State{s}); err != nil {
		return err
	}
	r.state, r.kept, r.dirty = s, max(r.kept, s.Seq), false
	return nil
}

// poke tells that there is something to be sent again.
func (r *runner) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Pause stops a sink. Its events wait in the stream.
func (m *Manager) Pause(ctx context.Context, name, by string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	if err := r.change(ctx, func(s *State) { s.PausedAt, s.PausedBy = m.Now(), by }); err != nil {
		return err
	}
	return m.sync(ctx)
}

// Resume lets a sink go on where it was.
func (m *Manager) Resume(ctx context.Context, name string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	if err := r.change(ctx, func(s *State) { s.PausedAt, s.PausedBy = time.Time{}, "" }); err != nil {
		return err
	}
	return m.sync(ctx)
}

// Replay sends a sink once more what the search has from a time to another, the zero
// time being the end, and what the sink was already sent or has missed. It replaces
// a replay that is under way.
func (m *Manager) Replay(ctx context.Context, name string, from, until time.Time, by string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	from, until = from.Truncate(time.Microsecond), until.Truncate(time.Microsecond) // as events' times are kept
	end := m.Now().Add(future).Truncate(time.Microsecond)
	if until.IsZero() || until.After(end) {
		until = end
	}
	if !from.Before(until) {
		return errs.Field("since", "must be before until")
	}
	if err := r.change(ctx, func(s *State) {
		s.Replay = &Replay{From: from, Until: until, Seq: s.Seq, Done: from, By: by}
	}); err != nil {
		return err
	}
	r.poke()
	return nil
}

// future is how far events' times may be ahead: nodes' clocks are.
const future = 24 * time.Hour

// StopReplay ends a replay; one that is not there is no error.
func (m *Manager) StopReplay(ctx context.Context, name string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	return r.change(ctx, func(s *State) { s.Replay = nil })
}

// Test sends one event of TestQuery, and returns why it was not taken.
func (m *Manager) Test(ctx context.Context, name string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	if err := r.test(ctx); err != nil {
		return errs.Wrap(errs.Conflict, err, cut(err.Error()))
	}
	return nil
}

// Retry sends dead letters once more.
func (m *Manager) Retry(_ context.Context, name string) error {
	r, err := m.find(name)
	if err != nil {
		return err
	}
	if err := r.dead.take(); err != nil {
		return err
	}
	r.poke()
	return nil
}

// Discard forgets dead letters, and returns how many.
func (m *Manager) Discard(_ context.Context, name string) (int, error) {
	r, err := m.find(name)
	if err != nil {
		return 0, err
	}
	return r.dead.discard()
}

// Dead returns the oldest dead letters.
func (m *Manager) Dead(_ context.Context, name string, limit int) ([]Letter, error) {
	r, err := m.find(name)
	if err != nil {
		return nil, err
	}
	return r.dead.list(limit)
}

// Reopen makes sinks that write to files open them anew, for who moved them.
func (m *Manager) Reopen() error {
	var failed error
	for _, r := range m.all() {
		r.sending.Lock()
		if f, ok := r.sender.(*fileSender); ok {
			failed = errors.Join(failed, f.reopen())
		}
		r.sending.Unlock()
	}
	return failed
}
