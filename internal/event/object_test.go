package event_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"

	"github.com/musterhq/muster/internal/event"
)

// FuzzObject compares with encoding/json: what that reads as an object of
// strings is read alike, and written so that it reads alike again.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{}`, ` {"a" : "b"} `, `{"a":"\u0000\\\"","a":"\ud800"}`, "{\"\xff\":\"\x80\"}", `{"a":1}`, `{"a":"b",}`, `{"a":"\`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o event.Object
		pairs, ok := o.Read(b)
		if bytes.Contains(b, []byte("null")) {
			return // encoding/json reads null as ""
		}
		var want map[string]string
		err := json.Unmarshal(b, &want)
		if !ok {
			if err == nil && want != nil {
				t.Fatalf("%q is not read", b)
			}
			return
		}
		if err != nil {
			return // more lenient about control characters
		}
		var got map[string]string
		if err := json.Unmarshal(event.AppendObject(nil, pairs), &got); err != nil || !maps.Equal(got, want) {
			t.Fatalf("%q → %q, want %q: %v", b, got, want, err)
		}
	})
}
