package sink_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/sink"
)

var update = flag.Bool("update", false, "write testdata")

func formats() []string {
	return []string{resource.SinkMuster, resource.SinkOsquery, resource.SinkECS}
}

// samples are one event of each sort, and some that mean ill.
func samples() []event.Record {
	at := time.Date(2026, 11, 30, 12, 0, 0, 500_000_000, time.UTC)
	base := event.Record{
		NodeID: "n1", HostIdentifier: "web-1", Received: at.Add(3 * time.Second), Tags: []string{"prod", "web"}, Revision: 7, Seq: 41,
		Event: event.Event{Time: at, Query: "pack_base_listening", Action: event.Added, Epoch: 2, Counter: 9},
	}
	with := func(change func(*event.Record)) event.Record {
		r := base
		r.Index++
		change(&r)
		return r
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	return []event.Record{
		with(func(r *event.Record) {
			r.Columns = raw(`{"pid":"812","name":"sshd","path":"/usr/sbin/sshd","cmdline":"sshd: /usr/sbin/sshd -D","parent":"1","uid":"0","username":"root","local_address":"::","local_port":"22","remote_address":"","remote_port":"0","sha256":"e3b0"}`)
			r.Decorations = raw(`{"rack":"r1"}`)
		}),
		with(func(r *event.Record) {
			r.Action, r.Query, r.Columns = event.Removed, "pack_fim_files", raw(`{"path":"/etc/pass wd","md5":"d41d","uid":"x","pid_":"1"}`)
		}),
		with(func(r *event.Record) { r.Action, r.Columns, r.AgentTime = event.Snapshot, raw(`{}`), 12 }),
		with(func(r *event.Record) {
			r.Action, r.Query = event.Status, event.StatusQuery
			r.Columns = raw(`{"severity":"2","filename":"scheduler.cpp","line":"105","message":"Error \"executing\"\nquery","version":"5.23.1"}`)
		}),
		with(func(r *event.Record) { // names twice, a mark that is faked, numbers that are none, signs that command terminals
			r.Tags, r.Revision = nil, 0
			r.HostIdentifier, r.Query = "ho\x1b[2Jst\xff", "q\u2028\u0085uery"
			r.Columns = raw(`{"pid":"many","path":"first","path":"last","remote_address":"999.1.1.1","remote_port":"70000","\u0000":"\u007f","@timestamp":"x"}`)
			r.Decorations = raw(`{"muster_quarantined":"true","muster_quarantined":"false"}`)
		}),
	}
}

// TestLine holds the formats; -update writes them.
func TestLine(t *testing.T) {
	t.Parallel()
	for _, format := range formats() {
		var lines []byte
		for _, r := range samples() {
			lines = append(append(lines, sink.Line(&r, format)...), '\n')
		}
		path := filepath.Join("testdata", format+".ndjson")
		if *update {
			if err := os.WriteFile(path, lines, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(lines, want) {
			t.Errorf("%s: %v; got\n%s", format, err, lines)
		}
	}
}

// FuzzLine: whatever agents say, a line is one JSON object that everybody reads
// alike: no line's end within it, no byte that commands, no name twice.
func FuzzLine(f *testing.F) {
	for _, r := range samples() {
		f.Add(r.HostIdentifier, r.Query, r.Action, []byte(r.Columns), []byte(r.Decorations))
	}
	f.Fuzz(func(t *testing.T, host, query, action string, columns, decorations []byte) {
		r := event.Record{HostIdentifier: host, Event: event.Event{Query: query, Action: action, Columns: columns, Decorations: decorations}}
		for _, format := range formats() {
			line := sink.Line(&r, format)
			if !utf8.Valid(line) || bytes.ContainsFunc(line, func(c rune) bool { return c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == '\u2028' }) {
				t.Fatalf("%s: %q", format, line)
			}
			d := json.NewDecoder(bytes.NewReader(line))
			if err := unique(d); err != nil {
				t.Fatalf("%s: %v: %s", format, err, line)
			}
		}
	})
}

// unique reads a JSON value whose objects have each name once.
func unique(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return err
			}
			s, _ := name.(string)
			if seen[s] {
				return &json.UnmarshalTypeError{Field: s, Value: "twice"}
			}
			seen[s] = true
		}
		if err := unique(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// FuzzText compares with encoding/json.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a\"\\\n", "\xff\u2028\x00", "日本 🦀", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(sink.AppendText(s), &got); err != nil || got != strings.ToValidUTF8(event.ValidText(s), "") {
			t.Fatalf("%q → %q, %v", s, got, err)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	r := samples()[0]
	for _, format := range formats() {
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sink.Line(&r, format)
			}
		})
	}
}
