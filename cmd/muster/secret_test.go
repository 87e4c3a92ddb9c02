package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/adminapi"
)

func TestSecret(t *testing.T) {
	serveMuster(t)
	file := filepath.Join(t.TempDir(), "old.secret")
	if err := os.WriteFile(file, []byte("of-the-old-manager\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := cli(t, "secret", "create", "legacy", "--value-file", file, "--cidr", "10.0.0.0/8", "--cidr", "192.0.2.7",
		"--agent-tag", "site-*", "--tag", "old", "--expires", "90d", "-o", "raw")
	if out != "of-the-old-manager\n" {
		t.Errorf("%q", out)
	}
	list := cli(t, "secret", "list")
	made := cliJSON[[]adminapi.Secret](t, "secret", "list")[0]
	if left := time.Until(*made.ExpiresAt); left < 89*24*time.Hour || left > 90*24*time.Hour {
		t.Errorf("it expires in %s", left)
	}
	for _, want := range []string{"10.0.0.0/8,192.0.2.7/32", "site-*", moment(made.ExpiresAt)} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	first := cli(t, "secret", "rotate", "legacy", "--overlap", "24h", "-o", "raw")
	if len(strings.TrimSpace(first)) < 40 {
		t.Errorf("%q", first)
	}
	secrets := cliJSON[[]adminapi.Secret](t, "secret", "list")
	if until := secrets[0].OldUntil; until == nil || time.Until(*until) < 23*time.Hour || !strings.Contains(cli(t, "secret", "list"), moment(until)) {
		t.Errorf("%+v", secrets)
	}
	if second := cli(t, "secret", "rotate", "legacy", "--overlap", "0s"); !strings.Contains(second, "shown once") || strings.Contains(second, strings.TrimSpace(first)) {
		t.Error(second)
	}
	for want, args := range map[string][]string{
		"cidrs":      {"create", "x", "--cidr", "office"},
		"agent_tags": {"create", "x", "--agent-tag", "No"},
		"--overlap":  {"rotate", "legacy", "--overlap", "soon"},
		"overlap_":   {"rotate", "legacy", "--overlap", "-1h"},
		"is empty":   {"create", "x", "--value-file", os.DevNull},
		"no such":    {"create", "x", "--value-file", file + "x"},
	} {
		if _, errOut, code := muster(t, append([]string{"secret"}, args...)...); code != exitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit code %d: %s", args, code, errOut)
		}
	}
	if strings.Contains(list, "of-the-old-manager") {
		t.Error("the list shows a value")
	}
}
