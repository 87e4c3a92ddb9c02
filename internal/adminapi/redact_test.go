package adminapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/redact"
)

func TestRedactions(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	row := json.RawMessage(`{"cmdline":"mysql -pS3cret-1 db","pid":"1"}`)
	kept := string(w.redactor.Row(redact.Source{Query: "pack_base_processes"}, row))
	var s redact.Summary
	if err := w.call("GET", "/redactions", nil, nil, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Queries) != 1 || s.Queries[0].Query != "pack_base_processes" || s.Queries[0].Last.IsZero() {
		t.Errorf("counted %+v", s)
	}
	if want := map[string]int64{"password": 1}; s.Total != 1 || !cmp.Equal(s.Kinds, want) {
		t.Errorf("counted %+v", s)
	}

	var out adminapi.RedactionResult
	in := adminapi.RedactionTest{Rows: []json.RawMessage{row, []byte(`{"a":"b"}`)}, Text: "token=a1B2c3D4"}
	if err := w.call("POST", "/redactions/test", nil, in, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Findings) != 2 || out.Findings[0].Column != "cmdline" || out.Findings[0].Row != 0 || out.Findings[1].Row != -1 || out.Findings[1].Kind != "token" {
		t.Errorf("found %+v", out.Findings)
	}
	if string(out.Rows[1]) != `{"a":"b"}` || strings.Contains(string(out.Rows[0])+out.Text, "S3cret") || strings.Contains(out.Text, "a1B2") {
		t.Errorf("%s %s", out.Rows, out.Text)
	}
	if strings.Contains(kept, out.Findings[0].ID) {
		t.Errorf("the preview tells the id that events have, so that everybody can try guesses: %s", kept)
	}
	for name, bad := range map[string]adminapi.RedactionTest{
		"nothing": {}, "no object": {Rows: []json.RawMessage{[]byte(`[1]`)}}, "null": {Rows: []json.RawMessage{[]byte(`null`)}},
	} {
		if err := w.call("POST", "/redactions/test", nil, bad, nil); adminapi.Status(err) != 400 && adminapi.Status(err) != 422 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := w.redactions.Summary(); s.Total != 1 {
		t.Errorf("a preview counts: %+v", s)
	}
}
