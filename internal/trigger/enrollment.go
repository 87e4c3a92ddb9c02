package trigger

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// Standing keeps queries that nodes join one by one; see live.Coordinator.
type Standing interface {
	Stand(ctx context.Context, q live.Query) error
	Add(queryID string, n *node.Identity, enrolledAt, expires time.Time)
	EndStanding(ctx context.Context, queryID string) error
}

// EnrollmentStore knows who enrolled, and who was asked.
type EnrollmentStore interface {
	// StandEnrollment keeps since when an EnrollmentQuery is served, unless that is
	// known, and returns it.
	StandEnrollment(ctx context.Context, liveID, name string, since time.Time) (time.Time, error)
	// EndEnrollment forgets that one is served.
	EndEnrollment(ctx context.Context, liveID string) error
	// StandingEnrollments returns those that are served, by live query.
	StandingEnrollments(ctx context.Context) (map[string]string, error)
	// EnrolledSince returns when each node enrolled last, of those that did at or
	// after a time.
	EnrolledSince(ctx context.Context, since time.Time) (map[string]time.Time, error)
	// EnrolmentsAsked returns, for each node that joined a standing query, the
	// enrolment that it was asked for last.
	EnrolmentsAsked(ctx context.Context, liveID string) (map[string]time.Time, error)
}

// EnrollmentOptions are what Enrollments need. All are required.
type EnrollmentOptions struct {
	Store    EnrollmentStore
	Live     Standing
	Registry Registry
	Catalog  *resource.Catalog
	Policy   *policy.Engine // the shipped one
	Log      *slog.Logger
	Now      func() time.Time
}

// Enrollments asks nodes that enrolled what EnrollmentQueries say. Safe for
// concurrent use.
type Enrollments struct {
	EnrollmentOptions

	wake     chan struct{}
	standing atomic.Pointer[map[string]time.Time] // live queries that stand, and since when they are served

	mu      sync.Mutex        // held while the standing ones are brought to what is served
	refused map[string]string // why live policies refuse some, by live query
}

// NewEnrollments returns Enrollments that ask nothing before Sync.
func NewEnrollments(o EnrollmentOptions) *Enrollments {
	e := &Enrollments{EnrollmentOptions: o, wake: make(chan struct{}, 1)}
	e.standing.Store(&map[string]time.Time{})
	return e
}

// Enrolled lets a node that enrolled right now join what it is to be asked. It is
// called before the node hears that it enrolled, so that its first poll has it;
// it looks at memory alone, and costs a microsecond for each query.
func (e *Enrollments) Enrolled(n *node.Identity, at time.Time) {
	if n == nil || n.Quarantined || e.safe(n) {
		return
	}
	standing := *e.standing.Load()
	for _, q := range e.Catalog.Snapshot(n).Enrollments() {
		if _, ok := standing[q.ID]; ok && q.Means(n) {
			e.Live.Add(q.ID, n, at, at.Add(q.ExpiresAfter()))
		}
	}
}

func (e *Enrollments) safe(n *node.Identity) bool {
	safe := e.Catalog.Plan().Safe
	return safe != nil && safe(n)
}

// Changed makes Run look at what is served.
func (e *Enrollments) Changed() {
	select {
	case e.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// How often what stands is brought to what is served without a change, for nodes
// that were given a tag after they enrolled, and after a failure.
const (
	sweepEvery = time.Minute
	retryAfter = 5 * time.Second
)

// Run keeps what is asked at what is served until ctx ends.
func (e *Enrollments) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
		}
		next := sweepEvery
		if err := e.Sync(ctx); err != nil && ctx.Err() == nil {
			e.Log.WarnContext(ctx, "enrollment queries are not what is served; retrying", "error", err)
			next = retryAfter
		}
		timer.Reset(next)
	}
}

// Sync makes what stands what is served, and lets nodes join that enrolled and
// were not asked: those whose server was killed before it kept that they were to
// be asked, and those that got a tag since.
func (e *Enrollments) Sync(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	served := map[string]*resource.Enrollment{}
	plan := e.Catalog.Plan()
	for _, s := range []*resource.Snapshot{plan.Base, plan.Next} {
		if s == nil {
			continue
		}
		for _, q := range s.Enrollments() {
			served[q.ID] = q
		}
	}
	tiers, err := e.judge(ctx, served)
	if err != nil {
		return err
	}
	if err := e.end(ctx, served); err != nil {
		return err
	}
	standing := map[string]time.Time{}
	for id, q := range served {
		since, err := e.stand(ctx, q, tiers[id])
		if err != nil {
			return err
		}
		standing[id] = since
	}
	e.standing.Store(&standing)
	for id, since := range standing {
		if err := e.sweep(ctx, id, served[id], since); err != nil {
			return err
		}
	}
	return nil
}

