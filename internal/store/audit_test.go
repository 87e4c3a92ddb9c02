//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/store"
)

func testAudit(t *testing.T, s *store.Store) {
	if n, err := s.VerifyAudit(t.Context()); n != 0 || err != nil {
		t.Errorf("empty log: %d, %v", n, err)
	}
	var want []audit.Entry
	for i := range 5 {
		e := must(s.AppendAudit(t.Context(), audit.Entry{
			Time: start.Add(time.Duration(i) * time.Nanosecond).In(time.FixedZone("", 3600)), Actor: "ada\x00", Action: "live.start", Target: fmt.Sprint(i), Detail: `{"sql":"a\u0000é"}`,
		}))(t)
		want = append([]audit.Entry{e}, want...)
	}
	if diff := cmp.Diff(want, must(s.AuditEntries(t.Context(), 0, 10))(t)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[2:4], must(s.AuditEntries(t.Context(), 4, 2))(t)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if n, err := s.VerifyAudit(t.Context()); n != 5 || err != nil {
		t.Errorf("verified %d, %v", n, err)
	}
	ok(t, audit.NewLog(s, func() time.Time { return start }).Record(t.Context(), "ada", "a.b", "c", map[string]int{"d": 1}))
	for _, c := range []struct {
		name, harm, repair string
		whole              int64
	}{
		{"changed", `UPDATE audit SET actor = 'eve' WHERE seq = 3`, `UPDATE audit SET actor = 'ada\x00' WHERE seq = 3`, 2},
		{"out of the middle", `UPDATE audit SET seq = 100 WHERE seq = 4`, `UPDATE audit SET seq = 4 WHERE seq = 100`, 3},
		{"off the end", `UPDATE counter SET value = 7 WHERE name = 'audit'`, `UPDATE counter SET value = 6 WHERE name = 'audit'`, 6},
		{"whole", `UPDATE audit SET actor = actor`, `UPDATE audit SET actor = actor`, 6},
	} {
		store.Exec(t, s, c.harm)
		n, err := s.VerifyAudit(t.Context())
		if n != c.whole || errs.Is(err, errs.Conflict) == (c.name == "whole") {
			t.Errorf("%s: verified %d, %v", c.name, n, err)
		}
		store.Exec(t, s, c.repair)
	}
}

func testAuditTogether(t *testing.T, s *store.Store) {
	const writers, each = 8, 10
	for _, err := range together(writers, func(i int) error {
		for range each {
			if _, err := s.AppendAudit(t.Context(), audit.Entry{Time: start, Actor: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(t, err)
	}
	if n, err := s.VerifyAudit(t.Context()); n != writers*each || err != nil {
		t.Errorf("verified %d, %v", n, err)
	}
}
