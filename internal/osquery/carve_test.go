package osquery

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeCarveStart(t *testing.T) {
	t.Parallel()
	want := CarveStart{Blocks: 4, BlockSize: 1000, Size: 3072, CarveID: "g", RequestID: "r", NodeKey: "k"}
	for _, body := range []string{
		`{"block_count":4,"block_size":1000,"carve_size":3072,"carve_id":"g","request_id":"r","node_key":"k"}`,
		`{"block_count":"4","block_size":"1000","carve_size":"3072","carve_id":"g","request_id":"r","node_key":"k"}`,
		` {"carve_size":3072.0,"block_count":4,"block_size":" 1000 ","carve_id":"g","x":[],"request_id":"r","node_key":"k"} `,
	} {
		got, err := DecodeCarveStart([]byte(body))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", body, err, diff)
		}
	}
	b, err := want.Encode()
	if err != nil || string(b) != `{"block_count":4,"block_size":1000,"carve_size":3072,"carve_id":"g","request_id":"r","node_key":"k"}` {
		t.Errorf("%s %v", b, err)
	}
	if got, err := DecodeCarveStart([]byte(`{"block_count":1e40,"block_size":{},"carve_size":-5}`)); err != nil || got != (CarveStart{Size: -5}) {
		t.Errorf("%+v %v", got, err)
	}
	for _, body := range []string{"", "[]", "{", "null", `{"a":`} {
		if _, err := DecodeCarveStart([]byte(body)); err == nil {
			t.Errorf("%q is taken", body)
		}
	}
}

func TestDecodeCarveBlock(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"block_id":3,"session_id":"s","request_id":"r","data":"aGk/"}`,
		`{"data":"aGk\/","block_id":"3","session_id":"s","request_id":"r"}`,
		"\t{ \"block_id\" : 3 ,\n\"x\":[{\"data\":\"]\"}],\"y\":null, \"session_id\":\"\\u0073\",\"request_id\":\"r\",\"data\":\"aGk/\"} ",
	} {
		got, err := DecodeCarveBlock([]byte(body))
		if err != nil || got.Block != 3 || got.SessionID != "s" || got.RequestID != "r" {
			t.Errorf("%s: %+v %v", body, got, err)
			continue
		}
		if data, err := got.Data(); err != nil || string(data) != "hi?" {
			t.Errorf("%s: %q %v", body, data, err)
		}
	}
	for _, body := range []string{
		"", "{", "{}", "[]", `""`, `{"block_id":-1}`, `{"block_id":1.5}`, `{"block_id":99999999999999999999}`, `{"block_id":1}x`, `{"block_id":1,}`,
		`{"block_id":1 "data":""}`, `{"block_id"}`, `{"block_id":1,"data":5}`, `{"block_id":1,"data":"\n"}`, `{"block_id":1,"data":"`,
		`{"block_id":1,"session_id":"` + strings.Repeat("x", 5000) + `"}`, `{"x":` + strings.Repeat("[", 40), `{"block_id":nul}`, `{"a":"\`,
	} {
		if got, err := DecodeCarveBlock([]byte(body)); err == nil {
			t.Errorf("%q is taken: %+v", body, got)
		}
	}
	for _, data := range []string{"a", "aaa", "aGk=aGk=", "a b=", "----", strings.Repeat("aGk=", 2000), strings.Repeat("A", 4096) + "=AAA"} {
		if _, err := (CarveBlock{Base64: []byte(data)}).Data(); err == nil {
			t.Errorf("%.20q is taken", data)
		}
	}
}

// TestCarveBlock_inPlace: what is decoded within its own memory is what was
// encoded, of any length.
func TestCarveBlock_inPlace(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 3071, 3072, 3073, 6143, 6144, 100_000} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		body := fmt.Appendf(nil, `{"block_id":0,"data":%q,"session_id":"after"}`, base64.StdEncoding.EncodeToString(want))
		c, err := DecodeCarveBlock(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Data()
		if err != nil || !bytes.Equal(got, want) || c.SessionID != "after" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzDecodeCarveStart(f *testing.F) {
	f.Add([]byte(`{"block_count":"4","block_size":1000,"carve_size":3072,"carve_id":"g","request_id":"r"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeCarveStart(body)
		if err != nil && c != (CarveStart{}) {
			t.Errorf("%+v with %v", c, err)
		}
	})
}

func FuzzDecodeCarveBlock(f *testing.F) {
	f.Add([]byte(`{"block_id":0,"session_id":"s","request_id":"r","data":"aGk="}`))
	f.Add([]byte(`{"data":"aGk\/","block_id":"3","x":{"y":["z"]},"session_id":"\u0073"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeCarveBlock(bytes.Clone(body))
		if err != nil {
			return
		}
		if c.Block < 0 {
			t.Error("a block before the first")
		}
		want, wrong := base64.StdEncoding.DecodeString(string(c.Base64))
		if got, err := c.Data(); err == nil && (wrong != nil || !bytes.Equal(got, want)) {
			t.Errorf("%q instead of %q, %v", got, want, wrong)
		}
	})
}
