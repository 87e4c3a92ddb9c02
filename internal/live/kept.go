package live

import (
	"encoding/json"
	"time"
)

// Kept is an answer as it was kept, with what events need to know of its query.
type Kept struct {
	Answer         Answer // with the rows that were kept
	HostIdentifier string
	Kind           Kind
	Source         string
}

// EventName is the query name under which the rows are found among events.
func (k Kept) EventName() string {
	if k.Kind == Person {
		return "live"
	}
	return string(k.Kind) + "/" + k.Source
}

// Decorations are those of the events: which live query it was, and of which
// enrolment, if that is why it was asked.
func (k Kept) Decorations() json.RawMessage {
	d := map[string]string{"live_id": k.Answer.LiveID}
	if at := k.Answer.EnrolledAt; !at.IsZero() {
		d["enrolled_at"] = at.UTC().Format(time.RFC3339Nano)
	}
	b, _ := json.Marshal(d) // cannot fail: texts
	return b
}
