package agenttest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Schedules reads configs, each only once, because a fleet has few. The zero
// value is ready. It is safe for concurrent use.
type Schedules struct {
	mu     sync.Mutex
	byHash map[string]*schedule
}

// maxSchedules bounds what is remembered; a test that serves more configs reads
// some again.
const maxSchedules = 1000

// schedule is the queries of a config.
type schedule struct {
	hash    string // config_hash
	queries []scheduledSQL
}

// scheduledSQL is one query.
type scheduledSQL struct {
	name, sqlHash string
	interval      int64 // seconds
	kind          answerKind
	signal        Signal // "" of a good one
}

// answerKind is what a worker knows to answer.
type answerKind uint8

const (
	other answerKind = iota
	infoDifference
	infoSnapshot
	costs
)

// healthKinds are the queries of the pack that rollouts are judged by.
func healthKinds() map[string]answerKind {
	return map[string]answerKind{
		"pack_muster-health_worker": infoDifference, "pack_muster-health_agent": infoSnapshot, "pack_muster-health_schedule": costs,
	}
}

// asks reports whether a query asks for a signal.
func (s *schedule) asks(signal Signal) bool {
	return slices.ContainsFunc(s.queries, func(q scheduledSQL) bool { return q.signal == signal })
}

// read returns the schedule of a config, the same for the same text.
func (s *Schedules) read(body []byte) (*schedule, error) {
	hash := configHash(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.byHash[hash]; had != nil {
		return had, nil
	}
	next, err := parseSchedule(body)
	if err != nil {
		return nil, err
	}
	if s.byHash == nil || len(s.byHash) >= maxSchedules {
		s.byHash = map[string]*schedule{}
	}
	next.hash, s.byHash[hash] = hash, next
	return next, nil
}

// configQuery is what it reads of a query. Platforms and discovery are not
// obeyed: every node runs every query.
type configQuery struct {
	Query    string `json:"query"`
	Interval int64  `json:"interval"`
}

func parseSchedule(body []byte) (*schedule, error) {
	var config struct {
		Schedule map[string]configQuery `json:"schedule"`
		Packs    map[string]struct {
			Queries map[string]configQuery `json:"queries"`
		} `json:"packs"`
	}
	if err := json.Unmarshal(body, &config); err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	all := config.Schedule
	if all == nil {
		all = map[string]configQuery{}
	}
	for pack, p := range config.Packs {
		for name, q := range p.Queries {
			all["pack_"+pack+"_"+name] = q
		}
	}
	s, kinds := &schedule{}, healthKinds()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		q := all[name]
		if q.Interval < 1 {
			q.Interval = 3600 // osquery's schedule_default_interval
		}
		sum := sha256.Sum256([]byte(q.Query))
		s.queries = append(s.queries, scheduledSQL{
			name: name, sqlHash: hex.EncodeToString(sum[:]), interval: q.Interval, kind: kinds[name], signal: signalOf(q.Query),
		})
	}
	return s, nil
}

// signalOf returns what a text asks for.
func signalOf(sql string) Signal {
	for _, s := range Signals() {
		if strings.Contains(sql, "simulate:"+string(s)) {
			return s
		}
	}
	return ""
}
