package rule_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/rule"
)

// samples returns the rules of docs/examples, with the packs that they need.
func samples(t *testing.T) *resource.Set {
	t.Helper()
	files, err := filepath.Glob("../../docs/examples/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	objects, err := resource.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		more, err := resource.Parse(file, b)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, more...)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestSamples gives each rule rows as its queries make them.
func TestSamples(t *testing.T) {
	type row = map[string]string
	const on, off, over = "fires", "", "resolves"
	cases := map[string][]struct {
		query   string
		columns row
		want    string
	}{
		"sip-off": {
			{"pack_rules-macos_sip", row{"config_flag": "sip", "enabled": "1"}, off},
			{"pack_rules-macos_sip", row{"config_flag": "sip", "enabled": "0"}, on},
			{"pack_rules-macos_sip", row{"config_flag": "sip", "enabled": "1"}, over},
		},
		"firewall-off-macos": {
			{"pack_rules-macos_firewall", row{"global_state": "0", "stealth_enabled": "0"}, on},
			{"pack_rules-macos_firewall", row{"global_state": "2", "stealth_enabled": "0"}, over},
			{"pack_rules-macos_firewall", row{"global_state": "", "stealth_enabled": ""}, off},
		},
		"filevault-off": {
			{"pack_rules-macos_disk_encryption", row{"name": "/dev/disk1s1", "uuid": "A", "encrypted": "0", "filevault_status": "off"}, on},
			{"pack_rules-macos_disk_encryption", row{"name": "/dev/disk2s1", "uuid": "B", "encrypted": "1", "filevault_status": "on"}, off},
			{"pack_rules-macos_disk_encryption", row{"name": "/dev/disk1s1", "uuid": "A", "encrypted": "1", "filevault_status": "on"}, over},
		},
		"launch-agent-new":      {{"pack_rules-macos_launchd", row{"path": "/Library/LaunchAgents/x.plist", "label": "x", "program": "/tmp/x"}, on}},
		"antivirus-off":         {{"pack_rules-windows_security_center", row{"firewall": "Good", "antivirus": "Poor", "antispyware": "Good"}, on}},
		"firewall-off-windows":  {{"pack_rules-windows_security_center", row{"firewall": "Not Monitored", "antivirus": "Good", "antispyware": "Good"}, on}},
		"bitlocker-off":         {{"pack_rules-windows_bitlocker", row{"drive_letter": "C:", "protection_status": "0", "conversion_status": "0"}, on}},
		"browser-extension-new": {{"pack_rules_chrome_extensions", row{"username": "ann", "identifier": "abc", "name": "x", "version": "1"}, on}, {"pack_rules_firefox_addons", row{"identifier": "x@y"}, on}},
		"systemd-unit-new": {
			{"pack_rules-linux_systemd", row{"id": "x.service", "fragment_path": "/etc/systemd/system/x.service"}, on},
			{"pack_rules-linux_systemd", row{"id": "ssh.service", "fragment_path": "/usr/lib/systemd/system/ssh.service"}, off},
		},
		"cron-new": {{"pack_rules-linux_cron", row{"command": "/tmp/x", "path": "/etc/cron.d/x", "minute": "*"}, on}},
		"usb-unauthorised": {
			{"pack_rules_usb", row{"vendor_id": "046D", "removable": "1"}, off},
			{"pack_rules_usb", row{"vendor_id": "0781", "removable": "1", "model": "Cruzer", "serial": "1"}, on},
			{"pack_rules_usb", row{"vendor_id": "8087", "removable": "0"}, off},
		},
		"listener-tmp": {
			{"pack_rules_listeners", row{"path": "/usr/sbin/sshd", "address": "0.0.0.0", "port": "22"}, off},
			{"pack_rules_listeners", row{"path": "/tmp/.x/nc", "address": "0.0.0.0", "port": "4444"}, on},
			{"pack_rules_listeners", row{"path": "/private/tmp/nc", "address": "::", "port": "4444"}, on},
			{"pack_rules_listeners", row{"path": "/tmp/dev", "address": "127.0.0.1", "port": "3000"}, off},
		},
		"config-invalid": {{"pack_rules_osquery", row{"config_valid": "0", "config_hash": ""}, on}, {"pack_rules_osquery", row{"config_valid": "1"}, over}},
		"config-drift": {
			{"pack_rules_osquery", row{"config_hash": "2f0a4c3b5d6e7f8091a2b3c4d5e6f708192a3b4c"}, off},
			{"pack_rules_osquery", row{"config_hash": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}, on},
			{"pack_rules_osquery", row{"config_hash": "2f0a4c3b5d6e7f8091a2b3c4d5e6f708192a3b4c"}, over},
		},
		"agent-errors": {{event.StatusQuery, row{"severity": "1", "message": "x"}, off}, {event.StatusQuery, row{"severity": "2", "message": "x"}, on}},
		"docker-run": {
			{"pack_rules-docker_process_events", row{"path": "/usr/bin/docker", "cmdline": "docker run -it alpine"}, on},
			{"pack_rules-docker_process_events", row{"path": "/usr/bin/docker", "cmdline": "docker ps"}, off},
		},
		"container-privileged": {{"trigger/rule:docker-run", row{"id": "1", "name": "x", "image": "alpine", "privileged": "1"}, on}, {"trigger/rule:docker-run", row{"privileged": "0"}, off}},
	}
	set := samples(t)
	report, err := resource.Check(set, shipped(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range report.Refused(2) {
		t.Errorf("%s %s: %+v", item.Key, item.Path, item.Verdict.Findings)
	}
	columns := map[string][]string{}
	give := func(query, sql string) {
		for _, c := range shipped().Result(sql) {
			columns[query] = append(columns[query], c.Name)
		}
	}
	for query, sql := range set.EventQueries() {
		give(query, sql)
	}
	for k, r := range resource.Specs[*resource.Rule](set) {
		if r.Actions.Query != nil {
			give("trigger/rule:"+k.Name, r.Actions.Query.SQL)
		}
	}
	for k := range resource.Specs[*resource.Rule](set) {
		for _, item := range report.Of(k) {
			if len(item.Verdict.Findings) > 0 {
				t.Errorf("%s %s: %v", k, item.Path, item.Verdict.Findings)
			}
		}
		o, _ := set.Get(k)
		plan, err := resource.NewRulePlan(o)
		if err != nil {
			t.Fatal(err)
		}
		if len(cases[k.Name]) == 0 {
			t.Errorf("%s has no rows here", k)
		}
		trial := rule.NewTrial(rule.TrialOptions{Plan: plan, First: 100, Now: time.Now})
		for i, c := range cases[k.Name] {
			for name := range c.columns {
				if c.query != event.StatusQuery && !slices.Contains(columns[c.query], name) {
					t.Errorf("%s: %s gives no column %s, but %v", k, c.query, name, columns[c.query])
				}
			}
			before := len(trial.Report().Matches)
			trial.Look(record(c.query, i, c.columns))
			got := ""
			for _, m := range trial.Report().Matches[before:] {
				got = map[bool]string{true: on, false: over}[m.Fired]
				if strings.Contains(m.Title, "{{") {
					t.Errorf("%s: %s", k, m.Title)
				}
			}
			if got != c.want {
				t.Errorf("%s %v: %q, want %q", k, c.columns, got, c.want)
			}
		}
	}
	for name := range maps.Keys(cases) {
		if _, ok := set.Get(resource.Key{Kind: "Rule", Name: name}); !ok {
			t.Errorf("there is no rule %s", name)
		}
	}
}

// record is an event of a query's second run.
func record(query string, i int, columns map[string]string) event.Record {
	var row osquery.Row
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		row = append(row, osquery.Column{Name: name, Value: columns[name]})
	}
	b, _ := json.Marshal(row)
	action := event.Added
	if query == event.StatusQuery {
		action = event.Status
	}
	r := event.Record{NodeID: "n" + string(rune('a'+i)), Received: time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)}
	r.Query, r.Action, r.Counter, r.Columns = query, action, 1, b
	r.Time, r.NodeID = r.Received, "n"
	if query == event.StatusQuery {
		r.NodeID += string(rune('a' + i))
	}
	return r
}
