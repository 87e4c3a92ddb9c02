package alert

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
)

// Options are what a Service needs. All but Policy, Wake and Retention are
// required.
type Options struct {
	Store    Store
	Silences SilenceStore
	Routes   Routes
	Nodes    Nodes
	// Policy returns how a rule's alerts are treated; without it all are by default.
	Policy func(rule string) Policy
	// Wake is called with names of notifiers that have something new to tell.
	Wake func(notifiers []string)
	// Retention is how long resolved alerts are kept; 0 for ever.
	Retention time.Duration
	Log       *slog.Logger
	Now       func() time.Time
}

// Service opens alerts and moves them on. Safe for concurrent use.
type Service struct {
	Options

	mu      sync.Mutex
	changed chan struct{} // closed at the next change of any alert
}

// NewService returns a Service.
func NewService(o Options) *Service {
	if o.Policy == nil {
		o.Policy = func(string) Policy { return Policy{} }
	}
	if o.Wake == nil {
		o.Wake = func([]string) {}
	}
	return &Service{Options: o, changed: make(chan struct{})}
}

// Watch returns a channel that is closed when an alert's history grows.
func (s *Service) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// change decides within a transaction, and tells who waits for the outcome.
func (s *Service) change(ctx context.Context, w Wanted, decide func(*decision) error) error {
	var kept *Change
	err := s.Store.ChangeAlerts(ctx, w, func(c *Current) (*Change, error) {
		d := &decision{
			now: s.Now().UTC().Truncate(time.Microsecond), routes: s.Routes.Routes(), nodes: s.Nodes, policy: s.Policy, current: c,
			dirty: map[*Alert]bool{}, floods: map[*Flood]bool{},
		}
		if err := decide(d); err != nil {
			return nil, err
		}
		kept = &d.change
		return kept, nil
	})
	if err != nil {
		return err
	}
	if len(kept.Entries) > 0 {
		s.mu.Lock()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
	var names []string
	for _, n := range kept.Notifications {
		names = append(names, n.Notifier)
	}
	if len(names) > 0 {
		slices.Sort(names)
		s.Wake(slices.Compact(names))
	}
	return nil
}

// Act is what a person does with an alert.
type Act struct {
	Actor    string
	Action   Action // Acked, Ended, Reopened, Assigned or Commented
	Comment  string // why; required of Commented alone
	Assignee string // of Assigned: "" takes it from whoever has it
}

// Act moves an alert on and returns it. What is done already is no error; what
// cannot be is a Conflict, an alert that is not there NotFound.
func (s *Service) Act(ctx context.Context, id string, act Act) (Alert, error) {
	act.Comment, act.Assignee = Text(act.Comment, maxComment), Line(act.Assignee, maxValue)
	if act.Action == Commented && act.Comment == "" {
		return Alert{}, errs.Field("comment", "is empty; write something")
	}
	var out Alert
	err := s.change(ctx, Wanted{IDs: []string{id}}, func(d *decision) error {
		a := d.current.ByID[id]
		if a == nil {
			return errs.New(errs.NotFound, "there is no alert with that id")
		}
		if a.Entries >= maxEntries {
			return errs.New(errs.Conflict, "the alert's history is full; resolve it, so that a new one takes its place")
		}
		err := d.act(a, act)
		out = *a
		return err
	})
	return out, err
}

func (d *decision) act(a *Alert, act Act) error {
	switch act.Action {
	case Commented:
		d.note(a, act.Actor, Commented, act.Comment)
		return nil
	case Assigned:
		return d.assign(a, act)
	case Acked:
		if a.State == Resolved {
			return errs.New(errs.Conflict, "the alert is resolved; reopen it first")
		}
		if a.State == Open {
			a.State, a.AcknowledgedBy, a.AcknowledgedAt = Acknowledged, act.Actor, d.now
			d.note(a, act.Actor, Acked, act.Comment)
			d.tell(a, Acked, Firing{Matched: d.now})
		}
	case Ended:
		if a.State != Resolved {
			d.resolve(a, act.Actor, act.Comment)
			d.touch(a)
		}
	case Reopened:
		return d.reopenBy(a, act)
	case Opened, Escalated, Reminded:
		return errs.Field("action", "%s is nothing that a person does", act.Action)
	}
	return nil
}

func (d *decision) assign(a *Alert, act Act) error {
	if a.Assignee == act.Assignee {
		return nil
	}
	a.Assignee = act.Assignee
	detail := "to " + cmp.Or(act.Assignee, "nobody")
	if act.Comment != "" {
		detail += ": " + act.Comment
	}
	d.note(a, act.Actor, Assigned, detail)
	return nil
}

// reopenBy opens what was acknowledged or resolved, by hand.
func (d *decision) reopenBy(a *Alert, act Act) error {
	switch {
	case a.State == Open:
		return nil
	case !a.Current:
		return errs.New(errs.Conflict, "a later alert of the same rule and key took its place; look there")
	case a.State == Resolved:
		a.Episodes++
		a.OpenedAt = d.now
	}
	a.State, a.ResolvedAt, a.ResolvedBy, a.AcknowledgedBy, a.AcknowledgedAt = Open, time.Time{}, "", "", time.Time{}
	d.note(a, act.Actor, Reopened, act.Comment)
	d.tell(a, Reopened, Firing{Matched: d.now})
	return nil
}

// Silence makes a silence and returns it.
func (s *Service) Silence(ctx context.Context, silence Silence) (Silence, error) {
	now := s.Now().UTC().Truncate(time.Microsecond)
	silence.Match = slices.Clone(silence.Match)
	if err := silence.Check(now); err != nil {
		return Silence{}, err
	}
	silence.ID, silence.CreatedAt, silence.EndedBy = ident.New(), now, ""
	return silence, s.Silences.CreateSilence(ctx, silence)
}

// EndSilence ends a silence early. What is open, and was not told because of it,
// is told now.
func (s *Service) EndSilence(ctx context.Context, id, by string) (Silence, error) {
	silence, err := s.Silences.EndSilence(ctx, id, by, s.Now())
	if err != nil {
		return Silence{}, err
	}
	var names []string
	for _, r := range s.Routes.Routes() {
		names = append(names, r.Name)
	}
	s.Wake(names)
	return silence, nil
}

// Active returns the silences that hold now, ready to be asked.
func (s *Service) Active(ctx context.Context) (Silences, error) {
	list, err := s.Silences.Silences(ctx, s.Now())
	return NewSilences(list), err
}

// Timing of what happens by itself.
const (
	sweepEvery = 5 * time.Second
	pruneEvery = time.Hour
	sweepBatch = 200
)

// Run resolves what is over and drops what is old, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	sweep, prune := time.NewTicker(sweepEvery), time.NewTicker(pruneEvery)
	defer sweep.Stop()
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			s.report(ctx, "resolve alerts that are over", s.Sweep(ctx))
		case <-prune.C:
			s.report(ctx, "drop old alerts", s.prune(ctx))
		}
	}
}

func (s *Service) report(ctx context.Context, doing string, err error) {
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "alerts: trying again later", "doing", doing, "error", err)
	}
}

// Sweep resolves the alerts whose time is over.
func (s *Service) Sweep(ctx context.Context) error {
	for {
		ids, err := s.Store.DueAlerts(ctx, s.Now(), sweepBatch)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := s.change(ctx, Wanted{IDs: ids}, func(d *decision) error {
			for _, id := range ids {
				if a := d.current.ByID[id]; a != nil && !a.ResolveAt.IsZero() && !a.ResolveAt.After(d.now) {
					d.resolve(a, ByRule, "nothing came for its rule's time")
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

func (s *Service) prune(ctx context.Context) error {
	if s.Retention == 0 {
		return nil
	}
	for {
		more, err := s.Store.PruneAlerts(ctx, s.Now().Add(-s.Retention))
		if err != nil || !more || ctx.Err() != nil {
			return err
		}
	}
}
