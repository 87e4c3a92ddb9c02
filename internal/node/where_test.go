package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

// whereNode is what the tests' expressions look at.
func whereNode() *Identity {
	return IdentityOf(Node{
		ID: "n-1", HostIdentifier: "B3E6-8175", Hostname: "db-01.Example.com", Platform: "linux", OS: "Debian GNU/Linux 12", OsqueryVersion: "5.10.2-rc1",
		Tags: []string{"db", "site:dc1"}, Secret: "servers",
		Details: map[string]map[string]string{
			"system_info": {"hardware_vendor": "Dell Inc.", "cpu_brand": "", "physical_memory": "16777216000", "computer_name": "bücher's \"PC\"", "odd": "a\x00system_info.forged\x01b"},
			"os_version":  {"version": "12", "platform_like": "debian"},
			"other":       {"column": "x"},
		},
	})
}

func TestWhere(t *testing.T) {
	t.Parallel()
	n, empty := whereNode(), IdentityOf(Node{})
	for text, want := range map[string]bool{
		"all":                   true,
		"none":                  false,
		"NOT none":              true,
		"not all or all":        true,
		"not (all or all)":      false,
		"none and all":          false,
		"all or all and none":   true, // and goes first
		"(all or all) and none": false,

		"tag = db":                     true,
		"TAG = DB":                     true,
		"tag = site:dc1":               true,
		"tag = d":                      false,
		"tag != web":                   true,
		"tag != db":                    false, // one of its tags is
		"tag in (web, db)":             true,
		"tag not in (web, db)":         false,
		"tag in (web)":                 false,
		"tag = site:*":                 true,
		"tag=db and not tag=web":       true,
		"tag = db and platform=darwin": false,

		`id = "n-1"`:                     true,
		"host_identifier = b3e6-8175":    true,
		`hostname = "db-*"`:              true,
		`hostname = "db-0?.example.com"`: true,
		`hostname = "*example"`:          false,
		`hostname = '*.example.com'`:     true,
		`hostname = "*"`:                 true,
		`hostname = ""`:                  false,
		"platform in (darwin, linux)":    true,
		"os = 'debian*'":                 true,
		"secret = servers":               true,

		"osquery_version >= 5.10":                  true,
		"osquery_version >= 5.10.2":                true,
		"osquery_version < 5.9":                    false, // as text it would be
		"osquery_version < 5.10.2":                 false,
		"osquery_version <= 5.10.2.0":              true,
		"osquery_version > 5.10.1":                 true,
		"osquery_version > 5.10.2":                 false,
		"os_version.version >= 9":                  true,
		"os >= 9":                                  false, // no number
		"system_info.physical_memory > 8589934592": true,

		`system_info.hardware_vendor in (HP, "dell*")`: true,
		`system_info.hardware_vendor = "Dell Inc."`:    true,
		`system_info.computer_name = 'B?CHER''S "pc"'`: true,
		`system_info.computer_name = "b??cher*"`:       false, // ü is one letter
		`system_info.computer_name = "*??C*"`:          true,
		`system_info.cpu_brand = ""`:                   true,
		`system_info.cpu_brand = "*"`:                  true,
		"system_info.forged = b":                       false,
		`system_info.nothing = ""`:                     false, // not there equals nothing
		`system_info.nothing != x`:                     true,
		`os_version.version = "system_info*"`:          false,
	} {
		w, err := ParseWhere("where", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := w.Match(n); got != want || w.String() != text {
			t.Errorf("%s: %v, and it is called %s", text, got, w)
		}
		negation, err := ParseWhere("where", "not ("+text+")")
		if err != nil || negation.Match(n) == want {
			t.Errorf("not (%s): %v, %v", text, !want, err)
		}
		w.Match(empty) // has no attribute
	}
	if (Where{}).Match(n) || (Where{}).String() != "" || (Where{}).Keys() != nil {
		t.Error("the zero Where means somebody")
	}
}

func TestWhere_Keys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"all or none": nil,
		"tag = a or (not Tag in (b, c) and HOSTNAME = x or system_info.UUID = y)": {"hostname", "system_info.uuid", "tag"},
	} {
		w, err := ParseWhere("where", text)
		if d := cmp.Diff(want, w.Keys()); err != nil || d != "" {
			t.Error(err, d)
		}
	}
}

