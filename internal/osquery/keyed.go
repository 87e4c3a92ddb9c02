package osquery

import (
	"bytes"

	"github.com/valyala/fastjson"
)

// KeyedRequest is the body of config and distributed/read.
type KeyedRequest struct {
	NodeKey string `json:"node_key"`
}

// Encode returns the body that osquery sends.
func (r KeyedRequest) Encode() ([]byte, error) { return encode(r) }

// DecodeNodeKey returns the node_key of any request body. The two hottest
// calls hold nothing else, so their exact form is read without a parser. A
// body without a key gives "".
func DecodeNodeKey(body []byte) (string, error) {
	const head, tail = `{"node_key":"`, `"}`
	if bytes.HasPrefix(body, []byte(head)) && bytes.HasSuffix(body, []byte(tail)) && len(body) >= len(head)+len(tail) {
		key := body[len(head) : len(body)-len(tail)]
		if bytes.IndexByte(key, '"') < 0 && bytes.IndexByte(key, '\\') < 0 {
			return Clean(key), nil
		}
	}
	var key string
	err := object(body, func(v *fastjson.Value) error {
		key = text(v.Get("node_key"))
		return nil
	})
	return key, err
}
