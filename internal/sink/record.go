package sink

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// row is an event whose columns were read.
type row struct {
	*event.Record

	object  event.Object
	columns []event.Pair // as the agent ordered them, each name once
	marks   []event.Pair // decorations, the same
}

// read points the row at an event. What it held before is gone.
func (w *row) read(r *event.Record) {
	w.Record = r
	w.object.Reset()
	w.columns = w.pairs(w.columns, r.Columns, true)
	w.marks = w.pairs(w.marks, r.Decorations, false)
}

// pairs reads an object with each name once: other readers refuse names that come
// twice. Of a column's the last counts, as in the search; of a decoration's the
// first, as a mark of the server is before what the agent says, see event.Mark.
func (w *row) pairs(dst []event.Pair, text []byte, last bool) []event.Pair {
	dst = dst[:0]
	if len(text) == 0 {
		return dst
	}
	pairs, ok := w.object.Read(text)
	if !ok {
		return dst // the decoder writes nothing else
	}
	if len(pairs) > manyPairs {
		return once(dst, pairs, last)
	}
	for _, p := range pairs {
		same := func(q event.Pair) bool { return string(q.Name) == string(p.Name) }
		switch i := slices.IndexFunc(dst, same); {
		case i < 0:
			dst = append(dst, p)
		case last:
			dst[i].Value = p.Value
		}
	}
	return dst
}

// manyPairs is how many names are compared faster one by one than in a map. Rows
// may have thousands.
const manyPairs = 32

func once(dst, pairs []event.Pair, last bool) []event.Pair {
	at := make(map[string]int, len(pairs))
	for _, p := range pairs {
		i, ok := at[string(p.Name)]
		switch {
		case !ok:
			at[string(p.Name)] = len(dst)
			dst = append(dst, p)
		case last:
			dst[i].Value = p.Value
		}
	}
	return dst
}

func value(pairs []event.Pair, name string) ([]byte, bool) {
	for _, p := range pairs {
		if string(p.Name) == name {
			return p.Value, true
		}
	}
	return nil, false
}

// column returns a column as text; "" without it.
func (w *row) column(name string) string {
	v, _ := value(w.columns, name)
	return string(v)
}

// line appends the event in a format.
func (w *row) line(dst []byte, format, id string) []byte {
	switch format {
	case resource.SinkOsquery:
		return w.osquery(dst, id)
	case resource.SinkECS:
		return w.ecs(dst, id)
	}
	return w.muster(dst, id)
}

// muster appends the event as the REST API shows it.
func (w *row) muster(dst []byte, id string) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, id...)
	dst = appendTime(append(dst, `","time":`...), w.Time)
	dst = appendTime(append(dst, `,"received_at":`...), w.Received)
	if w.AgentTime != 0 {
		dst = strconv.AppendInt(append(dst, `,"agent_time":`...), w.AgentTime, 10)
	}
	dst = appendText(append(dst, `,"node_id":`...), w.NodeID)
	dst = appendText(append(dst, `,"host_identifier":`...), w.HostIdentifier)
	if len(w.Tags) > 0 {
		dst = appendTexts(append(dst, `,"tags":`...), w.Tags)
	}
	if w.Revision != 0 {
		dst = strconv.AppendInt(append(dst, `,"revision":`...), w.Revision, 10)
	}
	dst = appendText(append(dst, `,"query":`...), w.Query)
	dst = appendText(append(dst, `,"action":`...), w.Action)
	dst = strconv.AppendInt(append(dst, `,"epoch":`...), w.Epoch, 10)
	dst = strconv.AppendInt(append(dst, `,"counter":`...), w.Counter, 10)
	dst = appendPairs(append(dst, `,"columns":`...), w.columns)
	if len(w.marks) > 0 {
		dst = appendPairs(append(dst, `,"decorations":`...), w.marks)
	}
	return append(dst, '}')
}

