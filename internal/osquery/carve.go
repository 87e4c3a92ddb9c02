package osquery

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
)

// CarveStart is what an agent says before it sends an archive. The numbers are
// the agent's word.
type CarveStart struct {
	Blocks    int64  `json:"block_count"`
	BlockSize int64  `json:"block_size"`
	Size      int64  `json:"carve_size"`
	CarveID   string `json:"carve_id"` // carve_guid of the table carves
	// RequestID is a random one of the agent's, which the table shows too; of old
	// agents it is "", of some between the id of the distributed query.
	RequestID string `json:"request_id"`
	NodeKey   string `json:"node_key"`
}

// Encode returns the body that osquery sends.
func (c CarveStart) Encode() ([]byte, error) { return encode(c) }

// DecodeCarveStart reads the body of carve/start. Agents before 3.0 sent every
// number as a string.
func DecodeCarveStart(body []byte) (c CarveStart, err error) {
	err = object(body, func(v *fastjson.Value) error {
		c = CarveStart{
			Blocks: integer(v.Get("block_count")), BlockSize: integer(v.Get("block_size")), Size: integer(v.Get("carve_size")),
			CarveID: text(v.Get("carve_id")), RequestID: text(v.Get("request_id")), NodeKey: text(v.Get("node_key")),
		}
		return nil
	})
	return c, err
}

// CarveSession is the answer to carve/start. The id must not be empty.
type CarveSession struct {
	SessionID string `json:"session_id"`
}

// Encode returns the body to answer.
func (c CarveSession) Encode() ([]byte, error) { return encode(c) }

// CarveBlock is one block of an archive.
type CarveBlock struct {
	Block     int64 // from 0
	SessionID string
	RequestID string
	NodeKey   string // "" from real agents: the session stands for it
	// Base64 is the block as it came, in the memory of the body.
	Base64 []byte
}

// DecodeCarveBlock reads the body of carve/continue, which becomes the memory
// of the result. It is read without the parser of the other messages, which
// would copy the block.
func DecodeCarveBlock(body []byte) (CarveBlock, error) {
	c := CarveBlock{Block: -1}
	err := members(body, func(key, value []byte) error {
		var err error
		switch string(key) {
		case "block_id":
			c.Block, err = number(value)
		case "session_id":
			c.SessionID, err = plainText(value)
		case "request_id":
			c.RequestID, err = plainText(value)
		case "node_key":
			c.NodeKey, err = plainText(value)
		case "data":
			c.Base64, err = unslash(value)
		}
		return err
	})
	if err == nil && c.Block < 0 {
		err = errs.Field("block_id", "is missing, or no number from 0 on")
	}
	return c, err
}

// base64Step is what is decoded at a time: small enough for the stack.
const base64Step = 4096

// Data decodes the block within the body's memory.
func (c CarveBlock) Data() ([]byte, error) {
	var step [base64Step / 4 * 3]byte
	out, rest := c.Base64[:0], c.Base64
	for len(rest) > 0 {
		n := min(len(rest), base64Step)
		// The result is shorter than what was read, so it never overtakes it.
		got, err := base64.StdEncoding.Decode(step[:], rest[:n])
		if err != nil || n < len(rest) && got != len(step) {
			return nil, errs.Field("data", "is no base64")
		}
		out, rest = append(out, step[:got]...), rest[n:]
	}
	return out, nil
}

// members calls use with the members of one JSON object: their keys, and their
// values as they are written, within the body.
func members(body []byte, use func(key, value []byte) error) error {
	at := space(body, 0)
	if at == len(body) || body[at] != '{' {
		return notJSON("an object is needed")
	}
	at = space(body, at+1)
	if at < len(body) && body[at] == '}' {
		return ends(body, at+1)
	}
	for {
		n, err := valueLen(body[at:])
		if err != nil || body[at] != '"' {
			return notJSON("a name is needed")
		}
		key := body[at+1 : at+n-1]
		at = space(body, at+n)
		if at == len(body) || body[at] != ':' {
			return notJSON("a colon is needed")
		}
		at = space(body, at+1)
		if n, err = valueLen(body[at:]); err != nil {
			return err
		}
		if err := use(key, body[at:at+n:at+n]); err != nil {
			return err
		}
		if at = space(body, at+n); at == len(body) {
			return notJSON("it does not end")
		}
		switch body[at] {
		case ',':
			at = space(body, at+1)
		case '}':
			return ends(body, at+1)
		default:
			return notJSON("a comma is needed")
		}
	}
}

func notJSON(why string) error { return errs.New(errs.Invalid, "the body is not JSON: %s", why) }

func ends(body []byte, at int) error {
	if space(body, at) != len(body) {
		return notJSON("something follows the object")
	}
	return nil
}

func space(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\r' || b[at] == '\n') {
		at++
	}
	return at
}

// valueLen returns the length of the value that b begins with. What is within
// objects and arrays is not looked at more closely.
func valueLen(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, notJSON("it does not end")
	}
	switch b[0] {
	case '"':
		n := stringLen(b[1:])
		if n < 0 {
			return 0, notJSON("it ends within a string")
		}
		return n + 1, nil
	case '{', '[':
		return nestedLen(b)
	}
	n := bytes.IndexAny(b, ",}] \t\r\n")
	if n <= 0 || wordOf(b) != n && !json.Valid(b[:n]) {
		return 0, notJSON("a value is none")
	}
	return n, nil
}

func nestedLen(b []byte) (int, error) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringLen(b[i+1:])
			if n < 0 {
				return 0, notJSON("it ends within a string")
			}
			i += n
		case '{', '[':
			if depth++; depth > maxDepth {
				return 0, errs.New(errs.Invalid, "the body is nested deeper than %d levels", maxDepth)
			}
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1, nil
			}
		}
	}
	return 0, notJSON("it does not end")
}

// maxPlain bounds the short members; ids are far shorter.
const maxPlain = 4 << 10

// plainText returns a value as text; anything but a string or number is "".
func plainText(value []byte) (string, error) {
	if len(value) > maxPlain {
		return "", errs.New(errs.Invalid, "an id in the body is over %d bytes", maxPlain)
	}
	switch {
	case value[0] != '"' && wordOf(value) == 0 && value[0] != '{' && value[0] != '[':
		return string(value), nil
	case value[0] != '"':
		return "", nil
	case bytes.IndexByte(value, '\\') < 0:
		return Clean(value[1 : len(value)-1]), nil
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", errs.Wrap(errs.Invalid, err, "an id in the body is no JSON string")
	}
	return s, nil
}

func number(value []byte) (int64, error) {
	s, err := plainText(value)
	if err != nil {
		return -1, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return -1, errs.Field("block_id", "is no number from 0 on")
	}
	return n, nil
}

// unslash returns the inside of a string of base64. Agents before 3.0 wrote
// its slashes as \/, as Boost does.
func unslash(value []byte) ([]byte, error) {
	if value[0] != '"' {
		return nil, errs.Field("data", "is no string")
	}
	s := value[1 : len(value)-1]
	at := bytes.IndexByte(s, '\\')
	if at < 0 {
		return s, nil
	}
	out := s[:at]
	for i := at; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) || s[i] != '/' {
				return nil, errs.Field("data", "is no base64")
			}
		}
		out = append(out, s[i])
	}
	return out, nil
}
