package transparency_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/transparency"
)

func signer(key string) transparency.Signer {
	return transparency.NewSigner(node.NewKeyer([]byte(strings.Repeat(key, 32))))
}

var end = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

func TestLink(t *testing.T) {
	t.Parallel()
	s := signer("k")
	l := transparency.Link{NodeID: "0123456789abcdef", Expires: end, Epoch: 7}
	token := s.Token(l)
	if got, ok := s.Read(token, end.Add(-time.Second)); !ok || got != l {
		t.Errorf("read back: %+v, %t", got, ok)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	// No byte of it can be another.
	for i := range raw {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		if got, ok := s.Read(base64.RawURLEncoding.EncodeToString(b), end.Add(-time.Hour)); ok {
			t.Errorf("with byte %d changed: %+v", i, got)
		}
	}
	spare := transparency.Link{NodeID: "0123456789abcde", Expires: end} // its token ends in unused bits
	odd := s.Token(spare)
	if len(odd)%4 == 0 {
		t.Fatal("the token has no unused bits")
	}
	other := []byte(odd)
	other[len(other)-1]++ // A to B: the bits that count are the same
	for name, c := range map[string]struct {
		token string
		now   time.Time
	}{
		"at its end":      {token, end},
		"after its end":   {token, end.Add(time.Hour)},
		"empty":           {"", end.Add(-time.Hour)},
		"no base64":       {"!", end.Add(-time.Hour)},
		"line feed":       {token[:10] + "\n" + token[10:], end.Add(-time.Hour)},
		"padded":          {token + "=", end.Add(-time.Hour)},
		"shorter":         {token[:len(token)-4], end.Add(-time.Hour)},
		"longer":          {token + "AAAA", end.Add(-time.Hour)},
		"another key's":   {signer("x").Token(l), end.Add(-time.Hour)},
		"spelt otherwise": {string(other), end.Add(-time.Hour)},
		"too long":        {strings.Repeat("A", 1<<20), end.Add(-time.Hour)},
		"no node":         {s.Token(transparency.Link{Expires: end}), end.Add(-time.Hour)},
		"a hash alone":    {base64.RawURLEncoding.EncodeToString(raw[len(raw)-32:]), end.Add(-time.Hour)},
	} {
		if got, ok := s.Read(c.token, c.now); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, ok := s.Read(odd, end.Add(-time.Hour)); !ok {
		t.Error("the one with unused bits is refused as it was made")
	}
}

// FuzzLink: what is read is exactly what was made, and nothing else is read.
func FuzzLink(f *testing.F) {
	s := signer("k")
	f.Add(s.Token(transparency.Link{NodeID: "n", Expires: end}))
	f.Add(s.Token(transparency.Link{NodeID: "0123456789abcdef", Expires: end, Epoch: -1}))
	f.Add(signer("x").Token(transparency.Link{NodeID: "n", Expires: end}))
	f.Add("")
	f.Add("AQ")
	f.Add(strings.Repeat("0", 254)) // the longest id
	f.Fuzz(func(t *testing.T, token string) {
		l, ok := s.Read(token, end.Add(-time.Hour))
		if ok && s.Token(l) != token {
			t.Errorf("%q is read as %+v, whose token is %q", token, l, s.Token(l))
		}
		made := transparency.Link{NodeID: "n" + token, Expires: end, Epoch: int64(len(token))}
		if got, ok := s.Read(s.Token(made), end.Add(-time.Hour)); len(made.NodeID) <= 255 && (!ok || got != made) {
			t.Errorf("%+v is read as %+v, %t", made, got, ok)
		}
	})
}
