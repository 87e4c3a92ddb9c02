package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "muster.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func env(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) {
		v, ok := m[k]
		return v, ok
	}
}

// get returns the value of a key as text.
func get(t *testing.T, s Server, name string) string {
	t.Helper()
	v, err := s.field(name)
	if err != nil {
		t.Fatal(err)
	}
	return format(v)
}

// TestLoad_precedence sets every key everywhere: flags over environment over
// file over defaults.
func TestLoad_precedence(t *testing.T) {
	t.Parallel()
	// Three valid values of each key, as written and as shown.
	values := map[string][3][2]string{
		"data_dir":              {{"a", "a"}, {"b", "b"}, {"c", "c"}},
		"agent_listen":          {{":1", ":1"}, {":2", ":2"}, {":3", ":3"}},
		"admin_listen":          {{"localhost:1", "localhost:1"}, {"127.0.0.1:2", "127.0.0.1:2"}, {"'[::1]:3'", "[::1]:3"}},
		"agent_hostname":        {{"a", "a"}, {"b, c", "b,c"}, {"[d, e]", "d,e"}},
		"agent_cert":            {{"1.pem", "1.pem"}, {"2.pem", "2.pem"}, {"3.pem", "3.pem"}},
		"agent_key":             {{"1.key", "1.key"}, {"2.key", "2.key"}, {"3.key", "3.key"}},
		"admin_cert":            {{"1.pem", "1.pem"}, {"2.pem", "2.pem"}, {"3.pem", "3.pem"}},
		"admin_key":             {{"1.key", "1.key"}, {"2.key", "2.key"}, {"3.key", "3.key"}},
		"agent_aliases":         {{"doorman", "doorman"}, {"sgt, /x=log", "sgt,/x=log"}, {"[a, b]", "a,b"}},
		"enroll_secret_name":    {{"a", "a"}, {"b", "b"}, {"c", "c"}},
		"trusted_proxies":       {{"10.0.0.0/8", "10.0.0.0/8"}, {"10.1.2.3, ::1", "10.1.2.3,::1"}, {"[192.0.2.0/24, 10.0.0.1]", "192.0.2.0/24,10.0.0.1"}},
		"client_auth":           {{"off", "off"}, {"optional", "optional"}, {"required", "required"}},
		"client_ca":             {{"1.pem", "1.pem"}, {"2.pem", "2.pem"}, {"3.pem", "3.pem"}},
		"client_binding":        {{"off", "off"}, {"fingerprint", "fingerprint"}, {"san", "san"}},
		"client_cert_header":    {{"A", "A"}, {"B", "B"}, {"C", "C"}},
		"on_identity_clash":     {{"allow", "allow"}, {"quarantine", "quarantine"}, {"refuse", "refuse"}},
		"node_ttl":              {{"1h", "1h0m0s"}, {"30d", "720h0m0s"}, {"0", "0s"}},
		"node_ttl_tags":         {{"a=15m", "a=15m"}, {"a=1h,b=2h", "a=1h,b=2h"}, {"[a=1h, b=30d]", "a=1h,b=30d"}},
		"retention":             {{"1d", "24h0m0s"}, {"2h", "2h0m0s"}, {"0", "0s"}},
		"live_retention":        {{"1d", "24h0m0s"}, {"2h", "2h0m0s"}, {"0", "0s"}},
		"offline_after":         {{"1h", "1h0m0s"}, {"2h", "2h0m0s"}, {"30d", "720h0m0s"}},
		"silent_after":          {{"1h", "1h0m0s"}, {"2h", "2h0m0s"}, {"30d", "720h0m0s"}},
		"alert_retention":       {{"1d", "24h0m0s"}, {"2h", "2h0m0s"}, {"0", "0s"}},
		"secrets_dir":           {{"/a", "/a"}, {"/b", "/b"}, {"/c", "/c"}},
		"sign_on_file":          {{"/a", "/a"}, {"/b", "/b"}, {"/c", "/c"}},
		"require_second_factor": {{"off", "off"}, {"approvers", "approvers"}, {"all", "all"}},
		"egress_allow":          {{"10.0.0.0/8", "10.0.0.0/8"}, {"10.1.2.3, ::1", "10.1.2.3,::1"}, {"[192.0.2.0/24]", "192.0.2.0/24"}},
		"public_url":            {{"https://a", "https://a"}, {"http://b:1", "http://b:1"}, {"https://c/d", "https://c/d"}},
		"flush_events":          {{"200", "200"}, {"300", "300"}, {"400", "400"}},
		"stream_max_bytes":      {{"100000000", "100000000"}, {"200000000", "200000000"}, {"300000000", "300000000"}},
		"audit_witness":         {{"file:///a", "file:///a"}, {"syslog:///dev/log, https://a/b", "syslog:///dev/log,https://a/b"}, {"[syslog://a, syslog+tcp://b:601]", "syslog://a,syslog+tcp://b:601"}},
		"sink_dir":              {{"/a", "/a"}, {"/b", "/b"}, {"/c", "/c"}},
		"freeze_source":         {{"/a", "/a"}, {"https://a/b", "https://a/b"}, {"[/a, file:///b]", "/a,file:///b"}},
		"drain_timeout":         {{"1s", "1s"}, {"2s", "2s"}, {"3m", "3m0s"}},
		"log_level":             {{"debug", "debug"}, {"warn", "warn"}, {"error", "error"}},
		"log_format":            {{"json", "json"}, {"text", "text"}, {"json", "json"}},
	}
	values["retention_bytes"] = [3][2]string{{"100000000", "100000000"}, {"200000000", "200000000"}, {"0", "0"}}
	values["retention_queries"] = [3][2]string{{"a=1d", "a=1d"}, {"a*=1h,b=0", "a*=1h,b=0"}, {"[a=b=2h, 'b=30d']", "a=b=2h,b=30d"}}
	values["carve_store"] = [3][2]string{{"dir:/a", "dir:/a"}, {"dir", "dir"}, {"s3://b/c", "s3://b/c"}}
	values["carve_max_bytes"] = [3][2]string{{"2000000", "2000000"}, {"3000000", "3000000"}, {"4000000", "4000000"}}
	values["carve_block_bytes"], values["carve_free_bytes"] = values["carve_max_bytes"], values["carve_max_bytes"]
	values["carve_node_bytes"] = [3][2]string{{"5000000000", "5000000000"}, {"6000000000", "6000000000"}, {"7000000000", "7000000000"}}
	values["carve_total_bytes"] = values["carve_node_bytes"]
	values["carve_expiry"] = [3][2]string{{"1h", "1h0m0s"}, {"2h", "2h0m0s"}, {"30d", "720h0m0s"}}
	values["carve_retention"] = values["carve_expiry"]
	values["carve_unrequested"] = [3][2]string{{"refuse", "refuse"}, {"accept", "accept"}, {"refuse", "refuse"}}
	values["vault_addr"] = [3][2]string{{"https://a", "https://a"}, {"https://b:8200", "https://b:8200"}, {"http://127.0.0.1:8200", "http://127.0.0.1:8200"}}
	values["vault_ca"], values["vault_policy"], values["vault_namespace"] = values["client_ca"], values["client_cert_header"], values["client_cert_header"]
	for _, name := range []string{
		"carve_sessions", "carve_sessions_per_node", "limit_carving", "limit_connections", "limit_connections_per_address", "limit_body_rate", "limit_enrolling", "limit_logging", "limit_writing", "limit_queue",
	} {
		values[name] = [3][2]string{{"11", "11"}, {"12", "12"}, {"13", "13"}}
	}
	for _, name := range []string{"limit_log_bytes", "limit_write_bytes"} {
		values[name] = [3][2]string{{"2000000", "2000000"}, {"3000000", "3000000"}, {"4000000", "4000000"}}
	}
	values["limit_small_bytes"] = [3][2]string{{"20000", "20000"}, {"30000", "30000"}, {"40000", "40000"}}
	values["limit_body_memory"] = [3][2]string{{"100000000", "100000000"}, {"200000000", "200000000"}, {"300000000", "300000000"}}
	together := map[string]string{"agent_cert": "agent_key", "agent_key": "agent_cert", "admin_cert": "admin_key", "admin_key": "admin_cert"}
	also := map[string]string{"client_binding": "client_auth: required\n", "client_cert_header": "trusted_proxies: 10.0.0.1\n"}
	for _, k := range Keys() {
		v, ok := values[k.Name]
		if !ok {
			t.Errorf("%s is not tried", k.Name)
			continue
		}
		if k.Doc == "" || k.Env != "MUSTER_"+strings.ToUpper(k.Name) || strings.ContainsAny(k.Flag, "_-") != strings.Contains(k.Name, "_") {
			t.Errorf("%+v", k)
		}
		file := k.Name + ": " + v[2][0] + "\n"
		if other := together[k.Name]; other != "" {
			file += other + ": x\n"
		}
		file += also[k.Name]
		path := write(t, file)
		environment, flags := map[string]string{k.Env: v[1][0]}, map[string]string{k.Flag: v[0][0]}
		for _, tt := range []struct {
			what  string
			path  string
			env   map[string]string
			flags map[string]string
			want  string
		}{
			{"default", "", nil, nil, k.Default},
			{"file", path, nil, nil, v[2][1]},
			{"environment", path, environment, nil, v[1][1]},
			{"flag", path, environment, flags, v[0][1]},
			{"flag over file", path, nil, flags, v[0][1]},
		} {
			s, err := Load(tt.path, env(tt.env), tt.flags)
			if err != nil {
				t.Errorf("%s from %s: %v", k.Name, tt.what, err)
			}
			if got := get(t, s, k.Name); got != tt.want {
				t.Errorf("%s from %s is %q, want %q", k.Name, tt.what, got, tt.want)
			}
		}
	}
	s, err := Load("", env(nil), nil)
	if d := cmp.Diff(Default(), s); err != nil || d != "" {
		t.Error("the defaults are not valid:", err, d)
	}
	// What Keys shows as default can be written in the file.
	for _, k := range Keys() {
		if err := s.set(k.Name, k.Default); err != nil {
			t.Error(err)
		}
	}
	if d := cmp.Diff(Default(), s); d != "" {
		t.Error(d)
	}
}

