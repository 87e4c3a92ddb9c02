package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Notification is one thing that a notifier is to be told, or was.
type Notification struct {
	Seq      int64
	Notifier string
	Group    string
	AlertID  string
	Rule     string
	Action   Action
	State    Delivery
	DueAt    time.Time
	Silence  string // id of the one that holds it; "" for none
	Attempts int    // that failed
	Error    string // of the last attempt, for people
	Span

	CreatedAt time.Time
	TriedAt   time.Time // first attempt that failed

	// Told says that the notifier was told of the alert before.
	Told    bool
	Alert   Alert           // as it is now
	Columns json.RawMessage // of its newest firing; nil if it has none
}

// Span is how long one notification took; zero for what is not known.
type Span struct {
	EventTime, Received, Matched, Delivered time.Time
}

// Delivery is what became of a notification.
type Delivery string

// The states of notifications.
const (
	Waiting   Delivery = "waiting"
	Delivered Delivery = "delivered"
	Dead      Delivery = "dead" // given up; a person can have it tried again
)

// Outcome is what became of an attempt.
type Outcome struct {
	Seq   int64
	State Delivery // Waiting to try again, or to hold; "" if there is nothing to tell
	At    time.Time
	Due   time.Time // when it is tried again
	// Silence holds it; then it was no attempt.
	Silence string
	Error   string
	Failed  bool
	// Remind is when the notifier is told again; zero for never.
	Remind time.Time
}

// Message is what a notifier is told at once.
type Message struct {
	// ID is the same when the same is told again.
	ID       string
	Notifier string
	Items    []Item // at least one
	More     int    // alerts of the group that follow in the next message
	Test     bool
	SentAt   time.Time
}

// Item is one alert of a message.
type Item struct {
	ID      int64 // of the notification: the same when it is told again
	Action  Action
	Alert   Alert
	Columns json.RawMessage // of the event of its newest firing, an object; nil without
}

// maxItems of a message: mails and chats show no more.
const maxItems = 50

// messageID names a message by what is in it.
func messageID(notifier string, items []Item) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s", notifier) // a hash never fails
	for _, i := range items {
		_, _ = fmt.Fprintf(h, "\x00%d", i.ID)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// SendError is why a notifier was not told.
type SendError struct {
	// Refused says that the other side will not take this message however often it
	// comes.
	Refused bool
	// After is how long the other side asks to be left alone; 0 if it does not say.
	After time.Duration
	Err   error
}

// Error returns the cause.
func (e *SendError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Backlog is how a notifier's outbox stands.
type Backlog struct {
	Notifier string
	Waiting  int
	Dead     int
	Oldest   time.Time // when the oldest that waits was due; zero without one
}

func tooMany(field string) error {
	return errs.Field(field, "are more than %d", MaxMatchers)
}

// NotificationFilter says which notifications are listed; what is empty lets all
// pass.
type NotificationFilter struct {
	State    Delivery
	Notifier string
	AlertID  string
	Before   int64 // those with lower numbers; 0 for the newest
	Limit    int
}
