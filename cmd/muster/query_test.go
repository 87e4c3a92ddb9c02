package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// silentNode enrols a node that never polls, and returns its hostname.
func silentNode(t *testing.T, a *app.App) string {
	t.Helper()
	pem, err := os.ReadFile(a.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	f, err := agenttest.NewFleet(agenttest.FleetOptions{
		URL: fmt.Sprintf("https://localhost:%d", a.AgentAddr().Port()), RootCAs: pool, Nodes: 1,
		Secret: strings.TrimSpace(cli(t, "secret", "create", "silent", "-o", "raw")),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Enroll(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	return cliJSON[[]adminapi.Node](t, "node", "list")[0].Hostname
}

// TestQuery asks a node that does not answer, in all ways to wait.
func TestQuery(t *testing.T) {
	host := silentNode(t, serveMuster(t))
	out, errOut, code := muster(t, "query", "SELECT 1", "--all", "--wait", "1s", "-o", "json")
	var r queryResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitPartly || r.Counts["stopped"] != 1 || r.Rows == nil || r.Errors == nil {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	names := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(names, []byte("# pasted\n\""+host+"\", "+host+";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(cli(t, "query", "SELECT 2", "--nodes-file", names, "--background"))
	if q := cliJSON[adminapi.Live](t, "live", "show", id); q.State != liveRunning || q.Nodes != 1 || q.ExpiresAt.Sub(q.CreatedAt).Round(time.Second) != defaultExpiry {
		t.Errorf("%+v", q)
	}
	if out := cli(t, "live", "show", id, "--nodes", "--state", "waiting"); !strings.Contains(out, host) {
		t.Error(out)
	}
	if out := cli(t, "live", "show", id); !strings.Contains(out, "SELECT 2") || !strings.Contains(out, "1 waiting") {
		t.Error(out)
	}
	out, errOut, code = muster(t, "query", "SELECT 3", "--all", "--wait", "1s", "--expires", "1d", "-o", "ndjson")
	if code != exitPartly || out != "" || !strings.Contains(errOut, "goes on") {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	list := cliJSON[[]adminapi.Live](t, "live", "list")
	if len(list) != 3 || list[0].State != liveRunning || list[0].ExpiresAt.Sub(list[0].CreatedAt).Round(time.Second) != 24*time.Hour || list[2].State != "stopped" {
		t.Errorf("%+v", list)
	}
	cli(t, "live", "stop", id)
	out, errOut, code = muster(t, "query", "SELECT 4", "--all", "--sample", "0.5", "--wait", "1s", "-o", "json") // of one node, that one
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitPartly || r.Counts["stopped"] != 1 {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	if p := cliJSON[adminapi.LivePreview](t, "query", "SELECT 4", "--all", "--sample", "0.5", "--dry-run"); p.Asked != 1 || p.Decision != "run" {
		t.Errorf("%+v", p)
	}
	cli(t, "saved", "save", "four", "--sql", "SELECT 4", "--all")
	if p := cliJSON[adminapi.LivePreview](t, "query", "--saved", "four", "--dry-run"); p.Asked != 1 {
		t.Errorf("%+v", p)
	}
}

// TestQuery_refused shows where in the text the policy found its reason.
func TestQuery_refused(t *testing.T) {
	serveMuster(t)
	_, errOut, code := muster(t, "query", "SELECT 1,\n  nope\nFROM users", "--all")
	if code != exitUsage || !strings.Contains(errOut, "      nope\n      ^ ") || strings.Contains(errOut, `\u000a`) {
		t.Errorf("exit code %d: %s", code, errOut)
	}
}

func TestQueryUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"query", "--all"}, "--saved"},
		{[]string{"query", "SELECT 1", "--saved", "x", "--all"}, "--saved"},
		{[]string{"query", "SELECT 1", "--all", "--not-before", "soon"}, "--not-before"},
		{[]string{"query", "SELECT 1", "--all", "--expires", "soon"}, "no duration"},
		{[]string{"query", "SELECT 1", "--all", "--sample", "101"}, "percentage"},
		{[]string{"query", "SELECT 1", "--nodes-file", "/nonexistent"}, "--nodes-file"},
		{[]string{"query", "SELECT 1", "--nodes-file", os.DevNull}, "names no node"},
		{[]string{"live", "stop"}, "--all"},
		{[]string{"live", "stop", "x", "--all"}, "--all"},
		{[]string{"live", "compare", "x"}, "two live queries"},
		{[]string{"saved", "save", "x"}, "--sql"},
		{[]string{"shell"}, "needs a node's id"},
	} {
		if _, errOut, code := muster(t, c.args...); code != exitUsage || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: exit code %d: %s", c.args, code, errOut)
		}
	}
}

func TestQueryInput(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		flags   queryFlags
		expires int
		wait    time.Duration
	}{
		"as scripts do":  {queryFlags{wait: 30 * time.Second, waitGiven: true}, 30, 30 * time.Second},
		"too short":      {queryFlags{wait: time.Second, waitGiven: true}, 5, time.Second},
		"background":     {queryFlags{wait: time.Minute, background: true}, 600, time.Minute},
		"own time":       {queryFlags{wait: time.Minute, expires: time.Hour, expiresGiven: true}, 3600, time.Hour + endGrace},
		"own time, wait": {queryFlags{wait: time.Minute, waitGiven: true, expires: time.Hour, expiresGiven: true}, 3600, time.Minute},
		"later":          {queryFlags{wait: time.Minute, notBefore: "1h"}, 60, time.Hour + time.Minute + endGrace},
		"at":             {queryFlags{wait: time.Minute, notBefore: "2026-11-30T12:01:00Z"}, 60, 2*time.Minute + endGrace},
		"past":           {queryFlags{wait: time.Minute, notBefore: "2026-11-30T11:00:00Z"}, 60, time.Minute},
	} {
		in, err := c.flags.input(now)
		if err != nil || in.ExpiresSeconds != c.expires || c.flags.wait != c.wait {
			t.Errorf("%s: %d s, waits %s: %v", name, in.ExpiresSeconds, c.flags.wait, err)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for text, want := range map[string][]string{
		"a\nb\r\nc":                 {"a", "b", "c"},
		"a, b,c ;d\te":              {"a", "b", "c", "d", "e"},
		"\ufeff\"a\"\n'b'\n a":      {"a", "b"},
		"# a\n  # b\nweb-1.example": {"web-1.example"},
		" \n,,;":                    nil,
	} {
		if got := nodeNames(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func row(pairs ...string) osquery.Row {
	var r osquery.Row
	for i := 0; i < len(pairs); i += 2 {
		r = append(r, osquery.Column{Name: pairs[i], Value: pairs[i+1]})
	}
	return r
}

// TestTableStream: rows come out as they come in, in columns; only a terminal
// cuts them.
func TestTableStream(t *testing.T) {
	var buf bytes.Buffer
	s := tableStream{w: &buf, lead: []string{"node"}}
	add := func(host string, r osquery.Row) {
		t.Helper()
		if err := s.row([]string{host}, r); err != nil {
			t.Fatal(err)
		}
	}
	flush := func() {
		t.Helper()
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
	}
	add("a", row("x", "1", "y", "\x1b[2J"))
	add("bb", row("x", "22"))
	if buf.Len() > 0 {
		t.Error("printed before the widths are known")
	}
	flush()
	add("ccc", row("x", "333333", "y", "z"))
	add("d", row("z", "other"))
	flush()
	want := "node  x   y\na     1   \\u001b[2J\nbb    22\nccc   333333  z\n\nnode  z\nd     other\n"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Error(diff)
	}
	buf.Reset()
	s = tableStream{w: &buf, width: 30, lead: []string{"node"}}
	add("a", row("long", strings.Repeat("é", 100), "n", "7"))
	flush()
	add("b", row("long", strings.Repeat("é", 100), "n", "7"))
	for line := range strings.Lines(buf.String()) {
		if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 30 {
			t.Errorf("%d wide: %q", n, line)
		}
	}
	if !strings.Contains(buf.String(), "é…  7\n") {
		t.Errorf("%q", buf.String())
	}
}

func FuzzFit(f *testing.F) {
	f.Add([]byte{1, 200, 3, 90, 90}, uint8(80))
	f.Fuzz(func(t *testing.T, in []byte, limit uint8) {
		if len(in) == 0 {
			return
		}
		widths := make([]int, len(in))
		for i, b := range in {
			widths[i] = int(b)
		}
		before := slices.Clone(widths)
		fit(widths, int(limit))
		for i, w := range widths {
			if w > before[i] || w < min(before[i], minCut) {
				t.Fatalf("%v became %v", before, widths)
			}
		}
		if lineWidth(widths) > int(limit) && slices.Max(widths) > minCut {
			t.Fatalf("%v does not fit %d", widths, limit)
		}
	})
}

func TestProgress(t *testing.T) {
	p := &progress{nowAfter: func() time.Duration { return 2 * time.Second }, query: adminapi.Live{
		Nodes: 10, Counts: map[string]int{"answered": 3, "empty": 1, "failed": 2, "waiting": 3, "sent": 1},
	}}
	if got, want := p.text(), "answered 4 of 10 · failed 2 · waiting 4 · 2s"; got != want {
		t.Errorf("%q", got)
	}
	for range 4 {
		p.answered()
	}
	p.query.Held = "many fail"
	if got, want := p.text(), "answered 4 of 10 · failed 2 · waiting 4 · HELD · 2/s · first after 2s · p50 2s p95 2s"; got != want {
		t.Errorf("%q", got)
	}
	p.query.Latency = &adminapi.LiveLatency{FirstMs: 120, P50Ms: 950, P95Ms: 3210}
	if got := p.text(); !strings.HasSuffix(got, "first after 120ms · p50 950ms p95 3.2s") {
		t.Errorf("%q", got)
	}
}

func TestPointAt(t *testing.T) {
	f := policy.Finding{Message: "no column é", Code: "unknown-column", Line: 2, Column: 3}
	want := []string{"         é FROM x", "         ^ no column é [unknown-column]"}
	if diff := cmp.Diff(want, pointAt("SELECT\n\t é FROM x", f)); diff != "" {
		t.Error(diff)
	}
	for _, f := range []policy.Finding{{Line: 9}, {Line: 1, Column: 900}, {Line: -1, Column: -1}} {
		if got := pointAt("SELECT 1", f); len(got) == 0 {
			t.Errorf("%+v", f)
		}
	}
}

func TestShellQuoted(t *testing.T) {
	for in, want := range map[string]string{"plain-1.x": "plain-1.x", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := shellQuoted(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

// TestHistory keeps statements as lines that can be typed again.
func TestHistory(t *testing.T) {
	t.Setenv("MUSTER_HOME", filepath.Join(t.TempDir(), "home"))
	h, err := openHistory()
	if err != nil || h.Len() != 0 {
		t.Fatal(h, err)
	}
	for range maxHistory {
		h.keep("old")
		h.keep("older")
	}
	for _, s := range []string{"select 1 -- one\n, '--x' -- two\nfrom users;", "select 1;", "select 1;", strings.Repeat("x", maxHistoryLine+1)} {
		if err := h.remember(s); err != nil {
			t.Fatal(err)
		}
	}
	h, err = openHistory()
	if err != nil || h.Len() != maxHistory {
		t.Fatal(h.Len(), err)
	}
	if h.At(0) != "select 1;" || h.At(1) != "select 1 /* one */ , '--x' /* two */ from users;" || h.At(2) != "older" {
		t.Errorf("%q %q %q", h.At(0), h.At(1), h.At(2))
	}
}

// TestShell_batch runs statements without a terminal.
func TestShell_batch(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir())
	shell := func(in string) (string, error) {
		t.Helper()
		var out, errOut bytes.Buffer
		schema, err := osquery.LoadSchema()
		if err != nil {
			t.Fatal(err)
		}
		s := shell{out: &out, errOut: &errOut, schema: schema, words: newCompleter(schema, "linux"), mode: "table"}
		err = s.batch(strings.NewReader(in))
		return out.String(), err
	}
	out, err := shell(".tables os_v*\n.schema time\n.mode csv\n.mode\n.quit\nselect 1;")
	if err != nil || !strings.Contains(out, "os_version\ntime (") || !strings.Contains(out, "COLUMN") {
		t.Errorf("%q %v", out, err)
	}
	for _, in := range []string{".nonsense", ".schema nope", ".mode xml", ".timer perhaps", ".tables [", ".tables nope"} {
		if _, err := shell(in); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", in, err)
		}
	}
}