func TestLoad_file(t *testing.T) {
	t.Parallel()
	const file = `# how it is here
"data_dir": /var/lib/muster   # quoted key
agent_listen: :8443
agent_hostname:
  - muster.example.com
  - 192.0.2.1
  - 1.10
agent_cert: ~
retention: 30d
stream_max_bytes: 100000000
log_level: 'warn'
`
	s, err := Load(write(t, file), env(nil), nil)
	want := Default()
	want.DataDir, want.AgentHostname = "/var/lib/muster", []string{"muster.example.com", "192.0.2.1", "1.10"}
	want.Retention, want.StreamMax, want.LogLevel = 30*24*time.Hour, 100_000_000, "warn"
	if d := cmp.Diff(want, s); err != nil || d != "" {
		t.Error(err, d)
	}
	if got := s.Path("ca.pem"); got != "/var/lib/muster/ca.pem" {
		t.Error(got)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n"} {
		if s, err := Load(write(t, empty), env(nil), nil); err != nil || !reflect.DeepEqual(s, Default()) {
			t.Errorf("%q: %v", empty, err)
		}
	}
	for _, text := range []string{"007", "1.10", "true", "0x10", "2026-01-01"} {
		if s, err := Load(write(t, "data_dir: "+text), env(nil), nil); err != nil || s.DataDir != text {
			t.Errorf("data_dir: %s is %q, %v", text, s.DataDir, err)
		}
	}
}

