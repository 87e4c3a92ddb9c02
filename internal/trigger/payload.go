package trigger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Bounds of a payload, which anybody with the token writes.
const (
	// MaxPayload is far above what runtimes, schedulers and alert managers send of
	// one event.
	MaxPayload = 64 << 10
	// maxPayloadDepth keeps the decoder's stack small.
	maxPayloadDepth = 32
	// maxPayloadText bounds one value that is looked at.
	maxPayloadText = 4 << 10
)

// Payload is a JSON document that came from outside. The zero value is empty.
type Payload struct{ document any }

// ParsePayload reads one JSON value. Of a name that is there twice in one object
// the last counts, as for most readers.
func ParsePayload(b []byte) (Payload, error) {
	if len(b) > MaxPayload {
		return Payload{}, errs.New(errs.TooLarge, "the payload has over %d bytes", MaxPayload)
	}
	if deep(b) {
		return Payload{}, errs.New(errs.Invalid, "the payload has over %d levels", maxPayloadDepth)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var p Payload
	if err := d.Decode(&p.document); err != nil {
		return Payload{}, errs.New(errs.Invalid, "the payload is no JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return Payload{}, errs.New(errs.Invalid, "the payload is more than one JSON value")
	}
	return p, nil
}

// deep reports whether brackets outside of texts nest too far.
func deep(b []byte) bool {
	depth, inText := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			if depth++; depth > maxPayloadDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// text returns a text or number of the payload as a text.
func (p Payload) text(at resource.Pointer) (string, error) {
	v, ok := at.In(p.document)
	if !ok {
		return "", errs.New(errs.Invalid, "the payload has nothing at %s", at)
	}
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case json.Number:
		s = v.String()
	default:
		return "", errs.New(errs.Invalid, "the payload has neither text nor number at %s", at)
	}
	if s == "" || len(s) > maxPayloadText {
		return "", errs.New(errs.Invalid, "the payload has an empty text, or one of over %d bytes, at %s", maxPayloadText, at)
	}
	return s, nil
}

// time returns a time of the payload: RFC 3339, or seconds, milliseconds,
// microseconds or nanoseconds since 1970, told apart by their size.
func (p Payload) time(at resource.Pointer) (time.Time, error) {
	s, err := p.text(at)
	if err != nil {
		return time.Time{}, err
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	whole, _, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, errs.New(errs.Invalid, "the payload has no time at %s: RFC 3339, or seconds since 1970", at)
	}
	const year5000 = 95_617_584_000 // in seconds; as milliseconds it is 1973
	switch {
	case n < year5000:
		return time.Unix(n, 0), nil
	case n/1e3 < year5000:
		return time.UnixMilli(n), nil
	case n/1e6 < year5000:
		return time.UnixMicro(n), nil
	}
	return time.Unix(0, n), nil
}

// dedupOf returns what makes two questions the same: what is said to, or else the
// node and the text.
func dedupOf(nodeID, sql, same string) string {
	if same == "" {
		same = nodeID + "\x00" + sql
	}
	sum := sha256.Sum256([]byte(same))
	return hex.EncodeToString(sum[:])
}
