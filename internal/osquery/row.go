package osquery

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"
)

// Column is one named value of a row. Values are text, as agents send them.
type Column struct{ Name, Value string }

// Row is one row of a query's answer, its columns in the order sent, which is
// the order of the SELECT for distributed queries. In JSON it is an object.
type Row []Column

// Get returns the value of a column, and whether the row has it.
func (r Row) Get(name string) (string, bool) {
	for _, c := range r {
		if c.Name == name {
			return c.Value, true
		}
	}
	return "", false
}

// Map returns the row as a map.
func (r Row) Map() map[string]string {
	m := make(map[string]string, len(r))
	for _, c := range r {
		m[c.Name] = c.Value
	}
	return m
}

// MarshalJSON writes the row as an object with its columns in order.
func (r Row) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, c := range r {
		if i > 0 {
			buf.WriteByte(',')
		}
		name, err := encode(c.Name)
		if err != nil {
			return nil, err
		}
		value, err := encode(c.Value)
		if err != nil {
			return nil, err
		}
		buf.Write(name)
		buf.WriteByte(':')
		buf.Write(value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// UnmarshalJSON reads an object, keeping the order of its members.
func (r *Row) UnmarshalJSON(b []byte) error {
	v, err := fastjson.ParseBytes(b)
	if err != nil {
		return err
	}
	*r = row(v)
	return nil
}

// AppendRow appends the members of an object to a row that is used again and
// again. Most objects, those of texts without escapes, cost one copy; others are
// read as UnmarshalJSON reads them. What is no object adds nothing.
func AppendRow(dst Row, object []byte) Row {
	if len(object) == 0 {
		return dst
	}
	if bytes.IndexByte(object, '\\') < 0 && utf8.Valid(object) {
		if r, ok := appendPlain(dst, string(object)); ok {
			return r
		}
	}
	var r Row
	if err := r.UnmarshalJSON(object); err != nil {
		return dst
	}
	return append(dst, r...)
}

// appendPlain reads an object without spaces, escapes and anything but texts;
// false if it is another.
func appendPlain(dst Row, s string) (Row, bool) {
	s, ok := strings.CutPrefix(s, "{")
	if s == "}" {
		return dst, ok
	}
	for ok {
		var c Column
		if c.Name, s, ok = bareText(s, `":`); !ok {
			return nil, false
		}
		if c.Value, s, ok = bareText(s, `"`); !ok {
			return nil, false
		}
		dst = append(dst, c)
		if s == "}" {
			return dst, true
		}
		s, ok = strings.CutPrefix(s, ",")
	}
	return nil, false
}

// bareText reads a text in quotes up to its end, which is as given. Control
// characters must have been escaped.
func bareText(s, end string) (text, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, `"`)
	n := strings.IndexByte(s, '"')
	if !ok || n < 0 || !strings.HasPrefix(s[n:], end) {
		return "", "", false
	}
	for i := range n {
		if s[i] < ' ' {
			return "", "", false
		}
	}
	return s[:n], s[n+len(end):], true
}

var (
	_ json.Marshaler   = Row(nil)
	_ json.Unmarshaler = (*Row)(nil)
)

// row reads an object of scalars; anything else is an empty row.
func row(v *fastjson.Value) Row {
	o, err := v.Object()
	if err != nil {
		return nil
	}
	r := make(Row, 0, o.Len())
	o.Visit(func(key []byte, v *fastjson.Value) {
		r = append(r, Column{Name: Clean(key), Value: text(v)})
	})
	return r
}
