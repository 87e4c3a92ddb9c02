package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/pki"
)

// certificate reads what was issued and checks it as the server would.
func certificate(t *testing.T, a *pki.Authority, certFile, keyFile string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := pki.LoadClientCAs(a.CertPath(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clients.Verify([]*x509.Certificate{pair.Leaf}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{certFile, keyFile} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
	return pair.Leaf
}

func TestCA(t *testing.T) {
	t.Setenv("MUSTER_DATA_DIR", "")
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "new", "out")
	a, err := pki.OpenAuthority(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := muster(t, "ca", "issue-agent", "web-1.example.com", "--data-dir", dir, "--out", out, "--days", "90")
	certFile, keyFile := filepath.Join(out, "web-1.example.com.pem"), filepath.Join(out, "web-1.example.com-key.pem")
	if want := fmt.Sprintf("--tls_client_cert=%s\n--tls_client_key=%s\n", certFile, keyFile); code != exitDone || stdout != want {
		t.Fatalf("exit code %d: %q, want %q; %s", code, stdout, want, stderr)
	}
	leaf := certificate(t, a, certFile, keyFile)
	if days := time.Until(leaf.NotAfter).Hours() / 24; days < 89 || days > 90 || !pki.Describe(leaf).For("web-1.example.com") {
		t.Errorf("good for %f days: %+v", days, pki.Describe(leaf))
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := muster(t, "ca", "issue-agent", "web-1.example.com", "--data-dir", dir, "--out", out); code != exitFailed || !strings.Contains(stderr, "is there already") {
		t.Errorf("issued again: exit code %d, %s", code, stderr)
	}
	if again, err := os.ReadFile(keyFile); err != nil || string(again) != string(key) {
		t.Errorf("the key is another one: %v", err)
	}

	// The data directory may come from the environment, as the server's does.
	t.Setenv("MUSTER_DATA_DIR", dir)
	stdout, stderr, code = muster(t, "ca", "issue-agent", "../Anna's\u202e laptop", "--out", out, "-o", "json")
	var c clientCertificate
	if err := json.Unmarshal([]byte(stdout), &c); code != exitDone || err != nil || stderr != "" {
		t.Fatalf("exit code %d: %s%s, %v", code, stdout, stderr, err)
	}
	leaf = certificate(t, a, c.CertFile, c.KeyFile)
	if filepath.Dir(c.CertFile) != out || c.Name != "../Anna's\u202e laptop" || !pki.Describe(leaf).For(c.Name) ||
		c.Fingerprint != pki.Describe(leaf).Fingerprint || !c.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("%+v", c)
	}

	stdout, _, code = muster(t, "ca", "show", "-o", "json")
	var d caDocument
	if err := json.Unmarshal([]byte(stdout), &d); code != exitDone || err != nil {
		t.Fatalf("exit code %d: %s, %v", code, stdout, err)
	}
	if d.File != a.CertPath() || d.Subject != "CN=Muster CA,O=Muster" || len(d.Fingerprint) != 64 || !d.NotAfter.Equal(a.Certificate().NotAfter) {
		t.Errorf("%+v", d)
	}
	if stdout, _, code := muster(t, "ca", "show"); code != exitDone || !strings.Contains(stdout, d.Fingerprint) || !strings.Contains(stdout, d.NotAfter.Format(time.DateOnly)) {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// TestCA_none checks that a directory without a CA stays without one, and what
// is said of wrong arguments.
func TestCA_none(t *testing.T) {
	t.Setenv("MUSTER_DATA_DIR", "")
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	ours := t.TempDir()
	if _, err := pki.OpenAuthority(ours, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string // in standard error
	}{
		{[]string{"issue-agent", "web-1", "--out", out}, exitUsage, "--data-dir is missing"},
		{[]string{"issue-agent", "web-1", "--data-dir", dir, "--out", out}, exitNotFound, "ca.pem"},
		{[]string{"show", "--data-dir", dir}, exitNotFound, "muster serve"},
		{[]string{"issue-agent", "web-1", "--data-dir", ours}, exitUsage, "--out is missing"},
		{[]string{"issue-agent", "--data-dir", ours, "--out", out}, exitUsage, "host identifier"},
		{[]string{"issue-agent", "", "--data-dir", ours, "--out", out}, exitUsage, "must not be empty"},
		{[]string{"issue-agent", "web-1", "--data-dir", ours, "--out", out, "--days", "0"}, exitUsage, "--days"},
		{[]string{"issue-agent", "web-1", "--data-dir", ours, "--out", out, "--days", "999999999"}, exitUsage, "--days"},
		{[]string{"issue-agent", strings.Repeat("a b", 22), "--data-dir", ours, "--out", out}, exitUsage, "64"},
	} {
		stdout, stderr, code := muster(t, append([]string{"ca"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || stdout != "" {
			t.Errorf("muster ca %q: exit code %d, want %d: %q %q", c.args, code, c.code, stdout, stderr)
		}
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("the directory without a CA has %v, %v", made, err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was issued")
	}
}

func TestSafeFile(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web-1.example.com":                    "web-1.example.com",
		"4C4C4544-0042-3510-8051-B4C04F564432": "4C4C4544-0042-3510-8051-B4C04F564432",
		"..":                                   "5ec1f7e7",
		"-rf":                                  "rf-",
		"../../etc/passwd":                     "_.._etc_passwd-",
		".hidden":                              "hidden-",
		"a b":                                  "a_b-",
		"日本":                                   "__-",
		strings.Repeat("x", 250):               strings.Repeat("x", 200) + "-",
	} {
		got := safeFile(name)
		if !strings.HasPrefix(got, want) || len(got) > len(want)+8 || name == want && got != name {
			t.Errorf("safeFile(%q) = %q, want %q", name, got, want)
		}
	}
	if safeFile("a/b") == safeFile("a b") {
		t.Error("two names have one file")
	}
}