// osquery appends the event as an agent's own filesystem logger writes it, a
// snapshot row by row as with --logger_snapshot_event_type. What only Muster knows
// is under one more key.
func (w *row) osquery(dst []byte, id string) []byte {
	dst = append(dst, '{')
	if w.Action == event.Status {
		for _, name := range []string{"severity", "filename", "line", "message", "version"} {
			dst = appendText(dst, name)
			dst = appendText(append(dst, ':'), w.column(name))
			dst = append(dst, ',')
		}
		dst = append(dst, `"log_type":"status",`...)
	} else {
		dst = appendText(append(dst, `"name":`...), w.Query)
		dst = appendText(append(dst, `,"action":`...), w.Action)
		dst = appendPairs(append(dst, `,"columns":`...), w.columns)
		dst = strconv.AppendInt(append(dst, `,"epoch":`...), w.Epoch, 10)
		dst = strconv.AppendInt(append(dst, `,"counter":`...), w.Counter, 10)
		dst = append(dst, `,"numerics":false,`...)
	}
	dst = appendText(append(dst, `"hostIdentifier":`...), w.HostIdentifier)
	dst = appendText(append(dst, `,"calendarTime":`...), w.Time.UTC().Format(calendar))
	dst = strconv.AppendInt(append(dst, `,"unixTime":`...), w.Time.Unix(), 10)
	dst = appendPairs(append(dst, `,"decorations":`...), w.marks)
	dst = append(dst, `,"muster":{"id":"`...)
	dst = append(dst, id...)
	dst = appendText(append(dst, `","node_id":`...), w.NodeID)
	dst = appendTime(append(dst, `,"received_at":`...), w.Received)
	if len(w.Tags) > 0 {
		dst = appendTexts(append(dst, `,"tags":`...), w.Tags)
	}
	return append(dst, "}}"...)
}

// calendar is how osquery writes calendarTime.
const calendar = "Mon Jan _2 15:04:05 2006 UTC"

func appendPairs(dst []byte, pairs []event.Pair) []byte {
	dst = append(dst, '{')
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, p.Name)
		dst = appendText(append(dst, ':'), p.Value)
	}
	return append(dst, '}')
}

func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, s)
	}
	return append(dst, ']')
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = append(dst, '"')
	dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, '"')
}

// appendText appends a JSON string, in which what is no UTF-8 is U+FFFD. Lines that
// people look at hold no bytes that command a terminal: control characters are
// escaped, DEL too, and so are U+2028 and U+2029, which end lines for some readers.
func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		size := 1
		var escaped string
		if c >= utf8.RuneSelf {
			var r rune
			r, size = decodeRune(s[i:])
			if r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) && (r < 0x80 || r > 0x9f) {
				i += size
				continue
			}
			escaped = escapeRune(r)
		} else {
			escaped = escapeByte(c)
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, escaped...)
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

func decodeRune[T ~string | ~[]byte](s T) (rune, int) {
	return utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
}

const hexDigits = "0123456789abcdef"

func escapeByte(c byte) string {
	switch c {
	case '"':
		return `\"`
	case '\\':
		return `\\`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	return `\u00` + string([]byte{hexDigits[c>>4], hexDigits[c&15]})
}

func escapeRune(r rune) string {
	switch r {
	case '\u2028':
		return `\u2028`
	case '\u2029':
		return `\u2029`
	case utf8.RuneError:
		return `\ufffd`
	}
	return escapeByte(byte(r & 0xff)) // U+0080 to U+009F, with which some terminals are commanded
}

// letter is an event in the form in which dead letters are kept.
type letter struct {
	ID             string          `json:"id"`
	Time           time.Time       `json:"time"`
	ReceivedAt     time.Time       `json:"received_at"`
	AgentTime      int64           `json:"agent_time,omitempty"`
	NodeID         string          `json:"node_id"`
	HostIdentifier string          `json:"host_identifier"`
	Tags           []string        `json:"tags,omitempty"`
	Revision       int64           `json:"revision,omitempty"`
	Query          string          `json:"query"`
	Action         string          `json:"action"`
	Epoch          int64           `json:"epoch"`
	Counter        int64           `json:"counter"`
	Columns        json.RawMessage `json:"columns"`
	Decorations    json.RawMessage `json:"decorations,omitempty"`
}

// record undoes row.muster, but for what an event has in the stream alone.
func (l *letter) record() (event.Record, bool) {
	p, err := event.ParsePosition("0-" + l.ID)
	if err != nil {
		return event.Record{}, false
	}
	return event.Record{
		Event: event.Event{
			Time: l.Time, AgentTime: l.AgentTime, Query: l.Query, Action: l.Action, Epoch: l.Epoch, Counter: l.Counter,
			Columns: l.Columns, Decorations: l.Decorations,
		},
		NodeID: l.NodeID, HostIdentifier: l.HostIdentifier, Received: l.ReceivedAt, Tags: l.Tags, Revision: l.Revision,
		Seq: p.Seq, Index: p.Index,
	}, true
}
