package live

import (
	"context"
	"time"
)

// Store keeps live queries. Every method is one transaction.
type Store interface {
	QueryStore
	TargetStore
	StandingStore
}

// QueryStore keeps queries as a whole.
type QueryStore interface {
	// CreateLive keeps a new query with its targets.
	CreateLive(ctx context.Context, q Query, targets []Target) error
	// RunningLive returns the queries that have not ended, with their counts, and
	// those of their targets that are open, without rows.
	RunningLive(ctx context.Context) (map[string]Query, map[string][]Target, error)
	// AlterLive keeps phase, expiry, waves, why it is held, and approval of a query
	// that is in phase from; a Conflict if it is not.
	AlterLive(ctx context.Context, q Query, from Phase) error
	// EndLive keeps that a query ended: its open targets get the state open.
	// Ending one that ended changes nothing.
	EndLive(ctx context.Context, id string, phase Phase, open State, at time.Time) error
}

// TargetStore keeps what nodes took and answered.
type TargetStore interface {
	// MarkSent keeps that nodes took queries.
	MarkSent(ctx context.Context, sent []Delivery) error
	// Awaited returns, of the answers, those that were asked for and did not come
	// before, with Late and EnrolledAt, and their queries, whose counts may be
	// missing.
	Awaited(ctx context.Context, answers []Answer) ([]Answer, map[string]Query, error)
	// SaveAnswers keeps answers and returns those that were new, marked if late: a
	// node answers a query once, and only one that it was asked. A late answer is
	// kept, too.
	SaveAnswers(ctx context.Context, answers []Answer) ([]Answer, error)
}

// StandingStore keeps queries that nodes join one by one.
type StandingStore interface {
	// StandLive keeps a standing query, unless there is one of that id; one in
	// phase Done runs again. It returns what is kept, with its counts.
	StandLive(ctx context.Context, q Query) (Query, error)
	// AddTargets lets nodes join. It tells of each, in order, what became of it.
	AddTargets(ctx context.Context, joining []Joining) ([]Joined, error)
	// ExpireTargets gives the targets of a standing query whose time is over the
	// state Expired.
	ExpireTargets(ctx context.Context, id string, now time.Time) error
}

// Delivery says that a node took a query.
type Delivery struct {
	LiveID   string
	NodeID   string
	At       time.Time
	Attempts int
}

// Joining is a node that joins a standing query.
type Joining struct {
	LiveID string
	Target Target
}

// Joined says what became of a node that joins. It is asked if it was not for
// this enrolment or a later one; what it was before then, if anything, is gone.
type Joined struct {
	Asked bool
	Was   State // "" if it was never asked before
	Rows  int
	Bytes int64
}
