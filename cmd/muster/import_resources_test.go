package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/resource"
)

// TestImport_resources reads configs and osquery's own packs together, as they
// lie in directories.
func TestImport_resources(t *testing.T) {
	packs, err := filepath.Abs("../../internal/osquery/testdata/packs")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_HOME", t.TempDir()) // nobody is logged in: nothing is sent
	t.Chdir(t.TempDir())
	put := func(name, from string) {
		b, err := os.ReadFile(filepath.Join(packs, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"it-compliance.conf", "hardware-monitoring.conf", "windows-attacks.conf"} {
		put("etc/packs/"+name, name)
	}
	put("a/p.conf", "ossec-rootkit.conf")
	put("b/p.conf", "vuln-management.conf")
	config := `{"options":{"verbose":false},"packs":{"compliance":"/opt/osquery/packs/it-compliance.conf","attacks":"C:\\osquery\\packs\\windows-attacks.conf"}}`
	if err := os.WriteFile("etc/osquery.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("label.yml", []byte("apiVersion: v1\nkind: label\nspec: {name: x, label_membership_type: manual, hosts: [h]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args string
		want string // keys of objects, or what is said in standard error
		code int
	}{
		"a pack":                        {"etc/packs/it-compliance.conf", "Pack/it-compliance", 0},
		"a config with packs before it": {"etc/packs/it-compliance.conf etc/packs/windows-attacks.conf etc/osquery.conf", "Pack/compliance Pack/attacks Profile/osquery", 0},
		"a pack that no config names":   {"etc/osquery.conf etc/packs/hardware-monitoring.conf etc/packs/it-compliance.conf etc/packs/windows-attacks.conf", "Pack/compliance Pack/attacks Pack/hardware-monitoring Profile/osquery", 0},
		"a pack that is not given":      {"./etc/osquery.conf", "etc/osquery.conf: packs.attacks", 0},
		"another format besides":        {"label.yml etc/packs/it-compliance.conf", "Pack/it-compliance TagRule/x", 0},
		"two files of one name":         {"./a/p.conf b//p.conf", "b/p.conf: the pack p is also in a/p.conf", exitFailed},
		"a format that is said":         {"a/p.conf --format osquery-pack --name root", "Pack/root", 0},
		"no file":                       {"etc/none.conf", "etc/none.conf", exitUsage},
	} {
		out, errOut, code := muster(t, append([]string{"import", "resources"}, strings.Fields(c.args)...)...)
		if code != c.code {
			t.Errorf("%s: exit code %d: %s", name, code, errOut)
		}
		if strings.Contains(c.want, ": ") || code == exitUsage {
			if !strings.Contains(errOut, c.want) {
				t.Errorf("%s: no %q in %s", name, c.want, errOut)
			}
			continue
		}
		if diff := cmp.Diff(strings.Fields(c.want), keysOf(t, out), cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, errOut)
		}
	}
}

// keysOf returns the keys of documents.
func keysOf(t *testing.T, text string) []string {
	t.Helper()
	objects, err := resource.Parse("out", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.String())
	}
	return keys
}
