package policy

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/internal/errs"
)

func TestRulesThatMakeNoSense(t *testing.T) {
	base := newEngine(t, Rules{})
	for _, test := range []struct {
		rules Rules
		field string
	}{
		{Rules{Tables: map[string]Rule{"proceses": {}}}, "tables.proceses"},
		{Rules{Tables: map[string]Rule{"processes": {Tier: 4}}}, "tables.processes"},
		{Rules{Columns: map[string]Rule{"processes": {}}}, "columns.processes"},
		{Rules{Columns: map[string]Rule{"processes.nosuch": {}}}, "columns.processes.nosuch"},
		{Rules{Functions: map[string]Rule{"load_extension": {}}}, "functions.load_extension"},
		{Rules{Arguments: map[string][]string{"file.nosuch": {"/"}}}, "arguments.file.nosuch"},
		{Rules{Arguments: map[string][]string{"file.path": {""}}}, "arguments.file.path"},
		{Rules{Pins: map[string]string{"abc": "x"}}, "pins.abc"},
		{Rules{Extensions: map[string][]string{"file": {"path"}}}, "extensions.file"},
		{Rules{Extensions: map[string][]string{"yara": {"path"}}}, "extensions.yara"},
		{Rules{Extensions: map[string][]string{"a b": {"path"}}}, "extensions.a b"},
		{Rules{Extensions: map[string][]string{"sqlite_x": {"path"}}}, "extensions.sqlite_x"},
		{Rules{Extensions: map[string][]string{"mine": {}}}, "extensions.mine"},
		{Rules{Extensions: map[string][]string{"mine": {"a", "A"}}}, "extensions.mine"},
		{Rules{Views: map[string]string{"users": "SELECT 1"}}, "views.users"},
		{Rules{Views: map[string]string{"v": "DROP TABLE users"}}, "views.v"},
		{Rules{Views: map[string]string{"v": "SELECT * FROM nosuch"}}, "views.v"},
		{Rules{Views: map[string]string{"v": "SELECT 1; SELECT 2"}}, "views.v"},
		{Rules{Views: map[string]string{"v": "SELECT * FROM v"}}, "views.v"},
		{Rules{Views: map[string]string{"v": "SELECT load_extension('x')"}}, "views.v"},
		{Rules{Views: doubling(12)}, "views."},
	} {
		_, err := base.With(test.rules)
		var e *errs.Error
		if !errors.As(err, &e) || e.Kind != errs.Invalid || !strings.HasPrefix(e.Field, test.field) {
			t.Errorf("%+v: %v; want an error about %s", test.rules, err, test.field)
		}
	}
}

// doubling returns views of which each uses the one before twice.
func doubling(n int) map[string]string {
	views := map[string]string{"va": "SELECT 1 AS x"}
	for i := 1; i < n; i++ {
		before, name := string(rune('a'+i-1)), string(rune('a'+i))
		views["v"+name] = "SELECT p.x FROM v" + before + " p, v" + before + " q"
	}
	return views
}

func TestOverrides(t *testing.T) {
	e := newEngine(t, Rules{
		Tables:    map[string]Rule{"Processes": {Tier: Harmless}, "os_version": {Tier: Dangerous, Reason: "ours"}, "yara": {Tier: Internal}},
		Columns:   map[string]Rule{"system_info.hostname": {Tier: Sensitive}, "processes.cmdline": {Tier: Dangerous}},
		Functions: map[string]Rule{"sleep": {Tier: Internal}, "sha256": {Tier: Sensitive}},
	})
	for sql, want := range map[string]Tier{
		"SELECT pid FROM processes":                                      Harmless,
		"SELECT cmdline FROM processes":                                  Dangerous,
		"SELECT * FROM processes":                                        Dangerous,
		"SELECT name FROM os_version":                                    Dangerous,
		"SELECT hostname FROM system_info":                               Sensitive,
		"SELECT uuid FROM system_info":                                   Harmless,
		"SELECT sleep(1)":                                                Internal,
		"SELECT sha256('x')":                                             Sensitive,
		"SELECT matches FROM yara_file WHERE path = '/x'":                Internal,
		"SELECT matches FROM yara WHERE path = '/x' AND sigrule = 'x'":   Dangerous, // the column's own tier
		"SELECT pid FROM processes WHERE cmdline LIKE '%password=hunt%'": Dangerous,
	} {
		if v := e.Query(Query{SQL: sql}); v.Tier != want || !v.Provable() {
			t.Errorf("%s: tier %v, want %v: %+v", sql, v.Tier, want, v)
		}
	}
	info, ok := e.Table("os_version")
	if !ok || info.Tier != Dangerous || info.Reason != "ours" {
		t.Errorf("%+v", info)
	}
}

