package agenttest_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/osquery"
)

func TestPoll(t *testing.T) {
	s := newServer(t)
	n, err := agenttest.New(agenttest.Options{URL: s.url(), RootCAs: s.pool, Secret: secret, Platform: "linux", Number: 42})
	must(t, err)
	if count, err := n.Poll(t.Context()); count != 0 || err != nil {
		t.Errorf("nothing to do: %d, %v", count, err)
	}
	s.setRead(`{"queries":{"b":"SELECT hostname, uuid AS id FROM system_info","a":"SELECT * FROM nope","skip":"SELECT 1","dead":"SELECT 1 /* simulate:silence */"},
		"discovery":{"skip":"SELECT 1 FROM os_version WHERE platform='beos'"},"accelerate":60}`)
	s.setBefore(func(path string, w http.ResponseWriter) bool {
		if path == "distributed/write" {
			_, _ = io.WriteString(w, `{"error":"later"}`)
		}
		return path == "distributed/write"
	})
	if _, err := n.Poll(t.Context()); err == nil {
		t.Error("no error for a failed write")
	}
	s.setBefore(nil)
	s.setRead(`{"queries":{}}`)
	count, err := n.Poll(t.Context())
	must(t, err)
	details := n.Host().Details()["system_info"]
	want := []osquery.QueryAnswer{
		{ID: "a", Rows: []osquery.Row{}, Status: 1, Message: "no such table: nope"},
		{
			ID: "b", Rows: []osquery.Row{{{Name: "hostname", Value: details["hostname"]}, {Name: "id", Value: details["uuid"]}}},
			Stats: osquery.QueryStats{WallTimeMs: 1, UserTime: 1, Memory: 1024},
		},
	}
	if diff := cmp.Diff(want, s.answers()); diff != "" || count != 2 {
		t.Errorf("%d answers (-want +got):\n%s", count, diff)
	}
}

func TestReadWrite(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	s.setRead(`{"queries":{"q":"SELECT 1","bad":5,"after":"SELECT 2"},"accelerate":"60"}`)
	got, err := n.Read(t.Context())
	must(t, err)
	if diff := cmp.Diff(osquery.DistributedReadResponse{Queries: map[string]string{"q": "SELECT 1"}}, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	answers := []osquery.QueryAnswer{{ID: "q", Rows: []osquery.Row{{{Name: "1", Value: "1"}}}}}
	must(t, n.Write(t.Context(), answers))
	if diff := cmp.Diff(answers, s.answers()); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
}

func TestTables(t *testing.T) {
	var tables agenttest.Tables
	h := agenttest.NewHost(7, "linux")
	os := h.Details()["os_version"]
	tests := []struct {
		sql     string
		columns []string // of the first row
		first   string   // value of its first column
		rows    int      // -1: some
		message string
	}{
		{sql: "SELECT 1", columns: []string{"1"}, first: "1", rows: 1},
		{sql: "select 'x' as y;", columns: []string{"y"}, first: "x", rows: 1},
		{sql: "SELECT name, version FROM os_version", columns: []string{"name", "version"}, first: os["name"], rows: 1},
		{sql: "SELECT v.name FROM os_version AS v WHERE v.name = '" + os["name"] + "';", columns: []string{"name"}, first: os["name"], rows: 1},
		{sql: "SELECT 1 FROM os_version WHERE platform = 'darwin'", rows: 0},
		{sql: "SELECT count(*) AS n FROM processes -- all", columns: []string{"n"}, first: "27", rows: 1},
		{sql: "SELECT pid FROM processes WHERE pid = 1", columns: []string{"pid"}, first: "1", rows: 1},
		{sql: "SELECT pid, name\nFROM processes\nORDER BY pid LIMIT 2", columns: []string{"pid", "name"}, first: "1", rows: 2},
		{sql: "SELECT upper(name) AS n, path FROM processes WHERE name LIKE 's%'", columns: []string{"n", "path"}, rows: -1},
		{sql: "SELECT path, size FROM file WHERE path = '/etc/hosts'", columns: []string{"path", "size"}, first: "/etc/hosts", rows: -1},
		{sql: "SELECT p.name, u.username FROM processes p JOIN users u USING (uid)", columns: []string{"name", "username"}, rows: -1},
		{sql: "WITH a AS (SELECT 1) SELECT * FROM a", columns: []string{"simulated"}, first: "1", rows: 1},
		{sql: "SELECT * FROM file", message: "Table file was queried without a required column in the WHERE clause"},
		{sql: "SELECT * FROM registry", message: "no such table: registry"},
		{sql: "SELECT nope FROM processes", message: "no such column: nope"},
		{sql: "SELECT 1 /* simulate:error */", message: "simulated failure"},
	}
	for _, tt := range tests {
		a, ok := tables.Answer(h, "id", tt.sql)
		if !ok || a.ID != "id" || a.Message != tt.message || (a.Status != 0) != (tt.message != "") {
			t.Errorf("%s: got %+v", tt.sql, a)
			continue
		}
		if tt.rows >= 0 && len(a.Rows) != tt.rows || tt.rows < 0 && len(a.Rows) == 0 {
			t.Errorf("%s: %d rows, want %d", tt.sql, len(a.Rows), tt.rows)
		}
		if len(a.Rows) == 0 {
			continue
		}
		var columns []string
		for _, c := range a.Rows[0] {
			columns = append(columns, c.Name)
		}
		if diff := cmp.Diff(tt.columns, columns); diff != "" {
			t.Errorf("%s: columns (-want +got):\n%s", tt.sql, diff)
		}
		if tt.first != "" && a.Rows[0][0].Value != tt.first {
			t.Errorf("%s: first value is %q, want %q", tt.sql, a.Rows[0][0].Value, tt.first)
		}
	}
	if _, ok := tables.Answer(h, "id", "SELECT 1 -- simulate:silence"); ok {
		t.Error("an answer where silence was asked for")
	}
	a, _ := tables.Answer(h, "id", "SELECT * FROM processes")
	if _, ok := a.Rows[0].Get("resident_size"); !ok || len(a.Rows[0]) < 20 {
		t.Errorf("SELECT * gave %v", a.Rows[0])
	}
}
