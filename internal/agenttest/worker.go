package agenttest

import (
	"crypto/sha1" //nolint:gosec // osquery's config_hash is SHA-1
	"encoding/hex"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// Signal is how a simulated agent shows that a query of its config is bad. SQL
// asks for one by a comment, as in
//
//	SELECT 1 /* simulate:crash */
type Signal string

// The signals.
const (
	Crash     Signal = "crash"     // each run kills the worker
	Denied    Signal = "denylist"  // the watchdog takes the query off the schedule
	Errors    Signal = "errors"    // each run logs errors
	Silence   Signal = "silence"   // nothing is logged any more
	Volume    Signal = "volume"    // each run logs many rows
	CPU       Signal = "cpu"       // each run takes seconds of CPU time
	WrongHash Signal = "wronghash" // the agent runs another config than it was served
	Refused   Signal = "refuse"    // the config cannot be parsed: the schedule is gone
)

// Signals returns all signals.
func Signals() []Signal {
	return []Signal{Crash, Denied, Errors, Silence, Volume, CPU, WrongHash, Refused}
}

// What bad queries do at each run.
const (
	badRows   = 100
	badErrors = 5
	badMillis = 4000
)

// Worker runs a simulated agent's config: it answers the queries of the pack
// muster-health as an agent would, and does what bad queries ask for. Of other
// queries it knows only how often they ran. It is safe for concurrent use.
type Worker struct {
	host       Host
	identifier string
	schedules  *Schedules

	mu      sync.Mutex // guards all below
	config  *schedule  // nil before the first
	hash    string     // config_hash
	pid     uint64
	start   time.Time
	told    string    // the row of osquery_info that was logged last
	started bool      // the queries of the first config ran once
	counter int64     // of differential rows
	looked  time.Time // the last Run
	tracks  []track   // of the config's queries, in their order
}

// track is what became of one query.
type track struct {
	since  int64 // unix seconds when it was scheduled first
	denied bool
	rows   int64 // counter of its rows
}

// NewWorker returns a worker without a config. schedules are shared by many.
func NewWorker(h Host, identifier string, schedules *Schedules) *Worker {
	return &Worker{host: h, identifier: identifier, schedules: schedules, pid: 1000 + h.seed%9000}
}

// Configure takes the body of an answer to config, as it came.
func (w *Worker) Configure(body []byte, now time.Time) error {
	next, err := w.schedules.read(body)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.config == next {
		return nil
	}
	tracks := make([]track, len(next.queries))
	for i, q := range next.queries {
		tracks[i] = track{since: now.Unix()}
		for j := range w.tracks {
			if had := w.config.queries[j]; had.name == q.name && had.sqlHash == q.sqlHash {
				tracks[i] = w.tracks[j] // osquery keeps its counters
			}
		}
	}
	if w.config == nil {
		w.start, w.looked = now, now.Add(-time.Second)
	}
	w.config, w.tracks, w.hash = next, tracks, next.hash
	if next.asks(WrongHash) {
		w.hash = hex.EncodeToString([]byte("another config here."))
	}
	return nil
}

// Hash returns the config_hash of the config that it runs, "" without one.
func (w *Worker) Hash() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hash
}

// Run returns the lines that the agent logs between the last call and now:
// results, and lines of its own log.
func (w *Worker) Run(now time.Time) (results, statuses []json.RawMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.looked
	if w.config == nil || !now.After(from) {
		return nil, nil
	}
	w.looked = now
	if w.config.asks(Silence) {
		return nil, nil
	}
	if w.config.asks(Refused) { // its hash is remembered, its schedule is gone
		if w.told != w.hash {
			w.told = w.hash
			statuses = append(statuses, w.status(now, 2, "updateSource failed to parse config, of source: tls_plugin and content: {}"))
		}
		return nil, statuses
	}
	for i := range w.config.queries {
		q := &w.config.queries[i]
		if w.due(q, from, now) {
			r, s := w.execute(q, &w.tracks[i], now)
			results, statuses = append(results, r...), append(statuses, s...)
		}
	}
	w.started = true
	return results, statuses
}

// due reports whether a query runs between two times: at multiples of its
// interval, which varies by a tenth from node to node.
func (w *Worker) due(q *scheduledSQL, from, now time.Time) bool {
	splayed := w.splayed(q)
	return now.Unix()/splayed > from.Unix()/splayed || !w.started && q.kind != other
}