func TestPins(t *testing.T) {
	const sql, refused = "SELECT * FROM shell_history", "SELECT * FROM nosuch"
	e := newEngine(t, Rules{Pins: map[string]string{Hash(sql): "case 7", Hash(refused): "case 8"}})
	v := e.Query(Query{SQL: sql})
	if v.Exception != "case 7" || v.Tier != Dangerous || !v.Allowed(Harmless) || v.Hash != Hash(sql) {
		t.Errorf("pinned: %+v", v)
	}
	if v := e.Query(Query{SQL: sql + " "}); v.Exception != "" || v.Allowed(Sensitive) {
		t.Errorf("another text: %+v", v)
	}
	if v := e.Query(Query{SQL: refused}); v.Allowed(Dangerous) {
		t.Errorf("a pin makes the unknown known: %+v", v)
	}
}

func TestExtensionsAndViews(t *testing.T) {
	base := newEngine(t, Rules{})
	e, err := base.With(Rules{
		Extensions: map[string][]string{"Mine": {"id", "secret"}, "other": {"id"}},
		Tables:     map[string]Rule{"mine": {Tier: Internal}},
		Views: map[string]string{
			"History": "SELECT command AS c, uid FROM shell_history;",
			"second":  "SELECT c FROM history -- and no more",
			"before":  "SELECT name FROM zero",
			"zero":    "SELECT name FROM os_version",
			"unused":  "SELECT id FROM mine",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, test := range []struct {
		sql    string
		tier   Tier
		tables []string
	}{
		{"SELECT id FROM mine", Internal, []string{"mine"}},
		{"SELECT * FROM MINE JOIN other USING (id)", Dangerous, []string{"mine", "other"}},
		{"SELECT 1 FROM history", Dangerous, []string{"shell_history"}},
		{"SELECT count(*) FROM SECOND", Dangerous, []string{"shell_history"}},
		{"SELECT * FROM main.second", Dangerous, []string{"shell_history"}},
		{"SELECT * FROM before", Harmless, []string{"os_version"}},
		{"SELECT * FROM unused", Internal, []string{"mine"}},
	} {
		v := e.Query(Query{SQL: test.sql})
		if v.Tier != test.tier || !v.Provable() || !slices.Equal(v.Tables, test.tables) {
			t.Errorf("%s: %+v", test.sql, v)
		}
		if v := base.Query(Query{SQL: test.sql}); v.Provable() {
			t.Errorf("%s: the engine before knows the names: %+v", test.sql, v)
		}
	}
	if v := e.Query(Query{SQL: "SELECT sql FROM sqlite_master"}); v.Provable() {
		t.Errorf("the views' texts can be read: %+v", v)
	}
}

// TestAllowedArguments tries ways around a rule about file.path and hash.path.
// What is not proven must have tier 3.
func TestAllowedArguments(t *testing.T) {
	patterns := []string{"/etc/osquery/%", "/opt/app/%%", "/var/log/app-%.log", "/etc/hosts"}
	e := newEngine(t, Rules{Arguments: map[string][]string{"file.path": patterns, "hash.path": patterns, "certificates.path": {"/etc/ssl/certs/%%"}}})
	for _, sql := range []string{
		"SELECT size FROM file WHERE path = '/etc/hosts'",
		"SELECT size FROM file WHERE '/etc/hosts' = path",
		"SELECT size FROM file f WHERE f.path = '/etc/osquery/osquery.conf' AND size > 0",
		"SELECT size FROM file WHERE path LIKE '/etc/osquery/%'",
		"SELECT size FROM file WHERE path LIKE '/etc/osquery/%.conf'",
		"SELECT size FROM file WHERE path = '/opt/app/a/b/c'",
		"SELECT size FROM file WHERE path LIKE '/opt/app/lib/%'",
		"SELECT size FROM file WHERE path LIKE '/var/log/app-1%.log'",
		"SELECT size FROM file WHERE path = '/var/log/app-1.log'",
		"SELECT t.hour, f.size FROM time t LEFT JOIN file f ON f.path = '/etc/hosts'",
		"SELECT 1 WHERE EXISTS (SELECT 1 FROM file WHERE path = '/etc/hosts')",
		"SELECT h.sha256 FROM hash h WHERE h.path = '/etc/hosts'",
		"SELECT common_name FROM certificates WHERE path = '/etc/ssl/certs/a.pem'",
		"SELECT pid FROM processes", // no argument at all
	} {
		if v := e.Query(Query{SQL: sql}); !v.Allowed(Sensitive) {
			t.Errorf("not proven: %s\n%+v", sql, v)
		}
	}
	for _, sql := range []string{
		"SELECT size FROM file",
		"SELECT size FROM file WHERE size > 0",
		"SELECT size FROM file WHERE path = '/etc/passwd'",
		"SELECT size FROM file WHERE path = '/etc/osquery/../passwd'",
		"SELECT size FROM file WHERE path = '/etc/osquery/a/b'",
		"SELECT size FROM file WHERE path = '/etc/osquery'",
		"SELECT size FROM file WHERE path = 'etc/hosts'",
		"SELECT size FROM file WHERE path LIKE '/etc/osquery/%%'",
		"SELECT size FROM file WHERE path LIKE '/etc/%'",
		"SELECT size FROM file WHERE path LIKE '/etc/osquer_/%'",
		"SELECT size FROM file WHERE path LIKE '/etc/%osquery/%'",
		"SELECT size FROM file WHERE path LIKE '/etc/osquery/{a,b}'",
		"SELECT size FROM file WHERE path LIKE '/opt/app'",
		"SELECT size FROM file WHERE path LIKE '/opt/app/../../etc/%'",
		"SELECT size FROM file WHERE path LIKE '/var/log/app-%.log%'",
		"SELECT size FROM file WHERE path IN ('/etc/hosts', '/etc/passwd')",
		"SELECT size FROM file WHERE path = '/etc/hosts' OR path = '/etc/passwd'",
		"SELECT size FROM file WHERE path = '/etc/hosts' OR size = 1",
		"SELECT size FROM file WHERE path = '/etc/hosts' OR directory = '/etc'",
		"SELECT size FROM file WHERE NOT path = '/etc/hosts'",
		"SELECT size FROM file WHERE path <> '/etc/hosts'",
		"SELECT size FROM file WHERE path > '/etc/hosts'",
		"SELECT size FROM file WHERE path BETWEEN '/etc/hosts' AND '/etc/hosts'",
		"SELECT size FROM file WHERE path GLOB '/etc/hosts'",
		"SELECT size FROM file WHERE path || '' = '/etc/hosts'",
		"SELECT size FROM file WHERE +path = '/etc/hosts'",
		"SELECT size FROM file WHERE lower(path) = '/etc/hosts'",
		"SELECT size FROM file WHERE path = '/etc/' || 'hosts'",
		"SELECT size FROM file WHERE path = (SELECT '/etc/hosts' FROM time)",
		"SELECT size FROM file WHERE path = x'2f6574632f686f737473'",
		"SELECT size FROM file WHERE path = CASE WHEN 1 THEN '/etc/hosts' END",
		"SELECT size FROM file WHERE CASE WHEN path = '/etc/hosts' THEN 1 END",
		"SELECT size FROM file WHERE (path, size) = ('/etc/passwd', 1)",
		"SELECT size FROM file WHERE directory = '/etc'",
		"SELECT size FROM file WHERE path = '/etc/hosts' AND directory = '/root'",
		"SELECT size FROM file WHERE path = '/etc/hosts' AND path = '/etc/passwd'",
		"SELECT size FROM file WHERE path = '/etc/hosts' AND path IN (SELECT path FROM processes)",
		"SELECT size FROM users u JOIN file f ON f.path = u.directory || '/.ssh/id_rsa'",
		"SELECT size FROM users u JOIN file f ON f.path = u.directory WHERE f.path = '/etc/hosts'",
		"SELECT h.sha256 FROM file f JOIN hash h USING (path) WHERE f.directory = '/root'",
		"SELECT size FROM file WHERE path = '/etc/hosts' UNION SELECT size FROM file WHERE path = '/etc/passwd'",
		"SELECT a.size FROM file a, file b WHERE a.path = '/etc/hosts' AND b.path = '/etc/passwd'",
		"SELECT common_name FROM certificates",
		"SELECT count(*) FROM file",
		"SELECT size FROM (SELECT * FROM file) WHERE path = '/etc/hosts'", // an agent need not look inside
		"SELECT common_name FROM (SELECT * FROM certificates) WHERE path = '/etc/ssl/certs/a.pem'",
		"WITH f AS MATERIALIZED (SELECT * FROM file) SELECT size FROM f WHERE path = '/etc/hosts'",
		"SELECT h.sha256 FROM file f JOIN hash h ON h.path = f.path WHERE f.path = '/etc/hosts'",
	} {
		v := e.Query(Query{SQL: sql})
		if v.Tier != Dangerous || !v.Provable() || !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == "argument-not-allowed" }) {
			t.Errorf("not noticed: %s\n%+v", sql, v)
		}
	}
}

func TestFindingsNameTheirPlace(t *testing.T) {
	e := newEngine(t, Rules{})
	for _, test := range []struct {
		sql, code    string
		line, column int
		message      string
	}{
		{"SELECT pid,\n  nam FROM processes", "unknown-column", 2, 3, "did you mean name?"},
		{"SELECT 'ä', pid FROM\n\tproceses", "unknown-table", 2, 2, "did you mean processes?"},
		{"SELECT 'ä', pidd FROM processes", "unknown-column", 1, 13, "did you mean pid?"},
		{"SELECT name FROM os_version;\n\nSELECT 1", "several-statements", 3, 1, ""},
		{"SELECT a.*\nFROM os_version a", "select-star", 1, 10, ""},
		{"SELECT *, count(*), 2 * 3 FROM os_version", "select-star", 1, 8, ""},
		{"SELECT name FROM users WHERE username = \"root\"", "unknown-column", 1, 8, ""},
		{"SELECT uid FROM users WHERE username = \"root\"", "unknown-column", 1, 40, "'root'"},
		{"SELECT 1,\n?", "bound-parameter", 2, 1, ""},
		{"SELECT load_extension('x')", "forbidden-function", 1, 8, ""},
		{"SELECT 1 FROM\nsqlite_master", "forbidden-table", 2, 1, ""},
		{"SELECT 1 FROM\nos_version,,", "syntax-error", 2, 12, ""},
		{"SELECT string_agg(name, ',') FROM os_version", "newer-function", 1, 8, "3.44"},
		{"SELECT pth FROM file WHERE path = '/x'", "unknown-column", 1, 8, "did you mean path?"},
		{"SELECT size FROM file", "missing-required", 1, 18, "path or directory"},
		{"SELECT size FROM file WHERE path > 'a'", "missing-required", 1, 18, ""},
		{"SELECT command FROM shell_history", "user-data", 1, 21, "users"},
		{"SELECT 1 FROM processes, process_open_files", "cross-join", 1, 15, ""},
		{"SELECT regex_match(name, '(a+)+$', 0) FROM os_version", "slow-pattern", 1, 26, ""},
	} {
		v := e.Query(Query{SQL: test.sql})
		i := slices.IndexFunc(v.Findings, func(f Finding) bool { return f.Code == test.code })
		if i < 0 {
			t.Errorf("%q: no %s in %+v", test.sql, test.code, v.Findings)
			continue
		}
		if f := v.Findings[i]; f.Line != test.line || f.Column != test.column || !strings.Contains(f.Message, test.message) {
			t.Errorf("%q: %+v; want %d:%d %s", test.sql, f, test.line, test.column, test.message)
		}
	}
}

// TestUse checks the findings that depend on how a text is run; a code with !
// must not be there.
func TestUse(t *testing.T) {
	e := newEngine(t, Rules{})
	const small, events = "SELECT name FROM os_version", "SELECT pid FROM process_events"
	for _, test := range []struct {
		q    Query
		code string
	}{
		{Query{SQL: small, Use: Scheduled, Interval: 3600}, "!short-interval"},
		{Query{SQL: small, Use: Scheduled, Interval: 61}, "!short-interval"},
		{Query{SQL: small, Use: Scheduled, Interval: 60}, "short-interval"},
		{Query{SQL: small, Use: Scheduled, Interval: -1}, "bad-interval"},
		{Query{SQL: small, Use: Scheduled, Interval: 604_800}, "!bad-interval"},
		{Query{SQL: small, Use: Scheduled, Interval: 604_801}, "bad-interval"},
		{Query{SQL: small, Use: Scheduled}, "no-interval"},
		{Query{SQL: small}, "!no-interval"},
		{Query{SQL: events, Use: Scheduled, Interval: 300, Snapshot: true}, "evented-snapshot"},
		{Query{SQL: events, Use: Scheduled, Interval: 300}, "!evented-snapshot"},
		{Query{SQL: events, Use: Scheduled, Interval: 300, Removed: true}, "evented-removed"},
		{Query{SQL: events, Use: Scheduled, Interval: 300}, "!evented-removed"},
		{Query{SQL: events}, "evented-live"},
		{Query{SQL: small, Use: Decorator}, "!decorator-tier"},
		{Query{SQL: "SELECT pid FROM processes", Use: Decorator}, "decorator-tier"},
		{Query{SQL: "SELECT pid FROM processes", Use: Discovery}, "discovery-tier"},
		{Query{SQL: small, Use: Discovery}, "!discovery-tier"},
		{Query{SQL: "SELECT directory AS path FROM users", Use: FilePaths}, "!no-path-column"},
		{Query{SQL: "SELECT directory FROM users", Use: FilePaths}, "no-path-column"},
		{Query{SQL: "SELECT * FROM deb_packages", Platforms: []string{"darwin"}}, "platform"},
		{Query{SQL: "SELECT * FROM deb_packages", Platforms: []string{"posix"}}, "platform"},
		{Query{SQL: "SELECT * FROM deb_packages", Platforms: []string{"linux", "ubuntu"}}, "!platform"},
		{Query{SQL: "SELECT 1 FROM deb_packages, registry"}, "no-platform"},
		{Query{SQL: "SELECT elevated_token FROM processes", Platforms: []string{"linux"}}, "empty-column"},
		{Query{SQL: "SELECT elevated_token FROM processes", Platforms: []string{"windows"}}, "!empty-column"},
		{Query{SQL: "SELECT command FROM users JOIN shell_history USING (uid)"}, "!user-data"},
		{Query{SQL: "SELECT sha256 FROM file JOIN hash USING (path) WHERE file.directory = '/etc'"}, "!missing-required"},
		{Query{SQL: "SELECT sha256 FROM file JOIN hash USING (path)"}, "missing-required"},
		{Query{SQL: "SELECT 1 FROM users, groups"}, "cross-join"},
		{Query{SQL: "SELECT 1 FROM users JOIN groups USING (gid)"}, "!cross-join"},
		{Query{SQL: "SELECT 1 FROM users WHERE gid IN (SELECT gid FROM groups)"}, "!cross-join"},
		{Query{SQL: "SELECT 1 FROM users UNION SELECT 1 FROM groups"}, "!cross-join"},
		{Query{SQL: "SELECT 1 FROM system_info, os_version"}, "!cross-join"},
	} {
		v := e.Query(test.q)
		code, absent := strings.CutPrefix(test.code, "!")
		if has := slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Code == code }); has == absent {
			t.Errorf("%+v: %s: %+v", test.q, test.code, v.Findings)
		}
	}
}

