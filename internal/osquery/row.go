package osquery

import (
	"bytes"
	"encoding/json"

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
