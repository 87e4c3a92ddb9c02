package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mainEnv makes the test binary muster itself, for tests on a terminal.
const mainEnv = "MUSTER_TEST_MAIN"

// TestMain makes the test binary the bare server of "muster loadtest
// --baseline", which is the program that runs once more.
func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
	}
	if len(os.Args) > 1 && os.Args[1] == "loadtest" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// loadtest runs the command against a server that says yes to everything.
func loadtest(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer := `{}`
		if strings.HasSuffix(r.URL.Path, "/enroll") {
			answer = `{"node_key":"k"}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, secret := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, content := range map[string][]byte{ca: block, secret: []byte("s\n")} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := newLoadtestCommand()
	cmd.SilenceUsage = true
	var out, errOut bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetArgs(append([]string{"--url", server.URL, "--ca", ca, "--secret-file", secret}, args...))
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func TestLoadtestJSON(t *testing.T) {
	out, progress, err := loadtest(t, "--nodes", "10", "--duration", "200ms", "--warmup", "10ms", "--log-interval", "20ms",
		"--read-interval", "20ms", "--config-interval", "20ms", "--rows", "3", "--server-pid", strconv.Itoa(os.Getpid()), "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Operations map[string]map[string]any `json:"operations"`
		CPU        *float64                  `json:"server_cpu_ms_per_1000"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, op := range []string{"enroll", "config", "log", "read"} {
		for _, key := range []string{"count", "errors", "rate", "p50_ms", "p95_ms", "p99_ms"} {
			if _, ok := report.Operations[op][key].(float64); !ok {
				t.Errorf("%s has no %s", op, key)
			}
		}
		if report.Operations[op]["count"] == 0.0 || report.Operations[op]["errors"] != 0.0 {
			t.Errorf("%s: %v", op, report.Operations[op])
		}
	}
	if report.CPU == nil {
		t.Error("no server_cpu_ms_per_1000")
	}
	if !strings.Contains(progress, "enrolling") {
		t.Errorf("progress is %q", progress)
	}
}

func TestLoadtestTable(t *testing.T) {
	for _, conn := range []string{"keepalive", "resume", "full"} {
		out, _, err := loadtest(t, "--nodes", "4", "--duration", "100ms", "--only", "read", "--concurrency", "2", "--conn", conn)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"OPERATION", "PER SECOND", "read", "only read, 4 nodes, 4 enrolled, " + conn, "generator:"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", conn, want, out)
			}
		}
	}
}

func TestLoadtestBaseline(t *testing.T) {
	for key, name := range map[string]string{"ecdsa": "ecdsa-p256", "rsa": "rsa-2048"} {
		out, _, err := loadtest(t, "--nodes", "4", "--duration", "400ms", "--only", "config", "--concurrency", "2", "--conn", "full",
			"--baseline", "--baseline-key", key, "--key-exchange", "p256", "--server-pid", strconv.Itoa(os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"baseline", "times the CPU time of a bare server (" + name + ")", "handshake: TLS 1.3, CurveP256, "} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", key, want, out)
			}
		}
	}
}

func TestLoadtestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"add --only":     {"--baseline", "--server-pid", "1"},
		"--only config,": {"--baseline", "--server-pid", "1", "--only", "enroll"},
		"--server-pid":   {"--baseline", "--only", "read"},
		"--baseline-key": {"--baseline", "--server-pid", "1", "--only", "read", "--baseline-key", "dsa"},
		"--key-exchange": {"--key-exchange", "rot13"},
		"--nodes":        {"--nodes", "0"},
		"--duration":     {"--duration", "0s"},
		"--conn":         {"--conn", "often"},
		"--only":         {"--only", "write"},
		"--concurrency":  {"--only", "read", "--nodes", "5", "--concurrency", "6"},
		"-o xml":         {"-o", "xml"},
		"--log-interval": {"--log-interval", "0", "--read-interval", "0", "--config-interval", "0"},
		"--platform":     {"--platform", "beos"},
		"read the CA":    {"--ca", "missing"},
		"--ca":           {"--ca", "loadtest_test.go"},
		"needs --url":    {"--url", ""},
		"--misbehave":    {"--misbehave", "sing=1%"},
		"--live and":     {"--live", "1", "--carves", "1"},
		"leave --only":   {"--live", "1", "--only", "read"},
		"--read-interv":  {"--carves", "1", "--read-interval", "0"},
		"--carve-size":   {"--carves", "1", "--carve-size", "10"},
		"negative":       {"--live", "-1"},
	} {
		if _, _, err := loadtest(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one about %s", args, err, want)
		}
	}
}
