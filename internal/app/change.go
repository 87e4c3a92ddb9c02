package app

import (
	"context"
	"slices"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rollout"
)

// runs is what decides about what agents run.
type runs struct {
	policy    *policy.Engine
	freezes   []*freezeSource
	freezer   *change.Freezer
	publisher *change.Publisher
	changes   *change.Service
	monitor   *rollout.Monitor
	rollouts  *rollout.Engine
	served    *change.ServedLog
	retagger  *node.Retagger
	tagger    *node.QueryTagger
}

// openResources opens what agents run. From then on the catalog serves.
func (a *App) openResources(ctx context.Context) (err error) {
	if a.runs.policy, err = policy.New(policy.Rules{}); err != nil {
		return err
	}
	a.later("policy", a.runs.policy.Close)
	var external []change.External
	for _, text := range a.cfg.FreezeSource {
		s, err := newFreezeSource(text, a.freezeAlarm, a.log, a.now)
		if err != nil {
			return err
		}
		a.runs.freezes, external = append(a.runs.freezes, s), append(external, s)
	}
	a.runs.freezer = change.NewFreezer(a.store, a.audit, external, a.now)
	a.runs.monitor = rollout.NewMonitor(a.store, a.log, a.now)
	first, err := resource.Defaults()
	if err != nil {
		return err
	}
	a.runs.publisher, err = change.NewPublisher(ctx, change.PublisherOptions{
		Store: a.store, Freezer: a.runs.freezer, Audit: a.audit, Changed: a.planChanged, Log: a.log, Now: a.now,
	}, first)
	if err != nil {
		return err
	}
	catalog := a.catalog()
	if err := a.redactByPlan(catalog.Plan()); err != nil {
		return err
	}
	a.runs.served = change.NewServedLog(a.store, a.log, a.now)
	catalog.Served = a.runs.served.Note
	a.runs.changes = change.NewService(change.Options{
		Store: a.store, Engine: a.runs.policy, Nodes: a.registry, Pricer: a.runs.monitor, Freezer: a.runs.freezer,
		Publisher: a.runs.publisher, Audit: a.audit, People: a.people, Now: a.now,
	})
	a.runs.rollouts = rollout.NewEngine(rollout.Options{
		Store: a.store, Fleet: a.registry, Catalog: catalog, Monitor: a.runs.monitor, Audit: rolloutAlarm{a.audit, a.alarm},
		Freezer: a.runs.freezer, Reverter: a.runs.changes, Log: a.log, Now: a.now,
	})
	a.runs.retagger = node.NewRetagger(node.RetaggerOptions{
		Rules: catalog, Registry: a.registry, Store: a.store, Query: a.givesTag, Log: a.log, Now: a.now,
	})
	a.runs.tagger = node.NewQueryTagger(node.QueryTaggerOptions{Store: a.store, Log: a.log, Now: a.now})
	return nil
}

func (a *App) catalog() *resource.Catalog { return a.runs.publisher.Catalog() }

// people returns how many people may approve changes.
func (a *App) people(ctx context.Context) (int, error) {
	users, err := a.store.Users(ctx)
	n := 0
	for _, u := range users {
		if u.DisabledAt.IsZero() && slices.ContainsFunc(u.Roles, a.approves) {
			n++
		}
	}
	return n, err
}

func (a *App) approves(role string) bool {
	r := a.catalog().Role(role)
	return r != nil && slices.Contains(r.Permissions, account.ChangeApprove)
}

// planChanged is called after another plan is served.
func (a *App) planChanged() {
	if a.runs.rollouts == nil {
		return // the first plan, before there is anybody to tell
	}
	a.redactChanged()
	a.runs.retagger.Changed()
	a.runs.rollouts.Wake()
	if a.enrollments != nil {
		a.enrollments.Changed()
	}
	if a.alerts.courier != nil {
		a.alerts.courier.Changed()
	}
	if a.sinks != nil {
		a.sinks.Changed()
	}
}

// givesTag reports whether a query gives a tag under any revision that is
// served.
func (a *App) givesTag(name, tag string) bool {
	p := a.catalog().Plan()
	return p.Base.TagOf(name) == tag || p.Next != nil && p.Next.TagOf(name) == tag
}

// watch looks at a batch of events on its way to the index: for evidence, and
// for tags that queries' rows give.
func (a *App) watch(b *event.Batch) {
	if b.LogType == event.LiveLog || b.LogType == event.ServerLog {
		return // it was asked, or is ours; not scheduled
	}
	a.runs.monitor.Note(b)
	n := a.registry.Lookup(b.NodeID)
	if n == nil {
		return // it is gone
	}
	catalog := a.catalog()
	for i := 0; i < len(b.Events); {
		e := &b.Events[i]
		rows := 1
		for i+rows < len(b.Events) && b.Events[i+rows].Continues {
			rows++
		}
		i += rows
		if e.Action != event.Snapshot {
			continue
		}
		if tag := catalog.TagOf(n, e.Query); tag != "" {
			if rows == 1 && string(e.Columns) == "{}" {
				rows = 0 // a snapshot without rows is one such event
			}
			a.runs.tagger.Note(n.ID, e.Query, tag, rows)
		}
	}
}
