package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/event"
)

func FuzzColumnName(f *testing.F) {
	for _, s := range []string{"", "path", "_time", "_x_", "a.b", "Ü", "9", "a\x00", strings.Repeat("_", 70), "_x__5f"} {
		f.Add(s)
	}
	fixedNames := newLayout(nil).names
	f.Fuzz(func(t *testing.T, name string) {
		escaped, ok := columnName(name)
		if !ok {
			if len(name) <= maxColumnName/3-1 {
				t.Fatalf("%q is refused", name)
			}
			return
		}
		back, ok := originalName(escaped)
		if !ok || back != name {
			t.Fatalf("%q → %q → %q", name, escaped, back)
		}
		for _, fixed := range fixedNames {
			if escaped == fixed {
				t.Fatalf("%q takes the name %s", name, fixed)
			}
		}
		for _, c := range []byte(escaped) {
			if !alphanumeric(c) && c != '_' {
				t.Fatalf("%q → %q", name, escaped)
			}
		}
		if other, ok := originalName(name); ok {
			if again, ok := columnName(other); ok && again != name && strings.HasPrefix(name, escapedPrefix) && len(name) < 20 {
				t.Logf("%q reads as %q, whose name is %q", name, other, again)
			}
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("q", uint64(1), uint64(2))
	f.Add("../../x", uint64(1), uint64(2))
	f.Add(strings.Repeat("\xff", 400), uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, query string, first, last uint64) {
		name := fileName("2026-11-20", query, first, last, last)
		if path.Clean(name) != name || path.Dir(name) != "2026-11-20" || len(path.Base(name)) > 200 || !utf8.ValidString(name) {
			t.Fatalf("%q → %q", query, name)
		}
	})
}

// FuzzManifest decodes manifests whose checksum is right, and those that are
// not even an envelope.
func FuzzManifest(f *testing.F) {
	m := manifest{Position: 7, Next: 3, Segments: []meta{{File: "2026-11-20/q.parquet", Day: "2026-11-20", Query: "q\xff", Rows: 3}}, Lost: []loss{{Reason: "x"}}}
	good, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(body, true)
	f.Add([]byte(`{"segments":[{"file":"../x","day":"2026-11-20","query":{"base64":"!"}}]}`), true)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap {
			var compact bytes.Buffer
			if json.Compact(&compact, b) != nil {
				return
			}
			sum := sha256.Sum256(compact.Bytes())
			b = fmt.Appendf(nil, `{"version":1,"sha256":"%x","manifest":%s}`, sum, compact.Bytes())
		}
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		for _, s := range m.Segments {
			if path.Clean(s.File) != s.File || strings.Contains(s.File, "..") || path.Dir(s.File) != s.Day {
				t.Fatalf("segment %q of %q", s.File, s.Day)
			}
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeManifest(again)
		if err != nil || back.Position != m.Position || !slices.Equal(back.Segments, m.Segments) {
			t.Fatalf("%+v → %+v, %v", m, back, err)
		}
	})
}

// memoryDir returns a directory in memory, where the system has such a place: to sync
// files thousands of times tests nothing here.
func memoryDir(t *testing.T) string {
	t.Helper()
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shared, "muster-fuzz-*") //nolint:usetesting // which has no say in where
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// FuzzExpr evaluates any expression on any event in memory and in a segment, which
// must agree.
func FuzzExpr(f *testing.F) {
	f.Add(`path = "/bin/sh" or not pid > 10`, `{"path":"/bin/sh","pid":"9"}`, `{"rack":"r1"}`, "web", uint8(1))
	f.Add(`* regex "^r" and (@tag in (web, db) or @decoration.rack exists)`, `{"":"r","path":"R"}`, ``, "", uint8(0))
	f.Add(`R and @revision >= 1 and @action != removed`, `{"a":"\u0000\ud800","a":"r"}`, `{"rack":1}`, "w\xff", uint8(2))
	f.Add(`a suffix "\\"`, `{"a":"C:\\"}`, `[]`, "x", uint8(0))
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, text, columns, decorations, tag string, revision uint8) {
		x, err := event.ParseExpr("where", text)
		if err != nil {
			return
		}
		e, err := Open(Options{Dir: memoryDir(t), Log: log, Now: func() time.Time { return day0 }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		var o event.Object
		if _, ok := o.Read([]byte(columns)); !ok {
			columns = "{}" // what no decoder makes; see TestRoundTrip_oddColumns
		}
		b := event.Batch{NodeID: "n", HostIdentifier: "h", Received: day0, Revision: int64(revision % 3), Events: []event.Event{
			{Time: day0, Query: "q", Action: event.Added, Columns: []byte(columns), Decorations: []byte(decorations)},
		}}
		if tag != "" {
			b.Tags = []string{tag, "web"}
		}
		if err := e.Add(1, []event.Batch{b}); err != nil {
			t.Fatal(err)
		}
		in, err := e.Search(t.Context(), event.Filter{Where: x})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		on, err := e.Search(t.Context(), event.Filter{Where: x})
		if err != nil {
			t.Fatal(err)
		}
		if len(in.Records) != len(on.Records) {
			t.Fatalf("%s of %q %q %q: %d in memory, %d on disk", x, columns, decorations, b.Tags, len(in.Records), len(on.Records))
		}
	})
}
