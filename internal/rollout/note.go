package rollout

import (
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
)

// note is one batch on its way into a record.
type note struct {
	m      *Monitor
	r      *record
	at     uint32 // when it arrived
	p      *fastjson.Parser
	texts  map[string]string // hashes of the node's queries, by name
	last   int               // index of the usage that the event before counted for
	priced bool              // a row of the schedule was in it
}

// result takes in a row.
func (n *note) result(e *event.Event) {
	if len(e.Columns) <= len("{}") {
		return // a snapshot without rows
	}
	c := &n.r.counts
	c.bytes += uint64(len(e.Columns))
	if e.Action == event.Added && e.Counter == 0 { // osquery counts a query's results from 0
		c.first++
	} else {
		c.rows++
	}
	if u := n.usage(e.Query); u != nil {
		u.rows++
	}
	switch e.Query {
	case n.m.health.worker, n.m.health.agent:
		if e.Action != event.Removed {
			n.info(e)
		}
	case n.m.health.schedule:
		if e.Action == event.Snapshot {
			n.schedule(e)
		}
	}
}

// usage returns the entry of a query, nil if the node has told of none. Rows of
// one query come together.
func (n *note) usage(name string) *usage {
	u := n.r.usages
	if n.last < len(u) && u[n.last].query.key.name == name {
		return &u[n.last]
	}
	for i := range u {
		if u[i].query.key.name == name {
			n.last = i
			return &u[i]
		}
	}
	return nil
}

// reorder is how long lines may come out of their order, in seconds: agents send
// those of one second in the order of their text, and buffered ones late. A node
// whose clock was set back is believed again after it.
const reorder = 15 * 60

// stale reports whether a row of the node's time t is older than another that
// arrived lately.
func stale(t, lastTime, arrived, lastArrived uint32) bool {
	return t < lastTime && arrived < lastArrived+reorder
}

// info takes in a row of osquery_info.
func (n *note) info(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	r, t := n.r, second(e.Time)
	if err != nil || stale(t, r.infoTime, n.at, r.infoAt) {
		return
	}
	pid, err1 := number32(v, "pid")
	start, err2 := number32(v, "start_time")
	watcher, err3 := number32(v, "watcher")
	if err1 != nil || err2 != nil || err3 != nil {
		return
	}
	if r.infoAt != 0 && (pid != r.pid || start != r.start) {
		kind := daemonRestart
		if watcher == r.watcher && watcher > 0 { // -1 is without a watchdog
			kind = workerRestart
		}
		n.incident(kind, "")
	}
	if t < r.infoTime { // its clock was set back
		r.hashSince = min(r.hashSince, t)
	}
	r.infoTime, r.infoAt, r.pid, r.start, r.watcher = t, n.at, pid, start, watcher
	hash := v.GetStringBytes("config_hash")
	if len(hash) == 0 || len(hash) > maxHash {
		return // before its first config
	}
	if r.hashAt == 0 || r.hash.Value() != string(hash) {
		r.hash, r.hashSince = unique.Make(string(hash)), t
	}
	r.hashAt = n.at
}

// schedule takes in a row of osquery_schedule. The rows of one snapshot may be
// in two batches.
func (n *note) schedule(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	r, t := n.r, second(e.Time)
	if err != nil || stale(t, r.snapshot, n.at, r.snapshotAt) {
		return
	}
	name := v.GetStringBytes("name")
	if len(name) == 0 || len(name) > maxName {
		return
	}
	if t != r.snapshot {
		n.m.drop(r) // what the last snapshot did not have
		r.snapshots++
	}
	r.snapshot, r.snapshotAt, n.priced = t, n.at, true
	u := n.scheduled(string(name))
	if u == nil {
		return
	}
	u.seen = t
	u.interval = uint32(min(number(v, "interval"), 1<<31)) //nolint:gosec // in range
	u.measure(number(v, "executions"), number(v, "user_time")+number(v, "system_time"), number(v, "output_size"))
	denied := string(v.GetStringBytes("denylisted")) == "1"
	if denied && !u.denied && r.snapshots > 1 { // of the first nobody knows since when
		n.incident(queryDenied, string(name))
	}
	u.denied = denied
}

// scheduled returns the entry of a query, and makes it; nil if there are too
// many.
func (n *note) scheduled(name string) *usage {
	key := queryKey{name, n.texts[name]}
	u := n.usage(name)
	switch {
	case u == nil && len(n.r.usages) >= maxUsages:
		return nil
	case u == nil:
		n.r.usages = append(n.r.usages, usage{query: n.m.hold(key)})
		return &n.r.usages[len(n.r.usages)-1]
	case key.hash == "" || key == u.query.key: // the text is not known, or the same
		return u
	}
	had := *u
	if u.query.key.hash != "" { // another text under the same name: osquery counts anew
		*u = usage{denied: had.denied}
	}
	u.query = n.m.hold(key)
	n.m.release(had.query)
	return u
}

// status takes in a line of the agent's own log.
func (n *note) status(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	if err != nil {
		return
	}
	if number(v, "severity") >= 1 {
		n.r.counts.lines++
	}
	message := string(v.GetStringBytes("message"))
	if len(message) > osquery.MaxSaid {
		message = message[:osquery.MaxSaid] // a refused config is quoted whole
	}
	switch {
	case strings.HasPrefix(message, osquery.SayFailed):
		n.incident(queryFailed, bounded(message[len(osquery.SayFailed):]))
	case strings.HasPrefix(message, osquery.SayRefused):
		n.incident(configRefused, "")
	case strings.HasPrefix(message, osquery.SayPurged):
		n.incident(linesPurged, "")
	default:
		if _, name, ok := strings.Cut(message, osquery.SayDenied); ok {
			n.denied(bounded(name))
		}
	}
}

func bounded(name string) string {
	return strings.ToValidUTF8(name[:min(len(name), maxName)], "")
}

// denied notes that a query was skipped, which a worker says of old ones too.
func (n *note) denied(name string) {
	u := n.usage(name)
	if u != nil && u.denied {
		return
	}
	if u != nil {
		u.denied = true
	}
	n.incident(queryDenied, name)
}

func (n *note) incident(kind incidentKind, what string) {
	i := &n.r.incidents
	if len(*i) >= maxIncidents {
		*i = slices.Delete(*i, 0, 1)
	}
	*i = append(*i, incident{n.at, kind, strings.Clone(what)})
}

// number32 reads a column that holds a number of 32 bits.
func number32(v *fastjson.Value, column string) (int32, error) {
	n, err := strconv.ParseInt(string(v.GetStringBytes(column)), 10, 32)
	return int32(n), err
}

// number reads a column that holds a count; what is none is 0.
func number(v *fastjson.Value, column string) int64 {
	n, _ := strconv.ParseInt(string(v.GetStringBytes(column)), 10, 64)
	return max(0, min(n, 1<<53)) // what a float64 holds
}
