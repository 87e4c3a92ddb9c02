package alert

import (
	"context"
	"time"
)

// Key is what one alert at a time is open for.
type Key struct{ Rule, Key string }

// Wanted says which alerts a change looks at.
type Wanted struct {
	Keys []Key    // of the current alerts
	IDs  []string // of alerts
	// Rules are those whose floods are looked at.
	Rules []string
}

// Current is what was wanted, as it is within the transaction.
type Current struct {
	Alerts map[Key]*Alert // current ones
	ByID   map[string]*Alert
	Floods map[string]*Flood
}

// Change is what a transaction keeps.
type Change struct {
	Alerts        []*Alert // changed or new, in the order in which they are kept
	Samples       []SampleOf
	Entries       []Entry        // without Seq
	Notifications []Notification // without Seq; DueAt is the latest time
	Floods        []*Flood
}

// SampleOf is a sample of an alert.
type SampleOf struct {
	AlertID string
	Sample
}

// Flood counts the alerts that a rule opened lately.
type Flood struct {
	Rule       string
	Since      time.Time
	Opened     int
	Suppressed int64
	// Event and EventAt are the mark of the newest firing that opened nothing.
	Event   string
	EventAt time.Time
}

// Store keeps alerts.
type Store interface {
	// ChangeAlerts runs decide on what is wanted and keeps its change, in one
	// transaction, durably. No two run at the same time. It may run decide again, on
	// other alerts, when the database undid the first; an error of decide undoes all.
	// A notification joins those of its group that wait: it is due with them.
	ChangeAlerts(ctx context.Context, w Wanted, decide func(*Current) (*Change, error)) error
	// DueAlerts returns ids of alerts that resolve by themselves by a time.
	DueAlerts(ctx context.Context, now time.Time, limit int) ([]string, error)
	// PruneAlerts drops alerts that were resolved before a time, with all about them,
	// and delivered notifications of others; it reports whether there is more to drop.
	PruneAlerts(ctx context.Context, before time.Time) (more bool, err error)
}

// SilenceStore keeps silences.
type SilenceStore interface {
	// CreateSilence keeps one; Busy if MaxSilences hold or will.
	CreateSilence(ctx context.Context, s Silence) error
	// EndSilence ends one that holds or will, and lets go what it held; NotFound
	// without one.
	EndSilence(ctx context.Context, id, by string, now time.Time) (Silence, error)
	// Silences returns those that end after a time, the last made first.
	Silences(ctx context.Context, after time.Time) ([]Silence, error)
}

// Outbox keeps what notifiers are to be told.
type Outbox interface {
	// DueNotifications returns what a notifier is to be told by a time, the first due
	// first, and when the next is due; zero without one.
	DueNotifications(ctx context.Context, notifier string, now time.Time, limit int) (due []Notification, next time.Time, err error)
	// SettleNotifications keeps what became of attempts, in one transaction.
	SettleNotifications(ctx context.Context, list []Outcome) error
	// AbandonNotifications gives up what waits for notifiers that are not there, and
	// returns for whom.
	AbandonNotifications(ctx context.Context, known []string, now time.Time) (names []string, err error)
	// Backlogs returns how the outboxes stand, by notifier.
	Backlogs(ctx context.Context) ([]Backlog, error)
}
