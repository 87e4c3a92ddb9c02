package health

import (
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
)

// How long findings of what agents say last after it was said the last time.
const (
	// DenylistTime is how long osquery denylists a query (config/config.cpp).
	DenylistTime = 24 * time.Hour
	failedTime   = 24 * time.Hour
	lostTime     = time.Hour
	optionTime   = 24 * time.Hour // agents say it when they load a config
	refusedTime  = time.Hour
	loopWindow   = 15 * time.Minute
	loopRestarts = 3
)

// condition is what is known of a node. Times are Unix seconds, 0 for never.
type condition struct {
	results     int64            // when rows arrived last
	snapshots   map[string]int64 // when a query's snapshot arrived last, by its name on agents
	pid, start  int64
	watcher     int64
	restarts    []int64           // of the last minutes
	flags       map[string]string // of osquery, those of the watchdog
	online      time.Time         // since when it is known to be online
	judged      time.Time
	looked      time.Time // when its results were looked for
	mismatch    string    // config_hash that it should tell, and does not
	mismatching time.Time
}

// names of the health pack's queries on agents.
func workerQuery() string { return resource.AgentName(resource.HealthPack, "worker") }
func agentQuery() string  { return resource.AgentName(resource.HealthPack, "agent") }
func flagsQuery() string  { return resource.AgentName(resource.HealthPack, "flags") }

// noting is one batch on its way into a condition.
type noting struct {
	*Monitor

	batch *event.Batch
	c     *condition
	p     *fastjson.Parser
}

// note looks at a batch. The monitor is locked.
func (m *Monitor) note(b *event.Batch, p *fastjson.Parser) {
	c := m.nodes[b.NodeID]
	if c == nil {
		c = &condition{snapshots: map[string]int64{}}
		m.nodes[b.NodeID] = c
	}
	n := noting{m, b, c, p}
	at := b.Received.Unix()
	for i := range b.Events {
		e := &b.Events[i]
		if e.Action == event.Status {
			n.status(e)
			continue
		}
		c.results = at
		if e.Action == event.Snapshot && !e.Continues && (len(c.snapshots) < maxSnapshots || c.snapshots[e.Query] != 0) {
			c.snapshots[strings.Clone(e.Query)] = at
		}
		switch e.Query {
		case m.worker, m.agent:
			n.worker(e)
		case m.flags:
			n.flag(e)
		}
	}
}

// maxSnapshots bounds the queries of a node that are remembered.
const maxSnapshots = 512

func (n noting) key(k Kind, subject string) Key { return Key{n.batch.NodeID, k, subject} }

func (n noting) see(k Kind, subject, text string, hold time.Duration) {
	n.ledger.see(n.key(k, subject), text, n.batch.Received, hold)
}

// status takes in a line of the agent's own log.
func (n noting) status(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	if err != nil {
		return
	}
	message := string(v.GetStringBytes("message"))
	message = bounded(message, osquery.MaxSaid)
	after := func(start string) string { return strings.TrimSpace(strings.TrimPrefix(message, start)) }
	switch {
	case strings.HasPrefix(message, osquery.SayFailed):
		n.see(QueryFailed, after(osquery.SayFailed), "the worker died while it ran "+after(osquery.SayFailed)+", or was killed for it", failedTime)
	case strings.HasPrefix(message, osquery.SayExpired):
		n.ledger.clear(n.key(Denylisted, after(osquery.SayExpired)), n.batch.Received)
	case strings.HasPrefix(message, osquery.SayRefused):
		n.see(ConfigRefused, "", "it could not parse its config", refusedTime)
	case strings.HasPrefix(message, osquery.SayPurged), strings.HasPrefix(message, osquery.SayLong):
		n.see(LinesLost, "", "it dropped log lines: "+message, lostTime)
	case strings.HasPrefix(message, osquery.SayCLIOnly):
		flag, _, _ := strings.Cut(after(osquery.SayCLIOnly), " ")
		n.see(UnknownOption, flag, "a config sets "+flag+", which only its command line may", optionTime)
	case strings.HasPrefix(message, osquery.SayUnknownFlag):
		n.see(UnknownOption, after(osquery.SayUnknownFlag), "a config sets "+after(osquery.SayUnknownFlag)+", which it does not know", optionTime)
	case strings.HasPrefix(message, osquery.SayDenial):
		n.ledger.moment(n.key(Denied, ""), message, n.batch.Received)
	case strings.HasPrefix(message, osquery.SayExtension):
		name, _, _ := strings.Cut(after(osquery.SayExtension), ",")
		n.ledger.moment(n.key(Extension, name), "an extension came: "+message, n.batch.Received)
	case strings.HasPrefix(message, osquery.SayExtensionOff):
		n.ledger.moment(n.key(Extension, ""), "an extension went: "+message, n.batch.Received)
	default:
		if _, query, ok := strings.Cut(message, osquery.SayDenied); ok {
			n.see(Denylisted, query, "it does not run "+query+", which it denylisted", DenylistTime)
		}
	}
}

// worker takes in a row of osquery_info: another worker under the same watcher is
// what the watchdog leaves behind, or a crash.
func (n noting) worker(e *event.Event) {
	v, err := n.p.ParseBytes(e.Columns)
	if err != nil || e.Action == event.Removed {
		return
	}
	number := func(column string) int64 {
		i, err := strconv.ParseInt(string(v.GetStringBytes(column)), 10, 64)
		if err != nil {
			return 0
		}
		return i
	}
	pid, start, watcher := number("pid"), number("start_time"), number("watcher")
	c, now := n.c, n.batch.Received.Unix()
	if start == 0 || start < c.start {
		return // what it buffered before
	}
	another := c.start != 0 && (pid != c.pid || start != c.start)
	same := watcher == c.watcher && watcher > 0
	c.pid, c.start, c.watcher = pid, start, watcher
	if !another {
		return
	}
	if same {
		n.ledger.moment(n.key(Watchdog, ""), "another worker runs under the same watcher: the last one crashed, or the watchdog ended it", n.batch.Received)
	}
	c.restarts = append(c.restarts, now)
	for len(c.restarts) > 0 && now-c.restarts[0] > int64(loopWindow.Seconds()) || len(c.restarts) > maxRestarts {
		c.restarts = c.restarts[1:]
	}
	if len(c.restarts) >= loopRestarts {
		n.see(CrashLoop, "", "osquery started "+strconv.Itoa(len(c.restarts))+" times within "+loopWindow.String(), loopWindow)
	}
}

// maxRestarts bounds what is remembered; it is far above a loop.
const maxRestarts = 32
