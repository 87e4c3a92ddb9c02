package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	path := write(t, "# ours\nretention: 30d\n\ncarve_store: mongodb://muster:hunter2@db.example.com/carves\naudit_witness:\n  - https://logs.example.com/?token=abc\n  - file:///mnt/audit\n")
	list, err := Settings(path, env(map[string]string{"MUSTER_LOG_LEVEL": "warn", "MUSTER_RETENTION_BYTES": "100000000"}), map[string]string{"retention-bytes": "200000000"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Setting{}
	for _, s := range list {
		got[s.Key] = s
	}
	for _, want := range []Setting{
		{"data_dir", "data", "default"},
		{"retention", "720h0m0s", path + " line 2"},
		{"carve_store", "mongodb://muster:xxxxx@db.example.com/carves", path + " line 4"},
		{"audit_witness", "https://logs.example.com/?token=xxxxx,file:///mnt/audit", path + " line 5"},
		{"log_level", "warn", "environment MUSTER_LOG_LEVEL"},
		{"retention_bytes", "200000000", "flag --retention-bytes"},
	} {
		if d := cmp.Diff(want, got[want.Key]); d != "" {
			t.Error(d)
		}
	}
	if len(list) != len(Keys()) {
		t.Errorf("%d settings of %d keys", len(list), len(Keys()))
	}
}

// TestLoad_where: all that is wrong is told at once, each with where it stands.
func TestLoad_where(t *testing.T) {
	t.Parallel()
	path := write(t, "log_level: loud\nretention: -1d\n")
	_, err := Load(path, env(map[string]string{"MUSTER_FLUSH_EVENTS": "1"}), map[string]string{"client-auth": "maybe"})
	for _, want := range []string{path + " line 1: log_level", path + " line 2: retention", "environment MUSTER_FLUSH_EVENTS: flush_events", "flag --client-auth: client_auth"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	path = write(t, "nonsense: 1\nlog_level: info\nretention: soon\n")
	_, err = Load(path, env(nil), nil)
	for _, want := range []string{path + " line 1: ", path + " line 3: retention"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

// TestLoad_secrets: a command line is seen by everybody on the machine.
func TestLoad_secrets(t *testing.T) {
	t.Parallel()
	const store = "mongodb://muster:hunter2@db.example.com/carves"
	_, err := Load("", env(nil), map[string]string{"carve-store": store})
	if err == nil || !strings.Contains(err.Error(), "MUSTER_CARVE_STORE") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if s, err := Load("", env(map[string]string{"MUSTER_CARVE_STORE": store}), nil); err != nil || s.CarveStore != store {
		t.Error(s.CarveStore, err)
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "",
		"90d":                            "90d",
		"s3://b/p?endpoint=https://h":    "s3://b/p?endpoint=https://h",
		"s3://b/p?secret_key=x":          "s3://b/p?secret_key=xxxxx",
		"https://user@host/":             "https://user@host/",
		"https://a:b@h/x,https://h2":     "https://a:xxxxx@h/x,https://h2",
		"mongodb://h/d?authSource=admin": "mongodb://h/d?authSource=admin",
		"https://a:%zz@h":                "xxxxx",
	} {
		if got := Mask(text); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}

// TestExplain: of each key all is said, and its example can be written in a file.
func TestExplain(t *testing.T) {
	t.Parallel()
	together := map[string]string{
		"agent_cert": "agent_key: x", "agent_key": "agent_cert: x", "admin_cert": "admin_key: x", "admin_key": "admin_cert: x", "client_cert_header": "trusted_proxies: 10.0.0.1",
	}
	for _, k := range Keys() {
		e, err := Explain(k.Name)
		if err != nil || e.Type == "" || e.Key != k || strings.TrimSpace(strings.TrimPrefix(e.Example, k.Name+":")) == "" || strings.HasSuffix(e.Example, "[]") {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := Load(write(t, e.Example+"\n"+together[k.Name]), env(nil), nil); err != nil {
			t.Errorf("%s: %v", e.Example, err)
		}
		if e.Type == "whole number" && e.Bounds == "" || strings.HasPrefix(e.Type, "duration") && e.Bounds == "" {
			t.Errorf("%s has no bounds", k.Name)
		}
	}
	if e, err := Explain("carve_node_bytes"); err != nil || e.Bounds != "between 1048576 and 17592186044416; at least carve_max_bytes" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := Explain("retension"); err == nil || !strings.Contains(err.Error(), `"retention"`) {
		t.Error(err)
	}
	for name := range bounds() {
		if _, err := Explain(name); err != nil {
			t.Error(err)
		}
	}
}
