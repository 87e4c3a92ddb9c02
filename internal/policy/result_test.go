package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/policy"
)

func TestEngine_Result(t *testing.T) {
	t.Parallel()
	e, err := policy.New(policy.Rules{Views: map[string]string{"big": "SELECT pid, resident_size AS size FROM processes"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	tests := []struct{ sql, want string }{
		{"SELECT pid, name, start_time FROM processes", "pid integer processes.pid, name text processes.name, start_time integer processes.start_time"},
		{"SELECT p.pid AS id, u.username FROM processes p JOIN users u USING (uid)", "id integer processes.pid, username text users.username"},
		{"SELECT count(*), max(pid) AS top, name || 'x' FROM processes", "count(*) ? , top ? , name || 'x' ? "},
		{"SELECT size FROM big", "size integer processes.resident_size"},
		{"WITH p AS (SELECT pid AS a FROM processes) SELECT a FROM p", "a integer processes.pid"},
		{"SELECT x FROM (SELECT uid AS x FROM users UNION SELECT gid FROM groups)", "x integer groups.gid"},
		{"SELECT cpu_time_ratio FROM nothing", ""},
		{"SELECT average FROM load_average", "average text load_average.average"},
		{"SELECT name, last_opened_time AS \"when\" FROM apps", "name text apps.name, when double apps.last_opened_time"},
		{"SELECT percent_remaining FROM battery", "percent_remaining integer battery.percent_remaining"},
		{"SELECT 1 AS \"select\", 'a' AS \"a,b\n\"", "select ? , a,b\n ? "},
		{"DELETE FROM users", ""},
		{"SELECT 1; SELECT 2", ""},
		{"", ""},
		{"SELECT '\x00'", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, c := range e.Result(tt.sql) {
			kind, origin := string(c.Type), ""
			if c.Type == policy.Unknown {
				kind = "?"
			}
			if c.Table != "" {
				origin = c.Table + "." + c.Column
			}
			got = append(got, c.Name+" "+kind+" "+origin)
		}
		if d := cmp.Diff(tt.want, strings.Join(got, ", ")); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.sql, d)
		}
	}
	all := e.Result("SELECT * FROM processes")
	if len(all) < 20 || all[0].Name != "pid" || all[0].Type != policy.Integer {
		t.Errorf("SELECT * has %d columns: %v", len(all), all)
	}
	for _, c := range e.Result("SELECT * FROM cpu_info") {
		if c.Type == policy.Unknown {
			t.Errorf("%s has no type", c.Name)
		}
	}
}
