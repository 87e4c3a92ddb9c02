package health

import (
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/event"
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

// What osquery says in status lines, as of 5.23.1; files and lines change between
// releases. See osquery/config/config.cpp, plugins/logger/buffered.cpp and
// tls_logger.cpp, config/parsers/options.cpp, sql/sqlite_util.cpp,
// extensions/extensions.cpp and interface.cpp.
const (
	sayFailed  = "Scheduled query may have failed: "
	sayDenied  = "skipping denied scheduled query: "
	sayExpired = "Scheduled denylisted query has expired: "
	sayRefused = "updateSource failed to parse config"
	sayPurged  = "Purging buffered logs limit"
	sayLong    = "Linesize exceeds TLS logger maximum"
	sayCLIOnly = "The CLI only flag --"
	sayUnknown = "Cannot set unknown or invalid flag: "
	sayDenial  = "Authorizer denied action"
	sayGone    = "Extension UUID "
	sayNew     = "Registering extension ("
)

// maxMessage is how much of a status line is looked at: a refused config is
// quoted whole.
const maxMessage = 512

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
	message = bounded(message, maxMessage)
	after := func(start string) string { return strings.TrimSpace(strings.TrimPrefix(message, start)) }
	switch {
	case strings.HasPrefix(message, sayFailed):
		n.see(QueryFailed, after(sayFailed), "the worker died while it ran "+after(sayFailed)+", or was killed for it", failedTime)
	case strings.HasPrefix(message, sayExpired):
		n.ledger.clear(n.key(Denylisted, after(sayExpired)), n.batch.Received)
	case strings.HasPrefix(message, sayRefused):
		n.see(ConfigRefused, "", "it could not parse its config", refusedTime)
	case strings.HasPrefix(message, sayPurged), strings.HasPrefix(message, sayLong):
		n.see(LinesLost, "", "it dropped log lines: "+message, lostTime)
	case strings.HasPrefix(message, sayCLIOnly):
		flag, _, _ := strings.Cut(after(sayCLIOnly), " ")
		n.see(UnknownOption, flag, "a config sets "+flag+", which only its command line may", optionTime)
	case strings.HasPrefix(message, sayUnknown):
		n.see(UnknownOption, after(sayUnknown), "a config sets "+after(sayUnknown)+", which it does not know", optionTime)
	case strings.HasPrefix(message, sayDenial):
		n.ledger.moment(n.key(Denied, ""), message, n.batch.Received)
	case strings.HasPrefix(message, sayNew):
		name, _, _ := strings.Cut(after(sayNew), ",")
		n.ledger.moment(n.key(Extension, name), "an extension came: "+message, n.batch.Received)
	case strings.HasPrefix(message, sayGone):
		n.ledger.moment(n.key(Extension, ""), "an extension went: "+message, n.batch.Received)
	default:
		if _, query, ok := strings.Cut(message, sayDenied); ok {
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
