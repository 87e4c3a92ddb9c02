// Package osquery speaks the language of osquery agents: the messages of the
// TLS plugins, the config document and the table schema. It knows the wire and
// nothing of what Muster does with it. Decoding is lenient, as agents of many
// versions send numbers as strings, rows as "" and bytes that are not UTF-8;
// encoding has the exact shape that osquery 5.23 sends and accepts.
//
// Sources: the osquery repository at commit a5b14f63d (see NOTICE), and
// requests captured from a real agent, which the tests replay.
package osquery

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
)

// object parses body, which must be one JSON object, and hands it to use. The
// values are valid only during the call.
func object(body []byte, use func(*fastjson.Value) error) error {
	var parser fastjson.Parser
	v, err := parser.ParseBytes(body)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "the body is not JSON")
	}
	if v.Type() != fastjson.TypeObject {
		return errs.New(errs.Invalid, "the body is a JSON %s; an object is needed", v.Type())
	}
	return use(v)
}

// text returns a string, number or boolean as text; anything else is "".
func text(v *fastjson.Value) string {
	if v == nil {
		return ""
	}
	switch v.Type() {
	case fastjson.TypeString:
		return Clean(v.GetStringBytes())
	case fastjson.TypeNumber:
		return string(v.MarshalTo(nil))
	case fastjson.TypeTrue:
		return "true"
	case fastjson.TypeFalse:
		return "false"
	case fastjson.TypeNull, fastjson.TypeObject, fastjson.TypeArray:
	}
	return ""
}

// integer returns a number, or a string holding one; agents before 3.0 sent
// every number as a string. Anything else is 0.
func integer(v *fastjson.Value) int64 {
	s := strings.TrimSpace(text(v))
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -1e18 && f < 1e18 {
		return int64(f)
	}
	return 0
}

// Clean returns b as valid UTF-8. Bytes that are not become \xNN with a
// literal backslash, which is what osquery itself does to differential rows
// (but not to snapshot and distributed rows).
func Clean(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string(AppendClean(make([]byte, 0, len(b)+16), b))
}

// AppendClean appends b to dst as Clean would return it.
func AppendClean(dst, b []byte) []byte {
	const hex = "0123456789ABCDEF"
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, '\\', 'x', hex[b[0]>>4], hex[b[0]&15])
		} else {
			dst = append(dst, b[:n]...)
		}
		b = b[n:]
	}
	return dst
}

// encode writes v as osquery's RapidJSON would: compact, with <, > and & as
// they are.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
