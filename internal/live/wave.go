package live

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// How a query reaches many nodes, unless asked otherwise. A text of tier 2 or
// more begins with fewer: what it does to one host it does to all. Both are so
// many that nobody waits for a wave who asks a fleet of a few hundred, or of
// thousands that answer.
const (
	firstLight    = 500
	firstHeavy    = 100
	maxBadPercent = 5
	// minBad is how many must go wrong at least: one mistyped host out of ten is
	// no reason to stop.
	minBad = 5
	// maxMessages bounds the different errors that are counted.
	maxMessages = 64
)

// orDefaults returns the waves of a query without zero fields.
func (w Waves) orDefaults(heavy bool) Waves {
	first := firstLight
	if heavy {
		first = firstHeavy
	}
	w.First, w.MaxBadPercent = cmp.Or(w.First, first), cmp.Or(w.MaxBadPercent, maxBadPercent)
	return w
}

// wave is the window in which a query to many nodes is delivered. In flight is
// who took it, has not answered and has a lease.
type wave struct {
	Waves

	good, bad int // nodes that are done with it, since it was resumed
	lapsed    int // of the bad, those that did not answer
	round     int // goes up when the query is resumed; see target.lapsedIn
	inFlight  int
	leases    []lease // the oldest first
	messages  map[string]int
}

type lease struct {
	of    *target
	began time.Time
}

// newWave returns the window of a query with that many nodes; nil if it needs
// none. Who took it before the server started is not in flight, and not bad if
// it does not answer: it could not reach the server.
func newWave(q Query) *wave {
	if q.Standing || q.Nodes() <= q.Waves.First {
		return nil
	}
	w := &wave{Waves: q.Waves, round: 1, messages: map[string]int{}}
	w.good = q.Counts[Answered] + q.Counts[Empty] + q.Counts[OverLimit] - w.Good
	w.bad = q.Counts[Failed] + q.Counts[Denylisted] - w.Bad
	return w
}

// full reports whether no node more may take the query now.
func (w *wave) full() bool { return w.inFlight >= w.First+max(w.good, 0) }

func (w *wave) took(t *target) {
	w.inFlight++
	t.flying = true
	w.leases = append(w.leases, lease{t, t.sentAt})
}

// noAnswer is the message of a node whose lease ended.
func noAnswer() string { return "no answer within " + Lease.String() }

// lapse ends the leases that are over.
func (w *wave) lapse(now time.Time) {
	for len(w.leases) > 0 {
		l := w.leases[0]
		if leased(l.began, now) {
			return
		}
		w.leases = w.leases[1:]
		t := l.of
		if !t.flying || !t.sentAt.Equal(l.began) {
			continue
		}
		t.flying = false
		w.inFlight--
		if t.lapsedIn != w.round && !now.Before(l.began) { // else the clock went back
			t.lapsedIn = w.round
			w.lapsed++
			w.bad++
			w.note(noAnswer())
		}
	}
}

// done takes in how a node answered.
func (w *wave) done(t *target, a Answer) {
	if t.flying {
		t.flying = false
		w.inFlight--
	}
	if t.lapsedIn == w.round {
		w.lapsed--
		w.bad--
		w.messages[noAnswer()]--
	}
	if a.State == Failed || a.State == Denylisted {
		w.bad++
		w.note(a.Message)
		return
	}
	w.good++
}

func (w *wave) note(message string) {
	if _, known := w.messages[message]; known || len(w.messages) < maxMessages {
		w.messages[message]++
	}
}

// most returns how many of those that finished may be bad. Of the first hundred
// nodes more than the limit may be so by chance, and this is asked after each
// one; three standard deviations (of a Poisson distribution) above the limit are not
// chance.
func (w *wave) most(finished int) float64 {
	limit := float64(finished) * float64(w.MaxBadPercent) / 100
	if w.MaxBadPercent >= 100 {
		return limit // never
	}
	return limit + 3*math.Sqrt(limit)
}

// alarm says why no node more should get the query; "" if nothing is wrong.
func (w *wave) alarm() string {
	finished := w.good + w.bad
	if w.bad < minBad || float64(w.bad) <= w.most(finished) {
		return ""
	}
	why := fmt.Sprintf("%d of %d nodes failed, refused it or did not answer (%.0f %%, the limit is %d %%)",
		w.bad, finished, 100*float64(w.bad)/float64(finished), w.MaxBadPercent)
	most, message := 0, ""
	for m, n := range w.messages {
		if m != "" && (n > most || n == most && m < message) {
			most, message = n, m
		}
	}
	if message == "" {
		return why
	}
	return why + "; most often: " + short(message)
}

// short returns a message as a line for people.
func short(message string) string {
	const longest = 200
	if r := []rune(message); len(r) > longest {
		return string(r[:longest]) + " …"
	}
	return message
}

// resume judges anew from here. Who did not answer yet is not kept as bad, as
// the store does not know of it.
func (w *wave) resume() {
	w.Good, w.Bad = w.Good+w.good, w.Bad+w.bad-w.lapsed
	w.good, w.bad, w.lapsed, w.messages = 0, 0, 0, map[string]int{}
	w.round++
}
