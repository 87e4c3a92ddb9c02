package alert

import (
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Silence keeps alerts that fit from being told for a time. They open all the
// same; what is open when it ends is told then.
type Silence struct {
	ID        string
	Match     []string // conditions, all of which must hold; see Matcher
	Comment   string
	CreatedBy string
	CreatedAt time.Time
	StartsAt  time.Time
	ExpiresAt time.Time
	EndedBy   string // who ended it early; "" if nobody did
}

// Limits of silences.
const (
	// maxSilence is long enough for a project; what is to be silent for ever is to
	// be taken out of the rule.
	maxSilence = 90 * 24 * time.Hour
	// MaxSilences at a time: each is looked at for every notification.
	MaxSilences = 1000
	maxComment  = 2 << 10
)

// Active reports whether it holds at a time.
func (s Silence) Active(now time.Time) bool {
	return !now.Before(s.StartsAt) && now.Before(s.ExpiresAt)
}

// Check completes a new silence, or says what is wrong with it.
func (s *Silence) Check(now time.Time) error {
	list, err := ParseMatchers("match", s.Match)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errs.Field("match", "is empty; say which alerts, as rule = ssh-* or severity <= low")
	}
	if s.Comment = Text(s.Comment, maxComment); strings.TrimSpace(s.Comment) == "" {
		return errs.Field("comment", "is missing; say why, people will wonder")
	}
	if s.StartsAt.IsZero() || s.StartsAt.Before(now) {
		s.StartsAt = now
	}
	switch {
	case s.ExpiresAt.IsZero():
		return errs.Field("expires", "is missing; say when it ends, as 2h")
	case !s.ExpiresAt.After(s.StartsAt):
		return errs.Field("expires", "is not after its begin")
	case s.ExpiresAt.Sub(s.StartsAt) > maxSilence:
		return errs.Field("expires", "is more than %d days after its begin; change the rule instead", int(maxSilence.Hours()/24)) //nolint:mnd // hours of a day
	}
	for i := range list {
		s.Match[i] = list[i].String()
	}
	return nil
}

// silencing is a silence that is ready to be asked.
type silencing struct {
	Silence
	match []Matcher
}

// Silences are those that hold, ready to be asked.
type Silences []silencing

// NewSilences reads silences; one that cannot be read silences nothing.
func NewSilences(list []Silence) Silences {
	out := make(Silences, 0, len(list))
	for _, s := range list {
		if m, err := ParseMatchers("match", s.Match); err == nil && len(m) > 0 {
			out = append(out, silencing{s, m})
		}
	}
	return out
}

// Of returns the silence that holds of an alert the longest; nil without one.
func (l Silences) Of(a *Alert, now time.Time) *Silence {
	var found *Silence
	for i := range l {
		s := &l[i]
		if s.Active(now) && Matches(s.match, a) && (found == nil || s.ExpiresAt.After(found.ExpiresAt)) {
			found = &s.Silence
		}
	}
	return found
}