// judge takes out what the live policies refuse, and returns the tiers of the
// others.
func (e *Enrollments) judge(ctx context.Context, served map[string]*resource.Enrollment) (map[string]policy.Tier, error) {
	set := e.Catalog.Plan().Newest().Set()
	engine, err := e.Policy.With(set.Rules(e.Now()))
	if err != nil {
		return nil, err
	}
	defer engine.Close() //nolint:errcheck // it holds memory only
	tiers, no := map[string]policy.Tier{}, map[string]string{}
	for id, q := range served {
		v := engine.Query(policy.Query{SQL: q.SQL, Use: policy.Enrollment})
		if tiers[id] = v.Tier; !v.Provable() {
			continue // it was when it was applied; agents refuse what they do not know
		}
		if no[id] = refused(set, live.Enrollment, v); no[id] == "" {
			delete(no, id)
			continue
		}
		delete(served, id)
		if e.refused[id] != no[id] {
			e.Log.WarnContext(ctx, "an enrollment query is not asked", "name", q.Name, "why", no[id])
		}
	}
	e.refused = no
	return tiers, nil
}

// end ends what is served no more.
func (e *Enrollments) end(ctx context.Context, served map[string]*resource.Enrollment) error {
	kept, err := e.Store.StandingEnrollments(ctx)
	if err != nil {
		return err
	}
	left := maps.Clone(*e.standing.Load())
	for id := range kept {
		if served[id] != nil {
			continue
		}
		delete(left, id)
		e.standing.Store(&left) // nobody joins from here on
		if err := e.Live.EndStanding(ctx, id); err != nil {
			return err
		}
		if err := e.Store.EndEnrollment(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// createdBy is who asks what a resource asks; the change that made it says which
// person did.
const createdBy = "enrollment"

func (e *Enrollments) stand(ctx context.Context, q *resource.Enrollment, tier policy.Tier) (time.Time, error) {
	since, err := e.Store.StandEnrollment(ctx, q.ID, q.Name, e.Now())
	if err != nil {
		return since, err
	}
	return since, e.Live.Stand(ctx, live.Query{
		ID: q.ID, Kind: live.Enrollment, Source: q.Name, SQL: q.SQL, Tier: int(tier), CreatedBy: createdBy, Standing: true,
		Selector: node.Selector{All: q.Selector == "", Where: q.Selector},
	})
}

// sweep lets nodes join that a query means, that enrolled since it is served, and
// that were not asked for that enrolment.
func (e *Enrollments) sweep(ctx context.Context, id string, q *resource.Enrollment, since time.Time) error {
	now := e.Now()
	from, until := since, func(at time.Time) time.Time { return at.Add(q.ExpiresAfter()) }
	if q.Existing {
		from = time.Time{}
		until = func(at time.Time) time.Time {
			if at.Before(since) {
				at = since
			}
			return at.Add(q.ExpiresAfter())
		}
	} else if oldest := now.Add(-q.ExpiresAfter()); oldest.After(from) {
		from = oldest // whoever enrolled before is not asked any more
	}
	enrolled, err := e.Store.EnrolledSince(ctx, from)
	if err != nil || len(enrolled) == 0 {
		return err
	}
	asked, err := e.Store.EnrolmentsAsked(ctx, id)
	if err != nil {
		return err
	}
	for nodeID, at := range enrolled {
		n := e.Registry.Lookup(nodeID)
		if was, ok := asked[nodeID]; ok && !at.After(was) || n == nil || n.Quarantined || e.safe(n) || !now.Before(until(at)) {
			continue
		}
		if own := e.own(n, id); own != nil && own.Means(n) {
			e.Live.Add(id, n, at, until(at))
		}
	}
	return nil
}

// own returns the query as the node's own revision has it; nil without.
func (e *Enrollments) own(n *node.Identity, id string) *resource.Enrollment {
	for _, q := range e.Catalog.Snapshot(n).Enrollments() {
		if q.ID == id {
			return q
		}
	}
	return nil
}