func TestPlatforms(t *testing.T) {
	e := newEngine(t, Rules{})
	for sql, want := range map[string]string{
		"SELECT 1":                             "darwin linux windows",
		"SELECT 1 FROM processes":              "darwin linux windows",
		"SELECT 1 FROM crontab":                "darwin linux",
		"SELECT 1 FROM crontab, deb_packages":  "linux",
		"SELECT 1 FROM registry, deb_packages": "",
		"SELECT 1 FROM nosuch":                 "",
	} {
		if got := strings.Join(e.Query(Query{SQL: sql}).Platforms, " "); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	e := newEngine(t, Rules{Arguments: map[string][]string{"file.path": {"/etc/%"}}})
	all := e.Tables()
	if len(all) != 284 || !slices.IsSortedFunc(all, func(a, b TableInfo) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d tables", len(all))
	}
	for _, info := range all {
		if info.Reason == "" || len(info.Platforms) == 0 || info.Columns == nil || info.Aliases == nil {
			t.Errorf("%+v", info)
		}
	}
	info, ok := e.Table("YARA")
	if !ok || info.Name != "yara_file" || info.Tier != Dangerous || !slices.Contains(info.Aliases, "yara") || !slices.Contains(info.Classes, "heavy") {
		t.Errorf("%+v", info)
	}
	info, _ = e.Table("file")
	if !slices.Equal(info.Required, []string{"path", "directory"}) || len(info.Arguments) != 2 {
		t.Errorf("%+v", info)
	}
	i := slices.IndexFunc(info.Arguments, func(a ArgumentInfo) bool { return a.Column == "path" })
	if !slices.Equal(info.Arguments[i].Allowed, []string{"/etc/%"}) || info.Arguments[i].Kind != "path" {
		t.Errorf("%+v", info.Arguments)
	}
	info, _ = e.Table("docker_containers")
	if !slices.ContainsFunc(info.Columns, func(c ColumnInfo) bool { return c.Name == "env_variables" && c.Tier == Dangerous }) {
		t.Errorf("%+v", info.Columns)
	}
	if _, ok := e.Table("nosuch"); ok {
		t.Error("a table that there is not")
	}
}

func TestEngineIsSharedByGoroutines(t *testing.T) {
	e := newEngine(t, Rules{})
	other, err := e.With(Rules{Tables: map[string]Rule{"os_version": {Tier: Dangerous}}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 4 * maxSessions {
		engine, want := e, Harmless
		if i%2 == 1 {
			engine, want = other, Dangerous
		}
		group.Go(func() {
			for range 20 {
				if v := engine.Query(Query{SQL: "SELECT name FROM os_version"}); v.Tier != want {
					t.Errorf("tier %v, want %v", v.Tier, want)
				}
				engine.Query(Query{SQL: "SELECT * FROM crul"})
			}
		})
	}
	group.Wait()
}

func TestClosedEngineRefuses(t *testing.T) {
	e, err := New(Rules{})
	if err != nil {
		t.Fatal(err)
	}
	e.Query(Query{SQL: "SELECT 1"})
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	if v := e.Query(Query{SQL: "SELECT 1"}); v.Provable() || v.Tier != Dangerous {
		t.Errorf("%+v", v)
	}
}