func (w *Worker) splayed(q *scheduledSQL) int64 {
	if q.interval < 10 {
		return max(q.interval, 1)
	}
	span := q.interval/10*2 + 1
	return q.interval - q.interval/10 + int64(mix(w.host.seed^uint64(q.interval))%uint64(span)) //nolint:gosec // small numbers
}

// execute runs one query.
func (w *Worker) execute(q *scheduledSQL, t *track, now time.Time) (results, statuses []json.RawMessage) {
	switch q.kind {
	case infoDifference:
		if row := w.info(); row != w.told {
			w.told = row
			results = append(results, w.difference(q.name, w.counter, row, now))
			w.counter++
		}
	case infoSnapshot:
		results = append(results, w.snapshot(q.name, w.info(), now))
	case costs:
		results = append(results, w.snapshot(q.name, w.costs(now), now))
	case other:
	}
	switch q.signal {
	case Crash:
		w.pid, w.start = w.pid+1, now
		statuses = append(statuses, w.status(now, 1, "Scheduled query may have failed: "+q.name))
	case Denied:
		if !t.denied {
			t.denied = true
			statuses = append(statuses, w.status(now, 1, "The caller does not want denied queries, skipping denied scheduled query: "+q.name))
		}
	case Errors:
		for i := range badErrors {
			statuses = append(statuses, w.status(now, 2, "Error executing scheduled query "+q.name+": no such table: t"+strconv.Itoa(i)))
		}
	case Volume:
		t.rows++
		for i := range badRows {
			results = append(results, w.difference(q.name, t.rows, `"n":"`+strconv.Itoa(i)+`"`, now))
		}
	case Silence, CPU, WrongHash, Refused:
	}
	return results, statuses
}

// info is the columns of osquery_info that the health pack asks for.
func (w *Worker) info() string {
	return `"config_hash":"` + w.hash + `","instance_id":"` + uuid(mix(w.host.seed^7), mix(w.host.seed^8)) +
		`","pid":"` + strconv.FormatUint(w.pid, 10) + `","start_time":"` + strconv.FormatInt(w.start.Unix(), 10) +
		`","version":"` + w.host.Version + `","watcher":"` + strconv.FormatUint(700+w.host.seed%9000, 10) + `"`
}

// costs is the rows of osquery_schedule.
func (w *Worker) costs(now time.Time) string {
	var b []byte
	for i := range w.config.queries {
		q, t := &w.config.queries[i], &w.tracks[i]
		if i > 0 {
			b = append(b, "},{"...)
		}
		runs := uint64(max(0, now.Unix()/w.splayed(q)-t.since/w.splayed(q)))
		millis, denied := 2+mix(uint64(len(q.name)))%5, uint64(0)
		if q.signal == CPU {
			millis = badMillis
		}
		if t.denied {
			denied = 1
		}
		b = append(b, `"average_memory":"4096"`...)
		b = number(b, "denylisted", denied)
		b = number(b, "executions", runs)
		b = number(b, "interval", uint64(q.interval)) //nolint:gosec // not negative
		b = text(b, "name", q.name)
		b = number(b, "output_size", runs*400)
		b = number(b, "system_time", runs)
		b = number(b, "user_time", runs*millis)
		b = number(b, "wall_time_ms", runs*(millis+2))
	}
	return string(b)
}

// difference is an added row; columns are its members.
func (w *Worker) difference(query string, counter int64, columns string, now time.Time) json.RawMessage {
	line := append(appendHead(nil, query, w.identifier, counter, now), `"columns":{`...)
	return append(append(line, columns...), `},"action":"added"}`...)
}

// snapshot is a snapshot of rows, which are divided by "},{".
func (w *Worker) snapshot(query, rows string, now time.Time) json.RawMessage {
	line := append(appendHead(nil, query, w.identifier, 0, now), `"snapshot":[{`...)
	return append(append(line, rows...), `}],"action":"snapshot"}`...)
}

// status is a line of the agent's own log.
func (w *Worker) status(now time.Time, severity int, message string) json.RawMessage {
	now = now.UTC()
	line, _ := osquery.StatusLine{ // cannot fail: numbers and texts
		HostIdentifier: w.identifier, CalendarTime: now.Format(calendarTime), UnixTime: now.Unix(),
		Severity: severity, Filename: "config.cpp", Line: 363, Version: w.host.Version, Message: message,
	}.Encode()
	return line
}

// configHash is osquery_info.config_hash for a config from one source.
func configHash(body []byte) string {
	source := sha1.Sum(body)                               //nolint:gosec // see the import
	all := sha1.Sum([]byte(hex.EncodeToString(source[:]))) //nolint:gosec // see the import
	return hex.EncodeToString(all[:])
}
