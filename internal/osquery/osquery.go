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
	"errors"
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
	v, err := ParseObject(&parser, body)
	if err != nil {
		return err
	}
	return use(v)
}

// ParseObject parses body, which must be one JSON object, with a parser of the
// caller's. The value is valid until that parser's next use.
func ParseObject(parser *fastjson.Parser, body []byte) (*fastjson.Value, error) {
	if err := precheck(body); err != nil {
		return nil, err
	}
	v, err := parser.ParseBytes(body)
	if err != nil {
		// The parser's error quotes the body, which may hold secrets, and errors are
		// logged.
		what, _, _ := strings.Cut(err.Error(), `"`)
		return nil, errs.Wrap(errs.Invalid, errors.New(what+"…"), "the body is not JSON")
	}
	if v.Type() != fastjson.TypeObject {
		return nil, errs.New(errs.Invalid, "the body is a JSON %s; an object is needed", v.Type())
	}
	return v, nil
}

// maxValues bounds the values in one body: the parser takes some 100 bytes for
// each, and a hostile body can hold one in every two bytes. Real rows have one
// in about 20.
const maxValues = 4 << 20

// maxDepth bounds how deep a body is nested. An agent's have five levels:
// JSON within a column is text.
const maxDepth = 32

// precheck refuses what would cost the parser far more than its size: too many
// values, too many levels, and a misspelt word, which the parser's error quotes together with
// all that follows, once per level of nesting. It looks at what is outside of
// strings only, which is little.
func precheck(body []byte) error {
	values, depth := 0, 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '"':
			n := stringLen(body[i+1:])
			if n < 0 {
				return errs.New(errs.Invalid, "the body is not JSON: it ends within a string")
			}
			i += n
		case ',':
			values++
		case '[', '{':
			values++
			if depth++; depth > maxDepth {
				return errs.New(errs.Invalid, "the body is nested deeper than %d levels", maxDepth)
			}
		case ']', '}':
			depth--
		case 't', 'f', 'n', 'N', 'i', 'I':
			n := wordOf(body[i:])
			if n == 0 {
				return errs.New(errs.Invalid, "the body is not JSON: a value at byte %d is none", i)
			}
			i += n - 1
		}
	}
	if values > maxValues {
		return errs.New(errs.TooLarge, "the body holds over %d values", maxValues)
	}
	return nil
}

// stringLen returns the length of the string that b begins within, with its
// closing quote; -1 if it does not end.
func stringLen(b []byte) int {
	for at := 0; ; at++ {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		slashes := 0
		for slashes < at && b[at-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at + 1
		}
	}
}

// wordOf returns the length of the JSON word that b begins with, 0 for none.
func wordOf(b []byte) int {
	for _, word := range []string{"true", "false", "null"} {
		if len(b) >= len(word) && string(b[:len(word)]) == word {
			return len(word)
		}
	}
	return 0
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
