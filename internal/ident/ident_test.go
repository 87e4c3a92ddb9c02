package ident_test

import (
	"encoding/base64"
	"regexp"
	"testing"

	"github.com/musterhq/muster/internal/ident"
)

func TestIdent(t *testing.T) {
	t.Parallel()
	id := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{16}$`)
	seen := map[string]bool{}
	for range 10_000 {
		n, s := ident.New(), ident.Secret()
		if !id.MatchString(n) {
			t.Fatalf("id %q", n)
		}
		if b, err := base64.RawURLEncoding.DecodeString(s); err != nil || len(b) != 32 {
			t.Fatalf("secret %q: %v", s, err)
		}
		if seen[n] || seen[s] {
			t.Fatalf("%q or %q came before", n, s)
		}
		seen[n], seen[s] = true, true
	}
}
