package agent

import (
	"bytes"
	"database/sql/driver"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/osquery"
)

// appendQuoted appends s as a JSON string with RapidJSON's escapes: bytes that
// are not UTF-8 stay, as the real agent sends them in snapshots.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			if c < ' ' {
				dst = append(dst, `\u00`...)
				dst = append(dst, hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '"')
}

func quoted(s string) []byte { return appendQuoted(nil, s) }

func numbered(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

// escape makes a value of a differential row plain text: control bytes and
// bytes that are not UTF-8 become \xNN with a literal backslash.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r < ' ' || r == utf8.RuneError && n == 1 {
			b = append(b, '\\', 'x', hex[s[i]>>4], hex[s[i]&15])
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// object is a JSON object under construction, its members in order. A member
// that is set again keeps its place.
type object struct {
	keys   []string
	values map[string][]byte
}

func (o *object) set(key string, value []byte) {
	if o.values == nil {
		o.values = map[string][]byte{}
	}
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

func (o *object) encode() []byte {
	out := []byte{'{'}
	for i, key := range o.keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendQuoted(out, key), ':')
		out = append(out, o.values[key]...)
	}
	return append(out, '}')
}

func textObject(m map[string]string) []byte {
	var o object
	for _, key := range slices.Sorted(maps.Keys(m)) {
		o.set(key, quoted(m[key]))
	}
	return o.encode()
}

func array(items [][]byte) []byte {
	return slices.Concat([]byte{'['}, bytes.Join(items, []byte{','}), []byte{']'})
}

// A format is how log lines are to look.
type format struct {
	numerics, topLevel, perRow, snapshotPerRow bool
	null                                       string
}

// rows encodes a result's rows: columns sorted by name, the last of equal
// names alone. Differential rows are cleaned.
func (f format) rows(r *hostsql.Result, clean bool) [][]byte {
	at := map[string]int{}
	for i, name := range r.Columns {
		at[name] = i
	}
	names := slices.Sorted(maps.Keys(at))
	rows := make([][]byte, len(r.Values))
	for i, values := range r.Values {
		var o object
		for _, name := range names {
			o.set(name, f.value(values[at[name]], clean))
		}
		rows[i] = o.encode()
	}
	return rows
}

func (f format) value(v driver.Value, clean bool) []byte {
	switch n := v.(type) {
	case nil:
		return quoted(f.null)
	case int64, float64:
		if f.numerics {
			return []byte(number(n))
		}
	}
	s := hostsql.Text(v)
	if clean {
		s = escape(s)
	}
	return quoted(s)
}

// number writes a JSON number; 1e+300.0, as the text of a double may be, is
// none.
func number(v driver.Value) string {
	f, ok := v.(float64)
	if !ok {
		return hostsql.Text(v)
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if _, err := strconv.ParseInt(s, 10, 64); err == nil {
		s += ".0"
	}
	return s
}

// An execution is one run of a scheduled query, as its log lines tell it.
type execution struct {
	name, host      string
	at              time.Time
	epoch, counter  int64
	decorations     map[string]string
	added, removed  [][]byte // encoded rows
	snapshot        bool
	snapshotResults [][]byte
}

// calendar is C's asctime in UTC.
func calendar(t time.Time) string { return t.UTC().Format(time.ANSIC) + " UTC" }

// header sets what all lines of an execution share.
func (f format) header(o *object, e execution) {
	o.set("name", quoted(e.name))
	o.set("hostIdentifier", quoted(e.host))
	o.set("calendarTime", quoted(calendar(e.at)))
	o.set("unixTime", numbered(e.at.Unix()))
	o.set("epoch", numbered(e.epoch))
	o.set("counter", numbered(e.counter))
	o.set("numerics", strconv.AppendBool(nil, f.numerics))
	f.decorate(o, e.decorations)
}

func (f format) decorate(o *object, decorations map[string]string) {
	if len(decorations) == 0 {
		return
	}
	if !f.topLevel {
		o.set("decorations", textObject(decorations))
		return
	}
	for _, key := range slices.Sorted(maps.Keys(decorations)) {
		o.set(key, quoted(decorations[key]))
	}
}

// lines returns the log lines of an execution.
func (f format) lines(e execution) [][]byte {
	perRow := func(rows [][]byte, action string) [][]byte {
		lines := make([][]byte, len(rows))
		for i, row := range rows {
			var o object
			f.header(&o, e)
			o.set("columns", row)
			o.set("action", quoted(action))
			lines[i] = o.encode()
		}
		return lines
	}
	switch {
	case e.snapshot && f.snapshotPerRow:
		return perRow(e.snapshotResults, "snapshot")
	case e.snapshot:
		var o object
		o.set("snapshot", array(e.snapshotResults))
		o.set("action", quoted("snapshot"))
		f.header(&o, e)
		return [][]byte{o.encode()}
	case f.perRow:
		return append(perRow(e.removed, "removed"), perRow(e.added, "added")...)
	}
	var diff, o object
	diff.set("removed", array(e.removed))
	diff.set("added", array(e.added))
	o.set("diffResults", diff.encode())
	f.header(&o, e)
	return [][]byte{o.encode()}
}

// status encodes a line of the agent's own log.
func (f format) status(l osquery.StatusLine) []byte {
	var o object
	o.set("hostIdentifier", quoted(l.HostIdentifier))
	o.set("calendarTime", quoted(l.CalendarTime))
	o.set("unixTime", numbered(l.UnixTime))
	o.set("severity", numbered(int64(l.Severity)))
	o.set("filename", quoted(l.Filename))
	o.set("line", numbered(int64(l.Line)))
	o.set("message", quoted(escape(l.Message)))
	o.set("version", quoted(l.Version))
	f.decorate(&o, l.Decorations)
	return o.encode()
}
