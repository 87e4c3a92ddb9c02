package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

var updateFlags = flag.Bool("update-flags", false, "write testdata/flags.golden")

// profiles returns an engine for tests of everything but SQL.
func profiles(tb testing.TB, rules Rules) *Engine {
	tb.Helper()
	e, err := New(rules)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

// outcome is a verdict in a few letters: its tier, x if it is refused, and the
// codes of its findings.
func outcome(v Verdict) string {
	s := fmt.Sprint(int(v.Tier))
	if !v.Provable() {
		s = "x"
	}
	for _, f := range v.Findings {
		s += " " + f.Code
	}
	return s
}

// TestFlags_golden shows each flag's class and tier, and what the verdict is on
// its default and on a few other values.
func TestFlags_golden(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	var b strings.Builder
	for _, f := range e.Flags() {
		values := []any{"x", 0, 1, 100, 1_000_000_000}
		if f.Type == "bool" {
			values = []any{true, false}
		}
		fmt.Fprintf(&b, "%s\t%s\t%d\t%s", f.Name, f.Class, f.Tier, outcome(e.Option(f.Name, f.Default)))
		for _, value := range values {
			fmt.Fprintf(&b, "\t%v: %s", value, outcome(e.Option(f.Name, value)))
		}
		b.WriteByte('\n')
	}
	const file = "testdata/flags.golden"
	if *updateFlags {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the verdicts on flags changed; see with -update-flags and git diff:\n%s", b.String())
	}
}

// TestFlags_data reads every line: a class or a text that is missing is an
// oversight.
func TestFlags_data(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	all := e.Flags()
	kinds := map[string]int{}
	for i, f := range all {
		kinds[f.Kind]++
		if i > 0 && all[i-1].Name >= f.Name {
			t.Errorf("%s comes after %s", f.Name, all[i-1].Name)
		}
		if !slices.Contains([]string{"bool", "int32", "uint32", "uint64", "string"}, f.Type) || f.Class == "" || f.Why == "" {
			t.Errorf("%s: %+v", f.Name, f)
		}
		if f.AliasOf != "" {
			if target, ok := e.Flag(f.AliasOf); !ok || target.Type != f.Type || target.AliasOf != "" {
				t.Errorf("%s is an alias of %q", f.Name, f.AliasOf)
			}
		}
		for rule := range strings.FieldsSeq(f.Values) {
			value, tier, ok := strings.Cut(rule, ":")
			if _, known := valueTier(tier); !ok || value == "" || !known && tier != "x" {
				t.Errorf("%s: what is %q?", f.Name, rule)
			}
			first, _, _ := strings.Cut(value, "-")
			if _, problem := f.parse(first); problem != "" {
				t.Errorf("%s: %q is no value of it: %s", f.Name, first, problem)
			}
		}
		if v := e.Option(f.Name, f.Default); f.settable() && (!v.Provable() || v.Tier > Dangerous) {
			t.Errorf("%s: its default %q is refused: %+v", f.Name, f.Default, v)
		}
	}
	// osquery's macros at that commit; augeas_lenses is defined twice there.
	want := map[string]int{"flag": 152, "cli": 64, "hidden": 39, "shell": 17, "alias": 9, "library": 6}
	if fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("kinds are %v, want %v", kinds, want)
	}
}

