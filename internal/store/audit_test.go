//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

func testAudit(t *testing.T, s *store.Store) {
	if n, err := s.VerifyAudit(t.Context()); n != 0 || err != nil {
		t.Errorf("empty log: %d, %v", n, err)
	}
	var want []audit.Entry
	for i := range 5 {
		e := must(s.AppendAudit(t.Context(), audit.Entry{
			Time: start.Add(time.Duration(i) * time.Nanosecond).In(time.FixedZone("", 3600)), Actor: "ada\x00", Action: "live.start", Target: fmt.Sprint(i),
			Session: "5e55\xff", Address: "192.0.2.7", Object: "live/\x00", ContentHash: "abc", Reason: "why\x00", Approvals: []string{"bob\x00", `"`},
			Detail: `{"sql":"a\u0000é"}`,
		}))(t)
		want = append([]audit.Entry{e}, want...)
	}
	if e := want[0]; e.Outcome != audit.Done || e.Version == 0 || e.Approvals[0] != `bob\x00` {
		t.Errorf("%+v", e)
	}
	if diff := cmp.Diff(want, must(s.AuditEntries(t.Context(), audit.Filter{Limit: 10}))(t)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[2:4], must(s.AuditEntries(t.Context(), audit.Filter{Before: 4, Limit: 2}))(t)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if n, err := s.VerifyAudit(t.Context()); n != 5 || err != nil {
		t.Errorf("verified %d, %v", n, err)
	}
	ok(t, audit.NewLog(s, func() time.Time { return start }).Record(t.Context(), "ada", "a.b", "c", map[string]int{"d": 1}))
	if n := must(s.AuditSize(t.Context()))(t); n != 6 {
		t.Errorf("size %d", n)
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

// onEngines runs a test with a database of its own on each engine.
func onEngines(t *testing.T, test func(*testing.T, *store.Store, string)) {
	t.Parallel()
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			location := e.fresh(t)
			test(t, storetest.Open(t, location), location)
		})
	}
}

func TestAuditEntries(t *testing.T) {
	onEngines(t, func(t *testing.T, s *store.Store, _ string) {
		for i, e := range []audit.Entry{
			{Actor: "ada", Action: "live.start", Target: "q1"},
			{Actor: "bob", Action: "live.stop", Target: "q1"},
			{Actor: "eve", Action: "live.start", Target: "q2", Outcome: audit.Refused},
			{Actor: "ada", Action: "lives%", Target: "q1"},
			{Actor: "ada", Action: "node.tag", Target: "n_1"},
		} {
			e.Time = start.Add(time.Duration(i) * time.Hour)
			must(s.AppendAudit(t.Context(), e))(t)
		}
		for name, c := range map[string]struct {
			f    audit.Filter
			want string
		}{
			"all":       {audit.Filter{}, "5 4 3 2 1"},
			"before":    {audit.Filter{Before: 4, Limit: 2}, "3 2"},
			"ascending": {audit.Filter{Ascending: true, After: 1, Limit: 3}, "2 3 4"},
			"actor":     {audit.Filter{Actor: "ada"}, "5 4 1"},
			"target":    {audit.Filter{Target: "q1", Before: 4}, "2 1"},
			"outcome":   {audit.Filter{Outcome: audit.Refused}, "3"},
			"action":    {audit.Filter{Action: "live."}, "3 2 1"},
			"literal":   {audit.Filter{Action: "lives%"}, "4"},
			"no such":   {audit.Filter{Action: "l%"}, ""},
			"since":     {audit.Filter{Since: start.Add(3 * time.Hour)}, "5 4"},
			"until":     {audit.Filter{Until: start.Add(time.Hour)}, "1"},
			"together":  {audit.Filter{Actor: "ada", Action: "li", Since: start, Until: start.Add(5 * time.Hour), Outcome: audit.Done, Ascending: true}, "1 4"},
			"injection": {audit.Filter{Actor: "' OR 1=1 --"}, ""},
		} {
			var got []string
			for _, e := range must(s.AuditEntries(t.Context(), c.f))(t) {
				got = append(got, fmt.Sprint(e.Seq))
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%s: %s; want %s", name, got, c.want)
			}
		}
	})
}

// checkpointOf returns what a notary would sign of the first entries.
func checkpointOf(t *testing.T, s *store.Store, size int64) audit.Checkpoint {
	root := must(tlog.TreeHash(size, audit.Hashes(t.Context(), s)))(t)
	return audit.Checkpoint{Origin: "test", Size: size, Root: root, Time: start}
}