func TestParseWhere_errors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                          "is empty",
		" \n":                       "is empty",
		"tag":                       "ends where",
		"tag =":                     "ends where a value",
		"tag = a b":                 `"b" at character 9`,
		"tag = a and":               "an attribute",
		"and":                       `has "and" at character 1, which is no attribute`,
		"= a":                       "an attribute",
		`"tag" = a`:                 "an attribute",
		"tag == a":                  "a value",
		"tag ! a":                   "expected",
		"tag not a":                 "where in is expected",
		"tag in a":                  "where ( is expected",
		"tag in ()":                 "a value",
		"tag in (a b)":              ", or )",
		"tag in (a,":                "a value",
		"(tag = a":                  "where ) is expected",
		"tag = a)":                  `has ")"`,
		"colour = red":              `"colour" at character 1, which is no attribute`,
		"processes.pid = 1":         "which is no attribute",
		"system_info. = 1":          "which is no attribute",
		"id > 99999999999999999999": "which is no number",
		"all = x":                   `"all" at character 1, which is no attribute`,
		"osquery_version > new":     "which is no number",
		`tag = "a`:                  "a quote at character 7 that does not end",
		"tag = a\x00":               "a control character at character 8",
		"ü = 1 \x1b":                "a control character at character 7",
		strings.Repeat("(", 40) + "all" + strings.Repeat(")", 40): "levels",
		strings.Repeat("not ", 40) + "all":                        "levels",
		"all" + strings.Repeat(" or all", maxWhereTests):          "over 128 tests",
		strings.Repeat("x", maxWhere+1):                           "over 4096",
	} {
		w, err := ParseWhere("selector.where", text)
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "selector.where: ") || !strings.Contains(err.Error(), want) || w.Match(whereNode()) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	for _, text := range []string{
		strings.Repeat("(", maxWhereDepth-1) + "all" + strings.Repeat(")", maxWhereDepth-1),
		"all" + strings.Repeat(" or all", maxWhereTests-1),
	} {
		if _, err := ParseWhere("where", text); err != nil {
			t.Errorf("%d characters: %v", len(text), err)
		}
	}
}

// FuzzWhere: no text makes it panic; what it takes means the same when it is
// read again, and its negation means the others.
func FuzzWhere(f *testing.F) {
	for _, text := range []string{
		"all", "not (tag = a or tag in (b, 'c')) and hostname != \"d*b?\"", "osquery_version >= 5.10 and system_info.hardware_vendor = 'O''Neill'",
		"((((", "tag not in (a, b,)", "os < 1.2.3-x", `x.y = "`, "tag=ü and id<=.5.", "not not not none",
	} {
		f.Add(text, "db-01", "a\x00b")
	}
	f.Fuzz(func(t *testing.T, text, hostname, value string) {
		w, err := ParseWhere("where", text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) || w.Match(whereNode()) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseWhere("where", w.String())
		if err != nil || !slices.Equal(again.Keys(), w.Keys()) {
			t.Fatal(err, again.Keys(), w.Keys())
		}
		negation, err := ParseWhere("where", "not ("+text+")")
		nodes := []*Identity{whereNode(), IdentityOf(Node{}), IdentityOf(Node{
			Hostname: hostname, Tags: []string{hostname, value}, Details: map[string]map[string]string{"system_info": {hostname: value, "uuid": value}},
		})}
		for _, n := range nodes {
			if again.Match(n) != w.Match(n) {
				t.Errorf("%q means another thing when it is read again", text)
			}
			if err == nil && negation.Match(n) == w.Match(n) {
				t.Errorf("%q and its negation mean the same", text)
			}
		}
	})
}

