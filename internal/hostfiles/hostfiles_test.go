package hostfiles_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agent"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/hostfiles"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

var update = flag.Bool("update", false, "write the golden files again")

// hashOf is what osquery says of a config that is one file.
func hashOf(b []byte) string {
	one := sha1.Sum(b)
	two := sha1.Sum([]byte(hex.EncodeToString(one[:])))
	return hex.EncodeToString(two[:])
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const quiet = `{"options":{"disable_distributed":true},"packs":{"base":{"queries":{"uptime":{"interval":600,"query":"SELECT total_seconds FROM uptime"}}}}}`

const lively = `{"options":{"disable_distributed":false,"logger_tls_endpoint":"/api/osquery/log"},"packs":{"web":{"queries":{"page":{"interval":600,"query":"SELECT result FROM curl WHERE url='http://localhost/'"}}}}}`

func options(t *testing.T, config string) hostfiles.Options {
	t.Helper()
	return hostfiles.Options{
		Config: []byte(config), ConfigHash: hashOf([]byte(config)), Revision: 17, Selector: `tag = web and hostname = "db-*"`,
		ServerHost: "muster.example.com:8443", CA: read(t, "ca.pem"), Live: true,
	}
}

func quietOptions(t *testing.T) hostfiles.Options {
	t.Helper()
	o := options(t, quiet)
	o.Live = false
	return o
}

func remoteOptions(t *testing.T) hostfiles.Options {
	t.Helper()
	return hostfiles.Options{Mode: hostfiles.FromServer, ServerHost: "[2001:db8::1]:443", CA: read(t, "ca.pem"), Live: true, Carves: true, DisableTables: []string{}}
}

// variants are the trees that golden files hold.
func variants(t *testing.T) map[string]func() ([]hostfiles.File, error) {
	t.Helper()
	darwin, windows := options(t, quiet), options(t, quiet)
	darwin.Platform, windows.Platform = hostfiles.Darwin, hostfiles.Windows
	large := options(t, lively)
	large.Limits = hostfiles.DefaultLimits()
	large.Limits.Cores, large.Limits.CPUQuota = 64, 80
	return map[string]func() ([]hostfiles.File, error){
		"files":   func() ([]hostfiles.File, error) { return hostfiles.Files(large) },
		"no-live": func() ([]hostfiles.File, error) { return hostfiles.Files(quietOptions(t)) },
		"server":  func() ([]hostfiles.File, error) { return hostfiles.Files(remoteOptions(t)) },
		"darwin":  func() ([]hostfiles.File, error) { return hostfiles.Files(darwin) },
		"windows": func() ([]hostfiles.File, error) { return hostfiles.Files(windows) },
		"puppet":  func() ([]hostfiles.File, error) { return hostfiles.Puppet(quietOptions(t)) },
		"ansible": func() ([]hostfiles.File, error) { return hostfiles.Ansible(quietOptions(t)) },
	}
}

func must(t *testing.T, build func() ([]hostfiles.File, error)) []hostfiles.File {
	t.Helper()
	files, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestFiles_golden compares whole trees with those in testdata.
func TestFiles_golden(t *testing.T) {
	t.Parallel()
	for name, build := range variants(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("testdata", "golden", name)
			files := must(t, build)
			if *update {
				writeTree(t, dir, files)
			}
			want := map[string]string{}
			err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				rel, _ := filepath.Rel(dir, path)
				want[filepath.ToSlash(rel)] = string(b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, f := range files {
				got[f.Path] = string(f.Bytes)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func writeTree(t *testing.T, dir string, files []hostfiles.File) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFiles_sums checks that SHA256SUMS names every other file, in order.
func TestFiles_sums(t *testing.T) {
	t.Parallel()
	for name, build := range variants(t) {
		var want []string
		var sums string
		for _, f := range must(t, build) {
			if f.Path == "SHA256SUMS" {
				sums = string(f.Bytes)
				continue
			}
			want = append(want, f.Sum()+"  "+f.Path)
		}
		if diff := cmp.Diff(strings.Join(want, "\n")+"\n", sums); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if !slices.IsSortedFunc(want, func(a, b string) int { return strings.Compare(a[64:], b[64:]) }) {
			t.Errorf("%s: not sorted", name)
		}
	}
}

// TestFiles_reproducible makes everything again, with lists in another order
// and after what the caller had was changed.
func TestFiles_reproducible(t *testing.T) {
	t.Parallel()
	for name, build := range variants(t) {
		first, err := hostfiles.Archive(must(t, build))
		if err != nil {
			t.Fatal(err)
		}
		for range 5 { // maps are walked in another order each time
			again, err := hostfiles.Archive(must(t, build))
			if err != nil || !bytes.Equal(first, again) {
				t.Errorf("%s: other bytes: %v", name, err)
			}
		}
	}
	o, turned := quietOptions(t), quietOptions(t)
	o.DisableTables = []string{"curl", "processes", "yara", "curl"}
	turned.DisableTables = []string{"yara", "processes", "curl"}
	a, errA := hostfiles.Deb(o, "settings", "1")
	b, errB := hostfiles.Deb(turned, "settings", "1")
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("other bytes for the same tables in another order: %v %v", errA, errB)
	}
	files := must(t, func() ([]hostfiles.File, error) { return hostfiles.Files(o) })
	o.Config[0] = 'x'
	for _, f := range files {
		if strings.HasSuffix(f.Path, "osquery.conf") && string(f.Bytes) != quiet {
			t.Error("the files share memory with the options")
		}
	}
}

// TestFiles_server checks a real config of the server: the same bytes on the
// host, and the hash that an agent would report.
func TestFiles_server(t *testing.T) {
	t.Parallel()
	objects, err := resource.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := resource.Compile(3, set)
	if err != nil {
		t.Fatal(err)
	}
	c, err := snapshot.Config(&node.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, string(c.JSON))
	o.ConfigHash = c.Hash
	conf := content(t, must(t, func() ([]hostfiles.File, error) { return hostfiles.Files(o) }), "etc/osquery/osquery.conf")
	if conf != string(c.JSON) {
		t.Error("osquery.conf is not the server's config")
	}
	if hash, err := agent.Hash([]byte(conf)); err != nil || hash != c.Hash {
		t.Errorf("an agent would say %s (%v), the server says %s", hash, err, c.Hash)
	}
	o.Live = false // the built-in config lets nodes answer live queries
	if _, err := hostfiles.Files(o); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "options.disable_distributed") {
		t.Errorf("live queries are off, but for what the config says: %v", err)
	}
}

func content(t *testing.T, files []hostfiles.File, path string) string {
	t.Helper()
	for _, f := range files {
		if f.Path == path {
			return string(f.Bytes)
		}
	}
	t.Fatalf("no file %s", path)
	return ""
}

// TestFlagfile reads the flagfiles as an agent does: every line is a flag of
// osquery, and those that must be on the command line are.
func TestFlagfile(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for name, build := range variants(t) {
		for _, f := range must(t, build) {
			if !strings.HasSuffix(f.Path, "osquery.flags") {
				continue
			}
			seen := map[string]string{}
			for line := range strings.Lines(string(f.Bytes)) {
				line = strings.TrimSuffix(line, "\n")
				if line == "" || strings.HasPrefix(line, "# ") {
					continue
				}
				flag, value, ok := strings.Cut(strings.TrimPrefix(line, "--"), "=")
				if _, known := engine.Flag(flag); !known || !ok || value == "" || seen[flag] != "" {
					t.Errorf("%s: %q is no flag of osquery, or was there before", name, line)
				}
				seen[flag] = value
			}
			want := map[string]string{"disable_extensions": "true", "allow_unsafe": "false", "disable_watchdog": "false", "host_identifier": "uuid", "carver_disable_function": "true"}
			for flag, value := range want {
				if seen[flag] != value {
					t.Errorf("%s: %s is %q", name, flag, seen[flag])
				}
			}
			if server := name == "server"; (seen["config_plugin"] == "tls") != server || (seen["config_enable_backup"] == "true") != server || (seen["config_tls_endpoint"] != "") != server {
				t.Errorf("%s: takes its config from elsewhere: %v", name, seen)
			}
		}
	}
}

// TestFlagfile_agent gives the files to an agent of ours, which runs what they
// say.
func TestFlagfile_agent(t *testing.T) {
	t.Parallel()
	text := content(t, must(t, func() ([]hostfiles.File, error) { return hostfiles.Files(options(t, lively)) }), "etc/osquery/osquery.flags")
	flags := agent.NewFlags()
	flags.Parse(text)
	for name, want := range map[string]string{
		"tls_hostname": "muster.example.com:8443", "config_plugin": "filesystem", "config_path": "/etc/osquery/osquery.conf",
		"enroll_secret_path": "/etc/osquery/enroll.secret", "tls_server_certs": "/etc/osquery/muster-ca.pem",
		"disable_tables": strings.Join(hostfiles.DefaultDisabledTables(), ","), "disable_distributed": "false",
	} {
		if got := flags.String(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestDefaultDisabledTables compares the list with the policy's data: all
// dangerous tables that connect to somewhere, by all their names.
func TestDefaultDisabledTables(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	word := ""
	if curl, ok := engine.Table("curl_certificate"); ok && len(curl.Classes) == 1 {
		word = curl.Classes[0] // it does nothing else
	}
	var want []string
	for _, table := range engine.Tables() {
		if table.Tier == policy.Dangerous && slices.Contains(table.Classes, word) {
			want = append(append(want, table.Name), table.Aliases...)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, hostfiles.DefaultDisabledTables()); diff != "" || len(want) == 0 {
		t.Error(diff)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	o := options(t, lively)
	o.Limits = hostfiles.DefaultLimits()
	o.Limits.Cores = 64
	got, err := hostfiles.Warnings(o)
	want := []string{
		"with 64 CPUs osquery's watchdog cannot be set below 64% of one CPU; watchdog_cpu asked for 40%",
		`"packs.web.queries.page" seems to read curl, which disable_tables has`,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if got, err := hostfiles.Warnings(options(t, quiet)); err != nil || got != nil {
		t.Errorf("warnings about nothing: %q %v", got, err)
	}
}

// TestFiles_refused: what must not reach a host, or would not do there what it
// seems to.
func TestFiles_refused(t *testing.T) {
	t.Parallel()
	config := func(text string) func(*hostfiles.Options) {
		return func(o *hostfiles.Options) { o.Config, o.ConfigHash = []byte(text), hashOf([]byte(text)) }
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("secret")})
	for name, c := range map[string]struct {
		change func(*hostfiles.Options)
		want   string
	}{
		"mode":            {func(o *hostfiles.Options) { o.Mode = "both" }, "mode"},
		"platform":        {func(o *hostfiles.Options) { o.Platform = "plan9" }, "platform"},
		"server, no live": {func(o *hostfiles.Options) { o.Mode, o.Live = hostfiles.FromServer, false }, "live"},
		"no port":         {func(o *hostfiles.Options) { o.ServerHost = "muster.example.com" }, "server_host"},
		"flag in host":    {func(o *hostfiles.Options) { o.ServerHost = "a\n--disable_watchdog=true\nb:1" }, "server_host"},
		"flag in port":    {func(o *hostfiles.Options) { o.ServerHost = "a:443\n--x" }, "server_host"},
		"signed port":     {func(o *hostfiles.Options) { o.ServerHost = "a:+443" }, "server_host"},
		"user in host":    {func(o *hostfiles.Options) { o.ServerHost = "a@b:443" }, "server_host"},
		"zone in host":    {func(o *hostfiles.Options) { o.ServerHost = "[fe80::1%\n]:443" }, "server_host"},
		"long host":       {func(o *hostfiles.Options) { o.ServerHost = strings.Repeat("a", 254) + ":443" }, "server_host"},
		"no ca":           {func(o *hostfiles.Options) { o.CA = nil }, "ca: holds no"},
		"key in ca":       {func(o *hostfiles.Options) { o.CA = append(o.CA, key...) }, "EC PRIVATE KEY"},
		"broken ca":       {func(o *hostfiles.Options) { o.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: key}) }, "ca"},
		"huge ca":         {func(o *hostfiles.Options) { o.CA = bytes.Repeat(o.CA, 1000) }, "ca: has over"},
		"relative secret": {func(o *hostfiles.Options) { o.SecretPath = "enroll.secret" }, "secret_path"},
		"secret, quote":   {func(o *hostfiles.Options) { o.SecretPath = "/etc/a'; touch /x; '" }, "secret_path"},
		"secret, line":    {func(o *hostfiles.Options) { o.SecretPath = "/etc/a\n--x=y" }, "secret_path"},
		"secret, up":      {func(o *hostfiles.Options) { o.SecretPath = "/etc/../x" }, "secret_path"},
		"secret, windows": {func(o *hostfiles.Options) { o.Platform, o.SecretPath = hostfiles.Windows, `C:\a\..\b` }, "secret_path"},
		"table, line":     {func(o *hostfiles.Options) { o.DisableTables = []string{"curl\n--x=y"} }, `disable_tables: has "curl\n--x=y"`},
		"table, two":      {func(o *hostfiles.Options) { o.DisableTables = []string{"a,b"} }, "disable_tables"},
		"many tables":     {func(o *hostfiles.Options) { o.DisableTables = manyTables() }, "disable_tables: has more"},
		"long selector":   {func(o *hostfiles.Options) { o.Selector = strings.Repeat("a", 5000) }, "selector"},
		"quota":           {func(o *hostfiles.Options) { o.Limits = limits(func(l *hostfiles.Limits) { l.CPUQuota = 20 }) }, "cpu_quota: is so low"},
		"many cores":      {func(o *hostfiles.Options) { o.Limits = limits(func(l *hostfiles.Limits) { l.Cores = 64 }) }, "give at least 80"},
		"memory":          {func(o *hostfiles.Options) { o.Limits = limits(func(l *hostfiles.Limits) { l.MemoryMax = 200 }) }, "memory_max: is so low"},
		"no cores":        {func(o *hostfiles.Options) { o.Limits = limits(func(l *hostfiles.Limits) { l.Cores = 0 }) }, "cores"},
		"io weight":       {func(o *hostfiles.Options) { o.Limits = limits(func(l *hostfiles.Limits) { l.IOWeight = 10001 }) }, "io_weight"},
		"no config":       {config(""), "config: is no JSON"},
		"list":            {config("[]"), "one compact"},
		"newline":         {config(quiet + "\n"), "one compact"},
		"key twice":       {config(`{"options":{"disable_distributed":true},"options":{}}`), `the key "options" twice`},
		"key twice below": {config(`{"packs":{"a":[{"b":1,"b":2}]}}`), `the key "b" twice`},
		"deep":            {config(strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)), "deeper than 32"},
		"large":           {config(`{"a":"` + strings.Repeat("a", 1<<20) + `"}`), "drops its schedule"},
		"other hash":      {func(o *hostfiles.Options) { o.ConfigHash = hashOf(nil) }, "config_hash"},
		"pack is a path":  {config(`{"packs":{"a":"/etc/shadow"}}`), "packs.a: is no object"},
		"options null":    {config(`{"options":null}`), "options: is no object"},
		"unsafe":          {config(`{"options":{"allow_unsafe":true}}`), "options.allow_unsafe"},
		"alias":           {config(`{"options":{"config_tls_refresh":9}}`), "options.config_tls_refresh"},
		"other server":    {config(`{"options":{"logger_tls_endpoint":"@evil.example/"}}`), "options.logger_tls_endpoint"},
		"in a pack":       {config(`{"packs":{"a":{"options":{"distributed_tls_read_endpoint":".evil.example/"}}}}`), "packs.a.options.distributed"},
		"live by number": {func(o *hostfiles.Options) {
			config(`{"packs":{"a":{"options":{"disable_distributed":0}}}}`)(o)
			o.Live = false
		}, "packs.a.options.disable_distributed"},
	} {
		o := options(t, quiet)
		c.change(&o)
		files, err := hostfiles.Files(o)
		if err == nil || !strings.Contains(err.Error(), c.want) || files != nil || errs.KindOf(err) == errs.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func limits(change func(*hostfiles.Limits)) hostfiles.Limits {
	l := hostfiles.DefaultLimits()
	change(&l)
	return l
}

func manyTables() []string {
	var names []string
	for i := range 1001 {
		names = append(names, fmt.Sprintf("t%d", i))
	}
	return names
}

// TestFormats_refused checks that what restarts a systemd service is for Linux.
func TestFormats_refused(t *testing.T) {
	t.Parallel()
	o := options(t, quiet)
	o.Platform = hostfiles.Darwin
	_, errPuppet := hostfiles.Puppet(o)
	_, errAnsible := hostfiles.Ansible(o)
	_, errDeb := hostfiles.Deb(o, "settings", "1")
	for _, err := range []error{errPuppet, errAnsible, errDeb} {
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("made for macOS: %v", err)
		}
	}
	for _, c := range [][2]string{{"Settings", "1"}, {"a b", "1"}, {"a\nBreaks: x", "1"}, {"", "1"}, {"ab", ""}, {"ab", "v1"}, {"ab", "1\nX: y"}, {"ab", "1-1"}, {"../ab", "1"}} {
		if _, err := hostfiles.Deb(options(t, quiet), c[0], c[1]); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q %q: %v", c[0], c[1], err)
		}
	}
}

// TestFiles_hostile checks that texts of people stay texts: a selector reaches
// the README alone, on one line.
func TestFiles_hostile(t *testing.T) {
	t.Parallel()
	const text = "tag = \"x\"\n--disable_watchdog=true\n'; }} <% \u202e"
	o := options(t, `{"packs":{"a\n--x":{"queries":{"q":{"query":"SELECT 1 FROM curl"}}}}}`)
	o.Selector = text
	for _, build := range []func(hostfiles.Options) ([]hostfiles.File, error){hostfiles.Files, hostfiles.Puppet, hostfiles.Ansible} {
		for _, f := range must(t, func() ([]hostfiles.File, error) { return build(o) }) {
			if strings.HasSuffix(f.Path, "osquery.conf") {
				continue
			}
			if bytes.Contains(f.Bytes, []byte("\n--x")) || bytes.Contains(f.Bytes, []byte("disable_watchdog=true")) && f.Path != "README.txt" {
				t.Errorf("%s holds it:\n%s", f.Path, f.Bytes)
			}
			if bytes.Contains(f.Bytes, []byte("\n--disable_watchdog=true")) || bytes.ContainsRune(f.Bytes, '\u202e') {
				t.Errorf("%s obeys it:\n%s", f.Path, f.Bytes)
			}
		}
	}
}

func TestFiles_plist(t *testing.T) {
	t.Parallel()
	text := content(t, must(t, variants(t)["darwin"]), "Library/LaunchDaemons/io.osquery.agent.plist")
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestUpdateCA makes testdata/ca.pem; with -update alone, as it is random.
func TestUpdateCA(t *testing.T) {
	name := filepath.Join("testdata", "ca.pem")
	if _, err := os.Stat(name); err == nil || !*update {
		return
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Muster test"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzFiles checks that no host, path, table, selector or config gives a
// flagfile with lines of its own.
func FuzzFiles(f *testing.F) {
	f.Add("muster.example.com:8443", "/etc/osquery/enroll.secret", "curl", "all", quiet)
	f.Add("[::1]:1", "/a", "a\n--b", "\n", lively)
	f.Add("a:1", "/a", "", "", `{"a":1,"a":2}`)
	ca, err := os.ReadFile(filepath.Join("testdata", "ca.pem"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, secret, table, selector, config string) {
		o := hostfiles.Options{
			Config: []byte(config), ConfigHash: hashOf([]byte(config)), Selector: selector, ServerHost: host, CA: ca,
			SecretPath: secret, DisableTables: []string{table}, Live: true,
		}
		files, err := hostfiles.Files(o)
		if err != nil {
			if errs.KindOf(err) == errs.Internal {
				t.Error(err)
			}
			return
		}
		const lines = 42 // of the flagfile of a config on disk
		if got := content(t, files, "etc/osquery/osquery.flags"); strings.Count(got, "\n") != lines {
			t.Errorf("%d lines:\n%s", strings.Count(got, "\n"), got)
		}
	})
}