// TestAuditTampered does to the database what who can write to it could do.
func TestAuditTampered(t *testing.T) {
	onEngines(t, func(t *testing.T, s *store.Store, location string) {
		const size = 12
		log := audit.NewLog(s, func() time.Time { return start })
		for i := range size {
			ctx := audit.WithCaller(t.Context(), audit.Caller{Session: "5e55", Address: "192.0.2.7"})
			must(log.Append(ctx, audit.Entry{Actor: "ada", Action: "live.start", Target: fmt.Sprint(i), Object: "live", Reason: "r", Approvals: []string{"bob"}}, map[string]int{"i": i}))(t)
		}
		checkpoints := []audit.Checkpoint{checkpointOf(t, s, 3), checkpointOf(t, s, 8), checkpointOf(t, s, 11)}
		store.Exec(t, s, `CREATE TABLE entry_copy AS SELECT * FROM audit`)
		store.Exec(t, s, `CREATE TABLE hash_copy AS SELECT * FROM audit_hash`)
		check := func(name, want string, harm func()) {
			t.Helper()
			harm()
			r := must(audit.Verify(t.Context(), s, checkpoints...))(t)
			if got := brief(r); got != want {
				t.Errorf("%s: %s; want %s\n%+v", name, got, want, r.Findings)
			}
			for _, repair := range []string{
				`DELETE FROM audit`, `INSERT INTO audit SELECT * FROM entry_copy`, `DELETE FROM audit_hash`, `INSERT INTO audit_hash SELECT * FROM hash_copy`,
				fmt.Sprintf(`UPDATE counter SET value = %d WHERE name = 'audit'`, size),
			} {
				store.Exec(t, s, repair)
			}
		}
		sql := func(statements ...string) func() {
			return func() {
				for _, statement := range statements {
					store.Exec(t, s, statement)
				}
			}
		}
		check("whole", "12 whole, 11 signed", sql())
		for _, column := range []string{"actor", "session", "address", "action", "outcome", "target", "object", "content_hash", "reason", "approvals", "detail", "prev", "hash"} {
			for _, value := range []string{column + ` || 'x'`, `''`} {
				check(column+" = "+value, "4 whole, 3 signed: edited 5", sql(`UPDATE audit SET `+column+` = `+value+` WHERE seq = 5`))
			}
		}
		for _, harm := range []string{
			`time = time + 1`, `time = 9223372036854775807`, `time = -9223372036854775807`, `version = 1`, `version = 3`, `version = 0`, `version = 3, hash = ''`,
			`approvals = '[]'`, `approvals = '["bob" ]'`, `approvals = 'null'`,
		} {
			check(harm, "4 whole, 3 signed: edited 5", sql(`UPDATE audit SET `+harm+` WHERE seq = 5`))
		}
		check("two", "0 whole, 0 signed: edited 1, edited 7", sql(`UPDATE audit SET actor = 'eve' WHERE seq IN (1, 7)`))
		check("all", "0 whole, 0 signed: edited 1-12", sql(`UPDATE audit SET actor = 'eve'`))

		check("removed", "4 whole, 3 signed: missing 5", sql(`DELETE FROM audit WHERE seq = 5`))
		check("several removed", "0 whole, 0 signed: missing 1-2, missing 5-6", sql(`DELETE FROM audit WHERE seq IN (1, 2, 5, 6)`))
		check("removed and renumbered", "4 whole, 3 signed: missing 5, truncated 12",
			sql(`DELETE FROM audit WHERE seq = 5`, `UPDATE audit SET seq = -seq WHERE seq > 5`, `UPDATE audit SET seq = -seq - 1 WHERE seq < 0`))
		check("truncated", "10 whole, 8 signed: truncated 11-12", sql(`DELETE FROM audit WHERE seq > 10`))
		check("truncated, and counted", "10 whole, 8 signed: truncated 11", sql(`DELETE FROM audit WHERE seq > 10`, `UPDATE counter SET value = 10 WHERE name = 'audit'`))
		check("all removed", "0 whole, 0 signed: truncated 1-12", sql(`DELETE FROM audit`))
		check("all removed, and counted", "0 whole, 0 signed: truncated 1-11", sql(`DELETE FROM audit`, `DELETE FROM audit_hash`, `UPDATE counter SET value = 0 WHERE name = 'audit'`))

		check("swapped", "4 whole, 3 signed: moved 5, moved 6",
			sql(`UPDATE audit SET seq = -5 WHERE seq = 5`, `UPDATE audit SET seq = 5 WHERE seq = 6`, `UPDATE audit SET seq = 6 WHERE seq = -5`))
		check("far apart", "1 whole, 0 signed: moved 2, moved 11",
			sql(`UPDATE audit SET seq = -2 WHERE seq = 2`, `UPDATE audit SET seq = 2 WHERE seq = 11`, `UPDATE audit SET seq = 11 WHERE seq = -2`))

		const fake = `INSERT INTO audit (seq, time, actor, action, target, detail, prev, hash, version) SELECT %d, time, 'eve', action, target, detail, prev, hash, 2 FROM audit WHERE seq = 1`
		check("put in", "4 whole, 3 signed: edited 5, inserted 5",
			sql(`UPDATE audit SET seq = -seq WHERE seq >= 5`, `UPDATE audit SET seq = -seq + 1 WHERE seq < 0`, fmt.Sprintf(fake, 5), `UPDATE counter SET value = 13 WHERE name = 'audit'`))
		check("put in front", "0 whole, 0 signed: inserted -3", sql(fmt.Sprintf(fake, -3)))
		check("put behind", "12 whole, 11 signed: edited 13, inserted 13", sql(fmt.Sprintf(fake, 13)))
		check("put far behind", "12 whole, 11 signed: missing 13-99, inserted 13-100, edited 100", sql(fmt.Sprintf(fake, 100)))

		check("replaced", "4 whole, 3 signed: edited 5", func() { forge(t, s, 5, 5) })
		check("the chain made anew", "4 whole, 3 signed: edited 5-12", func() { forge(t, s, 5, size) })
		check("chain and tree made anew", "3 whole, 3 signed: rewritten 4-8", func() {
			forge(t, s, 5, size)
			store.Exec(t, s, `DELETE FROM audit_hash`)
			ok(t, storetest.Open(t, location).Ping(t.Context())) // a start makes the tree
		})
		check("signed yet", "11 whole, 11 signed: edited 12", func() { forge(t, s, 12, 12) })

		leaf := tlog.StoredHashIndex(0, 4)
		check("leaf", "4 whole, 3 signed: edited 5", sql(fmt.Sprintf(`UPDATE audit_hash SET hash = 'x' WHERE id = %d`, leaf)))
		check("no leaf", "4 whole, 3 signed: tree 5", sql(fmt.Sprintf(`DELETE FROM audit_hash WHERE id = %d`, leaf)))
		check("node", "5 whole, 3 signed: tree 6", sql(fmt.Sprintf(`UPDATE audit_hash SET hash = (SELECT hash FROM hash_copy WHERE id = 0) WHERE id = %d`, leaf+2)))
		check("whole again", "12 whole, 11 signed", sql())
	})
}

