package event

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
)

// Log is what one request to the log endpoint held. It is valid until the
// next call of the Decoder that made it.
type Log struct {
	NodeKey string
	LogType string
	Events  []Event
	// Lines is how many log lines there were; Skipped how many of them were no
	// objects and gave no event.
	Lines, Skipped int
}

// Decoder reads log requests. It keeps its buffers from call to call, so that
// one allocates next to nothing once warm; it is not safe for concurrent use.
type Decoder struct {
	parser fastjson.Parser
	buf    []byte
	log    Log
	hash   xxhash.Digest
	names  map[string]string
	large  bool // holds the memory of a large body
	wide   bool // a row of this body has too many columns
}

// maxColumns is how many columns a row may have: SQLite makes no more
// (SQLITE_MAX_COLUMN), so no osquery does, and each new name is work later.
const maxColumns = 2000

// Decoders hands out Decoders that are warm. Safe for concurrent use.
type Decoders struct{ pool sync.Pool }

// maxKept bounds the bodies whose buffers an idle Decoder keeps; those of a
// request of many megabytes, which are several times as large, should not stay
// in memory.
const maxKept = 1 << 20

// Get returns a Decoder; give it back with Put.
func (d *Decoders) Get() *Decoder {
	if v, ok := d.pool.Get().(*Decoder); ok {
		return v
	}
	return &Decoder{names: map[string]string{}}
}

// Put takes a Decoder back.
func (d *Decoders) Put(v *Decoder) {
	if !v.large {
		d.pool.Put(v)
	}
}

// maxNames bounds the query names that a Decoder remembers, and maxName the
// length of each.
const (
	maxNames = 4096
	maxName  = 256
)

// Decode reads the body of a log request of any osquery version: event,
// batch and snapshot format, numbers as strings, rows as "", decorations
// nested or at the top level. Only a body that is no JSON object, or has data
// that is no array, or a row that no osquery can make, is an error; an odd line
// gives what can be read of it.
func (d *Decoder) Decode(body []byte, received time.Time) (*Log, error) {
	d.large = d.large || len(body) > maxKept
	v, err := osquery.ParseObject(&d.parser, body)
	if err != nil {
		return nil, err
	}
	d.buf, d.wide = d.buf[:0], false
	d.log = Log{
		NodeKey: osquery.Clean(v.GetStringBytes("node_key")),
		LogType: string(v.GetStringBytes("log_type")),
		Events:  d.log.Events[:0],
	}
	data := v.Get("data")
	if data == nil || data.Type() == fastjson.TypeNull {
		return &d.log, nil
	}
	lines, err := data.Array()
	if err != nil {
		return nil, errs.Field("data", "is a JSON %s; an array of log lines is needed", data.Type())
	}
	switch d.log.LogType {
	case osquery.LogTypeResult, osquery.LogTypeStatus:
	default:
		return nil, errs.Field("log_type", "is %q; it must be result or status", d.log.LogType)
	}
	for _, line := range lines {
		d.log.Lines++
		if line.Type() != fastjson.TypeObject {
			d.log.Skipped++
			continue
		}
		if d.log.LogType == osquery.LogTypeStatus {
			d.status(line, received)
		} else {
			d.result(line, received)
		}
	}
	if d.wide {
		return nil, errs.Field("data", "has a row of more than %d columns", maxColumns)
	}
	return &d.log, nil
}

// result reads one line of the result log.
func (d *Decoder) result(line *fastjson.Value, received time.Time) {
	unix := integer(line.Get("unixTime"))
	e := Event{
		Time:    received,
		Query:   d.name(line.GetStringBytes("name")),
		Action:  d.name(line.GetStringBytes("action")),
		Epoch:   integer(line.Get("epoch")),
		Counter: integer(line.Get("counter")),
	}
	if strings.HasPrefix(e.Query, ServerPrefix) {
		e.Query = "agent:" + e.Query // nobody speaks for the server
	}
	e.date(unix)
	e.Decorations = d.decorations(line, resultKey)
	first := len(d.log.Events)
	switch {
	case line.Exists("columns"):
		d.add(e, line.Get("columns"))
	case line.Exists("diffResults"):
		e.Action = Removed
		d.rows(e, line.Get("diffResults", "removed"))
		e.Action = Added
		d.rows(e, line.Get("diffResults", "added"))
	default:
		e.Action = Snapshot
		d.rows(e, line.Get("snapshot"))
		if len(d.log.Events) == first {
			d.add(e, nil) // an empty snapshot says that there is nothing
		}
	}
	d.seal(first, unix)
}

// rows adds an event per row; "" and null are no rows.
func (d *Decoder) rows(e Event, rows *fastjson.Value) {
	if rows == nil {
		return
	}
	items, err := rows.Array()
	if err != nil {
		return
	}
	for _, row := range items {
		d.add(e, row)
	}
}

func (d *Decoder) add(e Event, row *fastjson.Value) {
	if columns := row.GetObject(); columns != nil && columns.Len() > maxColumns {
		d.wide = true
		return
	}
	e.Columns = d.object(row, nil)
	d.log.Events = append(d.log.Events, e)
}

// status reads one line of the agent's own log.
func (d *Decoder) status(line *fastjson.Value, received time.Time) {
	unix := integer(line.Get("unixTime"))
	e := Event{
		Time:   received,
		Query:  StatusQuery,
		Action: Status,
	}
	e.date(unix)
	e.Decorations = d.decorations(line, statusKey)
	e.Columns = d.object(line, func(key []byte) bool {
		switch string(key) {
		case "severity", "filename", "line", "message", "version":
			return true
		}
		return false
	})
	d.log.Events = append(d.log.Events, e)
	d.seal(len(d.log.Events)-1, unix)
}

