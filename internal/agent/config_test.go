package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testHost() Host { return Host{Hostname: "web-1", PackDelimiter: "_", Default: 3600} }

// TestParseConfig_queries has the rules of protocol 10.1, one row each.
func TestParseConfig_queries(t *testing.T) {
	shard := machineShard("web-1")
	for _, test := range []struct {
		name, query string
		want        string // interval snapshot removed startup; "" if not scheduled
	}{
		{"plain", `{"query":"SELECT 1","interval":60}`, "60 false true -1"},
		{"text", `{"query":"SELECT 1","interval":"60","snapshot":"true","removed":"f"}`, "60 true false -1"},
		{"numbers", `{"query":"SELECT 1","interval":60,"snapshot":1,"removed":0,"startup_priority":3}`, "60 true false 3"},
		{"default", `{"query":"SELECT 1"}`, "3600 false true -1"},
		{"zero", `{"query":"SELECT 1","interval":0}`, ""},
		{"week", `{"query":"SELECT 1","interval":604800}`, "604800 false true -1"},
		{"over", `{"query":"SELECT 1","interval":604801}`, ""},
		{"fraction", `{"query":"SELECT 1","interval":2.5}`, ""},
		{"unit", `{"query":"SELECT 1","interval":"2s"}`, ""},
		{"no query", `{"interval":60}`, ""},
		{"number query", `{"query":5,"interval":60}`, ""},
		{"string", `"SELECT 1"`, ""},
		{"null", `null`, ""},
		{"query.x", `{"query":"SELECT 1","interval":60}`, ""},
		{"myepoch", `{"query":"SELECT 1","interval":60}`, ""},
		{"mycounter", `{"query":"SELECT 1","interval":60}`, ""},
		{"linux", `{"query":"SELECT 1","interval":60,"platform":"darwin,linux"}`, "60 false true -1"},
		{"ubuntu", `{"query":"SELECT 1","interval":60,"platform":"ubuntu"}`, "60 false true -1"},
		{"company", `{"query":"SELECT 1","interval":60,"platform":"company"}`, "60 false true -1"},
		{"posix", `{"query":"SELECT 1","interval":60,"platform":"posix"}`, "60 false true -1"},
		{"null platform", `{"query":"SELECT 1","interval":60,"platform":null}`, "60 false true -1"},
		{"windows", `{"query":"SELECT 1","interval":60,"platform":"windows"}`, ""},
		{"Linux", `{"query":"SELECT 1","interval":60,"platform":"Linux"}`, ""},
		{"gentoo", `{"query":"SELECT 1","interval":60,"platform":"gentoo"}`, ""},
		{"old", `{"query":"SELECT 1","interval":60,"version":"5.8.0"}`, "60 false true -1"},
		{"same", `{"query":"SELECT 1","interval":60,"version":"5.23.1"}`, "60 false true -1"},
		{"new", `{"query":"SELECT 1","interval":60,"version":"6.0.0"}`, ""},
		{"shard in", fmt.Sprintf(`{"query":"SELECT 1","interval":60,"shard":%d}`, shard), "60 false true -1"},
		{"shard out", fmt.Sprintf(`{"query":"SELECT 1","interval":60,"shard":"%d"}`, shard-1), ""},
		{"shard none", `{"query":"SELECT 1","interval":60,"shard":0}`, "60 false true -1"},
	} {
		config, err := ParseConfig(fmt.Appendf(nil, `{"schedule":{%q:%s}}`, test.name, test.query), testHost())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got := ""
		for _, q := range config.Packs[0].Queries {
			got = fmt.Sprint(q.Interval, q.Snapshot, q.Removed, q.Startup)
			if q.Name != test.name {
				t.Errorf("%s: named %s", test.name, q.Name)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestParseConfig(t *testing.T) {
	config, err := ParseConfig([]byte(`{
		"schedule":{"a":{"query":"SELECT 1"}},
		"packs":{"p":{"platform":"linux","shard":"100","discovery":["SELECT 1"],"queries":{"q":{"query":"SELECT 2"}},"options":{"verbose":true}},
			"w":{"platform":"windows","queries":{"q":{"query":"SELECT 3"}},"options":{"verbose":false}},
			"file":"/etc/pack.conf", "*":{"n":{"queries":{"q":{"query":"SELECT 4"}}}}},
		"options":{"distributed_interval":7,"empty":"","none":null,"logger_tls_period":"3"},
		"decorators":{"load":["A",5],"always":["B"],"interval":{"60":["C"],"61":["D"],"0":["E"],"x":["F"]}},
		"views":{}, "file_paths":{}
	}`), testHost())
	if err != nil {
		t.Fatal(err)
	}
	var packs []string
	for _, p := range config.Packs {
		for _, q := range p.Queries {
			packs = append(packs, fmt.Sprintf("%s %s %v %d", q.Name, q.SQL, p.Fits, len(p.Discovery)))
		}
	}
	want := []string{"a SELECT 1 true 0", "pack_n_q SELECT 4 true 0", "pack_p_q SELECT 2 true 1", "pack_w_q SELECT 3 false 0"}
	if diff := cmp.Diff(want, packs); diff != "" {
		t.Errorf("packs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Option{{"distributed_interval", "7"}, {"logger_tls_period", "3"}, {"verbose", "true"}}, config.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Decorators{Load: []string{"A"}, Always: []string{"B"}, Interval: map[int64][]string{60: {"C"}}}, config.Decorators); diff != "" {
		t.Errorf("decorators (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"file_paths", "views"}, config.Ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	warnings := strings.Join(config.Warnings, "\n")
	for _, w := range []string{"flag: none", "rate 61", "rate 0", "rate x", "pack named: file"} {
		if !strings.Contains(warnings, w) {
			t.Errorf("no warning %q in\n%s", w, warnings)
		}
	}
	for _, body := range []string{"{}", "[]", "null", "[1]", "", `{"schedule":null}`, `{"schedule":[]}`, `{"packs":5}`} {
		config, err := ParseConfig([]byte(body), testHost())
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		for _, p := range config.Packs {
			if len(p.Queries) > 0 {
				t.Errorf("%s has queries", body)
			}
		}
	}
	for _, body := range []string{"x", "5", `"x"`, "true", `{"a":1}x`, strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33)} {
		if _, err := ParseConfig([]byte(body), testHost()); err == nil {
			t.Errorf("%.50s is taken", body)
		}
	}
}

func TestStripComments(t *testing.T) {
	got := string(StripComments([]byte("{\n  // a\n # b\n\"x\": \"a\\\n  b\"\n}\n")))
	if want := "{\n\"x\": \"a  b\"\n}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFlags_Parse(t *testing.T) {
	f := NewFlags()
	f.Parse("# comment\n\n --tls_hostname=a:1 \n-config_tls_refresh=5\n--verbose\n--nologger_event_type\n--disable_distributed=no\n" +
		"--audit_persist\n--nonsense=1\nwords\n--distributed_interval=often\n--distributed_interval=-1\n--tls_client_cert=a=b\n")
	for name, want := range map[string]string{
		"tls_hostname": "a:1", "config_refresh": "5", "config_tls_refresh": "5", "verbose": "true", "logger_event_type": "false",
		"disable_distributed": "false", "distributed_interval": "60", "tls_client_cert": "a=b",
	} {
		if got := f.String(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if diff := cmp.Diff([]string{"audit_persist", "nonsense", "words", "distributed_interval", "distributed_interval"}, f.Ignored()); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	if err := f.ReadFile("/nonexistent"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("got %v", err)
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return err
}

func FuzzFlags(f *testing.F) {
	f.Add("--a=b\n--verbose\n#x\n--no\n-\n--\n--=\n")
	f.Fuzz(func(t *testing.T, text string) {
		flags := NewFlags()
		flags.Parse(text)
		for _, d := range Definitions() {
			if d.Type == "uint64" && flags.Seconds(d.Name) < 0 {
				t.Errorf("%s is negative", d.Name)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"schedule":{"a":{"query":"SELECT 1","interval":"60","shard":5}},"packs":{"*":{"x":{"queries":{}}},"y":"z"},"options":{"a":[1]},"decorators":{"interval":{"60":["x"]}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		config, err := ParseConfig(body, testHost())
		if err != nil {
			return
		}
		for _, p := range config.Packs {
			for _, q := range p.Queries {
				if q.Interval < 1 || q.Interval > maxInterval || q.SQL == "" {
					t.Errorf("query %+v", q)
				}
			}
		}
		for seconds := range config.Decorators.Interval {
			if seconds <= 0 {
				t.Errorf("decorator interval %d", seconds)
			}
		}
		if len(body) > 0 {
			if _, err := Hash(body); err != nil && strings.TrimSpace(string(body)) != "" {
				t.Errorf("a config that parses has no hash: %v", err)
			}
		}
	})
}

func TestMultisetDiff(t *testing.T) {
	bytesOf := func(s string) (rows [][]byte) {
		for w := range strings.FieldsSeq(s) {
			rows = append(rows, []byte(w))
		}
		return rows
	}
	for _, test := range []struct{ old, now, added, removed string }{
		{"", "", "", ""},
		{"", "a b a", "a b a", ""},
		{"a b", "b a", "", ""},
		{"a a", "a", "", "a"},
		{"a", "a a b", "a b", ""},
		{"a b c", "c d", "d", "a b"},
	} {
		added, removed := multisetDiff(strings.Fields(test.old), bytesOf(test.now))
		if fmt.Sprintf("%s", added) != fmt.Sprintf("%s", bytesOf(test.added)) || fmt.Sprintf("%s", removed) != fmt.Sprintf("%s", bytesOf(test.removed)) {
			t.Errorf("%q → %q: added %s, removed %s", test.old, test.now, added, removed)
		}
	}
}

// TestRecord_difference follows epoch and counter over several runs.
func TestRecord_difference(t *testing.T) {
	var r record
	for i, step := range []struct {
		epoch   int64
		rows    string
		counter int64
		log     bool
		added   int
		removed int
	}{
		{0, "a b", 0, true, 2, 0},
		{0, "a b", 0, false, 0, 0},
		{0, "a c", 1, true, 1, 1},
		{0, "a c", 1, false, 0, 0},
		{0, "", 2, true, 0, 2},
		{7, "a", 0, true, 1, 0},
		{7, "a", 0, false, 0, 0},
		{7, "a a", 1, true, 1, 0},
	} {
		e := execution{epoch: step.epoch}
		var rows [][]byte
		for w := range strings.FieldsSeq(step.rows) {
			rows = append(rows, []byte(w))
		}
		logs := r.difference(&e, rows)
		if logs != step.log || e.counter != step.counter || len(e.added) != step.added || len(e.removed) != step.removed {
			t.Errorf("step %d: log %v counter %d added %s removed %s", i, logs, e.counter, e.added, e.removed)
		}
	}
}
