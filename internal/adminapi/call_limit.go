package adminapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

// Limits of the calls of one caller: a person in all sessions, or a token. A page of
// the UI makes some ten; what calls without a pause is held to a rate that leaves
// the server to others.
const (
	DefaultCallsPerMinute = 6000
	// maxCallers bounds how many callers are told apart; who was silent is forgotten.
	maxCallers = 4096
)

// callLimits counts calls by caller. Safe for concurrent use.
type callLimits struct {
	perMinute int
	now       func() time.Time

	mu      sync.Mutex
	callers map[string]*rate.Limiter
}

func newCallLimits(perMinute int, now func() time.Time) *callLimits {
	if perMinute == 0 {
		perMinute = DefaultCallsPerMinute
	}
	return &callLimits{perMinute: perMinute, now: now, callers: map[string]*rate.Limiter{}}
}

// callerOf says whose calls are counted together.
func callerOf(s account.Session) string {
	if s.Kind == account.ByToken {
		return "token " + s.ID
	}
	return "user " + s.UserName
}

// take counts a call, and tells the caller how many more there may be at once.
func (l *callLimits) take(h http.Header, s account.Session) error {
	now := l.now()
	limiter := l.of(callerOf(s), now)
	h.Set("RateLimit-Limit", strconv.Itoa(l.perMinute))
	ok := limiter.AllowN(now, 1)
	left := max(limiter.TokensAt(now), 0)
	h.Set("RateLimit-Remaining", strconv.Itoa(int(left)))
	if ok {
		return nil
	}
	wait := time.Duration((1 - left) / float64(limiter.Limit()) * float64(time.Second))
	return &errs.Error{Kind: errs.Limited, Message: "more calls than " + strconv.Itoa(l.perMinute) + " a minute; wait as Retry-After says", After: wait}
}

func (l *callLimits) of(caller string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.callers[caller]; found != nil {
		return found
	}
	if len(l.callers) >= maxCallers {
		for name, limiter := range l.callers {
			if limiter.TokensAt(now) >= float64(l.perMinute) { // nothing of it is owed
				delete(l.callers, name)
			}
		}
	}
	made := rate.NewLimiter(rate.Limit(float64(l.perMinute)/time.Minute.Seconds()), l.perMinute)
	l.callers[caller] = made
	return made
}
