package rule

import (
	"slices"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// Window is what a rule remembers of one key. Its times are those at which events
// were received, so that reading them again gives the same.
type Window struct {
	Rule string
	Key  string
	// Last is the place of the last event that was counted: what comes again after a
	// crash is before it, or is it.
	Last event.Position
	// Hits are the matches that count towards the threshold.
	Hits []Hit
	// Fired is when the rule last did something; zero for never.
	Fired time.Time
	// Open says that it was not resolved since.
	Open bool
	// Touched is when it last changed.
	Touched time.Time
}

// Hit is one match, or one distinct value.
type Hit struct {
	At    time.Time
	Value uint64 // hash of the distinct value; 0 without one
}

// Empty reports whether there is nothing to remember.
func (w *Window) Empty() bool { return len(w.Hits) == 0 && w.Fired.IsZero() && !w.Open }

// hit counts a match, and reports whether there are enough of them within a span.
// Then it begins anew.
func (w *Window) hit(h Hit, distinct bool, enough int, span time.Duration) bool {
	w.Hits = slices.DeleteFunc(w.Hits, func(old Hit) bool {
		return h.At.Sub(old.At) >= span || distinct && old.Value == h.Value
	})
	w.Hits = append(w.Hits, h)
	if len(w.Hits) < enough {
		return false
	}
	w.Hits = nil
	return true
}

// Limits of what is remembered.
const (
	// maxKeys bounds the windows of one rule, whose keys agents may choose.
	maxKeys = 10_000
	// maxHits bounds the hits of one rule: where many are counted, fewer keys are.
	maxHits = 500_000
	// maxLoaded bounds what is read at a start.
	maxLoaded = 500_000
)

// windowKey is where a window is.
type windowKey struct{ rule, key string }

// windows are all that is remembered. Not safe for concurrent use.
type windows struct {
	kept    map[string]map[string]*Window // by rule, by key
	evicted map[string]int64              // by rule
}

func newWindows() *windows {
	return &windows{kept: map[string]map[string]*Window{}, evicted: map[string]int64{}}
}

// get returns a copy of a window, to be put back; an empty one if there is none.
func (w *windows) get(k windowKey) Window {
	if had := w.kept[k.rule][k.key]; had != nil {
		c := *had
		c.Hits = slices.Clone(had.Hits)
		return c
	}
	return Window{Rule: k.rule, Key: k.key}
}

// put keeps windows; room is how many keys each rule of theirs may have. Of a
// rule that is full some of the others go, as chance has it: whatever chose what
// stays could be used by who makes up the keys. Those that went are returned,
// empty, to be removed from the store.
func (w *windows) put(changed []Window, room func(rule string) int) (gone []Window) {
	for _, c := range changed {
		keys := w.kept[c.Rule]
		if c.Empty() {
			delete(keys, c.Key)
			continue
		}
		if keys == nil {
			keys = map[string]*Window{}
			w.kept[c.Rule] = keys
		}
		keys[c.Key] = &c
		for key := range keys {
			if len(keys) <= room(c.Rule) {
				break
			}
			if key != c.Key {
				delete(keys, key)
				gone = append(gone, Window{Rule: c.Rule, Key: key})
				w.evicted[c.Rule]++
			}
		}
	}
	return gone
}

// expire removes windows that say nothing any more, and all of rules that are
// gone; horizon returns how long a rule remembers, false if it is gone.
func (w *windows) expire(now time.Time, horizon func(rule string) (time.Duration, bool)) (gone []Window) {
	for rule, keys := range w.kept {
		span, there := horizon(rule)
		for key, old := range keys {
			if !there || !old.Open && now.Sub(old.Touched) > span {
				delete(keys, key)
				gone = append(gone, Window{Rule: rule, Key: key})
			}
		}
		if len(keys) == 0 {
			delete(w.kept, rule)
		}
	}
	return gone
}