// brief is a report in a line.
func brief(r audit.Report) string {
	var found []string
	for _, f := range r.Findings {
		text := fmt.Sprintf("%s %d", f.Kind, f.First)
		if f.Last != f.First {
			text += fmt.Sprintf("-%d", f.Last)
		}
		found = append(found, text)
	}
	text := fmt.Sprintf("%d whole, %d signed", r.Whole, r.Signed)
	if len(found) > 0 {
		text += ": " + strings.Join(found, ", ")
	}
	return text
}

// forge changes an entry and seals those up to last anew.
func forge(t *testing.T, s *store.Store, first, last int64) {
	entries := must(s.AuditEntries(t.Context(), audit.Filter{Ascending: true, Limit: int(last)}))(t)
	entries[first-1].Actor = "eve"
	for i := first - 1; i < last; i++ {
		if i > 0 {
			entries[i].Prev = entries[i-1].Hash
		}
		entries[i].Seal()
	}
	ok(t, s.OverwriteAudit(t.Context(), entries[first-1:last]...))
}

// TestAuditAdopt: a log from before there was a tree.
func TestAuditAdopt(t *testing.T) {
	t.Parallel()
	for _, e := range []struct {
		name  string
		empty func(*testing.T) string
	}{
		{"sqlite", func(t *testing.T) string { return t.TempDir() + "/state.db" }},
		{"postgres", func(t *testing.T) string { return postgres(t).Empty(t) }},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			const size = 2500 // more than a chunk
			location := e.empty(t)
			store.OpenAt(t, location, 2, oldLog(size)...)
			s := storetest.Open(t, location)
			old := must(s.AuditEntries(t.Context(), audit.Filter{Limit: 1}))(t)
			if len(old) != 1 || old[0].Seq != size || old[0].Version != 1 || old[0].Outcome != audit.Done {
				t.Fatalf("%+v", old)
			}
			must(s.AppendAudit(t.Context(), audit.Entry{Time: start, Actor: "ada", Action: "a.b"}))(t)
			if n, err := s.VerifyAudit(t.Context()); n != size+1 || err != nil {
				t.Fatalf("verified %d, %v", n, err)
			}
			for _, harm := range []string{`reason = 'x'`, `approvals = '["eve"]'`, `outcome = 'refused'`, `version = 2`, `session = 'x'`} {
				store.Exec(t, s, `UPDATE audit SET `+harm+` WHERE seq = 7`)
				if n, err := s.VerifyAudit(t.Context()); n != 6 || !errs.Is(err, errs.Conflict) {
					t.Errorf("%s: verified %d, %v", harm, n, err)
				}
				store.Exec(t, s, `UPDATE audit SET reason = '', approvals = '[]', outcome = 'done', version = 1, session = '' WHERE seq = 7`)
			}
			ok(t, s.Close())
			// One that was tampered with before must not keep the server from starting.
			s = storetest.Open(t, location)
			store.Exec(t, s, `DELETE FROM audit WHERE seq IN (3, 2000)`)
			store.Exec(t, s, `DELETE FROM audit_hash WHERE id > 50`)
			ok(t, s.Close())
			s = storetest.Open(t, location)
			must(s.AppendAudit(t.Context(), audit.Entry{Time: start, Actor: "ada", Action: "a.b"}))(t)
			r := must(audit.Verify(t.Context(), s))(t)
			if got := brief(r); got != "2 whole, 0 signed: missing 3, missing 2000" {
				t.Error(got)
			}
		})
	}
}