// TestOption_flagfile walks what agents take from the command line only, and
// its other names, by osquery's own list.
func TestOption_flagfile(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	names := strings.FieldsSeq(`D S alarm_timeout aws_enforce_fips carver_block_size carver_compression carver_continue_endpoint
		carver_disable_function carver_expiry carver_start_endpoint config_accelerated_refresh config_check config_dump
		config_enable_backup config_path config_plugin config_refresh config_tls_endpoint config_tls_max_attempts daemonize
		database_dump database_path disable_carver disable_enrollment disable_extensions disable_reenrollment disable_tables
		disable_watchdog enable_extensions_watchdog enable_tables enable_watchdog_debug enroll_always enroll_secret_env
		enroll_secret_path enroll_tls_endpoint extensions_autoload extensions_interval extensions_require extensions_socket
		extensions_timeout force install keep_container_worker_open logger_mode logger_plugin logger_stderr pidfile
		proxy_hostname tls_accept_gzip tls_client_cert tls_client_key tls_enroll_max_attempts tls_enroll_max_interval
		tls_hostname tls_server_certs tls_session_reuse tls_session_timeout uninstall watchdog_delay
		watchdog_forced_shutdown_delay watchdog_latency_limit watchdog_level watchdog_memory_limit watchdog_utilization_limit
		logtostderr stderrthreshold flagfile fromenv
		config_tls_refresh config_tls_accelerated_refresh db_path socket timeout interval`)
	for name := range names {
		for _, value := range []any{true, 1, "x", "", nil} {
			if v := e.Option(name, value); outcome(v) != "x flagfile-only" || v.Tier != Dangerous {
				t.Errorf("%s=%v: %s, tier %d", name, value, outcome(v), v.Tier)
			}
		}
	}
	for name, word := range map[string]string{
		"disable_watchdog":   "5.4.0",
		"watchdog_level":     "5.4.0",
		"config_tls_refresh": "would obey",
		"db_path":            "database_path",
		"config_plugin":      "flagfile",
	} {
		if m := e.Option(name, 1).Findings[0].Message; !strings.Contains(m, word) {
			t.Errorf("%s: %q does not say %q", name, m, word)
		}
	}
}

// TestOption_dangerous has the values by which a config turns agents against
// their host, their people or their server.
func TestOption_dangerous(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	on := strings.Fields(`tls_secret_always tls_node_api tls_dump tls_allow_unsafe yara_sigurl_authenticate disable_logging
		tls_disable_status_log disable_events ephemeral disable_database audit_allow_config audit_allow_fim_events
		audit_force_reconfigure audit_force_unconfigure enable_file_events enable_process_etw_events
		enable_ntfs_event_publisher disable_caching disable_hash_cache events_enforce_denylist enable_numeric_monitoring
		enable_syslog allow_unsafe enable_keyboard_events enable_mouse_events enable_powershell_events_subscriber
		enable_yara_string thrift_verbose aws_enable_proxy es_fim_enable_open_events`)
	off := strings.Fields(`disable_audit disable_endpointsecurity disable_endpointsecurity_fim keychain_access_cache
		audit_allow_process_events`)
	values := map[string][]any{
		"logger_tls_endpoint": {"/elsewhere"}, "distributed_tls_read_endpoint": {"/elsewhere"}, "distributed_tls_write_endpoint": {"/x/y"},
		"distributed_plugin": {"other"}, "tls_enroll_override": {"x"}, "aws_access_key_id": {"AKIA"}, "aws_secret_access_key": {"x"},
		"aws_kinesis_endpoint": {"https://evil.example"}, "aws_proxy_host": {"evil.example"}, "aws_sts_arn_role": {"arn:x"},
		"logger_kafka_brokers": {"evil.example"}, "logger_kafka_topic": {"x"}, "logger_min_status": {2, 3, -1},
		"events_max": {0, 1, 1 << 40}, "events_expiry": {0, 1, 1 << 40}, "buffered_log_max": {0, 1, uint64(math.MaxUint64)},
		"logger_tls_period": {3601}, "logger_tls_backoff_max": {3601, 1 << 40}, "logger_tls_max_linesize": {0, 1, 1000},
		"logger_tls_max_lines": {0, 1_000_000}, "host_identifier": {"specified", "uuid"}, "specified_identifier": {"x"},
		"schedule_epoch": {1}, "audit_backlog_limit": {1, 1_000_000}, "audit_backlog_wait_time": {1}, "read_max": {0, 1, 1 << 40},
		"hash_delay": {0}, "yara_delay": {0}, "table_delay": {10_000}, "hash_cache_max": {0, 1_000_000}, "rocksdb_write_buffer": {1},
		"malloc_trim_threshold": {0, 100_000}, "distributed_denylist_duration": {0}, "logger_path": {"/etc"}, "osquery_log_dir": {"/etc"},
		"numeric_monitoring_filesystem_path": {"/etc/cron.d/x"}, "syslog_pipe_path": {"/etc/x"}, "augeas_lenses": {"/tmp"},
		"docker_socket": {"/run/x.sock"}, "lxd_socket": {"/run/x.sock"}, "windows_event_channels": {"Security,X"},
		"keychain_access_interval": {0, 1}, "thrift_timeout": {1}, "thrift_string_size_limit": {1}, "extension": {"/tmp/x.ext"},
		"schedule_timeout": {3600, 86400}, "es_fim_mute_path_prefix": {"/"}, "schedule_splay_percent": {101}, "watchdog_max_delay": {0, 1 << 30},
		"experiment_list": {"x"}, "pack_refresh_interval": {0, 1 << 40}, "distributed_interval": {86401}, "disable_audit": {true},
	}
	for _, name := range on {
		values[name] = append(values[name], true, "true", 1, "YES")
	}
	for _, name := range off {
		values[name] = append(values[name], false, "f", 0)
	}
	for name, list := range values {
		for _, value := range list {
			v := e.Option(name, value)
			if v.Tier != Dangerous || v.Allowed(Sensitive) || !v.Provable() || len(v.Reasons) == 0 {
				t.Errorf("%s=%v: %s %+v", name, value, outcome(v), v.Reasons)
			}
		}
	}
}