func TestLoad_errors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		env, flags map[string]string
		want       []string
	}{
		{"misspelt key", "log_level: info\nretension: 5d", nil, nil, []string{"line 2", `"retension"`, `did you mean "retention"`}},
		{"dashes", "data-dir: x", nil, nil, []string{"line 1", `did you mean "data_dir"`}},
		{"other case", "Log_Level: x", nil, nil, []string{`did you mean "log_level"`}},
		{"wrong duration", "\n\nretention: 5 weeks", nil, nil, []string{"line 3", "retention", `"5 weeks" is no duration`}},
		{"duration without unit", "drain_timeout: 20", nil, nil, []string{"line 1", "drain_timeout", "is no duration"}},
		{"half days", "retention: 1.5d", nil, nil, []string{"is no duration"}},
		{"more than there are", "retention: 200000d", nil, nil, []string{"retention", "is no duration"}},
		{"wrong number", "stream_max_bytes: 8GB", nil, nil, []string{"line 1", "stream_max_bytes", `"8GB" is no whole number`}},
		{"fraction", "stream_max_bytes: 1e10", nil, nil, []string{"is no whole number"}},
		{"mapping for a value", "data_dir: {a: b}", nil, nil, []string{"line 1", "data_dir", "plain value"}},
		{"list for a value", "data_dir: [a, b]", nil, nil, []string{"line 1", "data_dir", "not a list"}},
		{"nested list", "agent_hostname: [a, [b]]", nil, nil, []string{"agent_hostname", "plain value"}},
		{"not a mapping", "- a", nil, nil, []string{"must be a mapping"}},
		{"not YAML", "a: [", nil, nil, nil},
		{"key twice", "data_dir: a\ndata_dir: b", nil, nil, []string{"data_dir"}},
		{"environment", "", map[string]string{"MUSTER_RETENTION": "x"}, nil, []string{"MUSTER_RETENTION", "retention", `"x"`}},
		{"flag", "", nil, map[string]string{"stream-max-bytes": "x"}, []string{"--stream-max-bytes", `"x"`}},
		{"empty", "data_dir: ''", nil, nil, []string{"data_dir: must not be empty"}},
		{"no port", "agent_listen: localhost", nil, nil, []string{`agent_listen: "localhost" is not host:port`}},
		{"level", "log_level: loud", nil, nil, []string{"log_level", "none of debug, info, warn, error"}},
		{"format", "log_format: xml", nil, nil, []string{"log_format", "none of text, json"}},
		{"negative retention", "retention: -1d", nil, nil, []string{"retention: must be at least 0s"}},
		{"retention of queries", "retention_bytes: 5\nretention_queries: 7d", nil, nil, []string{"retention_bytes: must be 0, or at least", `retention_queries: "7d" is no QUERY=DURATION`}},
		{"negative retention of queries", "retention_queries: a=-1d", nil, nil, []string{"retention_queries: a must not be negative"}},
		{"negative alert retention", "alert_retention: -1d", nil, nil, []string{"alert_retention: must be at least 0s"}},
		{"no network", "egress_allow: [10.0.0.0/8, here]", nil, nil, []string{`egress_allow: "here" is no network`}},
		{"no public URL", "public_url: muster.example.com", nil, nil, []string{"public_url: must be as https://"}},
		{"negative live retention", "live_retention: -1d", nil, nil, []string{"live_retention: must be at least 0s"}},
		{"no time", "offline_after: 1s\nsilent_after: 0", nil, nil, []string{"offline_after: must be at least 1m0s", "silent_after: must be at least 1m0s"}},
		{"witness of no kind", "audit_witness: ftp://a", nil, nil, []string{"audit_witness", "syslog://"}},
		{"witness without host", "audit_witness: https:///x", nil, nil, []string{"audit_witness", "none of"}},
		{"witness in no directory", "audit_witness: file://x/y", nil, nil, []string{"audit_witness", "none of"}},
		{"witness over UDP with a path", "audit_witness: syslog://x/y", nil, nil, []string{"audit_witness", "none of"}},
		{"witness over TCP with a path", "audit_witness: syslog+tcp:///dev/log", nil, nil, []string{"audit_witness", "none of"}},
		{"witness that is no URL", "audit_witness: '%'", nil, nil, []string{"audit_witness", "no URL"}},
		{"negative drain", "drain_timeout: -1s", nil, nil, []string{"drain_timeout: must be at least 0s"}},
		{"small stream", "stream_max_bytes: 1000", nil, nil, []string{"stream_max_bytes: must be at least 67108864"}},
		{"carves", "carve_max_bytes: 1\ncarve_node_bytes: 5\ncarve_store: ftp://x\ncarve_unrequested: no\ncarve_retention: 0\nvault_addr: http://vault", nil, nil, []string{
			"carve_max_bytes: must be between", "carve_store: is none of", "carve_unrequested:", "carve_retention:", "vault_addr: must be an https",
		}},
		{"small memory", "flush_events: 1", nil, nil, []string{"flush_events: must be between"}},
		{"certificate without key", "agent_cert: x", nil, nil, []string{"agent_cert", "agent_key"}},
		{"key without certificate", "admin_key: x", nil, nil, []string{"admin_cert", "admin_key"}},
		{"plain HTTP for all", "admin_listen: 0.0.0.0:80", nil, nil, []string{"admin_listen", "not loopback"}},
		{"plain HTTP by default", "admin_listen: :80", nil, nil, []string{"admin_listen", "not loopback"}},
		{"plain HTTP by name", "admin_listen: example.com:80", nil, nil, []string{"not loopback"}},
		{"client auth", "client_auth: maybe", nil, nil, []string{"client_auth", "off, optional, required"}},
		{"binding without certificates", "client_binding: san", nil, nil, []string{"client_binding", "client_auth"}},
		{"unknown binding", "client_binding: x\nclient_auth: required", nil, nil, []string{"client_binding"}},
		{"factor", "require_second_factor: some", nil, nil, []string{"require_second_factor", "approvers"}},
		{"clash", "on_identity_clash: x", nil, nil, []string{"on_identity_clash", "quarantine"}},
		{"header from anybody", "client_cert_header: Client-Cert", nil, nil, []string{"client_cert_header", "trusted_proxies"}},
		{"proxy", "trusted_proxies: proxy.example.com", nil, nil, []string{"trusted_proxies", "10.0.0.0/8"}},
		{"no secret's name", "enroll_secret_name: ''", nil, nil, []string{"enroll_secret_name"}},
		{"short ttl", "node_ttl: 10s", nil, nil, []string{"node_ttl", "5m0s"}},
		{"ttl of no tag", "node_ttl_tags: 15m", nil, nil, []string{"node_ttl_tags", "TAG=DURATION"}},
		{"short ttl of a tag", "node_ttl_tags: a=1s", nil, nil, []string{"node_ttl_tags", "5m0s"}},
		{"ttl of a tag", "node_ttl_tags: a=x", nil, nil, []string{"node_ttl_tags", "no duration"}},
		{"small log bodies", "limit_log_bytes: 1000", nil, nil, []string{"limit_log_bytes"}},
		{"less memory than one body", "limit_body_memory: 2000000", nil, nil, []string{"limit_body_memory"}},
		{"nobody may enrol", "limit_enrolling: 0", nil, nil, []string{"limit_enrolling"}},
		{"all at once", "log_level: x\nretention: -1d", nil, nil, []string{"log_level", "retention"}},
	}
	for _, tt := range tests {
		_, err := Load(write(t, tt.file), env(tt.env), tt.flags)
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nwant %q", tt.name, err, w)
			}
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), env(nil), nil); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Error(err)
	}
	if _, err := Load(write(t, "admin_listen: 0.0.0.0:443\nadmin_cert: c\nadmin_key: k"), env(nil), nil); err != nil {
		t.Error("TLS for all:", err)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90d": 90 * 24 * time.Hour, "0d": 0, "-2d": -48 * time.Hour, "0": 0, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "5", "1d2h", "d5", " 5d", "106752d", "-106752d", "2147483647d", "99999999999d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{"data_dir: x", "agent_hostname: [a, b]", "retention: 5d # x", "a: &b c\nd: *b", "---\n---\n", "? x\n: y", "log_level: |\n  info", "<<: {a: b}", "data_dir: !!str 5"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := loader{Server: Default(), origins: map[string]string{}}
		if err := s.file(b); err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Errorf("%q: an error without words", b)
			}
			return
		}
		_ = s.Validate()
		for _, h := range s.AgentHostname {
			if h == "" || strings.TrimSpace(h) != h || strings.Contains(h, ",") {
				t.Errorf("host %q", h)
			}
		}
	})
}

// TestDocs: the documentation shows every key as it is.
func TestDocs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		row := "| `" + k.Name + "` | `--" + k.Flag + "` | `" + k.Env + "` | "
		if k.Default != "" {
			row += "`" + k.Default + "`"
		}
		if row += " | " + k.Doc + " |\n"; !strings.Contains(string(b), row) {
			t.Errorf("docs/configuration.md lacks the line\n%s", row)
		}
	}
}

func TestServer_Proxies(t *testing.T) {
	t.Parallel()
	s := Server{TrustedProxies: []string{"10.1.2.3/8", "192.0.2.1", "::1", "2001:db8::/32"}}
	got, err := s.Proxies()
	if want := "[10.0.0.0/8 192.0.2.1/32 ::1/128 2001:db8::/32]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
}