// oldLog returns the statements that fill a log as the first version sealed it.
func oldLog(size int) []string {
	var rows []string
	var prev audit.Entry
	for i := range size {
		e := audit.Entry{Version: 1, Seq: int64(i) + 1, Time: start, Actor: "ada", Action: "live.start", Target: fmt.Sprint(i), Detail: `{}`, Prev: prev.Hash}
		e.Seal()
		rows = append(rows, fmt.Sprintf(`(%d, %d, '%s', '%s', '%s', '%s', '%s', '%s')`, e.Seq, e.Time.UnixMicro(), e.Actor, e.Action, e.Target, e.Detail, e.Prev, e.Hash))
		prev = e
	}
	return []string{
		`INSERT INTO audit (seq, time, actor, action, target, detail, prev, hash) VALUES ` + strings.Join(rows, ", "),
		fmt.Sprintf(`UPDATE counter SET value = %d WHERE name = 'audit'`, size),
	}
}

// TestAuditHarmed: a tree that lacks what an entry needs takes none.
func TestAuditHarmed(t *testing.T) {
	onEngines(t, func(t *testing.T, s *store.Store, location string) {
		for range 3 {
			must(s.AppendAudit(t.Context(), audit.Entry{Time: start}))(t)
		}
		store.Exec(t, s, `DELETE FROM audit_hash WHERE id = 3`) // the third leaf
		_, err := s.AppendAudit(t.Context(), audit.Entry{Time: start})
		wantKind(t, err, errs.Conflict)
		if n := must(s.AuditSize(t.Context()))(t); n != 3 {
			t.Errorf("size %d", n)
		}
		other := storetest.Open(t, location)
		must(other.AppendAudit(t.Context(), audit.Entry{Time: start}))(t)
		if n, err := s.VerifyAudit(t.Context()); n != 4 || err != nil {
			t.Errorf("verified %d, %v", n, err)
		}
	})
}

// BenchmarkAppendAudit is one entry at a time, each with a sync.
func BenchmarkAppendAudit(b *testing.B) {
	s := storetest.Open(b, b.TempDir()+"/state.db")
	e := audit.Entry{Time: start, Actor: "ada", Action: "live.start", Target: "q", Detail: `{"sql":"SELECT 1"}`}
	for b.Loop() {
		must(s.AppendAudit(b.Context(), e))(b)
	}
}

// BenchmarkAppendAudit_together is many at once, which share syncs.
func BenchmarkAppendAudit_together(b *testing.B) {
	s := storetest.Open(b, b.TempDir()+"/state.db")
	e := audit.Entry{Time: start, Actor: "ada", Action: "live.start", Target: "q", Detail: `{"sql":"SELECT 1"}`}
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			must(s.AppendAudit(b.Context(), e))(b)
		}
	})
}

func BenchmarkVerifyAudit(b *testing.B) {
	s := storetest.Open(b, b.TempDir()+"/state.db")
	const size = 5000
	for _, err := range together(50, func(int) error {
		for range size / 50 {
			if _, err := s.AppendAudit(b.Context(), audit.Entry{Time: start, Actor: "ada", Action: "live.start", Detail: `{"sql":"SELECT 1"}`}); err != nil {
				return err
			}
		}
		return nil
	}) {
		ok(b, err)
	}
	for b.Loop() {
		if r := must(audit.Verify(b.Context(), s))(b); r.Whole != size {
			b.Fatal(r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/entry")
}
