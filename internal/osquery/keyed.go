package osquery

import (
	"bytes"

	"github.com/valyala/fastjson"
)

// KeyedRequest is the body of config and distributed/read.
type KeyedRequest struct {
	NodeKey string `json:"node_key"`
}

// ETag returns the etag of a config request's body, and whether it has one: an
// agent that knows etags sends "" before it has any. Such an agent is answered
// {"etag":"ok"} when it has the config, else the config with a top-level "etag"
// (osquery pull request 9033).
func ETag(body []byte) (etag string, ok bool) {
	if !bytes.Contains(body, []byte(`"etag"`)) {
		return "", false // as nearly all, without a parser
	}
	err := object(body, func(v *fastjson.Value) error {
		if e := v.Get("etag"); e != nil {
			etag, ok = text(e), true
		}
		return nil
	})
	return etag, ok && err == nil
}

// Unchanged tells an agent that it has the config already.
const Unchanged = `{"etag":"ok"}`

// Encode returns the body that osquery sends.
func (r KeyedRequest) Encode() ([]byte, error) { return encode(r) }

// DecodeNodeKey returns the node_key of any request body; one without a key
// gives "". Agents send the key as the first or the last member, and there it
// is read without a parser: the two hottest calls hold nothing else, and log
// lines are parsed only once, for a node that is known. So "" of no error does
// not say that the body is JSON.
func DecodeNodeKey(body []byte) (string, error) {
	if key, ok := firstKey(body); ok {
		return Clean(key), nil
	}
	if key, ok := lastKey(body); ok {
		return Clean(key), nil
	}
	var key string
	err := object(body, func(v *fastjson.Value) error {
		key = text(v.Get("node_key"))
		return nil
	})
	return key, err
}

// maxKey bounds the keys that are looked for without a parser.
const maxKey = 512

// firstKey reads the key from the body's first member.
func firstKey(body []byte) (key []byte, ok bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"node_key":"`))
	if !ok {
		return nil, false
	}
	n := bytes.IndexByte(rest[:min(len(rest), maxKey)], '"')
	if n < 0 || len(rest) == n+1 || (rest[n+1] != ',' && rest[n+1] != '}') {
		return nil, false
	}
	return rest[:n], plain(rest[:n])
}

// lastKey reads the key from the body's last member. In JSON, the last quote
// closes a string of the outermost object, and as no quote in what is compared
// follows a backslash, so do the others open and close.
func lastKey(body []byte) (key []byte, ok bool) {
	rest, ok := bytes.CutSuffix(body, []byte(`"}`))
	if !ok || body[0] != '{' {
		return nil, false
	}
	from := max(0, len(rest)-maxKey)
	n := bytes.LastIndexByte(rest[from:], '"')
	if n < 0 || !bytes.HasSuffix(rest[:from+n], []byte(`,"node_key":`)) {
		return nil, false
	}
	key = rest[from+n+1:]
	return key, plain(key)
}

// plain reports whether the inside of a JSON string means itself.
func plain(s []byte) bool {
	return !bytes.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\\' })
}
