package hostfiles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/hostfiles"
)

// tool runs a program that others wrote, and skips the test where it is not.
func tool(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func debFile(t *testing.T) string {
	t.Helper()
	b, err := hostfiles.Deb(quietOptions(t), "muster-osquery-config", "0.17")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "settings.deb")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestDeb_contents reads the package with dpkg-deb: owners, modes, times and
// content are those that Files gives.
func TestDeb_contents(t *testing.T) {
	t.Parallel()
	name := debFile(t)
	got := tool(t, []string{"TZ=UTC"}, "dpkg-deb", "-c", name)
	got = regexp.MustCompile(` +\d+ 2000-01-01 00:00 `).ReplaceAllString(got, " ")
	want := `drwxr-xr-x root/root ./etc/
drwxr-xr-x root/root ./etc/osquery/
-rw-r--r-- root/root ./etc/osquery/muster-ca.pem
-rw------- root/root ./etc/osquery/osquery.conf
-rw------- root/root ./etc/osquery/osquery.flags
drwxr-xr-x root/root ./etc/systemd/
drwxr-xr-x root/root ./etc/systemd/system/
drwxr-xr-x root/root ./etc/systemd/system/osqueryd.service.d/
-rw-r--r-- root/root ./etc/systemd/system/osqueryd.service.d/50-muster.conf
drwxr-xr-x root/root ./usr/
drwxr-xr-x root/root ./usr/share/
drwxr-xr-x root/root ./usr/share/doc/
drwxr-xr-x root/root ./usr/share/doc/muster-osquery-config/
-rw-r--r-- root/root ./usr/share/doc/muster-osquery-config/README.txt
-rw-r--r-- root/root ./usr/share/doc/muster-osquery-config/SHA256SUMS
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	dir := t.TempDir()
	tool(t, nil, "dpkg-deb", "-x", name, dir)
	for _, f := range must(t, variants(t)["no-live"]) {
		if !strings.HasPrefix(f.Path, "etc/") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil || !bytes.Equal(b, f.Bytes) {
			t.Errorf("%s: other content, or %v", f.Path, err)
		}
	}
	sums := filepath.Join(dir, "usr/share/doc/muster-osquery-config/SHA256SUMS")
	if out := tool(t, nil, "sh", "-c", `cd "$1" && sha256sum -c --ignore-missing "$2"`, "sh", dir, sums); strings.Count(out, ": OK") != 4 {
		t.Error(out)
	}
}

// TestDeb_control compares what dpkg reads with testdata.
func TestDeb_control(t *testing.T) {
	t.Parallel()
	name := debFile(t)
	dir := t.TempDir()
	tool(t, nil, "dpkg-deb", "-e", name, dir)
	golden := filepath.Join("testdata", "golden", "deb-control")
	for _, f := range []string{"control", "conffiles", "postinst", "postrm"} {
		got, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(golden, 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(golden, f), got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(filepath.Join(golden, f))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: %s", f, diff)
		}
		if strings.HasPrefix(f, "post") {
			tool(t, nil, "sh", "-n", filepath.Join(dir, f))
			if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v %v", f, info, err)
			}
		}
	}
	if out := tool(t, nil, "dpkg-deb", "-f", name, "Package", "Version", "Breaks"); out != "Package: muster-osquery-config\nVersion: 0.17\nBreaks: osquery (<< 5.4)\n" {
		t.Error(out)
	}
}

// TestDeb_installs gives the package to dpkg in a root of its own.
func TestDeb_installs(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/run/systemd/system"); err == nil || os.Geteuid() != 0 {
		t.Skip("dpkg installs for root only, and its script would restart services of this machine")
	}
	name, root := debFile(t), t.TempDir()
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, nil, "dpkg", "--root="+root, "--log=/dev/null", "--force-script-chrootless", "-i", name)
	out := tool(t, nil, "dpkg-query", "--admindir="+filepath.Join(root, "var/lib/dpkg"), "-W", "-f", "${db:Status-Status}${Conffiles}", "muster-osquery-config")
	if !strings.HasPrefix(out, "installed") || strings.Count(out, " /etc/") != 4 {
		t.Error(out)
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/osquery/osquery.conf")); err != nil || string(b) != quiet {
		t.Errorf("%q %v", b, err)
	}
}

// TestDeb_postinst runs the script where no systemd is booted, as in the making
// of an image: it must not fail.
func TestDeb_postinst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tool(t, nil, "dpkg-deb", "-e", debFile(t), dir)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("it would restart services of this machine")
	}
	if out := tool(t, nil, "sh", filepath.Join(dir, "postinst"), "configure"); !strings.Contains(out, "enroll.secret") {
		t.Error(out)
	}
	tool(t, nil, "sh", filepath.Join(dir, "postrm"), "purge")
}

// TestService gives the settings to systemd, beside a unit as osquery's
// packages have it.
func TestService(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"files", "no-live", "server"} {
		dir := t.TempDir()
		text := content(t, must(t, variants(t)[name]), "etc/systemd/system/osqueryd.service.d/50-muster.conf")
		write := func(file, text string) {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("osqueryd.service", "[Service]\nExecStart=/bin/true\nCPUQuota=20%\nRestart=on-failure\n")
		write("osqueryd.service.d/50-muster.conf", text)
		// A colon at the end adds the machine's own units, for basic.target.
		out := tool(t, []string{"SYSTEMD_UNIT_PATH=" + dir + ":"}, "systemd-analyze", "verify", "--man=no", filepath.Join(dir, "osqueryd.service"))
		for line := range strings.Lines(out) {
			if strings.Contains(line, "50-muster.conf") || strings.Contains(line, "osqueryd.service") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// TestAnsible_yaml reads the role's files, and gives it to Ansible where that
// is.
func TestAnsible_yaml(t *testing.T) {
	t.Parallel()
	files := must(t, variants(t)["ansible"])
	handlers := content(t, files, "handlers/main.yml")
	for _, f := range files {
		if !strings.HasSuffix(f.Path, ".yml") {
			continue
		}
		var v any
		if err := yaml.Unmarshal(f.Bytes, &v); err != nil || v == nil {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
	var tasks []map[string]any
	if err := yaml.Unmarshal([]byte(content(t, files, "tasks/main.yml")), &tasks); err != nil || len(tasks) != 7 {
		t.Fatalf("%d tasks: %v", len(tasks), err)
	}
	for _, task := range tasks {
		if copied, ok := task["ansible.builtin.copy"].(map[string]any); ok {
			if fmt.Sprint(copied["owner"]) != "root" || !regexp.MustCompile(`^0[67]`).MatchString(fmt.Sprint(copied["mode"])) || !strings.Contains(handlers, "name: "+fmt.Sprint(task["notify"])+"\n") {
				t.Errorf("%v", task)
			}
			if src, ok := copied["src"].(string); ok {
				content(t, files, "files/"+src)
			}
		}
	}
	if _, err := exec.LookPath("ansible-playbook"); err == nil {
		dir := t.TempDir()
		writeTree(t, filepath.Join(dir, "roles", hostfiles.ModuleName), files)
		play := filepath.Join(dir, "play.yml")
		if err := os.WriteFile(play, []byte("- hosts: all\n  roles: [muster_osquery]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, []string{"ANSIBLE_ROLES_PATH=" + filepath.Join(dir, "roles")}, "ansible-playbook", "--syntax-check", "-i", "localhost,", play)
	}
}

// TestPuppet_sources checks that each file that the class names is in the
// module, and gives it to Puppet where that is.
func TestPuppet_sources(t *testing.T) {
	t.Parallel()
	files := must(t, variants(t)["puppet"])
	class := content(t, files, "manifests/init.pp")
	sources := regexp.MustCompile(`puppet:///modules/muster_osquery/([^']+)'`).FindAllStringSubmatch(class, -1)
	if len(sources) != 4 {
		t.Errorf("%d sources", len(sources))
	}
	for _, s := range sources {
		content(t, files, "files/"+s[1])
	}
	for _, pair := range []string{"{}", "[]", "()"} {
		if strings.Count(class, pair[:1]) != strings.Count(class, pair[1:]) {
			t.Errorf("%s do not match:\n%s", pair, class)
		}
	}
	if _, err := exec.LookPath("puppet"); err == nil {
		dir := t.TempDir()
		writeTree(t, dir, files)
		tool(t, nil, "puppet", "parser", "validate", filepath.Join(dir, "manifests/init.pp"))
	}
}

// TestArchive reads an archive: sorted, of root, without a time of its own.
func TestArchive(t *testing.T) {
	t.Parallel()
	files := must(t, variants(t)["no-live"])
	b, err := hostfiles.Archive(files)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil || !z.ModTime.IsZero() || z.Name != "" {
		t.Fatal(z, err)
	}
	r := tar.NewReader(z)
	var names []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || h.ModTime.Unix() != 946684800 {
			t.Errorf("%s: %+v", h.Name, h)
		}
		names = append(names, h.Name)
	}
	want := []string{
		"README.txt", "SHA256SUMS", "etc/", "etc/osquery/", "etc/osquery/muster-ca.pem", "etc/osquery/osquery.conf", "etc/osquery/osquery.flags",
		"etc/systemd/", "etc/systemd/system/", "etc/systemd/system/osqueryd.service.d/", "etc/systemd/system/osqueryd.service.d/50-muster.conf",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}