// seal gives the events of one line its identity: a hash of all that the line
// said, with the agent's own time, be it believable or not. An agent that sends
// a line again sends the same.
func (d *Decoder) seal(first int, unix int64) {
	if first == len(d.log.Events) {
		return // an empty batch line
	}
	h := &d.hash
	h.Reset()
	e := &d.log.Events[first]
	var num [24]byte
	binary.LittleEndian.PutUint64(num[:], uint64(unix))        //nolint:gosec // bits, not a number
	binary.LittleEndian.PutUint64(num[8:], uint64(e.Epoch))    //nolint:gosec // bits, not a number
	binary.LittleEndian.PutUint64(num[16:], uint64(e.Counter)) //nolint:gosec // bits, not a number
	_, _ = h.Write(num[:])
	_, _ = h.WriteString(e.Query)
	_, _ = h.Write(e.Decorations)
	for i := first; i < len(d.log.Events); i++ {
		_, _ = h.WriteString(d.log.Events[i].Action)
		_, _ = h.Write(d.log.Events[i].Columns)
	}
	sum := h.Sum64()
	for i := first; i < len(d.log.Events); i++ {
		d.log.Events[i].Line, d.log.Events[i].Continues = sum, i > first
	}
}

// decorations returns the nested decorations, or, for an agent with
// decorations_top_level, the members of the line that are none of its own.
func (d *Decoder) decorations(line *fastjson.Value, own func([]byte) bool) []byte {
	var out []byte
	if nested := line.Get("decorations"); nested != nil {
		out = d.object(nested, nil)
	} else {
		out = d.object(line, func(key []byte) bool { return !own(key) })
	}
	if len(out) == len("{}") {
		return nil
	}
	// All lines of a request have the same as a rule; keep one copy.
	if n := len(d.log.Events); n > 0 && bytes.Equal(d.log.Events[n-1].Decorations, out) {
		return d.log.Events[n-1].Decorations
	}
	return out
}

func resultKey(key []byte) bool {
	switch string(key) {
	case "name", "hostIdentifier", "calendarTime", "unixTime", "epoch", "counter", "numerics",
		"columns", "action", "snapshot", "diffResults", "decorations", "hostname", "log_type":
		return true
	}
	return false
}

func statusKey(key []byte) bool {
	switch string(key) {
	case "hostIdentifier", "calendarTime", "unixTime", "severity", "filename", "line", "message",
		"version", "decorations", "hostname", "log_type":
		return true
	}
	return false
}

// object writes the scalar members of v that want accepts (nil: all) as an
// object of strings. Anything but an object is {}.
func (d *Decoder) object(v *fastjson.Value, want func(key []byte) bool) []byte {
	start := len(d.buf)
	d.buf = append(d.buf, '{')
	if v != nil {
		if o, err := v.Object(); err == nil {
			o.Visit(func(key []byte, v *fastjson.Value) {
				if want != nil && !want(key) {
					return
				}
				if len(d.buf) > start+1 {
					d.buf = append(d.buf, ',')
				}
				d.buf = appendQuoted(d.buf, key)
				d.buf = append(d.buf, ':')
				d.buf = appendScalar(d.buf, v)
			})
		}
	}
	d.buf = append(d.buf, '}')
	return d.buf[start:len(d.buf):len(d.buf)]
}

// appendScalar appends v as a JSON string. A number keeps its digits; an
// object or array, which osquery never sends, keeps its JSON text.
func appendScalar(dst []byte, v *fastjson.Value) []byte {
	switch v.Type() {
	case fastjson.TypeString:
		return appendQuoted(dst, v.GetStringBytes())
	case fastjson.TypeNull:
		return append(dst, '"', '"')
	case fastjson.TypeNumber, fastjson.TypeTrue, fastjson.TypeFalse:
		dst = append(dst, '"')
		dst = v.MarshalTo(dst)
		return append(dst, '"')
	case fastjson.TypeObject, fastjson.TypeArray:
	}
	return appendQuoted(dst, v.MarshalTo(nil))
}

// appendQuoted appends s as a JSON string. Bytes that are not UTF-8 become
// \xNN, see osquery.Clean.
func appendQuoted(dst, s []byte) []byte {
	plain := true
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			plain = false
			break
		}
	}
	dst = append(dst, '"')
	if plain {
		dst = append(dst, s...)
		return append(dst, '"')
	}
	start := len(dst)
	dst = osquery.AppendClean(dst, s)
	clean := string(dst[start:])
	dst = dst[:start]
	const hex = "0123456789abcdef"
	for i := range len(clean) {
		switch c := clean[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// name returns the text of a name, the same string for the same bytes.
func (d *Decoder) name(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := osquery.Clean(b)
	if len(b) > maxName {
		return s
	}
	if len(d.names) >= maxNames {
		clear(d.names)
	}
	d.names[string(b)] = s
	return s
}

// A clock is believed if it is not before osquery existed and not further
// ahead than a wrong time zone can explain.
const (
	earliest = 1_400_000_000 // 2014-05-13
	maxAhead = 24 * time.Hour
)

// date sets the times of an event, whose Time is when it was received: to the
// agent's if that can be right. An event with a mad time stays findable, and what
// the clock said is kept beside.
func (e *Event) date(unix int64) {
	if unix < earliest || unix > e.Time.Add(maxAhead).Unix() {
		e.AgentTime = unix
		return
	}
	e.Time = time.Unix(unix, 0).UTC()
}

// integer reads a number or a string that holds one; agents before 5.10 sent
// either.
func integer(v *fastjson.Value) int64 {
	if v == nil {
		return 0
	}
	if v.Type() == fastjson.TypeString {
		n, _ := strconv.ParseInt(string(v.GetStringBytes()), 10, 64)
		return n
	}
	return v.GetInt64()
}