func TestOption_harmless(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	values := map[string][]any{
		"disable_distributed": {true, false, "false"}, "distributed_plugin": {"tls"}, "distributed_interval": {10, 60, 600, "60", "0x20", float64(30), json.Number("30"), uint64(30)},
		"logger_event_type": {true, false}, "logger_snapshot_event_type": {true}, "logger_numerics": {true}, "log_numerics_as_numbers": {true},
		"logger_tls_period": {4, 60}, "logger_tls_compress": {true}, "logger_tls_max_lines": {1024}, "logger_tls_endpoint": {"/api/osquery/log", "/api/v1/osquery/log"},
		"distributed_tls_read_endpoint": {"/api/osquery/distributed/read"}, "distributed_tls_write_endpoint": {"/api/osquery/distributed/write"},
		"pack_delimiter": {"_"}, "schedule_splay_percent": {5, 10, 30}, "decorations_top_level": {true}, "pack_refresh_interval": {3600},
		"logger_tls_backoff_max": {300}, "custom_anything": {"x", 1, true, map[string]any{"a": 1.5}, []any{"a"}}, "tls_secret_always": {false}, "verbose": {false},
		"schedule_timeout": {0}, "buffered_log_max": {500_000}, "disable_logging": {false}, "schedule_default_interval": {3600}, "logger_min_status": {0},
		"logger_tls_max": {1 << 20},
	}
	for name, list := range values {
		for _, value := range list {
			if v := e.Option(name, value); !v.Allowed(Internal) {
				t.Errorf("%s=%v: %s %+v", name, value, outcome(v), v)
			}
		}
	}
	// What nodes run by default.
	b, err := os.ReadFile("../resource/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var items []Item
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var document struct {
			Kind string
			Spec map[string]any
		}
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if document.Kind == "Profile" {
			spec, err := yaml.Marshal(document.Spec)
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, e.Config(parseConfig(t, string(spec)))...)
		}
	}
	for _, item := range items {
		if !item.Allowed(Internal) || len(item.Findings) > 0 {
			t.Errorf("%s: %s %+v", item.Path, outcome(item.Verdict), item.Verdict)
		}
	}
	if len(items) < 11 {
		t.Errorf("only %d items", len(items))
	}
}

