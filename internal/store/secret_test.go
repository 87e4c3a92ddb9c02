//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

func testSecret(t *testing.T, s *store.Store) {
	list := must(s.Secrets(t.Context()))(t)
	if list == nil || len(list) != 0 {
		t.Errorf("got %v, want an empty list", list)
	}
	b := node.Secret{
		Name: "b", Tags: []string{"x"}, MaxUses: 3, CreatedAt: start, CreatedBy: "ada", ExpiresAt: start.Add(time.Hour),
		CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, AgentTags: []string{"site:*", "web"},
	}
	ok(t, s.CreateSecret(t.Context(), b, keyHash("b")))
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: "a", CreatedAt: start}, keyHash("a")))
	wantKind(t, s.CreateSecret(t.Context(), node.Secret{Name: "a"}, keyHash("other")), errs.Conflict)
	wantKind(t, s.CreateSecret(t.Context(), node.Secret{Name: "c"}, keyHash("a")), errs.Conflict)
	ok(t, s.RevokeSecret(t.Context(), "a", start.Add(time.Minute)))
	ok(t, s.RevokeSecret(t.Context(), "a", start.Add(2*time.Minute)))
	wantKind(t, s.RevokeSecret(t.Context(), "c", start), errs.NotFound)
	wantKind(t, s.CreateSecret(t.Context(), node.Secret{Name: "a"}, keyHash("other")), errs.Conflict)
	want := []node.Secret{{Name: "a", Tags: []string{}, CreatedAt: start, RevokedAt: start.Add(time.Minute)}, b}
	if diff := cmp.Diff(want, must(s.Secrets(t.Context()))(t), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	e := enrolment("web-1", "a", start)
	_, err := s.Enrol(t.Context(), e, usable(e))
	wantKind(t, err, errs.Forbidden)
}

// testSecretRotate: the value before works until its time, whatever the clock
// did meanwhile; of two before, one.
func testSecretRotate(t *testing.T, s *store.Store) {
	secret(t, s, "servers", 0, "eu")
	secret(t, s, "other", 0)
	works := func(value string, at time.Time, want bool) {
		t.Helper()
		e := enrolment("web-1", value, at)
		if _, err := s.Enrol(t.Context(), e, usable(e)); (err == nil) != want || err != nil && !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%q at %v: %v, want it to work: %v", value, at.Sub(start), err, want)
		}
	}
	until := start.Add(time.Hour)
	got := must(s.RotateSecret(t.Context(), "servers", keyHash("second"), until))(t)
	if got.Name != "servers" || !got.OldUntil.Equal(until) || len(got.Tags) != 1 {
		t.Errorf("got %+v", got)
	}
	for _, by := range []time.Duration{0, time.Hour - 1000, time.Hour, 2 * time.Hour, 365 * 24 * time.Hour, -time.Hour, -365 * 24 * time.Hour, 0} {
		works("second", start.Add(by), true)
		works("servers", start.Add(by), by < time.Hour)
	}
	if uses := must(s.Secrets(t.Context()))(t)[1].Uses; uses != 13 {
		t.Errorf("%d uses were counted", uses)
	}

	must(s.RotateSecret(t.Context(), "servers", keyHash("third"), until))(t)
	works("servers", start, false)
	works("second", start, true)
	works("third", start, true)
	must(s.RotateSecret(t.Context(), "servers", keyHash("fourth"), time.Time{}))(t) // at once
	works("third", start, false)
	works("fourth", start, true)

	// A value is that of one secret.
	for _, taken := range []string{"fourth", "third", "other"} {
		wantKind(t, s.CreateSecret(t.Context(), node.Secret{Name: "new"}, keyHash(taken)), errs.Conflict)
		_, err := s.RotateSecret(t.Context(), "other", keyHash(taken), until)
		wantKind(t, err, errs.Conflict)
	}
	works("other", start, true)
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: "reborn"}, keyHash("servers"))) // nobody has it now
	works("servers", start, true)
	_, err := s.RotateSecret(t.Context(), "nobody", keyHash("new"), until)
	wantKind(t, err, errs.NotFound)
	ok(t, s.RevokeSecret(t.Context(), "other", start))
	_, err = s.RotateSecret(t.Context(), "other", keyHash("new"), until)
	wantKind(t, err, errs.Conflict)
	ok(t, s.CreateSecret(t.Context(), node.Secret{Name: "new"}, keyHash("new"))) // what failed left nothing
}

// testSecretValues: of many that choose one value at once, one gets it.
func testSecretValues(t *testing.T, s *store.Store) {
	const many = 8
	secret(t, s, "rotated", 0)
	got := 0
	for _, err := range together(many, func(i int) error {
		if i == 0 {
			_, err := s.RotateSecret(t.Context(), "rotated", keyHash("the same"), start)
			return err
		}
		return s.CreateSecret(t.Context(), node.Secret{Name: string(rune('a' + i))}, keyHash("the same"))
	}) {
		if err == nil {
			got++
		} else {
			wantKind(t, err, errs.Conflict)
		}
	}
	if got != 1 {
		t.Errorf("%d secrets have one value", got)
	}
}
