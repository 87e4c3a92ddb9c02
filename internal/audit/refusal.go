package audit

import (
	"fmt"
	"sync"
	"time"
)

// Bounds of refusals: anybody can make them, and must not fill the disk.
const (
	refusalWindow = time.Minute
	// maxRefusals is how many different ones of a session are kept within a
	// window, and of all who have none together.
	maxRefusals = 60
	// maxSessions bounds how many sessions are told apart within a window.
	maxSessions = 256
)

// refusals decides which refusals are kept. The first of its kind within a
// minute is; how many more there were is kept as one entry when the minute is
// over. A process that is killed forgets a minute's counts. The zero value is
// ready.
type refusals struct {
	mu       sync.Mutex
	sessions map[string]*refused
}

// refused is what was refused to one session since its first refusal.
type refused struct {
	since  time.Time
	counts map[refusal]*count
	others int64 // of kinds beyond maxRefusals
}

// refusal is what makes two refusals the same.
type refusal struct{ actor, address, action, target, reason string }

type count struct {
	first Entry
	more  int64 // after the first
}

// admit reports whether a refusal is to be kept, else it was counted.
func (r *refusals) admit(e Entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.of(e)
	kind := refusal{e.Actor, e.Address, e.Action, e.Target, e.Reason}
	if c := of.counts[kind]; c != nil {
		c.more++
		return false
	}
	if len(of.counts) >= maxRefusals {
		of.others++
		return false
	}
	of.counts[kind] = &count{first: e}
	return true
}

func (r *refusals) of(e Entry) *refused {
	if r.sessions == nil {
		r.sessions = map[string]*refused{}
	}
	name := e.Session
	if r.sessions[name] == nil && len(r.sessions) >= maxSessions {
		name = "" // as if they had none
	}
	if r.sessions[name] == nil {
		r.sessions[name] = &refused{since: e.Time, counts: map[refusal]*count{}}
	}
	return r.sessions[name]
}

// since takes the counts that began at or before a time.
func (r *refusals) since(before time.Time) []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var entries []Entry
	for name, of := range r.sessions {
		if of.since.After(before) {
			continue
		}
		delete(r.sessions, name)
		for _, c := range of.counts {
			if c.more > 0 {
				e := c.first
				e.ContentHash = ""
				e.Detail = fmt.Sprintf(`{"repeated":%d,"since":%q}`, c.more, of.since.Format(time.RFC3339))
				entries = append(entries, e)
			}
		}
		if of.others > 0 {
			entries = append(entries, Entry{
				Actor: "system", Session: name, Action: "audit.refusals", Outcome: Refused,
				Reason: fmt.Sprintf("more than %d different refusals within %s", maxRefusals, refusalWindow),
				Detail: fmt.Sprintf(`{"refusals":%d,"since":%q}`, of.others, of.since.Format(time.RFC3339)),
			})
		}
	}
	return entries
}