func TestOption_values(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	long := strings.Repeat("x", maxOption+1)
	tests := []struct {
		name  string
		value any
		want  string
	}{
		{"distributed_interval", 0, "x option-range"},
		{"distributed_interval", "0", "x option-range"},
		{"distributed_interval", "00", "x option-range"},
		{"distributed_interval", "0x0", "x option-range"},
		{"distributed_interval", 5, "2"},
		{"distributed_interval", 9, "2"},
		{"distributed_interval", 601, "2"},
		{"distributed_interval", -1, "x option-type"},
		{"distributed_interval", 1.9, "x option-type"},
		{"distributed_interval", "1.9", "x option-type"},
		{"distributed_interval", "10s", "x option-type"},
		{"distributed_interval", " 10", "x option-type"},
		{"distributed_interval", "1e2", "x option-type"},
		{"distributed_interval", json.Number("1e2"), "x option-type"},
		{"distributed_interval", json.Number("1.0"), "x option-type"},
		{"distributed_interval", 1e300, "x option-type"},
		{"distributed_interval", math.NaN(), "x option-type"},
		{"distributed_interval", math.Inf(1), "x option-type"},
		{"distributed_interval", "18446744073709551616", "x option-type"},
		{"distributed_interval", "٣٠", "x option-type"},
		{"distributed_interval", true, "x option-type"},
		{"distributed_interval", nil, "x option-type"},
		{"distributed_interval", []any{10}, "x option-type"},
		{"distributed_interval", map[string]any{}, "x option-type"},
		{"distributed_interval", "", "0 option-empty"},
		{"distributed_interval", "10\x00", "x option-type"},
		{"worker_threads", -5, "3"},
		{"worker_threads", "2147483648", "x option-type"},
		{"hash_cache_max", 4294967296, "x option-type"},
		{"logger_tls_period", 0, "x option-range"},
		{"logger_tls_period", 1, "2"},
		{"schedule_default_interval", 0, "x option-range"},
		{"schedule_default_interval", 604801, "x option-range"},
		{"schedule_timeout", 1, "x option-range"},
		{"schedule_timeout", 3, "x option-range"},
		{"verbose", true, "2"},
		{"verbose", "maybe", "x option-type"},
		{"verbose", 2, "x option-type"},
		{"verbose", "TRUE", "2"},
		{"pack_delimiter", "/", "2"},
		{"pack_delimiter", ":", "x option-range"},
		{"pack_delimiter", "_:_", "x option-range"},
		{"pack_delimiter", "_________", "x option-range"},
		{"pack_delimiter", "\n", "x option-type"},
		{"nullvalue", "NULL", "2"},
		{"nullvalue", long, "x option-type"},
		{"nullvalue", "a\u202eb", "x option-type"},
		{"nullvalue", "a\xff", "x option-type"},
		{"osquery_log_dir", "/etc", "3 option-alias"},
		{"logger_tls_max", 1, "3 option-alias"},
		{"planner", true, "2 shell-option"},
		{"query", "SELECT 1", "2 shell-option"},
		{"custom_x", nil, "x option-type"},
		{"custom_x", 1.5, "x option-type"},
		{"custom_x", long, "x option-type"},
		{"custom_x", func() {}, "x option-type"},
		{"custom_x", nested(maxNesting), "0"},
		{"custom_x", nested(maxNesting + 1), "x option-type"},
		{"custom_x", nested(1000), "x option-type"},
		{"custom_x", map[string]any{"a": math.NaN()}, "x option-type"},
		{"custom_x\n", 1, "x unknown-option"},
		{"custom_", "x", "0"},
		{"", "x", "x unknown-option"},
		{"distributed_intervall", 10, "x unknown-option"},
		{"Verbose", true, "x unknown-option"},
		{"verbose ", true, "x unknown-option"},
		{"verbose\tbool", true, "x unknown-option"},
		{"--verbose", true, "x unknown-option"},
		{"#name", true, "x unknown-option"},
		{strings.Repeat("a", 1<<16), true, "x unknown-option"},
	}
	for _, tt := range tests {
		if got := outcome(e.Option(tt.name, tt.value)); got != tt.want {
			t.Errorf("%.40q=%.40v is %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
	if m := e.Option("distributed_intervall", 10).Findings[0].Message; !strings.Contains(m, "mean distributed_interval?") {
		t.Errorf("no nearest name: %s", m)
	}
	if len(e.Option(strings.Repeat("a", 1<<16), 1).Findings[0].Message) > 500 {
		t.Error("a message repeats a long name")
	}
}

func nested(n int) any {
	var value any = "x"
	for i := range n {
		value = []any{value}
		if i%2 == 1 {
			value = map[string]any{"a": value.([]any)[0]}
		}
	}
	return value
}

// endpoints are those that a hostile server or author would try.
func endpoints() []string {
	return []string{
		"@evil.example/log", ".evil.example/log", ":443@evil.example", "evil.example", "https://evil.example/log", "//evil.example/log",
		"/\\evil.example", "/api//log", "/api/../../x", "/./log", "/api/osquery/log\r\nHost: evil.example", "/log\x00", "/log ", " /log", "/lög",
		"/log?x=1", "/log#x", "/log%20x", "/a@b", "/log\u202e", "/", "api/osquery/log", "/api/osquery/log\n", "/log;x", "/a:b", "/…", "/log\tx",
	}
}

func TestOption_endpoints(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{})
	for _, name := range []string{"logger_tls_endpoint", "distributed_tls_read_endpoint", "distributed_tls_write_endpoint"} {
		for _, value := range endpoints() {
			if v := e.Option(name, value); v.Provable() {
				t.Errorf("%s=%q: %s", name, value, outcome(v))
			}
		}
		// Another server's path is another endpoint's path, too.
		if v := e.Option(name, "/api/osquery/enroll"); v.Tier != Dangerous {
			t.Errorf("%s: %s", name, outcome(v))
		}
	}
}

// TestOption_rules has an installation's own tiers; what no tier allows stays
// refused.
func TestOption_rules(t *testing.T) {
	t.Parallel()
	e := profiles(t, Rules{Options: map[string]Rule{
		"enable_file_events": {Sensitive, "tested in May"}, "distributed_interval": {Harmless, ""}, "verbose": {Dangerous, "never again"},
		"disable_watchdog": {Harmless, "please"}, "logger_tls_endpoint": {Internal, "our proxy has another path"}, "logger_path": {Internal, "ours"},
	}})
	tests := []struct {
		name  string
		value any
		want  string
	}{
		{"enable_file_events", true, "2"},
		{"distributed_interval", 5, "0"},
		{"distributed_interval", 0, "x option-range"},
		{"verbose", true, "3"},
		{"disable_watchdog", true, "x flagfile-only"},
		{"logger_tls_endpoint", "/proxy/log", "1"},
		{"logger_tls_endpoint", "@evil.example", "x foreign-server"},
		{"osquery_log_dir", "/var/log/agents", "1 option-alias"},
	}
	for _, tt := range tests {
		if got := outcome(e.Option(tt.name, tt.value)); got != tt.want {
			t.Errorf("%s=%v is %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
	if f, ok := e.Flag("verbose"); !ok || f.Tier != Dangerous || f.Why != "never again" {
		t.Errorf("%+v", f)
	}
}

// FuzzOption checks what is allowed by other means than the policy's own: an
// endpoint stays on its server as Go's parser sees it, and no value holds what
// would end or hide it.
func FuzzOption(f *testing.F) {
	for _, value := range endpoints() {
		f.Add("logger_tls_endpoint", value, 0.0)
	}
	f.Add("distributed_tls_read_endpoint", "/api/osquery/distributed/read", 1.5)
	f.Add("custom_x", "y", 1e300)
	f.Add("distributed_interval", "0x10", -1.0)
	e := profiles(f, Rules{Options: map[string]Rule{
		"logger_tls_endpoint": {Internal, ""}, "distributed_tls_read_endpoint": {Internal, ""}, "distributed_tls_write_endpoint": {Internal, ""},
	}})
	f.Fuzz(func(t *testing.T, name, value string, number float64) {
		if v := e.Option(name, number); v.Allowed(Dangerous) && (number != math.Trunc(number) || math.Abs(number) > 1<<53) {
			t.Errorf("%q=%v is allowed", name, number)
		}
		v := e.Option(name, value)
		if !v.Allowed(Dangerous) {
			return
		}
		if _, known := e.Flag(name); !known && !strings.HasPrefix(name, "custom_") {
			t.Errorf("%q is no flag and allowed", name)
		}
		if strings.ContainsAny(value, "\x00\r\n\t\x1b") || len(value) > 4096 {
			t.Errorf("%q=%q is allowed", name, value)
		}
		if strings.HasSuffix(name, "_endpoint") && strings.Contains(name, "tls") && value != "" {
			u, err := url.Parse("https://fleet.example.com" + value)
			if err != nil || u.Host != "fleet.example.com" || u.User != nil || u.Path != value || u.RawQuery != "" || u.Fragment != "" {
				t.Errorf("%q=%q is allowed and means %v, %v", name, value, u, err)
			}
		}
	})
}
