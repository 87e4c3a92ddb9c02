package store_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/rollout"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

var update = flag.Bool("update", false, "write the golden files")

// TestDocument: what this version reads of documents that it or an earlier one
// kept. They are Go structs as JSON, so a field that gets another name loses
// what is kept under the former one: such a field needs a json tag, or a
// migration.
func TestDocument(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := filled[change.Change](t)
	c.State = change.Pending
	c = must(s.CreateChange(t.Context(), c))(t)
	r := filled[rollout.Rollout](t)
	r.Revision, r.State = 1, rollout.Done
	opens := commit(1, 1)
	opens.Opens = &r
	ok(t, s.Commit(t.Context(), opens))
	for table, read := range map[string]func() (any, error){
		"change":  func() (any, error) { return s.Change(t.Context(), c.ID) },
		"rollout": func() (any, error) { return s.Rollout(t.Context(), r.Revision) },
	} {
		golden := "testdata/" + table + ".json"
		if *update {
			kept := indented(t, []byte(store.QueryText(t, s, `SELECT document FROM `+table)))
			ok(t, os.WriteFile(golden, []byte(kept), 0o600))
		}
		former := string(must(os.ReadFile(golden))(t))
		store.Exec(t, s, fmt.Sprintf(`UPDATE %s SET document = '%s'`, table, strings.ReplaceAll(former, `'`, `''`)))
		v, err := read()
		if diff := cmp.Diff(former, indented(t, must(json.Marshal(must(v, err)(t)))(t))); diff != "" {
			t.Errorf("%s (-kept +read); if there are only new fields, run go test -update:\n%s", table, diff)
		}
	}
}

// indented is JSON with its fields in one form and order.
func indented(tb testing.TB, doc []byte) string {
	tb.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(string(doc)))
	d.UseNumber()
	ok(tb, d.Decode(&v))
	return string(must(json.MarshalIndent(v, "", "  "))(tb)) + "\n"
}