// TestDetails: what an agent sends cannot look like another column, and takes no
// more memory than there is for it.
func TestDetails(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxDetailValue-1) + "ü"
	d := PackDetails(map[string]map[string]string{"system_info": {
		"a": "\x00system_info.b\x01forged", "c\x01d": "x", "e\x00f": "x", "long": long, "": "none",
	}})
	for name, want := range map[string]string{"system_info.a": " system_info.b\x01forged", "system_info.long": long[:maxDetailValue-1]} {
		if got, ok := d.Get(name); !ok || got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, name := range []string{"system_info.b", "system_info.c", "system_info.e", "a", ""} {
		if got, ok := d.Get(name); ok {
			t.Errorf("%s is %q", name, got)
		}
	}
	many := map[string]string{}
	for i := range 1000 {
		many[fmt.Sprintf("column_%d", i)] = long
	}
	if d := PackDetails(map[string]map[string]string{"os_version": many}); len(d) > maxDetails {
		t.Errorf("%d bytes", len(d))
	}
	if PackDetails(nil) != "" || PackDetails(map[string]map[string]string{"x": {"y": "z"}}) != "" {
		t.Error("nothing is something")
	}
}

func BenchmarkWhere(b *testing.B) {
	n := benchNode(7)
	for name, text := range map[string]string{
		"tag":    "tag = web",
		"name":   `platform = linux and hostname = "db-*"`,
		"detail": `system_info.hardware_vendor in (HP, "dell*") and osquery_version >= 5.10`,
	} {
		w, err := ParseWhere("where", text)
		if err != nil {
			b.Fatal(err)
		}
		i := IdentityOf(n)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Match(i)
			}
		})
	}
}

// benchNode is a node that says as much as a real one when it enrols.
func benchNode(i int) Node {
	return Node{
		ID: fmt.Sprintf("%016d", i), HostIdentifier: fmt.Sprintf("b3e68175-1323-402d-9372-%012d", i), Hostname: fmt.Sprintf("srv-%d.example.com", i),
		Platform: "linux", OS: "Debian GNU/Linux 12", OsqueryVersion: fmt.Sprintf("5.%d.1", i%24), Secret: "servers", Version: int64(i + 1),
		Tags: []string{"linux", "site:dc1"}, TagSources: TaggedBy("secret:servers", []string{"linux", "site:dc1"}),
		Details: map[string]map[string]string{
			"os_version": {
				"_id": "12", "arch": "x86_64", "build": "", "codename": "bookworm", "major": "12", "minor": "0", "name": "Debian GNU/Linux",
				"patch": "0", "pid_with_namespace": "0", "platform": "debian", "platform_like": "debian", "version": "12 (bookworm)", "mount_namespace_id": "",
			},
			"osquery_info": {
				"build_distro": "centos7", "build_platform": "linux", "config_hash": "", "config_valid": "0", "extensions": "inactive",
				"instance_id": fmt.Sprintf("0a9e3d7c-4fb0-43d3-8c5c-%012d", i), "pid": fmt.Sprint(i), "platform_mask": "9", "start_time": "1795250701",
				"uuid": fmt.Sprintf("b3e68175-1323-402d-9372-%012d", i), "version": "5.23.1", "watcher": fmt.Sprint(i + 1),
			},
			"platform_info": {
				"address": "0xf000", "date": "04/01/2014", "extra": "", "firmware_type": "uefi", "revision": "", "size": "65536",
				"vendor": "SeaBIOS", "version": "1.15.0-1", "volume_size": "",
			},
			"system_info": {
				"board_model": "PowerEdge R640", "board_serial": fmt.Sprintf("CN%010d", i), "board_vendor": "Dell Inc.", "board_version": "A03", "computer_name": fmt.Sprintf("srv-%d", i),
				"cpu_brand": "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", "cpu_logical_cores": "32", "cpu_microcode": "0x2006e05", "cpu_physical_cores": "16",
				"cpu_sockets": "2", "cpu_subtype": "85", "cpu_type": "x86_64", "emulated_cpu_type": "", "hardware_model": "PowerEdge R640",
				"hardware_serial": fmt.Sprintf("S%06d", i), "hardware_vendor": "Dell Inc.", "hardware_version": "", "hostname": fmt.Sprintf("srv-%d.example.com", i),
				"local_hostname": fmt.Sprintf("srv-%d", i), "physical_memory": "134955573248", "uuid": fmt.Sprintf("4c4c4544-0042-3510-8052-%012d", i),
			},
		},
	}
}
